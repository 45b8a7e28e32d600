/* SPDX-License-Identifier: Apache-2.0 */

/* place_bench - plans for 64 nodes and 8,000 VMs, with groups, preferences and dependencies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "cluster/place/place_json.h"
#include "tests/bench/bench.h"

#define NODES 64u
#define VMS 8000u
#define ROUNDS 20u

static struct place_node nodes[NODES];
static struct place_vm vms[VMS];
static struct place_choice out[VMS];
static const struct place_in in = {.nodes = nodes,
                                   .node_count = NODES,
                                   .vms = vms,
                                   .vm_count = VMS,
                                   .starts_per_node = 2,
                                   .moves_per_node = 2};

static void make(uint64_t *seed)
{
	for (uint32_t i = 0; i < NODES; i++) {
		nodes[i] = (struct place_node){
			.id = i + 1, .cpus = 64, .memory_bytes = 1ull << 40, .paths = UINT64_MAX};
	}
	for (uint32_t i = 0; i < VMS; i++) {
		struct role_policy *p = &vms[i].policy;

		vms[i] = (struct place_vm){.id = i + 1, .name = "vm", .live = i % 50 != 0};
		role_policy_default(p);
		p->memory_bytes = (1 + bench_random(seed) % 8) << 30;
		p->cpus = 1 + (uint32_t)(bench_random(seed) % 8);
		p->priority = (enum role_priority)(1 + bench_random(seed) % 3);
		p->volumes = 1ull << (bench_random(seed) % 64);
		p->groups[0] = i % 4 == 0 ? 1 + (uint32_t)(bench_random(seed) % 500) : 0;
		p->preferred[0] = i % 3 == 0 ? 1 + (uint32_t)(bench_random(seed) % NODES) : 0;
		p->after[0] = i % 10 == 0 && i > 0 ? i : 0;
	}
}

static double ms(uint64_t begin_ns, uint32_t rounds)
{
	return (double)(clock_now_ns() - begin_ns) / 1e6 / rounds;
}

int main(void)
{
	void *work = malloc(place_work_bytes(VMS));
	struct place_summary sum;
	uint64_t seed = 1;

	CHECK(work != NULL);
	make(&seed);
	for (uint32_t i = 0; i < VMS; i++) {
		vms[i].wanted = true;
	}
	uint64_t begin = clock_now_ns();

	for (uint32_t r = 0; r < ROUNDS; r++) {
		place_run(&in, work, out, &sum);
	}
	bench_figure("place.run.8000", ms(begin, ROUNDS), "ms");
	CHECK(sum.placed == VMS);
	for (uint32_t i = 0; i < VMS; i++) {
		vms[i].node = out[i].node;
	}
	begin = clock_now_ns();
	for (uint32_t r = 0; r < ROUNDS; r++) {
		place_failover(&in, role_bit(1 + r), work, out, &sum);
	}
	bench_figure("place.failover.one_node", ms(begin, ROUNDS), "ms");
	bench_figure("place.failover.vms", sum.placed, "VMs");
	begin = clock_now_ns();
	for (uint32_t r = 0; r < ROUNDS; r++) {
		place_failover(&in, 0xffffffffull, work, out, &sum);
	}
	bench_figure("place.failover.half_the_nodes", ms(begin, ROUNDS), "ms");
	bench_figure("place.failover.vms", sum.placed, "VMs");
	begin = clock_now_ns();
	for (uint32_t r = 0; r < ROUNDS; r++) {
		place_drain(&in, 1 + r, work, out, &sum);
	}
	bench_figure("place.drain", ms(begin, ROUNDS), "ms");
	json_t *json;
	struct place_saved *saved;

	begin = clock_now_ns();
	CHECK(place_save(&in, &json) == 0);
	char *text = json_text(json, 0);

	CHECK(text != NULL);
	bench_figure("place.save", ms(begin, 1), "ms");
	bench_figure("place.saved_size", (double)strlen(text) / 1e6, "MB");
	begin = clock_now_ns();
	CHECK(place_load(json, &saved, NULL) == 0);
	bench_figure("place.load", ms(begin, 1), "ms");
	place_saved_free(saved);
	json_decref(json);
	free(text);
	free(work);
	return 0;
}
