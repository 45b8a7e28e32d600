/* SPDX-License-Identifier: Apache-2.0 */

/* What this node wants written: slots, from the proposal to its outcome. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "cluster/rsm/rsm_int.h"

#define SUSPECT_PAUSE 5u /* times suspect_ns: between two doubts of one member */

static void slot_free(struct rsm_slot *slot)
{
	free(slot->payload);
	slot->payload = NULL;
	slot->used = false;
}

/* Once: who asked hears it. */
static void slot_end(struct rsm_slot *slot, enum rsm_outcome outcome,
                     const struct rsm_result *result)
{
	rsm_done_fn fn = slot->fn;
	void *arg = slot->arg;

	slot_free(slot);
	fn(arg, outcome, result);
}

static void slot_send(struct rsm *r, struct rsm_slot *slot)
{
	struct rsm_entry entry = {.type = slot->type,
	                          .session = slot->session,
	                          .seq = slot->seq,
	                          .time_ns = slot->time_ns,
	                          .origin = r->cfg.nodeid,
	                          .payload = slot->payload,
	                          .len = slot->len};
	struct rsm_propose_wire w = {.epoch = le64_make(r->epoch)};
	uint8_t *body = r->scratch + sizeof(struct frame_wire);

	slot->seen = false;
	slot->sent_ns = r->now_ns;
	slot->sent_epoch = r->epoch;
	if (r->leader == r->cfg.nodeid) {
		rsm_on_propose(r, &(struct rsm_msg){.epoch = r->epoch, .entry = entry});
		return;
	}
	memcpy(body, &w, sizeof(w));

	size_t len = sizeof(w) + rsm_entry_put(&entry, body + sizeof(w));

	r->cfg.io->multicast(r->cfg.io->arg, r->scratch,
	                     frame_seal(r->scratch, FRAME_PROPOSE, len));
}

void rsm_slots_done(struct rsm *r, const struct guid *session, uint64_t seq,
                    const struct rsm_result *result)
{
	for (uint32_t i = 0; i < RSM_SLOTS; i++) {
		struct rsm_slot *slot = &r->slots[i];

		if (slot->used && slot->seq == seq && guid_equal(&slot->session, session)) {
			slot_end(slot, RSM_DONE, result);
			return;
		}
	}
}

void rsm_slots_seen(struct rsm *r, const struct rsm_entry *entry)
{
	for (uint32_t i = 0; i < RSM_SLOTS; i++) {
		struct rsm_slot *slot = &r->slots[i];

		if (slot->used && slot->seq == entry->seq &&
		    guid_equal(&slot->session, &entry->session)) {
			slot->seen = true;
		}
	}
}

/* A new epoch is active: what came before is decided. What is not applied was never committed. */
void rsm_slots_resend(struct rsm *r)
{
	for (uint32_t i = 0; i < RSM_SLOTS; i++) {
		struct rsm_slot *slot = &r->slots[i];

		if (!slot->used || slot->sent_epoch == r->epoch) {
			continue;
		}

		const struct rsm_session *known = rsm_sessions_find(&r->sessions, &slot->session);

		if (known != NULL && known->seq == slot->seq) {
			rsm_slots_done(r, &slot->session, slot->seq, &known->result);
		} else {
			slot_send(r, slot);
		}
	}
}

int rsm_propose(struct rsm *r, const struct rsm_request *request)
{
	struct rsm_slot *slot = NULL;
	uint32_t at = 0;

	if (r->state == RSM_HALTED) {
		return -EIO;
	}
	if (request->type != RSM_COMMAND && request->type != RSM_NOP &&
	    request->type != RSM_CONFIG && request->type != RSM_LEVEL) {
		return -EINVAL;
	}
	if (request->len > RSM_PAYLOAD_MAX) {
		return -E2BIG;
	}
	if (r->state != RSM_ACTIVE) {
		return r->view.state == VIEW_MINORITY || r->view.state == VIEW_DOWN ? -ENOTCONN
		                                                                    : -EAGAIN;
	}
	for (; at < RSM_SLOTS && slot == NULL; at++) {
		slot = r->slots[at].used ? NULL : &r->slots[at];
	}
	if (slot == NULL) {
		return -EAGAIN;
	}
	slot->payload = gw_malloc(request->len == 0 ? 1 : request->len);
	if (slot->payload == NULL) {
		return -ENOMEM;
	}
	if (request->len != 0) {
		memcpy(slot->payload, request->payload, request->len);
	}
	slot->used = true;
	slot->type = request->type;
	slot->len = (uint32_t)request->len;
	slot->time_ns = r->wall_ns;
	slot->deadline_ns = request->deadline_ns;
	slot->fn = request->fn;
	slot->arg = request->arg;
	if (guid_is_nil(&request->session)) {
		slot->session = r->cfg.incarnation;
		slot->session.b[14] = (uint8_t)at;
		slot->seq = ++slot->own_seq;
	} else {
		slot->session = request->session;
		slot->seq = request->seq;
	}
	slot_send(r, slot);
	return 0;
}

void rsm_slots_cancel(struct rsm *r)
{
	r->state = RSM_HALTED; /* who is answered may not ask again */
	for (uint32_t i = 0; i < RSM_SLOTS; i++) {
		if (r->slots[i].used) {
			slot_end(&r->slots[i], RSM_UNKNOWN,
			         &(struct rsm_result){.status = -ECANCELED});
		}
	}
}

void rsm_slots_tick(struct rsm *r)
{
	bool suspect = false;

	for (uint32_t i = 0; i < RSM_SLOTS; i++) {
		struct rsm_slot *slot = &r->slots[i];

		if (!slot->used) {
			continue;
		}
		if (r->now_ns >= slot->deadline_ns) {
			slot_end(slot, RSM_UNKNOWN, &(struct rsm_result){0});
			continue;
		}
		suspect |= r->state == RSM_ACTIVE && slot->sent_epoch == r->epoch && !slot->seen &&
		           r->now_ns - slot->sent_ns >= r->cfg.suspect_ns;
	}
	if (suspect && (r->suspected_ns == 0 ||
	                r->now_ns - r->suspected_ns >= SUSPECT_PAUSE * r->cfg.suspect_ns)) {
		struct {
			uint8_t frame[sizeof(struct frame_wire)];
			struct rsm_suspect_wire w;
		} msg = {.w = {.epoch = le64_make(r->epoch)}};

		r->suspected_ns = r->now_ns;
		r->cfg.io->multicast(r->cfg.io->arg, &msg,
		                     frame_seal(&msg, FRAME_SUSPECT, sizeof(msg.w)));
	}
}
