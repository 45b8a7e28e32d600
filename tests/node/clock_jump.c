/* SPDX-License-Identifier: Apache-2.0 */

/*
 * clock_jump - the time of day as a test wants it, for programs that are started with it in
 * LD_PRELOAD: CLOCK_REALTIME and its relatives plus the seconds in a file, read anew each time.
 * Namespaces of time have no such clock, and the machine's own is not the test's to set.
 *
 * GODWIT_CLOCK_DIR   a folder: the file is the node's number in it ($GW_NODE). None: no difference.
 *
 * What the kernel itself compares with the time of day (timerfd, file times, timed waits) goes on
 * with the real one.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef int (*clock_gettime_fn)(clockid_t, struct timespec *);

static int64_t jump_s(void)
{
	const char *dir = getenv("GODWIT_CLOCK_DIR");
	const char *node = getenv("GW_NODE");
	char path[256];
	char text[32] = {0};
	int fd;

	if (dir == NULL || node == NULL ||
	    snprintf(path, sizeof(path), "%s/%s", dir, node) >= (int)sizeof(path)) {
		return 0;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return 0;
	}

	ssize_t n = read(fd, text, sizeof(text) - 1);

	(void)close(fd);
	return n > 0 ? strtoll(text, NULL, 10) : 0;
}

static int really(clockid_t clock, struct timespec *ts)
{
	static clock_gettime_fn real; /* the same from whichever thread it is found first */

	if (real == NULL) {
		*(void **)(void *)&real = dlsym(RTLD_NEXT, "clock_gettime");
	}
	return real(clock, ts);
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int rc = really(clock, ts);

	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		ts->tv_sec += jump_s();
	}
	return rc;
}

EXPORT int gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts;

	(void)zone;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	*tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
	return 0;
}

EXPORT time_t time(time_t *out)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	if (out != NULL) {
		*out = ts.tv_sec;
	}
	return ts.tv_sec;
}
