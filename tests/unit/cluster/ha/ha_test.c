/* SPDX-License-Identifier: Apache-2.0 */

/* A cluster of one, VMs on paper only; several nodes: tests/node/ha_service_test.py. */

#include "cluster/ha/ha.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"
#include "cluster/vmops.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

#define TIMEOUT_NS 60000000000ull
#define DEADLINE_NS 60000000000ull

struct fixture {
	struct tree tree;
	char path[96];
	struct loop *loop;
	struct member *member;
	struct ha *ha;
	struct vmops vmops;
	struct vmops_lease lease;
	uint32_t starts;
	uint32_t stops;
	uint32_t kills;
	uint32_t clears;
	uint32_t clear_after; /* that many times something is left */
	uint64_t token;       /* of the last start */
	uint64_t inc;         /* that began last */
	bool unwatched;       /* no proof by its lease */
	uint32_t rounds;
	uint64_t flip; /* renewals that were sent when it was taken back; given again */
	uint64_t flop;
	bool (*until)(struct fixture *f);
	uint64_t deadline_ns;
	struct rsm_result last;
};

static void on_send(void *arg, uint32_t role, uint32_t node)
{
	(void)arg;
	(void)role;
	(void)node;
}

static void on_switched(void *arg, uint32_t role, uint64_t token)
{
	(void)arg;
	(void)role;
	(void)token;
}

static void on_start(void *arg, uint32_t role, uint64_t token, bool incoming)
{
	struct fixture *f = arg;

	assert_false(incoming);

	f->starts++;
	f->token = token;
	ha_vm_event(f->ha, role, AGENT_STARTED);
}

static void on_stop(void *arg, uint32_t role)
{
	struct fixture *f = arg;

	f->stops++;
	ha_vm_event(f->ha, role, AGENT_EXITED);
}

static void on_kill(void *arg, uint32_t role)
{
	struct fixture *f = arg;

	f->kills++;
	ha_vm_event(f->ha, role, AGENT_EXITED);
}

static void on_lease(void *arg, const struct vmops_lease *lease)
{
	((struct fixture *)arg)->lease = *lease;
}

static bool on_clear(void *arg)
{
	struct fixture *f = arg;

	return f->clears++ >= f->clear_after;
}

static void on_began(void *arg, uint64_t inc)
{
	((struct fixture *)arg)->inc = inc;
}

static void on_changed(void *arg)
{
	struct fixture *f = arg;

	if (f->until != NULL && f->until(f)) {
		loop_stop(f->loop);
	}
	assert_true(clock_now_ns() < f->deadline_ns);
}

static void on_member(void *arg)
{
	struct fixture *f = arg;

	if (f->ha != NULL) {
		ha_kick(f->ha);
	}
}

static void run_until(struct fixture *f, bool (*until)(struct fixture *f))
{
	f->until = until;
	f->deadline_ns = clock_now_ns() + DEADLINE_NS;
	loop_run(f->loop);
	f->until = NULL;
}

static int open_ha(struct fixture *f, struct ha_run run, struct errbuf *eb)
{
	struct ha_cfg cfg = {
		.loop = f->loop,
		.member = f->member,
		.vmops = &f->vmops,
		.nodeid = 1,
		.memory_bytes = 8ull << 30,
		.cpus = 4,
		.lease_proof = !f->unwatched,
		.run = run,
		.changed = on_changed,
		.arg = f,
	};

	timing_fast(&cfg.timing);
	return ha_create(&cfg, &f->ha, eb);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct view_config config = {.count = 1, .nodes = {{.nodeid = 1, .votes = 1}}};

	assert_non_null(f);
	tree_init(&f->tree);
	(void)snprintf(f->path, sizeof(f->path), "%s/cluster.db", f->tree.root);
	assert_int_equal(loop_create(&f->loop), 0);

	const struct member_cfg cfg = {.loop = f->loop,
	                               .path = f->path,
	                               .nodeid = 1,
	                               .config = &config,
	                               .changed = on_member,
	                               .arg = f};

	assert_int_equal(member_open(&cfg, &f->member, NULL), 0);
	f->deadline_ns = UINT64_MAX;
	f->vmops = (struct vmops){.start = on_start,
	                          .send = on_send,
	                          .switched = on_switched,
	                          .stop = on_stop,
	                          .kill = on_kill,
	                          .lease = on_lease,
	                          .clear = on_clear,
	                          .began = on_began,
	                          .arg = f};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ha_destroy(f->ha);
	member_close(f->member);
	loop_destroy(f->loop);
	tree_fini(&f->tree);
	free(f);
	return 0;
}

