/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_FMT_H
#define BASE_FMT_H

/*
 * fmt - numbers as people read them, in tables and messages. Three figures or so, never more than
 * there is: what is left over is cut, not rounded up (a disk of 1.99 GiB is no 2 GiB). Programs
 * that read want --json, where numbers are bytes and nanoseconds. All return @buf.
 */

#include <stdint.h>

#define FMT_MAX 48 /* bytes of any result, with NUL */

/* fmt_u64() - "12345". */
const char *fmt_u64(uint64_t value, char buf[FMT_MAX]);

/* fmt_size() - "0 B", "1023 B", "1.5 KiB", "8 GiB". */
const char *fmt_size(uint64_t bytes, char buf[FMT_MAX]);

/* fmt_rate() - as fmt_size() and "/s". */
const char *fmt_rate(uint64_t bytes_per_s, char buf[FMT_MAX]);

/* fmt_duration() - "0s", "850ns", "1.5ms", "12.3s", "5m 3s", "4h 12m", "3d 4h". */
const char *fmt_duration(uint64_t ns, char buf[FMT_MAX]);

#endif
