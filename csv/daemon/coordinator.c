/* SPDX-License-Identifier: Apache-2.0 */

/* coordinator - the coordinator of a volume, if it is on this node: its life, its I/O, what it
 * says. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "csv/daemon/daemon_int.h"

#define TAG "csv-coord"
#define RETRY_NS 1000000000ull
#define AGAIN_NS 250000000ull
#define PLACE_NS 5000000000ull /* errors of a device that answers are of this place */
#define STILL_NS 2000000000ull /* a volume is pumped each second, and one more */

/* The term that this node is to coordinate in; 0 = it is not to. */
static uint64_t term_wanted(const struct csv_volume *v)
{
	const struct csv_daemon *d = v->d;
	const struct coordinator *c = &v->coord;

	if (v->phase != VOLUME_READY || v->cfg.coordinator != d->members->self) {
		return 0;
	}
	if (v->cfg.term != 0) {
		return v->cfg.term;
	}
	if (c->coord != NULL && !c->failed) {
		return c->term;
	}
	return (c->own_term > c->last_term ? c->own_term : c->last_term) + 1;
}

bool coordinator_answers(const struct csv_volume *v)
{
	enum csv_coord_state state;

	if (v->coord.coord == NULL || v->coord.stopping) {
		return false;
	}
	state = csv_coord_state(v->coord.coord, NULL);
	return state == CSV_COORD_GRACE || state == CSV_COORD_ACTIVE;
}

static void handed(struct coordinator *c, int err)
{
	void (*fn)(void *arg, int err) = c->handed_fn;

	c->handed_fn = NULL;
	if (fn != NULL) {
		fn(c->handed_arg, err);
	}
}

static void start(struct csv_volume *v, uint64_t term, uint64_t now_ns)
{
	struct coordinator *c = &v->coord;
	const struct csv_coord_cfg cfg = {
		.super = &v->super,
		.term = term,
		.quiet = v->cfg.quiet,
		.node = v->d->members->self,
		.members = &v->d->core,
		.holders = v->cfg.holders,
		.holders_count = v->cfg.holders_count,
	};
	int err = csv_coord_create(&cfg, now_ns, &c->coord, &c->why);

	c->last_term = term;
	c->term = term;
	c->stopping = false;
	c->failed = err != 0;
	c->moved_to = CSV_MSG_NODES;
	c->retry_ns = now_ns + RETRY_NS;
	c->worked_ns = 0;
	memset(c->fence_wanted, 0, sizeof(c->fence_wanted));
	memset(c->waits_for, 0, sizeof(c->waits_for));
	if (err != 0) {
		c->coord = NULL;
		c->ended_ns = now_ns;
		log_err(TAG, "cannot coordinate volume=%s term=%" PRIu64 " text=\"%s\"",
		        v->cfg.name, term, errbuf_text(&c->why, err));
		return;
	}
	c->why = (struct errbuf){0};
	log_info(TAG, "coordinates volume=%s term=%" PRIu64 " holders=%u", v->cfg.name, term,
	         cfg.holders_count);
}

/* Nothing is said or written any more; what is in flight ends first. */
void coordinator_stop(struct csv_volume *v)
{
	struct coordinator *c = &v->coord;
	struct errbuf why = {0};

	if (c->coord == NULL) {
		return;
	}
	if (!c->stopping) {
		c->stopping = true;
		for (uint32_t i = 0; i < CSV_META_IO_MAX; i++) {
			c->io[i].waits = false;
		}
		c->waiting = 0;
		memset(c->fence_wanted, 0, sizeof(c->fence_wanted));
		serve_drop_all(v);
		/* The next term may be here before we looked: it was handed over all the same. */
		handed(c, csv_coord_state(c->coord, &why) == CSV_COORD_CLOSED ? 0 : -ECANCELED);
	}
	if (c->in_flight == 0) {
		log_info(TAG, "coordinates no more volume=%s term=%" PRIu64, v->cfg.name, c->term);
		csv_coord_destroy(c->coord);
		c->coord = NULL;
		c->ended_ns = clock_boot_ns();
	}
}

static void look_at_state(struct csv_volume *v)
{
	struct coordinator *c = &v->coord;
	enum csv_coord_state state = csv_coord_state(c->coord, &c->why);

	if (state == CSV_COORD_FAILED && !c->failed) {
		c->failed = true;
		log_err(TAG, "failed volume=%s term=%" PRIu64 " text=\"%s\"", v->cfg.name, c->term,
		        c->why.text);
		coordinator_stop(v);
	} else if (state == CSV_COORD_CLOSED && c->handed_fn != NULL && gate_is_idle(v)) {
		serve_drop_all(v);
		handed(c, 0);
	}
}

