/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

/* bench - what the benchmarks share: time, figures, a file to work on. Aborts when it cannot. */

#include <stdbool.h>
#include <stdint.h>

#include "base/uring.h"

/* bench_figure() - print one line: name value unit. */
void bench_figure(const char *name, double value, const char *unit);

/* bench_rate() - print @count of something in the time since @start_ns, per second. */
double bench_rate(const char *name, double count, uint64_t start_ns, const char *unit);

/* One kind of requests to a disk. */
struct bench_load {
	const char *name;
	uint32_t block_bytes;
	bool random;
	bool write;
	uint32_t depth;
};

#define BENCH_LOAD_DEPTH_MAX 32u

/* Where a load is on a disk; starts as zeros. */
struct bench_place {
	uint64_t rng;
	uint64_t next;
};

/* bench_load_offset() - where the next request of @load goes, on a disk of @bytes. */
uint64_t bench_load_offset(const struct bench_load *load, uint64_t bytes,
                           struct bench_place *place);

/* bench_load_figure() - as bench_figure(), with the load in the name. */
void bench_load_figure(const char *what, const struct bench_load *load, double value,
                       const char *unit);

/* bench_load_rate() - print @rate requests per second, those of large blocks in MiB/s. Returns
 * @rate. */
double bench_load_rate(const char *what, const struct bench_load *load, double rate);

/* bench_file() - a new unlinked file of @bytes random-looking bytes in @dir, all allocated and
 * written. @direct: opened with O_DIRECT if the file system can. */
int bench_file(const char *dir, uint64_t bytes, bool direct);

/* bench_ring() - a ring of @entries with one of the backends. */
struct uring *bench_ring(uint32_t entries, bool fallback);

/* bench_pages() - @bytes of memory aligned to a page. */
void *bench_pages(uint64_t bytes);

/* bench_random() - the next of a fixed sequence. */
uint64_t bench_random(uint64_t *state);

#endif
