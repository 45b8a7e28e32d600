/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/diskload.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deploy/lab/guest-agent/pattern.h"
#include "deploy/lab/guest-agent/say.h"

#define OFFSET_MAX (1ULL << 50)
/* One request of write and verify. */
#define CHUNK_BLOCKS 64U
#define CHUNK_BYTES (CHUNK_BLOCKS * (size_t)PATTERN_BLOCK_BYTES)
/* The load keeps 5 bytes per block. */
#define LOAD_BLOCKS_MAX (1U << 20)

struct extent {
	char path[64];
	uint64_t offset_bytes;
	uint64_t block_count;
	uint64_t seed;
};

struct diskload {
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below while the thread runs */
	bool running;
	struct extent extent;
	uint64_t rate;
	uint32_t *generation; /* owned: acknowledged last */
	uint8_t *unsure;      /* owned: a later write failed and may have arrived */
	uint64_t write_count;
	uint64_t error_count;
	uint64_t slowest_ns;
	uint64_t random;
};

struct diskload *diskload_create(void)
{
	struct diskload *d = calloc(1, sizeof(*d));

	if (d) {
		(void)pthread_mutex_init(&d->lock, NULL);
	}
	return d;
}

static int extent_parse(const struct args *a, struct extent *e)
{
	const char *dev = args_text(a, "dev", NULL);
	uint64_t size = 0;
	int err = dev ? 0 : -EINVAL;

	err = err ? err : args_number(a, "offset", 0, OFFSET_MAX, &e->offset_bytes);
	err = err ? err : args_number(a, "size", 16 << 20, OFFSET_MAX, &size);
	err = err ? err : args_number(a, "seed", 1, UINT64_MAX, &e->seed);
	if (err) {
		return err;
	}
	if (e->offset_bytes % PATTERN_BLOCK_BYTES != 0 || size < PATTERN_BLOCK_BYTES ||
	    strlen(dev) > sizeof(e->path) - sizeof("/dev/")) {
		return -EINVAL;
	}
	(void)snprintf(e->path, sizeof(e->path), "%s%s", dev[0] == '/' ? "" : "/dev/", dev);
	e->block_count = size / PATTERN_BLOCK_BYTES;
	return 0;
}

/* @bytes whole, or -errno (-EIO: short). */
static int transfer(int fd, void *buf, size_t bytes, uint64_t offset, bool writing)
{
	const ssize_t n = writing ? pwrite(fd, buf, bytes, (off_t)offset)
	                          : pread(fd, buf, bytes, (off_t)offset);

	return n < 0 ? -errno : (size_t)n == bytes ? 0 : -EIO;
}

struct tally {
	uint64_t found[4];
	uint64_t io_errors;
	int error; /* the last one */
};

static void chunk(int fd, const struct extent *e, uint64_t first, uint32_t count, bool writing,
                  uint64_t generation, uint8_t *buf, struct tally *t)
{
	struct pattern_id id = {.seed = e->seed, .generation = generation};

	for (uint32_t i = 0; writing && i < count; i++) {
		id.index = first + i;
		pattern_fill(buf + (size_t)i * PATTERN_BLOCK_BYTES, &id);
	}
	const int err = transfer(fd, buf, (size_t)count * PATTERN_BLOCK_BYTES,
	                         e->offset_bytes + first * PATTERN_BLOCK_BYTES, writing);

	if (err) {
		t->io_errors++;
		t->error = err;
		return;
	}
	for (uint32_t i = 0; !writing && i < count; i++) {
		id.index = first + i;
		t->found[pattern_check(buf + (size_t)i * PATTERN_BLOCK_BYTES, &id, NULL)]++;
	}
}

