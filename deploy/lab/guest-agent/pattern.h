/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_GUEST_AGENT_PATTERN_H
#define DEPLOY_LAB_GUEST_AGENT_PATTERN_H

/*
 * pattern - blocks whose every byte follows from (seed, index, generation).
 *
 * A block that lies elsewhere, is older, torn or damaged is told apart from the right one. The
 * bytes do not compress. Generation 0 is all zeros: never written.
 */

#include <stdint.h>

#include "base/attr.h"

#define PATTERN_BLOCK_BYTES 4096U

struct pattern_id {
	uint64_t seed;
	uint64_t index;
	uint64_t generation;
};

/* What a block turned out to hold. */
enum pattern_found {
	PATTERN_RIGHT,
	PATTERN_STALE,   /* the same block of another generation */
	PATTERN_FOREIGN, /* a whole block, but of another seed or index */
	PATTERN_DAMAGED, /* no whole block: torn or overwritten */
};

/* pattern_fill() - write the block of @id into @block[PATTERN_BLOCK_BYTES]; 8-byte aligned. */
void pattern_fill(void *block, const struct pattern_id *id);

/*
 * pattern_check() - compare @block[PATTERN_BLOCK_BYTES], 8-byte aligned, with what it should be.
 * @found: what it says it is, if it is whole; may be NULL.
 */
MUST_USE enum pattern_found pattern_check(const void *block, const struct pattern_id *expected,
                                          struct pattern_id *found);

#endif
