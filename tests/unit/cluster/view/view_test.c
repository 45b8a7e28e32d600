/* SPDX-License-Identifier: Apache-2.0 */

/* Three view cores on a bus that delivers in order; events of corosync by hand. */

#include "cluster/view/view.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cluster/view/frame.h"
#include "tests/lib/test.h"

#define NODES 3u
#define SKIP_NS 1000u

struct bus;

struct node {
	struct bus *bus;
	uint32_t id;
	struct view view;
	uint64_t promised; /* on its disk */
	struct view_log log;
	uint32_t formed;
	uint32_t lost;
	bool deaf; /* a stopped process */
};

struct msg {
	uint32_t from;
	size_t len;
	uint8_t buf[VIEW_SEND_MAX];
};

struct bus {
	struct node nodes[NODES + 1];
	struct msg msgs[256];
	uint32_t count;
	uint32_t done;
	struct view_config config;
};

static void on_send(void *arg, const void *buf, size_t len)
{
	struct node *n = arg;
	struct msg *m = &n->bus->msgs[n->bus->count++];

	CHECK(n->bus->count < 256 && len <= sizeof(m->buf));
	m->from = n->id;
	m->len = len;
	memcpy(m->buf, buf, len);
}

static bool on_log(void *arg, struct view_log *out)
{
	struct node *n = arg;

	*out = n->log;
	out->promised = n->promised;
	out->config = &n->bus->config;
	return true;
}

static void on_promise(void *arg, uint64_t epoch)
{
	struct node *n = arg;

	n->promised = epoch;
	view_promised(&n->view, epoch);
}

static void on_lost(void *arg)
{
	((struct node *)arg)->lost++;
}

static void on_formed(void *arg, const struct view *view)
{
	(void)view;
	((struct node *)arg)->formed++;
}

static const struct view_ops ops = {
	.send = on_send,
	.log = on_log,
	.promise = on_promise,
	.lost = on_lost,
	.formed = on_formed,
};

static void node_init(struct bus *b, uint32_t id, uint8_t incarnation)
{
	struct node *n = &b->nodes[id];
	struct view_cfg cfg = {
		.nodeid = id, .level_max = 1, .skip_ns = SKIP_NS, .ops = &ops, .arg = n};

	n->bus = b;
	n->id = id;
	cfg.uuid = b->config.nodes[id - 1].uuid;
	cfg.incarnation.b[0] = incarnation;
	view_init(&n->view, &cfg);
}

