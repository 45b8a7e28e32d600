/* SPDX-License-Identifier: Apache-2.0 */

/* The log of one node: entries in, acknowledgements out, what is committed applied. */

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "cluster/rsm/rsm_int.h"

/* ---- appending ---- */

static void log_config(struct rsm *r, const struct rsm_entry *entry)
{
	struct view_config config;

	if (view_config_decode(entry->payload, entry->len, &config) != 0) {
		return; /* the leader never writes such a one */
	}
	r->config_before = r->config;
	r->config_before_index = r->config_index;
	r->config = config;
	r->config_index = entry->index;
	rsm_count_votes(r);
}

bool rsm_log_append(struct rsm *r, const struct rsm_entry *entry)
{
	uint64_t hash = rsm_hash(r->last.hash, entry);

	if (!rsm_stored(r, r->cfg.store->ops->append(r->cfg.store, entry, hash))) {
		return false;
	}
	r->last = (struct rsm_pos){.index = entry->index, .epoch = entry->epoch, .hash = hash};
	r->dirty = true;
	if (entry->type == RSM_CONFIG) {
		log_config(r, entry);
	}
	rsm_slots_seen(r, entry);
	return true;
}

bool rsm_log_truncate(struct rsm *r, uint64_t index)
{
	CHECK(index >= r->applied.index);
	if (index >= r->last.index) {
		return true;
	}
	if (!rsm_stored(r, r->cfg.store->ops->truncate(r->cfg.store, index)) ||
	    !rsm_stored(r, r->cfg.store->ops->pos(r->cfg.store, index, &r->last))) {
		return false;
	}
	r->dirty = true;
	r->synced = r->synced < index ? r->synced : index;
	r->sync_index = r->sync_index < index ? r->sync_index : index;
	if (r->config_index > index) {
		r->config = r->config_before;
		r->config_index = r->config_before_index;
		rsm_count_votes(r);
	}
	return true;
}

void rsm_log_on_append(struct rsm *r, uint32_t from, const struct rsm_msg *m)
{
	if (r->epoch == 0 || m->epoch != r->epoch || from != r->leader) {
		return; /* of a view that is over */
	}
	if (m->entry.index > r->live) {
		r->live = m->entry.index;
	}
	if (r->fetch_chunk != 0 || r->replacing || !r->matched || m->entry.index <= r->last.index) {
		return;
	}
	if (m->entry.index != r->last.index + 1) {
		rsm_fetch_start(r); /* a hole: it can be filled */
		return;
	}
	if (m->hash != r->last.hash) {
		rsm_halt(r, "the log differs from the leader's");
		return;
	}
	if (rsm_log_append(r, &m->entry)) {
		if (r->fetching && r->last.index >= r->live) {
			rsm_fetch_stop(r);
		}
		rsm_kick(r);
	}
}

/* ---- writing, as the leader ---- */

void rsm_log_write(struct rsm *r, struct rsm_entry *entry)
{
	struct rsm_append_wire w = {.prev_hash = le64_make(r->next.hash)};
	uint8_t *body = r->scratch + sizeof(struct frame_wire);

	entry->index = r->next.index + 1;
	entry->epoch = r->epoch;
	if (entry->type == RSM_CONFIG) {
		r->config_written = entry->index;
	}
	memcpy(body, &w, sizeof(w));

	size_t len = sizeof(w) + rsm_entry_put(entry, body + sizeof(w));

	r->next = (struct rsm_pos){
		.index = entry->index, .epoch = r->epoch, .hash = rsm_hash(r->next.hash, entry)};
	r->cfg.io->multicast(r->cfg.io->arg, r->scratch, frame_seal(r->scratch, FRAME_APPEND, len));
}

/* At most one node more or less, or one vote of one node: then each majority of the old meets each
 * majority of the new. */
static bool config_step(const struct view_config *a, const struct view_config *b)
{
	uint32_t moved = 0;

	for (int pass = 0; pass < 2; pass++) {
		const struct view_config *x = pass == 0 ? a : b;
		const struct view_config *y = pass == 0 ? b : a;

		for (uint32_t i = 0; i < x->count; i++) {
			const struct view_node *n = &x->nodes[i];
			uint32_t votes = view_config_votes(y, n->nodeid, &n->uuid);

			moved += n->votes > votes ? n->votes - votes : 0;
		}
	}
	return moved <= 1;
}

/* By a person's word: any number of nodes go at once, as nobody can speak for them. */
static bool config_shrinks(const struct view_config *from, const struct view_config *to)
{
	for (uint32_t i = 0; i < to->count; i++) {
		const struct view_node *n = &to->nodes[i];

		if (view_config_votes(from, n->nodeid, &n->uuid) != n->votes) {
			return config_step(from, to);
		}
	}
	return true;
}

static int level_allowed(const struct rsm *r, uint32_t level)
{
	if (level != r->level + 1) {
		return -EINVAL; /* one at a time, never back */
	}
	for (uint32_t i = 0; i < r->config.count; i++) {
		const struct view_member *m = view_find(&r->view, r->config.nodes[i].nodeid);

		if (r->config.nodes[i].nodeid == VIEW_WITNESS_NODEID) {
			continue;
		}
		if (m == NULL || !m->said || m->hello.level_max < level) {
			return -EOPNOTSUPP; /* every configured node must be here and able to */
		}
	}
	return 0;
}

