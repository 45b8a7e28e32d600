/* SPDX-License-Identifier: Apache-2.0 */

/*
 * acts - what each node does at the same time: makes, renames and removes names of its own; opens,
 * leases, writes, converts, cuts and removes files that all share; takes locks that all want.
 *
 * Oracles: an operation on an own name succeeds, and in the end exactly the right names are there;
 * opens and locks that nodes believe to have agree; a write lands in a unit that belongs to the
 * part of the file that it was leased for; nothing that is claimed again is refused.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/test.h"
#include "tests/sim/csv_coord/world.h"

#define RW (CSV_LOCK_READ | CSV_LOCK_WRITE)
#define MIB (1ull << 20)

static void begin(struct csv_client_req *req, enum csv_msg_type type, bool *busy)
{
	memset(&req->msg, 0, sizeof(req->msg));
	req->msg.type = type;
	*busy = true;
}

static uint64_t root(const struct world *w)
{
	return csv_layout_root(&w->super.layout);
}

/* --- names --- */

static void name_of(const struct world *w, const struct node *n, uint32_t serial, char out[32])
{
	(void)snprintf(out, 32, "p%u.%llu.%u", (unsigned)(n - w->nodes),
	               (unsigned long long)n->incarnation, serial);
}

static void names_start(struct world *w, struct node *n)
{
	struct name_act *a = &n->names;

	begin(&a->req, CSV_MSG_OP, &a->busy);

	struct csv_msg_op *op = &a->req.msg.op;

	a->kind = !a->exists ? 0 : 1 + dice(w, 2);
	if (a->kind == 0) {
		a->serial++;
	}
	name_of(w, n, a->serial, a->name);
	name_of(w, n, a->serial + 1, a->name2);
	op->op = a->kind == 0 ? CSV_OP_CREATE : a->kind == 1 ? CSV_OP_RENAME : CSV_OP_UNLINK;
	op->dir = root(w);
	op->name = a->name;
	op->name_len = (uint32_t)strlen(a->name);
	op->now_ns = w->now;
	if (a->kind == 1) {
		op->dir2 = root(w);
		op->name2 = a->name2;
		op->name2_len = (uint32_t)strlen(a->name2);
		op->flags = CSV_MSG_NO_REPLACE;
	}
	csv_client_submit(n->client, &a->req);
}

static void names_done(struct world *w, struct node *n)
{
	struct name_act *a = &n->names;

	a->busy = false;
	if (csv_client_state(n->client) == CSV_CLIENT_DEAD) {
		a->busy = true; /* nobody knows */
		return;
	}
	if (a->req.result == -ENOSPC) {
		w->full++; /* in grace nothing that was removed is freed */
		return;
	}
	if (a->req.result != 0) {
		violation(w, "an operation on its own name failed", a->kind,
		          (uint64_t)-a->req.result);
		return;
	}
	w->acknowledged++;
	a->exists = a->kind != 2;
	a->serial += a->kind == 1;
}

static void leave(struct world *w, const struct node *n)
{
	const struct name_act *a = &n->names;
	struct left *l = &w->left[w->left_count];

	if (!a->busy && !a->exists) {
		return;
	}
	assert_true(w->left_count < 1024);
	memset(l, 0, sizeof(*l));
	name_of(w, n, a->serial, l->name);
	l->may_miss = a->busy && a->kind != 1;
	if (a->busy && a->kind == 1) {
		name_of(w, n, a->serial + 1, l->other);
	}
	w->left_count++;
}

void acts_names(const struct world *w, struct left *out, uint32_t *count)
{
	static struct world copy;

	memcpy(&copy, w, sizeof(copy));
	for (uint32_t i = 0; i < NODES; i++) {
		if (copy.nodes[i].up) {
			leave(&copy, &copy.nodes[i]);
		}
	}
	memcpy(out, copy.left, sizeof(copy.left[0]) * copy.left_count);
	*count = copy.left_count;
}

/* --- locks --- */

