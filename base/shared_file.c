/* SPDX-License-Identifier: Apache-2.0 */
#include "base/shared_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

int shared_file_open(const char *path, int flags)
{
	int fd = open(path, flags | SHARED_FILE_LATER | O_CLOEXEC);

	if (fd < 0 && errno == EPERM) {
		/* Neither owner nor root: nothing that a shared volume is used by. */
		fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static int shared_file_ask(int fd, unsigned long what)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || ioctl(fd, what) == 0) {
		return 0;
	}
	switch (errno) {
	case ENOTTY: /* what file systems say that know no such thing; some say the others */
	case EINVAL:
	case ENOSYS:
	case EOPNOTSUPP:
		return 0;
	default:
		return -errno;
	}
}

int shared_file_take(int fd)
{
	return shared_file_ask(fd, SHARED_FILE_IOC_TAKE);
}

int shared_file_yield(int fd)
{
	return shared_file_ask(fd, SHARED_FILE_IOC_YIELD);
}
