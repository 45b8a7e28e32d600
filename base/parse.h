/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

/*
 * parse - numbers as people and files write them, checked against a range.
 *
 * The whole text must be the number: no white space, no sign where none belongs, no rest. A
 * fraction is taken if it is exact in the unit of the result ("1.5G", not "0.3K"). Error texts say
 * what was read, what is expected and the limit that was hit; the caller puts the name in front.
 * All return 0; -EINVAL not such a number; -ERANGE out of range; then *out is untouched.
 */

#include <stdint.h>

#include "base/attr.h"

struct errbuf;

MUST_USE int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                       struct errbuf *eb);
MUST_USE int parse_i64(const char *text, int64_t min, int64_t max, int64_t *out, struct errbuf *eb);

/*
 * parse_size() - bytes: "512", "512M", "8G", "1.5TiB". Units B K M G T P, small letters too, with
 * or without "iB", are powers of 1024. "MB" and the like mean two things and are refused.
 */
MUST_USE int parse_size(const char *text, uint64_t min_bytes, uint64_t max_bytes, uint64_t *bytes,
                        struct errbuf *eb);

/* parse_duration() - [ns], from "50ms", "1.5s", "10m"; units ns us ms s m h d, never without. */
MUST_USE int parse_duration(const char *text, uint64_t min_ns, uint64_t max_ns, uint64_t *ns,
                            struct errbuf *eb);

/*
 * parse_bandwidth() - bytes per second: "1G", "1G/s", "100MiB/s" as parse_size(), or as network
 * cards count, "10Gbit", "10Gbit/s": Kbit Mbit Gbit Tbit, powers of 1000 bits.
 */
MUST_USE int parse_bandwidth(const char *text, uint64_t min_bytes_s, uint64_t max_bytes_s,
                             uint64_t *bytes_s, struct errbuf *eb);

#endif
