/* SPDX-License-Identifier: Apache-2.0 */
#include "csv/daemon/gate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "csv/daemon/daemon_int.h"

#define TAG "csv-gate"

/* One request that is carried out. */
struct gate_io {
	struct disk_op op;
	struct csv_volume *v;
	struct list link;
	enum csv_msg_type type;
	uint32_t node;
	uint64_t run;
	uint64_t term;
	uint64_t request;
	uint64_t handle;
	uint64_t lease;
	uint64_t ino;
	uint32_t len_bytes;
	uint8_t *buf; /* in memory */
	uint8_t *memory;
};

static bool is_io(enum csv_msg_type type)
{
	return type == CSV_MSG_READ || type == CSV_MSG_WRITE_DATA || type == CSV_MSG_FLUSH;
}

bool gate_is_idle(const struct csv_volume *v)
{
	return v->gate.count == 0;
}

/* ---- replies ---- */

static void say(struct csv_volume *v, uint32_t node, const struct csv_msg *msg)
{
	const struct session *s = v->sessions[node];

	if (node == v->d->members->self) {
		if (v->reach.how == REACH_LOCAL) {
			reach_receive(v, msg, clock_boot_ns());
		}
	} else if (s != NULL && csv_link_send(s->conn, msg) != 0) {
		/* It asks again on its next connection. */
		log_debug(TAG, "not said volume=%s node=%u", v->cfg.name, node);
	}
}

static void reply(struct csv_volume *v, uint32_t node, uint64_t request, int status)
{
	const struct csv_msg msg = {
		.type = CSV_MSG_REPLY,
		.term = v->coord.term,
		.request = request,
		.status = status,
	};

	say(v, node, &msg);
}

/* ---- what was done ---- */

static bool was_done(const struct gate_node *n, uint64_t run, uint64_t request)
{
	for (uint32_t i = 0; n->run == run && i < GATE_DONE; i++) {
		if (n->done[i] == request) {
			return true;
		}
	}
	return false;
}

static void note_done(struct gate_node *n, uint64_t run, uint64_t request)
{
	if (n->run != run) {
		n->run = run;
		memset(n->done, 0, sizeof(n->done)); /* 0 is no number of a request */
		n->next = 0;
	}
	n->done[n->next++ % GATE_DONE] = request;
}

static const struct gate_io *find(const struct gate *g, uint32_t node, uint64_t run,
                                  uint64_t request)
{
	list_for_each(link, &g->ios)
	{
		const struct gate_io *io = list_entry(link, struct gate_io, link);

		if (io->node == node && io->run == run && io->request == request) {
			return io;
		}
	}
	return NULL;
}

/* ---- what waits for writes ---- */

static bool ends(const struct csv_msg *msg, const struct gate_io *io, uint32_t node)
{
	switch ((uint32_t)msg->type) {
	case CSV_MSG_RETURN:
		return io->node == node && io->lease == msg->number;
	case CSV_MSG_CLOSE:
		return io->node == node && io->handle == msg->number;
	case CSV_MSG_BYE:
		return io->node == node;
	case CSV_MSG_OP: /* whoever says it */
		return msg->op.op == CSV_OP_SET_TOKEN && io->ino == msg->op.ino;
	default:
		return false;
	}
}

static bool has_to_wait(const struct gate *g, uint32_t node, const struct csv_msg *msg)
{
	list_for_each(link, &g->ios)
	{
		const struct gate_io *io = list_entry(link, struct gate_io, link);

		if (io->type == CSV_MSG_WRITE_DATA && ends(msg, io, node)) {
			return true;
		}
	}
	return false;
}

static bool writes_for(const struct gate *g, uint32_t node, uint64_t run)
{
	list_for_each(link, &g->ios)
	{
		const struct gate_io *io = list_entry(link, struct gate_io, link);

		if (io->type == CSV_MSG_WRITE_DATA && io->node == node && io->run <= run) {
			return true;
		}
	}
	return false;
}

