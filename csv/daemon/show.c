/* SPDX-License-Identifier: Apache-2.0 */

/* show - how a volume stands, for people and for who fills in the members. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "csv/daemon/daemon_int.h"
#include "csv/mount/csv_mount.h"
#include "csv/slot/csv_slot_io.h"

#define TAG "csv-volume"
#define LOST_NS (2 * NS_PER_S)
#define WELL_NS (3 * NS_PER_S)

const char *csv_volume_state_name(enum csv_volume_state state)
{
	switch (state) {
	case CSV_VOLUME_DIRECT:
		return "direct";
	case CSV_VOLUME_REDIRECTED:
		return "redirected";
	case CSV_VOLUME_PAUSED:
		return "paused";
	case CSV_VOLUME_DEAD:
		return "dead";
	}
	return "?";
}

static const char *client_name(enum csv_client_state state)
{
	switch (state) {
	case CSV_CLIENT_OFFLINE:
		return "offline";
	case CSV_CLIENT_HELLO:
		return "hello";
	case CSV_CLIENT_RECLAIM:
		return "reclaim";
	case CSV_CLIENT_ACTIVE:
		return "active";
	case CSV_CLIENT_DEAD:
		return "dead";
	}
	return "?";
}

/* Why what is asked for waits; NULL = it does not. */
static const char *paused_by(const struct csv_volume *v, uint64_t now_ns)
{
	switch (v->phase) {
	case VOLUME_OPENING:
		return "opening";
	case VOLUME_JOINING:
		return "slot";
	case VOLUME_FAILED:
		return "device";
	case VOLUME_LEAVING:
		return "leaving";
	case VOLUME_DEAD:
		return "fenced";
	case VOLUME_READY:
		break;
	}
	if (csv_client_state(v->client) != CSV_CLIENT_ACTIVE) {
		return volume_may_write(v, now_ns) ? "coordinator" : "lease";
	}
	/* The coordinator's node has nobody else to go through. */
	return v->reach.how == REACH_LOCAL && !volume_may_write(v, now_ns) ? "lease" : NULL;
}

static uint64_t until_ns(const struct csv_volume *v)
{
	return v->slot != NULL ? csv_slot_until_ns(csv_slot_io_slot(v->slot)) : 0;
}

/*
 * That no file is open goes round the device says nothing about it. Who has gone round it, or knows
 * that its way is lost, does so until the device has answered again: taken a renewal, all of them
 * for a while.
 */
static bool still_round(const struct csv_volume *v)
{
	return v->reach.how != REACH_LOCAL &&
	       (v->way == CSV_VOLUME_WAY_LOST ||
	        (v->round_reason != NULL && until_ns(v) <= v->round_until_ns));
}

/* Nothing waits for the volume: do its files find a way to the device? */
static enum csv_volume_state way_of(struct csv_volume *v, const struct csv_mount_stats *s,
                                    uint64_t now_ns, const char **by)
{
	bool through = s->redirected != 0;

	*by = csv_data_reason_name(s->reason);
	if (s->paused != 0 || (through && v->reach.how == REACH_LOCAL)) {
		return CSV_VOLUME_PAUSED;
	}
	if (!volume_may_write(v, now_ns)) {
		*by = "lease"; /* whatever brought it that far */
		return CSV_VOLUME_REDIRECTED;
	}
	if (through) {
		v->round_reason = *by;
		v->round_until_ns = until_ns(v);
		return CSV_VOLUME_REDIRECTED;
	}
	if (still_round(v)) {
		*by = v->round_reason != NULL ? v->round_reason
		                              : csv_data_reason_name(CSV_DATA_PATH);
		return CSV_VOLUME_REDIRECTED;
	}
	*by = NULL;
	v->round_reason = NULL;
	return CSV_VOLUME_DIRECT;
}

bool volume_hangs(const struct csv_volume *v)
{
	return v->reach.how != REACH_LOCAL && (v->hanging || v->way == CSV_VOLUME_WAY_LOST);
}

/*
 * An error may be one, and a device that is slow answers in the end: who would act on each of them
 * would send the coordinator around.
 */
