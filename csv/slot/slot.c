/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "csv/slot/csv_slot.h"

/* A length that somebody's slot claims is believed up to here, so that a damaged one cannot hold
 * up a failover for ever; no timing_init() accepts more. */
#define LEASE_MAX_MS (600u * 1000u)
#define LATE_ROUNDS 3u

uint64_t csv_slot_block(uint32_t node)
{
	CHECK(node < CSV_NODES_MAX);
	return CSV_LIVENESS_AT + node;
}

uint64_t csv_slot_verdict_block(uint32_t node)
{
	CHECK(node < CSV_NODES_MAX);
	return CSV_VERDICT_AT + node;
}

uint64_t csv_slot_mail_block(uint32_t node)
{
	CHECK(node < CSV_NODES_MAX);
	return CSV_MAILBOX_AT + node;
}

int csv_slot_init(struct csv_slot *s, const struct csv_slot_cfg *cfg, struct errbuf *eb)
{
	uint32_t nodes = cfg->nodes == 0 ? CSV_NODES_MAX : cfg->nodes;

	if (nodes > CSV_NODES_MAX || cfg->node >= nodes) {
		return errbuf_set(eb, -EINVAL, "slot %u of %u: there are %u", cfg->node, nodes,
		                  CSV_NODES_MAX);
	}
	if (cfg->incarnation == 0 || cfg->timing.slot_ns == 0) {
		return errbuf_set(eb, -EINVAL, "slot %u: no incarnation, or no timing", cfg->node);
	}
	*s = (struct csv_slot){.cfg = *cfg, .state = CSV_SLOT_JOINING};
	s->cfg.nodes = nodes;
	lease_init(&s->lease);
	return 0;
}

static uint32_t fence(struct csv_slot *s, enum csv_slot_reason reason)
{
	if (s->state == CSV_SLOT_FENCED) {
		return 0;
	}
	s->state = CSV_SLOT_FENCED;
	s->reason = reason;
	lease_drop(&s->lease);
	return CSV_SLOT_DID_FENCE;
}

static uint32_t look_at_clock(struct csv_slot *s, uint64_t now_ns)
{
	if (s->state != CSV_SLOT_HELD || !s->lease.held ||
	    lease_rung(&s->lease, &s->cfg.timing, now_ns) != LEASE_OVER) {
		return 0;
	}
	s->state = CSV_SLOT_LAPSED;
	lease_drop(&s->lease);
	return CSV_SLOT_DID_LAPSE;
}

uint32_t csv_slot_check(struct csv_slot *s, uint64_t now_ns)
{
	return look_at_clock(s, now_ns);
}

static void encode(const struct csv_slot *s, enum csv_node_state state, uint64_t seq,
                   uint64_t now_ns, void *buf)
{
	struct csv_liveness slot = {
		.term = s->term,
		.seq = seq,
		.node = s->cfg.node_id,
		.incarnation = s->cfg.incarnation,
		.epoch = s->epoch,
		.boottime_ms = now_ns / 1000000u,
		.pr_key = s->pr_key,
		.path_mask = s->path_mask,
		.lease_ms = s->cfg.timing.cfg.lease_ms,
		.state = state,
	};

	memcpy(slot.name, s->cfg.name, sizeof(slot.name));
	slot.name[sizeof(slot.name) - 1] = '\0';
	csv_liveness_encode(&slot, &s->cfg.volume, s->cfg.node, buf);
}

bool csv_slot_begin(struct csv_slot *s, uint64_t now_ns, void *buf, uint32_t *did)
{
	*did = look_at_clock(s, now_ns);
	s->written_seq = 0;
	if (s->state != CSV_SLOT_HELD) {
		return false;
	}
	s->written_seq = lease_send(&s->lease, &s->cfg.timing, now_ns);
	encode(s, CSV_NODE_IN_USE, s->written_seq, now_ns, buf);
	return true;
}

/* ---- the verdict and the mailbox ---- */

