/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Did all do the same? The acknowledgements compare logs; that the logs are equal does not say that
 * the states are. Each member chains a hash over what each entry of the epoch did: its result and
 * the pairs it changed. Members tell each other where theirs stands; who is alone with it halts.
 *
 * The chain begins with the first entry of the epoch, which all members apply: so it needs nothing
 * on the disk and no agreement about the past. A member that is given a whole state in the middle
 * of an epoch takes part from the next one on.
 */

#include "base/log.h"
#include "cluster/rsm/rsm_int.h"

#define COMPARE_PAUSE_NS 3000000000ull

void rsm_compare_start(struct rsm *r)
{
	r->compare.whole = false;
	r->compare.hash = 0;
	r->compare.said = 0;
	for (uint32_t i = 0; i < r->ack_count; i++) {
		r->acks[i].effects_index = 0;
		r->acks[i].same = RSM_SAME_UNKNOWN;
	}
}

void rsm_compare_pair(struct rsm *r, const struct rsm_pair *pair)
{
	uint64_t hash = rsm_hash_bytes(r->compare.hash, pair->key, pair->key_len);

	r->compare.hash = rsm_hash_bytes(hash, pair->value, pair->value_len);
}

void rsm_compare_applied(struct rsm *r, const struct rsm_entry *e, const struct rsm_result *result)
{
	struct rsm_session_wire w = {.index = le64_make(e->index),
	                             .status = le32_make((uint32_t)result->status),
	                             .detail = le32_make(result->detail)};

	if (r->epoch != 0 && e->index == r->newview_index && e->epoch == r->epoch) {
		r->compare.whole = true;
		r->compare.hash = 0;
	}
	r->compare.hash = rsm_hash_bytes(r->compare.hash, &w, sizeof(w));
	r->compare.ring[e->index % RSM_EFFECTS] = r->compare.hash;
}

static void compare_one(struct rsm *r, struct rsm_ack *a)
{
	if (!r->compare.whole || a->effects_index < r->newview_index ||
	    a->effects_index > r->applied.index ||
	    r->applied.index - a->effects_index >= RSM_EFFECTS) {
		return; /* not comparable: not yet, or not any more */
	}

	bool same = r->compare.ring[a->effects_index % RSM_EFFECTS] == a->effects_hash;

	if (!same && a->same != RSM_DIFFERENT) {
		log_err("rsm", "entries did something else there than here node=%u index=%llu",
		        a->nodeid, (unsigned long long)a->effects_index);
	}
	a->same = same ? RSM_SAME : RSM_DIFFERENT;
	a->effects_index = 0;
}

/* Whoever is with the majority goes on; without one (two nodes) both do, and say it. */
static void compare_all(struct rsm *r)
{
	uint32_t votes = 0;

	for (uint32_t i = 0; i < r->ack_count; i++) {
		compare_one(r, &r->acks[i]);
		votes += r->acks[i].same == RSM_DIFFERENT ? r->acks[i].votes : 0;
	}
	if (votes * 2 > view_config_total(&r->config)) {
		rsm_halt(r, "entries did something else here than at the majority");
	}
}

void rsm_compare_on_effects(struct rsm *r, uint32_t from, const struct rsm_msg *m)
{
	if (r->epoch == 0 || m->epoch != r->epoch || from == r->cfg.nodeid) {
		return;
	}
	for (uint32_t i = 0; i < r->ack_count; i++) {
		if (r->acks[i].nodeid == from) {
			r->acks[i].effects_index = m->index;
			r->acks[i].effects_hash = m->hash;
		}
	}
	compare_all(r);
}

void rsm_compare_tick(struct rsm *r)
{
	struct {
		uint8_t frame[sizeof(struct frame_wire)];
		struct rsm_effects_wire w;
	} msg = {.w = {.epoch = le64_make(r->epoch),
	               .index = le64_make(r->applied.index),
	               .hash = le64_make(r->compare.hash)}};

	if (r->epoch == 0 || !r->compare.whole || r->ack_count < 2) {
		return;
	}
	if (r->applied.index != r->compare.said &&
	    r->now_ns - r->compare.said_ns >= COMPARE_PAUSE_NS) {
		r->compare.said = r->applied.index;
		r->compare.said_ns = r->now_ns;
		r->cfg.io->multicast(r->cfg.io->arg, &msg,
		                     frame_seal(&msg, FRAME_EFFECTS, sizeof(msg.w)));
	}
	compare_all(r); /* what was said about entries that we had not applied */
}

uint32_t rsm_compare_differs(const struct rsm *r)
{
	for (uint32_t i = 0; r->epoch != 0 && i < r->ack_count; i++) {
		if (r->acks[i].same == RSM_DIFFERENT) {
			return r->acks[i].nodeid;
		}
	}
	return 0;
}