static void check_locks(struct world *w, const struct node *n, const struct lock_act *mine)
{
	for (uint32_t i = 0; i < NODES; i++) {
		const struct node *o = &w->nodes[i];

		for (uint32_t k = 0; k < 2; k++) {
			const struct lock_act *a = &o->locks[k];

			if (a == mine || !o->up || !a->held || a->object != mine->object ||
			    a->from >= mine->to || mine->from >= a->to ||
			    w->members.fenced[i] >= o->incarnation) {
				continue;
			}
			if (!csv_lock_compatible(CSV_LOCK_MODES, a->mode, mine->mode)) {
				violation(w, "two have locks that disagree",
				          (uint64_t)(n - w->nodes), i);
			}
		}
	}
}

static void lock_start(struct world *w, struct node *n, struct lock_act *a)
{
	begin(&a->req, CSV_MSG_LOCK, &a->busy);
	a->number = csv_client_number(n->client);
	a->object = dice(w, LOCKS);
	a->mode = CSV_LOCK_CR + dice(w, 5);
	a->from = dice(w, 2) * 50;
	a->to = a->from + 50 + dice(w, 2) * 50;
	a->held = false;
	a->give_up = false;
	a->unlocking = false;
	a->req.msg.lock = (struct csv_msg_lock){
		.number = a->number,
		.name = {a->object, 0},
		.from = a->from,
		.to = a->to,
		.mode = a->mode,
		.flags = dice(w, 4) == 0 ? CSV_MSG_TRY : 0,
	};
	csv_client_submit(n->client, &a->req);
}

static void lock_done(struct world *w, struct node *n, struct lock_act *a)
{
	a->busy = false;
	if (a->unlocking) {
		a->number = 0;
		return;
	}
	if (a->req.result == 0) {
		w->grants++;
		a->held = true;
		a->mode = a->req.msg.lock.mode;
		a->until = w->now + (uint64_t)dice(w, 400) * MS;
		check_locks(w, n, a);
	} else if ((a->req.msg.lock.flags & CSV_MSG_CONVERT) == 0) {
		a->number = 0;
	} else if (a->req.result != -EDEADLK && a->req.result != -EBUSY &&
	           a->req.result != -ESTALE) {
		violation(w, "a conversion failed", (uint64_t)-a->req.result, 0);
	}
}

static void lock_step(struct world *w, struct node *n, struct lock_act *a, bool more)
{
	if (a->busy) {
		return;
	}
	if (a->number == 0) {
		if (more && dice(w, 40) == 0) {
			lock_start(w, n, a);
		}
		return;
	}
	if (more && !a->give_up && (w->now < a->until || dice(w, 50) != 0)) {
		return;
	}
	if (more && a->give_up && dice(w, 300) != 0 && dice(w, 20) == 0) {
		return; /* sometimes somebody is slow */
	}
	begin(&a->req, CSV_MSG_UNLOCK, &a->busy);
	a->held = false;
	if (more && !a->give_up && dice(w, 2) == 0) {
		a->req.msg.type = CSV_MSG_LOCK;
		a->req.msg.lock = (struct csv_msg_lock){
			.number = a->number,
			.name = {a->object, 0},
			.from = a->from,
			.to = a->to,
			.mode = CSV_LOCK_CR + dice(w, 5),
			.flags = CSV_MSG_CONVERT,
		};
	} else {
		a->unlocking = true;
		a->req.msg.number = a->number;
	}
	csv_client_submit(n->client, &a->req);
}

/* --- files --- */

static uint64_t unit_key(uint64_t generation, uint64_t file_bytes)
{
	return generation << 16 | file_bytes / MIB;
}

/* From the coordinator's mouth: whose the units are from now on. */
void acts_lease_said(struct world *w, const struct csv_msg *msg)
{
	const struct csv_layout_lease *l = &msg->reply.lease;

	if (msg->type != CSV_MSG_REPLY || (msg->reply.parts & CSV_MSG_LEASE) == 0) {
		return;
	}
	w->leases++;
	for (uint32_t i = 0; i < l->extents_count; i++) {
		const struct csv_layout_extent *e = &l->extents[i];

		for (uint64_t at = 0; at < e->length_bytes; at += MIB - e->file_bytes % MIB) {
			w->unit_of[(e->device_bytes + at) / MIB] =
				unit_key(l->generation, e->file_bytes + at);
			if (e->file_bytes % MIB != 0) {
				at += e->file_bytes % MIB; /* only the first is a part */
			}
		}
	}
}