/* Returns true if the verdict was read and does not end this run. */
static bool judge_verdict(struct csv_slot *s, const struct csv_slot_round *round, uint32_t *did)
{
	struct csv_verdict v = {0};
	int err = round->verdict_err;

	if (err == 0) {
		err = csv_verdict_decode(round->verdict, &s->cfg.volume, s->cfg.node, &v, NULL);
	}
	if (err != 0 && err != -ENOENT) {
		return false; /* also a sentence that is being written */
	}
	if (v.fenced && v.incarnation >= s->cfg.incarnation) {
		s->by_node = v.by_node;
		*did |= fence(s, v.incarnation == s->cfg.incarnation ? CSV_SLOT_SENTENCED
		                                                     : CSV_SLOT_SUPERSEDED);
		return false;
	}
	if (!s->verdict_known) {
		s->verdict_known = true;
		s->verdict_fenced = v.fenced;
		s->verdict_incarnation = v.incarnation;
		s->verdict_seq = v.seq;
		return true;
	}
	/* A sentence on an earlier run that comes now, from a leader of the past: it may have
	 * replaced one on this run, and who wrote that counts on our having read it. */
	if (v.fenced && (!s->verdict_fenced || v.incarnation != s->verdict_incarnation ||
	                 v.seq != s->verdict_seq)) {
		s->by_node = v.by_node;
		*did |= fence(s, CSV_SLOT_SENTENCED);
		return false;
	}
	return true;
}

static uint32_t judge_mail(struct csv_slot *s, const struct csv_slot_round *round)
{
	struct csv_mailbox mail;

	if (round->mail_err != 0 ||
	    csv_mailbox_decode(round->mail, &s->cfg.volume, s->cfg.node, &mail, NULL) != 0) {
		return 0;
	}
	if (mail.incarnation != s->cfg.incarnation || mail.command == CSV_COMMAND_NONE ||
	    mail.seq == s->mail_seq) {
		return 0;
	}
	s->mail = mail;
	s->mail_seq = mail.seq;
	return CSV_SLOT_DID_MAIL;
}

/* ---- our own slot ---- */

static const uint8_t *slot_at(const struct csv_slot_round *round, uint32_t node)
{
	return (const uint8_t *)round->slots + (size_t)node * CSV_BLOCK_BYTES;
}

/* How long what is in our slot has to stand still before it is ours. */
static uint64_t join_wait_ns(const struct csv_slot *s, const struct csv_liveness *is, int err)
{
	const struct timing *t = &s->cfg.timing;
	uint32_t lease_ms = t->cfg.lease_ms;

	if (err == 0 && guid_equal(&is->node, &s->cfg.node_id)) {
		/* An earlier run; the cluster let us in because it is gone. Unless it is a copy of
		 * this machine that goes on. */
		return 3 * t->slot_ns;
	}
	if (err == 0 && is->lease_ms > lease_ms) {
		lease_ms = is->lease_ms < LEASE_MAX_MS ? is->lease_ms : LEASE_MAX_MS;
	}
	return timing_expire_ns(t, lease_ms) + t->cfg.inflight_ms * 1000000ull;
}

static uint32_t join(struct csv_slot *s, const struct csv_slot_round *round, uint64_t now_ns)
{
	struct csv_liveness is = {0};
	int err = csv_liveness_decode(slot_at(round, s->cfg.node), &s->cfg.volume, s->cfg.node, &is,
	                              NULL);

	if (err == -ENOENT || (err == 0 && is.state == CSV_NODE_FREE)) {
		s->state = CSV_SLOT_HELD;
		return CSV_SLOT_DID_JOIN;
	}
	if (err == 0 && guid_equal(&is.node, &s->cfg.node_id) &&
	    is.incarnation >= s->cfg.incarnation) {
		return fence(s, CSV_SLOT_SUPERSEDED);
	}
	if (s->join_seen_ns == 0) {
		s->join_seen_ns = now_ns;
		s->join_seq = is.seq;
		s->join_incarnation = is.incarnation;
	} else if (is.seq != s->join_seq || is.incarnation != s->join_incarnation) {
		return fence(s, CSV_SLOT_CLAIMED);
	} else if (now_ns - s->join_seen_ns >= join_wait_ns(s, &is, err)) {
		s->state = CSV_SLOT_HELD;
		return CSV_SLOT_DID_JOIN;
	}
	return 0;
}

