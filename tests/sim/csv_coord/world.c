/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/csv_coord/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/check/csv_check.h"
#include "tests/lib/test.h"

uint32_t dice(struct world *w, uint32_t below)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;

	uint64_t x = w->random ^ w->random >> 33;

	return (uint32_t)((x * 0xff51afd7ed558ccdu >> 32) % below);
}

void violation(struct world *w, const char *what, uint64_t a, uint64_t b)
{
	if (w->violations++ == 0) {
		(void)snprintf(w->why, sizeof(w->why), "t=%llu ms term %llu: %s (%llu, %llu)",
		               (unsigned long long)(w->now / MS), (unsigned long long)w->term, what,
		               (unsigned long long)a, (unsigned long long)b);
	}
}

bool node_runs(const struct world *w, const struct node *n)
{
	return n->up && n->frozen_until <= w->now;
}

static struct csv_lock_owner owner_of(const struct world *w, const struct node *n)
{
	return (struct csv_lock_owner){(uint32_t)(n - w->nodes), n->incarnation};
}

/* --- connections --- */

static void send(struct world *w, uint32_t node, bool to_coord, const struct csv_msg *msg)
{
	static uint8_t bytes[WIRE_BYTES];
	struct node *n = &w->nodes[node];
	uint64_t *last = &w->last_at[node][to_coord];
	struct wire *x = &w->wires[w->wires_count++];

	assert_true(w->wires_count < WIRE_MAX);
	*last = *last > w->now ? *last : w->now;
	*last += 20000 + (uint64_t)dice(w, dice(w, 50) == 0 ? 60000 : 900) * 1000;
	x->to_coord = to_coord;
	x->node = node;
	x->connection = n->connection;
	x->at = *last;
	x->order = ++w->order;
	x->len = csv_msg_encode(msg, bytes, WIRE_BYTES);
	assert_true(x->len > 0);
	x->bytes = malloc((size_t)x->len);
	assert_non_null(x->bytes);
	memcpy(x->bytes, bytes, (size_t)x->len);
}

static void cut(struct world *w, struct node *n)
{
	if (n->connection == 0) {
		return;
	}
	n->connection = 0;
	n->connect_at = w->now + (uint64_t)dice(w, 300) * MS;
	if (w->coord != NULL) {
		csv_coord_disconnected(w->coord, (uint32_t)(n - w->nodes));
		if (w->lie == LIE_PURGE) {
			struct csv_members wrong = w->members;

			wrong.fenced[n - w->nodes] = n->incarnation;
			csv_coord_set_members(w->coord, &wrong, w->now);
		}
	}
	if (n->client != NULL) {
		csv_client_disconnected(n->client);
	}
}

static void deliver(struct world *w, const struct wire *x)
{
	static struct csv_msg msg;
	struct node *n = &w->nodes[x->node];
	int err;

	if (x->connection != n->connection || n->connection == 0) {
		return; /* it is lost with its connection */
	}
	err = csv_msg_decode(x->bytes, (size_t)x->len, &msg, NULL);
	assert_int_equal(err, 0);
	if (x->to_coord) {
		err = w->coord != NULL ? csv_coord_receive(w->coord, x->node, &msg, w->now)
		                       : -EPROTO;
	} else {
		err = csv_client_receive(n->client, &msg, w->now);
		acts_take(w, n); /* replies are borrowed */
	}
	if (err != 0) {
		cut(w, n);
	}
}

/* What is for somebody who is frozen waits for him. */
static bool is_due(const struct world *w, const struct wire *x)
{
	const struct node *to =
		&w->nodes[x->to_coord && w->coord != NULL ? w->coord_node : x->node];

	return x->at <= w->now &&
	       (x->connection != w->nodes[x->node].connection || node_runs(w, to));
}

static void deliver_due(struct world *w)
{
	for (;;) {
		uint32_t next = WIRE_MAX;

		for (uint32_t i = 0; i < w->wires_count; i++) {
			if (is_due(w, &w->wires[i]) &&
			    (next == WIRE_MAX || w->wires[i].order < w->wires[next].order)) {
				next = i;
			}
		}
		if (next == WIRE_MAX) {
			return;
		}

		struct wire x = w->wires[next];

		w->wires[next] = w->wires[--w->wires_count];
		deliver(w, &x);
		free(x.bytes);
	}
}

