/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/move_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "base/clock.h"

#define PAGE 4096u
#define MOVE_GUEST_SLICE_NS (NS_PER_MS)

static uint64_t move_guest_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 16 ^ *seed;
}

static uint8_t *move_guest_memory(uint64_t bytes, int *out_fd)
{
	int fd = memfd_create("move_guest", MFD_CLOEXEC);
	void *host;

	CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(host != MAP_FAILED);
	*out_fd = fd;
	return host;
}

/* The guest's writer runs in parallel with the copy; so would a vCPU. */
__attribute__((no_sanitize("thread"))) static void move_guest_touch(struct move_guest *g,
                                                                    uint64_t *seed)
{
	uint64_t page = move_guest_random(seed) % (g->cfg.working_bytes / PAGE);
	volatile uint64_t *to = (volatile uint64_t *)(void *)(g->ranges[1].host + page * PAGE);

	for (uint32_t i = 0; i < 8; i++) {
		to[move_guest_random(seed) % (PAGE / 8)] = *seed;
	}
	/* After the write, as a hypervisor would log it at the latest. */
	(void)bitmap_set_atomic(g->dirty[1], page);
}

static void *move_guest_writer(void *arg)
{
	struct move_guest *g = arg;
	uint64_t seed = 7;
	double pages_per_slice = g->cfg.dirty_mb_s * 1e6 / PAGE / 1000;
	uint64_t last = clock_now_ns();
	double due = 0;

	(void)pthread_mutex_lock(&g->lock);
	while (!g->quit) {
		if (g->stop) {
			g->stands = true;
			(void)pthread_cond_broadcast(&g->cond);
			(void)pthread_cond_wait(&g->cond, &g->lock);
			last = clock_now_ns();
			continue;
		}
		g->stands = false;

		double share = 1 - g->throttle / 100.0;

		(void)pthread_mutex_unlock(&g->lock);

		uint64_t now = clock_now_ns();
		double slices = (double)(now - last) / (double)MOVE_GUEST_SLICE_NS;

		due += pages_per_slice * share * (slices < 10 ? slices : 10);
		last = now;

		uint64_t count = (uint64_t)due;

		due -= (double)count;
		for (; count != 0; count--) {
			move_guest_touch(g, &seed);
		}

		const struct timespec nap = {.tv_nsec = (long)MOVE_GUEST_SLICE_NS};

		(void)nanosleep(&nap, NULL);
		(void)pthread_mutex_lock(&g->lock);
	}
	(void)pthread_mutex_unlock(&g->lock);
	return NULL;
}

static void move_guest_init(struct move_guest *g, const struct move_guest_cfg *cfg)
{
	*g = (struct move_guest){.cfg = *cfg};
	CHECK(cfg->bytes > MOVE_GUEST_LOW_BYTES && cfg->bytes % PAGE == 0);
	(void)pthread_mutex_init(&g->lock, NULL);
	(void)pthread_cond_init(&g->cond, NULL);
	g->ranges[0].len_bytes = MOVE_GUEST_LOW_BYTES;
	g->ranges[1].gpa = 4ull << 30;
	g->ranges[1].len_bytes = cfg->bytes - MOVE_GUEST_LOW_BYTES;
	for (uint32_t i = 0; i < 2; i++) {
		g->ranges[i].host = move_guest_memory(g->ranges[i].len_bytes, &g->fds[i]);
		g->dirty[i] = calloc(BITMAP_WORDS(g->ranges[i].len_bytes / PAGE), 8);
		CHECK(g->dirty[i] != NULL);
	}
}