/* Returns true if our slot holds what we wrote in this round. */
static bool judge_own(struct csv_slot *s, const struct csv_slot_round *round, uint32_t *did)
{
	struct csv_liveness is;

	if (csv_liveness_decode(slot_at(round, s->cfg.node), &s->cfg.volume, s->cfg.node, &is,
	                        NULL) != 0) {
		return false;
	}
	if (is.state == CSV_NODE_FREE && s->lease.seq <= 1) {
		return false; /* what was there before our first write */
	}
	if (!guid_equal(&is.node, &s->cfg.node_id)) {
		/* Before our first write came through, what we joined over may still be there. */
		if (s->lease.held || is.seq != s->join_seq) {
			*did |= fence(s, CSV_SLOT_CLAIMED);
		}
		return false;
	}
	if (is.incarnation > s->cfg.incarnation) {
		*did |= fence(s, CSV_SLOT_SUPERSEDED);
		return false;
	}
	if (is.incarnation < s->cfg.incarnation) {
		/* A late write of an earlier run, once; somebody who lives, if it goes on. */
		if (s->stranger_seq != 0 && s->stranger_seq != is.seq) {
			*did |= fence(s, CSV_SLOT_CLAIMED);
		}
		s->stranger_seq = is.seq;
		return false;
	}
	if (is.seq > s->lease.seq) {
		*did |= fence(s, CSV_SLOT_CLAIMED); /* a copy that calls itself the same */
		return false;
	}
	return is.seq == s->written_seq;
}

/* ---- the others ---- */

static uint32_t believed_ms(const struct csv_slot *s, const struct csv_liveness *is)
{
	uint32_t own = s->cfg.timing.cfg.lease_ms;
	uint32_t said = is->lease_ms < LEASE_MAX_MS ? is->lease_ms : LEASE_MAX_MS;

	return said > own ? said : own;
}

static enum csv_slot_life judge_peer(const struct csv_slot *s, struct csv_slot_peer *p,
                                     const struct csv_liveness *is, uint64_t read_ns,
                                     uint64_t now_ns)
{
	const struct timing *t = &s->cfg.timing;
	bool other = !p->known || !guid_equal(&p->is.node, &is->node) ||
	             p->is.incarnation != is->incarnation || p->is.state == CSV_NODE_FREE;
	bool first = !p->known;

	if (other) {
		lease_watch_start(&p->watch, t, believed_ms(s, is), now_ns);
		p->watch.seq = is->seq;
		p->changed_ns = now_ns;
		return first ? CSV_SLOT_UNKNOWN : CSV_SLOT_ALIVE;
	}
	if (is->seq > p->watch.seq) {
		lease_watch_seen(&p->watch, t, is->seq, believed_ms(s, is), now_ns);
		p->changed_ns = now_ns;
		return CSV_SLOT_ALIVE;
	}
	if (lease_watch_over(&p->watch, read_ns)) {
		return CSV_SLOT_STALE;
	}
	if (p->life == CSV_SLOT_ALIVE && now_ns - p->changed_ns > LATE_ROUNDS * t->slot_ns) {
		return CSV_SLOT_LATE;
	}
	return p->life;
}

static void look_at_peer(struct csv_slot *s, uint32_t node, const struct csv_slot_round *round,
                         uint64_t now_ns)
{
	struct csv_slot_peer *p = &s->peers[node];
	enum csv_slot_life life = CSV_SLOT_EMPTY;
	struct csv_liveness is = {0};
	int err = csv_liveness_decode(slot_at(round, node), &s->cfg.volume, node, &is, NULL);

	p->readable = err == 0 || err == -ENOENT;
	if (!p->readable) {
		return;
	}
	if (err == 0 && is.state != CSV_NODE_FREE) {
		life = judge_peer(s, p, &is, round->read_ns, now_ns);
	}
	p->known = true;
	p->is = is;
	p->read_ns = round->read_ns;
	if (life != p->life) {
		p->life = life;
		s->changed |= 1ull << node;
	}
}

static uint32_t look_at_peers(struct csv_slot *s, const struct csv_slot_round *round,
                              uint64_t now_ns)
{
	s->changed = 0;
	for (uint32_t node = 0; node < s->cfg.nodes; node++) {
		if (node != s->cfg.node && round->slots_err == 0) {
			look_at_peer(s, node, round, now_ns);
		} else {
			s->peers[node].readable = false;
		}
	}
	return s->changed != 0 ? CSV_SLOT_DID_PEERS : 0;
}

uint32_t csv_slot_end(struct csv_slot *s, const struct csv_slot_round *round, uint64_t now_ns)
{
	uint32_t did = look_at_peers(s, round, now_ns);

	if (s->state == CSV_SLOT_FENCED || s->state == CSV_SLOT_LEFT) {
		return did;
	}

	bool clean = judge_verdict(s, round, &did);

	did |= judge_mail(s, round);
	if (s->state == CSV_SLOT_FENCED || round->slots_err != 0) {
		return did;
	}
	if (s->state == CSV_SLOT_JOINING) {
		return clean ? did | join(s, round, now_ns) : did;
	}

	bool ours = judge_own(s, round, &did);

	if (clean && ours && s->written_seq != 0 && round->write_err == 0 &&
	    lease_confirm(&s->lease, s->written_seq) == 0) {
		did |= CSV_SLOT_DID_RENEW;
	}
	return did | look_at_clock(s, now_ns);
}