void gate_members(struct csv_volume *v)
{
	struct csv_members members = v->d->core;
	struct gate *g = &v->gate;

	g->members_due = false;
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		if (members.fenced[i] > g->nodes[i].told_fenced &&
		    writes_for(g, i, members.fenced[i])) {
			log_info(TAG, "a proof waits for writes volume=%s node=%u run=%" PRIu64,
			         v->cfg.name, i, members.fenced[i]);
			members.fenced[i] = g->nodes[i].told_fenced;
			g->members_due = true;
		}
		g->nodes[i].told_fenced = members.fenced[i];
	}
	if (v->coord.coord != NULL && !v->coord.stopping) {
		csv_coord_set_members(v->coord.coord, &members, clock_boot_ns());
	}
}

/* ---- carrying out ---- */

/*
 * What the one who asked is told. Whatever may be different next time: ask again. But a device that
 * lost what it had taken says so once: the flush that hears it must not be repeated
 * (docs/decisions/0204).
 */
static int status_of(enum csv_msg_type type, int err)
{
	switch (-err) {
	case 0:
	case ENOSPC: /* thin storage is full, */
	case EROFS:  /* or takes no writes: not for this node alone */
		return err;
	case EIO:
		return type == CSV_MSG_FLUSH ? -EIO : -EAGAIN;
	case ENODATA:   /* the medium, */
	case EREMOTEIO: /* the target, */
	case EILSEQ:    /* checksums: the same on every way */
		return -EIO;
	default:
		return -EAGAIN;
	}
}

static void io_free(struct gate_io *io)
{
	struct gate *g = &io->v->gate;

	list_del(&io->link);
	g->count--;
	g->nodes[io->node].bytes -= io->len_bytes;
	free(io->memory);
	free(io);
}

static void io_over(struct disk_op *op, int err)
{
	struct gate_io *io = container_of(op, struct gate_io, op);
	struct csv_volume *v = io->v;
	struct coordinator *c = &v->coord;
	struct gate_node *n = &v->gate.nodes[io->node];
	bool heard = c->coord != NULL && !c->stopping && c->term == io->term;
	struct csv_msg msg = {
		.type = CSV_MSG_REPLY,
		.term = io->term,
		.request = io->request,
		.status = status_of(io->type, err),
	};

	c->in_flight--;
	v->refused = v->refused || err == -EBADE; /* our key is gone */
	if (err == 0 && io->type == CSV_MSG_WRITE_DATA) {
		note_done(n, io->run, io->request);
	}
	if (err == 0) {
		v->gate.bytes += io->len_bytes;
	} else {
		log_debug(TAG, "not carried out volume=%s node=%u error=%d", v->cfg.name, io->node,
		          -err);
	}
	if (err == 0 && io->type == CSV_MSG_READ) {
		msg.reply.parts = CSV_MSG_DATA;
		msg.data = io->buf;
		msg.data_bytes = io->len_bytes;
	}
	list_del(&io->link); /* what is said may bring the next request */
	list_init(&io->link);
	if (heard) {
		say(v, io->node, &msg);
	}
	io_free(io);
	if (v->gate.members_due) {
		gate_members(v);
	}
	volume_work(v);
}

/* -EAGAIN: no room now. */
static int io_new(struct csv_volume *v, uint32_t node, uint64_t run, const struct csv_msg *msg,
                  struct gate_io **out)
{
	struct gate *g = &v->gate;
	uint32_t len = msg->type == CSV_MSG_FLUSH ? 0 : msg->io.length_bytes;
	struct gate_io *io;

	if (g->count >= GATE_MAX || g->nodes[node].bytes + len > GATE_NODE_BYTES) {
		return -EAGAIN;
	}
	io = gw_calloc(1, sizeof(*io));
	if (io == NULL) {
		return -EAGAIN;
	}
	io->v = v;
	io->type = msg->type;
	io->node = node;
	io->run = run;
	io->term = msg->term;
	io->request = msg->request;
	io->handle = msg->io.handle;
	io->lease = msg->io.lease;
	io->ino = msg->io.ino;
	io->len_bytes = len;
	if (len != 0) {
		io->memory = gw_malloc((size_t)len + CSV_BLOCK_BYTES);
		if (io->memory == NULL) {
			free(io);
			return -EAGAIN;
		}
		io->buf = io->memory + (CSV_BLOCK_BYTES - (uintptr_t)io->memory % CSV_BLOCK_BYTES);
	}
	list_add_tail(&g->ios, &io->link);
	g->count++;
	g->nodes[node].bytes += len;
	*out = io;
	return 0;
}