void move_guest_create(struct move_guest *g, const struct move_guest_cfg *cfg)
{
	uint64_t seed = 1;

	move_guest_init(g, cfg);
	for (uint32_t i = 0; i < 2; i++) {
		for (uint64_t at = 0; at < g->ranges[i].len_bytes; at += 8) {
			if (at / PAGE % 8 < cfg->random_share) {
				uint64_t r = move_guest_random(&seed);

				r = cfg->incompressible ? r : (r & 15) * 0x0101010101010101ull;
				memcpy(g->ranges[i].host + at, &r, 8);
			}
		}
	}
	g->state = malloc(cfg->state_bytes + 1u);
	CHECK(g->state != NULL);
	for (uint32_t i = 0; i < cfg->state_bytes; i++) {
		g->state[i] = (uint8_t)move_guest_random(&seed);
	}
	g->running = true;
	g->writes = cfg->dirty_mb_s != 0;
	if (g->writes) {
		CHECK(pthread_create(&g->writer, NULL, move_guest_writer, g) == 0);
	}
}

void move_guest_place(struct move_guest *g, const struct move_guest *origin)
{
	move_guest_init(g, &origin->cfg);
	g->origin = origin;
}

void move_guest_destroy(struct move_guest *g)
{
	(void)pthread_mutex_lock(&g->lock);
	g->quit = true;
	(void)pthread_cond_broadcast(&g->cond);
	(void)pthread_mutex_unlock(&g->lock);
	if (g->writes) {
		(void)pthread_join(g->writer, NULL);
	}
	for (uint32_t i = 0; i < 2; i++) {
		(void)munmap(g->ranges[i].host, g->ranges[i].len_bytes);
		(void)close(g->fds[i]);
		free(g->dirty[i]);
	}
	free(g->state);
	(void)pthread_cond_destroy(&g->cond);
	(void)pthread_mutex_destroy(&g->lock);
}

bool move_guest_running(struct move_guest *g)
{
	(void)pthread_mutex_lock(&g->lock);

	bool running = g->running;

	(void)pthread_mutex_unlock(&g->lock);
	return running;
}

bool move_guest_equal(const struct move_guest *a, const struct move_guest *b)
{
	for (uint32_t i = 0; i < 2; i++) {
		if (memcmp(a->ranges[i].host, b->ranges[i].host, a->ranges[i].len_bytes) != 0) {
			return false;
		}
	}
	return true;
}

/* ---- the source's operations ---- */

static uint32_t move_guest_map(void *guest, struct move_range *ranges)
{
	const struct move_guest *g = guest;

	memcpy(ranges, g->ranges, sizeof(g->ranges));
	return 2;
}

static int move_guest_data(void *guest, uint32_t range, uint64_t *page, uint64_t *count)
{
	const struct move_guest *g = guest;

	return source_memfd_data(g->fds[range], 0, g->ranges[range].len_bytes, page, count);
}

static int move_guest_dirty_start(void *guest, struct errbuf *eb)
{
	struct move_guest *g = guest;

	(void)eb;
	for (uint32_t i = 0; i < 2; i++) {
		for (size_t w = 0; w < BITMAP_WORDS(g->ranges[i].len_bytes / PAGE); w++) {
			(void)bitmap_take_atomic(g->dirty[i], w);
		}
	}
	g->logging = true;
	return 0;
}

static int move_guest_dirty_fetch(void *guest, uint32_t range, uint64_t *bits, size_t words)
{
	struct move_guest *g = guest;

	CHECK(g->logging && range < 2);
	(void)bitmap_move_atomic(bits, g->dirty[range], words * 64);
	return 0;
}

static void move_guest_dirty_stop(void *guest)
{
	struct move_guest *g = guest;

	CHECK(g->logging);
	g->logging = false;
}

static int move_guest_throttle(void *guest, uint32_t percent)
{
	struct move_guest *g = guest;

	(void)pthread_mutex_lock(&g->lock);
	g->throttle = percent;
	g->throttle_max = percent > g->throttle_max ? percent : g->throttle_max;
	(void)pthread_mutex_unlock(&g->lock);
	return 0;
}

static void move_guest_pause(void *guest, move_done_fn done, void *arg)
{
	struct move_guest *g = guest;

	(void)pthread_mutex_lock(&g->lock);
	CHECK(g->running);
	g->pauses++;
	g->running = false;
	g->stop = true;
	while (g->writes && !g->stands) {
		(void)pthread_cond_wait(&g->cond, &g->lock);
	}

	bool hangs = g->faults.pause_hangs;

	g->pause_done = hangs ? done : NULL;
	g->pause_arg = arg;
	(void)pthread_mutex_unlock(&g->lock);
	if (!hangs) {
		done(arg, 0, NULL);
	}
}

