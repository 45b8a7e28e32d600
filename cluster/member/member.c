/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/member/member.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/wire.h"
#include "cluster/coro/coro.h"
#include "cluster/member/member_events.h"
#include "cluster/member/member_roles.h"
#include "cluster/role/role_cmd.h"
#include "cluster/rsm/store_sqlite.h"

#define MEMBER_TICK_NS 100000000ull

_Static_assert(DB_PAIR_KEY_MAX < RSM_KEY_MAX && DB_PAIR_VALUE_MAX <= RSM_VALUE_MAX &&
                       DB_COMMAND_MAX <= RSM_PAYLOAD_MAX,
               "what the database writes fits the log");

/* A message to ourselves, when there is nobody else. */
struct echo {
	struct list link;
	size_t len;
	uint8_t bytes[];
};

struct member {
	struct member_cfg cfg;
	struct db *db; /* owned, as the next four */
	struct member_roles *roles;
	struct rsm_store *store;
	struct rsm *rsm;
	struct coro *coro; /* NULL: alone, or halted */
	struct rsm_io io;
	struct rsm_machine machine;
	struct loop_timer *tick;
	struct loop_timer *soon; /* changed() is to be called, echoes to be heard */
	struct list echoes;      /* of struct echo, owned */
	bool changed;
	bool alone;
	/* While an entry is applied: what its documents tell. */
	struct db_watch *watch;            /* owned */
	json_t *events[MEMBER_EVENTS_MAX]; /* owned */
	uint32_t event_count;
	int event_err;
};

/* ---- the log's surroundings ---- */

static void on_changed(void *arg)
{
	struct member *m = arg;

	m->changed = true;
	loop_timer_arm(m->soon, 0);
}

static void on_multicast(void *arg, const void *buf, size_t len)
{
	struct member *m = arg;

	if (m->coro != NULL) {
		coro_multicast(m->coro, buf, len);
	}
	if (!m->alone) {
		return;
	}

	struct echo *e = gw_malloc(sizeof(*e) + len);

	if (e == NULL) {
		log_err("member", "no memory for a message, it is lost bytes=%zu", len);
		return; /* proposals end as unknown */
	}
	e->len = len;
	memcpy(e->bytes, buf, len);
	list_add_tail(&m->echoes, &e->link);
	loop_timer_arm(m->soon, 0);
}

static void on_unicast(void *arg, uint32_t nodeid, const void *buf, size_t len)
{
	struct member *m = arg;

	if (m->coro != NULL) {
		coro_unicast(m->coro, nodeid, buf, len);
	}
}

/* ---- events that follow from entries ---- */

static void add_event(struct member *m, json_t *event)
{
	if (event != NULL && m->event_count < MEMBER_EVENTS_MAX) {
		m->events[m->event_count++] = event;
	} else {
		json_decref(event);
	}
}

static void on_document(void *arg, const struct db_change *change)
{
	struct member *m = arg;
	json_t *event = NULL;

	if (change->kind == DB_EVENT) {
		return;
	}
	if (member_events_change(change, &event) != 0) {
		m->event_err = -ENOMEM;
	}
	add_event(m, event);
}

/* Into the database, as all nodes do it. Returns 0; -ENOMEM. */
static int log_events(struct member *m, const struct db_entry *entry, const struct db_sink *sink)
{
	int err = m->event_err;

	for (uint32_t i = 0; i < m->event_count; i++) {
		if (err == 0) {
			int ret = db_log(m->db, entry, DB_LOG_FIRST + i, m->events[i], sink);

			err = ret == -ENOMEM ? ret : 0; /* too long a text: the same on all */
		}
		json_decref(m->events[i]);
	}
	m->event_count = 0;
	m->event_err = 0;
	return err;
}

static int on_apply(void *arg, const struct rsm_entry *entry, const struct rsm_sink *sink,
                    struct rsm_result *out)
{
	struct member *m = arg;
	const struct db_entry e = {.index = entry->index,
	                           .time_ns = entry->time_ns,
	                           .command = entry->payload,
	                           .len = entry->len};
	const struct db_sink s = {.put = sink->put, .del = sink->del, .arg = sink->arg};
	struct db_result result = {0};
	json_t *event = NULL;
	int err = 0;

