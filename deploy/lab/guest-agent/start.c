/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/start.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "deploy/lab/guest-agent/say.h"

#define CMDLINE_MAX 4096
#define DEVICE_WAIT_NS (10ULL * 1000 * 1000 * 1000)
#define DEVICE_STEP_NS (20ULL * 1000 * 1000)

void start_mounts(void)
{
	static const struct {
		const char *type;
		const char *target;
	} mounts[] = {
		{"proc", "/proc"},      {"sysfs", "/sys"}, {"devtmpfs", "/dev"},
		{"devpts", "/dev/pts"}, {"tmpfs", "/tmp"},
	};

	for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
		(void)mkdir(mounts[i].target, 0755);
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, 0, NULL) != 0 &&
		    errno != EBUSY) {
			say(STDOUT_FILENO, "mount %s: %s", mounts[i].target, strerror(errno));
		}
	}
}

void start_modules(void)
{
	char name[256];
	FILE *f = fopen("/modules/order", "re");

	if (!f) {
		return;
	}
	while (fgets(name, sizeof(name), f)) {
		char path[300];

		name[strcspn(name, "\n")] = 0;
		(void)snprintf(path, sizeof(path), "/modules/%s", name);
		const int fd = open(path, O_RDONLY | O_CLOEXEC);

		/* ENODEV: other hardware. ENOENT: needs a module that was not loaded. */
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST &&
		               errno != ENODEV && errno != ENOENT)) {
			say(STDOUT_FILENO, "module %s: %s", name, strerror(errno));
		}
		if (fd >= 0) {
			close(fd);
		}
		(void)unlink(path); /* The memory is better used otherwise. */
	}
	(void)fclose(f);
}

int start_option(const char *key, char *value, size_t size)
{
	char line[CMDLINE_MAX];
	char pattern[64];
	const int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 2) : -1;

	if (fd >= 0) {
		close(fd);
	}
	if (n < 0) {
		return -ENOENT;
	}
	line[n] = 0;
	(void)snprintf(pattern, sizeof(pattern), "gw.%s=", key);
	const char *at = strstr(line, pattern);

	if (!at || (at != line && at[-1] != ' ')) {
		return -ENOENT;
	}
	at += strlen(pattern);
	(void)snprintf(value, size, "%.*s", (int)strcspn(at, " \n"), at);
	return 0;
}

/* The Ethernet device number @index in the order of their interface indices. */
static int device_find(unsigned int index, char name[IF_NAMESIZE])
{
	for (unsigned int i = 1; i < 64; i++) {
		char path[64];
		char type[8] = "";

		if (!if_indextoname(i, name)) {
			continue;
		}
		(void)snprintf(path, sizeof(path), "/sys/class/net/%s/type", name);
		FILE *f = fopen(path, "re");

		if (f && fgets(type, sizeof(type), f) && strcmp(type, "1\n") == 0 && index-- == 0) {
			(void)fclose(f);
			return 0;
		}
		if (f) {
			(void)fclose(f);
		}
	}
	return -ENODEV;
}

static int device_set(int sock, const char *name, in_addr_t address, unsigned int prefix)
{
	struct ifreq req = {0};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = address};

	memcpy(req.ifr_name, name, strnlen(name, IF_NAMESIZE - 1));
	memcpy(&req.ifr_addr, &in, sizeof(in));
	if (ioctl(sock, SIOCSIFADDR, &req) != 0) {
		return -errno;
	}
	in.sin_addr.s_addr = htonl(prefix ? UINT32_MAX << (32 - prefix) : 0);
	memcpy(&req.ifr_netmask, &in, sizeof(in));
	if (ioctl(sock, SIOCSIFNETMASK, &req) != 0 || ioctl(sock, SIOCGIFFLAGS, &req) != 0) {
		return -errno;
	}
	req.ifr_flags |= IFF_UP;
	return ioctl(sock, SIOCSIFFLAGS, &req) == 0 ? 0 : -errno;
}

static int one_address(int sock, unsigned int index, const char *text)
{
	char address[32];
	char name[IF_NAMESIZE];
	struct in_addr in;
	const char *slash = strchr(text, '/');
	const unsigned long prefix = slash ? strtoul(slash + 1, NULL, 10) : 24;
	const uint64_t until_ns = now_ns() + DEVICE_WAIT_NS;

	(void)snprintf(address, sizeof(address), "%.*s",
	               slash ? (int)(slash - text) : (int)strlen(text), text);
	if (inet_pton(AF_INET, address, &in) != 1 || prefix > 32) {
		return -EINVAL;
	}
	while (device_find(index, name) != 0) {
		if (now_ns() > until_ns) {
			return -ENODEV;
		}
		sleep_ns(DEVICE_STEP_NS);
	}
	const int err = device_set(sock, name, in.s_addr, (unsigned int)prefix);

	if (err == 0) {
		say(STDOUT_FILENO, "net %s %s/%lu", name, address, prefix);
	}
	return err;
}

int start_network(const char *addresses)
{
	char text[256];
	char *rest = text;
	unsigned int index = 0;
	const int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int err = sock < 0 ? -errno : 0;

	if (err == 0) {
		(void)ioctl(sock, SIOCSIFFLAGS, &lo);
	}
	(void)snprintf(text, sizeof(text), "%s", addresses);
	for (const char *one; err == 0 && (one = strsep(&rest, ",")) != NULL; index++) {
		err = *one ? one_address(sock, index, one) : 0;
	}
	if (sock >= 0) {
		close(sock);
	}
	return err;
}
