/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "csv/pr/csv_pr.h"
#include "csv/pr/csv_pr_wire.h"

#define STATUS_GOOD 0x00
#define STATUS_CHECK 0x02
#define STATUS_BUSY 0x08
#define STATUS_CONFLICT 0x18
#define STATUS_FULL 0x28

#define SENSE_RECOVERED 1
#define SENSE_NOT_READY 2
#define SENSE_ILLEGAL 5
#define SENSE_ATTENTION 6
#define SENSE_ABORTED 11

/* A path may have several unit attentions to tell, each costs one command. */
#define TRIES_MAX 10u
#define REASON_BYTES ((int)sizeof(((struct csv_pr *)0)->reason))

/* A key that no run of a node has (csv_pr_key() sets a bit that is 0 here): to see what a PREEMPT
 * of nobody is answered. */
#define NOBODYS_KEY 0x0000000067770001ull

/* What a check condition means. -EAGAIN: say it again. */
static int sense_error(struct csv_pr *pr, const struct csv_pr_status *st)
{
	struct csv_pr_sense s;

	if (csv_pr_sense_decode(st->sense, st->sense_len, &s) != 0) {
		return -EIO;
	}
	switch (s.key) {
	case SENSE_RECOVERED:
		return 0;
	case SENSE_ATTENTION:
		pr->attention = true; /* preempted, reset, keys changed: all end in a look */
		return -EAGAIN;
	case SENSE_ABORTED:
		return -EAGAIN;
	case SENSE_ILLEGAL:
		return -EOPNOTSUPP;
	case SENSE_NOT_READY:
		return -ENODEV;
	default:
		return -EIO;
	}
}

