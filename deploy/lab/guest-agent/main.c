/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lab-guest - the first and only process of the small test guest.
 *
 * Takes commands, one a line, from the serial console (ttyS0), from TCP port 7001 and from the
 * kernel command line, and answers each with one line "gwguest: ok ..." or "gwguest: fail ...".
 * TCP port 7 echoes. docs/lab.md lists the commands.
 *
 *	gw.ip=10.0.0.1/24,...    addresses of the Ethernet devices, in their order
 *	gw.run=CMD;CMD           commands, with commas for blanks
 *
 * Threads: the loop here; memload, diskload and pulse have one each. A command that takes long
 * holds up the loop, so that answers come in order.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "deploy/lab/guest-agent/diskload.h"
#include "deploy/lab/guest-agent/memload.h"
#include "deploy/lab/guest-agent/pulse.h"
#include "deploy/lab/guest-agent/say.h"
#include "deploy/lab/guest-agent/start.h"

#define PORT_ECHO 7
#define PORT_CONTROL 7001
#define PEERS_MAX 32U
/* A peer that does not read its answers holds up the others for this long, then it is dropped. */
#define PEER_SEND_S 5

enum peer_kind { PEER_NONE, PEER_CONSOLE, PEER_CONTROL, PEER_ECHO };

struct peer {
	enum peer_kind kind;
	int fd; /* owned */
	char line[ARGS_LINE_MAX];
	size_t bytes;
	bool overlong; /* the rest of this line is thrown away */
};

struct guest {
	struct memload *memload;
	struct diskload *diskload;
	struct pulse *pulse;
	struct peer peers[PEERS_MAX];
	int control;
	int echo;
};

/* The hypervisor as it calls itself in CPUID, blanks left out; "none". */
static void hypervisor_name(char name[13])
{
	uint32_t r[4] = {0};
	size_t n = 0;

	__cpuid(1, r[0], r[1], r[2], r[3]);
	if ((r[2] & (1U << 31)) == 0) {
		memcpy(name, "none", sizeof("none"));
		return;
	}
	__cpuid(0x40000000, r[0], r[1], r[2], r[3]);
	for (size_t i = 0; i < 12; i++) {
		const char c = (char)(r[1 + i / 4] >> (i % 4 * 8));

		if (c > ' ' && c < 127) {
			name[n++] = c;
		}
	}
	name[n] = 0;
}

static void info(int fd)
{
	struct utsname name;
	char hypervisor[13];
	char uptime[32] = "?";
	FILE *f = fopen("/proc/uptime", "re");

	if (f) {
		if (fscanf(f, "%31s", uptime) != 1) {
			uptime[0] = 0;
		}
		(void)fclose(f);
	}
	hypervisor_name(hypervisor);
	(void)uname(&name);
	say(fd, "ok info kernel=%s hypervisor=%s cpus=%ld memory_mib=%ld uptime=%s", name.release,
	    hypervisor, sysconf(_SC_NPROCESSORS_ONLN),
	    sysconf(_SC_PHYS_PAGES) / ((1 << 20) / sysconf(_SC_PAGESIZE)), uptime);
}

/* Run the rest of the line with the shell; its output goes to @fd as it is. */
static void run_shell(const char *line, int fd)
{
	int status = 0;
	const pid_t pid = fork();

	if (pid == 0) {
		if (dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0) {
			(void)execl("/bin/busybox", "sh", "-c", line, (char *)NULL);
		}
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);

	say(fd, "%s sh status=%d", pid > 0 && code == 0 ? "ok" : "fail", code);
}

static void power(int how, const char *word, int fd)
{
	say(fd, "ok %s", word);
	(void)tcdrain(STDOUT_FILENO);
	sync();
	(void)reboot(how);
}

static void clock_say(int fd)
{
	struct timespec real;

	(void)clock_gettime(CLOCK_REALTIME, &real);
	say(fd, "ok clock real=%lld.%09ld monotonic_ns=%llu", (long long)real.tv_sec, real.tv_nsec,
	    (unsigned long long)now_ns());
}

static int dispatch(struct guest *g, const struct args *a, int fd)
{
	if (args_is(a, 0, "mem")) {
		return memload_command(g->memload, a, fd);
	}
	if (args_is(a, 0, "disk")) {
		return diskload_command(g->diskload, a, fd);
	}
	if (args_is(a, 0, "pulse") || args_is(a, 0, "tick")) {
		return pulse_command(g->pulse, a, fd);
	}
	if (args_is(a, 0, "net")) {
		const int err = start_network(args_text(a, "ip", ""));

		if (err == 0) {
			say(fd, "ok net");
		}
		return err;
	}
	if (args_is(a, 0, "info")) {
		info(fd);
	} else if (args_is(a, 0, "clock")) {
		clock_say(fd);
	} else if (args_is(a, 0, "off")) {
		power(RB_POWER_OFF, "off", fd);
	} else if (args_is(a, 0, "reboot")) {
		power(RB_AUTOBOOT, "reboot", fd);
	} else {
		return -ENOSYS;
	}
	return 0;
}

static void command(struct guest *g, const char *line, char separator, int fd)
{
	struct args a;
	int err = args_parse(&a, line, separator);

	if (err == -ENOMSG) {
		return;
	}
	if (err == 0 && args_is(&a, 0, "sh") && separator == ' ') {
		run_shell(line + strspn(line, " \t") + 2, fd);
		return;
	}
	err = err ? err : dispatch(g, &a, fd);
	if (err) {
		say(fd, "fail %.100s error=%s", line, strerrorname_np(-err));
	}
}

