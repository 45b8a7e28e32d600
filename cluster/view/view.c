/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view/view.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "cluster/view/frame.h"
#include "cluster/view/view_wire.h"

const char *view_state_name(enum view_state state)
{
	switch (state) {
	case VIEW_DOWN:
		return "down";
	case VIEW_JOINING:
		return "joining";
	case VIEW_HELLO:
		return "hello";
	case VIEW_PROMISE:
		return "promise";
	case VIEW_PRIMARY:
		return "primary";
	case VIEW_MINORITY:
		return "minority";
	}
	return "?";
}

void view_init(struct view *v, const struct view_cfg *cfg)
{
	*v = (struct view){.cfg = *cfg};
}

static struct view_member *view_member(struct view *v, uint32_t nodeid)
{
	for (uint32_t i = 0; i < v->count; i++) {
		if (v->members[i].peer.nodeid == nodeid) {
			return &v->members[i];
		}
	}
	return NULL;
}

const struct view_member *view_find(const struct view *v, uint32_t nodeid)
{
	for (uint32_t i = 0; i < v->count; i++) {
		if (v->members[i].peer.nodeid == nodeid) {
			return &v->members[i];
		}
	}
	return NULL;
}

/* Do the group, the ring and the quorum speak of the same? */
static bool view_agreed(const struct view *v)
{
	if (v->ring.seq == 0 || v->quorum_seq != v->ring.seq ||
	    view_find(v, v->cfg.nodeid) == NULL) {
		return false;
	}
	for (uint32_t i = 0; i < v->count; i++) {
		bool in_ring = false;

		for (uint32_t k = 0; k < v->ring_count; k++) {
			in_ring |= v->ring_members[k] == v->members[i].peer.nodeid;
		}
		if (!in_ring) {
			return false;
		}
	}
	return true;
}

static uint64_t view_fnv(uint64_t hash, const void *buf, size_t len)
{
	const uint8_t *b = buf;

	for (size_t i = 0; i < len; i++) {
		hash = (hash ^ b[i]) * 1099511628211ull;
	}
	return hash;
}

uint64_t view_key(const struct view *v)
{
	le64 ring[2] = {le64_make(v->ring.seq), le64_make(v->ring.nodeid)};
	uint64_t key = view_fnv(14695981039346656037ull, ring, sizeof(ring));

	for (uint32_t i = 0; i < v->count; i++) {
		le32 peer[2] = {le32_make(v->members[i].peer.nodeid),
		                le32_make(v->members[i].peer.pid)};

		key = view_fnv(key, peer, sizeof(peer));
	}
	return key | 1u;
}

bool view_strict(const struct view *v)
{
	return v->primary && (v->witness || v->forced);
}

/* Our hello for the round, if we may say it already. */
static void view_say(struct view *v)
{
	struct view_log log = {0};
	uint8_t buf[VIEW_SEND_MAX];

	if (v->state != VIEW_JOINING || !view_agreed(v) || !v->cfg.ops->log(v->cfg.arg, &log)) {
		return;
	}
	if (v->promised < log.promised) {
		v->promised = log.promised;
	}

	uint64_t key = view_key(v);
	uint32_t flags = (v->quorate ? VIEW_FLAG_QUORATE : 0u) |
	                 (log.incomplete ? VIEW_FLAG_INCOMPLETE : 0u) |
	                 (v->witness_key == key ? VIEW_FLAG_WITNESS : 0u) |
	                 (v->forced_key == key ? VIEW_FLAG_FORCED : 0u);
	struct view_hello hello = {
		.ring = v->ring,
		.round = v->round,
		.cluster = v->cfg.cluster,
		.uuid = v->cfg.uuid,
		.incarnation = v->cfg.incarnation,
		.promised = v->promised,
		.last_epoch = log.last_epoch,
		.last_index = log.last_index,
		.last_hash = log.last_hash,
		.commit_index = log.commit_index,
		.config_version = v->config_version,
		.level = log.level,
		.level_max = v->cfg.level_max,
		.flags = (uint16_t)flags,
		.config = *log.config,
	};

	v->state = VIEW_HELLO;
	v->round_sent = v->round;
	v->cfg.ops->send(v->cfg.arg, buf, view_hello_encode(&hello, buf));
}