static int status_error(struct csv_pr *pr, const struct csv_pr_status *st)
{
	switch (st->status) {
	case STATUS_GOOD:
		return 0;
	case STATUS_CHECK:
		return sense_error(pr, st);
	case STATUS_CONFLICT:
		return -EBADE;
	case STATUS_BUSY:
	case STATUS_FULL:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

/* -EBADE: reservation conflict; -EOPNOTSUPP: illegal request; -ENOTTY, -errno of the door. */
static int run(struct csv_pr *pr, const uint8_t *cdb, bool out, void *data, size_t len, size_t *got)
{
	struct csv_pr_status st;
	size_t ignored;
	int err = -EIO;

	for (uint32_t i = 0; i < TRIES_MAX; i++) {
		memset(&st, 0, sizeof(st));
		err = pr->door->run(pr->arg, cdb, out, data, len, got != NULL ? got : &ignored,
		                    &st);
		if (err == 0) {
			err = status_error(pr, &st);
		}
		if (err != -EAGAIN) {
			return err;
		}
	}
	return -EIO;
}

static int run_out(struct csv_pr *pr, const struct csv_pr_out *out)
{
	uint8_t cdb[CSV_PR_CDB_BYTES];
	uint8_t data[sizeof(struct pr_out_wire)];

	csv_pr_out_encode(out, cdb, data);
	return run(pr, cdb, true, data, sizeof(data), NULL);
}

static int run_in(struct csv_pr *pr, uint8_t action, uint8_t *data, size_t len, size_t *got)
{
	uint8_t cdb[CSV_PR_CDB_BYTES];

	csv_pr_in_encode(action, (uint16_t)len, cdb);
	memset(data, 0, len);
	return run(pr, cdb, false, data, len, got);
}

void csv_pr_init(struct csv_pr *pr, const struct csv_pr_door *door, void *arg)
{
	CHECK(door->run != NULL);
	*pr = (struct csv_pr){.door = door, .arg = arg, .reason = "nobody has looked yet"};
}

/* ---- reading ---- */

static int read_keys(struct csv_pr *pr, struct csv_pr_keys *out)
{
	uint8_t data[CSV_PR_DATA_BYTES];
	size_t got = 0;
	int err = run_in(pr, PR_IN_READ_KEYS, data, sizeof(data), &got);

	if (err == 0) {
		err = csv_pr_keys_decode(data, got, out);
	}
	if (err == 0) {
		pr->generation = out->generation;
	}
	return err;
}

static int read_reservation(struct csv_pr *pr, struct csv_pr_reservation *out)
{
	uint8_t data[64];
	size_t got = 0;
	int err = run_in(pr, PR_IN_READ_RESERVATION, data, sizeof(data), &got);

	return err == 0 ? csv_pr_reservation_decode(data, got, out) : err;
}

int csv_pr_read(struct csv_pr *pr, struct csv_pr_keys *keys, struct csv_pr_reservation *reservation,
                struct errbuf *eb)
{
	int err = keys != NULL ? read_keys(pr, keys) : 0;

	if (err == 0 && reservation != NULL) {
		err = read_reservation(pr, reservation);
	}
	return err == 0 ? 0 : errbuf_sys(eb, err, "reservations: reading keys");
}

/* Is our key there? 0; -ESTALE; -errno. */
static int still_registered(struct csv_pr *pr, struct csv_pr_keys *keys, struct errbuf *eb)
{
	int err = csv_pr_read(pr, keys, NULL, eb);

	if (err != 0) {
		return err;
	}
	if (pr->key == 0 || !csv_pr_has(keys, pr->key)) {
		return errbuf_set(eb, -ESTALE,
		                  "reservations: key %016llx is not registered (any more): fenced",
		                  (unsigned long long)pr->key);
	}
	pr->attention = false;
	return 0;
}

/* ---- what the LUN can do ---- */

static void degrade(struct csv_pr *pr, enum csv_pr_level level, const char *why, int err)
{
	struct errbuf eb = {0};

	pr->level = level;
	(void)errbuf_sys(&eb, err, "%s", why);
	(void)snprintf(pr->reason, sizeof(pr->reason), "%.*s", REASON_BYTES - 1, eb.text);
}

/* Which type of reservation, and does a registration survive? Not all LUNs tell. */
static void look_at_capabilities(struct csv_pr *pr, bool *can_persist)
{
	struct csv_pr_capabilities c = {0};
	uint8_t data[sizeof(struct pr_capabilities_wire)];
	size_t got = 0;
	int err = run_in(pr, PR_IN_REPORT_CAPABILITIES, data, sizeof(data), &got);

	if (err == 0) {
		err = csv_pr_capabilities_decode(data, got, &c);
	}
	pr->type = CSV_PR_WRITE_EX_REGISTRANTS;
	*can_persist = err == 0 && c.can_persist;
	if (err == 0 && c.types_known && c.write_ex_all) {
		pr->type = CSV_PR_WRITE_EX_ALL;
	}
}

/* Our key is registered: what is a PREEMPT of a key that nobody has answered? A LUN that knows the
 * action says conflict (SPC-4) or good; one that does not says that the request is illegal. */
static int try_preempt(struct csv_pr *pr, enum csv_pr_action action)
{
	const struct csv_pr_out out = {
		.action = action,
		.type = pr->type,
		.key = pr->key,
		.action_key = NOBODYS_KEY,
	};
	int err = run_out(pr, &out);

	return err == -EBADE ? 0 : err;
}

static void find_level(struct csv_pr *pr)
{
	int err = try_preempt(pr, CSV_PR_PREEMPT_ABORT);

	pr->level = CSV_PR_ABORT;
	pr->reason[0] = '\0';
	if (err == 0) {
		return;
	}
	degrade(pr, CSV_PR_PREEMPT_ONLY, "PREEMPT AND ABORT is refused", err);
	err = try_preempt(pr, CSV_PR_PREEMPT);
	if (err != 0) {
		degrade(pr, CSV_PR_NONE, "PREEMPT is refused", err);
	}
}

/* ---- registering ---- */

static int do_register(struct csv_pr *pr, uint64_t key, uint64_t old, bool ignore, bool persist)
{
	struct csv_pr_out out = {
		.action = CSV_PR_REGISTER,
		.key = old,
		.action_key = key,
		.persist = persist,
	};
	int err = run_out(pr, &out);

	if (err == -EBADE && ignore) {
		out.action = CSV_PR_REGISTER_IGNORE;
		out.key = 0;
		err = run_out(pr, &out);
	}
	return err;
}

int csv_pr_register(struct csv_pr *pr, uint64_t key, uint64_t old, bool ignore, struct errbuf *eb)
{
	struct csv_pr_keys keys = {0};
	bool persist;
	int err = read_keys(pr, &keys);

	CHECK(key != 0);
	pr->key = 0;
	if (err == -ENOTTY || err == -EOPNOTSUPP) {
		degrade(pr, CSV_PR_NONE,
		        err == -ENOTTY ? "no SCSI device"
		                       : "the LUN has no persistent reservations",
		        err);
		return 0;
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "reservations: reading keys");
	}
	if (csv_pr_has(&keys, key)) {
		return errbuf_set(eb, -EEXIST, "reservations: key %016llx is registered already",
		                  (unsigned long long)key);
	}
	look_at_capabilities(pr, &persist);
	pr->entered = true;
	err = do_register(pr, key, old, ignore, persist);
	if (err != 0 && err != -EBADE && persist) {
		/* It cannot save it after all. Linux's target has registered it all the same. */
		persist = false;
		err = do_register(pr, key, old, ignore, persist);
		if (err == -EBADE) {
			err = do_register(pr, key, key, false, persist);
		}
	}
	pr->entered = err != -EBADE && err != -EOPNOTSUPP;
	if (err == -EBADE) {
		(void)errbuf_set(eb, -EBUSY, "reservations: this path has another key");
		errbuf_hint(eb, "An earlier run of this node left it, or was fenced just now.");
		return -EBUSY;
	}
	if (err == -EOPNOTSUPP) {
		degrade(pr, CSV_PR_NONE, "registering is refused", err);
		return 0;
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "reservations: registering");
	}
	pr->key = key;
	pr->persists = persist;
	err = still_registered(pr, &keys, eb);
	if (err != 0) {
		pr->key = 0;
		return err;
	}
	find_level(pr);
	pr->entered = pr->level != CSV_PR_NONE; /* else nobody relies on it */
	return 0;
}

