/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_db/world.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cluster/rsm/rsm.h"
#include "cluster/rsm/rsm_msg.h"
#include "cluster/view/view_wire.h"
#include "tests/lib/corosim.h"
#include "tests/lib/mem_store.h"

#define MS 1000000ull
#define TICK_NS (50 * MS)
#define FAULTS_NS (25000 * MS)
#define HEAL_NS (40000 * MS)
#define KEYS 4u
#define OPS_MAX 20000u
#define INDEX_MAX 40000u
#define QUEUE_MAX 4096u /* events of a frozen process */
#define RETAIN 24u      /* entries: few, so that whole states are fetched */

struct op_record {
	bool refused;
	bool done;
	uint64_t invoked_floor; /* highest index done when it was invoked */
	uint64_t index;         /* where it was applied; 0 = nowhere yet */
	uint64_t told_index;
	struct guid session; /* not nil: the client asks again until it knows */
	uint32_t key;
	struct world *w;
};

struct truth {
	uint64_t hash;  /* of the log; 0 = not seen yet */
	uint64_t state; /* digest of the machine */
};

struct queued {
	void *arg; /* owned: struct held */
};

struct world_node {
	struct world *w;
	uint32_t id;
	bool up;
	uint32_t frozen; /* > 0: events wait */
	struct mem_store *store;
	struct rsm *rsm;
	struct rsm_io io;
	struct rsm_machine machine;
	struct guid uuid;
	uint32_t life;
	uint64_t state[KEYS];
	uint64_t machine_index;
	struct queued *queue;
	uint32_t queue_count;
};

struct world {
	struct world_cfg cfg;
	struct world_report *report;
	struct corosim *sim;
	bool stop;
	bool healing;
	uint64_t guids;
	uint64_t done_floor;
	uint32_t op_count;
	struct op_record *ops; /* [OPS_MAX] */
	struct truth *truths;  /* [INDEX_MAX] */
	struct world_node nodes[COROSIM_NODES_MAX + 1];
	uint64_t top_epoch;
};