static void peer_drop(struct peer *p)
{
	if (p->kind != PEER_CONSOLE) {
		close(p->fd);
		p->kind = PEER_NONE;
	}
	p->bytes = 0;
	p->overlong = false;
}

/* Lines that are whole are obeyed; one that is too long is refused and skipped. */
static void peer_feed(struct guest *g, struct peer *p, const char *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (data[i] == '\n' || data[i] == '\r') {
			p->line[p->bytes] = 0;
			if (p->overlong) {
				say(p->fd, "fail line error=E2BIG");
			} else {
				command(g, p->line, ' ', p->fd);
			}
			p->bytes = 0;
			p->overlong = false;
		} else if (p->bytes < sizeof(p->line) - 1) {
			p->line[p->bytes++] = data[i];
		} else {
			p->overlong = true;
		}
	}
}

static void peer_read(struct guest *g, struct peer *p)
{
	static char data[65536];
	const ssize_t n = read(p->fd, data, sizeof(data));

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			peer_drop(p);
		}
		return;
	}
	if (p->kind != PEER_ECHO) {
		peer_feed(g, p, data, (size_t)n);
		return;
	}
	for (ssize_t done = 0; done < n;) {
		const ssize_t sent = write(p->fd, data + done, (size_t)(n - done));

		if (sent <= 0) {
			peer_drop(p);
			return;
		}
		done += sent;
	}
}

static void peer_accept(struct guest *g, int listener, enum peer_kind kind)
{
	const int on = 1;
	const struct timeval patience = {.tv_sec = PEER_SEND_S};
	const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (size_t i = 0; i < PEERS_MAX; i++) {
		if (g->peers[i].kind == PEER_NONE) {
			g->peers[i] = (struct peer){.kind = kind, .fd = fd};
			return;
		}
	}
	close(fd); /* Full. */
}

static int listen_on(uint16_t port)
{
	const int on = 1;
	const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)) != 0 || listen(fd, 16) != 0) {
		say(STDOUT_FILENO, "port %u: %s", port, strerror(errno));
		if (fd >= 0) {
			close(fd);
		}
		return -1;
	}
	return fd;
}

_Noreturn static void serve(struct guest *g)
{
	for (;;) {
		struct pollfd fds[PEERS_MAX + 2];

		for (size_t i = 0; i < PEERS_MAX; i++) {
			fds[i] = (struct pollfd){
				.fd = g->peers[i].kind == PEER_NONE ? -1 : g->peers[i].fd,
				.events = POLLIN,
			};
		}
		fds[PEERS_MAX] = (struct pollfd){.fd = g->control, .events = POLLIN};
		fds[PEERS_MAX + 1] = (struct pollfd){.fd = g->echo, .events = POLLIN};
		if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
			continue;
		}
		while (waitpid(-1, NULL, WNOHANG) > 0) {
			/* What shell commands left behind. */
		}
		for (size_t i = 0; i < PEERS_MAX; i++) {
			if (fds[i].revents) {
				peer_read(g, &g->peers[i]);
			}
		}
		if (fds[PEERS_MAX].revents) {
			peer_accept(g, g->control, PEER_CONTROL);
		}
		if (fds[PEERS_MAX + 1].revents) {
			peer_accept(g, g->echo, PEER_ECHO);
		}
	}
}

/* The console is ours: raw bytes in, no echo of what we read. */
static int console_open(void)
{
	struct termios t;
	const int fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0 && tcgetattr(fd, &t) == 0) {
		cfmakeraw(&t);
		t.c_oflag |= OPOST | ONLCR;
		(void)tcsetattr(fd, TCSANOW, &t);
	}
	for (int i = 0; fd >= 0 && i < 3; i++) {
		(void)dup2(fd, i);
	}
	return fd;
}

static void run_options(struct guest *g)
{
	char value[ARGS_LINE_MAX * 2];
	char *rest = value;

	if (start_option("ip", value, sizeof(value)) == 0) {
		const int err = start_network(value);

		if (err) {
			say(STDOUT_FILENO, "fail net error=%s", strerrorname_np(-err));
		}
	}
	if (start_option("run", value, sizeof(value)) == 0) {
		for (const char *one; (one = strsep(&rest, ";")) != NULL;) {
			command(g, one, ',', STDOUT_FILENO);
		}
	}
}

int main(void)
{
	static struct guest g;

	if (getpid() != 1) {
		(void)fprintf(stderr, "lab-guest: only as the first process of a test guest\n");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	start_mounts();
	const int console = console_open();

	start_modules();
	g.memload = memload_create();
	g.diskload = diskload_create();
	g.pulse = pulse_create();
	if (!g.memload || !g.diskload || !g.pulse) {
		say(STDOUT_FILENO, "no memory");
		(void)reboot(RB_POWER_OFF);
	}
	g.control = listen_on(PORT_CONTROL);
	g.echo = listen_on(PORT_ECHO);
	if (console >= 0) {
		g.peers[0] = (struct peer){.kind = PEER_CONSOLE, .fd = console};
	}
	run_options(&g);
	info(STDOUT_FILENO);
	say(STDOUT_FILENO, "ready");
	serve(&g);
}
