/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_fsx FILE SEED OPERATIONS [MAX_BYTES [END]] - random operations on a file, each compared with
 * a copy in memory: reads, writes of any alignment, truncates, holes, zeroed ranges, reserved
 * space, flushes, closing and opening again, seeking data and holes. Says what it did before the
 * first difference. The file belongs to it alone. With END it goes on until that file exists.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

#define HISTORY 24u

struct fsx {
	const char *path;
	int fd;
	uint64_t rng;
	uint64_t max;
	uint64_t size;
	uint8_t *good; /* owned: max bytes; zero behind size */
	uint8_t *buf;  /* owned */
	uint64_t count;
	char history[HISTORY][96];
};

static uint64_t next_random(struct fsx *x)
{
	x->rng ^= x->rng << 13;
	x->rng ^= x->rng >> 7;
	x->rng ^= x->rng << 17;
	return x->rng;
}

static uint64_t below(struct fsx *x, uint64_t n)
{
	return n == 0 ? 0 : next_random(x) % n;
}

static _Noreturn void fail(const struct fsx *x, const char *what, uint64_t at)
{
	(void)fprintf(stderr, "%s: operation %llu: %s at %llu (size %llu): %s\n", x->path,
	              (unsigned long long)x->count, what, (unsigned long long)at,
	              (unsigned long long)x->size, strerror(errno));
	for (uint64_t i = x->count < HISTORY ? 0 : x->count - HISTORY + 1; i <= x->count; i++) {
		(void)fprintf(stderr, "  %s\n", x->history[i % HISTORY]);
	}
	exit(1);
}

static void note(struct fsx *x, const char *what, uint64_t from, uint64_t len)
{
	(void)snprintf(x->history[x->count % HISTORY], sizeof(x->history[0]),
	               "%llu: %s [%llu, +%llu) size %llu", (unsigned long long)x->count, what,
	               (unsigned long long)from, (unsigned long long)len,
	               (unsigned long long)x->size);
}

/* A place and a length; small, large, aligned and not. */
static void pick(struct fsx *x, uint64_t *from, uint64_t *len)
{
	static const uint64_t lens[] = {1, 100, 4096, 5000, 65536, 300000, 2500000};

	*from = below(x, below(x, 4) == 0 ? x->max : x->size + 1);
	*len = 1 + below(x, lens[below(x, sizeof(lens) / sizeof(lens[0]))]);
	if (below(x, 3) == 0) {
		*from -= *from % 4096;
		*len += 4096 - *len % 4096;
	}
	if (*from >= x->max) {
		*from = x->max - 1;
	}
	*len = *len < x->max - *from ? *len : x->max - *from;
}

static void do_read(struct fsx *x, uint64_t from, uint64_t len)
{
	uint64_t want = from >= x->size ? 0 : x->size - from < len ? x->size - from : len;
	ssize_t n = pread(x->fd, x->buf, len, (off_t)from);

	if (n < 0 || (uint64_t)n != want) {
		fail(x, "read: length", n < 0 ? from : (uint64_t)n);
	}
	for (uint64_t i = 0; i < want; i++) {
		if (x->buf[i] != x->good[from + i]) {
			fail(x, "read: content", from + i);
		}
	}
}

static void do_write(struct fsx *x, uint64_t from, uint64_t len)
{
	uint64_t done = 0;

	for (uint64_t i = 0; i < len; i++) {
		x->good[from + i] = (uint8_t)(x->count + i / 7 + 1);
	}
	while (done < len) {
		ssize_t n = pwrite(x->fd, x->good + from + done, len - done, (off_t)(from + done));

		if (n <= 0) {
			fail(x, "write", from + done);
		}
		done += (uint64_t)n;
	}
	x->size = from + len > x->size ? from + len : x->size;
}

static void do_truncate(struct fsx *x, uint64_t size, bool by_path)
{
	if ((by_path ? truncate(x->path, (off_t)size) : ftruncate(x->fd, (off_t)size)) != 0) {
		fail(x, "truncate", size);
	}
	if (size < x->size) {
		memset(x->good + size, 0, x->size - size);
	}
	x->size = size;
}

