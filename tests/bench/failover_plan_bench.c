/* SPDX-License-Identifier: Apache-2.0 */

/* failover_plan_bench - the whole decision for 64 nodes and 8,000 VMs on the tables as the database
 * has them: what-if of a death and of a drain, a real failover, the rate at which commands are
 * applied, and the memory of the tables. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "cluster/lead/whatif.h"
#include "cluster/role/role_table.h"
#include "cluster/timing/timing.h"
#include "tests/bench/bench.h"

#define NODES 64u
#define VMS 8000u
#define EPOCH 1u
#define AIM_MS 100.0 /* of a plan */

static struct role_table *table;
static uint64_t applied;

static void apply(struct role_cmd cmd)
{
	cmd.epoch = EPOCH;
	cmd.now_ms = 1000;
	CHECK(role_table_apply(table, &cmd) == 0);
	applied++;
}

static void fill(uint64_t *seed)
{
	for (uint32_t id = 1; id <= NODES; id++) {
		apply((struct role_cmd){.verb = ROLE_CMD_JOIN,
		                        .at = {id, 1},
		                        .arg = {1ull << 40, 64, 0, ROLE_NODE_LEASE_PROOF}});
	}
	for (uint32_t id = 1; id <= VMS; id++) {
		struct role_policy p;
		char name[24];

		role_policy_default(&p);
		p.memory_bytes = (1 + bench_random(seed) % 8) << 30;
		p.cpus = 1 + (uint32_t)(bench_random(seed) % 8);
		p.priority = (enum role_priority)(1 + bench_random(seed) % 3);
		p.groups[0] = id % 4 == 0 ? 1 + (uint32_t)(bench_random(seed) % 500) : 0;
		p.preferred[0] = id % 3 == 0 ? 1 + (uint32_t)(bench_random(seed) % NODES) : 0;
		(void)snprintf(name, sizeof(name), "vm%u", id);
		CHECK(role_table_add(table, id, name, &p, 0, NULL) == 0);
	}
}

/* Every VM started: three commands each. */
static void start_all(void)
{
	uint64_t begin_ns = clock_now_ns();
	uint64_t before = applied;

	for (uint32_t id = 1; id <= VMS; id++) {
		const struct role_at at = {.node = 1 + id % NODES, .inc = 1};

		apply((struct role_cmd){
			.verb = ROLE_CMD_WANT, .role = id, .arg = {ROLE_WANT_ONLINE}});
		apply((struct role_cmd){.verb = ROLE_CMD_START, .role = id, .token = 1, .at = at});
		apply((struct role_cmd){
			.verb = ROLE_CMD_STARTED, .role = id, .token = 1, .at = at});
	}
	(void)bench_rate("failover_plan.apply", (double)(applied - before), begin_ns, "commands/s");
}

static double what_if(struct lead *l, const struct lead_view *view, const char *name,
                      struct whatif_ask ask)
{
	uint64_t begin_ns = clock_now_ns();
	uint32_t counts[WHATIF_FATE_COUNT] = {0};
	struct whatif w;

	ask.majority = true;
	whatif_run(l, view, &ask, 1000, &w);
	for (uint32_t v = 0; v < w.in.vm_count; v++) {
		struct whatif_vm vm;

		whatif_vm(&w, view, &ask, v, &vm);
		counts[vm.fate]++;
	}
	double took_ms = (double)(clock_now_ns() - begin_ns) / 1e6;

	bench_figure(name, took_ms, "ms");
	bench_figure("failover_plan.vms", counts[WHATIF_STARTS] + counts[WHATIF_MOVES], "VMs");
	CHECK(counts[WHATIF_NOWHERE] + counts[WHATIF_BLOCKED] == 0);
	return took_ms;
}

/* Node 1 is proven stopped: until the leader has proposed the first starts. */
static double failover(struct lead *l, struct lead_view *view)
{
	struct lead_out *out = malloc(sizeof(*out));

	CHECK(out != NULL);
	view->members &= ~1ull;
	apply((struct role_cmd){.verb = ROLE_CMD_LOST, .at = {1, 1}});
	apply((struct role_cmd){.verb = ROLE_CMD_FENCING, .at = {1, 1}});

	uint64_t begin_ns = clock_now_ns();

	apply((struct role_cmd){.verb = ROLE_CMD_FENCED, .at = {1, 1}, .arg = {ROLE_PROOF_POWER}});
	lead_step(l, view, 1000000000, 1000, out);
	double took_ms = (double)(clock_now_ns() - begin_ns) / 1e6;

	bench_figure("failover_plan.proof_to_starts", took_ms, "ms");
	CHECK(out->cmd_count > 0 && out->cmds[0].verb == ROLE_CMD_START);
	free(out);
	return took_ms;
}

int main(void)
{
	struct timing_cfg cfg;
	struct timing timing;
	struct lead_view view = {.starts_per_node = 2, .moves_per_node = 2};
	struct lead *l;
	uint64_t seed = 1;
	size_t before = mallinfo2().uordblks;
	double worst = 0;

	timing_default(&cfg);
	CHECK(timing_init(&cfg, &timing, NULL) == 0);
	CHECK(role_table_create(&table) == 0 && role_table_view(table, EPOCH) == 0);
	fill(&seed);
	bench_figure("failover_plan.tables", (double)(mallinfo2().uordblks - before) / 1e6, "MB");
	start_all();
	CHECK(lead_create(VMS, &l) == 0);
	view.table = table;
	view.timing = &timing;
	for (uint32_t id = 1; id <= NODES; id++) {
		view.members |= role_bit(id);
		view.run[id - 1] = 1;
	}
	const double took[] = {
		what_if(l, &view, "failover_plan.one_node", (struct whatif_ask){.dead = 1}),
		what_if(l, &view, "failover_plan.a_quarter_of_the_nodes",
	                (struct whatif_ask){.dead = 0xffff}),
		what_if(l, &view, "failover_plan.drain", (struct whatif_ask){.drain = 2}),
		failover(l, &view),
	};

	for (size_t i = 0; i < sizeof(took) / sizeof(took[0]); i++) {
		worst = took[i] > worst ? took[i] : worst;
	}
	bench_figure("failover_plan.worst", worst, "ms");
	bench_figure("failover_plan.aim", AIM_MS, "ms");
	lead_destroy(l);
	role_table_destroy(table);
	return 0;
}
