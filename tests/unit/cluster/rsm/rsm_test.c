/* SPDX-License-Identifier: Apache-2.0 */

/* One member alone: what a stand-alone host runs, and what needs no partner to be seen. Many
 * members with faults: tests/sim/cluster_db. */

#include "cluster/rsm/rsm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "cluster/view/frame.h"
#include "tests/lib/mem_store.h"
#include "tests/lib/test.h"

struct fixture {
	struct mem_store *store;
	struct rsm *rsm;
	struct rsm_io io;
	struct rsm_machine machine;
	uint8_t sent[64][512]; /* multicasts not delivered yet */
	size_t sent_len[64];
	uint32_t sent_count;
	uint32_t applied;
	uint64_t value; /* the machine's state */
	uint32_t done;
	uint32_t unknown;
	struct rsm_result last;
	struct guid uuid;
	uint8_t life;
};

static void io_multicast(void *arg, const void *buf, size_t len)
{
	struct fixture *f = arg;

	assert_true(f->sent_count < 64 && len <= sizeof(f->sent[0]));
	memcpy(f->sent[f->sent_count], buf, len);
	f->sent_len[f->sent_count++] = len;
}

static void io_unicast(void *arg, uint32_t nodeid, const void *buf, size_t len)
{
	(void)arg;
	(void)nodeid;
	(void)buf;
	(void)len;
	fail();
}

static void io_changed(void *arg)
{
	(void)arg;
}

static int machine_apply(void *arg, const struct rsm_entry *entry, const struct rsm_sink *sink,
                         struct rsm_result *out)
{
	struct fixture *f = arg;

	f->applied++;
	f->value = f->value * 31 + entry->payload[0];
	sink->put(sink->arg, "v", 1, &f->value, sizeof(f->value));
	*out = (struct rsm_result){.index = entry->index, .detail = (uint32_t)f->value};
	return 0;
}

static void machine_newview(void *arg, uint64_t index, uint64_t epoch,
                            const struct rsm_newview_wire *members, uint32_t count)
{
	(void)arg;
	assert_true(index > 0 && epoch > 0);
	assert_int_equal(count, 1);
	assert_int_equal(le32_get(members[0].nodeid), 1);
}

static void machine_clear(void *arg)
{
	((struct fixture *)arg)->value = 0;
}

static int machine_load(void *arg, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
	struct fixture *f = arg;

	assert_int_equal(key_len, 1);
	assert_int_equal(*(const char *)key, 'v');
	assert_int_equal(value_len, sizeof(f->value));
	memcpy(&f->value, value, value_len);
	return 0;
}

static void machine_loaded(void *arg, uint64_t index)
{
	(void)arg;
	(void)index;
}

static int start_as(struct fixture *f, uint32_t level_max, struct errbuf *eb)
{
	struct rsm_cfg cfg;

	rsm_cfg_default(&cfg);
	cfg.nodeid = 1;
	cfg.level_max = level_max;
	cfg.uuid = f->uuid;
	cfg.incarnation.b[0] = ++f->life;
	cfg.io = &f->io;
	cfg.machine = &f->machine;
	cfg.store = mem_store_rsm(f->store);
	return rsm_create(&cfg, &f->rsm, eb);
}

static int start(struct fixture *f)
{
	return start_as(f, 2, NULL);
}

/* Disk and multicast until nothing is under way. */
static void settle(struct fixture *f)
{
	const struct view_peer self = {.nodeid = 1, .pid = 7};

	while (mem_store_token(f->store) != 0 || f->sent_count != 0) {
		uint64_t token = mem_store_token(f->store);

		if (token != 0) {
			mem_store_synced(f->store);
			rsm_on_synced(f->rsm, token, 0);
		}
		if (f->sent_count != 0) {
			uint8_t buf[sizeof(f->sent[0])];
			size_t len = f->sent_len[0];

			memcpy(buf, f->sent[0], len);
			f->sent_count--;
			memmove(f->sent, f->sent + 1, f->sent_count * sizeof(f->sent[0]));
			memmove(f->sent_len, f->sent_len + 1,
			        f->sent_count * sizeof(f->sent_len[0]));
			rsm_on_multicast(f->rsm, &self, buf, len);
		}
	}
}