static void check_opens(struct world *w, const struct node *n)
{
	for (uint32_t i = 0; i < NODES; i++) {
		const struct node *o = &w->nodes[i];

		if (o != n && o->up && o->file.opened && o->file.ino == n->file.ino &&
		    o->file.generation == n->file.generation &&
		    w->members.fenced[i] < o->incarnation &&
		    !csv_lock_compatible(CSV_LOCK_SHARES, o->file.share, n->file.share)) {
			violation(w, "two opens disagree", (uint64_t)(n - w->nodes), i);
		}
	}
}

static void file_op(struct world *w, struct node *n, enum csv_op_type type)
{
	struct file_act *a = &n->file;

	begin(&a->req, CSV_MSG_OP, &a->busy);
	(void)snprintf(a->name, sizeof(a->name), "s%u", a->file);
	a->req.msg.op = (struct csv_msg_op){
		.op = type,
		.dir = root(w),
		.name = a->name,
		.name_len = (uint32_t)strlen(a->name),
		.now_ns = type == CSV_OP_LOOKUP ? 0 : w->now,
	};
	csv_client_submit(n->client, &a->req);
}

static void file_under_handle(struct world *w, struct node *n, enum csv_op_type type)
{
	struct file_act *a = &n->file;

	begin(&a->req, CSV_MSG_OP, &a->busy);
	a->req.msg.op = (struct csv_msg_op){
		.op = type,
		.ino = a->ino,
		.generation = a->generation,
		.handle = a->handle,
		.now_ns = w->now,
	};
	if (type == CSV_OP_CONVERT) {
		a->req.msg.op.block = dice(w, 128);
		a->req.msg.op.count = 1 + dice(w, 128);
	}
	csv_client_submit(n->client, &a->req);
}

static void file_open(struct world *w, struct node *n)
{
	static const uint32_t shares[] = {
		CSV_LOCK_SHARE_MODE(RW, CSV_LOCK_READ),
		CSV_LOCK_SHARE_MODE(RW, CSV_LOCK_ALL),
		CSV_LOCK_SHARE_MODE(RW, CSV_LOCK_ALL),
		CSV_LOCK_SHARE_MODE(CSV_LOCK_READ, CSV_LOCK_ALL),
	};
	struct file_act *a = &n->file;

	begin(&a->req, CSV_MSG_OPEN, &a->busy);
	a->step = FILE_OPEN;
	a->handle = csv_client_number(n->client);
	a->share = shares[dice(w, ARRAY_LEN(shares))];
	a->req.msg.open = (struct csv_msg_open){
		.ino = a->ino,
		.generation = a->generation,
		.handle = a->handle,
		.share = a->share,
	};
	csv_client_submit(n->client, &a->req);
}

static void file_layout(struct world *w, struct node *n)
{
	struct file_act *a = &n->file;

	begin(&a->req, CSV_MSG_LAYOUT, &a->busy);
	a->step = FILE_LAYOUT;
	a->give_up = false;
	a->lease = csv_client_number(n->client);
	a->req.msg.layout = (struct csv_msg_layout){
		.handle = a->handle,
		.number = a->lease,
		.to_bytes = (1 + dice(w, 4)) * MIB,
		.now_ns = w->now,
		.flags = (a->share & CSV_LOCK_WRITE) != 0 ? CSV_MSG_WRITE | CSV_MSG_ALLOCATE : 0,
	};
	csv_client_submit(n->client, &a->req);
}

static void file_number(struct node *n, enum csv_msg_type type, uint64_t number)
{
	struct file_act *a = &n->file;

	begin(&a->req, type, &a->busy);
	a->step = type == CSV_MSG_CLOSE ? FILE_CLOSE : FILE_RETURN;
	a->opened = a->opened && type != CSV_MSG_CLOSE;
	a->leased = false;
	a->req.msg.number = number;
	csv_client_submit(n->client, &a->req);
}

static bool writes_under_way(const struct world *w, const struct node *n)
{
	for (uint32_t i = 0; i < WRITES_MAX; i++) {
		if (w->data[i].used && w->data[i].node == (uint32_t)(n - w->nodes) &&
		    w->data[i].incarnation == n->incarnation) {
			return true;
		}
	}
	return false;
}

