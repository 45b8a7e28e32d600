/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lab-agent - the first process of a lab node.
 *
 * Makes the root file system (boot.h), runs the set-up script of the source tree, then serves the
 * exec ports (port.h), one process each, and reaps orphans. SIGTERM restarts the machine, SIGUSR2
 * and SIGPWR switch it off, as the `reboot -f`-less tools of small systems expect.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/hpet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/check.h"
#include "deploy/lab/agent/boot.h"
#include "deploy/lab/agent/port.h"

#define TICK_HZ 8

/* As many commands can run in a node at once; the controller makes the same number of ports. */
#define PORT_COUNT 8

/* base/check.c would bring libqb along; here a failed CHECK goes to the node's console. */
_Noreturn void check_failed(const char *cond, const char *file, int line)
{
	boot_say("%s:%d: CHECK(%s) failed", file, line, cond);
	abort();
}

static const char *environment(const struct boot_conf *conf)
{
	char path[BOOT_TEXT_MAX + 128];

	(void)snprintf(path, sizeof(path),
	               "%s%s/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	               conf->build, conf->build[0] != 0 ? "/bin:" : "");
	const struct {
		const char *name;
		const char *value;
	} vars[] = {
		{"PATH", path},
		{"HOME", "/root"},
		{"USER", "root"},
		{"SHELL", "/bin/bash"},
		{"LANG", "C.UTF-8"},
		{"TERM", "xterm-256color"},
		{"GW_BUILD", conf->build},
		{"GW_SOURCE", conf->source},
		{"LAB_NODE", conf->node},
		{"LAB_NODES", conf->nodes},
		{"LAB_LUNS", conf->luns},
		/* No AES, SSE, AVX for OpenSSL: QEMU makes a call of each such instruction.
		 * ChaCha20 is 13 times and SHA-256 4 times as fast without (docs/lab.md). */
		{"OPENSSL_ia32cap", "0:0"},
	};
	const size_t count = conf->emulated ? ARRAY_LEN(vars) : ARRAY_LEN(vars) - 1;

	for (size_t i = 0; i < count; i++) {
		if (setenv(vars[i].name, vars[i].value, 1) != 0) {
			return vars[i].name;
		}
	}
	return NULL;
}

/*
 * Have the HPET interrupt the processor a few times a second for as long as this process lives. An
 * emulated processor that runs a nested guest now and then loses the interrupt of its only timer
 * (docs/lab.md), and would stand still until another one comes: this one.
 */
static void start_tick(void)
{
	const int fd = open("/dev/hpet", O_RDONLY | O_CLOEXEC); /* for ever */

	if (fd < 0 || ioctl(fd, HPET_IRQFREQ, TICK_HZ) != 0 || ioctl(fd, HPET_IE_ON, 0) != 0) {
		boot_say("no second clock: /dev/hpet: %s", strerror(errno));
	}
}

static uint32_t run_setup(const struct boot_conf *conf)
{
	char script[BOOT_TEXT_MAX + 64];
	int status = 0;
	const pid_t pid = fork();

	(void)snprintf(script, sizeof(script), "%s/deploy/lab/node/setup.sh", conf->source);
	if (pid == 0) {
		const int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

		(void)setsid();
		if (log >= 0 && (dup2(log, 1) < 0 || dup2(log, 2) < 0)) {
			_exit(126);
		}
		(void)execl("/bin/sh", "sh", script, (char *)NULL);
		_exit(127);
	}
	if (pid < 0) {
		return 126;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 128 + (uint32_t)WTERMSIG(status);
}

static pid_t start_port(int index, uint32_t setup_status)
{
	const pid_t pid = fork();

	if (pid == 0) {
		char path[64];
		sigset_t none;

		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		(void)signal(SIGPIPE, SIG_IGN);
		(void)prctl(PR_SET_NAME, "lab-port");
		(void)snprintf(path, sizeof(path), "/dev/virtio-ports/gwlab.exec.%d", index);
		const int err = port_serve(path, setup_status);

		boot_say("%s: %s", path, strerror(-err));
		sleep(1); /* It is started again: not in a tight loop. */
		_exit(1);
	}
	return pid;
}

/* Reap children for ever, restart ports, obey the power signals. */
_Noreturn static void serve(const sigset_t *signals, uint32_t setup_status)
{
	pid_t ports[PORT_COUNT];

	for (int i = 0; i < PORT_COUNT; i++) {
		ports[i] = start_port(i, setup_status);
	}
	for (;;) {
		siginfo_t info;
		const int sig = sigwaitinfo(signals, &info);

		if (sig == SIGTERM || sig == SIGUSR2 || sig == SIGPWR) {
			sync();
			(void)reboot(sig == SIGTERM ? RB_AUTOBOOT : RB_POWER_OFF);
		}
		for (pid_t dead; (dead = waitpid(-1, NULL, WNOHANG)) > 0;) {
			for (int i = 0; i < PORT_COUNT; i++) {
				if (ports[i] == dead) {
					ports[i] = start_port(i, setup_status);
				}
			}
		}
	}
}

int main(void)
{
	static struct boot_conf conf;
	sigset_t signals;

	if (getpid() != 1) {
		(void)fprintf(stderr, "lab-agent: only as the first process of a lab node\n");
		return 2;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR2);
	sigaddset(&signals, SIGPWR);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	(void)reboot(RB_DISABLE_CAD);
	if (boot_root(&conf) != 0) {
		boot_say("the root file system cannot be made; power off");
		sync();
		(void)reboot(RB_POWER_OFF);
	}
	if (conf.emulated) {
		start_tick();
	}
	const char *missing = environment(&conf);

	if (missing) {
		boot_say("no memory for the environment: %s", missing);
	}
	const uint32_t status = run_setup(&conf);

	boot_say("node n%s set up, status %u", conf.node, status);
	serve(&signals, status);
}
