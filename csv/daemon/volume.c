/* SPDX-License-Identifier: Apache-2.0 */

/* volume - phases of a volume, its slot, and the pump that moves things between its parts. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "csv/daemon/daemon_int.h"
#include "csv/slot/csv_slot_io.h"

#define TAG "csv-volume"
#define RETRY_NS 2000000000ull
#define TICK_NS 1000000000ull
#define CLOSE_NS 50000000ull
#define STAT_NS 5000000000ull
#define BYE_NS 1000000000ull
#define HANDLES_MAX 1024u /* files open through the mount; the coordinator allows twice as many */
#define LEASES_MAX 2048u

static void open_start(struct csv_volume *v);

uint8_t *volume_block(const struct csv_volume *v, uint32_t i)
{
	return v->blocks + (size_t)i * CSV_BLOCK_BYTES;
}

bool volume_may_write(const struct csv_volume *v, uint64_t now_ns)
{
	const struct csv_slot *s = v->slot != NULL ? csv_slot_io_slot(v->slot) : NULL;

	return s != NULL && s->state == CSV_SLOT_HELD && now_ns < csv_slot_until_ns(s) &&
	       !v->keys.fenced;
}

void volume_fail(struct csv_volume *v, int err)
{
	log_warn(TAG, "cannot open volume=%s device=%s text=\"%s\"", v->cfg.name, v->cfg.device,
	         errbuf_text(&v->why, err));
	v->phase = VOLUME_FAILED;
	v->retry_ns = clock_boot_ns() + RETRY_NS;
}

/* What clients asked for will not be answered any more. */
static void forget_requests(struct csv_volume *v, int err)
{
	struct list *link;

	while ((link = list_pop(&v->early)) != NULL) {
		struct csv_volume_req *r = list_entry(link, struct csv_volume_req, req.link);

		r->req.result = err;
		r->req.reply = NULL;
		r->fn(r);
	}
	if (v->client != NULL) {
		csv_client_die(v->client);
		reach_completed(v);
	}
}

void volume_die(struct csv_volume *v, const char *why)
{
	log_err(TAG, "this run of the node is over volume=%s why=\"%s\"", v->cfg.name, why);
	(void)errbuf_set(&v->why, -ESTALE, "%s", why);
	v->phase = VOLUME_DEAD;
	mounted_lose(v);
	coordinator_stop(v);
	if (v->client != NULL) {
		reach_drop(v, clock_boot_ns(), why);
	}
	forget_requests(v, -ESTALE);
}

/* ---- opening ---- */

static void boot_over(struct csv_volume *v);

static void boot_read(struct disk_op *op, int err)
{
	struct boot_io *io = container_of(op, struct boot_io, op);
	struct csv_volume *v = io->v;

	v->boot_err[io->index] = err;
	if (--v->boot_left == 0 && !v->gone) {
		boot_over(v);
	}
}

static void boot_start(struct csv_volume *v, bool headers, const uint64_t *places, uint32_t count)
{
	v->headers = headers;
	v->boot_left = count;
	for (uint32_t i = 0; i < count; i++) {
		struct boot_io *io = &v->boot[i];

		io->v = v;
		io->index = i;
		io->op.fn = boot_read;
		disk_read(v->disk, &io->op, volume_block(v, i), CSV_BLOCK_BYTES,
		          places[i] * CSV_BLOCK_BYTES);
	}
	disk_submit(v->disk);
}

/* The newest good copy. */
static int choose_super(struct csv_volume *v)
{
	uint64_t places[CSV_SUPER_COPIES];
	struct csv_super super;
	struct errbuf eb = {0};
	int first = -ENOENT;
	bool any = false;

	if (csv_layout_super_places(disk_size_bytes(v->disk), places) != 0) {
		return errbuf_set(&v->why, -EINVAL, "%s: no size of a volume", v->cfg.device);
	}
	for (uint32_t i = 0; i < CSV_SUPER_COPIES; i++) {
		int err = v->boot_err[i];

		if (err != 0) {
			(void)errbuf_sys(&eb, err, "superblock");
		} else {
			err = csv_super_decode(volume_block(v, i), places[i], false, &super, &eb);
		}
		if (err == 0 && (!any || super.seq > v->super.seq)) {
			v->super = super;
			any = true;
		} else if (err != 0 && first == -ENOENT) {
			first = err;
			v->why = eb;
		}
	}
	if (!any) {
		errbuf_prepend(&v->why, "%s", v->cfg.device);
		return first;
	}
	if (!guid_is_nil(&v->cfg.id) ? !guid_equal(&v->cfg.id, &v->super.volume)
	                             : strcmp(v->cfg.name, v->super.label) != 0) {
		errbuf_set(&v->why, -ENXIO, "%s: it is volume \"%s\", another one", v->cfg.device,
		           v->super.label);
		return -ENXIO;
	}
	return 0;
}