/* Leave what is, begin @round. Hellos of that round that are here already stay. */
static void view_start(struct view *v, uint32_t round)
{
	bool over = v->state == VIEW_PRIMARY || v->state == VIEW_MINORITY;

	for (uint32_t i = 0; i < v->count; i++) {
		struct view_member *m = &v->members[i];

		m->promised = false;
		m->said = m->said && m->hello.round == round;
	}
	v->round = round;
	v->since_ns = v->now_ns;
	v->primary = false;
	v->state = VIEW_JOINING;
	if (over) {
		v->cfg.ops->lost(v->cfg.arg);
	}
	view_say(v);
}

/* The next round of our own making. */
static void view_next(struct view *v)
{
	for (uint32_t i = 0; i < v->count; i++) {
		v->members[i].said = false;
		v->members[i].skipped = false;
	}
	view_start(v, v->round + 1);
}

void view_on_group(struct view *v, const struct view_peer *peers, uint32_t count)
{
	CHECK(count <= VIEW_NODES_MAX);
	memset(v->members, 0, sizeof(v->members));
	v->witness = false;
	v->count = count;
	for (uint32_t i = 0; i < count; i++) { /* by nodeid, whatever the order they come in */
		uint32_t at = i;

		while (at > 0 && v->members[at - 1].peer.nodeid > peers[i].nodeid) {
			v->members[at] = v->members[at - 1];
			at--;
		}
		v->members[at] = (struct view_member){.peer = peers[i]};
	}
	view_next(v);
}

void view_on_ring(struct view *v, const struct view_ring *ring, const uint32_t *members,
                  uint32_t count)
{
	CHECK(count <= VIEW_NODES_MAX);
	v->ring = *ring;
	v->witness = false;
	v->ring_count = count;
	if (count != 0) {
		memcpy(v->ring_members, members, count * sizeof(*members));
	}
	view_next(v);
}

void view_on_quorum(struct view *v, uint64_t ring_seq, bool quorate)
{
	bool same = v->quorum_seq == ring_seq && v->quorate == quorate;

	v->quorum_seq = ring_seq;
	v->quorate = quorate;
	if (v->state == VIEW_JOINING) {
		view_say(v);
	} else if (v->state != VIEW_DOWN && !same) {
		view_next(v);
	}
}

void view_on_config(struct view *v, uint64_t config_version)
{
	v->config_version = config_version; /* said with the next hello */
}

void view_on_down(struct view *v)
{
	bool over = v->state == VIEW_PRIMARY || v->state == VIEW_MINORITY;

	v->count = 0;
	v->witness = false;
	v->ring = (struct view_ring){0};
	v->quorum_seq = 0;
	v->quorate = false;
	v->primary = false;
	v->state = VIEW_DOWN;
	if (over) {
		v->cfg.ops->lost(v->cfg.arg);
	}
}

/* ---- forming ---- */

/* FNV-1a over what makes this formation unlike any other. */
static uint64_t view_id_of(const struct view *v)
{
	uint64_t id = 14695981039346656037ull;

	for (uint32_t i = 0; i < v->count; i++) {
		const struct view_member *m = &v->members[i];
		struct {
			le64 numbers[7];
			struct guid incarnation;
		} w = {.numbers = {le64_make(v->ring.seq),
		                   le64_make((uint64_t)v->ring.nodeid << 32 | v->round),
		                   le64_make((uint64_t)m->peer.nodeid << 32 | m->peer.pid),
		                   le64_make(m->hello.promised), le64_make(m->hello.last_index),
		                   le64_make(m->hello.last_hash), le64_make(m->hello.flags)},
		       .incarnation = m->hello.incarnation};
		const uint8_t *b = (const uint8_t *)&w;

		for (size_t k = 0; !m->skipped && k < sizeof(w); k++) {
			id = (id ^ b[k]) * 1099511628211ull;
		}
	}
	return id;
}