	member_roles_epoch(m->roles, entry->epoch);
	if (member_roles_is_cmd(entry->payload, entry->len)) {
		result.status = member_roles_apply(m->roles, entry, &event);
		add_event(m, event);
	} else {
		err = db_apply(m->db, &e, &s, &result);
	}
	if (err == 0) {
		err = member_roles_flush(m->roles, sink);
	}
	if (err == 0) {
		err = log_events(m, &e, &s);
	}
	if (err == 0) {
		*out = (struct rsm_result){
			.status = result.status, .detail = result.op_index, .index = entry->index};
	}
	return err;
}

static void on_newview(void *arg, uint64_t index, uint64_t epoch,
                       const struct rsm_newview_wire *members, uint32_t count)
{
	(void)members;
	member_roles_epoch(((struct member *)arg)->roles, epoch);
	log_info("member", "view committed epoch=%llu index=%llu members=%u",
	         (unsigned long long)epoch, (unsigned long long)index, count);
}

static void on_clear(void *arg)
{
	db_clear(((struct member *)arg)->db);
	member_roles_clear(((struct member *)arg)->roles);
}

static int on_load(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
	struct member *m = arg;
	struct errbuf eb = {{0}, {0}};
	int err = member_roles_is_key(key, key_len)
	                  ? member_roles_load(m->roles, key, key_len, value, value_len, &eb)
	                  : db_load(m->db, key, key_len, value, value_len, &eb);

	if (err != 0) {
		log_err("member", "database damaged why=\"%s\"", errbuf_text(&eb, err));
	}
	return err;
}

static void on_loaded(void *arg, uint64_t index)
{
	db_loaded(((struct member *)arg)->db, index);
	member_roles_loaded(((struct member *)arg)->roles);
}

static void on_synced(void *arg, uint64_t token, int err)
{
	rsm_on_synced(((struct member *)arg)->rsm, token, err);
}

/* ---- corosync ---- */

static void on_group(void *arg, const struct view_peer *peers, uint32_t count)
{
	rsm_on_group(((struct member *)arg)->rsm, peers, count);
}

static void on_ring(void *arg, const struct view_ring *ring, const uint32_t *members,
                    uint32_t count)
{
	rsm_on_ring(((struct member *)arg)->rsm, ring, members, count);
}

static void on_quorum(void *arg, uint64_t ring_seq, bool quorate)
{
	rsm_on_quorum(((struct member *)arg)->rsm, ring_seq, quorate);
}

static void on_config(void *arg, uint64_t config_version)
{
	rsm_on_config(((struct member *)arg)->rsm, config_version);
}

static void on_message(void *arg, const struct view_peer *from, const void *buf, size_t len)
{
	rsm_on_multicast(((struct member *)arg)->rsm, from, buf, len);
}

static void on_direct(void *arg, uint32_t nodeid, const void *buf, size_t len)
{
	rsm_on_unicast(((struct member *)arg)->rsm, nodeid, buf, len);
}

static void on_up(void *arg, uint32_t nodeid)
{
	struct member *m = arg;

	if (nodeid != m->cfg.nodeid) {
		log_err("member", "corosync has another node id node=%u expected=%u", nodeid,
		        m->cfg.nodeid);
		coro_reset(m->coro, "corosync.conf gives this node another number");
	}
}

static void on_down(void *arg, const char *why)
{
	(void)why;
	rsm_on_down(((struct member *)arg)->rsm);
}

/* ---- time ---- */

static void on_tick(void *arg)
{
	struct member *m = arg;

	rsm_on_tick(m->rsm, clock_now_ns(), clock_wall_ns());
	loop_timer_arm(m->tick, MEMBER_TICK_NS);
}