static void on_slot(void *arg, uint32_t did);

static int slot_start(struct csv_volume *v)
{
	const struct csv_daemon_members *m = v->d->members;
	struct csv_slot_io_cfg cfg = {
		.path = v->cfg.device,
		.slot =
			{
				.volume = v->super.volume,
				.node_id = v->d->cfg.node_id,
				.node = m->self,
				.incarnation = v->run,
				.timing = v->d->timing,
			},
		.event = on_slot,
		.arg = v,
	};

	(void)snprintf(cfg.slot.name, sizeof(cfg.slot.name), "%s", m->peers[m->self].name);
	return csv_slot_io_create(&cfg, v->d->cfg.loop, &v->slot, &v->why);
}

static int client_start(struct csv_volume *v)
{
	const struct csv_client_cfg cfg = {
		.volume = v->super.volume,
		.node = v->d->members->self,
		.incarnation = v->run,
		.handles_max = HANDLES_MAX,
		.leases_max = LEASES_MAX,
		.numbers = daemon_numbers(v->d),
	};
	int err = csv_client_create(&cfg, &v->client, &v->why);
	struct list *link;

	while (err == 0 && (link = list_pop(&v->early)) != NULL) {
		csv_client_submit(v->client, list_entry(link, struct csv_client_req, link));
	}
	return err;
}

/* Which terms does the journal know? Only alone nobody else says which one is next. */
static void read_terms(struct csv_volume *v)
{
	v->coord.own_term = v->super.term;
	for (uint32_t i = 0; i < BOOT_BLOCKS; i++) {
		struct csv_journal_header h;
		uint64_t at = csv_journal_header_at(i / 2, i % 2);

		if (v->boot_err[i] == 0 &&
		    csv_journal_header_decode(volume_block(v, i), &v->super.layout,
		                              &v->super.volume, at, &h, NULL) == 0 &&
		    h.term > v->coord.own_term) {
			v->coord.own_term = h.term;
		}
	}
}

/* Only a holder asks for anything. */
static int enter(struct csv_volume *v)
{
	int err = 0;

	if (v->known && v->phase == VOLUME_JOINING && v->client == NULL && !v->cfg.wait) {
		err = client_start(v);
		if (err == 0) {
			v->phase = VOLUME_READY;
			log_info(TAG, "open volume=%s device=%s run=%" PRIu64, v->cfg.name,
			         v->cfg.device, v->run);
		}
	}
	return err;
}

static void boot_over(struct csv_volume *v)
{
	int err;

	if (!v->headers) {
		err = choose_super(v);
		v->phase = VOLUME_JOINING;
		err = err == 0 ? slot_start(v) : err;
	} else {
		read_terms(v);
		v->known = true;
		err = enter(v);
	}
	if (err != 0) {
		volume_fail(v, err);
	}
}

static void on_disk(void *arg)
{
	volume_pump(arg);
}

static void open_start(struct csv_volume *v)
{
	uint64_t places[CSV_SUPER_COPIES];
	int err;

	v->phase = VOLUME_OPENING;
	v->known = false;
	v->why = (struct errbuf){0};
	err = disk_open(v->cfg.device, v->d->cfg.loop, on_disk, v, &v->disk, &v->why);
	if (err == 0 && csv_layout_super_places(disk_size_bytes(v->disk), places) != 0) {
		err = errbuf_set(&v->why, -EINVAL, "%s: too small for a volume", v->cfg.device);
	}
	if (err != 0) {
		volume_fail(v, err);
		return;
	}
	boot_start(v, false, places, CSV_SUPER_COPIES);
}

/* Everything that opening made; what is in flight is waited for. */
static void close_all(struct csv_volume *v)
{
	reserve_destroy(v->reserve);
	v->reserve = NULL;
	csv_slot_io_destroy(v->slot);
	v->slot = NULL;
	disk_close(v->disk);
	v->disk = NULL;
	csv_coord_destroy(v->coord.coord);
	v->coord.coord = NULL;
	csv_client_destroy(v->client);
	v->client = NULL;
}

