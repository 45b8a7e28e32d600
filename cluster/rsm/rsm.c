/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/rsm/rsm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "cluster/rsm/rsm_int.h"

void rsm_halt(struct rsm *r, const char *why)
{
	if (r->state != RSM_HALTED) {
		r->state = RSM_HALTED;
		r->why = why;
		r->epoch = 0;
		log_err("rsm", "halted why=\"%s\" applied=%llu last=%llu", why,
		        (unsigned long long)r->applied.index, (unsigned long long)r->last.index);
		r->cfg.io->changed(r->cfg.io->arg);
	}
}

bool rsm_stored(struct rsm *r, int err)
{
	if (err != 0) {
		rsm_halt(r, err == -ENOMEM ? "out of memory" : "the store failed");
	}
	return err == 0;
}

/* ---- the store ---- */

/* Queue what the pairs in the store are the state of. */
static bool rsm_mark(struct rsm *r)
{
	struct rsm_mark mark = {.applied = r->applied, .level = r->level};
	bool before = r->config_index > r->applied.index;

	mark.config = before ? r->config_before : r->config;
	mark.config_index = before ? r->config_before_index : r->config_index;
	r->dirty_state = false;
	return rsm_stored(r, r->cfg.store->ops->mark(r->cfg.store, &mark));
}

void rsm_kick(struct rsm *r)
{
	if (r->sync_running || !r->dirty || r->state == RSM_HALTED) {
		return;
	}
	if (r->dirty_state && !r->replacing && !rsm_mark(r)) {
		return;
	}
	r->dirty = false;
	r->replace_syncing = r->replacing;
	r->sync_running = true;
	r->sync_index = r->last.index;
	r->sync_applied = r->applied.index;
	r->promise_syncing = r->promise_wanted;
	r->promise_wanted = 0;
	r->sync_token++;
	(void)rsm_stored(r, r->cfg.store->ops->sync(r->cfg.store, r->sync_token));
}