static void ring(struct fixture *f, uint64_t seq)
{
	const struct view_peer self = {.nodeid = 1, .pid = 7};
	const struct view_ring id = {.seq = seq, .nodeid = 1};
	uint32_t member = 1;

	rsm_on_group(f->rsm, &self, 1);
	rsm_on_ring(f->rsm, &id, &member, 1);
	rsm_on_quorum(f->rsm, seq, true);
	settle(f);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct rsm_mark mark = {.level = 1};

	assert_non_null(f);
	f->uuid.b[0] = 0xaa;
	mark.config.count = 1;
	mark.config.nodes[0] = (struct view_node){.nodeid = 1, .votes = 1, .uuid = f->uuid};
	f->store = mem_store_create(&mark);
	f->io = (struct rsm_io){
		.multicast = io_multicast, .unicast = io_unicast, .changed = io_changed, .arg = f};
	f->machine = (struct rsm_machine){.apply = machine_apply,
	                                  .newview = machine_newview,
	                                  .clear = machine_clear,
	                                  .load = machine_load,
	                                  .loaded = machine_loaded,
	                                  .arg = f};
	assert_int_equal(start(f), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rsm_destroy(f->rsm);
	mem_store_destroy(f->store);
	free(f);
	return 0;
}

static void on_done(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct fixture *f = arg;

	f->done += outcome == RSM_DONE;
	f->unknown += outcome == RSM_UNKNOWN;
	f->last = *result;
}

static int propose(struct fixture *f, enum rsm_type type, const void *payload, size_t len)
{
	const struct rsm_request q = {.type = type,
	                              .payload = payload,
	                              .len = len,
	                              .deadline_ns = 1000000000ull,
	                              .fn = on_done,
	                              .arg = f};

	return rsm_propose(f->rsm, &q);
}

static struct rsm_status status(struct fixture *f)
{
	struct rsm_status s;

	rsm_status(f->rsm, &s);
	return s;
}

static void one_member_is_a_majority_of_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), -ENOTCONN);
	assert_true(status(f).stale);
	ring(f, 4);
	assert_int_equal(status(f).state, RSM_ACTIVE);
	assert_false(status(f).stale);
	assert_int_equal(status(f).epoch, 1);
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), 0);
	assert_int_equal(f->done, 0); /* not before it is durable */
	settle(f);
	assert_int_equal(f->done, 1);
	assert_int_equal(f->last.status, 0);
	assert_int_equal(f->last.index, 2);
	assert_int_equal(f->last.detail, 'a');
}

static void what_was_done_survives_a_crash(void **state)
{
	struct fixture *f = *state;

	ring(f, 4);
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), 0);
	assert_int_equal(propose(f, RSM_COMMAND, "b", 1), 0);
	settle(f);
	assert_int_equal(f->done, 2);

	uint64_t value = f->value;

	rsm_destroy(f->rsm);
	f->rsm = NULL;
	mem_store_crash(f->store, false);
	assert_int_equal(start(f), 0);
	assert_true(status(f).stale);
	ring(f, 8);
	assert_int_equal(status(f).state, RSM_ACTIVE);
	assert_true(f->value == value);
	assert_true(status(f).epoch > 1);
}

static void a_repeated_request_is_applied_once(void **state)
{
	struct fixture *f = *state;
	struct rsm_request q = {.type = RSM_COMMAND,
	                        .payload = "a",
	                        .len = 1,
	                        .seq = 9,
	                        .deadline_ns = 1000000000ull,
	                        .fn = on_done,
	                        .arg = f};

	q.session.b[3] = 1;
	ring(f, 4);
	assert_int_equal(rsm_propose(f->rsm, &q), 0);
	settle(f);

	struct rsm_result first = f->last;

	assert_int_equal(rsm_propose(f->rsm, &q), 0);
	settle(f);
	assert_int_equal(f->applied, 1);
	assert_int_equal(f->done, 2);
	assert_memory_equal(&first, &f->last, sizeof(first));
	q.seq++;
	assert_int_equal(rsm_propose(f->rsm, &q), 0);
	settle(f);
	assert_int_equal(f->applied, 2);
}