void volume_look_way(struct csv_volume *v, uint64_t now_ns)
{
	const struct csv_slot *s = v->slot != NULL ? csv_slot_io_slot(v->slot) : NULL;
	uint64_t lost_ns = s != NULL ? csv_slot_io_lost_ns(v->slot, now_ns) : 0;
	enum csv_volume_way way = v->way;

	if (s != NULL && lost_ns == 0 && volume_may_write(v, now_ns)) {
		v->well_ns = v->well_ns != 0 ? v->well_ns : now_ns;
	} else {
		v->well_ns = 0;
	}
	if ((v->phase == VOLUME_FAILED && v->why.text[0] != '\0') ||
	    (lost_ns != 0 && now_ns - lost_ns >= LOST_NS)) {
		way = CSV_VOLUME_WAY_LOST;
	} else if (v->well_ns != 0 &&
	           (way == CSV_VOLUME_WAY_UNKNOWN || now_ns - v->well_ns >= WELL_NS)) {
		way = CSV_VOLUME_WAY_GOOD;
	}
	if (way != v->way) {
		log_info(TAG, "the way to the device is %s volume=%s",
		         way == CSV_VOLUME_WAY_GOOD ? "good" : "lost", v->cfg.name);
		v->way = way;
	}
}

/* Has it changed? */
void volume_look(struct csv_volume *v, uint64_t now_ns)
{
	struct csv_mount_stats s = {0};
	bool mounted = mounted_look(v, &s);
	const char *by = paused_by(v, now_ns);
	enum csv_volume_state state = v->phase == VOLUME_DEAD ? CSV_VOLUME_DEAD
	                              : by != NULL            ? CSV_VOLUME_PAUSED
	                                                      : way_of(v, &s, now_ns, &by);

	/* Also while it is paused: what hangs then is there when it goes on. */
	v->hanging = mounted && s.hanging != 0;
	by = by != NULL ? by : "";
	if (state == v->said && strcmp(by, v->said_reason) == 0 && v->since_ns != 0) {
		return;
	}
	v->said = state;
	v->said_reason = by;
	v->since_ns = now_ns;
	log_info(TAG, "state volume=%s state=%s reason=%s", v->cfg.name,
	         csv_volume_state_name(state), by[0] != '\0' ? by : "-");
	mounted_kick(v);
}

/* ---- latencies ---- */

/* Four buckets per power of two [us]: the error is below a fifth. */
static uint32_t bucket_of(uint64_t ns)
{
	uint64_t us = ns / NS_PER_US;
	uint32_t power = 0;

	if (us < 4) {
		return (uint32_t)us;
	}
	while (us >> power >= 8) {
		power++;
	}

	uint32_t index = 4 * (power + 1) + (uint32_t)(us >> power) - 4;

	return index < LATENCY_BUCKETS ? index : LATENCY_BUCKETS - 1;
}

static uint64_t bucket_end_ns(uint32_t index)
{
	if (index < 4) {
		return (index + 1) * NS_PER_US;
	}
	return ((uint64_t)(index % 4) + 5) * NS_PER_US << (index / 4 - 1);
}

void latency_add(struct latency *l, uint64_t ns)
{
	l->count++;
	l->max_ns = ns > l->max_ns ? ns : l->max_ns;
	l->buckets[bucket_of(ns)]++;
}

static uint64_t quantile(const struct latency *l, uint32_t permille)
{
	uint64_t rank = (l->count * permille + 999) / 1000;
	uint64_t seen = 0;

	for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) {
		seen += l->buckets[i];
		if (seen >= rank) {
			return bucket_end_ns(i) < l->max_ns ? bucket_end_ns(i) : l->max_ns;
		}
	}
	return l->max_ns;
}

void latency_get(const struct latency *l, struct csv_volume_latency *out)
{
	*out = (struct csv_volume_latency){.count = l->count, .max_ns = l->max_ns};
	if (l->count != 0) {
		out->p50_ns = quantile(l, 500);
		out->p99_ns = quantile(l, 990);
	}
}

/* ---- all of it ---- */

static const char *detail(const struct csv_volume *v)
{
	if (v->phase == VOLUME_FAILED || v->phase == VOLUME_DEAD) {
		return v->why.text;
	}
	if (strcmp(v->said_reason, "coordinator") == 0) {
		return v->cfg.coordinator >= CSV_MSG_NODES ? "nobody was appointed yet"
		       : v->coord.failed                   ? v->coord.why.text
		       : v->reach.why.text[0] != '\0'      ? v->reach.why.text
		       : v->coord.coord != NULL            ? "it is being opened"
		                                           : "not connected yet";
	}
	if (v->said == CSV_VOLUME_REDIRECTED) {
		return "what it reads and writes goes through the coordinator's node";
	}
	return "";
}

