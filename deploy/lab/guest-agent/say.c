/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void say(int fd, const char *fmt, ...)
{
	char line[SAY_LINE_MAX];
	const int head = snprintf(line, sizeof(line), "gwguest: ");
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(line + head, sizeof(line) - (size_t)head - 1, fmt, args);
	va_end(args);
	const size_t bytes = strlen(line);

	line[bytes] = '\n';
	for (size_t done = 0; done <= bytes;) {
		const ssize_t n = write(fd, line + done, bytes + 1 - done);

		if (n <= 0) {
			return; /* The peer is gone. */
		}
		done += (size_t)n;
	}
}

uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

void sleep_ns(uint64_t ns)
{
	const struct timespec t = {.tv_sec = (time_t)(ns / 1000000000U),
	                           .tv_nsec = (long)(ns % 1000000000U)};

	(void)nanosleep(&t, NULL);
}
