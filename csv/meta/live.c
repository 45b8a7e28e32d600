/* SPDX-License-Identifier: Apache-2.0 */

/* live - for each block, its newest committed image in the journal, until that is in place. */
#include <errno.h>

#include "csv/meta/meta_int.h"

static uint32_t *bucket_of(const struct csv_meta *m, uint64_t block)
{
	return &m->live_buckets[block * 0x9e3779b97f4a7c15u >> 32 & (m->live_buckets_count - 1)];
}

struct live *live_find(const struct csv_meta *m, uint64_t block)
{
	for (uint32_t i = *bucket_of(m, block); i != NONE; i = m->lives[i].next) {
		if (m->lives[i].block == block) {
			return &m->lives[i];
		}
	}
	return NULL;
}

int live_put(struct csv_meta *m, const struct live *image)
{
	struct live *l = live_find(m, image->block);

	if (l == NULL) {
		uint32_t *bucket = bucket_of(m, image->block);

		if (m->lives_free == NONE) {
			return -EUCLEAN; /* more images than both areas hold */
		}

		uint32_t i = m->lives_free;

		l = &m->lives[i];
		m->lives_free = l->next;
		l->next = *bucket;
		l->used = true;
		l->block = image->block;
		*bucket = i;
		m->lives_used++;
	}
	l->seq = image->seq;
	l->at = image->at;
	return 0;
}

void live_drop_until(struct csv_meta *m, uint64_t seq)
{
	for (uint32_t i = 0; i < m->lives_count; i++) {
		struct live *l = &m->lives[i];

		if (!l->used || l->seq > seq) {
			continue;
		}

		uint32_t *link = bucket_of(m, l->block);

		while (*link != i) {
			link = &m->lives[*link].next;
		}
		*link = l->next;
		l->used = false;
		l->next = m->lives_free;
		m->lives_free = i;
		m->lives_used--;
	}
}

uint64_t csv_meta_where(const struct csv_meta *m, uint64_t block)
{
	const struct live *l = live_find(m, block);

	return l != NULL ? l->at : block;
}