static bool view_usable(const struct view *v, const struct view_member *m)
{
	return m->said && !m->skipped && guid_equal(&m->hello.cluster, &v->cfg.cluster);
}

/* The log that all will have: the highest (epoch, index); none has more that could be committed. */
static int view_best(const struct view *v)
{
	int best = -1;

	for (uint32_t i = 0; i < v->count; i++) {
		const struct view_member *m = &v->members[i];

		if (!view_usable(v, m) || (m->hello.flags & VIEW_FLAG_INCOMPLETE) != 0) {
			continue;
		}

		const struct view_hello *b = best < 0 ? NULL : &v->members[best].hello;

		if (b == NULL || m->hello.last_epoch > b->last_epoch ||
		    (m->hello.last_epoch == b->last_epoch && m->hello.last_index > b->last_index)) {
			best = (int)i;
		}
	}
	return best;
}

static bool view_twin(const struct view *v, uint32_t at)
{
	for (uint32_t i = 0; i < v->count; i++) {
		if (i != at && v->members[i].said && !v->members[i].skipped &&
		    guid_equal(&v->members[i].hello.uuid, &v->members[at].hello.uuid)) {
			return true;
		}
	}
	return false;
}

/* Are the votes of the members enough, with what else there is? NULL = yes. */
static const char *view_enough(struct view *v, const struct view_config *config, uint32_t flags)
{
	uint32_t witness = view_config_witness(config);

	if (v->votes * 2 > v->votes_total) {
		return NULL;
	}
	v->half = (v->votes + witness) * 2 > v->votes_total;
	v->witness = v->half && (flags & VIEW_FLAG_WITNESS) != 0;
	v->forced = !v->witness && v->votes != 0 && (flags & VIEW_FLAG_FORCED) != 0;
	if (v->witness) {
		v->votes += witness;
	}
	return v->witness || v->forced ? NULL
	       : v->half               ? "half of the votes, and not the witness's"
	                               : "no majority of the configured votes";
}

/* Count, and say why it is not enough. NULL = primary. */
static const char *view_count(struct view *v)
{
	int best = view_best(v);

	v->votes = 0;
	v->votes_total = 0;
	v->leader = 0;
	v->witness = false;
	v->forced = false;
	v->half = false;
	if (best < 0) {
		return "no member has a complete log";
	}
	v->best = (uint32_t)best;

	const struct view_hello *b = &v->members[best].hello;
	bool quorate = true;
	uint32_t flags = 0;

	v->votes_total = view_config_total(&b->config);
	for (uint32_t i = 0; i < v->count; i++) {
		struct view_member *m = &v->members[i];

		m->votes = 0;
		m->in_sync = false;
		if (!view_usable(v, m)) {
			continue;
		}
		quorate = quorate && (m->hello.flags & VIEW_FLAG_QUORATE) != 0;
		flags |= m->hello.flags;
		if ((m->hello.flags & VIEW_FLAG_INCOMPLETE) != 0 || view_twin(v, i) ||
		    m->hello.level_max < b->level) {
			continue;
		}
		m->in_sync = m->hello.last_epoch == b->last_epoch &&
		             m->hello.last_index == b->last_index &&
		             m->hello.last_hash == b->last_hash;
		m->votes = view_config_votes(&b->config, m->peer.nodeid, &m->hello.uuid);
		v->votes += m->votes;
		if (v->leader == 0 && m->in_sync && m->votes != 0) {
			v->leader = m->peer.nodeid;
		}
	}
	if (v->leader == 0) {
		v->leader = v->members[best].peer.nodeid;
	}

	const char *why = view_enough(v, &b->config, flags);

	return why == NULL && !quorate ? "corosync has no quorum" : why;
}

