/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/memload.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "deploy/lab/guest-agent/pattern.h"
#include "deploy/lab/guest-agent/say.h"

#define SIZE_MAX_BYTES (64ULL << 30)
#define STEP_NS (10ULL * 1000 * 1000)

struct memload {
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below while the thread runs */
	bool running;
	uint8_t *pages;       /* owned, mapped */
	uint32_t *generation; /* owned: what each page should hold */
	uint64_t page_count;
	uint64_t set_count; /* the first so many are rewritten */
	uint64_t zero_percent;
	uint64_t seed;
	uint64_t rate_bytes;
	uint64_t written_bytes;
	uint64_t random;
};

struct memload *memload_create(void)
{
	struct memload *m = calloc(1, sizeof(*m));

	if (m) {
		(void)pthread_mutex_init(&m->lock, NULL);
	}
	return m;
}

static void write_page(struct memload *m, uint64_t index)
{
	if (index % 100 < m->zero_percent) {
		return;
	}
	m->generation[index]++;
	const struct pattern_id id = {m->seed, index, m->generation[index]};

	pattern_fill(m->pages + index * PATTERN_BLOCK_BYTES, &id);
	m->written_bytes += PATTERN_BLOCK_BYTES;
}

static uint64_t next_random(struct memload *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return m->random;
}

static void *dirty(void *arg)
{
	struct memload *m = arg;
	uint64_t owed_bytes = 0;
	uint64_t last_ns = now_ns();

	for (;;) {
		sleep_ns(STEP_NS);
		const uint64_t now = now_ns();
		/* After a long stop (a migration, a pause) not everything at once. */
		const uint64_t passed = now - last_ns < 10 * STEP_NS ? now - last_ns : 10 * STEP_NS;

		last_ns = now;
		pthread_mutex_lock(&m->lock);
		if (!m->running) {
			pthread_mutex_unlock(&m->lock);
			return NULL;
		}
		owed_bytes += m->rate_bytes / 1000000 * passed / 1000;
		for (; owed_bytes >= PATTERN_BLOCK_BYTES; owed_bytes -= PATTERN_BLOCK_BYTES) {
			write_page(m, next_random(m) % m->set_count);
		}
		pthread_mutex_unlock(&m->lock);
	}
}

static void stop(struct memload *m)
{
	if (!m->pages) {
		return;
	}
	pthread_mutex_lock(&m->lock);
	m->running = false;
	pthread_mutex_unlock(&m->lock);
	(void)pthread_join(m->thread, NULL);
	(void)munmap(m->pages, m->page_count * PATTERN_BLOCK_BYTES);
	m->pages = NULL;
	free(m->generation);
	m->generation = NULL;
}

static int start(struct memload *m, const struct args *a, int fd)
{
	uint64_t size;
	uint64_t set;
	int err = args_number(a, "size", 64 << 20, SIZE_MAX_BYTES, &size);

	err = err ? err : args_number(a, "set", size, size, &set);
	err = err ? err : args_number(a, "rate", 0, SIZE_MAX_BYTES, &m->rate_bytes);
	err = err ? err : args_number(a, "zero", 0, 100, &m->zero_percent);
	err = err ? err : args_number(a, "seed", 1, UINT64_MAX, &m->seed);
	if (err) {
		return err;
	}
	if (size < PATTERN_BLOCK_BYTES || set < PATTERN_BLOCK_BYTES) {
		return -EINVAL;
	}
	stop(m);
	m->page_count = size / PATTERN_BLOCK_BYTES;
	m->set_count = set / PATTERN_BLOCK_BYTES;
	m->generation = calloc(m->page_count, sizeof(*m->generation));
	void *pages = mmap(NULL, m->page_count * PATTERN_BLOCK_BYTES, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!m->generation || pages == MAP_FAILED) {
		free(m->generation);
		m->generation = NULL;
		return -ENOMEM;
	}
	m->pages = pages;
	m->written_bytes = 0;
	m->random = m->seed | 1;
	const uint64_t begin = now_ns();

	for (uint64_t i = 0; i < m->page_count; i++) {
		write_page(m, i);
	}
	m->running = true;
	if (pthread_create(&m->thread, NULL, dirty, m) != 0) {
		(void)munmap(pages, m->page_count * PATTERN_BLOCK_BYTES);
		m->pages = NULL;
		free(m->generation);
		m->generation = NULL;
		return -EAGAIN;
	}
	say(fd, "ok mem start pages=%llu fill_ms=%llu", (unsigned long long)m->page_count,
	    (unsigned long long)((now_ns() - begin) / 1000000));
	return 0;
}

static int check(struct memload *m, int fd)
{
	uint64_t count[4] = {0};

	if (!m->pages) {
		return -ENOENT;
	}
	pthread_mutex_lock(&m->lock);
	for (uint64_t i = 0; i < m->page_count; i++) {
		const struct pattern_id id = {m->seed, i, m->generation[i]};

		count[pattern_check(m->pages + i * PATTERN_BLOCK_BYTES, &id, NULL)]++;
	}
	const uint64_t written = m->written_bytes;

	pthread_mutex_unlock(&m->lock);
	const uint64_t bad = m->page_count - count[PATTERN_RIGHT];

	say(fd,
	    "%s mem check pages=%llu bad=%llu stale=%llu foreign=%llu damaged=%llu written=%llu",
	    bad == 0 ? "ok" : "fail", (unsigned long long)m->page_count, (unsigned long long)bad,
	    (unsigned long long)count[PATTERN_STALE], (unsigned long long)count[PATTERN_FOREIGN],
	    (unsigned long long)count[PATTERN_DAMAGED], (unsigned long long)written);
	return 0;
}

int memload_command(struct memload *m, const struct args *a, int fd)
{
	if (args_is(a, 1, "start")) {
		return start(m, a, fd);
	}
	if (args_is(a, 1, "check")) {
		return check(m, fd);
	}
	if (args_is(a, 1, "stop")) {
		stop(m);
		say(fd, "ok mem stop");
		return 0;
	}
	return -EINVAL;
}

void memload_destroy(struct memload *m)
{
	if (m) {
		stop(m);
		(void)pthread_mutex_destroy(&m->lock);
		free(m);
	}
}