static void on_done(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct fixture *f = arg;

	assert_int_equal(outcome, RSM_DONE);
	f->last = *result;
	loop_stop(f->loop);
}

static void define(struct fixture *f, const char *name)
{
	json_t *doc = json_pack("{s:{s:i,s:i},s:{s:s}}", "definition", "memory_bytes", 64 << 20,
	                        "cpus", 1, "ha", "priority", "high");
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_put(&cmd, DB_VM, name, doc);
	json_decref(doc);
	assert_int_equal(db_cmd_end(&cmd), 0);
	assert_int_equal(member_propose(f->member, &cmd, TIMEOUT_NS, on_done, f), 0);
	db_cmd_fini(&cmd);
	loop_run(f->loop);
	assert_int_equal(f->last.status, 0);
}

static const struct role *web1(const struct fixture *f)
{
	return role_table_role(member_roles(f->member), member_role_find(f->member, "web1"));
}

static bool joined(struct fixture *f)
{
	return f->inc != 0 && f->lease.since_ns != 0;
}

static bool online(struct fixture *f)
{
	return web1(f)->state == ROLE_ONLINE;
}

static bool offline(struct fixture *f)
{
	return web1(f)->state == ROLE_OFFLINE;
}

static bool again(struct fixture *f)
{
	return web1(f)->state == ROLE_ONLINE && f->starts == 2;
}

static void begin(struct fixture *f)
{
	assert_int_equal(open_ha(f, (struct ha_run){0}, NULL), 0);
	run_until(f, joined);
	define(f, "web1");
}

static void a_node_joins_when_nothing_of_it_is_left_and_holds_a_lease(void **state)
{
	struct fixture *f = *state;
	const struct role_node *n;

	f->clear_after = 2;
	assert_int_equal(open_ha(f, (struct ha_run){0}, NULL), 0);
	run_until(f, joined);
	assert_true(f->clears > 2);
	n = role_table_node(member_roles(f->member), 1);
	assert_int_equal(n->state, ROLE_NODE_UP);
	assert_int_equal(n->inc, 1);
	assert_int_equal(f->inc, 1);
	assert_int_equal(n->cpus, 4);
	assert_true(n->lease_proof);
	/* The ladder, from before the renewal was sent. */
	assert_int_equal(f->lease.pause_ns - f->lease.since_ns, 3000000000ull);
	assert_int_equal(f->lease.kill_ns - f->lease.since_ns, 4000000000ull);
	assert_int_equal(f->lease.pet_until_ns - f->lease.since_ns, 3000000000ull);
	assert_true(f->lease.since_ns <= clock_boot_ns());
	assert_true(ha_may_start(f->ha));
}

static void a_vm_is_started_again_until_it_is_wanted_off(void **state)
{
	struct fixture *f = *state;
	uint64_t first;
	char text[300];

	begin(f);
	assert_int_equal(web1(f)->state, ROLE_OFFLINE);
	assert_int_equal(web1(f)->policy.priority, ROLE_PRIORITY_HIGH);
	assert_int_equal(ha_want(f->ha, web1(f)->id, true), 0);
	run_until(f, online);
	assert_int_equal(f->starts, 1);
	assert_int_equal(f->token, web1(f)->token);
	first = f->token;
	ha_explain(f->ha, web1(f)->id, text, sizeof(text));
	assert_non_null(strstr(text, "web1"));
	/* Its worker dies. */
	ha_vm_event(f->ha, web1(f)->id, AGENT_EXITED);
	run_until(f, again);
	assert_true(f->token > first);
	assert_int_equal(ha_want(f->ha, web1(f)->id, false), 0);
	run_until(f, offline);
	assert_int_equal(f->stops, 1);
	assert_int_equal(f->kills, 0);
}

static void a_guest_that_shuts_down_stays_off(void **state)
{
	struct fixture *f = *state;

	begin(f);
	assert_int_equal(ha_want(f->ha, web1(f)->id, true), 0);
	run_until(f, online);
	ha_vm_event(f->ha, web1(f)->id, AGENT_GUEST_OFF);
	run_until(f, offline);
	assert_int_equal(web1(f)->why, ROLE_WHY_GUEST_OFF);
	assert_int_equal(web1(f)->want, ROLE_WANT_OFFLINE);
	assert_int_equal(f->starts, 1);
}