/* What must not happen from within the log's own functions. */
static void on_soon(void *arg)
{
	struct member *m = arg;
	const struct view_peer self = {.nodeid = m->cfg.nodeid, .pid = 1};
	struct rsm_status s;
	struct list heard;

	list_init(&heard);
	list_splice_tail(&heard, &m->echoes); /* new ones come meanwhile, for the next time */
	list_for_each_safe(link, &heard)
	{
		struct echo *e = list_entry(link, struct echo, link);

		rsm_on_multicast(m->rsm, &self, e->bytes, e->len);
		free(e);
	}
	if (!m->changed) {
		return;
	}
	m->changed = false;
	rsm_status(m->rsm, &s);
	if (s.state == RSM_HALTED && m->coro != NULL) {
		coro_close(m->coro); /* the others go on without us */
		m->coro = NULL;
	}
	if (m->cfg.changed != NULL) {
		m->cfg.changed(m->cfg.arg);
	}
}

/* A ring of one, quorate. */
static void member_alone(struct member *m)
{
	const struct view_peer self = {.nodeid = m->cfg.nodeid, .pid = 1};
	const struct view_ring ring = {.seq = 1, .nodeid = m->cfg.nodeid};

	m->alone = true;
	rsm_on_group(m->rsm, &self, 1);
	rsm_on_ring(m->rsm, &ring, &m->cfg.nodeid, 1);
	rsm_on_quorum(m->rsm, 1, true);
}

/* ---- life ---- */

static int member_store(struct member *m, struct errbuf *eb)
{
	struct rsm_mark mark = {.level = MEMBER_LEVEL};
	const struct rsm_sqlite_cfg cfg = {
		.path = m->cfg.path,
		.loop = m->cfg.loop,
		.cluster = m->cfg.cluster,
		.uuid = m->cfg.uuid,
		.mark = m->cfg.config == NULL ? NULL : &mark,
		.synced = on_synced,
		.arg = m,
	};

	if (m->cfg.config != NULL) {
		mark.config = *m->cfg.config;
	}
	return rsm_sqlite_open(&cfg, &m->store, eb);
}

static int member_rsm(struct member *m, struct errbuf *eb)
{
	struct rsm_cfg cfg;

	rsm_cfg_default(&cfg);
	m->io = (struct rsm_io){
		.multicast = on_multicast, .unicast = on_unicast, .changed = on_changed, .arg = m};
	m->machine = (struct rsm_machine){.apply = on_apply,
	                                  .newview = on_newview,
	                                  .clear = on_clear,
	                                  .load = on_load,
	                                  .loaded = on_loaded,
	                                  .arg = m};
	cfg.nodeid = m->cfg.nodeid;
	cfg.level_max = MEMBER_LEVEL;
	rsm_sqlite_identity(m->store, &cfg.cluster, &cfg.uuid);
	guid_random(&cfg.incarnation);
	cfg.io = &m->io;
	cfg.machine = &m->machine;
	cfg.store = m->store;
	return rsm_create(&cfg, &m->rsm, eb);
}

int member_open(const struct member_cfg *cfg, struct member **out, struct errbuf *eb)
{
	static const struct coro_ops coro_ops = {
		.group = on_group,
		.ring = on_ring,
		.quorum = on_quorum,
		.config = on_config,
		.message = on_message,
		.unicast = on_direct,
		.up = on_up,
		.down = on_down,
	};
	struct member *m = gw_calloc(1, sizeof(*m));
	int err;

	*out = NULL;
	if (m == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cluster database");
	}
	m->cfg = *cfg;
	list_init(&m->echoes);
	err = db_create(&m->db);
	if (err == 0) {
		err = member_roles_create(m->db, &m->roles);
	}
	if (err == 0) {
		err = db_watch_add(m->db, DB_KIND_COUNT, on_document, m, &m->watch);
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, on_soon, m, &m->soon);
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, on_tick, m, &m->tick);
	}
	if (err != 0) {
		err = errbuf_sys(eb, err, "cluster database");
		goto failed;
	}
	err = member_store(m, eb);
	if (err == 0) {
		err = member_rsm(m, eb);
	}
	if (err == 0 && cfg->group != NULL) {
		err = coro_open(cfg->loop, cfg->group, &coro_ops, m, &m->coro, eb);
	}
	if (err != 0) {
		goto failed;
	}
	on_tick(m);
	if (cfg->group == NULL) {
		member_alone(m);
	}
	*out = m;
	return 0;

failed:
	member_close(m);
	return err;
}