/* --- device --- */

static void land_due(struct world *w)
{
	for (uint32_t i = 0; i < WRITES_MAX; i++) {
		struct data *d = &w->data[i];

		if (!d->used || d->at > w->now) {
			continue;
		}
		d->used = false;
		w->writes++;
		if (w->unit_of[d->unit] != d->file) {
			violation(w, "a write came to a unit of another file", d->node, d->unit);
		}
	}
}

/* --- the cluster --- */

static void add_holder(struct world *w, const struct node *n)
{
	assert_true(w->holders_count < CSV_COORD_HOLDERS_MAX);
	w->holders[w->holders_count++] = owner_of(w, n);
}

static void remove_holder(struct world *w, const struct csv_lock_owner *owner)
{
	for (uint32_t i = 0; i < w->holders_count; i++) {
		if (w->holders[i].node == owner->node &&
		    w->holders[i].incarnation <= owner->incarnation) {
			w->holders[i--] = w->holders[--w->holders_count];
		}
	}
}

static void coord_gone(struct world *w)
{
	struct csv_coord_stats stats;

	csv_coord_get_stats(w->coord, &stats);
	w->repeated += stats.repeated;
	csv_coord_destroy(w->coord);
	w->coord = NULL;
}

static void coord_dies(struct world *w)
{
	if (w->coord == NULL) {
		return;
	}
	for (uint32_t i = 0; i < NODES; i++) {
		cut(w, &w->nodes[i]);
	}
	sim_disk_crash(w->disk, true);
	coord_gone(w);
	w->quiet = false;
	w->quiet_at = w->now + 2 * SEC;
	w->coord_at = w->now + 200 * MS + (uint64_t)dice(w, 800) * MS;
	w->coord_next = NODES;
}

static void members_changed(struct world *w)
{
	if (w->coord != NULL) {
		csv_coord_set_members(w->coord, &w->members, w->now);
	}
}

static void boot(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	struct csv_client_cfg cfg = {
		.volume = w->super.volume,
		.node = i,
		.handles_max = 4,
		.leases_max = 8,
		.locks_max = 8,
	};

	n->incarnation++;
	n->up = true;
	n->frozen_until = 0;
	n->fence_at = 0;
	n->connect_at = w->now;
	n->renewed_ns = w->now;
	cfg.incarnation = n->incarnation;
	assert_int_equal(csv_client_create(&cfg, &n->client, NULL), 0);
	acts_boot(w, n);
	w->members.run[i] = n->incarnation;
	add_holder(w, n);
	members_changed(w);
}

/* The machine is off; what it had sent to the device may still come. */
static void power_off(struct world *w, struct node *n)
{
	if (!n->up) {
		return;
	}
	if (w->coord != NULL && w->coord_node == (uint32_t)(n - w->nodes)) {
		coord_dies(w);
	}
	cut(w, n);
	n->up = false;
	acts_dead(w, n);
	csv_client_destroy(n->client);
	n->client = NULL;
	n->boot_at = w->now + 500 * MS + (uint64_t)dice(w, 4000) * MS;
	if (n->fence_at == 0) {
		n->fence_at = w->now + SEC + (uint64_t)dice(w, 2000) * MS;
	}
}

/* Preempt and abort, reset: nothing of this run is executed any more. */
static void fence(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	const struct csv_lock_owner owner = owner_of(w, n);

	n->fence_at = 0;
	w->fenced++;
	if (w->lie != LIE_PROOF) {
		for (uint32_t k = 0; k < WRITES_MAX; k++) {
			struct data *d = &w->data[k];

			if (d->used && d->node == i && d->incarnation <= n->incarnation) {
				d->used = false;
				w->aborted++;
			}
		}
		power_off(w, n);
		n->fence_at = 0;
	}
	w->members.fenced[i] = owner.incarnation;
	w->members.run[i] = 0;
	remove_holder(w, &owner);
	members_changed(w);
}

