/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/notify.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

#define SEND_TIMEOUT_S 1

int notify_send(const char *text)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t name_len = name != NULL ? strlen(name) : 0;

	if (name_len == 0) {
		return 0;
	}
	if ((name[0] != '/' && name[0] != '@') || name_len >= sizeof(addr.sun_path)) {
		return -EINVAL;
	}
	memcpy(addr.sun_path, name, name_len);
	if (name[0] == '@') { /* the abstract name space */
		addr.sun_path[0] = '\0';
	}

	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		return -errno;
	}

	/* Its queue is short and shared by all services; a hung systemd must not hang us. */
	const struct timeval patience = {.tv_sec = SEND_TIMEOUT_S};

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));

	socklen_t addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_len);
	ssize_t n =
		sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&addr, addr_len);
	int err = n < 0 ? -errno : 0;

	(void)close(fd);
	return err;
}

/* A positive decimal number from the environment; 0 = none. */
static uint64_t number_of(const char *name)
{
	const char *text = getenv(name);
	char *end = NULL;

	if (text == NULL || !isdigit((unsigned char)text[0])) {
		return 0;
	}
	errno = 0;

	uint64_t number = strtoull(text, &end, 10);

	return errno == 0 && *end == '\0' ? number : 0;
}

uint64_t notify_watchdog_ns(void)
{
	uint64_t pid = number_of("WATCHDOG_PID");
	uint64_t usec = number_of("WATCHDOG_USEC");

	/* Set for another process that we are a child of. */
	if ((pid != 0 && pid != (uint64_t)getpid()) || usec > UINT64_MAX / NS_PER_US) {
		return 0;
	}
	return usec * NS_PER_US;
}