static void a_proposal_without_an_answer_is_unknown(void **state)
{
	struct fixture *f = *state;

	ring(f, 4);
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), 0);
	rsm_on_quorum(f->rsm, 4, false); /* what was sent may have been seen by others */
	rsm_on_tick(f->rsm, 999999999ull, 0);
	assert_int_equal(f->unknown, 0);
	rsm_on_tick(f->rsm, 1000000000ull, 0);
	assert_int_equal(f->unknown, 1);
	settle(f);
	assert_int_equal(f->done, 0);
	assert_true(status(f).stale);
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), -ENOTCONN);
	assert_string_equal(status(f).why, "corosync has no quorum");
}

/* Its answer asks again, as callers that retry do. */
static void on_cancelled(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct fixture *f = arg;
	const struct rsm_request q = {.type = RSM_NOP, .fn = on_cancelled, .arg = f};

	assert_int_equal(outcome, RSM_UNKNOWN);
	assert_int_equal(result->status, -ECANCELED);
	assert_true(rsm_propose(f->rsm, &q) < 0);
	f->unknown++;
}

static void who_still_waits_is_answered_when_it_ends(void **state)
{
	struct fixture *f = *state;
	const struct rsm_request q = {.type = RSM_COMMAND,
	                              .payload = "a",
	                              .len = 1,
	                              .deadline_ns = 1000000000ull,
	                              .fn = on_cancelled,
	                              .arg = f};

	ring(f, 4);
	for (uint32_t i = 0; i < RSM_SLOTS; i++) {
		assert_int_equal(rsm_propose(f->rsm, &q), 0);
		f->sent_count = 0;
	}
	rsm_destroy(f->rsm);
	f->rsm = NULL;
	assert_int_equal(f->unknown, RSM_SLOTS);
}

static void proposals_of_a_lost_epoch_are_sent_again(void **state)
{
	struct fixture *f = *state;

	ring(f, 4);
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), 0);
	f->sent_count = 0; /* the ring broke before anybody saw it */
	ring(f, 8);
	assert_int_equal(f->done, 1);
	assert_int_equal(f->applied, 1);
}

static void slots_are_limited(void **state)
{
	struct fixture *f = *state;

	ring(f, 4);
	for (uint32_t i = 0; i < RSM_SLOTS; i++) {
		assert_int_equal(propose(f, RSM_NOP, NULL, 0), 0);
		f->sent_count = 0;
	}
	assert_int_equal(propose(f, RSM_NOP, NULL, 0), -EAGAIN);
	assert_int_equal(propose(f, RSM_NEWVIEW, NULL, 0), -EINVAL);
}

static void configurations_change_by_one_vote(void **state)
{
	struct fixture *f = *state;
	struct view_config config = *rsm_config(f->rsm);
	uint8_t buf[3 * 24];

	ring(f, 4);
	config.count = 3; /* two at once: two majorities could miss each other */
	config.nodes[1] = (struct view_node){.nodeid = 2, .votes = 1};
	config.nodes[2] = (struct view_node){.nodeid = 3, .votes = 1};
	config.nodes[2].uuid.b[1] = 3;
	assert_int_equal(propose(f, RSM_CONFIG, buf, view_config_encode(&config, buf)), 0);
	settle(f);
	assert_int_equal(f->last.status, -EINVAL);
	assert_int_equal(rsm_config(f->rsm)->count, 1);
	config.count = 1;
	config.nodes[0].votes = 2;
	assert_int_equal(propose(f, RSM_CONFIG, buf, view_config_encode(&config, buf)), 0);
	settle(f);
	assert_int_equal(f->last.status, 0);
	assert_int_equal(rsm_config(f->rsm)->nodes[0].votes, 2);
}

static void the_level_rises_one_by_one_if_all_can(void **state)
{
	struct fixture *f = *state;
	le32 level = le32_make(2);

	ring(f, 4);
	assert_int_equal(status(f).level, 1);
	assert_int_equal(propose(f, RSM_LEVEL, &level, sizeof(level)), 0);
	settle(f);
	assert_int_equal(f->last.status, 0);
	assert_int_equal(status(f).level, 2);
	level = le32_make(3); /* nobody knows it */
	assert_int_equal(propose(f, RSM_LEVEL, &level, sizeof(level)), 0);
	settle(f);
	assert_int_equal(f->last.status, -EOPNOTSUPP);
	level = le32_make(1);
	assert_int_equal(propose(f, RSM_LEVEL, &level, sizeof(level)), 0);
	settle(f);
	assert_int_equal(f->last.status, -EINVAL);
	assert_int_equal(status(f).level, 2);
}