void coordinator_update(struct csv_volume *v, uint64_t now_ns)
{
	struct coordinator *c = &v->coord;
	uint64_t term = term_wanted(v);

	if (c->coord != NULL && !c->stopping) {
		if ((term != c->term && v->phase != VOLUME_LEAVING) || c->failed) {
			coordinator_stop(v);
		} else {
			look_at_state(v);
		}
	}
	if (c->coord != NULL && c->stopping) {
		coordinator_stop(v);
	}
	if (c->coord == NULL && term > c->last_term && (!c->failed || now_ns >= c->retry_ns)) {
		start(v, term, now_ns);
	}
}

/* What says nothing of the data: the way may be better soon. A device that lost what it had taken
 * says so once, with EIO: such a flush is not repeated. */
static bool is_of_the_way(enum csv_io_op op, int err)
{
	return err == -ENOLINK || err == -ENODEV || err == -ENXIO || err == -ETIMEDOUT ||
	       err == -ESHUTDOWN || err == -ENOTCONN || err == -EHOSTUNREACH ||
	       (err == -EIO && op != CSV_IO_FLUSH);
}

/*
 * As long as the way is lost, it is tried again: this one ends when another node can go on. While
 * the device answers otherwise, it is this very place.
 */
static bool tries_again(struct coord_io *io, int err, uint64_t now_ns)
{
	const struct csv_volume *v = io->v;

	if (v->coord.stopping || !is_of_the_way(io->what.op, err)) {
		return false;
	}
	io->failed_ns = io->failed_ns != 0 ? io->failed_ns : now_ns;
	return v->way != CSV_VOLUME_WAY_GOOD || now_ns - io->failed_ns < PLACE_NS;
}

static void io_over(struct disk_op *op, int err)
{
	struct coord_io *io = container_of(op, struct coord_io, op);
	struct coordinator *c = &io->v->coord;
	uint64_t now_ns = clock_boot_ns();

	c->in_flight--;
	if (err != 0) {
		static struct log_limit limit;

		log_limited(&limit, LOG_LEVEL_ERR, TAG, "I/O failed volume=%s error=%d",
		            io->v->cfg.name, -err);
		io->v->refused = io->v->refused || err == -EBADE;
		if (tries_again(io, err, now_ns)) {
			io->waits = true;
			c->waiting++;
			c->again_ns = now_ns + AGAIN_NS;
			return;
		}
	}
	csv_coord_io_done(c->coord, io->what.id, err);
}

static void io_send(struct csv_volume *v, struct coord_io *io)
{
	const struct csv_io *what = &io->what;
	size_t len = (size_t)what->count * CSV_BLOCK_BYTES;

	io->op.fn = io_over;
	v->coord.in_flight++;
	switch (what->op) {
	case CSV_IO_READ:
		disk_read(v->disk, &io->op, what->buf, len, what->block * CSV_BLOCK_BYTES);
		break;
	case CSV_IO_WRITE:
		disk_write(v->disk, &io->op, what->buf, len, what->block * CSV_BLOCK_BYTES);
		break;
	case CSV_IO_FLUSH:
		disk_flush(v->disk, &io->op);
		break;
	}
}

static void io_start(struct csv_volume *v, const struct csv_io *what)
{
	struct coord_io *io = &v->coord.io[what->id];

	io->v = v;
	io->what = *what;
	io->failed_ns = 0;
	io->waits = false;
	io_send(v, io);
}

/* Returns true if there was any. */
static bool io_again(struct csv_volume *v, uint64_t now_ns)
{
	struct coordinator *c = &v->coord;

	if (c->waiting == 0 || now_ns < c->again_ns) {
		return false;
	}
	for (uint32_t i = 0; i < CSV_META_IO_MAX; i++) {
		if (c->io[i].waits) {
			c->io[i].waits = false;
			io_send(v, &c->io[i]);
		}
	}
	c->waiting = 0;
	return true;
}

/* Returns true if something was said. */
bool coordinator_say(struct csv_volume *v)
{
	struct coordinator *c = &v->coord;
	const struct csv_msg *msg;
	bool any = false;
	uint32_t node;

	while ((msg = csv_coord_next_message(c->coord, &node)) != NULL) {
		struct session *s = v->sessions[node];

		any = true;
		if (node == v->d->members->self) {
			if (v->reach.how == REACH_LOCAL) {
				reach_receive(v, msg, clock_boot_ns());
			}
			continue;
		}
		/* If it cannot be sent the connection breaks, and what was held stays. */
		if (s != NULL && csv_link_send(s->conn, msg) != 0) {
			log_debug(TAG, "not said volume=%s node=%u", v->cfg.name, node);
		}
	}
	return any;
}

/* Asked again each time: who gives back what it has is in nobody's way any more. */
static void look_for_fences(struct csv_volume *v)
{
	struct coordinator *c = &v->coord;

	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		bool fence;
		uint64_t run = csv_coord_waits_for(c->coord, i, &fence);
		uint64_t wanted = fence ? run : 0;

		if (run != 0 && run != c->waits_for[i]) {
			log_info(TAG, "is waited for volume=%s node=%u run=%" PRIu64, v->cfg.name,
			         i, run);
		}
		if (wanted != 0 && wanted != c->fence_wanted[i]) {
			log_warn(TAG,
			         "does not answer, must be fenced volume=%s node=%u run=%" PRIu64,
			         v->cfg.name, i, wanted);
		}
		c->waits_for[i] = run;
		c->fence_wanted[i] = wanted;
	}
}

