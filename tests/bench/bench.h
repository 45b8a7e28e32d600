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
