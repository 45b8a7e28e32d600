/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From node to node: a member asks the leader for what follows its last entry; the answer is
 * entries, "no match" (what it has behind the applied part goes), or the whole state in chunks. One
 * question is under way at a time and is asked again after retry_ns.
 */

#include <errno.h>
#include <string.h>

#include "cluster/rsm/rsm_int.h"

/* A node that never had a configuration needs the whole state: the first one is in no entry. */
static bool fetch_blank(const struct rsm *r)
{
	return r->config.count == 0;
}

static void fetch_send(struct rsm *r)
{
	uint32_t chunk = r->fetch_chunk == 0 && fetch_blank(r) ? 1 : r->fetch_chunk;
	struct {
		uint8_t frame[sizeof(struct frame_wire)];
		struct rsm_fetch_wire w;
	} msg = {.w = {.epoch = le64_make(r->epoch),
	               .index = le64_make(r->last.index),
	               .hash = le64_make(r->last.hash),
	               .chunk = le32_make(chunk)}};

	r->fetch_ns = r->now_ns;
	r->cfg.io->unicast(r->cfg.io->arg, r->leader, &msg,
	                   frame_seal(&msg, FRAME_FETCH, sizeof(msg.w)));
}

void rsm_fetch_start(struct rsm *r)
{
	if (!r->fetching) {
		r->fetching = true;
		r->fetch_chunk = 0;
		fetch_send(r);
	}
}

void rsm_fetch_stop(struct rsm *r)
{
	r->fetching = false;
	r->fetch_chunk = 0;
}

void rsm_fetch_tick(struct rsm *r)
{
	if (r->fetching && !r->replacing && r->epoch != 0 &&
	    r->now_ns - r->fetch_ns >= r->cfg.retry_ns) {
		fetch_send(r);
	}
	for (uint32_t i = 0; i < RSM_GIVERS; i++) {
		if (r->givers[i].nodeid != 0 &&
		    r->now_ns - r->givers[i].used_ns >= r->cfg.retry_ns * 64) {
			rsm_give_stop(r, r->givers[i].nodeid);
		}
	}
}

/* ---- giving ---- */

void rsm_give_stop(struct rsm *r, uint32_t nodeid)
{
	for (uint32_t i = 0; i < RSM_GIVERS; i++) {
		struct rsm_giver *g = &r->givers[i];
		uint8_t *frame = g->frame;

		if (g->nodeid == 0 || (nodeid != 0 && g->nodeid != nodeid)) {
			continue;
		}
		if (g->snap != NULL) {
			r->cfg.store->ops->snap_close(r->cfg.store, g->snap);
		}
		*g = (struct rsm_giver){.frame = frame};
	}
}

static void give_no_match(struct rsm *r, uint32_t to, uint64_t index)
{
	struct {
		uint8_t frame[sizeof(struct frame_wire)];
		struct rsm_no_match_wire w;
	} msg = {.w = {.epoch = le64_make(r->epoch), .index = le64_make(index)}};

	r->cfg.io->unicast(r->cfg.io->arg, to, &msg,
	                   frame_seal(&msg, FRAME_NO_MATCH, sizeof(msg.w)));
}

static void give_entries(struct rsm *r, uint32_t to, const struct rsm_pos *after)
{
	struct rsm_entries_wire w = {.epoch = le64_make(r->epoch),
	                             .prev_hash = le64_make(after->hash)};
	uint8_t *body = r->scratch + sizeof(struct frame_wire);
	size_t len = sizeof(w);
	uint32_t count = 0;

	for (uint64_t i = after->index + 1; i <= r->last.index && len < RSM_FETCH_BYTES; i++) {
		struct rsm_entry e;

		if (!rsm_stored(r, r->cfg.store->ops->read(r->cfg.store, i, &e, r->payload))) {
			return;
		}
		len += rsm_entry_put(&e, body + len);
		count++;
	}
	w.count = le32_make(count);
	memcpy(body, &w, sizeof(w));
	r->cfg.io->unicast(r->cfg.io->arg, to, r->scratch,
	                   frame_seal(r->scratch, FRAME_ENTRIES, len));
}

static struct rsm_giver *giver_of(struct rsm *r, uint32_t nodeid)
{
	for (uint32_t i = 0; i < RSM_GIVERS; i++) {
		if (r->givers[i].nodeid == nodeid) {
			return &r->givers[i];
		}
	}
	return NULL;
}

/* Fill the frame with the next chunk. Returns false if we halted. */
static bool giver_fill(struct rsm *r, struct rsm_giver *g)
{
	struct rsm_store *store = r->cfg.store;
	struct rsm_pairs_wire w = {.epoch = le64_make(r->epoch), .chunk = le32_make(++g->chunk)};
	uint8_t *body = g->frame + sizeof(struct frame_wire);
	size_t mark_len = rsm_mark_put(&g->mark, body + sizeof(w));
	size_t len = sizeof(w) + mark_len;
	uint32_t count = 0;

	for (;;) {
		struct rsm_pair pair;
		int rc = store->ops->snap_next(store, g->snap, &pair.key, &pair.key_len,
		                               &pair.value, &pair.value_len);

		if (rc < 0) {
			return rsm_stored(r, rc);
		}
		g->over = rc == 0;
		if (g->over) {
			break;
		}
		/* A pair is smaller than what a frame has beyond RSM_FETCH_BYTES. */
		len += rsm_pair_put(&pair, body + len);
		count++;
		if (len >= RSM_FETCH_BYTES) {
			break;
		}
	}
	w.count = le32_make(count);
	w.last = le32_make(g->over ? 1 : 0);
	w.mark = le32_make((uint32_t)mark_len);
	memcpy(body, &w, sizeof(w));
	g->frame_len = frame_seal(g->frame, FRAME_PAIRS, len);
	return true;
}