static void write_some(struct world *w, struct node *n, const struct csv_layout_lease *l)
{
	struct file_act *a = &n->file;
	const struct csv_layout_extent *e =
		l->extents_count != 0 ? &l->extents[dice(w, l->extents_count)] : NULL;

	a->to_write--;
	if (e == NULL || !l->write || !csv_layout_lease_usable(l, true, w->now)) {
		return;
	}
	/* The device refuses those whose keys are gone. */
	if (w->members.fenced[n - w->nodes] >= n->incarnation && w->lie != LIE_PROOF) {
		return;
	}
	for (uint32_t i = 0; i < WRITES_MAX; i++) {
		struct data *d = &w->data[i];
		uint64_t in = (uint64_t)dice(w, (uint32_t)(e->length_bytes / 4096)) * 4096;

		if (!d->used) {
			w->alone += w->coord == NULL ||
			            csv_coord_state(w->coord, NULL) != CSV_COORD_ACTIVE;
			*d = (struct data){
				.used = true,
				.node = (uint32_t)(n - w->nodes),
				.incarnation = n->incarnation,
				.unit = (e->device_bytes + in) / MIB,
				.file = unit_key(l->generation, e->file_bytes + in),
				.at = w->now + 100000 +
			              (uint64_t)dice(w, dice(w, 6) == 0 ? 800 : 4) * MS,
			};
			return;
		}
	}
}

/* The lease is there: write, convert, until enough, or until somebody waits for it. */
static void file_write(struct world *w, struct node *n, bool more)
{
	struct file_act *a = &n->file;
	const struct csv_layout_lease *l = csv_client_lease(n->client, a->lease);

	if (l == NULL || a->give_up || !more || a->to_write == 0) {
		a->step = FILE_DRAIN;
	} else if (dice(w, 12) == 0 && (a->share & CSV_LOCK_WRITE) != 0 &&
	           !writes_under_way(w, n)) {
		a->step = FILE_CONVERT;
		file_under_handle(w, n, CSV_OP_CONVERT);
	} else if (dice(w, 4) == 0) {
		write_some(w, n, l);
	}
}

static void file_idle(struct world *w, struct node *n)
{
	struct file_act *a = &n->file;

	a->file = dice(w, FILES);
	a->step = dice(w, 8) == 0 ? FILE_UNLINK : FILE_LOOKUP;
	file_op(w, n, a->step == FILE_UNLINK ? CSV_OP_UNLINK : CSV_OP_LOOKUP);
}

static void file_step(struct world *w, struct node *n, bool more)
{
	struct file_act *a = &n->file;

	if (a->busy) {
		return;
	}
	switch (a->step) {
	case FILE_IDLE:
		if (more && dice(w, 20) == 0) {
			file_idle(w, n);
		}
		break;
	case FILE_WRITING:
		file_write(w, n, more);
		break;
	case FILE_DRAIN:
		if (w->lie == LIE_RETURN || !writes_under_way(w, n)) {
			file_number(n, CSV_MSG_RETURN, a->lease);
		}
		break;
	case FILE_LOOKUP:
	case FILE_OPEN:
	case FILE_LAYOUT:
	case FILE_CONVERT:
	case FILE_RETURN:
	case FILE_TRUNCATE:
	case FILE_CLOSE:
	case FILE_UNLINK:
		break;
	}
}

/* Open, and no lease: what next? */
static void file_next(struct world *w, struct node *n)
{
	struct file_act *a = &n->file;

	if ((a->share & CSV_LOCK_WRITE) != 0 && dice(w, 3) == 0) {
		a->step = FILE_TRUNCATE;
		file_under_handle(w, n, CSV_OP_TRUNCATE);
	} else if (dice(w, 2) == 0) {
		file_layout(w, n);
	} else {
		file_number(n, CSV_MSG_CLOSE, a->handle);
	}
}

