/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/rsm/rsm_int.h"

int rsm_sessions_init(struct rsm_sessions *s)
{
	s->items = gw_calloc(RSM_SESSIONS_MAX, sizeof(*s->items));
	s->buckets = gw_calloc(RSM_SESSIONS_MAX, sizeof(*s->buckets));
	if (s->items == NULL || s->buckets == NULL) {
		rsm_sessions_fini(s);
		return -ENOMEM;
	}
	rsm_sessions_clear(s);
	return 0;
}

void rsm_sessions_fini(struct rsm_sessions *s)
{
	free(s->items);
	free(s->buckets);
	*s = (struct rsm_sessions){0};
}

void rsm_sessions_clear(struct rsm_sessions *s)
{
	memset(s->buckets, 0xff, RSM_SESSIONS_MAX * sizeof(*s->buckets));
	s->count = 0;
}

static int32_t *sessions_bucket(const struct rsm_sessions *s, const struct guid *id)
{
	uint64_t hash = 14695981039346656037ull;

	for (size_t i = 0; i < sizeof(id->b); i++) {
		hash = (hash ^ id->b[i]) * 1099511628211ull;
	}
	return &s->buckets[(hash ^ hash >> 32) % RSM_SESSIONS_MAX];
}

const struct rsm_session *rsm_sessions_find(const struct rsm_sessions *s, const struct guid *id)
{
	for (int32_t i = *sessions_bucket(s, id); i >= 0; i = s->items[i].next) {
		if (guid_equal(&s->items[i].id, id)) {
			return &s->items[i];
		}
	}
	return NULL;
}

static void sessions_unlink(struct rsm_sessions *s, int32_t at)
{
	int32_t *link = sessions_bucket(s, &s->items[at].id);

	while (*link != at) {
		link = &s->items[*link].next;
	}
	*link = s->items[at].next;
}

/* The one that was used longest ago: by index, which is the same on every node. Only when the
 * table is full, 8192 comparisons. */
static int32_t sessions_oldest(const struct rsm_sessions *s)
{
	int32_t oldest = 0;

	for (uint32_t i = 1; i < s->count; i++) {
		if (s->items[i].result.index < s->items[oldest].result.index) {
			oldest = (int32_t)i;
		}
	}
	return oldest;
}

bool rsm_sessions_note(struct rsm_sessions *s, const struct rsm_session *session, struct guid *gone)
{
	bool forgot = false;
	int32_t at = -1;

	for (int32_t i = *sessions_bucket(s, &session->id); i >= 0; i = s->items[i].next) {
		if (guid_equal(&s->items[i].id, &session->id)) {
			at = i;
			break;
		}
	}
	if (at >= 0) {
		int32_t next = s->items[at].next;

		s->items[at] = *session;
		s->items[at].next = next;
		return false;
	}
	if (s->count < RSM_SESSIONS_MAX) {
		at = (int32_t)s->count++;
	} else {
		at = sessions_oldest(s);
		*gone = s->items[at].id;
		forgot = true;
		sessions_unlink(s, at);
	}

	int32_t *bucket = sessions_bucket(s, &session->id);

	s->items[at] = *session;
	s->items[at].next = *bucket;
	*bucket = at;
	return forgot;
}