/* ---- the slot ---- */

void volume_read_headers(struct csv_volume *v)
{
	uint64_t places[BOOT_BLOCKS];

	for (uint32_t i = 0; i < BOOT_BLOCKS; i++) {
		places[i] = csv_journal_header_at(i / 2, i % 2);
	}
	boot_start(v, true, places, BOOT_BLOCKS);
}

static void renewed(struct csv_volume *v)
{
	const struct csv_slot *s = csv_slot_io_slot(v->slot);

	if (v->client != NULL) {
		csv_client_set_until(v->client, csv_slot_until_ns(s));
	}
	mounted_kick(v);
}

static void lapsed(struct csv_volume *v)
{
	log_warn(TAG, "lease lapsed volume=%s", v->cfg.name);
	if (v->client != NULL) {
		csv_client_set_until(v->client, 0);
	}
	if (v->d->members->alone) {
		csv_slot_readmit(csv_slot_io_slot(v->slot));
	}
}

static void on_slot(void *arg, uint32_t did)
{
	struct csv_volume *v = arg;
	const struct csv_slot *s = csv_slot_io_slot(v->slot);

	if (v->gone) {
		return;
	}
	if ((did & CSV_SLOT_DID_FENCE) != 0 && v->phase != VOLUME_DEAD) {
		volume_die(v, csv_slot_reason_name(s->reason));
	} else if ((did & CSV_SLOT_DID_LAPSE) != 0) {
		lapsed(v);
	}
	if ((did & CSV_SLOT_DID_JOIN) != 0 && v->phase == VOLUME_JOINING) {
		int err = keys_start(v);

		if (err != 0) {
			volume_fail(v, err);
		}
	}
	if ((did & CSV_SLOT_DID_RENEW) != 0) {
		renewed(v);
	}
	volume_work(v); /* not from here: it may close the slot */
}

/* ---- leaving ---- */

void volume_leave(struct csv_volume *v, uint64_t limit_ns)
{
	if (v->phase == VOLUME_LEAVING) {
		return;
	}
	if (v->phase != VOLUME_READY) {
		v->gone = true;
		loop_timer_arm(v->d->sweep, 0);
		return;
	}
	log_info(TAG, "is left volume=%s", v->cfg.name);
	v->phase = VOLUME_LEAVING;
	v->leave_ns = clock_boot_ns() + limit_ns;
	volume_work(v);
}

static void bye_done(struct csv_volume_req *r)
{
	struct csv_volume *v = r->arg;

	v->bye_busy = false;
	v->bye_over = true;
}

static void slot_left(void *arg, int err)
{
	struct csv_volume *v = arg;

	(void)err;
	v->slot_over = true;
	volume_work(v);
}

static bool leave_bye(struct csv_volume *v, uint64_t now_ns)
{
	if (!v->bye_busy && !v->bye_over) {
		v->bye.req.msg = (struct csv_msg){.type = CSV_MSG_BYE};
		v->bye.fn = bye_done;
		v->bye.arg = v;
		v->bye.begun_ns = now_ns;
		v->bye_busy = true;
		v->again = true;
		csv_client_submit(v->client, &v->bye.req);
	}
	/* Perhaps nobody is there to hear it. */
	return v->bye_over || (csv_client_state(v->client) != CSV_CLIENT_ACTIVE &&
	                       now_ns - v->bye.begun_ns > BYE_NS);
}

/* The coordinator, if it is here, makes the journal clean. */
static bool leave_coordinator(struct csv_volume *v)
{
	struct csv_coord *coord = v->coord.coord;

	if (coord == NULL) {
		return true;
	}
	if (coordinator_answers(v) && !v->handing) {
		v->handing = true;
		v->again = true;
		csv_coord_hand_over(coord, v->d->members->self);
	} else if (csv_coord_state(coord, NULL) != CSV_COORD_CLOSING) {
		coordinator_stop(v);
	}
	return v->coord.coord == NULL;
}

static void leave_step(struct csv_volume *v, uint64_t now_ns)
{
	if (now_ns >= v->leave_ns || (v->slot_over && keys_leave(v))) {
		v->gone = true;
		loop_timer_arm(v->d->sweep, 0);
	} else if (mounted_stop(v) && leave_bye(v, now_ns) && leave_coordinator(v) &&
	           !v->slot_leaving) {
		v->slot_leaving = true;
		csv_slot_io_leave(v->slot, slot_left, v);
	}
}