void csv_slot_readmit(struct csv_slot *s)
{
	if (s->state == CSV_SLOT_LAPSED) {
		s->state = CSV_SLOT_HELD;
	}
}

void csv_slot_fence(struct csv_slot *s, enum csv_slot_reason reason)
{
	(void)fence(s, reason);
}

bool csv_slot_leave(struct csv_slot *s, uint64_t now_ns, void *buf)
{
	bool write = s->state == CSV_SLOT_HELD;

	if (write) {
		encode(s, CSV_NODE_FREE, lease_send(&s->lease, &s->cfg.timing, now_ns), now_ns,
		       buf);
	}
	if (s->state != CSV_SLOT_FENCED) {
		s->state = CSV_SLOT_LEFT;
	}
	lease_drop(&s->lease);
	return write;
}

enum lease_rung csv_slot_rung(const struct csv_slot *s, uint64_t now_ns)
{
	return s->state == CSV_SLOT_HELD ? lease_rung(&s->lease, &s->cfg.timing, now_ns)
	                                 : LEASE_OVER;
}

uint64_t csv_slot_until_ns(const struct csv_slot *s)
{
	const struct timing *t = &s->cfg.timing;

	if (s->state != CSV_SLOT_HELD || !s->lease.held) {
		return 0;
	}

	/* A lease that was shorter when it was renewed ends earlier, and so do its rungs. */
	uint64_t short_ns = t->lease_ns > s->lease.lease_ns ? t->lease_ns - s->lease.lease_ns : 0;

	return s->lease.since_ns + (t->pause_ns > short_ns ? t->pause_ns - short_ns : 0);
}

/* ---- what is written about others ---- */

int csv_slot_sentence(const struct csv_slot *s, uint32_t about, uint64_t incarnation,
                      uint64_t wall_ns, const void *old, void *out)
{
	struct csv_verdict v = {0};

	CHECK(about < CSV_NODES_MAX);
	if (old != NULL && csv_verdict_decode(old, &s->cfg.volume, about, &v, NULL) == 0 &&
	    v.fenced && v.incarnation >= incarnation) {
		return v.incarnation == incarnation ? -EALREADY : -ESTALE;
	}
	v = (struct csv_verdict){
		.term = s->term,
		.seq = v.seq + 1,
		.incarnation = incarnation,
		.epoch = s->epoch,
		.at_ns = wall_ns,
		.fenced = true,
		.by_node = s->cfg.node,
	};
	csv_verdict_encode(&v, &s->cfg.volume, about, out);
	return 0;
}

int csv_slot_message(const struct csv_slot *s, uint32_t to, uint64_t incarnation,
                     enum csv_command command, uint64_t argument, const void *old, void *out)
{
	struct csv_mailbox mail = {0};

	CHECK(to < CSV_NODES_MAX);
	if (old != NULL && csv_mailbox_decode(old, &s->cfg.volume, to, &mail, NULL) != 0) {
		mail.seq = 0;
	}
	mail = (struct csv_mailbox){
		.term = s->term,
		.seq = mail.seq + 1,
		.incarnation = incarnation,
		.argument = argument,
		.command = command,
		.from_node = s->cfg.node,
	};
	csv_mailbox_encode(&mail, &s->cfg.volume, to, out);
	return 0;
}

/* ---- names ---- */

const char *csv_slot_state_name(enum csv_slot_state state)
{
	static const char *const names[] = {"joining", "held", "lapsed", "fenced", "left"};

	return (uint32_t)state < ARRAY_LEN(names) ? names[state] : "?";
}

const char *csv_slot_reason_name(enum csv_slot_reason reason)
{
	static const char *const names[] = {"none", "sentenced", "claimed", "superseded",
	                                    "its key is gone"};

	return (uint32_t)reason < ARRAY_LEN(names) ? names[reason] : "?";
}

const char *csv_slot_life_name(enum csv_slot_life life)
{
	static const char *const names[] = {"unknown", "empty", "alive", "late", "stale"};

	return (uint32_t)life < ARRAY_LEN(names) ? names[life] : "?";
}