int csv_pr_adopt(struct csv_pr *pr, uint64_t key, struct errbuf *eb)
{
	struct csv_pr_keys keys = {0};
	bool persist;
	int err;

	CHECK(key != 0);
	pr->key = key;
	err = still_registered(pr, &keys, eb);
	if (err != 0) {
		pr->key = 0;
		return err;
	}
	look_at_capabilities(pr, &persist);
	pr->persists = persist;
	find_level(pr);
	return 0;
}

/* ---- reserving, fencing ---- */

static bool ours(const struct csv_pr_reservation *r)
{
	return r->type == CSV_PR_WRITE_EX_ALL || r->type == CSV_PR_WRITE_EX_REGISTRANTS;
}

static int need_key(const struct csv_pr *pr, struct errbuf *eb)
{
	if (pr->level == CSV_PR_NONE) {
		return errbuf_set(eb, -ENOTSUP, "reservations: %s", pr->reason);
	}
	return 0;
}

int csv_pr_reserve(struct csv_pr *pr, struct errbuf *eb)
{
	struct csv_pr_out out = {.action = CSV_PR_RESERVE, .key = pr->key};
	struct csv_pr_reservation r = {0};
	struct csv_pr_keys keys = {0};
	int err = need_key(pr, eb);

	if (err == 0) {
		err = still_registered(pr, &keys, eb);
	}
	if (err == 0) {
		err = csv_pr_read(pr, NULL, &r, eb);
	}
	if (err != 0) {
		return err;
	}
	if (r.type == 0) {
		out.type = pr->type;
		err = run_out(pr, &out);
		if (err == -EOPNOTSUPP && pr->type == CSV_PR_WRITE_EX_ALL) {
			pr->type = CSV_PR_WRITE_EX_REGISTRANTS; /* it had said otherwise */
			out.type = pr->type;
			err = run_out(pr, &out);
		}
		if (err != 0 && err != -EBADE) { /* conflict: another node was faster */
			return errbuf_sys(eb, err, "reservations: reserving");
		}
		err = csv_pr_read(pr, NULL, &r, eb);
		if (err != 0) {
			return err;
		}
	}
	if (!ours(&r)) {
		(void)errbuf_set(eb, -EBUSY, "reservations: the LUN has a reservation of type %u",
		                 r.type);
		errbuf_hint(eb, "Other software uses this LUN: see sg_persist -r.");
		return -EBUSY;
	}
	pr->type = (enum csv_pr_type)r.type;
	return 0;
}