/* ---- the pump ---- */

static void stat_done(struct csv_volume_req *r)
{
	struct csv_volume *v = r->arg;

	v->stat_busy = false;
	if (r->req.result == 0 && (r->req.reply->reply.parts & CSV_MSG_STAT) != 0) {
		v->stat = r->req.reply->reply.stat;
		v->stat_known = true;
	}
}

static void refresh_stat(struct csv_volume *v, uint64_t now_ns)
{
	if (v->stat_busy || v->phase != VOLUME_READY || now_ns < v->stat_ns ||
	    csv_client_state(v->client) != CSV_CLIENT_ACTIVE) {
		return;
	}
	v->stat_busy = true;
	v->stat_ns = now_ns + STAT_NS;
	v->stat_req.fn = stat_done;
	v->stat_req.arg = v;
	v->stat_req.req.msg = (struct csv_msg){.type = CSV_MSG_OP};
	v->stat_req.req.msg.op.op = CSV_OP_STATFS;
	csv_volume_submit(v, &v->stat_req);
}

/* Somebody waits for what we have, or it is gone. */
static void take_events(struct csv_volume *v)
{
	struct csv_client_event event;

	while (csv_client_next_event(v->client, &event)) {
		log_debug(TAG, "event volume=%s type=%d what=%d number=%" PRIu64, v->cfg.name,
		          (int)event.type, (int)event.what, event.number);
		mounted_event(v, &event);
	}
}

/* Not before the device has answered: closing would wait for it. */
static void retry(struct csv_volume *v, uint64_t now_ns)
{
	csv_slot_io_stop(v->slot);
	if (volume_is_idle(v)) {
		close_all(v);
		open_start(v);
	} else {
		v->retry_ns = now_ns + CLOSE_NS;
	}
}

static void pump_round(struct csv_volume *v)
{
	uint64_t now_ns = clock_boot_ns();
	bool any;

	if (v->refused && v->phase != VOLUME_DEAD) {
		volume_die(v, "the LUN refuses what it writes: its key was taken away");
	}
	if (v->phase == VOLUME_FAILED && now_ns >= v->retry_ns) {
		retry(v, now_ns);
	}
	coordinator_update(v, now_ns);
	reach_update(v, now_ns);
	do {
		any = coordinator_work(v, now_ns);
		any = reach_work(v, now_ns) || any;
		if (v->client != NULL) {
			reach_completed(v);
			take_events(v);
			if (csv_client_state(v->client) == CSV_CLIENT_DEAD &&
			    v->phase != VOLUME_DEAD) {
				volume_die(v, "the coordinator has a proof that this run is over");
			}
		}
	} while (any);
	refresh_stat(v, now_ns);
	mounted_start(v, now_ns);
	if (v->phase == VOLUME_LEAVING) {
		leave_step(v, now_ns);
	}
}

static uint64_t next_ns(const struct csv_volume *v, uint64_t now_ns)
{
	const uint64_t times[] = {
		coordinator_next_ns(v),
		reach_next_ns(v),
		v->phase == VOLUME_FAILED ? v->retry_ns : UINT64_MAX,
		v->phase == VOLUME_LEAVING ? v->leave_ns : UINT64_MAX,
	};
	uint64_t next = now_ns + TICK_NS;

	for (uint32_t i = 0; i < ARRAY_LEN(times); i++) {
		next = times[i] < next ? times[i] : next;
	}
	return next;
}

void volume_pump(struct csv_volume *v)
{
	uint64_t now_ns;
	uint64_t next;

	if (v->gone) {
		return;
	}
	if (v->pumping) {
		v->again = true;
		return;
	}
	v->pumping = true;
	do {
		v->again = false;
		pump_round(v);
		volume_look_way(v, clock_boot_ns());
		volume_look(v, clock_boot_ns());
	} while (v->again && !v->gone);
	v->pumping = false;
	now_ns = clock_boot_ns();
	next = next_ns(v, now_ns);
	loop_timer_arm(v->work, next > now_ns ? next - now_ns : 0);
}

/* Soon, from the loop. */
void volume_work(struct csv_volume *v)
{
	if (v->pumping) {
		v->again = true;
	} else {
		loop_timer_arm(v->work, 0);
	}
}

static void on_work(void *arg)
{
	volume_pump(arg);
}

/* ---- from outside ---- */