/* This loop stood still: what others said meanwhile was not heard, so their time is not over. */
static void forgive(struct coordinator *c, uint64_t now_ns)
{
	uint64_t still_ns = c->worked_ns != 0 && now_ns > c->worked_ns ? now_ns - c->worked_ns : 0;

	if (still_ns > STILL_NS) {
		log_warn(TAG, "stood still ms=%" PRIu64, still_ns / 1000000u);
		csv_coord_postpone(c->coord, still_ns);
	}
	c->worked_ns = now_ns;
}

bool coordinator_work(struct csv_volume *v, uint64_t now_ns)
{
	struct coordinator *c = &v->coord;
	struct csv_io io;
	bool any = false;

	if (c->coord == NULL || c->stopping) {
		return false;
	}
	forgive(c, now_ns);
	if (csv_coord_next_ns(c->coord) <= now_ns) {
		csv_coord_tick(c->coord, now_ns);
	}
	/* Without the lease nothing is written; it waits for the next renewal. */
	if (volume_may_write(v, now_ns)) {
		any = io_again(v, now_ns);
		while (csv_coord_next_io(c->coord, &io)) {
			io_start(v, &io);
			any = true;
		}
		if (any) {
			disk_submit(v->disk);
		}
	}
	any = coordinator_say(v) || any;
	look_for_fences(v);
	return any;
}

uint64_t coordinator_next_ns(const struct csv_volume *v)
{
	const struct coordinator *c = &v->coord;

	if (c->coord == NULL) {
		return c->failed && v->cfg.term == 0 ? c->retry_ns : UINT64_MAX;
	}
	if (c->stopping) {
		return UINT64_MAX;
	}
	return c->waiting != 0 && c->again_ns < csv_coord_next_ns(c->coord)
	               ? c->again_ns
	               : csv_coord_next_ns(c->coord);
}

/* As csv_coord_receive(), with room made. */
int coordinator_receive(struct csv_volume *v, uint32_t node, const struct csv_msg *msg)
{
	struct coordinator *c = &v->coord;
	int err = gate_receive(v, node, msg);

	if (err != 0) {
		return err < 0 ? err : 0;
	}
	err = csv_coord_receive(c->coord, node, msg, clock_boot_ns());
	if (err == -EAGAIN) {
		(void)coordinator_say(v);
		err = csv_coord_receive(c->coord, node, msg, clock_boot_ns());
		CHECK(err != -EAGAIN);
	}
	return err;
}

int csv_volume_hand_over(struct csv_volume *v, uint32_t node, void (*fn)(void *arg, int err),
                         void *arg, struct errbuf *eb)
{
	const struct csv_daemon_members *m = v->d->members;
	struct coordinator *c = &v->coord;

	if (m->alone) {
		errbuf_set(eb, -ENOTSUP, "this host is in no cluster: nobody else can coordinate");
		return -ENOTSUP;
	}
	if (node >= CSV_MSG_NODES || m->peers[node].run == 0) {
		return errbuf_set(eb, -EINVAL, "node %u is no member", node);
	}
	if (v->cfg.coordinator == node) {
		return errbuf_set(eb, -EALREADY, "%s coordinates it already", m->peers[node].name);
	}
	/* It may not have got through with the journal. */
	if (!coordinator_answers(v) &&
	    (v->way != CSV_VOLUME_WAY_LOST || c->coord == NULL || c->stopping)) {
		const struct csv_daemon_peer *who =
			v->cfg.coordinator < CSV_MSG_NODES ? &m->peers[v->cfg.coordinator] : NULL;

		errbuf_set(eb, -EREMOTE, "this node does not coordinate the volume (now)");
		if (who != NULL && who->run != 0) {
			errbuf_hint(eb, "Ask %s, which does.", who->name);
		}
		return -EREMOTE;
	}
	if (c->handed_fn != NULL) {
		return errbuf_set(eb, -EBUSY, "it is being handed over already");
	}
	c->handed_fn = fn;
	c->handed_arg = arg;
	c->moved_to = node;
	if (v->way == CSV_VOLUME_WAY_LOST) {
		log_warn(TAG, "gives up volume=%s term=%" PRIu64 " to=%u", v->cfg.name, c->term,
		         node);
		c->failed = true;
		(void)errbuf_set(&c->why, -EIO, "its node has lost its way to the device");
		volume_work(v); /* not from inside: @fn is called */
		return 0;
	}
	log_info(TAG, "hands over volume=%s term=%" PRIu64 " to=%u", v->cfg.name, c->term, node);
	csv_coord_hand_over(c->coord, node);
	volume_work(v);
	return 0;
}