static void appoint(struct world *w)
{
	struct csv_coord_cfg cfg = {
		.super = &w->super,
		.term = w->term + 1,
		.quiet = w->quiet,
		.members = &w->members,
		.holders = w->holders,
		.holders_count = w->holders_count,
		.fence_ns = CSV_COORD_GRACE_NS,
		.locks_max = 512,
		.handles_max = 64,
		.leases_max = 128,
	};
	uint32_t at = w->coord_next < NODES ? (uint32_t)w->coord_next : dice(w, NODES);

	for (uint32_t i = 0; i < NODES; i++, at = (at + 1) % NODES) {
		const struct node *n = &w->nodes[at];

		if (!node_runs(w, n)) {
			continue;
		}
		cfg.node = at;
		if (w->lie == LIE_HOLDERS && w->holders_count > 1) {
			cfg.holders_count--;
		}
		w->coord_node = at;
		w->term++;
		w->terms++;
		assert_int_equal(csv_coord_create(&cfg, w->now, &w->coord, NULL), 0);
		return;
	}
}

static void settle_disk(struct world *w)
{
	while (sim_disk_ghost(w->disk)) {
	}
	w->quiet = true;
	if (w->coord != NULL) {
		csv_coord_quiet(w->coord);
	}
}

static void run_coord(struct world *w)
{
	const struct csv_msg *msg;
	struct errbuf eb = {0};
	struct csv_io io;
	uint32_t node;
	uint32_t id;

	for (uint32_t turn = 0; turn < 4; turn++) {
		while (csv_coord_next_io(w->coord, &io)) {
			sim_disk_start(w->disk, &io);
		}
		while ((msg = csv_coord_next_message(w->coord, &node)) != NULL) {
			acts_lease_said(w, msg);
			if (w->nodes[node].connection != 0) {
				send(w, node, false, msg);
			}
		}
		for (node = 0; node < NODES; node++) {
			struct node *n = &w->nodes[node];
			bool fence;
			uint64_t run = csv_coord_waits_for(w->coord, node, &fence);

			if (fence && n->incarnation == run && n->fence_at == 0) {
				n->fence_at = w->now + SEC;
			}
		}
		if (sim_disk_step(w->disk, &id)) {
			csv_coord_io_done(w->coord, id, 0);
		}
	}
	if (csv_coord_next_ns(w->coord) <= w->now) {
		csv_coord_tick(w->coord, w->now);
	}
	if (csv_coord_state(w->coord, &eb) == CSV_COORD_FAILED) {
		if (strstr(eb.text, "known to be silent") == NULL) {
			violation(w, eb.text, 0, 0);
		}
		coord_dies(w); /* one takeover too many: when all are silent */
		settle_disk(w);
	} else if (csv_coord_state(w->coord, NULL) == CSV_COORD_CLOSED) {
		for (uint32_t i = 0; i < NODES; i++) {
			cut(w, &w->nodes[i]);
		}
		coord_gone(w);
		w->coord_at = w->now + 5 * MS;
		w->moves++;
	}
}

/* --- nodes --- */

static void run_node(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	static struct csv_msg msg;

	if (w->now - n->renewed_ns > SEC) {
		n->renewed_ns = w->now;
		if (w->members.fenced[i] >= n->incarnation) {
			csv_client_die(n->client); /* its slot says so */
		} else {
			csv_client_set_until(n->client, w->now + LEASE_NS);
		}
	}
	if (n->connection == 0 && w->coord != NULL && w->now >= n->connect_at &&
	    csv_client_state(n->client) != CSV_CLIENT_DEAD) {
		n->connection = ++w->connections;
		csv_client_connected(n->client);
	}
	acts_step(w, n, w->faults);
	while (n->connection != 0 && csv_client_next_message(n->client, w->now, &msg)) {
		send(w, i, true, &msg);
	}
	if (n->connection != 0 && csv_client_state(n->client) == CSV_CLIENT_OFFLINE) {
		cut(w, n);
	}
}