/* The service ends; another one finds the run and the VM. */
static void a_run_goes_on_after_a_restart_of_the_service(void **state)
{
	struct fixture *f = *state;
	struct ha_run run = {0};

	begin(f);
	assert_int_equal(ha_want(f->ha, web1(f)->id, true), 0);
	run_until(f, online);
	run = (struct ha_run){
		.inc = f->inc, .since_ns = f->lease.since_ns, .lease_ns = f->lease.lease_ns};
	ha_destroy(f->ha);
	assert_int_equal(open_ha(f, run, NULL), 0);
	ha_adopt(f->ha, web1(f)->id, f->token);
	assert_true(ha_may_start(f->ha));
	f->lease = (struct vmops_lease){0};
	run_until(f, joined); /* renewed */
	assert_true(f->lease.since_ns > run.since_ns);
	assert_int_equal(web1(f)->state, ROLE_ONLINE);
	assert_int_equal(role_table_node(member_roles(f->member), 1)->inc, 1);
	assert_int_equal(f->starts, 1);
	assert_int_equal(f->kills, 0);
}

static bool back(struct fixture *f)
{
	return role_table_node(member_roles(f->member), 1)->state == ROLE_NODE_UP;
}

/* Declared lost while its service was away: it says itself that it is the same run. */
static void a_lost_node_that_comes_back_with_its_run_is_let_back(void **state)
{
	struct fixture *f = *state;
	const struct role_cmd lost = {.verb = ROLE_CMD_LOST, .at = {.node = 1, .inc = 1}};
	struct ha_run run;

	begin(f);
	run = (struct ha_run){
		.inc = f->inc, .since_ns = f->lease.since_ns, .lease_ns = f->lease.lease_ns};
	ha_destroy(f->ha);
	f->ha = NULL;
	assert_int_equal(member_propose_role(f->member, &lost, TIMEOUT_NS, on_done, f), 0);
	loop_run(f->loop);
	assert_int_equal(f->last.status, 0);
	assert_false(back(f));
	assert_int_equal(open_ha(f, run, NULL), 0);
	run_until(f, back);
	assert_int_equal(f->inc, 1);
	assert_int_equal(role_table_node(member_roles(f->member), 1)->inc, 1);
}

static bool ten_rounds(struct fixture *f)
{
	return ++f->rounds == 10;
}

/* The service is back before its database is: what that says may be old. */
static void nothing_is_done_by_tables_that_may_be_old(void **state)
{
	struct fixture *f = *state;
	const struct member_cfg cfg = {.loop = f->loop,
	                               .path = f->path,
	                               .nodeid = 1,
	                               .group = "ha-test-nobody",
	                               .changed = on_member,
	                               .arg = f};
	struct ha_run run;
	uint32_t id;

	begin(f);
	id = web1(f)->id;
	assert_int_equal(ha_want(f->ha, id, true), 0);
	run_until(f, online);
	define(f, "web2");
	run = (struct ha_run){
		.inc = f->inc, .since_ns = f->lease.since_ns, .lease_ns = f->lease.lease_ns};
	ha_destroy(f->ha);
	f->ha = NULL;
	member_close(f->member);
	assert_int_equal(member_open(&cfg, &f->member, NULL), 0);
	/* Since then it was started anew, and web1 went: the table does not know yet. */
	assert_int_equal(open_ha(f, run, NULL), 0);
	ha_adopt(f->ha, id, f->token + 1);
	assert_false(ha_synced(f->ha));
	run_until(f, ten_rounds);
	assert_int_equal(f->starts, 1);
	assert_int_equal(f->kills, 0);
	assert_false(ha_synced(f->ha));
}

static bool unproven(struct fixture *f)
{
	return !role_table_node(member_roles(f->member), 1)->lease_proof;
}

static bool proven(struct fixture *f)
{
	return !unproven(f);
}

/* The service was started again without the watchdog that the run joined with; then with it. */
static void a_run_that_goes_on_says_what_its_silence_is_worth_now(void **state)
{
	struct fixture *f = *state;
	struct ha_run run;

	begin(f);
	assert_true(proven(f));
	run = (struct ha_run){
		.inc = f->inc, .since_ns = f->lease.since_ns, .lease_ns = f->lease.lease_ns};
	ha_destroy(f->ha);
	f->unwatched = true;
	assert_int_equal(open_ha(f, run, NULL), 0);
	run_until(f, unproven);
	ha_set_lease_proof(f->ha, true);
	run_until(f, proven);
	assert_int_equal(role_table_node(member_roles(f->member), 1)->inc, 1);
}