int rsm_log_allowed(const struct rsm *r, const struct rsm_entry *entry)
{
	struct view_config config;

	if (entry->type == RSM_LEVEL) {
		le32 level;

		if (entry->len != sizeof(level)) {
			return -EINVAL;
		}
		memcpy(&level, entry->payload, sizeof(level));
		return level_allowed(r, le32_get(level));
	}
	if (entry->type != RSM_CONFIG) {
		return 0;
	}
	if (view_config_decode(entry->payload, entry->len, &config) != 0 ||
	    !(r->view.forced ? config_shrinks(&r->config, &config)
	                     : config_step(&r->config, &config))) {
		return -EINVAL;
	}
	/* The one before must be committed; none may be on its way. */
	return r->config_index <= r->commit && r->config_written <= r->config_index ? 0 : -EBUSY;
}

/* ---- acknowledging ---- */

void rsm_log_ack(struct rsm *r)
{
	struct rsm_pos pos;

	if (r->epoch == 0 || !r->matched || r->synced < r->newview_index || r->synced <= r->acked) {
		return;
	}
	if (!rsm_stored(r, r->cfg.store->ops->pos(r->cfg.store, r->synced, &pos))) {
		return;
	}

	struct {
		uint8_t frame[sizeof(struct frame_wire)];
		struct rsm_ack_wire ack;
	} msg = {.ack = {.epoch = le64_make(r->epoch),
	                 .index = le64_make(pos.index),
	                 .hash = le64_make(pos.hash)}};

	r->acked = r->synced;
	r->cfg.io->multicast(r->cfg.io->arg, &msg, frame_seal(&msg, FRAME_ACK, sizeof(msg.ack)));
}

void rsm_log_on_ack(struct rsm *r, uint32_t from, const struct rsm_msg *m)
{
	struct rsm_pos pos;

	if (r->epoch == 0 || m->epoch != r->epoch || m->index < r->newview_index) {
		return;
	}
	if (r->matched && m->index <= r->last.index &&
	    r->cfg.store->ops->pos(r->cfg.store, m->index, &pos) == 0 && pos.hash != m->hash) {
		/* Somebody's memory or disk lies. The leader's log is what the epoch says. */
		if (from == r->leader || r->leader != r->cfg.nodeid) {
			rsm_halt(r, "the log's hash differs from another member's");
		}
		return;
	}
	for (uint32_t i = 0; i < r->ack_count; i++) {
		if (r->acks[i].nodeid == from && m->index > r->acks[i].index) {
			r->acks[i].index = m->index;
			rsm_log_commit(r);
		}
	}
}

/* ---- committing and applying ---- */

struct apply_sink {
	struct rsm *r;
	int err;
};

static void sink_put(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
	struct apply_sink *s = arg;
	uint8_t prefixed[RSM_KEY_MAX];

	CHECK(key_len < RSM_KEY_MAX && value_len <= RSM_VALUE_MAX);
	prefixed[0] = 'm';
	memcpy(prefixed + 1, key, key_len);

	rsm_compare_pair(s->r, &(struct rsm_pair){.key = prefixed,
	                                          .key_len = key_len + 1,
	                                          .value = value,
	                                          .value_len = value_len});

	struct rsm_store *store = s->r->cfg.store;
	int err = store->ops->put(store, prefixed, key_len + 1, value, value_len);

	s->err = s->err == 0 ? err : s->err;
}

static void sink_del(void *arg, const void *key, size_t key_len)
{
	struct apply_sink *s = arg;
	uint8_t prefixed[RSM_KEY_MAX];

	CHECK(key_len < RSM_KEY_MAX);
	prefixed[0] = 'm';
	memcpy(prefixed + 1, key, key_len);

	rsm_compare_pair(s->r, &(struct rsm_pair){.key = prefixed, .key_len = key_len + 1});

	struct rsm_store *store = s->r->cfg.store;
	int err = store->ops->del(store, prefixed, key_len + 1);

	s->err = s->err == 0 ? err : s->err;
}

void rsm_session_pair(const struct rsm_session *s, uint8_t key[17], struct rsm_session_wire *w)
{
	key[0] = 's';
	memcpy(key + 1, s->id.b, sizeof(s->id.b));
	*w = (struct rsm_session_wire){.seq = le64_make(s->seq),
	                               .index = le64_make(s->result.index),
	                               .status = le32_make((uint32_t)s->result.status),
	                               .detail = le32_make(s->result.detail)};
}

static bool apply_note(struct rsm *r, const struct rsm_session *session)
{
	struct rsm_store *store = r->cfg.store;
	struct rsm_session_wire w;
	struct guid gone;
	uint8_t key[17];

	if (rsm_sessions_note(&r->sessions, session, &gone)) {
		key[0] = 's';
		memcpy(key + 1, gone.b, sizeof(gone.b));
		if (!rsm_stored(r, store->ops->del(store, key, sizeof(key)))) {
			return false;
		}
	}
	rsm_session_pair(session, key, &w);
	return rsm_stored(r, store->ops->put(store, key, sizeof(key), &w, sizeof(w)));
}