static void faults(struct world *w)
{
	struct node *n = &w->nodes[dice(w, NODES)];

	if (w->lie == LIE_PROOF && dice(w, 1000) == 0 && n->up && n->fence_at == 0) {
		n->fence_at = w->now;
	}
	if (dice(w, 1500) == 0) {
		cut(w, n);
	} else if (dice(w, 20000) == 0) {
		power_off(w, n);
	} else if (dice(w, 8000) == 0 && node_runs(w, n)) {
		n->frozen_until = w->now + (uint64_t)dice(w, dice(w, 3) == 0 ? 20000 : 2000) * MS;
	} else if (dice(w, 12000) == 0) {
		coord_dies(w);
	} else if (dice(w, 12000) == 0 && w->coord != NULL) {
		w->coord_next = dice(w, NODES);
		csv_coord_hand_over(w->coord, (uint32_t)w->coord_next);
	}
}

static void cluster(struct world *w)
{
	for (uint32_t i = 0; i < NODES; i++) {
		struct node *n = &w->nodes[i];

		/* Its lease ran out. */
		if (n->up && n->fence_at == 0 && w->now > n->renewed_ns + LEASE_NS + SEC) {
			n->fence_at = w->now;
		}
		if (n->fence_at != 0 && w->now >= n->fence_at &&
		    w->members.fenced[i] < n->incarnation) {
			fence(w, i);
		}
		/* It joins when everything of its last run is proven gone. */
		if (!n->up && w->now >= n->boot_at && w->members.fenced[i] == n->incarnation) {
			boot(w, i);
		}
		if (n->up && node_runs(w, n) && csv_client_state(n->client) == CSV_CLIENT_DEAD) {
			power_off(w, n); /* it knows that it was fenced, and starts again */
		}
	}
	if (w->coord == NULL && w->now >= w->coord_at) {
		appoint(w);
	}
	if (!w->quiet) {
		if (dice(w, 4) == 0) {
			(void)sim_disk_ghost(w->disk);
		}
		if (w->now >= w->quiet_at) {
			settle_disk(w);
		}
	}
}

static void step(struct world *w)
{
	w->now += 100000 + (uint64_t)dice(w, 900) * 1000;
	deliver_due(w);
	land_due(w);
	cluster(w);
	/* The coordinator's node may be frozen, and the coordinator with it. */
	if (w->coord != NULL && node_runs(w, &w->nodes[w->coord_node])) {
		run_coord(w);
	}
	for (uint32_t i = 0; i < NODES; i++) {
		if (node_runs(w, &w->nodes[i])) {
			run_node(w, i);
		}
	}
	if (w->faults) {
		faults(w);
	}
}

static int emit(void *arg, uint64_t block, const void *buf)
{
	sim_disk_put(arg, block, buf);
	return 0;
}

void world_init(struct world *w, uint64_t seed, enum lie lie)
{
	const struct csv_layout_cfg cfg = {.size_bytes = (uint64_t)UNITS << 20};

	memset(w, 0, sizeof(*w));
	w->random = seed * 2 + 1;
	w->lie = lie;
	w->super = (struct csv_super){.term = 1, .volume = {{9}}, .label = "sim"};
	assert_int_equal(csv_layout_make(&cfg, &w->super.layout, NULL), 0);
	w->disk = sim_disk_create(w->super.layout.size, seed);
	assert_int_equal(csv_meta_format(&w->super, 0, emit, w->disk), 0);
	w->term = 1;
	w->quiet = true;
	w->coord_next = NODES;
	for (uint32_t i = 0; i < NODES; i++) {
		boot(w, i);
	}
}

void world_fini(struct world *w)
{
	for (uint32_t i = 0; i < NODES; i++) {
		csv_client_destroy(w->nodes[i].client);
	}
	while (w->wires_count != 0) {
		free(w->wires[--w->wires_count].bytes);
	}
	csv_coord_destroy(w->coord);
	sim_disk_destroy(w->disk);
}