static void violate(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void violate(struct world *w, const char *fmt, ...)
{
	va_list args;

	if (w->report->violation[0] == '\0') {
		va_start(args, fmt);
		(void)vsnprintf(w->report->violation, sizeof(w->report->violation), fmt, args);
		va_end(args);
	}
	w->stop = true;
}

#define SAY(w, ...)                                                                  \
	do {                                                                         \
		if ((w)->cfg.verbose) {                                              \
			(void)printf("%9.3f ", (double)corosim_now((w)->sim) / 1e9); \
			(void)printf(__VA_ARGS__);                                   \
			(void)printf("\n");                                          \
		}                                                                    \
	} while (0)

static struct guid guid_of(struct world *w)
{
	struct guid g = {{0}};
	uint64_t n = ++w->guids * 0x9e3779b97f4a7c15ull;

	memcpy(g.b, &n, sizeof(n));
	memcpy(g.b + 8, &w->guids, 4);
	return g;
}

/* ---- the machine: a few registers, each a digest of what was written to it ---- */

struct command {
	uint32_t op;
	uint32_t key;
};

static uint64_t digest(const uint64_t state[KEYS])
{
	uint64_t d = 1;

	for (uint32_t i = 0; i < KEYS; i++) {
		d = (d ^ state[i]) * 0x9fb21c651e98df25ull;
		d ^= d >> 29;
	}
	return d;
}

/* The same log and state at the same index, on every node, at any time. */
static void check_truth(struct world_node *n, uint64_t index, uint64_t hash)
{
	struct world *w = n->w;

	if (index == 0 || index >= INDEX_MAX) {
		return;
	}

	struct truth *t = &w->truths[index];
	uint64_t state = digest(n->state);

	if (t->hash == 0) {
		*t = (struct truth){.hash = hash, .state = state};
		w->report->applied++;
	} else if (t->hash != hash) {
		violate(w, "n%u applied another log at %llu", n->id, (unsigned long long)index);
	} else if (t->state != state) {
		violate(w, "n%u has another state at %llu", n->id, (unsigned long long)index);
	}
}

static int machine_apply(void *arg, const struct rsm_entry *e, const struct rsm_sink *sink,
                         struct rsm_result *out)
{
	struct world_node *n = arg;
	struct command c;
	uint8_t key[1];

	CHECK(e->len == sizeof(c));
	memcpy(&c, e->payload, sizeof(c));

	struct op_record *op = &n->w->ops[c.op];

	if (op->refused) {
		violate(n->w, "refused proposal %u is at %llu", c.op, (unsigned long long)e->index);
	}
	if (op->index != 0 && op->index != e->index) {
		violate(n->w, "proposal %u is at %llu and %llu", c.op,
		        (unsigned long long)op->index, (unsigned long long)e->index);
	}
	if (e->index <= op->invoked_floor) {
		violate(n->w, "proposal %u is before one that was done already", c.op);
	}
	op->index = e->index;
	key[0] = (uint8_t)c.key;
	n->state[c.key] = (n->state[c.key] ^ (c.op + 1)) * 0xd6e8feb86659fd93ull;
	sink->put(sink->arg, key, 1, &n->state[c.key], sizeof(n->state[c.key]));
	*out = (struct rsm_result){.index = e->index, .detail = c.op};
	return 0;
}

static void machine_newview(void *arg, uint64_t index, uint64_t epoch,
                            const struct rsm_newview_wire *members, uint32_t count)
{
	struct world_node *n = arg;

	(void)index;
	(void)members;
	(void)count;
	if (epoch > n->w->top_epoch) {
		n->w->top_epoch = epoch;
		n->w->report->epochs++;
	}
}

static void machine_clear(void *arg)
{
	struct world_node *n = arg;

	memset(n->state, 0, sizeof(n->state));
}

static int machine_load(void *arg, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
	struct world_node *n = arg;

	CHECK(key_len == 1 && value_len == sizeof(n->state[0]));
	memcpy(&n->state[*(const uint8_t *)key], value, value_len);
	return 0;
}

static void machine_loaded(void *arg, uint64_t index)
{
	struct world_node *n = arg;

	if (n->rsm != NULL) {
		n->w->report->snapshots++;
	}
	n->machine_index = index;
}

/* ---- surroundings of a node ---- */

/* What the log core did since we looked. */
static void look(struct world_node *n)
{
	struct rsm_status s;

	if (n->rsm == NULL) {
		return;
	}
	rsm_status(n->rsm, &s);
	check_truth(n, s.applied_index, s.applied_hash);
	if (s.state == RSM_HALTED) {
		violate(n->w, "n%u halted: %s", n->id, s.why);
	}
}

static void on_synced(void *arg, uint32_t id, uint64_t token)
{
	struct world *w = arg;
	struct world_node *n = &w->nodes[id];

	if (n->rsm != NULL && mem_store_token(n->store) == (uint32_t)token &&
	    n->life == (uint32_t)(token >> 32)) {
		if (w->cfg.bug != WORLD_LYING_DISK || corosim_random(w->sim, 4) == 0) {
			mem_store_synced(n->store);
		} else {
			mem_store_lied(n->store);
		}
		rsm_on_synced(n->rsm, (uint32_t)token, 0);
		look(n);
	}
}

/* The disk takes its time, at times a long one. */
static void disk_start(struct world_node *n)
{
	struct world *w = n->w;
	uint64_t ns = (200 + corosim_random(w->sim, 4000)) * 1000ull;

	if (corosim_random(w->sim, 100) == 0) {
		ns += corosim_random(w->sim, 400) * MS;
	}
	corosim_after(w->sim, ns, on_synced, w, n->id,
	              (uint64_t)n->life << 32 | mem_store_token(n->store));
}

/* Between the log core and the store: starts the disk, and has the bugs. */
struct store_proxy {
	struct rsm_store_ops ops;
	const struct rsm_store_ops *real;
};

static int proxy_sync(struct rsm_store *s, uint64_t token);

static struct store_proxy proxy;

static int proxy_put(struct rsm_store *s, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
	return *(const uint8_t *)key == 's' ? 0
	                                    : proxy.real->put(s, key, key_len, value, value_len);
}

static void proxy_init(enum world_bug bug, struct rsm_store *s)
{
	if (proxy.real == NULL) {
		proxy.real = s->ops;
	}
	proxy.ops = *proxy.real;
	proxy.ops.sync = proxy_sync;
	if (bug == WORLD_LOST_SESSIONS) {
		proxy.ops.put = proxy_put;
	}
	s->ops = &proxy.ops;
}

static struct world *proxy_world;

static int proxy_sync(struct rsm_store *s, uint64_t token)
{
	int err = proxy.real->sync(s, token);

	for (uint32_t i = 1; i <= proxy_world->cfg.nodes; i++) {
		if (mem_store_rsm(proxy_world->nodes[i].store) == s) {
			disk_start(&proxy_world->nodes[i]);
		}
	}
	return err;
}

static void io_multicast(void *arg, const void *buf, size_t len)
{
	struct world_node *n = arg;

	corosim_multicast(n->w->sim, n->id, buf, len);
}

static void io_unicast(void *arg, uint32_t to, const void *buf, size_t len)
{
	struct world_node *n = arg;

	corosim_unicast(n->w->sim, n->id, to, buf, len);
}

static void io_changed(void *arg)
{
	struct world_node *n = arg;
	struct rsm_status s;

	if (n->w->cfg.verbose && n->rsm != NULL) {
		rsm_status(n->rsm, &s);
		SAY(n->w, "n%u %s state=%u epoch=%llu leader=n%u applied=%llu last=%llu", n->id,
		    view_state_name(rsm_view(n->rsm)->state), (unsigned int)s.state,
		    (unsigned long long)s.epoch, s.leader, (unsigned long long)s.applied_index,
		    (unsigned long long)s.last_index);
	}
}

static void node_start(struct world_node *n)
{
	struct rsm_cfg cfg;

	rsm_cfg_default(&cfg);
	n->io = (struct rsm_io){
		.multicast = io_multicast, .unicast = io_unicast, .changed = io_changed, .arg = n};
	n->machine = (struct rsm_machine){.apply = machine_apply,
	                                  .newview = machine_newview,
	                                  .clear = machine_clear,
	                                  .load = machine_load,
	                                  .loaded = machine_loaded,
	                                  .arg = n};
	cfg.nodeid = n->id;
	cfg.level_max = 1;
	cfg.uuid = n->uuid;
	cfg.incarnation = guid_of(n->w);
	cfg.retain = RETAIN;
	cfg.io = &n->io;
	cfg.machine = &n->machine;
	cfg.store = mem_store_rsm(n->store);
	n->life++;
	CHECK(rsm_create(&cfg, &n->rsm, NULL) == 0);
	rsm_on_tick(n->rsm, corosim_now(n->w->sim), 0);
	look(n);
	corosim_join(n->w->sim, n->id);
}

/* The process is gone; its unsynced writes may be, too. */
static void node_stop(struct world_node *n)
{
	rsm_destroy(n->rsm);
	n->rsm = NULL;
	n->frozen = 0;
	n->life++;
	mem_store_crash(n->store, corosim_random(n->w->sim, 2) == 0);
	for (uint32_t i = 0; i < n->queue_count; i++) {
		free(n->queue[i].arg);
	}
	n->queue_count = 0;
}

/* ---- events of corosync; those of a frozen process wait ---- */

struct held {
	struct world_node *n;
	int kind; /* 0 group, 1 ring, 2 quorum, 3 message, 4 unicast */
	struct view_peer peers[COROSIM_NODES_MAX];
	uint32_t members[COROSIM_NODES_MAX];
	uint32_t count;
	struct view_ring ring;
	bool quorate;
	struct view_peer from;
	size_t len;
	uint8_t bytes[];
};

/* The bug: what we hear, everybody is taken to have acknowledged. */
static void forge_acks(struct world_node *n, const struct rsm_msg *m)
{
	struct {
		uint8_t frame[sizeof(struct frame_wire)];
		struct rsm_ack_wire w;
	} ack = {.w = {.epoch = le64_make(m->epoch),
	               .index = le64_make(m->entry.index),
	               .hash = le64_make(rsm_hash(m->hash, &m->entry))}};
	size_t len = frame_seal(&ack, FRAME_ACK, sizeof(ack.w));

	for (uint32_t i = 1; i <= n->w->cfg.nodes; i++) {
		const struct view_peer from = {.nodeid = i, .pid = COROSIM_PID};

		rsm_on_multicast(n->rsm, &from, &ack, len);
	}
}

static void handle(struct held *h)
{
	struct world_node *n = h->n;
	struct rsm_msg m;
	const uint8_t *body;
	size_t body_len;
	uint16_t type;

	rsm_on_tick(n->rsm, corosim_now(n->w->sim), corosim_now(n->w->sim));
	switch (h->kind) {
	case 0:
		rsm_on_group(n->rsm, h->peers, h->count);
		break;
	case 1:
		rsm_on_ring(n->rsm, &h->ring, h->members, h->count);
		break;
	case 2:
		rsm_on_quorum(n->rsm, h->ring.seq, h->quorate);
		break;
	case 3:
		rsm_on_multicast(n->rsm, &h->from, h->bytes, h->len);
		if (n->w->cfg.bug == WORLD_SELF_DELIVERY &&
		    frame_open(h->bytes, h->len, &type, &body, &body_len) == 0 &&
		    type == FRAME_APPEND && rsm_msg_decode(type, body, body_len, &m) == 0) {
			forge_acks(n, &m);
		}
		break;
	default:
		rsm_on_unicast(n->rsm, h->from.nodeid, h->bytes, h->len);
		break;
	}
	look(n);
}

static void take(struct world *w, uint32_t id, struct held *h)
{
	struct world_node *n = &w->nodes[id];

	h->n = n;
	if (n->rsm == NULL) {
		free(h);
		return;
	}
	if (n->frozen != 0 && n->queue_count < QUEUE_MAX) {
		n->queue[n->queue_count++] = (struct queued){.arg = h};
		return;
	}
	handle(h);
	free(h);
}

static struct held *held_make(int kind, size_t len)
{
	struct held *h = calloc(1, sizeof(*h) + len);

	CHECK(h != NULL);
	h->kind = kind;
	h->len = len;
	return h;
}

static void on_group(void *arg, uint32_t node, const struct view_peer *peers, uint32_t count)
{
	struct held *h = held_make(0, 0);

	memcpy(h->peers, peers, count * sizeof(*peers));
	h->count = count;
	take(arg, node, h);
}

static void on_ring(void *arg, uint32_t node, const struct view_ring *ring, const uint32_t *members,
                    uint32_t count)
{
	struct held *h = held_make(1, 0);

	memcpy(h->members, members, count * sizeof(*members));
	h->count = count;
	h->ring = *ring;
	take(arg, node, h);
}

static void on_quorum(void *arg, uint32_t node, uint64_t ring_seq, bool quorate)
{
	struct held *h = held_make(2, 0);

	h->ring.seq = ring_seq;
	h->quorate = quorate;
	take(arg, node, h);
}

static void on_message(void *arg, uint32_t node, const struct view_peer *from, const void *buf,
                       size_t len)
{
	struct held *h = held_make(3, len);

	h->from = *from;
	memcpy(h->bytes, buf, len);
	take(arg, node, h);
}

static void on_unicast(void *arg, uint32_t node, uint32_t from, const void *buf, size_t len)
{
	struct held *h = held_make(4, len);

	h->from.nodeid = from;
	memcpy(h->bytes, buf, len);
	take(arg, node, h);
}

/* ---- clients ---- */

static void on_retry(void *arg, uint32_t number, uint64_t b);

static void on_done(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct op_record *op = arg;
	struct world *w = op->w;

	if (outcome == RSM_UNKNOWN && result->status == -ECANCELED) {
		return; /* who asked died with the process */
	}
	if (outcome == RSM_UNKNOWN) {
		w->report->unknown++;
		if (!guid_is_nil(&op->session)) {
			corosim_after(w->sim, (10 + corosim_random(w->sim, 900)) * MS, on_retry, w,
			              (uint32_t)(op - w->ops), 0);
		}
		return;
	}
	if (result->status != 0) {
		return; /* a configuration that the leader refused */
	}
	op->done = true;
	op->told_index = result->index;
	w->report->done++;
	if (result->index <= op->invoked_floor) {
		violate(w, "done at %llu, but invoked after %llu was done",
		        (unsigned long long)result->index, (unsigned long long)op->invoked_floor);
	}
	if (result->index > w->done_floor) {
		w->done_floor = result->index;
	}
}

/* The same request by the same session, at any node: applied once all the same. */
static void on_retry(void *arg, uint32_t number, uint64_t b)
{
	struct world *w = arg;
	struct world_node *n = &w->nodes[1 + corosim_random(w->sim, w->cfg.nodes)];
	struct op_record *op = &w->ops[number];
	struct command c = {.op = number, .key = op->key};
	const struct rsm_request q = {.type = RSM_COMMAND,
	                              .payload = &c,
	                              .len = sizeof(c),
	                              .session = op->session,
	                              .seq = 1,
	                              .deadline_ns = corosim_now(w->sim) + 3000 * MS,
	                              .fn = on_done,
	                              .arg = op};

	(void)b;
	if (n->rsm == NULL || n->frozen != 0 || rsm_propose(n->rsm, &q) != 0) {
		corosim_after(w->sim, 300 * MS, on_retry, w, number, 0);
		return;
	}
	w->report->retried++;
	look(n);
}

static void propose(struct world *w, struct world_node *n)
{
	struct rsm_request q = {.type = RSM_COMMAND, .fn = on_done};
	struct view_config config;
	uint8_t buf[sizeof(struct view_node_wire) * COROSIM_NODES_MAX];
	uint32_t dice = corosim_random(w->sim, 40);

	if (n->rsm == NULL || n->frozen != 0 || w->op_count == OPS_MAX) {
		return;
	}

	struct op_record *op = &w->ops[w->op_count];
	struct command c = {.op = w->op_count, .key = corosim_random(w->sim, KEYS)};

	w->op_count++;
	*op = (struct op_record){.w = w, .invoked_floor = w->done_floor};
	q.arg = op;
	q.deadline_ns = corosim_now(w->sim) + 3000 * MS;
	q.payload = &c;
	q.len = sizeof(c);
	if (dice == 0) { /* the last node leaves or comes */
		uint32_t last = w->cfg.nodes;

		config = *rsm_config(n->rsm);
		if (config.count == last) {
			config.count--;
		} else {
			config.nodes[config.count++] = (struct view_node){
				.nodeid = last, .votes = 1, .uuid = w->nodes[last].uuid};
		}
		q.type = RSM_CONFIG;
		q.payload = buf;
		q.len = view_config_encode(&config, buf);
	} else if (dice < 8) {
		q.type = RSM_NOP;
		q.len = 0;
	}

	op->key = c.key;
	if (q.type == RSM_COMMAND && dice % 2 == 0) {
		op->session = guid_of(w);
		q.session = op->session;
		q.seq = 1;
	}

	int err = rsm_propose(n->rsm, &q);

	if (err != 0) {
		CHECK(err == -EAGAIN || err == -ENOTCONN);
		op->refused = true;
		w->report->refused++;
	}
	look(n);
}

static void on_client(void *arg, uint32_t a, uint64_t b)
{
	struct world *w = arg;
	uint32_t burst = corosim_random(w->sim, 8) == 0 ? 12 : 1;

	(void)b;
	for (uint32_t i = 0; i < burst; i++) {
		propose(w, &w->nodes[1 + corosim_random(w->sim, w->cfg.nodes)]);
	}
	corosim_after(w->sim, (1 + corosim_random(w->sim, w->healing ? 200 : 60)) * MS, on_client,
	              w, a, 0);
}

static void on_tick(void *arg, uint32_t id, uint64_t b)
{
	struct world *w = arg;
	struct world_node *n = &w->nodes[id];

	(void)b;
	if (n->rsm != NULL && n->frozen == 0) {
		rsm_on_tick(n->rsm, corosim_now(w->sim), corosim_now(w->sim));
		look(n);
	}
	corosim_after(w->sim, TICK_NS, on_tick, w, id, 0);
}

/* ---- faults ---- */

static void on_thaw(void *arg, uint32_t id, uint64_t life)
{
	struct world *w = arg;
	struct world_node *n = &w->nodes[id];

	if (n->rsm == NULL || n->life != life) {
		return;
	}
	SAY(w, "n%u goes on, %u events wait", id, n->queue_count);
	n->frozen = 0;
	for (uint32_t i = 0; i < n->queue_count && !w->stop; i++) {
		handle(n->queue[i].arg);
		free(n->queue[i].arg);
		n->queue[i].arg = NULL;
	}
	for (uint32_t i = 0; i < n->queue_count; i++) {
		free(n->queue[i].arg);
	}
	n->queue_count = 0;
}

static void fault_power(struct world *w, struct world_node *n)
{
	if (n->up) {
		SAY(w, "n%u loses power", n->id);
		if (n->rsm != NULL) {
			node_stop(n);
		}
		corosim_kill(w->sim, n->id);
	} else {
		SAY(w, "n%u is switched on", n->id);
		corosim_start(w->sim, n->id);
		node_start(n);
	}
	n->up = !n->up;
}

static void fault_process(struct world *w, struct world_node *n)
{
	if (!n->up) {
		return;
	}
	if (n->rsm != NULL) {
		SAY(w, "n%u's process is killed", n->id);
		node_stop(n);
		corosim_leave(w->sim, n->id);
	} else {
		SAY(w, "n%u's process starts", n->id);
		node_start(n);
	}
}

static void fault_freeze(struct world *w, struct world_node *n)
{
	if (n->rsm != NULL && n->frozen == 0) {
		n->frozen = 1;
		SAY(w, "n%u's process is stopped", n->id);
		corosim_after(w->sim, (100 + corosim_random(w->sim, 4000)) * MS, on_thaw, w, n->id,
		              n->life);
	}
}

static void fault_part(struct world *w, bool heal)
{
	uint32_t parts[COROSIM_NODES_MAX] = {0};

	for (uint32_t i = 0; !heal && i < w->cfg.nodes; i++) {
		parts[i] = corosim_random(w->sim, 2);
	}
	SAY(w, "%s %u%u%u%u%u", heal ? "healed" : "parts", parts[0], parts[1], parts[2], parts[3],
	    parts[4]);
	corosim_part(w->sim, parts);
}

static void on_fault(void *arg, uint32_t a, uint64_t b)
{
	struct world *w = arg;
	struct world_node *n = &w->nodes[1 + corosim_random(w->sim, w->cfg.nodes)];
	uint32_t dice = corosim_random(w->sim, 10);

	(void)b;
	if (w->healing) {
		return;
	}
	if (dice < 2) {
		fault_part(w, false);
	} else if (dice < 4) {
		fault_part(w, true);
	} else if (dice < 6) {
		fault_power(w, n);
	} else if (dice < 8) {
		fault_process(w, n);
	} else {
		fault_freeze(w, n);
	}
	corosim_after(w->sim, (50 + corosim_random(w->sim, 2500)) * MS, on_fault, w, a, 0);
}

/* ---- one run ---- */

static void world_init(struct world *w)
{
	static const struct corosim_ops ops = {.group = on_group,
	                                       .ring = on_ring,
	                                       .quorum = on_quorum,
	                                       .message = on_message,
	                                       .unicast = on_unicast};
	struct rsm_mark mark = {.level = 1};

	w->sim = corosim_create(w->cfg.nodes, w->cfg.seed, &ops, w);
	w->ops = calloc(OPS_MAX, sizeof(*w->ops));
	w->truths = calloc(INDEX_MAX, sizeof(*w->truths));
	CHECK(w->ops != NULL && w->truths != NULL);
	proxy_world = w;
	for (uint32_t i = 1; i <= w->cfg.nodes; i++) {
		w->nodes[i].uuid = guid_of(w);
		mark.config.nodes[i - 1] =
			(struct view_node){.nodeid = i, .votes = 1, .uuid = w->nodes[i].uuid};
	}
	mark.config.count = w->cfg.nodes;
	for (uint32_t i = 1; i <= w->cfg.nodes; i++) {
		struct world_node *n = &w->nodes[i];

		n->w = w;
		n->id = i;
		n->queue = calloc(QUEUE_MAX, sizeof(*n->queue));
		CHECK(n->queue != NULL);
		n->store = mem_store_create(&mark);
		proxy_init(w->cfg.bug, mem_store_rsm(n->store));
		fault_power(w, n);
		corosim_after(w->sim, corosim_random(w->sim, 50) * MS, on_tick, w, i, 0);
	}
	corosim_after(w->sim, 2500 * MS, on_client, w, 0, 0);
	corosim_after(w->sim, 3000 * MS, on_fault, w, 0, 0);
}

static void world_fini(struct world *w)
{
	for (uint32_t i = 1; i <= w->cfg.nodes; i++) {
		if (w->nodes[i].rsm != NULL) {
			node_stop(&w->nodes[i]);
		}
		mem_store_destroy(w->nodes[i].store);
		free(w->nodes[i].queue);
	}
	corosim_destroy(w->sim);
	free(w->ops);
	free(w->truths);
}

/* Everything works again? */
static void check_end(struct world *w)
{
	struct rsm_status first = {0};

	for (uint32_t i = 1; i <= w->cfg.nodes && !w->stop; i++) {
		struct rsm_status s;

		rsm_status(w->nodes[i].rsm, &s);
		if (i == 1) {
			first = s;
		}
		if (s.state != RSM_ACTIVE) {
			violate(w, "n%u is not active in the end: %s, %s", i,
			        view_state_name(rsm_view(w->nodes[i].rsm)->state),
			        s.why == NULL ? "" : s.why);
		} else if (s.applied_index != first.applied_index) {
			violate(w, "n%u applied %llu, n1 %llu in the end", i,
			        (unsigned long long)s.applied_index,
			        (unsigned long long)first.applied_index);
		}
	}
	for (uint32_t i = 0; i < w->op_count && !w->stop; i++) {
		const struct op_record *op = &w->ops[i];

		if (op->done && op->told_index > first.applied_index) {
			violate(w, "proposal %u was done at %llu and is gone", i,
			        (unsigned long long)op->told_index);
		}
		if (op->done && op->index != 0 && op->index != op->told_index) {
			violate(w, "proposal %u was done at %llu and is at %llu", i,
			        (unsigned long long)op->told_index, (unsigned long long)op->index);
		}
	}
}

void world_run(const struct world_cfg *cfg, struct world_report *out)
{
	struct world w = {.cfg = *cfg, .report = out};
	uint64_t done_before;

	*out = (struct world_report){.violation = ""};
	world_init(&w);
	corosim_run(w.sim, FAULTS_NS, &w.stop);
	w.healing = true;
	if (!w.stop) {
		fault_part(&w, true);
		for (uint32_t i = 1; i <= cfg->nodes; i++) {
			if (!w.nodes[i].up) {
				fault_power(&w, &w.nodes[i]);
			} else if (w.nodes[i].rsm == NULL) {
				fault_process(&w, &w.nodes[i]);
			}
		}
	}
	corosim_run(w.sim, FAULTS_NS + HEAL_NS / 2, &w.stop);
	done_before = out->done;
	corosim_run(w.sim, FAULTS_NS + HEAL_NS, &w.stop);
	if (!w.stop && out->done < done_before + 20) {
		violate(&w, "only %llu proposals done after healing",
		        (unsigned long long)(out->done - done_before));
	}
	if (!w.stop) {
		uint32_t ops = w.op_count;

		w.op_count = OPS_MAX; /* no more clients */
		corosim_run(w.sim, FAULTS_NS + HEAL_NS + 5000 * MS, &w.stop);
		w.op_count = ops;
		check_end(&w);
	}
	world_fini(&w);
}

const char *world_bug_name(enum world_bug bug)
{
	static const char *const names[WORLD_BUG_COUNT] = {
		[WORLD_SOUND] = "none",
		[WORLD_SELF_DELIVERY] = "commit on self-delivery",
		[WORLD_LYING_DISK] = "acknowledge before durable",
		[WORLD_LOST_SESSIONS] = "forget done requests",
	};

	return names[bug];
}