static void give_chunk(struct rsm *r, uint32_t to, uint32_t chunk)
{
	struct rsm_giver *g = giver_of(r, to);

	if (chunk == 1 && (g == NULL || g->chunk != 1)) {
		rsm_give_stop(r, to);
		g = giver_of(r, 0);
		if (g == NULL) {
			return; /* it asks again */
		}
		g->nodeid = to;
		if (!rsm_stored(r,
		                r->cfg.store->ops->snap_open(r->cfg.store, &g->snap, &g->mark))) {
			return;
		}
	}
	if (g == NULL || (chunk != g->chunk && (chunk != g->chunk + 1 || g->over))) {
		return;
	}
	g->used_ns = r->now_ns;
	if (chunk == g->chunk || giver_fill(r, g)) {
		r->cfg.io->unicast(r->cfg.io->arg, to, g->frame, g->frame_len);
	}
}

static void give(struct rsm *r, uint32_t to, const struct rsm_msg *m)
{
	struct rsm_pos pos;
	int err;

	if (!r->matched || r->replacing) {
		return;
	}
	if (m->chunk != 0) {
		give_chunk(r, to, m->chunk);
		return;
	}
	if (m->index > r->last.index) {
		give_no_match(r, to, m->index);
		return;
	}
	err = r->cfg.store->ops->pos(r->cfg.store, m->index, &pos);
	if (err == -ENOENT) {
		const struct rsm_giver *g = giver_of(r, to);

		if (g != NULL && g->mark.applied.index <= m->index) {
			rsm_give_stop(r, to); /* it has had that state */
		}
		give_chunk(r, to, 1);
	} else if (!rsm_stored(r, err)) {
		return;
	} else if (pos.hash != m->hash) {
		give_no_match(r, to, m->index);
	} else {
		give_entries(r, to, &pos);
	}
}

/* ---- taking ---- */

static void take_entries(struct rsm *r, const struct rsm_msg *m)
{
	const uint8_t *at = m->rest;
	size_t left = m->rest_len;

	if (r->fetch_chunk != 0 || fetch_blank(r) || m->hash != r->last.hash) {
		return; /* the answer to an older question */
	}
	for (uint32_t i = 0; i < m->count; i++) {
		struct rsm_entry e;

		if (rsm_msg_entry(&at, &left, &e) != 0 || e.index != r->last.index + 1) {
			return;
		}
		if (!rsm_log_append(r, &e)) {
			return;
		}
	}
	r->matched = true;
	if (r->last.index >= r->live) {
		rsm_fetch_stop(r);
	} else {
		fetch_send(r);
	}
	rsm_log_ack(r);
	rsm_log_commit(r);
	rsm_kick(r);
}

static void take_no_match(struct rsm *r, const struct rsm_msg *m)
{
	if (r->matched || m->index != r->last.index) {
		return;
	}
	if (r->last.index == r->applied.index) {
		rsm_halt(r, "what was applied here is not what the cluster committed");
		return;
	}
	if (rsm_log_truncate(r, r->applied.index)) {
		fetch_send(r);
		rsm_kick(r);
	}
}

static void take_pairs(struct rsm *r, const struct rsm_msg *m)
{
	struct rsm_store *store = r->cfg.store;
	const uint8_t *at = m->rest;
	size_t left = m->rest_len;

	if (m->chunk == 1 && r->fetch_chunk == 0 && m->mark.config.count != 0 &&
	    (m->mark.applied.index > r->applied.index || fetch_blank(r))) {
		r->fetch_chunk = 1;
		if (!rsm_stored(r, store->ops->stage_begin(store))) {
			return;
		}
	}
	if (m->chunk != r->fetch_chunk) {
		return;
	}
	for (uint32_t i = 0; i < m->count; i++) {
		struct rsm_pair p;

		if (rsm_msg_pair(&at, &left, &p) != 0) {
			return;
		}
		if (!rsm_stored(r, store->ops->stage_put(store, p.key, p.key_len, p.value,
		                                         p.value_len))) {
			return;
		}
	}
	r->dirty = true;
	r->fetch_chunk++;
	if (!m->last) {
		fetch_send(r);
	} else if (rsm_stored(r, store->ops->stage_commit(store, &m->mark))) {
		r->replace_mark = m->mark;
		r->replacing = true;
	}
	rsm_kick(r);
}

void rsm_fetch_on_message(struct rsm *r, uint32_t from, const struct rsm_msg *m)
{
	const struct view_member *member = view_find(&r->view, from);

	if (r->epoch == 0 || m->epoch != r->epoch || member == NULL || !member->said) {
		return;
	}
	if (m->type == FRAME_FETCH) {
		give(r, from, m);
		return;
	}
	if (!r->fetching || from != r->leader || r->replacing) {
		return;
	}
	if (m->type == FRAME_ENTRIES) {
		take_entries(r, m);
	} else if (m->type == FRAME_NO_MATCH) {
		take_no_match(r, m);
	} else if (m->type == FRAME_PAIRS) {
		take_pairs(r, m);
	}
}
