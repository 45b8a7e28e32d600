/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CLUSTER_PLACE_PLACE_TEST_H
#define TESTS_UNIT_CLUSTER_PLACE_PLACE_TEST_H

/* place_test - three nodes of 8 GiB, and VMs as a test wants them. */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/place/place.h"
#include "tests/lib/test.h"

#define GIB (1ull << 30)
#define VMS 40u

static struct place_node nodes[3];
static struct place_vm vms[VMS];
static struct place_choice out[VMS];
static struct place_summary sum;
static struct place_in in;
static void *work;

static inline int setup(void **state)
{
	(void)state;
	memset(vms, 0, sizeof(vms));
	for (uint32_t i = 0; i < 3; i++) {
		nodes[i] = (struct place_node){.id = i + 1,
		                               .cpus = 8,
		                               .cpu_level = 3,
		                               .memory_bytes = 8 * GIB,
		                               .paths = 0x3};
	}
	for (uint32_t i = 0; i < VMS; i++) {
		static char names[VMS][8];

		names[i][0] = 'v';
		names[i][1] = (char)('0' + (i + 1) / 10);
		names[i][2] = (char)('0' + (i + 1) % 10);
		vms[i].id = i + 1;
		vms[i].name = names[i];
		vms[i].wanted = true;
		vms[i].live = true;
		role_policy_default(&vms[i].policy);
		vms[i].policy.memory_bytes = GIB;
		vms[i].policy.volumes = 0x1;
	}
	in = (struct place_in){.nodes = nodes,
	                       .node_count = 3,
	                       .vms = vms,
	                       .vm_count = 1,
	                       .starts_per_node = 2,
	                       .moves_per_node = 2};
	work = malloc(place_work_bytes(VMS));
	assert_non_null(work);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	free(work);
	return 0;
}

static inline uint32_t run(void)
{
	place_run(&in, work, out, &sum);
	return out[0].node;
}

static inline void explains(uint32_t index, const char *text)
{
	char line[400];

	place_explain(&in, out, index, line, sizeof(line));
	assert_string_equal(line, text);
}

#endif