static void view_complete(struct view *v)
{
	v->state = v->why == NULL ? VIEW_PRIMARY : VIEW_MINORITY;
	v->primary = v->why == NULL;
	v->cfg.ops->formed(v->cfg.arg, v);
}

/* All hellos are here? */
static void view_hellos(struct view *v)
{
	for (uint32_t i = 0; i < v->count; i++) {
		if (!v->members[i].said && !v->members[i].skipped) {
			return;
		}
	}
	v->why = view_count(v);
	v->view_id = view_id_of(v);
	if (v->why != NULL) {
		view_complete(v);
		return;
	}
	v->epoch = 0;
	for (uint32_t i = 0; i < v->count; i++) {
		const struct view_member *m = &v->members[i];

		if (view_usable(v, m)) {
			uint64_t top = m->hello.promised > m->hello.last_epoch
			                       ? m->hello.promised
			                       : m->hello.last_epoch;

			v->epoch = top > v->epoch ? top : v->epoch;
		}
	}
	v->epoch += v->forced ? VIEW_FORCED_STEP : 1;
	if (v->epoch <= v->promised) { /* to another formation, meanwhile */
		view_next(v);
		return;
	}
	v->state = VIEW_PROMISE;
	v->promised = v->epoch;
	v->cfg.ops->promise(v->cfg.arg, v->epoch);
}

void view_promised(struct view *v, uint64_t epoch)
{
	struct view_promise_wire w = {.view_id = le64_make(v->view_id),
	                              .epoch = le64_make(epoch),
	                              .round = le32_make(v->round)};
	uint8_t buf[sizeof(struct frame_wire) + sizeof(w)];

	if (v->state != VIEW_PROMISE || v->epoch != epoch) {
		return;
	}
	memcpy(buf + sizeof(struct frame_wire), &w, sizeof(w));
	v->cfg.ops->send(v->cfg.arg, buf, frame_seal(buf, FRAME_PROMISE, sizeof(w)));
}

void view_on_grant(struct view *v, uint64_t key, bool forced)
{
	uint64_t *kept = forced ? &v->forced_key : &v->witness_key;

	if (v->state == VIEW_DOWN || key != view_key(v) || *kept == key) {
		return;
	}
	*kept = key;
	view_next(v);
}

/* ---- messages ---- */

static int view_on_hello(struct view *v, struct view_member *m, const uint8_t *body, size_t len)
{
	struct view_hello hello;
	int err = view_hello_decode(body, len, &hello);

	if (err != 0) {
		return err;
	}
	if (hello.ring.seq != v->ring.seq || hello.ring.nodeid != v->ring.nodeid ||
	    hello.round < v->round) {
		return 0;
	}
	if (hello.round > v->round) { /* who is skipped there, a message will have said */
		for (uint32_t i = 0; i < v->count; i++) {
			v->members[i].skipped = false;
		}
	}
	m->hello = hello;
	m->said = true;
	m->skipped = false;
	if (hello.round > v->round) {
		view_start(v, hello.round);
	} else if (v->state == VIEW_PRIMARY || v->state == VIEW_MINORITY ||
	           v->state == VIEW_PROMISE) {
		view_next(v); /* it had been skipped */
		return 0;
	}
	if (v->state == VIEW_HELLO) {
		view_hellos(v);
	}
	return 0;
}

static int view_on_promise(struct view *v, struct view_member *m, const uint8_t *body, size_t len)
{
	struct view_promise_wire w;

	if (len != sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, body, sizeof(w));
	if (le32_get(w.reserved) != 0) {
		return -EBADMSG;
	}
	if (v->state != VIEW_PROMISE || le64_get(w.view_id) != v->view_id ||
	    le64_get(w.epoch) != v->epoch || le32_get(w.round) != v->round) {
		return 0;
	}
	m->promised = true;
	for (uint32_t i = 0; i < v->count; i++) {
		if (!v->members[i].promised && view_usable(v, &v->members[i])) {
			return 0;
		}
	}
	view_complete(v);
	return 0;
}

