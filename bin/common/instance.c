/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/errbuf.h"

#define LOCK_MODE 0644 /* anybody may read who runs */

/* The pid in the lock file of the other one; 0 = it has not written it yet. */
static int pid_in(int fd)
{
	char text[32] = "";
	int pid = 0;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9' && pid < INT_MAX / 10; i++) {
		pid = pid * 10 + (text[i] - '0');
	}
	return pid;
}

int instance_lock(const char *dir, const char *name, int *out, struct errbuf *eb)
{
	char path[PATH_MAX];
	char text[32];
	int len = snprintf(path, sizeof(path), "%s/%s.lock", dir, name);
	int err;

	*out = -1;
	if (len < 0 || (size_t)len >= sizeof(path)) {
		return errbuf_set(eb, -ENAMETOOLONG, "%s: name is too long", dir);
	}

	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, LOCK_MODE);

	if (fd < 0) {
		return errbuf_sys(eb, -errno, "open %s", path);
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (err == -EBUSY) {
			(void)errbuf_set(eb, err, "another %s runs in %s (pid %d)", name, dir,
			                 pid_in(fd));
			errbuf_hint(eb, "stop it first, or give each its own directories");
		} else {
			(void)errbuf_sys(eb, err, "lock %s", path);
		}
		goto close_fd;
	}
	len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len) {
		err = errbuf_sys(eb, errno != 0 ? -errno : -EIO, "write %s", path);
		goto close_fd;
	}
	*out = fd;
	return 0;

close_fd:
	(void)close(fd);
	return err;
}