static int write_or_verify(const struct args *a, int answer, bool writing)
{
	struct extent e;
	struct tally t = {0};
	uint64_t generation;
	int err = extent_parse(a, &e);

	err = err ? err : args_number(a, "generation", 1, UINT64_MAX, &generation);
	if (err) {
		return err;
	}
	const int fd = open(e.path, (writing ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	uint8_t *buf = aligned_alloc(PATTERN_BLOCK_BYTES, CHUNK_BYTES);
	const uint64_t begin = now_ns();

	err = fd < 0 ? -errno : buf ? 0 : -ENOMEM;
	for (uint64_t at = 0; err == 0 && at < e.block_count; at += CHUNK_BLOCKS) {
		const uint64_t left = e.block_count - at;

		chunk(fd, &e, at, (uint32_t)(left < CHUNK_BLOCKS ? left : CHUNK_BLOCKS), writing,
		      generation, buf, &t);
	}
	if (err == 0 && writing && fsync(fd) != 0) {
		t.io_errors++;
		t.error = -errno;
	}
	free(buf);
	if (fd >= 0) {
		close(fd);
	}
	if (err) {
		return err;
	}
	const bool good = t.io_errors == 0 && (writing || t.found[PATTERN_RIGHT] == e.block_count);

	say(answer,
	    "%s disk %s blocks=%llu stale=%llu foreign=%llu damaged=%llu io_errors=%llu "
	    "error=%s ms=%llu",
	    good ? "ok" : "fail", writing ? "write" : "verify", (unsigned long long)e.block_count,
	    (unsigned long long)t.found[PATTERN_STALE],
	    (unsigned long long)t.found[PATTERN_FOREIGN],
	    (unsigned long long)t.found[PATTERN_DAMAGED], (unsigned long long)t.io_errors,
	    t.error ? strerrorname_np(-t.error) : "none",
	    (unsigned long long)((now_ns() - begin) / 1000000));
	return 0;
}

static uint64_t next_random(struct diskload *d)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random;
}

/* One write of the load. With the lock held, so that a check sees no write under way. */
static void load_write(struct diskload *d, int fd, uint8_t *block)
{
	const uint64_t index = next_random(d) % d->extent.block_count;
	/* Never the generation of a write that failed: that one may still be told apart. */
	const uint32_t generation = d->generation[index] + d->unsure[index] + 1U;
	const struct pattern_id id = {d->extent.seed, index, generation};
	const uint64_t begin = now_ns();

	pattern_fill(block, &id);
	const int err = transfer(fd, block, PATTERN_BLOCK_BYTES,
	                         d->extent.offset_bytes + index * PATTERN_BLOCK_BYTES, true);
	const uint64_t took_ns = now_ns() - begin;

	d->write_count++;
	d->slowest_ns = took_ns > d->slowest_ns ? took_ns : d->slowest_ns;
	if (err) {
		d->error_count++;
		if (d->unsure[index] < UINT8_MAX) {
			d->unsure[index]++;
		}
	} else {
		d->generation[index] = generation;
		d->unsure[index] = 0;
	}
}

static void *load(void *arg)
{
	struct diskload *d = arg;
	const int fd = open(d->extent.path, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint8_t *block = aligned_alloc(PATTERN_BLOCK_BYTES, PATTERN_BLOCK_BYTES);
	bool go = fd >= 0 && block;

	while (go) {
		pthread_mutex_lock(&d->lock);
		go = d->running;
		if (go) {
			load_write(d, fd, block);
		}
		const uint64_t pause_ns = d->rate ? 1000000000U / d->rate : 0;

		pthread_mutex_unlock(&d->lock);
		if (pause_ns) {
			sleep_ns(pause_ns);
		}
	}
	free(block);
	if (fd >= 0) {
		close(fd);
	}
	return NULL;
}

static void stop(struct diskload *d)
{
	if (!d->generation) {
		return;
	}
	pthread_mutex_lock(&d->lock);
	d->running = false;
	pthread_mutex_unlock(&d->lock);
	(void)pthread_join(d->thread, NULL);
	free(d->generation);
	free(d->unsure);
	d->generation = NULL;
	d->unsure = NULL;
}

static int start(struct diskload *d, const struct args *a, int answer)
{
	struct extent e;
	uint64_t rate;
	int err = extent_parse(a, &e);

	err = err ? err : args_number(a, "rate", 0, 1000000, &rate);
	err = err ? err : e.block_count > LOAD_BLOCKS_MAX ? -ERANGE : 0;
	err = err ? err : access(e.path, R_OK | W_OK) != 0 ? -errno : 0;
	if (err) {
		return err;
	}
	stop(d);
	d->extent = e;
	d->rate = rate;
	d->write_count = d->error_count = d->slowest_ns = 0;
	d->random = e.seed | 1;
	d->generation = calloc(e.block_count, sizeof(*d->generation));
	d->unsure = calloc(e.block_count, 1);
	d->running = true;
	if (!d->generation || !d->unsure || pthread_create(&d->thread, NULL, load, d) != 0) {
		free(d->generation);
		free(d->unsure);
		d->generation = NULL;
		return -ENOMEM;
	}
	say(answer, "ok disk load blocks=%llu", (unsigned long long)e.block_count);
	return 0;
}

/* Does block @index hold one of the generations it may have? */
static bool block_right(const struct diskload *d, int fd, uint64_t index, uint8_t *block,
                        uint64_t *io_errors)
{
	const struct pattern_id id = {d->extent.seed, index, d->generation[index]};
	struct pattern_id found = {0};

	if (transfer(fd, block, PATTERN_BLOCK_BYTES,
	             d->extent.offset_bytes + index * PATTERN_BLOCK_BYTES, false) != 0) {
		++*io_errors;
		return true;
	}
	const enum pattern_found is = pattern_check(block, &id, &found);

	return is == PATTERN_RIGHT || (is == PATTERN_STALE && found.generation > id.generation &&
	                               found.generation <= id.generation + d->unsure[index]);
}

static int check(struct diskload *d, int answer)
{
	uint64_t bad = 0;
	uint64_t checked = 0;
	uint64_t io_errors = 0;

	if (!d->generation) {
		return -ENOENT;
	}
	const int fd = open(d->extent.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint8_t *block = aligned_alloc(PATTERN_BLOCK_BYTES, PATTERN_BLOCK_BYTES);

	if (fd < 0 || !block) {
		const int err = fd < 0 ? -errno : -ENOMEM;

		free(block);
		return err;
	}
	pthread_mutex_lock(&d->lock);
	for (uint64_t i = 0; i < d->extent.block_count; i++) {
		if (d->generation[i] > 0) {
			checked++;
			bad += !block_right(d, fd, i, block, &io_errors);
		}
	}
	say(answer,
	    "%s disk check checked=%llu bad=%llu io_errors=%llu writes=%llu failed=%llu "
	    "slowest_ms=%llu",
	    bad == 0 && io_errors == 0 ? "ok" : "fail", (unsigned long long)checked,
	    (unsigned long long)bad, (unsigned long long)io_errors,
	    (unsigned long long)d->write_count, (unsigned long long)d->error_count,
	    (unsigned long long)(d->slowest_ns / 1000000));
	pthread_mutex_unlock(&d->lock);
	free(block);
	close(fd);
	return 0;
}

int diskload_command(struct diskload *d, const struct args *a, int fd)
{
	if (args_is(a, 1, "write")) {
		return write_or_verify(a, fd, true);
	}
	if (args_is(a, 1, "verify")) {
		return write_or_verify(a, fd, false);
	}
	if (args_is(a, 1, "load")) {
		return start(d, a, fd);
	}
	if (args_is(a, 1, "check")) {
		return check(d, fd);
	}
	if (args_is(a, 1, "stop")) {
		stop(d);
		say(fd, "ok disk stop");
		return 0;
	}
	return -EINVAL;
}

void diskload_destroy(struct diskload *d)
{
	if (d) {
		stop(d);
		(void)pthread_mutex_destroy(&d->lock);
		free(d);
	}
}