/* Is it still silent, as far as we have heard? All members decide this at the same message. */
static bool view_silent(const struct view *v, const struct view_member *m)
{
	return !m->skipped && (!m->said || (v->state == VIEW_PROMISE && !m->promised));
}

static int view_on_skip(struct view *v, const uint8_t *body, size_t len)
{
	struct view_skip_wire w;
	bool skip[VIEW_NODES_MAX] = {false};
	bool any = false;

	if (len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, body, sizeof(w));

	uint32_t count = le32_get(w.count);

	if (le32_get(w.reserved) != 0 || count == 0 || count > VIEW_NODES_MAX ||
	    len != sizeof(w) + count * sizeof(le32)) {
		return -EBADMSG;
	}
	if (le64_get(w.ring_seq) != v->ring.seq || le32_get(w.ring_node) != v->ring.nodeid ||
	    le32_get(w.round) != v->round ||
	    (v->state != VIEW_HELLO && v->state != VIEW_PROMISE && v->state != VIEW_JOINING)) {
		return 0;
	}
	for (uint32_t i = 0; i < count; i++) {
		le32 id;

		memcpy(&id, body + sizeof(w) + i * sizeof(id), sizeof(id));

		struct view_member *m = view_member(v, le32_get(id));

		if (m != NULL && view_silent(v, m)) {
			skip[m - v->members] = true;
			any = true;
		}
	}
	if (any) {
		for (uint32_t i = 0; i < v->count; i++) {
			v->members[i].said = false;
			v->members[i].skipped |= skip[i];
		}
		view_start(v, v->round + 1);
	}
	return 0;
}

int view_on_message(struct view *v, const struct view_peer *from, uint16_t type,
                    const uint8_t *body, size_t len)
{
	struct view_member *m = view_member(v, from->nodeid);

	if (m == NULL || m->peer.pid != from->pid || v->state == VIEW_DOWN) {
		return 0; /* it left before its message came */
	}
	switch (type) {
	case FRAME_HELLO:
		return view_on_hello(v, m, body, len);
	case FRAME_PROMISE:
		return view_on_promise(v, m, body, len);
	case FRAME_SKIP:
		return view_on_skip(v, body, len);
	default: /* of the wire */
		return -EBADMSG;
	}
}

void view_on_tick(struct view *v, uint64_t now_ns)
{
	struct {
		uint8_t frame[sizeof(struct frame_wire)];
		struct view_skip_wire head;
		le32 ids[VIEW_NODES_MAX];
	} msg = {.head = {.ring_seq = le64_make(v->ring.seq),
	                  .ring_node = le32_make(v->ring.nodeid),
	                  .round = le32_make(v->round)}};
	uint32_t count = 0;

	v->now_ns = now_ns;
	if ((v->state != VIEW_HELLO && v->state != VIEW_PROMISE) ||
	    now_ns - v->since_ns < v->cfg.skip_ns) {
		return;
	}
	for (uint32_t i = 0; i < v->count; i++) {
		if (view_silent(v, &v->members[i])) {
			msg.ids[count++] = le32_make(v->members[i].peer.nodeid);
		}
	}
	v->since_ns = now_ns;
	if (count == 0) {
		return;
	}
	msg.head.count = le32_make(count);
	v->cfg.ops->send(v->cfg.arg, &msg,
	                 frame_seal(&msg, FRAME_SKIP, sizeof(msg.head) + count * sizeof(le32)));
}

void view_quiet(struct view *v)
{
	view_say(v);
}

void view_again(struct view *v)
{
	if (v->state == VIEW_PRIMARY || v->state == VIEW_MINORITY) {
		view_next(v);
	}
}