static int setup(void **state)
{
	struct bus *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->config.count = NODES;
	for (uint32_t i = 1; i <= NODES; i++) {
		b->config.nodes[i - 1] = (struct view_node){.nodeid = i, .votes = 1};
		b->config.nodes[i - 1].uuid.b[0] = (uint8_t)i;
	}
	for (uint32_t i = 1; i <= NODES; i++) {
		node_init(b, i, (uint8_t)(0x40 + i));
	}
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void deliver(struct bus *b, uint32_t first, uint32_t last)
{
	while (b->done < b->count) {
		const struct msg *m = &b->msgs[b->done++];
		const struct view_peer from = {.nodeid = m->from, .pid = 7};
		const uint8_t *body;
		size_t len;
		uint16_t type;

		assert_int_equal(frame_open(m->buf, m->len, &type, &body, &len), 0);
		for (uint32_t i = first; i <= last; i++) {
			if (!b->nodes[i].deaf) {
				assert_int_equal(
					view_on_message(&b->nodes[i].view, &from, type, body, len),
					0);
			}
		}
	}
}

/* corosync on nodes first..last: a ring of them. */
static void ring(struct bus *b, uint32_t first, uint32_t last, uint64_t seq, bool quorate)
{
	struct view_peer peers[NODES];
	uint32_t members[NODES];
	uint32_t count = 0;

	for (uint32_t i = first; i <= last; i++) {
		peers[count] = (struct view_peer){.nodeid = i, .pid = 7};
		members[count++] = i;
	}
	for (uint32_t i = first; i <= last; i++) {
		const struct view_ring id = {.seq = seq, .nodeid = first};

		if (!b->nodes[i].deaf) {
			view_on_group(&b->nodes[i].view, peers, count);
			view_on_ring(&b->nodes[i].view, &id, members, count);
			view_on_quorum(&b->nodes[i].view, seq, quorate);
		}
	}
	b->done = b->count; /* what was sent before the ring was whole is of an older one */
	for (uint32_t i = first; i <= last; i++) {
		if (!b->nodes[i].deaf) {
			view_on_quorum(&b->nodes[i].view, seq, !quorate);
			view_on_quorum(&b->nodes[i].view, seq, quorate);
		}
	}
	deliver(b, first, last);
}

static void three_nodes_agree_on_epoch_and_leader(void **state)
{
	struct bus *b = *state;

	ring(b, 1, 3, 4, true);
	for (uint32_t i = 1; i <= NODES; i++) {
		assert_int_equal(b->nodes[i].view.state, VIEW_PRIMARY);
		assert_int_equal(b->nodes[i].view.epoch, b->nodes[1].view.epoch);
		assert_true(b->nodes[i].promised >= b->nodes[i].view.epoch);
		assert_int_equal(b->nodes[i].view.leader, 1);
		assert_int_equal(b->nodes[i].view.votes, 3);
	}
}

static void each_view_has_a_new_epoch(void **state)
{
	struct bus *b = *state;
	uint64_t before = 0;

	for (uint64_t seq = 4; seq < 20; seq += 4) {
		ring(b, 1, seq % 8 == 0 ? 2 : 3, seq, true);
		assert_int_equal(b->nodes[1].view.state, VIEW_PRIMARY);
		assert_true(b->nodes[1].view.epoch > before);
		before = b->nodes[1].view.epoch;
	}
}

static void the_longest_log_of_the_newest_epoch_is_the_best(void **state)
{
	struct bus *b = *state;

	b->nodes[1].log = (struct view_log){.last_epoch = 2, .last_index = 50, .last_hash = 1};
	b->nodes[2].log = (struct view_log){.last_epoch = 3, .last_index = 20, .last_hash = 2};
	b->nodes[3].log = (struct view_log){.last_epoch = 3, .last_index = 21, .last_hash = 3};
	ring(b, 1, 3, 4, true);
	assert_int_equal(b->nodes[1].view.state, VIEW_PRIMARY);
	assert_int_equal(b->nodes[1].view.leader, 3);
	assert_int_equal(b->nodes[1].view.members[b->nodes[1].view.best].peer.nodeid, 3);
	assert_true(b->nodes[2].view.epoch > 3);
	assert_false(b->nodes[2].view.members[0].in_sync);
}

static void without_quorum_or_a_majority_there_is_no_epoch(void **state)
{
	struct bus *b = *state;

	ring(b, 1, 3, 4, false);
	assert_int_equal(b->nodes[1].view.state, VIEW_MINORITY);
	assert_string_equal(b->nodes[1].view.why, "corosync has no quorum");
	ring(b, 1, 1, 8, true); /* corosync's two_node mode would say so */
	assert_int_equal(b->nodes[1].view.state, VIEW_MINORITY);
	assert_string_equal(b->nodes[1].view.why, "no majority of the configured votes");
	assert_int_equal(b->nodes[1].promised, 0);
}

static void quorum_of_another_ring_does_not_count(void **state)
{
	struct bus *b = *state;
	const struct view_peer peer = {.nodeid = 1, .pid = 7};
	const struct view_ring id = {.seq = 8, .nodeid = 1};
	uint32_t member = 1;

	view_on_quorum(&b->nodes[1].view, 4, true);
	view_on_group(&b->nodes[1].view, &peer, 1);
	view_on_ring(&b->nodes[1].view, &id, &member, 1);
	assert_int_equal(b->nodes[1].view.state, VIEW_JOINING);
	assert_int_equal(b->count, 0);
	view_on_quorum(&b->nodes[1].view, 8, true);
	assert_int_equal(b->nodes[1].view.state, VIEW_HELLO);
	assert_int_equal(b->count, 1);
}

static void a_silent_member_is_skipped_and_comes_back(void **state)
{
	struct bus *b = *state;

	b->nodes[2].deaf = true;
	ring(b, 1, 3, 4, true);
	assert_int_equal(b->nodes[1].view.state, VIEW_HELLO);
	for (uint32_t i = 1; i <= NODES; i += 2) {
		view_on_tick(&b->nodes[i].view, SKIP_NS - 1);
	}
	deliver(b, 1, 3);
	assert_int_equal(b->nodes[1].view.state, VIEW_HELLO);
	view_on_tick(&b->nodes[3].view, SKIP_NS);
	deliver(b, 1, 3);
	assert_int_equal(b->nodes[1].view.state, VIEW_PRIMARY);
	assert_int_equal(b->nodes[3].view.state, VIEW_PRIMARY);
	assert_int_equal(b->nodes[1].view.votes, 2);

	uint64_t epoch = b->nodes[1].view.epoch;

	b->nodes[2].deaf = false; /* it goes on and hears all that waited */
	b->done = 0;
	b->nodes[1].deaf = true;
	b->nodes[3].deaf = true;

	const struct view_peer peers[] = {{1, 7}, {2, 7}, {3, 7}};
	const uint32_t members[] = {1, 2, 3};
	const struct view_ring id = {.seq = 4, .nodeid = 1};
	uint32_t waiting = b->count;

	view_on_group(&b->nodes[2].view, peers, 3);
	view_on_ring(&b->nodes[2].view, &id, members, 3);
	for (; b->done < waiting; b->done++) {
		const struct msg *m = &b->msgs[b->done];
		const struct view_peer from = {.nodeid = m->from, .pid = 7};
		const uint8_t *body;
		size_t len;
		uint16_t type;

		assert_int_equal(frame_open(m->buf, m->len, &type, &body, &len), 0);
		assert_int_equal(view_on_message(&b->nodes[2].view, &from, type, body, len), 0);
	}
	b->nodes[1].deaf = false;
	b->nodes[3].deaf = false;
	view_on_quorum(&b->nodes[2].view, 4, true);
	deliver(b, 1, 3);
	for (uint32_t i = 1; i <= NODES; i++) {
		assert_int_equal(b->nodes[i].view.state, VIEW_PRIMARY);
		assert_int_equal(b->nodes[i].view.votes, 3);
		assert_true(b->nodes[i].view.epoch > epoch);
	}
}

static void two_nodes_with_one_uuid_do_not_vote(void **state)
{
	struct bus *b = *state;

	b->nodes[2].view.cfg.uuid = b->nodes[1].view.cfg.uuid; /* a cloned machine */
	ring(b, 1, 3, 4, true);
	assert_int_equal(b->nodes[3].view.state, VIEW_MINORITY);
	assert_int_equal(b->nodes[3].view.votes, 1);
}

static void a_node_of_another_cluster_does_not_vote(void **state)
{
	struct bus *b = *state;

	b->nodes[3].view.cfg.cluster.b[0] = 1;
	ring(b, 1, 3, 4, true);
	assert_int_equal(b->nodes[1].view.state, VIEW_PRIMARY);
	assert_int_equal(b->nodes[1].view.votes, 2);
	assert_int_equal(b->nodes[3].view.state, VIEW_MINORITY);
}

/* Nodes 1 and 2 with the witness; 3 has no vote. */
static void with_witness(struct bus *b)
{
	b->config.nodes[2] =
		(struct view_node){.nodeid = VIEW_WITNESS_NODEID, .votes = 1, .uuid = {{99}}};
}

static void the_witness_makes_half_a_majority(void **state)
{
	struct bus *b = *state;
	struct view *v = &b->nodes[1].view;

	with_witness(b);
	ring(b, 1, 1, 4, false);
	assert_int_equal(v->state, VIEW_MINORITY);
	assert_true(v->half);
	assert_false(v->witness);
	view_on_grant(v, view_key(v), false);
	deliver(b, 1, 1);
	assert_int_equal(v->state, VIEW_MINORITY); /* corosync does not count it yet */
	assert_true(v->witness);
	assert_string_equal(v->why, "corosync has no quorum");
	view_on_quorum(v, 4, true);
	deliver(b, 1, 1);
	assert_int_equal(v->state, VIEW_PRIMARY);
	assert_true(view_strict(v));
	assert_int_equal(v->votes, 2);
	assert_int_equal(v->votes_total, 3);
	/* Another ring: it is to be asked for again. */
	ring(b, 1, 1, 8, true);
	assert_int_equal(v->state, VIEW_MINORITY);
	assert_false(v->witness);
	/* Both nodes: it is not needed. */
	ring(b, 1, 2, 12, true);
	assert_int_equal(v->state, VIEW_PRIMARY);
	assert_false(view_strict(v));
	assert_int_equal(v->votes, 2);
}

static void a_grant_for_another_group_does_not_count(void **state)
{
	struct bus *b = *state;
	struct view *v = &b->nodes[1].view;
	uint64_t key;

	with_witness(b);
	ring(b, 1, 1, 4, true);
	key = view_key(v);
	ring(b, 1, 1, 8, true);
	assert_true(view_key(v) != key);
	view_on_grant(v, key, false);
	deliver(b, 1, 1);
	assert_int_equal(v->state, VIEW_MINORITY);
	assert_false(v->witness);
	/* Without a witness in the configuration no grant counts. */
	b->config.nodes[2].nodeid = 3;
	view_on_grant(v, view_key(v), false);
	deliver(b, 1, 1);
	assert_int_equal(v->state, VIEW_MINORITY);
	assert_false(v->witness);
	assert_false(v->half);
}

static void one_members_grant_is_enough_for_all(void **state)
{
	struct bus *b = *state;

	b->config.nodes[3] =
		(struct view_node){.nodeid = VIEW_WITNESS_NODEID, .votes = 1, .uuid = {{99}}};
	b->config.nodes[4] = (struct view_node){.nodeid = 9, .votes = 1, .uuid = {{9}}};
	b->config.count = 5; /* 1, 2, 3, 9 and the witness */
	ring(b, 2, 3, 4, true);
	assert_int_equal(b->nodes[2].view.state, VIEW_MINORITY);
	view_on_grant(&b->nodes[2].view, view_key(&b->nodes[2].view), false);
	deliver(b, 2, 3);
	for (uint32_t i = 2; i <= 3; i++) {
		assert_int_equal(b->nodes[i].view.state, VIEW_PRIMARY);
		assert_true(view_strict(&b->nodes[i].view));
	}
}

static void by_force_the_epoch_is_far_ahead(void **state)
{
	struct bus *b = *state;
	struct view *v = &b->nodes[1].view;
	uint64_t before;

	ring(b, 1, 3, 4, true);
	before = v->epoch;
	ring(b, 1, 1, 8, true);
	assert_int_equal(v->state, VIEW_MINORITY);
	view_on_grant(v, view_key(v), true);
	deliver(b, 1, 1);
	assert_int_equal(v->state, VIEW_PRIMARY);
	assert_true(view_strict(v));
	assert_true(v->forced);
	assert_int_equal(v->epoch, before + VIEW_FORCED_STEP);
	/* What follows is usual again, and stays ahead. */
	ring(b, 1, 2, 12, true);
	assert_int_equal(v->state, VIEW_PRIMARY);
	assert_false(view_strict(v));
	assert_true(b->nodes[2].view.epoch > VIEW_FORCED_STEP);
}

static void a_member_that_died_is_told(void **state)
{
	struct bus *b = *state;

	ring(b, 1, 3, 4, true);

	uint32_t formed = b->nodes[1].formed;

	view_on_down(&b->nodes[1].view);
	assert_int_equal(b->nodes[1].view.state, VIEW_DOWN);
	assert_true(b->nodes[1].lost > 0);
	assert_int_equal(b->nodes[1].formed, formed);
	for (int s = VIEW_DOWN; s <= VIEW_MINORITY; s++) {
		assert_true(strlen(view_state_name((enum view_state)s)) > 1);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(three_nodes_agree_on_epoch_and_leader),
		TEST(each_view_has_a_new_epoch),
		TEST(the_longest_log_of_the_newest_epoch_is_the_best),
		TEST(without_quorum_or_a_majority_there_is_no_epoch),
		TEST(quorum_of_another_ring_does_not_count),
		TEST(a_silent_member_is_skipped_and_comes_back),
		TEST(two_nodes_with_one_uuid_do_not_vote),
		TEST(a_node_of_another_cluster_does_not_vote),
		TEST(the_witness_makes_half_a_majority),
		TEST(a_grant_for_another_group_does_not_count),
		TEST(one_members_grant_is_enough_for_all),
		TEST(by_force_the_epoch_is_far_ahead),
		TEST(a_member_that_died_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
