/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_look - godwit-csvd of this node as a process: which one there is, which run it has, whether
 * it has to end. What follows from what is csv_life; here it is looked at and done.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/shared_direct.h"
#include "bin/godwitd/csv_wire_int.h"
#include "cluster/ha/ha.h"
#include "cluster/timing/timing.h"
#include "cluster/vmops.h"

/* Leases that it may be silent for, without a reason that we know. */
#define HANG_LEASES 3ull

static const struct db_object *setting(const struct csv_wire *w, const char *key)
{
	return db_get(member_db(w->place.member), DB_SETTING, key);
}

static const struct db_object *own_doc(const struct csv_wire *w)
{
	char key[CSV_RUN_KEY_MAX];

	return setting(w, csv_run_key(w->place.nodeid, key));
}

static void propose_run(struct csv_wire *w, uint64_t run, bool gone)
{
	const struct db_object *o = own_doc(w);
	json_t *doc = json_pack("{s:I,s:b}", "run", (json_int_t)run, "gone", (int)gone);
	char key[CSV_RUN_KEY_MAX];
	struct db_cmd cmd;
	bool sealed = o != NULL && csv_sealed(o->doc) != 0 &&
	              csv_number(o->doc, "run") >> CSV_LIFE_BITS == run >> CSV_LIFE_BITS;

	if (sealed) { /* this run of the node is over for the others, and no other service begins */
		(void)json_object_set_new(doc, "sealed", json_true());
		(void)json_object_set(doc, "volumes", json_object_get(o->doc, "volumes"));
	}
	if (!w->proposing && (gone || !sealed)) {
		db_cmd_init(&cmd);
		db_cmd_put(&cmd, DB_SETTING, csv_run_key(w->place.nodeid, key), doc);
		if (o != NULL) {
			db_cmd_if_version(&cmd, o->version);
		} else {
			db_cmd_if_absent(&cmd);
		}
		log_info(CSV_WIRE_TAG, "run of the volume service run=%" PRIu64 " gone=%d", run,
		         gone);
		csv_wire_propose(w, &cmd, "a run of the volume service");
	}
	json_decref(doc);
}

static uint64_t inflight_ns(const struct csv_wire *w)
{
	return ha_timing(w->place.ha)->cfg.inflight_ms * NS_PER_MS;
}

/* The pid file is of the process that answered, and of no other that got its number since. */
static int write_pid(const char *path, const struct csv_wire *w, struct errbuf *eb)
{
	int err = guard_pid_write(path, w->pid, eb);

	if (err == 0 && !guard_pid_names(path, w->pid, w->pid_started)) {
		err = errbuf_set(eb, -ESRCH, "process %d is another one now", w->pid);
	}
	return err;
}

/* From now on it ends with the lease. */
static void adopt(struct csv_wire *w, uint64_t last)
{
	struct vmops_lease lease;
	uint64_t inc = guard_run(w->place.guard, &lease);
	struct guard_vm g = {.role = GUARD_CSVD};
	struct errbuf eb = {0};
	int err;

	if (inc == 0 || !guard_alive(w->place.guard) || !ha_may_start(w->place.ha) ||
	    (last >> CSV_LIFE_BITS) > inc) {
		return;
	}
	g.token = (last >> CSV_LIFE_BITS) == inc ? last + 1 : (inc << CSV_LIFE_BITS) + 1;
	if ((g.token & CSV_LIFE_MAX) == 0) {
		return; /* 65535 lives in one run of the node: something is very wrong */
	}
	err = write_pid(w->pid_path, w, &eb);
	if (err == 0) {
		(void)snprintf(g.pid_path, sizeof(g.pid_path), "%s", w->pid_path);
		err = guard_add(w->place.guard, &g);
	}
	if (err < 0) {
		log_err(CSV_WIRE_TAG, "godwit-csvd is not told anything text=\"%s\"",
		        errbuf_text(&eb, err));
	}
}

static void end_stranger(struct csv_wire *w)
{
	struct errbuf eb = {0};

	log_warn(CSV_WIRE_TAG, "godwit-csvd is of an earlier run, it is ended pid=%d", w->pid);
	if (write_pid(w->seen_path, w, &eb) == 0) {
		guard_pid_kill(w->seen_path);
	}
	w->stranger_ns = clock_boot_ns();
	w->seen = false;
}