static void file_found(struct world *w, struct node *n)
{
	struct file_act *a = &n->file;
	const struct csv_msg *reply = a->req.reply;

	if (a->req.result == 0 && (reply->reply.parts & CSV_MSG_ATTR) != 0) {
		a->ino = reply->reply.attr.ino;
		a->generation = reply->reply.attr.generation;
		file_open(w, n);
	} else if (a->req.result == -ENOENT && a->req.msg.op.op == CSV_OP_LOOKUP) {
		file_op(w, n, CSV_OP_CREATE);
	} else {
		a->step = FILE_IDLE; /* somebody else made or removed it */
	}
}

static void file_done(struct world *w, struct node *n)
{
	struct file_act *a = &n->file;
	int result = a->req.result;

	a->busy = false;
	switch (a->step) {
	case FILE_LOOKUP:
		file_found(w, n);
		break;
	case FILE_OPEN:
		if (result == 0) {
			w->opens++;
			a->opened = true;
			check_opens(w, n);
			file_next(w, n);
		} else {
			a->step = FILE_IDLE;
		}
		break;
	case FILE_LAYOUT:
		a->leased = result == 0;
		a->to_write = 1 + dice(w, 12);
		if (result == 0) {
			a->step = FILE_WRITING;
		} else {
			file_number(n, CSV_MSG_CLOSE, a->handle);
		}
		break;
	case FILE_CONVERT:
		a->step = FILE_WRITING;
		break;
	case FILE_TRUNCATE:
	case FILE_RETURN:
		file_next(w, n);
		break;
	case FILE_CLOSE:
	case FILE_UNLINK:
		a->step = FILE_IDLE;
		break;
	case FILE_IDLE:
	case FILE_WRITING:
	case FILE_DRAIN:
		violation(w, "an answer without a question", a->step, 0);
		break;
	}
}

/* --- all --- */

void acts_boot(struct world *w, struct node *n)
{
	(void)w;
	memset(&n->names, 0, sizeof(n->names));
	memset(&n->file, 0, sizeof(n->file));
	memset(n->locks, 0, sizeof(n->locks));
	csv_client_set_until(n->client, w->now + LEASE_NS);
}

void acts_dead(struct world *w, struct node *n)
{
	leave(w, n);
	n->file.opened = false;
	n->locks[0].held = false;
	n->locks[1].held = false;
}

bool acts_idle(const struct node *n)
{
	return !n->names.busy && !n->file.busy && n->file.step == FILE_IDLE && !n->locks[0].busy &&
	       n->locks[0].number == 0 && !n->locks[1].busy && n->locks[1].number == 0;
}

static void heard(struct world *w, struct node *n, const struct csv_client_event *e)
{
	if (e->type == CSV_CLIENT_LOST && csv_client_state(n->client) != CSV_CLIENT_DEAD) {
		w->lost++;
		violation(w, "what was claimed again was refused", e->what, e->number);
	}
	for (uint32_t i = 0; i < 2; i++) {
		if (e->what == CSV_MSG_A_LOCK && n->locks[i].number == e->number) {
			n->locks[i].give_up = true;
		}
	}
	if (e->what == CSV_MSG_A_LEASE && n->file.lease == e->number) {
		n->file.give_up = true;
	}
}

void acts_take(struct world *w, struct node *n)
{
	struct csv_client_event event;
	struct csv_client_req *req;

	while ((req = csv_client_completed(n->client)) != NULL) {
		if (req == &n->names.req) {
			names_done(w, n);
		} else if (csv_client_state(n->client) == CSV_CLIENT_DEAD) {
			continue; /* it is switched off soon */
		} else if (req == &n->file.req) {
			file_done(w, n);
		} else {
			lock_done(w, n, req == &n->locks[0].req ? &n->locks[0] : &n->locks[1]);
		}
	}
	while (csv_client_next_event(n->client, &event)) {
		heard(w, n, &event);
	}
}

void acts_step(struct world *w, struct node *n, bool more)
{
	acts_take(w, n);
	if (csv_client_state(n->client) == CSV_CLIENT_DEAD) {
		return;
	}
	if (!n->names.busy && more && dice(w, 15) == 0) {
		names_start(w, n);
	}
	file_step(w, n, more);
	lock_step(w, n, &n->locks[0], more);
	lock_step(w, n, &n->locks[1], more);
}