void volume_configure(struct csv_volume *v, const struct csv_daemon_volume *cfg)
{
	bool same_term = v->cfg.term == cfg->term;
	bool was_quiet = v->cfg.quiet;

	v->cfg = *cfg;
	if (same_term && !was_quiet && cfg->quiet && v->coord.coord != NULL) {
		csv_coord_quiet(v->coord.coord);
	}

	int err = enter(v);

	if (err != 0) {
		volume_fail(v, err);
	}
}

/* The members changed. */
void volume_members(struct csv_volume *v)
{
	const struct csv_daemon_members *m = v->d->members;
	struct coordinator *c = &v->coord;

	if (m->fenced[m->self] >= v->run && v->phase != VOLUME_DEAD) {
		volume_die(v, "the cluster has a proof that this run is over");
	}
	if (v->slot != NULL && v->phase != VOLUME_DEAD) {
		struct csv_slot *s = csv_slot_io_slot(v->slot);

		s->epoch = m->epoch;
		s->term = v->cfg.term;
		csv_slot_readmit(s);
	}
	if (c->coord != NULL && !c->stopping) {
		gate_members(v);
	}
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		if (v->sessions[i] != NULL && !daemon_knows(v->d, i, &v->sessions[i]->peer)) {
			serve_drop(v->sessions[i]);
		}
	}
	if (v->reach.how == REACH_LINKED && !daemon_knows(v->d, v->reach.node, &v->reach.peer)) {
		reach_drop(v, clock_boot_ns(), "it is no member any more");
	}
	volume_work(v);
}

int volume_create(struct csv_daemon *d, const struct csv_daemon_volume *cfg,
                  struct csv_volume **out, struct errbuf *eb)
{
	struct csv_volume *v = gw_calloc(1, sizeof(*v));
	int err = -ENOMEM;

	*out = NULL;
	if (v == NULL) {
		return errbuf_sys(eb, -ENOMEM, "volume %s", cfg->name);
	}
	v->d = d;
	v->cfg = *cfg;
	v->run = daemon_run(d);
	v->phase = VOLUME_FAILED; /* the first round opens it */
	v->reach.node = CSV_MSG_NODES;
	v->coord.moved_to = CSV_MSG_NODES;
	v->said = CSV_VOLUME_PAUSED;
	v->said_reason = "";
	list_init(&v->link);
	list_init(&v->early);
	list_init(&v->gate.ios);
	v->memory = gw_calloc(BOOT_BLOCKS + 1, CSV_BLOCK_BYTES);
	if (v->memory != NULL) {
		v->blocks = v->memory + (CSV_BLOCK_BYTES - (uintptr_t)v->memory % CSV_BLOCK_BYTES);
		err = loop_timer_add(d->cfg.loop, 0, on_work, v, &v->work);
	}
	if (err != 0) {
		volume_destroy(v);
		return errbuf_sys(eb, err, "volume %s", cfg->name);
	}
	*out = v;
	return 0;
}

void volume_end(struct csv_volume *v)
{
	v->gone = true;
	if (v->ended) {
		return;
	}
	v->ended = true;
	mounted_lose(v);
	coordinator_stop(v);
	serve_drop_all(v);
	if (v->client != NULL) {
		reach_drop(v, clock_boot_ns(), "the volume is closed");
	}
	forget_requests(v, -ENOTCONN);
	reserve_destroy(v->reserve);
	v->reserve = NULL;
	csv_slot_io_stop(v->slot);
}

bool volume_is_idle(const struct csv_volume *v)
{
	return disk_is_idle(v->disk) && csv_slot_io_idle(v->slot);
}

void volume_destroy(struct csv_volume *v)
{
	if (v == NULL) {
		return;
	}
	volume_end(v);
	close_all(v);
	loop_timer_del(v->work);
	list_del(&v->link);
	free(v->memory);
	free(v);
}

void csv_volume_submit(struct csv_volume *v, struct csv_volume_req *r)
{
	r->begun_ns = clock_boot_ns();
	list_init(&r->req.link);
	if (v->client != NULL) {
		csv_client_submit(v->client, &r->req);
	} else {
		list_add_tail(&v->early, &r->req.link);
	}
	volume_work(v);
}

uint64_t csv_volume_number(struct csv_volume *v)
{
	CHECK(v->client != NULL);
	return csv_client_number(v->client);
}

uint64_t csv_volume_root(const struct csv_volume *v)
{
	return v->client != NULL ? csv_layout_root(&v->super.layout) : 0;
}
