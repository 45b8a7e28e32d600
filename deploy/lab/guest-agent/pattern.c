/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/pattern.h"

#include <stddef.h>
#include <string.h>

#define WORDS (PATTERN_BLOCK_BYTES / sizeof(uint64_t))
/* The first words say what the block is; the rest must follow from them. */
#define HEAD_WORDS 3

/* splitmix64: each word is independent of its neighbours, so that no two blocks look alike. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static uint64_t body_key(const struct pattern_id *id)
{
	return mix(id->seed ^ mix(id->index ^ mix(id->generation)));
}

void pattern_fill(void *block, const struct pattern_id *id)
{
	uint64_t *words = block;
	uint64_t key = body_key(id);

	if (id->generation == 0) {
		memset(block, 0, PATTERN_BLOCK_BYTES);
		return;
	}
	words[0] = id->seed;
	words[1] = id->index;
	words[2] = id->generation;
	for (size_t i = HEAD_WORDS; i < WORDS; i++) {
		key += 0x9e3779b97f4a7c15ULL;
		words[i] = (key ^ (key >> 29)) * 0xbf58476d1ce4e5b9ULL;
	}
}

/* Is the block whole, that is, does its body follow from @id? */
static int body_follows(const uint64_t *words, const struct pattern_id *id)
{
	uint64_t key = body_key(id);
	uint64_t wrong = 0;

	if (id->generation == 0) {
		for (size_t i = 0; i < WORDS; i++) {
			wrong |= words[i];
		}
		return wrong == 0;
	}
	for (size_t i = HEAD_WORDS; i < WORDS; i++) {
		key += 0x9e3779b97f4a7c15ULL;
		wrong |= words[i] ^ ((key ^ (key >> 29)) * 0xbf58476d1ce4e5b9ULL);
	}
	return wrong == 0;
}

enum pattern_found pattern_check(const void *block, const struct pattern_id *expected,
                                 struct pattern_id *found)
{
	const uint64_t *words = block;
	struct pattern_id is = {.seed = words[0], .index = words[1], .generation = words[2]};

	if (is.seed == 0 && is.index == 0 && is.generation == 0) {
		is = (struct pattern_id){expected->seed, expected->index, 0};
	}
	if (!body_follows(words, &is)) {
		return PATTERN_DAMAGED;
	}
	if (found) {
		*found = is;
	}
	if (is.seed != expected->seed || is.index != expected->index) {
		return PATTERN_FOREIGN;
	}
	return is.generation == expected->generation ? PATTERN_RIGHT : PATTERN_STALE;
}