static void move_guest_resume(void *guest, move_done_fn done, void *arg)
{
	struct move_guest *g = guest;

	(void)pthread_mutex_lock(&g->lock);
	CHECK(!g->running);
	g->running = true;
	g->stop = false;
	g->stands = false;

	move_done_fn pause = g->pause_done;

	g->pause_done = NULL;
	(void)pthread_cond_broadcast(&g->cond);
	(void)pthread_mutex_unlock(&g->lock);
	if (pause != NULL) {
		pause(g->pause_arg, -ECANCELED, NULL);
	}
	done(arg, 0, NULL);
}

static void move_guest_save(void *guest, uint8_t **buf, size_t *len, move_done_fn done, void *arg)
{
	const struct move_guest *g = guest;

	if (g->faults.save_fails) {
		const struct errbuf why = {.text = "a device does not save"};

		done(arg, -EIO, &why);
		return;
	}
	*buf = malloc(g->cfg.state_bytes + 1u);
	CHECK(*buf != NULL);
	memcpy(*buf, g->state, g->cfg.state_bytes);
	*len = g->cfg.state_bytes;
	done(arg, 0, NULL);
}

const struct source_guest_ops move_guest_source_ops = {
	.map = move_guest_map,
	.data = move_guest_data,
	.dirty_start = move_guest_dirty_start,
	.dirty_fetch = move_guest_dirty_fetch,
	.dirty_stop = move_guest_dirty_stop,
	.throttle = move_guest_throttle,
	.pause = move_guest_pause,
	.resume = move_guest_resume,
	.save = move_guest_save,
};

/* ---- the destination's ---- */

static void move_guest_check(void *guest, const char *definition, size_t len, struct compat *report)
{
	const struct move_guest *g = guest;

	CHECK(len != 0 && definition[0] == '{');
	if (g->faults.blocker) {
		compat_add(report, COMPAT_BLOCKER, "cpu-feature", "the processor lacks avx512f");
		compat_add(report, COMPAT_BLOCKER, "disk-unreachable", "no file /vm/a.vhdx");
	}
}

static void move_guest_prepare(void *guest, const char *definition, size_t len, move_done_fn done,
                               void *arg)
{
	const struct move_guest *g = guest;
	const struct errbuf why = {.text = "no memory for the guest"};

	CHECK(len != 0 && definition[0] == '{');
	done(arg, g->faults.prepare_fails ? -ENOMEM : 0, g->faults.prepare_fails ? &why : NULL);
}

static void move_guest_load(void *guest, const uint8_t *buf, size_t len, move_done_fn done,
                            void *arg)
{
	struct move_guest *g = guest;
	const struct errbuf why = {.text = "section quantum.0 is unknown"};
	const struct timespec nap = {.tv_nsec = (long)g->faults.load_us * 1000};

	(void)nanosleep(&nap, NULL);
	CHECK(len == g->cfg.state_bytes && memcmp(buf, g->origin->state, len) == 0);
	g->loaded = !g->faults.load_fails;
	done(arg, g->faults.load_fails ? -EPROTONOSUPPORT : 0, g->faults.load_fails ? &why : NULL);
}

static void move_guest_run(void *guest, move_done_fn done, void *arg)
{
	struct move_guest *g = guest;

	(void)pthread_mutex_lock(&g->lock);
	CHECK(g->loaded && !g->running);
	g->running = !g->faults.run_fails;
	g->runs++;
	(void)pthread_mutex_unlock(&g->lock);
	done(arg, g->faults.run_fails ? -EIO : 0, NULL);
}

static void move_guest_announce(void *guest)
{
	struct move_guest *g = guest;

	g->announces++;
}

const struct target_guest_ops move_guest_target_ops = {
	.check = move_guest_check,
	.prepare = move_guest_prepare,
	.map = move_guest_map,
	.load = move_guest_load,
	.run = move_guest_run,
	.announce = move_guest_announce,
};