void member_close(struct member *m)
{
	if (m == NULL) {
		return;
	}
	coro_close(m->coro);
	rsm_destroy(m->rsm);
	rsm_sqlite_close(m->store);
	member_roles_destroy(m->roles);
	for (uint32_t i = 0; i < m->event_count; i++) {
		json_decref(m->events[i]);
	}
	db_watch_del(m->watch);
	db_destroy(m->db);
	loop_timer_del(m->tick);
	loop_timer_del(m->soon);
	list_for_each_safe(link, &m->echoes)
	{
		free(list_entry(link, struct echo, link));
	}
	free(m);
}

struct db *member_db(struct member *m)
{
	return m->db;
}

void member_status(const struct member *m, struct rsm_status *out)
{
	rsm_status(m->rsm, out);
}

const struct view *member_view(const struct member *m)
{
	return rsm_view(m->rsm);
}

const struct view_config *member_config(const struct member *m)
{
	return rsm_config(m->rsm);
}

int member_propose(struct member *m, const struct db_cmd *cmd, uint64_t timeout_ns, rsm_done_fn fn,
                   void *arg)
{
	const struct rsm_request q = {.type = RSM_COMMAND,
	                              .payload = cmd->buf,
	                              .len = cmd->len,
	                              .deadline_ns = clock_now_ns() + timeout_ns,
	                              .fn = fn,
	                              .arg = arg};

	CHECK(cmd->err == 0);
	return rsm_propose(m->rsm, &q);
}

const struct role_table *member_roles(const struct member *m)
{
	return member_roles_table(m->roles);
}

uint32_t member_role_find(const struct member *m, const char *name)
{
	return member_roles_find(m->roles, name);
}

void member_watch_roles(struct member *m, const struct member_role_ops *ops, void *arg)
{
	member_roles_watch(m->roles, ops, arg);
}

static void nobody_cares(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	(void)arg;
	(void)outcome;
	(void)result;
}

int member_propose_role(struct member *m, const struct role_cmd *cmd, uint64_t timeout_ns,
                        rsm_done_fn fn, void *arg)
{
	struct role_cmd c = *cmd;
	uint8_t buf[ROLE_CMD_BYTES];
	struct rsm_status s;
	const struct rsm_request q = {.type = RSM_COMMAND,
	                              .payload = buf,
	                              .len = sizeof(buf),
	                              .deadline_ns = clock_now_ns() + timeout_ns,
	                              .fn = fn != NULL ? fn : nobody_cares,
	                              .arg = arg};

	rsm_status(m->rsm, &s);
	c.epoch = s.epoch;
	role_cmd_encode(&c, buf);
	return rsm_propose(m->rsm, &q);
}

int member_barrier(struct member *m, uint64_t timeout_ns, rsm_done_fn fn, void *arg)
{
	const struct rsm_request q = {
		.type = RSM_NOP, .deadline_ns = clock_now_ns() + timeout_ns, .fn = fn, .arg = arg};

	return rsm_propose(m->rsm, &q);
}

int member_configure(struct member *m, const struct view_config *config, uint64_t timeout_ns,
                     rsm_done_fn fn, void *arg)
{
	uint8_t buf[sizeof(struct view_config)]; /* at least what it is on the wire */
	const struct rsm_request q = {.type = RSM_CONFIG,
	                              .payload = buf,
	                              .len = view_config_encode(config, buf),
	                              .deadline_ns = clock_now_ns() + timeout_ns,
	                              .fn = fn,
	                              .arg = arg};

	return rsm_propose(m->rsm, &q);
}

int member_raise(struct member *m, uint64_t timeout_ns, rsm_done_fn fn, void *arg)
{
	struct rsm_status s;
	le32 level;

	rsm_status(m->rsm, &s);
	level = le32_make(s.level + 1);

	const struct rsm_request q = {.type = RSM_LEVEL,
	                              .payload = &level,
	                              .len = sizeof(level),
	                              .deadline_ns = clock_now_ns() + timeout_ns,
	                              .fn = fn,
	                              .arg = arg};

	return rsm_propose(m->rsm, &q);
}

void member_grant(struct member *m, uint64_t key, bool forced)
{
	rsm_on_grant(m->rsm, key, forced);
}