static void an_older_program_refuses_a_raised_level(void **state)
{
	struct fixture *f = *state;
	struct errbuf eb = {{0}, {0}};
	le32 level = le32_make(2);

	ring(f, 4);
	assert_int_equal(propose(f, RSM_LEVEL, &level, sizeof(level)), 0);
	settle(f);
	assert_int_equal(status(f).level, 2);
	rsm_on_tick(f->rsm, 2000000000ull, 0); /* the level is in the state on the disk */
	settle(f);
	rsm_destroy(f->rsm);
	f->rsm = NULL;
	assert_int_equal(start_as(f, 1, &eb), -EPROTONOSUPPORT);
	assert_null(f->rsm);
	assert_non_null(strstr(eb.text, "level 2, this program knows 1"));
	assert_non_null(strstr(eb.hint, "update this node"));
	assert_int_equal(start_as(f, 2, NULL), 0);
	assert_int_equal(status(f).level, 2);
}

/* The entry that raises the level is in the log, not yet in the state: nothing after it is
 * applied. */
static void an_older_program_that_missed_the_change_stops(void **state)
{
	struct fixture *f = *state;
	le32 level = le32_make(2);

	ring(f, 4);
	assert_int_equal(propose(f, RSM_LEVEL, &level, sizeof(level)), 0);
	settle(f);
	rsm_destroy(f->rsm);
	f->rsm = NULL;
	mem_store_crash(f->store, false);
	assert_int_equal(start_as(f, 1, NULL), 0);
	assert_int_equal(status(f).level, 1);
	ring(f, 8);
	assert_int_equal(status(f).state, RSM_HALTED);
	assert_non_null(strstr(status(f).why, "update this node"));
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), -EIO);
}

static void a_failed_disk_stops_the_node(void **state)
{
	struct fixture *f = *state;

	ring(f, 4);
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), 0);
	rsm_on_multicast(f->rsm, &(struct view_peer){.nodeid = 1, .pid = 7}, f->sent[0],
	                 f->sent_len[0]);
	rsm_on_synced(f->rsm, mem_store_token(f->store), -EIO);
	assert_int_equal(status(f).state, RSM_HALTED);
	assert_string_equal(status(f).why, "the store failed");
	assert_int_equal(propose(f, RSM_COMMAND, "a", 1), -EIO);
	assert_int_equal(f->done, 0);
}

static void damaged_frames_are_counted_and_dropped(void **state)
{
	struct fixture *f = *state;
	const struct view_peer self = {.nodeid = 1, .pid = 7};

	ring(f, 4);
	rsm_on_multicast(f->rsm, &self, "rubbish", 7);
	rsm_on_unicast(f->rsm, 1, "rubbish", 7);
	assert_int_equal(status(f).bad_frames, 2);
	assert_int_equal(status(f).state, RSM_ACTIVE);
}

static void opening_survives_each_failed_allocation(void **state)
{
	struct fixture *f = *state;
	uint32_t k = 1;

	rsm_destroy(f->rsm);
	f->rsm = NULL;
	for (;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = start(f);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(f->rsm);
	}
	assert_true(k > 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_member_is_a_majority_of_one),
		TEST(what_was_done_survives_a_crash),
		TEST(a_repeated_request_is_applied_once),
		TEST(a_proposal_without_an_answer_is_unknown),
		TEST(who_still_waits_is_answered_when_it_ends),
		TEST(proposals_of_a_lost_epoch_are_sent_again),
		TEST(slots_are_limited),
		TEST(configurations_change_by_one_vote),
		TEST(the_level_rises_one_by_one_if_all_can),
		TEST(an_older_program_refuses_a_raised_level),
		TEST(an_older_program_that_missed_the_change_stops),
		TEST(a_failed_disk_stops_the_node),
		TEST(damaged_frames_are_counted_and_dropped),
		TEST(opening_survives_each_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