/* A watchdog that goes, and is back before the log knows that it went. */
static bool flipped(struct fixture *f)
{
	uint64_t sent = ha_agent(f->ha)->node.seq;
	uint64_t known = role_table_node(member_roles(f->member), 1)->renew_seq;

	if (f->flip == 0) {
		ha_set_lease_proof(f->ha, false);
		assert_false(ha_may_start(f->ha)); /* while the others count on it */
		f->flip = sent;
		f->flop = 0;
	} else if (f->flop == 0 && sent > f->flip) {
		if (unproven(f)) { /* it was quick: once more */
			ha_set_lease_proof(f->ha, true);
			f->flip = 0;
		} else if (known < sent) {
			ha_set_lease_proof(f->ha, true);
			f->flop = sent;
		}
	}
	return f->flop != 0 && known > f->flop;
}

static void each_renewal_says_what_silence_is_worth(void **state)
{
	struct fixture *f = *state;

	begin(f);
	assert_true(proven(f));
	run_until(f, flipped);
	assert_true(proven(f)); /* as the renewal said that was sent last */
}

static bool restarted(struct fixture *f)
{
	return f->inc == 2 && web1(f)->state == ROLE_ONLINE;
}

/* What it ran is gone with its page: it says so by joining as the next run. */
static void a_run_that_is_forgotten_ends_with_the_next(void **state)
{
	struct fixture *f = *state;

	begin(f);
	assert_int_equal(ha_want(f->ha, web1(f)->id, true), 0);
	run_until(f, online);
	ha_destroy(f->ha);
	assert_int_equal(open_ha(f, (struct ha_run){0}, NULL), 0);
	run_until(f, restarted);
	assert_int_equal(f->starts, 2);
	assert_int_equal(role_table_node(member_roles(f->member), 1)->inc, 2);
}

/* A run older than the one that the database knows is over, whatever it finds. */
static void an_outdated_run_kills_what_it_has(void **state)
{
	struct fixture *f = *state;

	begin(f);
	ha_destroy(f->ha);
	assert_int_equal(open_ha(f, (struct ha_run){0}, NULL), 0);
	f->inc = 0;
	run_until(f, joined);
	assert_int_equal(f->inc, 2);
	ha_destroy(f->ha);
	f->clears = 0;
	assert_int_equal(open_ha(f,
	                         (struct ha_run){.inc = 1,
	                                         .since_ns = clock_boot_ns(),
	                                         .lease_ns = NS_PER_S},
	                         NULL),
	                 0);
	f->inc = 0;
	run_until(f, joined);
	assert_int_equal(f->inc, 3);
	assert_true(f->clears > 0);
}

static void bad_configurations_are_refused(void **state)
{
	struct fixture *f = *state;
	struct ha_cfg cfg = {.loop = f->loop, .member = f->member, .vmops = &f->vmops};
	struct errbuf eb = {0};

	timing_default(&cfg.timing);
	cfg.nodeid = ROLE_NODES_MAX + 1;
	assert_int_equal(ha_create(&cfg, &f->ha, &eb), -EINVAL);
	assert_null(f->ha);
	cfg.nodeid = 1;
	cfg.timing.lease_ms = 2000;
	assert_int_equal(ha_create(&cfg, &f->ha, &eb), -EINVAL);
	assert_null(f->ha);
	assert_non_null(strstr(eb.text, "timing"));
}

static void making_it_survives_each_failed_allocation(void **state)
{
	struct fixture *f = *state;

	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);

		int err = open_ha(f, (struct ha_run){0}, NULL);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			assert_true(k > 5);
			return;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(f->ha);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_node_joins_when_nothing_of_it_is_left_and_holds_a_lease),
		TEST(a_vm_is_started_again_until_it_is_wanted_off),
		TEST(a_guest_that_shuts_down_stays_off),
		TEST(a_run_goes_on_after_a_restart_of_the_service),
		TEST(a_lost_node_that_comes_back_with_its_run_is_let_back),
		TEST(nothing_is_done_by_tables_that_may_be_old),
		TEST(a_run_that_goes_on_says_what_its_silence_is_worth_now),
		TEST(each_renewal_says_what_silence_is_worth),
		TEST(a_run_that_is_forgotten_ends_with_the_next),
		TEST(an_outdated_run_kills_what_it_has),
		TEST(bad_configurations_are_refused),
		TEST(making_it_survives_each_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