static bool all_idle(const struct world *w)
{
	for (uint32_t i = 0; i < NODES; i++) {
		const struct node *n = &w->nodes[i];

		if (!node_runs(w, n) || csv_client_state(n->client) != CSV_CLIENT_ACTIVE ||
		    !acts_idle(n)) {
			return false;
		}
	}
	return w->coord != NULL && csv_coord_state(w->coord, NULL) == CSV_COORD_ACTIVE;
}

static int check_read(void *arg, uint64_t block, uint32_t count, void *buf)
{
	for (uint32_t i = 0; i < count; i++) {
		memcpy((uint8_t *)buf + (size_t)i * CSV_BLOCK_BYTES, sim_disk_at(arg, block + i),
		       CSV_BLOCK_BYTES);
	}
	return 0;
}

static void check_say(void *arg, bool fault, const char *text)
{
	(void)fault;
	violation(arg, text, 0, 0);
}

/* Maps, counts and trees agree. */
static void check(struct world *w)
{
	const struct csv_check_disk disk = {
		.read = check_read,
		.arg = w->disk,
		.size_bytes = (uint64_t)UNITS << 20,
	};
	const struct csv_check_cfg cfg = {.say = check_say, .arg = w};
	struct csv_check_result result;

	assert_int_equal(csv_check_run(&disk, &cfg, &result, NULL), 0);
}

/* Is exactly what should be there in the root directory? */
static void look(struct world *w)
{
	static struct left want[1100];
	uint32_t want_count = 0;
	uint32_t found = 0;
	uint32_t extra = 0;
	struct csv_meta *m;
	const struct csv_meta_cfg cfg = {.super = &w->super, .quiet = true};
	struct csv_name names[8] = {0};
	struct csv_op op = {.type = CSV_OP_LIST,
	                    .dir = csv_layout_root(&w->super.layout),
	                    .names = names,
	                    .names_max = 8};
	struct csv_io io;
	uint32_t id;

	acts_names(w, want, &want_count);
	sim_disk_crash(w->disk, false);
	check(w);
	assert_int_equal(csv_meta_create(&cfg, &m, NULL), 0);
	while (csv_meta_status(m, NULL) == -EINPROGRESS) {
		while (csv_meta_next_io(m, &io)) {
			sim_disk_start(w->disk, &io);
		}
		if (sim_disk_step(w->disk, &id)) {
			csv_meta_io_done(m, id, 0);
		}
	}
	assert_int_equal(csv_meta_status(m, NULL), 0);
	do {
		csv_meta_submit(m, &op);
		while (csv_meta_completed(m) == NULL) {
			while (csv_meta_next_io(m, &io)) {
				sim_disk_start(w->disk, &io);
			}
			if (sim_disk_step(w->disk, &id)) {
				csv_meta_io_done(m, id, 0);
			}
		}
		assert_int_equal(op.result, 0);
		for (uint32_t i = 0; i < op.names_count; i++) {
			uint32_t k = 0;

			while (k < want_count && strcmp(want[k].name, names[i].name) != 0 &&
			       strcmp(want[k].other, names[i].name) != 0) {
				k++;
			}
			if (k == want_count) {
				extra += names[i].name[0] == 'p';
			} else {
				want[k] = want[--want_count]; /* once */
				found++;
			}
		}
	} while (op.names_count != 0);
	csv_meta_destroy(m);
	for (uint32_t k = 0; k < want_count; k++) {
		if (!want[k].may_miss) {
			violation(w, "a name that was acknowledged is not there", k, want_count);
		}
	}
	if (extra != 0) {
		violation(w, "names that should not be there", extra, found);
	}
}

void world_run(struct world *w, uint64_t for_ns)
{
	uint64_t end = w->now + for_ns;

	w->faults = true;
	while (w->now < end && w->violations == 0) {
		step(w);
	}
	w->faults = false;
	end = w->now + 120 * SEC;
	while (w->violations == 0 && !all_idle(w)) {
		step(w);
		if (w->now > end) {
			violation(w, "it does not come to rest", w->coord != NULL,
			          w->holders_count);
		}
	}
	if (w->violations == 0) {
		look(w);
	}
}
