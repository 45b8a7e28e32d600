/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csv/pr/fake_target.h"

#include <errno.h>
#include <string.h>

#include "csv/pr/csv_pr_wire.h"

static int check(struct csv_pr_status *st, uint8_t key, uint8_t asc, uint8_t ascq)
{
	st->status = 2;
	st->sense_len = 18;
	st->sense[0] = 0x70;
	st->sense[2] = key;
	st->sense[7] = 10;
	st->sense[12] = asc;
	st->sense[13] = ascq;
	return 0;
}

static int conflict(struct csv_pr_status *st)
{
	st->status = 0x18;
	return 0;
}

static void drop(struct fake_target *t, uint32_t path)
{
	bool any = false;

	t->keys[path] = 0;
	for (uint32_t i = 0; i < FAKE_PATHS; i++) {
		any = any || t->keys[i] != 0;
	}
	if (t->type != 0 && (!any || (t->type == 5 && t->holder == path))) {
		t->type = 0;
	}
}

bool fake_may_write(const struct fake_target *t, uint32_t path)
{
	return t->type == 0 || t->keys[path] != 0;
}

static int do_register(struct fake_target *t, uint32_t path, uint64_t new_key, bool persist,
                       struct csv_pr_status *st)
{
	if (persist && t->cannot_save) {
		t->keys[path] = new_key;
		return check(st, 2, 4, 1); /* as Linux 6.1 */
	}
	if (persist && t->no_persist) {
		return check(st, 5, 0x26, 0);
	}
	t->generation++;
	if (new_key == 0) {
		drop(t, path);
	} else {
		t->keys[path] = new_key;
	}
	return 0;
}

static int do_preempt(struct fake_target *t, uint32_t path, const struct pr_out_cdb_wire *c,
                      uint64_t victim, struct csv_pr_status *st)
{
	bool abort = c->action == CSV_PR_PREEMPT_ABORT;
	bool found = false;
	bool held = t->type == 5 && t->keys[t->holder] == victim;

	for (uint32_t i = 0; i < FAKE_PATHS; i++) {
		if (t->keys[i] != victim) {
			continue;
		}
		found = true;
		if (!t->ignores_preempt) {
			t->keys[i] = 0;
			t->attentions[i]++;
			t->aborted += abort ? 1 : 0;
		}
	}
	if (!found) {
		return conflict(st);
	}
	t->generation++;
	if (held && !t->ignores_preempt) {
		t->type = c->scope_type;
		t->holder = path;
	}
	return 0;
}

static int run_out(struct fake_target *t, uint32_t path, const uint8_t *cdb, const void *data,
                   struct csv_pr_status *st)
{
	struct pr_out_cdb_wire c;
	struct pr_out_wire d;

	memcpy(&c, cdb, sizeof(c));
	memcpy(&d, data, sizeof(d));

	uint64_t key = be64_get(d.key);
	uint64_t other = be64_get(d.action_key);
	bool persist = (d.flags & PR_OUT_APTPL) != 0;

	if ((c.action == CSV_PR_PREEMPT_ABORT && t->no_abort) ||
	    (c.action == CSV_PR_PREEMPT && t->no_preempt)) {
		return check(st, 5, 0x24, 0);
	}
	if (c.action == CSV_PR_REGISTER_IGNORE) {
		return do_register(t, path, other, persist, st);
	}
	if (t->keys[path] != key || (key == 0 && c.action != CSV_PR_REGISTER)) {
		return conflict(st);
	}
	switch (c.action) {
	case CSV_PR_REGISTER:
		return do_register(t, path, other, persist, st);
	case CSV_PR_RESERVE:
		if (c.scope_type == 7 && t->no_all) {
			return check(st, 5, 0x24, 0);
		}
		if (t->type != 0) {
			return conflict(st);
		}
		t->type = c.scope_type;
		t->holder = path;
		return 0;
	case CSV_PR_PREEMPT:
	case CSV_PR_PREEMPT_ABORT:
		return do_preempt(t, path, &c, other, st);
	default:
		return check(st, 5, 0x20, 0);
	}
}

static size_t run_in(const struct fake_target *t, uint8_t action, uint8_t *data)
{
	struct pr_in_head_wire head = {.generation = be32_make(t->generation)};
	uint32_t bytes = 0;

	if (action == PR_IN_REPORT_CAPABILITIES) {
		const struct pr_capabilities_wire c = {
			.length = be16_make(8),
			.flags = PR_CAP_PTPL_C,
			.flags2 = PR_CAP_TMV,
			.types = (uint8_t)(PR_CAP_WR_EX_RO |
		                           (t->no_all && !t->lies_about_all ? 0 : PR_CAP_WR_EX_AR)),
		};

		memcpy(data, &c, sizeof(c));
		return sizeof(c);
	}
	if (action == PR_IN_READ_KEYS) {
		for (uint32_t i = 0; i < FAKE_PATHS; i++) {
			be64 key = be64_make(t->keys[i]);

			if (t->keys[i] != 0) {
				memcpy(data + sizeof(head) + bytes, &key, sizeof(key));
				bytes += sizeof(key);
			}
		}
	} else if (t->type != 0) {
		const struct pr_reservation_wire r = {
			.key = be64_make(t->type == 7 ? 0 : t->keys[t->holder]),
			.scope_type = t->type,
		};

		memcpy(data + sizeof(head), &r, sizeof(r));
		bytes = sizeof(r);
	}
	head.length = be32_make(bytes);
	memcpy(data, &head, sizeof(head));
	return sizeof(head) + bytes;
}

static int run(void *arg, const uint8_t *cdb, bool out, void *data, size_t len, size_t *got,
               struct csv_pr_status *st)
{
	const struct fake_path *p = arg;
	struct fake_target *t = p->target;

	if (t->unused_target) {
		return -ENOTTY;
	}
	if (t->fail != 0 && --t->fail == 0) {
		return -ETIMEDOUT;
	}
	if (t->attentions[p->path] != 0) {
		t->attentions[p->path]--;
		return check(st, 6, 0x2a, 3);
	}
	if (t->no_reservations || (t->silent && !out && cdb[1] == PR_IN_REPORT_CAPABILITIES)) {
		return check(st, 5, 0x20, 0);
	}
	*got = len;
	if (out) {
		return run_out(t, p->path, cdb, data, st);
	}
	*got = run_in(t, cdb[1], data);
	return 0;
}

const struct csv_pr_door fake_door = {.run = run};