static void io_start(struct csv_volume *v, struct gate_io *io, const struct csv_msg *msg)
{
	io->op.fn = io_over;
	v->coord.in_flight++; /* its coordinator does not end before */
	v->gate.requests++;
	switch ((uint32_t)io->type) {
	case CSV_MSG_READ:
		disk_read(v->disk, &io->op, io->buf, io->len_bytes, msg->io.device_bytes);
		break;
	case CSV_MSG_WRITE_DATA:
		memcpy(io->buf, msg->data, io->len_bytes);
		disk_write(v->disk, &io->op, io->buf, io->len_bytes, msg->io.device_bytes);
		break;
	default:
		disk_flush(v->disk, &io->op);
		break;
	}
	disk_submit(v->disk);
}

/* Only blocks that files are made of. */
static bool is_data(const struct csv_volume *v, const struct csv_msg *msg)
{
	const struct csv_layout *l = &v->super.layout;
	uint64_t first = msg->io.device_bytes / CSV_UNIT_BYTES;
	uint64_t last;

	if (msg->type == CSV_MSG_FLUSH) {
		return true;
	}
	if (msg->io.length_bytes == 0 || msg->io.length_bytes > CSV_MSG_DATA_MAX ||
	    msg->io.length_bytes % 512 != 0 || msg->io.device_bytes % 512 != 0 ||
	    first < csv_layout_data_unit(l) || first >= csv_layout_units(l)) {
		return false;
	}
	last = (msg->io.device_bytes + msg->io.length_bytes - 1) / CSV_UNIT_BYTES;
	if (last >= csv_layout_units(l)) {
		return false;
	}
	for (uint64_t unit = first; unit <= last; unit++) {
		if (csv_layout_fixed(l, unit)) {
			return false;
		}
	}
	return msg->type != CSV_MSG_WRITE_DATA || msg->data_bytes == msg->io.length_bytes;
}

/* 0; -ESHUTDOWN: it is not answered; else the reply. */
static int judge(const struct csv_volume *v, uint32_t node, uint64_t run, const struct csv_msg *msg)
{
	const struct csv_daemon_members *m = v->d->members;

	if (run == 0 || m->fenced[node] >= run || m->peers[node].run != run) {
		return -ESTALE;
	}
	if (!is_data(v, msg)) {
		return -EINVAL;
	}
	return csv_coord_may_io(v->coord.coord, node, msg);
}

int gate_receive(struct csv_volume *v, uint32_t node, const struct csv_msg *msg)
{
	struct coordinator *c = &v->coord;
	struct gate *g = &v->gate;
	struct gate_io *io;
	uint64_t run;
	int err;

	if (!is_io(msg->type)) {
		if (g->count == 0 || !has_to_wait(g, node, msg)) {
			return 0;
		}
		reply(v, node, msg->request, -EAGAIN);
		return 1;
	}
	run = csv_coord_run(c->coord, node);
	err = judge(v, node, run, msg);
	if (err == -EPROTO) {
		return err;
	}
	if (err == -ESHUTDOWN || (err == 0 && find(g, node, run, msg->request) != NULL)) {
		return 1; /* answered by the next coordinator, or when it is done */
	}
	if (err == 0 && msg->type == CSV_MSG_WRITE_DATA &&
	    was_done(&g->nodes[node], run, msg->request)) {
		reply(v, node, msg->request, 0);
		return 1;
	}
	/* Not outside of this node's own lease. */
	if (err == 0 && !volume_may_write(v, clock_boot_ns())) {
		err = -EAGAIN;
	}
	if (err == 0) {
		err = io_new(v, node, run, msg, &io);
	}
	if (err != 0) {
		reply(v, node, msg->request, err);
		return 1;
	}
	io_start(v, io, msg);
	return 1;
}