static void show_coordinator(const struct csv_volume *v, struct csv_volume_info *out)
{
	const struct coordinator *c = &v->coord;

	/* Of an earlier term: says nothing about the one that is wanted now. */
	if (v->cfg.term != 0 && c->term != v->cfg.term) {
		return;
	}
	out->coord_why = c->failed ? c->why.text : "";
	out->moved_to = c->moved_to;
	if (c->coord == NULL) {
		/* Whoever hears it appoints the next one: not while a device may still execute
		 * what this one has sent. */
		if (c->failed &&
		    clock_boot_ns() - c->ended_ns >= v->d->timing.cfg.inflight_ms * NS_PER_MS) {
			out->coord = "failed";
		}
		return;
	}
	out->coord = csv_coord_state_name(csv_coord_state(c->coord, NULL));
	/* The next term begins when this is said: not while something is written for others. */
	if (csv_coord_state(c->coord, NULL) == CSV_COORD_CLOSED && !gate_is_idle(v)) {
		out->coord = csv_coord_state_name(CSV_COORD_CLOSING);
	}
	csv_coord_get_stats(c->coord, &out->coord_stats);
	csv_lock_get_stats(csv_coord_locks(c->coord), &out->locks);
	out->lock_waits = (struct csv_volume_latency){
		.count = out->locks.granted_later,
		.p50_ns = csv_lock_wait_ns(csv_coord_locks(c->coord), 500),
		.p99_ns = csv_lock_wait_ns(csv_coord_locks(c->coord), 990),
		.max_ns = out->locks.wait_max_ns,
	};
	memcpy(out->fence_wanted, c->fence_wanted, sizeof(out->fence_wanted));
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		out->sessions |= (uint64_t)(v->sessions[i] != NULL) << i;
	}
	if (v->reach.how == REACH_LOCAL) {
		out->sessions |= 1ull << v->d->members->self;
	}
}

void csv_volume_get_info(const struct csv_volume *v, struct csv_volume_info *out)
{
	struct csv_mount_stats mount;
	*out = (struct csv_volume_info){
		.name = v->cfg.name,
		.device = v->cfg.device,
		.state = v->said,
		.reason = v->said_reason,
		.detail = detail(v),
		.since_ns = v->since_ns,
		.coordinator = v->cfg.coordinator,
		.term = v->cfg.term != 0 ? v->cfg.term : v->coord.term,
		.way = v->way,
		.client = "none",
		.slot = "none",
		.coord_why = "",
		.mount_why = v->mount_why.text,
		.moved_to = CSV_MSG_NODES,
		.stat_known = v->stat_known,
		.stat = v->stat,
	};
	if (v->client != NULL) {
		out->id = v->super.volume;
		out->client = client_name(csv_client_state(v->client));
		out->connected = csv_client_state(v->client) == CSV_CLIENT_ACTIVE;
	}
	out->reservations = v->keys.level;
	out->reservations_why = v->keys.why;
	out->key = v->keys.level != CSV_PR_NONE && v->reserve != NULL
	                   ? keys_of(v, v->d->members->self, v->run)
	                   : 0;
	if (v->slot != NULL) {
		const struct csv_slot *s = csv_slot_io_slot(v->slot);

		out->slot = csv_slot_state_name(s->state);
		for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
			out->life[i] = s->peers[i].life;
		}
	}
	if (v->mounted != NULL) {
		(void)snprintf(out->path, sizeof(out->path), "%s/%s", v->d->cfg.mount_dir,
		               v->cfg.name);
	}
	if (mounted_look(v, &mount)) {
		out->direct_users = mount.direct;
		out->direct_told = mount.direct_told;
	}
	if (mounted_redirects(v) != NULL) {
		out->redirect_requests = mounted_redirects(v)->requests;
		out->redirect_bytes = mounted_redirects(v)->bytes;
	}
	out->gate_requests = v->gate.requests;
	out->gate_bytes = v->gate.bytes;
	latency_get(&v->meta, &out->meta);
	show_coordinator(v, out);
}