static int load_pair(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                     size_t value_len)
{
	struct rsm *r = arg;
	struct rsm_session session = {0};
	struct rsm_session_wire w;
	struct guid gone;

	if (key_len > 1 && key[0] == 'm') {
		return r->cfg.machine->load(r->cfg.machine->arg, key + 1, key_len - 1, value,
		                            value_len);
	}
	if (key_len != 1 + sizeof(session.id.b) || key[0] != 's' || value_len != sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(session.id.b, key + 1, sizeof(session.id.b));
	memcpy(&w, value, sizeof(w));
	session.seq = le64_get(w.seq);
	session.result = (struct rsm_result){.status = (int32_t)le32_get(w.status),
	                                     .detail = le32_get(w.detail),
	                                     .index = le64_get(w.index)};
	return rsm_sessions_note(&r->sessions, &session, &gone) ? -EBADMSG : 0;
}

int rsm_load(struct rsm *r)
{
	const struct rsm_machine *machine = r->cfg.machine;

	machine->clear(machine->arg);
	rsm_sessions_clear(&r->sessions);

	int err = r->cfg.store->ops->each(r->cfg.store, load_pair, r);

	if (err == 0) {
		machine->loaded(machine->arg, r->applied.index);
	}
	return err;
}

/* The state that was fetched is on the disk: it is ours now. */
static void rsm_replaced(struct rsm *r)
{
	const struct rsm_mark *mark = &r->replace_mark;

	r->replacing = false;
	r->replace_syncing = false;
	r->fetch_chunk = 0;
	r->last = mark->applied;
	r->applied = mark->applied;
	r->base_index = mark->applied.index;
	r->synced = mark->applied.index;
	r->commit = mark->applied.index;
	r->applied_durable = mark->applied.index;
	r->config = mark->config;
	r->config_index = mark->config_index;
	r->config_before = mark->config;
	r->config_before_index = mark->config_index;
	r->level = mark->level;
	r->dirty_state = false;
	rsm_compare_start(r); /* what was skipped cannot be compared */
	rsm_count_votes(r);
	if (rsm_load(r) != 0) {
		rsm_halt(r, "the fetched state can not be loaded");
		return;
	}
	if (r->epoch != 0) {
		r->matched = true; /* the leader's own state */
		rsm_log_active(r);
		r->fetching = false;
		rsm_fetch_start(r);
	}
}

void rsm_on_synced(struct rsm *r, uint64_t token, int err)
{
	if (r->state == RSM_HALTED || !r->sync_running || token != r->sync_token) {
		return;
	}
	r->sync_running = false;
	if (!rsm_stored(r, err)) {
		return;
	}
	if (r->replace_syncing) {
		rsm_replaced(r);
	} else {
		r->synced = r->sync_index;
		r->applied_durable = r->sync_applied;
	}
	if (r->promise_syncing != 0) {
		uint64_t epoch = r->promise_syncing;

		r->promise_syncing = 0;
		view_promised(&r->view, epoch);
	}
	rsm_log_ack(r);
	rsm_kick(r);
	if (!r->sync_running) {
		view_quiet(&r->view);
	}
}

/* ---- views ---- */

static void on_view_send(void *arg, const void *buf, size_t len)
{
	struct rsm *r = arg;

	r->cfg.io->multicast(r->cfg.io->arg, buf, len);
}

static bool on_view_log(void *arg, struct view_log *out)
{
	struct rsm *r = arg;
	struct rsm_boot boot;

	rsm_kick(r);
	if (r->sync_running || r->state == RSM_HALTED) {
		return false;
	}
	r->cfg.store->ops->boot(r->cfg.store, &boot);
	*out = (struct view_log){
		.promised = boot.promised,
		.last_epoch = r->last.epoch,
		.last_index = r->last.index,
		.last_hash = r->last.hash,
		.commit_index = r->commit < r->last.index ? r->commit : r->last.index,
		.level = r->level,
		.incomplete = r->config.count == 0, /* a new disk: what it once had, it has not */
		.config = &r->config,
	};
	return true;
}

static void on_view_promise(void *arg, uint64_t epoch)
{
	struct rsm *r = arg;

	if (rsm_stored(r, r->cfg.store->ops->promise(r->cfg.store, epoch))) {
		r->promise_wanted = epoch;
		r->dirty = true;
		rsm_kick(r);
	}
}

static void on_view_lost(void *arg)
{
	struct rsm *r = arg;

	if (r->state == RSM_HALTED) {
		return;
	}
	r->state = RSM_OFF;
	r->why = "a view is being formed";
	r->epoch = 0;
	r->leader = 0;
	r->matched = false;
	rsm_fetch_stop(r);
	rsm_give_stop(r, 0);
	r->cfg.io->changed(r->cfg.io->arg);
}

void rsm_count_votes(struct rsm *r)
{
	for (uint32_t i = 0; i < r->ack_count; i++) {
		const struct view_member *m = view_find(&r->view, r->acks[i].nodeid);

		r->acks[i].votes =
			m == NULL || !m->said
				? 0
				: view_config_votes(&r->config, m->peer.nodeid, &m->hello.uuid);
	}
}

/* The first entry of the epoch says who is in it. */
static void write_newview(struct rsm *r)
{
	struct rsm_newview_wire members[VIEW_NODES_MAX];
	uint32_t count = 0;

	for (uint32_t i = 0; i < r->view.count; i++) {
		const struct view_member *m = &r->view.members[i];

		if (m->said && !m->skipped) {
			members[count++] =
				(struct rsm_newview_wire){.nodeid = le32_make(m->peer.nodeid),
			                                  .votes = le32_make(m->votes),
			                                  .uuid = m->hello.uuid,
			                                  .incarnation = m->hello.incarnation};
		}
	}

	struct rsm_entry entry = {.type = RSM_NEWVIEW,
	                          .origin = r->cfg.nodeid,
	                          .session = r->cfg.incarnation,
	                          .time_ns = r->wall_ns,
	                          .payload = (const uint8_t *)members,
	                          .len = count * (uint32_t)sizeof(members[0])};

	rsm_log_write(r, &entry);
}

static void on_view_formed(void *arg, const struct view *view)
{
	struct rsm *r = arg;
	const struct view_hello *best = &view->members[view->best].hello;
	const struct view_member *self = view_find(view, r->cfg.nodeid);

	if (r->state == RSM_HALTED) {
		return;
	}
	if (!view->primary || self == NULL) {
		r->why = view->why;
		r->cfg.io->changed(r->cfg.io->arg);
		return;
	}
	if (best->level > r->cfg.level_max) {
		rsm_halt(r, "this version is too old for the cluster: update this node");
		return;
	}
	r->state = RSM_STARTING;
	r->why = NULL;
	r->epoch = view->epoch;
	r->leader = view->leader;
	r->newview_index = best->last_index + 1;
	r->acked = 0;
	r->next = r->last;
	r->config_written = 0;
	r->live = best->last_index;
	r->blank = r->config.count == 0;
	r->matched = self->in_sync || (!r->blank && r->last.index == best->last_index &&
	                               r->last.hash == best->last_hash);
	r->ack_count = 0;
	rsm_compare_start(r);
	for (uint32_t i = 0; i < view->count; i++) {
		if (view->members[i].said && !view->members[i].skipped) {
			r->acks[r->ack_count++] =
				(struct rsm_ack){.nodeid = view->members[i].peer.nodeid};
		}
	}
	rsm_count_votes(r);
	r->cfg.io->changed(r->cfg.io->arg);
	if (r->leader == r->cfg.nodeid) {
		write_newview(r);
	} else if (!r->matched) {
		rsm_fetch_start(r);
	}
}

/* ---- life ---- */

void rsm_cfg_default(struct rsm_cfg *cfg)
{
	*cfg = (struct rsm_cfg){
		.skip_ns = 2000000000ull, /* a busy node answers in far less; a stopped one never */
		.suspect_ns = 1000000000ull, /* a thousand times the usual */
		.flush_ns = 1000000000ull,
		.retry_ns = 500000000ull,
		.retain = 4096,
	};
}

/* The configuration as of the last entry: what the mark says, and the entries after it. */
static int rsm_scan(struct rsm *r)
{
	for (uint64_t i = r->applied.index + 1; i <= r->last.index; i++) {
		struct rsm_entry e;
		struct view_config config;
		int err = r->cfg.store->ops->read(r->cfg.store, i, &e, r->payload);

		if (err != 0) {
			return err == -ENOENT ? -EBADMSG : err;
		}
		if (e.type == RSM_CONFIG && view_config_decode(e.payload, e.len, &config) == 0) {
			r->config_before = r->config;
			r->config_before_index = r->config_index;
			r->config = config;
			r->config_index = i;
		}
	}
	return 0;
}

static int rsm_start(struct rsm *r)
{
	struct rsm_boot boot;

	r->cfg.store->ops->boot(r->cfg.store, &boot);
	r->base_index = boot.base.index;
	r->last = boot.last;
	r->synced = boot.last.index;
	r->applied = boot.mark.applied;
	r->applied_durable = boot.mark.applied.index;
	r->commit = boot.mark.applied.index;
	r->config = boot.mark.config;
	r->config_index = boot.mark.config_index;
	r->config_before = r->config;
	r->config_before_index = r->config_index;
	r->level = boot.mark.level;

	int err = rsm_scan(r);

	return err == 0 ? rsm_load(r) : err;
}

int rsm_create(const struct rsm_cfg *cfg, struct rsm **out, struct errbuf *eb)
{
	static const struct view_ops view_ops = {
		.send = on_view_send,
		.log = on_view_log,
		.promise = on_view_promise,
		.lost = on_view_lost,
		.formed = on_view_formed,
	};
	struct rsm *r = gw_calloc(1, sizeof(*r));
	int err = -ENOMEM;

	*out = NULL;
	if (r == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cluster database");
	}
	r->cfg = *cfg;
	r->why = "not connected to corosync";
	r->scratch = gw_malloc(FRAME_MAX);
	r->payload = gw_malloc(RSM_PAYLOAD_MAX);
	r->compare.ring = gw_calloc(RSM_EFFECTS, sizeof(*r->compare.ring));
	if (r->scratch == NULL || r->payload == NULL || r->compare.ring == NULL ||
	    rsm_sessions_init(&r->sessions) != 0) {
		goto failed;
	}
	for (uint32_t i = 0; i < RSM_GIVERS; i++) {
		r->givers[i].frame = gw_malloc(FRAME_MAX / 2);
		if (r->givers[i].frame == NULL) {
			goto failed;
		}
	}
	view_init(&r->view, &(struct view_cfg){.nodeid = cfg->nodeid,
	                                       .level_max = cfg->level_max,
	                                       .cluster = cfg->cluster,
	                                       .uuid = cfg->uuid,
	                                       .incarnation = cfg->incarnation,
	                                       .skip_ns = cfg->skip_ns,
	                                       .ops = &view_ops,
	                                       .arg = r});
	err = rsm_start(r);
	if (err == 0 && r->level > cfg->level_max) {
		(void)errbuf_set(eb, -EPROTONOSUPPORT,
		                 "cluster database: level %u, this program knows %u", r->level,
		                 cfg->level_max);
		errbuf_hint(eb, "update this node");
		rsm_destroy(r);
		return -EPROTONOSUPPORT;
	}
	if (err != 0) {
		goto failed;
	}
	*out = r;
	return 0;

failed:
	rsm_destroy(r);
	return errbuf_sys(eb, err, "cluster database");
}

void rsm_destroy(struct rsm *r)
{
	if (r == NULL) {
		return;
	}
	rsm_slots_cancel(r);
	rsm_give_stop(r, 0);
	for (uint32_t i = 0; i < RSM_GIVERS; i++) {
		free(r->givers[i].frame);
	}
	rsm_sessions_fini(&r->sessions);
	free(r->compare.ring);
	free(r->scratch);
	free(r->payload);
	free(r);
}

/* ---- events ---- */

void rsm_on_group(struct rsm *r, const struct view_peer *peers, uint32_t count)
{
	if (r->state != RSM_HALTED) {
		view_on_group(&r->view, peers, count);
	}
}

void rsm_on_ring(struct rsm *r, const struct view_ring *ring, const uint32_t *members,
                 uint32_t count)
{
	if (r->state != RSM_HALTED) {
		view_on_ring(&r->view, ring, members, count);
	}
}

void rsm_on_quorum(struct rsm *r, uint64_t ring_seq, bool quorate)
{
	if (r->state != RSM_HALTED) {
		view_on_quorum(&r->view, ring_seq, quorate);
	}
}

void rsm_on_config(struct rsm *r, uint64_t config_version)
{
	view_on_config(&r->view, config_version);
}

void rsm_on_down(struct rsm *r)
{
	if (r->state != RSM_HALTED) {
		view_on_down(&r->view);
		r->why = "not connected to corosync";
	}
}

void rsm_on_grant(struct rsm *r, uint64_t key, bool forced)
{
	if (r->state != RSM_HALTED) {
		view_on_grant(&r->view, key, forced);
	}
}

void rsm_on_propose(struct rsm *r, const struct rsm_msg *m)
{
	struct rsm_entry entry = m->entry;
	le32 status;

	if (r->epoch == 0 || m->epoch != r->epoch || r->leader != r->cfg.nodeid) {
		return;
	}

	int err = rsm_log_allowed(r, &entry);

	if (err != 0) {
		status = le32_make((uint32_t)err);
		entry.type = RSM_REFUSED;
		entry.payload = status.b;
		entry.len = sizeof(status);
	}
	rsm_log_write(r, &entry);
}

void rsm_on_multicast(struct rsm *r, const struct view_peer *from, const void *buf, size_t len)
{
	struct rsm_msg m;
	const uint8_t *body;
	size_t body_len;
	uint16_t type;

	if (r->state == RSM_HALTED) {
		return;
	}
	if (frame_open(buf, len, &type, &body, &body_len) != 0) {
		r->bad_frames++;
		return;
	}
	if (type < FRAME_PROPOSE) {
		r->bad_frames += view_on_message(&r->view, from, type, body, body_len) != 0;
		return;
	}

	const struct view_member *member = view_find(&r->view, from->nodeid);

	if (type >= FRAME_FETCH || rsm_msg_decode(type, body, body_len, &m) != 0) {
		r->bad_frames++;
		return;
	}
	if (member == NULL || member->peer.pid != from->pid || !member->said || member->skipped) {
		return;
	}
	if (type == FRAME_PROPOSE) {
		rsm_on_propose(r, &m);
	} else if (type == FRAME_APPEND) {
		rsm_log_on_append(r, from->nodeid, &m);
	} else if (type == FRAME_ACK) {
		rsm_log_on_ack(r, from->nodeid, &m);
	} else if (type == FRAME_EFFECTS) {
		rsm_compare_on_effects(r, from->nodeid, &m);
	} else if (r->epoch != 0 && m.epoch == r->epoch) {
		view_again(&r->view);
	}
}

void rsm_on_unicast(struct rsm *r, uint32_t nodeid, const void *buf, size_t len)
{
	struct rsm_msg m;
	const uint8_t *body;
	size_t body_len;
	uint16_t type;

	if (r->state == RSM_HALTED) {
		return;
	}
	if (frame_open(buf, len, &type, &body, &body_len) != 0 || type < FRAME_FETCH ||
	    rsm_msg_decode(type, body, body_len, &m) != 0) {
		r->bad_frames++;
		return;
	}
	rsm_fetch_on_message(r, nodeid, &m);
}

/* ---- time ---- */

void rsm_on_tick(struct rsm *r, uint64_t now_ns, uint64_t wall_ns)
{
	r->now_ns = now_ns;
	r->wall_ns = wall_ns;
	rsm_slots_tick(r);
	if (r->state == RSM_HALTED) {
		return;
	}
	if (r->state == RSM_ACTIVE && r->blank) { /* has all now, and a vote for the next view */
		r->blank = false;
		view_again(&r->view);
	}
	view_on_tick(&r->view, now_ns);
	rsm_fetch_tick(r);
	rsm_compare_tick(r);
	if (r->dirty_state && now_ns - r->dirty_since_ns >= r->cfg.flush_ns) {
		r->dirty = true;
	}
	if (r->applied_durable > r->base_index + r->cfg.retain + r->cfg.retain / 4) {
		uint64_t index = r->applied_durable - r->cfg.retain;

		if (rsm_stored(r, r->cfg.store->ops->trim(r->cfg.store, index))) {
			r->base_index = index;
		}
	}
	rsm_kick(r);
}

/* ---- looking ---- */

void rsm_status(const struct rsm *r, struct rsm_status *out)
{
	*out = (struct rsm_status){
		.state = r->state,
		.stale = r->state != RSM_ACTIVE,
		.epoch = r->epoch,
		.leader = r->leader,
		.votes = r->view.votes,
		.votes_total = r->view.votes_total,
		.last_index = r->last.index,
		.synced_index = r->synced,
		.commit_index = r->commit,
		.applied_index = r->applied.index,
		.applied_hash = r->applied.hash,
		.level = r->level,
		.fetching = r->fetching,
		.bad_frames = r->bad_frames,
		.differs = rsm_compare_differs(r),
		.why = r->state == RSM_OFF || r->state == RSM_HALTED ? r->why : NULL,
	};
}

const struct view *rsm_view(const struct rsm *r)
{
	return &r->view;
}

const struct view_config *rsm_config(const struct rsm *r)
{
	return &r->config;
}
