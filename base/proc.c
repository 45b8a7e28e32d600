/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define START_FIELD 22 /* of proc_pid_stat(5), counted from 1 */

uint64_t proc_start(int pid)
{
	char path[64];
	char buf[512];
	const char *at;
	ssize_t len;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return 0;
	}
	len = read(fd, buf, sizeof(buf) - 1);
	(void)close(fd);
	buf[len > 0 ? len : 0] = '\0';
	at = strrchr(buf, ')'); /* the name, field 2, may hold anything */
	for (int field = 2; at != NULL && field < START_FIELD; field++) {
		at = strchr(at + 1, ' ');
	}
	return at != NULL ? strtoull(at + 1, NULL, 10) : 0;
}