static void end_guarded(struct csv_wire *w, const struct guard_vm *g, const struct csv_life_seen *s)
{
	static struct log_limit limit;

	if (!w->life.killed) {
		log_warn(CSV_WIRE_TAG, "godwit-csvd is ended run=%" PRIu64 " why=\"%s\"", g->token,
		         s->dead                 ? "a volume of it was fenced"
		         : w->life.fence_ns != 0 ? "others wait for what it holds"
		                                 : "it does not answer");
	} else {
		log_limited(
			&limit, LOG_LEVEL_ERR, CSV_WIRE_TAG,
			"godwit-csvd was killed and does not end: does a device hang? run=%" PRIu64,
			g->token);
	}
	w->life.killed = true;
	guard_pid_kill(g->pid_path);
}

/* Answers of which process? */
static void look(const struct csv_wire *w, const struct guard_vm *g, struct csv_life_seen *s)
{
	const struct db_object *o = own_doc(w);

	*s = (struct csv_life_seen){
		.now_ns = clock_boot_ns(),
		.inflight_ns = inflight_ns(w),
		.hang_ns = HANG_LEASES * ha_timing(w->place.ha)->cfg.lease_ms * NS_PER_MS,
		.guarded = g->role == GUARD_CSVD ? g->token : 0,
		.answers = w->seen && w->pid != 0,
		.told = w->pid_run,
		.run = o != NULL ? csv_number(o->doc, "run") : 0,
		.gone = o != NULL && json_is_true(json_object_get(o->doc, "gone")),
		.fence = csv_fence_of(w->place.member, w->place.nodeid),
		.may = ha_may_start(w->place.ha),
	};
	s->dead = w->dead && w->pid_run == s->guarded;
	if (s->guarded != 0) {
		/* Its users may write as it may: what they have left belongs to its run. */
		s->lives = guard_pid_lives(g->pid_path) || shared_direct_held(w->lock_path);
		s->same = s->answers && guard_pid_names(g->pid_path, w->pid, w->pid_started);
		s->informed = s->same && s->fence == s->guarded && csv_wire_told(w);
	}
}

uint64_t csv_look(struct csv_wire *w)
{
	struct guard_vm g = {.role = 0};
	struct csv_life_seen s;

	if (!guard_find(w->place.guard, GUARD_CSVD, &g)) {
		g.role = 0;
	}
	look(w, &g, &s);
	switch (csv_life_step(&w->life, &s)) {
	case CSV_LIFE_WAIT:
		break;
	case CSV_LIFE_ADOPT:
		adopt(w, s.run);
		break;
	case CSV_LIFE_STRANGER:
		end_stranger(w);
		break;
	case CSV_LIFE_COMMIT:
		propose_run(w, s.guarded, false);
		break;
	case CSV_LIFE_TELL:
		return s.guarded;
	case CSV_LIFE_KILL:
		end_guarded(w, &g, &s);
		break;
	case CSV_LIFE_ENDED:
		log_warn(CSV_WIRE_TAG, "godwit-csvd has ended run=%" PRIu64, s.guarded);
		break;
	case CSV_LIFE_GONE:
		propose_run(w, s.guarded, true);
		break;
	case CSV_LIFE_FORGET:
		guard_del(w->place.guard, GUARD_CSVD);
		break;
	}
	return 0;
}

bool csv_wire_clear(struct csv_wire *w)
{
	struct guard_vm g;

	if (w->place.member == NULL) {
		return false;
	}
	if (guard_find(w->place.guard, GUARD_CSVD, &g)) {
		bool lives = guard_pid_lives(g.pid_path) || shared_direct_held(w->lock_path);

		if (lives) {
			guard_pid_kill(g.pid_path);
			w->seen = false;
		}
		return csv_life_clear(&w->life, lives, clock_boot_ns(), inflight_ns(w));
	}
	if (w->seen && w->pid != 0 && w->pid_run != 0) {
		end_stranger(w);
		return false;
	}
	if (w->stranger_ns != 0 && clock_boot_ns() - w->stranger_ns < inflight_ns(w)) {
		return false;
	}
	if (shared_direct_held(w->lock_path)) {
		w->stranger_ns = clock_boot_ns(); /* inflight_ms from when they have ended */
		return false;
	}
	return w->seen && (w->away || w->pid != 0);
}
