/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_PLACE_PLACE_INT_H
#define CLUSTER_PLACE_PLACE_INT_H

/* place_int - between the files of this folder. */

#include "cluster/place/place.h"

#define PLACE_WAVES_MAX 1024u /* two VMs at a time on one node: more than any has */

/* What place_sort() compares by; qsort() takes no argument, so the keys carry all. */
struct place_key {
	uint64_t memory_bytes;
	uint32_t priority;
	uint32_t index;
};

struct place_group {
	uint32_t id;
	uint64_t nodes; /* set: where a VM of the group is */
};

/* The cluster as it fills up. Indices, not ids. */
struct place_state {
	const struct place_in *in;
	uint64_t gone;  /* set of nodes that count as down */
	uint64_t empty; /* set of nodes that count as in maintenance */
	uint64_t used_bytes[ROLE_NODES_MAX];
	uint32_t vcpus[ROLE_NODES_MAX];
	uint32_t per_node;          /* plans: so many go to a node in a wave */
	struct place_key *keys;     /* borrowed from the working memory, as the rest */
	uint16_t *taken;            /* borrowed: [node][wave - 1], how many go there in it */
	struct place_group *groups; /* borrowed from the working memory; by id */
	uint32_t group_count;
	uint32_t *order; /* borrowed: indices of VMs, as they are placed */
};

/* place_begin() - the state before: all VMs where they are, except on nodes that are gone. */
void place_begin(struct place_state *st, const struct place_in *in, uint64_t gone, void *work);

/* place_sort() - st->order := the @count VMs in it by priority, then size, then id. */
void place_sort(struct place_state *st, uint32_t count);

/* place_one() - choose a node for VM @index and count it there; @c->node = 0 if none takes it. */
void place_one(struct place_state *st, uint32_t index, struct place_choice *c);

/* place_undo() - VM @index does not go to @node after all. (Its group still counts as there.) */
void place_undo(struct place_state *st, uint32_t index, uint32_t node);

/* place_find() - index of the VM with @id; UINT32_MAX = none. */
uint32_t place_find(const struct place_in *in, uint32_t id);

/* place_slot() - index of the node with @id; UINT32_MAX = none. */
uint32_t place_slot(const struct place_in *in, uint32_t id);

#endif