static void do_fallocate(struct fsx *x, int mode, uint64_t from, uint64_t len)
{
	uint64_t end = from + len;
	bool zeroes = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;

	if (fallocate(x->fd, mode, (off_t)from, (off_t)len) != 0) {
		fail(x, "fallocate", from);
	}
	if (zeroes && from < x->size) {
		memset(x->good + from, 0, (end < x->size ? end : x->size) - from);
	}
	if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && end > x->size) {
		x->size = end;
	}
}

static void do_reopen(struct fsx *x)
{
	if (close(x->fd) != 0) {
		fail(x, "close", 0);
	}
	x->fd = open(x->path, O_RDWR | O_CLOEXEC);
	if (x->fd < 0) {
		fail(x, "open", 0);
	}
}

/* What is called a hole must be zero. */
static void do_seek(struct fsx *x, uint64_t from)
{
	off_t data = lseek(x->fd, (off_t)from, SEEK_DATA);
	uint64_t to = data < 0 ? x->size : (uint64_t)data;

	if (data < 0 && errno != ENXIO) {
		fail(x, "seek data", from);
	}
	for (uint64_t i = from; i < to && i < x->size; i++) {
		if (x->good[i] != 0) {
			fail(x, "data in a hole", i);
		}
	}
	if (from < x->size) {
		off_t hole = lseek(x->fd, (off_t)from, SEEK_HOLE);

		if (hole < (off_t)from || (uint64_t)hole > x->size) {
			fail(x, "seek hole", from);
		}
	}
}

static void check_size(struct fsx *x)
{
	struct stat st;

	if (fstat(x->fd, &st) != 0 || (uint64_t)st.st_size != x->size) {
		fail(x, "size", (uint64_t)st.st_size);
	}
}

static void step(struct fsx *x)
{
	static const char *const names[] = {
		"read",   "read",  "read",     "write",           "write",
		"write",  "write", "truncate", "truncate",        "punch",
		"zero",   "zero",  "allocate", "reserve",         "fsync",
		"reopen", "seek",  "read all", "truncate by path"};
	uint32_t op = (uint32_t)below(x, sizeof(names) / sizeof(names[0]));
	uint64_t from;
	uint64_t len;

	pick(x, &from, &len);
	note(x, names[op], from, len);
	if (op <= 2) {
		do_read(x, from, len);
	} else if (op <= 6) {
		do_write(x, from, len);
	} else if (op <= 8) {
		do_truncate(x, from, false);
	} else if (op == 9) {
		do_fallocate(x, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, len);
	} else if (op <= 11) {
		do_fallocate(x, FALLOC_FL_ZERO_RANGE | (op == 10 ? FALLOC_FL_KEEP_SIZE : 0), from,
		             len);
	} else if (op <= 13) {
		do_fallocate(x, op == 12 ? 0 : FALLOC_FL_KEEP_SIZE, from, len);
	} else if (op == 14) {
		if (fsync(x->fd) != 0) {
			fail(x, "fsync", 0);
		}
	} else if (op == 15) {
		do_reopen(x);
	} else if (op == 16) {
		do_seek(x, from);
	} else if (op == 17) {
		do_read(x, 0, x->max);
	} else {
		do_truncate(x, from, true);
	}
	check_size(x);
}

int main(int argc, char **argv)
{
	struct fsx x = {.max = 6u << 20};
	const char *end = argc > 5 ? argv[5] : NULL;
	uint64_t count;

	if (argc < 4) {
		(void)fprintf(stderr, "usage: csv_fsx FILE SEED OPERATIONS [MAX_BYTES [END]]\n");
		return 2;
	}
	x.path = argv[1];
	x.rng = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
	count = strtoull(argv[3], NULL, 10);
	x.max = argc > 4 ? strtoull(argv[4], NULL, 10) : x.max;
	x.good = calloc(1, x.max);
	x.buf = malloc(x.max);
	CHECK(x.good != NULL && x.buf != NULL && x.max != 0);
	x.fd = open(x.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (x.fd < 0) {
		fail(&x, "create", 0);
	}
	for (x.count = 0; x.count < count || (end != NULL && access(end, F_OK) != 0); x.count++) {
		step(&x);
	}
	do_reopen(&x);
	do_read(&x, 0, x.max);
	(void)close(x.fd);
	free(x.good);
	free(x.buf);
	(void)printf("%llu operations, 0 differences\n", (unsigned long long)x.count);
	return 0;
}
