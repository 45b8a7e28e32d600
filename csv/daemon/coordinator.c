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
	memset(c->fence_wanted, 0, sizeof(c->fence_wanted));
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
	} else if (state == CSV_COORD_CLOSED && c->handed_fn != NULL) {
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

static void io_over(struct disk_op *op, int err)
{
	struct coord_io *io = container_of(op, struct coord_io, op);
	struct coordinator *c = &io->v->coord;

	c->in_flight--;
	if (err != 0) {
		log_err(TAG, "I/O failed volume=%s error=%d", io->v->cfg.name, -err);
	}
	csv_coord_io_done(c->coord, io->id, err);
}

static void io_start(struct csv_volume *v, const struct csv_io *what)
{
	struct coord_io *io = &v->coord.io[what->id];
	size_t len = (size_t)what->count * CSV_BLOCK_BYTES;

	io->v = v;
	io->id = what->id;
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

static void take_events(struct csv_volume *v)
{
	struct coordinator *c = &v->coord;
	struct csv_coord_event event;

	while (csv_coord_next_event(c->coord, &event)) {
		const struct csv_lock_owner *o = &event.owner;

		if (o->node < CSV_MSG_NODES && c->fence_wanted[o->node] < o->incarnation) {
			c->fence_wanted[o->node] = o->incarnation;
			log_warn(TAG,
			         "does not answer, must be fenced volume=%s node=%u run=%" PRIu64,
			         v->cfg.name, o->node, o->incarnation);
		}
	}
}

bool coordinator_work(struct csv_volume *v, uint64_t now_ns)
{
	struct coordinator *c = &v->coord;
	struct csv_io io;
	bool any = false;

	if (c->coord == NULL || c->stopping) {
		return false;
	}
	if (csv_coord_next_ns(c->coord) <= now_ns) {
		csv_coord_tick(c->coord, now_ns);
	}
	/* Without the lease nothing is written; it waits for the next renewal. */
	if (volume_may_write(v, now_ns)) {
		while (csv_coord_next_io(c->coord, &io)) {
			io_start(v, &io);
			any = true;
		}
		if (any) {
			disk_submit(v->disk);
		}
	}
	any = coordinator_say(v) || any;
	take_events(v);
	return any;
}

uint64_t coordinator_next_ns(const struct csv_volume *v)
{
	const struct coordinator *c = &v->coord;

	if (c->coord == NULL) {
		return c->failed && v->cfg.term == 0 ? c->retry_ns : UINT64_MAX;
	}
	return c->stopping ? UINT64_MAX : csv_coord_next_ns(c->coord);
}

/* As csv_coord_receive(), with room made. */
int coordinator_receive(struct csv_volume *v, uint32_t node, const struct csv_msg *msg)
{
	struct coordinator *c = &v->coord;
	int err = csv_coord_receive(c->coord, node, msg, clock_boot_ns());

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
	if (!coordinator_answers(v)) {
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
	log_info(TAG, "hands over volume=%s term=%" PRIu64 " to=%u", v->cfg.name, c->term, node);
	csv_coord_hand_over(c->coord, node);
	volume_work(v);
	return 0;
}