/* What the entry does. Returns false if we halted. */
static bool apply_effect(struct rsm *r, const struct rsm_entry *e, struct rsm_result *result)
{
	struct apply_sink state = {.r = r};
	const struct rsm_sink sink = {.put = sink_put, .del = sink_del, .arg = &state};
	le32 word = {{0}};

	if (e->len >= sizeof(word)) {
		memcpy(&word, e->payload, sizeof(word));
	}
	switch (e->type) {
	case RSM_COMMAND:
		if (r->cfg.machine->apply(r->cfg.machine->arg, e, &sink, result) != 0) {
			rsm_halt(r, "out of memory while applying");
			return false;
		}
		return rsm_stored(r, state.err);
	case RSM_NEWVIEW:
		r->cfg.machine->newview(r->cfg.machine->arg, e->index, e->epoch,
		                        (const struct rsm_newview_wire *)e->payload,
		                        e->len / (uint32_t)sizeof(struct rsm_newview_wire));
		return true;
	case RSM_LEVEL:
		if (le32_get(word) > r->cfg.level_max) { /* raised while a newer program ran here */
			rsm_halt(r, "this version is too old for the cluster: update this node");
			return false;
		}
		r->level = le32_get(word);
		return true;
	case RSM_REFUSED:
		result->status = (int32_t)le32_get(word);
		return true;
	case RSM_NOP:
	case RSM_CONFIG:
	case RSM_TYPE_END:
		break;
	}
	return true;
}

static bool apply_one(struct rsm *r, const struct rsm_entry *e)
{
	const struct rsm_session *known = rsm_sessions_find(&r->sessions, &e->session);
	struct rsm_result result = {.index = e->index};

	if (e->type != RSM_NEWVIEW && known != NULL && e->seq <= known->seq) {
		if (e->seq == known->seq) {
			rsm_slots_done(r, &e->session, e->seq, &known->result);
		}
		rsm_compare_applied(r, e, &known->result);
		return true; /* again: it was done */
	}
	if (!apply_effect(r, e, &result)) {
		return false;
	}
	rsm_compare_applied(r, e, &result);
	if (e->type != RSM_NEWVIEW) {
		const struct rsm_session session = {
			.id = e->session, .seq = e->seq, .result = result};

		if (!apply_note(r, &session)) {
			return false;
		}
		rsm_slots_done(r, &e->session, e->seq, &result);
	}
	return true;
}

/* The first entry of the epoch is applied, by itself or as part of a fetched state. */
void rsm_log_active(struct rsm *r)
{
	if (r->state == RSM_STARTING && r->applied.epoch == r->epoch &&
	    r->applied.index >= r->newview_index) {
		r->state = RSM_ACTIVE;
		rsm_slots_resend(r);
		r->cfg.io->changed(r->cfg.io->arg);
	}
}

static bool apply_next(struct rsm *r)
{
	struct rsm_store *store = r->cfg.store;
	struct rsm_entry e;
	struct rsm_pos pos;
	uint64_t index = r->applied.index + 1;

	if (!rsm_stored(r, store->ops->read(store, index, &e, r->payload)) ||
	    !rsm_stored(r, store->ops->pos(store, index, &pos)) || !apply_one(r, &e)) {
		return false;
	}
	r->applied = pos;
	if (!r->dirty_state) {
		r->dirty_state = true;
		r->dirty_since_ns = r->now_ns;
	}
	rsm_log_active(r);
	return true;
}

/* Is @index of this epoch acknowledged by a majority? */
static bool log_majority(const struct rsm *r, uint64_t index)
{
	uint32_t votes = 0;
	bool all = true;

	for (uint32_t i = 0; i < r->ack_count; i++) {
		votes += r->acks[i].index >= index ? r->acks[i].votes : 0;
		all = all && (r->acks[i].votes == 0 || r->acks[i].index >= index);
	}
	if (view_strict(&r->view) && !all) { /* the witness and people keep no entries */
		return false;
	}
	if (r->view.forced) {
		return votes != 0;
	}
	votes += r->view.witness ? view_config_witness(&r->config) : 0;
	return votes * 2 > view_config_total(&r->config);
}

void rsm_log_commit(struct rsm *r)
{
	if (r->epoch == 0 || !r->matched || r->replacing || r->state == RSM_HALTED) {
		return;
	}
	/* Only an index somebody acknowledged can become the new one. */
	for (uint32_t i = 0; i < r->ack_count; i++) {
		uint64_t index =
			r->acks[i].index < r->last.index ? r->acks[i].index : r->last.index;

		if (index >= r->newview_index && index > r->commit && log_majority(r, index)) {
			r->commit = index;
		}
	}
	while (r->applied.index < r->commit && r->applied.index < r->last.index) {
		if (!apply_next(r)) {
			return;
		}
	}
}
