/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

void bench_figure(const char *name, double value, const char *unit)
{
	(void)printf("%-44s %12.1f %s\n", name, value, unit);
	(void)fflush(stdout);
}

double bench_rate(const char *name, double count, uint64_t start_ns, const char *unit)
{
	double rate = count * (double)NS_PER_S / (double)(clock_now_ns() - start_ns);

	bench_figure(name, rate, unit);
	return rate;
}

uint64_t bench_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

uint64_t bench_load_offset(const struct bench_load *load, uint64_t bytes, struct bench_place *place)
{
	uint64_t block = load->random ? bench_random(&place->rng) : place->next++;

	return block % (bytes / load->block_bytes) * load->block_bytes;
}

void bench_load_figure(const char *what, const struct bench_load *load, double value,
                       const char *unit)
{
	char name[96];

	(void)snprintf(name, sizeof(name), "%s.%s.depth%u", what, load->name, load->depth);
	bench_figure(name, value, unit);
}

double bench_load_rate(const char *what, const struct bench_load *load, double rate)
{
	if (load->block_bytes <= 4096) {
		bench_load_figure(what, load, rate, "ops/s");
	} else {
		bench_load_figure(what, load, rate * load->block_bytes / (1 << 20), "MiB/s");
	}
	return rate;
}

void *bench_pages(uint64_t bytes)
{
	void *p = aligned_alloc(4096, bytes);

	CHECK(p != NULL);
	memset(p, 0xa5, bytes);
	return p;
}

int bench_file(const char *dir, uint64_t bytes, bool direct)
{
	char path[512];
	uint8_t *page = bench_pages(1u << 20);
	uint64_t rng = bytes;

	(void)snprintf(path, sizeof(path), "%s/godwit-bench-XXXXXX", dir);

	int fd = mkostemp(path, O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(unlink(path) == 0);
	for (uint64_t at = 0; at < bytes; at += 1u << 20) {
		for (uint32_t i = 0; i < 1u << 20; i += 8) {
			uint64_t word = bench_random(&rng);

			memcpy(page + i, &word, sizeof(word));
		}
		CHECK(pwrite(fd, page, 1u << 20, (off_t)at) == 1 << 20);
	}
	CHECK(fsync(fd) == 0);
	free(page);
	if (direct && fcntl(fd, F_SETFL, O_DIRECT) != 0) {
		(void)printf("# no O_DIRECT in %s: these figures are the page cache's\n", dir);
	}
	return fd;
}

struct uring *bench_ring(uint32_t entries, bool fallback)
{
	const struct uring_cfg cfg = {.entries = entries, .force_fallback = fallback};
	struct uring *ring;

	CHECK(uring_create(&cfg, &ring, NULL) == 0);
	return ring;
}