int csv_pr_preempt(struct csv_pr *pr, uint64_t victim, struct errbuf *eb)
{
	struct csv_pr_out out = {
		.action = pr->level == CSV_PR_ABORT ? CSV_PR_PREEMPT_ABORT : CSV_PR_PREEMPT,
		.type = pr->type,
		.key = pr->key,
		.action_key = victim,
	};
	struct csv_pr_keys keys = {0};
	int err = need_key(pr, eb);

	CHECK(victim != 0 && victim != pr->key);
	if (err == 0) {
		err = still_registered(pr, &keys, eb);
	}
	if (err != 0) {
		return err;
	}
	if (!csv_pr_has(&keys, victim)) {
		return errbuf_set(eb, -EALREADY, "reservations: key %016llx is not registered",
		                  (unsigned long long)victim);
	}
	err = run_out(pr, &out);

	/* Whatever it said: what is registered now is what counts. */
	int now = still_registered(pr, &keys, eb);

	if (now != 0) {
		return now;
	}
	if (csv_pr_has(&keys, victim)) {
		return errbuf_sys(eb, err != 0 && err != -EBADE ? err : -EIO,
		                  "reservations: key %016llx is still registered",
		                  (unsigned long long)victim);
	}
	if (err != 0) { /* somebody else was faster */
		return errbuf_sys(eb, err == -EBADE ? -EALREADY : err,
		                  "reservations: preempting %016llx", (unsigned long long)victim);
	}
	return 0;
}

int csv_pr_check(struct csv_pr *pr, struct errbuf *eb)
{
	struct csv_pr_reservation r = {0};
	struct csv_pr_keys keys = {0};
	int err = need_key(pr, eb);

	if (err == 0) {
		err = still_registered(pr, &keys, eb);
	}
	if (err == 0) {
		err = csv_pr_read(pr, NULL, &r, eb);
	}
	if (err == 0 && !ours(&r)) {
		err = csv_pr_reserve(pr, eb);
	}
	return err;
}

int csv_pr_leave(struct csv_pr *pr, struct errbuf *eb)
{
	const struct csv_pr_out out = {.action = CSV_PR_REGISTER, .key = pr->key};
	struct csv_pr_reservation r = {0};
	struct csv_pr_keys keys = {0};
	int err;

	if (pr->key == 0) {
		return 0;
	}
	err = still_registered(pr, &keys, eb);
	if (err == 0) {
		err = csv_pr_read(pr, NULL, &r, eb);
	}
	if (err != 0) {
		return err;
	}
	if (r.type == CSV_PR_WRITE_EX_REGISTRANTS && r.key == pr->key && keys.count > 1) {
		return errbuf_set(eb, -EBUSY,
		                  "reservations: this node holds the reservation for %u others",
		                  keys.count - 1);
	}
	err = run_out(pr, &out);
	if (err != 0) {
		return errbuf_sys(eb, err, "reservations: unregistering");
	}
	pr->key = 0;
	pr->level = CSV_PR_NONE;
	(void)snprintf(pr->reason, sizeof(pr->reason), "left");
	return 0;
}
