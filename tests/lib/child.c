/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/child.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int child_run(child_fn fn, void *arg, struct child *out)
{
	const struct rlimit no_core = {0, 0};
	size_t used = 0;
	int fds[2];
	int status;

	memset(out, 0, sizeof(*out));
	if (pipe(fds) != 0) {
		return -errno;
	}
	(void)fflush(NULL);

	pid_t pid = fork();

	if (pid < 0) {
		(void)close(fds[0]);
		(void)close(fds[1]);
		return -errno;
	}
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)dup2(fds[1], STDERR_FILENO);
		(void)close(fds[0]);
		(void)close(fds[1]);
		_exit(fn(arg));
	}
	(void)close(fds[1]);
	for (;;) {
		char spill[512];
		size_t room = sizeof(out->text) - 1 - used;
		ssize_t n = read(fds[0], room != 0 ? out->text + used : spill,
		                 room != 0 ? room : sizeof(spill));

		if (n == 0 || (n < 0 && errno != EINTR)) {
			break;
		}
		used += n > 0 && room != 0 ? (size_t)n : 0;
	}
	(void)close(fds[0]);
	while (waitpid(pid, &status, 0) != pid) {
	}
	out->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	out->signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	return 0;
}
