/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/place/place.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/place/place_int.h"

size_t place_work_bytes(uint32_t vm_count)
{
	size_t groups = (size_t)vm_count * ROLE_GROUPS_MAX * sizeof(struct place_group);

	size_t waves = (size_t)ROLE_NODES_MAX * PLACE_WAVES_MAX * sizeof(uint16_t);

	return vm_count * (sizeof(struct place_key) + sizeof(uint32_t)) + groups + waves +
	       sizeof(struct place_key); /* never 0 */
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct place_group *)a)->id;
	uint32_t y = ((const struct place_group *)b)->id;

	return (x > y) - (x < y);
}

static int by_rank(const void *a, const void *b)
{
	const struct place_key *x = a;
	const struct place_key *y = b;

	if (x->priority != y->priority) {
		return x->priority > y->priority ? -1 : 1;
	}
	if (x->memory_bytes != y->memory_bytes) {
		return x->memory_bytes > y->memory_bytes ? -1 : 1;
	}
	return (x->index > y->index) - (x->index < y->index);
}

uint32_t place_find(const struct place_in *in, uint32_t id)
{
	uint32_t low = 0;
	uint32_t high = in->vm_count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (in->vms[mid].id < id) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low < in->vm_count && in->vms[low].id == id ? low : UINT32_MAX;
}

uint32_t place_slot(const struct place_in *in, uint32_t id)
{
	for (uint32_t n = 0; n < in->node_count; n++) {
		if (in->nodes[n].id == id) {
			return n;
		}
	}
	return UINT32_MAX;
}

static struct place_group *group(const struct place_state *st, uint32_t id)
{
	struct place_group key = {.id = id};

	return id == 0 || st->group_count == 0
	               ? NULL
	               : bsearch(&key, st->groups, st->group_count, sizeof(key), by_id);
}

static void collect_groups(struct place_state *st)
{
	uint32_t count = 0;
	uint32_t kept = 0;

	for (uint32_t v = 0; v < st->in->vm_count; v++) {
		for (uint32_t g = 0; g < ROLE_GROUPS_MAX; g++) {
			uint32_t id = st->in->vms[v].policy.groups[g];

			if (id != 0) {
				st->groups[count++] = (struct place_group){.id = id};
			}
		}
	}
	if (count > 0) {
		qsort(st->groups, count, sizeof(*st->groups), by_id);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (kept == 0 || st->groups[kept - 1].id != st->groups[i].id) {
			st->groups[kept++] = st->groups[i];
		}
	}
	st->group_count = kept;
}

static void settle(struct place_state *st, const struct place_vm *vm, uint32_t slot)
{
	st->used_bytes[slot] += vm->policy.memory_bytes;
	st->vcpus[slot] += vm->policy.cpus;
	for (uint32_t g = 0; g < ROLE_GROUPS_MAX; g++) {
		struct place_group *group_of = group(st, vm->policy.groups[g]);

		if (group_of != NULL) {
			group_of->nodes |= role_bit(st->in->nodes[slot].id);
		}
	}
}

void place_undo(struct place_state *st, uint32_t index, uint32_t node)
{
	const struct place_vm *vm = &st->in->vms[index];
	uint32_t slot = place_slot(st->in, node);

	if (slot != UINT32_MAX) {
		st->used_bytes[slot] -= vm->policy.memory_bytes;
		st->vcpus[slot] -= vm->policy.cpus;
	}
}

void place_begin(struct place_state *st, const struct place_in *in, uint64_t gone, void *work)
{
	memset(st, 0, sizeof(*st));
	st->in = in;
	st->gone = gone;
	st->keys = work;
	st->groups = (struct place_group *)(void *)(st->keys + in->vm_count);
	st->taken = (uint16_t *)(void *)(st->groups + (size_t)in->vm_count * ROLE_GROUPS_MAX);
	memset(st->taken, 0, (size_t)ROLE_NODES_MAX * PLACE_WAVES_MAX * sizeof(uint16_t));
	st->order = (uint32_t *)(void *)(st->taken + (size_t)ROLE_NODES_MAX * PLACE_WAVES_MAX);
	collect_groups(st);
	for (uint32_t v = 0; v < in->vm_count; v++) {
		uint32_t slot = place_slot(in, in->vms[v].node);

		if (slot != UINT32_MAX && (gone & role_bit(in->vms[v].node)) == 0) {
			settle(st, &in->vms[v], slot);
		}
	}
}

void place_sort(struct place_state *st, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct place_vm *vm = &st->in->vms[st->order[i]];

		st->keys[i] = (struct place_key){.memory_bytes = vm->policy.memory_bytes,
		                                 .priority = (uint32_t)vm->policy.priority,
		                                 .index = st->order[i]};
	}
	if (count > 0) {
		qsort(st->keys, count, sizeof(*st->keys), by_rank);
	}
	for (uint32_t i = 0; i < count; i++) {
		st->order[i] = st->keys[i].index;
	}
}

/* Set of nodes where a VM of one of its groups is. */
static uint64_t neighbours(const struct place_state *st, const struct place_vm *vm)
{
	uint64_t nodes = 0;

	for (uint32_t g = 0; g < ROLE_GROUPS_MAX; g++) {
		const struct place_group *group_of = group(st, vm->policy.groups[g]);

		nodes |= group_of != NULL ? group_of->nodes : 0;
	}
	return nodes;
}

static enum place_out refused(const struct place_state *st, const struct place_vm *vm,
                              uint64_t apart, uint32_t slot)
{
	const struct place_in *in = st->in;
	const struct place_node *n = &in->nodes[slot];
	uint64_t bit = role_bit(n->id);

	if (n->state == PLACE_NODE_DOWN || (st->gone & bit) != 0) {
		return PLACE_OUT_DOWN;
	}
	if (n->state == PLACE_NODE_DRAIN || (st->empty & bit) != 0) {
		return PLACE_OUT_DRAIN;
	}
	if (n->state == PLACE_NODE_QUARANTINE) {
		return PLACE_OUT_QUARANTINE;
	}
	if (vm->policy.possible != 0 && (vm->policy.possible & bit) == 0) {
		return PLACE_OUT_POSSIBLE;
	}
	if (in->paths_hard && (vm->policy.volumes & ~n->paths) != 0) {
		return PLACE_OUT_PATH;
	}
	if ((vm->tried & bit) != 0) {
		return PLACE_OUT_TRIED;
	}
	if (vm->cpu_level > n->cpu_level) {
		return PLACE_OUT_CPU_LEVEL;
	}
	if (vm->policy.cpus > n->cpus) {
		return PLACE_OUT_CPUS;
	}
	uint64_t taken = st->used_bytes[slot] + in->reserve_bytes;

	if (taken > n->memory_bytes || n->memory_bytes - taken < vm->policy.memory_bytes) {
		return PLACE_OUT_MEMORY;
	}
	return in->apart_hard && (apart & bit) != 0 ? PLACE_OUT_APART : PLACE_OUT_NONE;
}

/* How good a node is, as numbers of which the first that differs decides; larger is better. */
struct score {
	uint32_t part[6];
};

static uint32_t preferred_rank(const struct place_vm *vm, uint32_t node)
{
	for (uint32_t i = 0; i < ROLE_PREFERRED_MAX && vm->policy.preferred[i] != 0; i++) {
		if (vm->policy.preferred[i] == node) {
			return ROLE_PREFERRED_MAX - i;
		}
	}
	return 0;
}

static struct score judge(const struct place_state *st, const struct place_vm *vm, uint64_t apart,
                          uint32_t slot)
{
	const struct place_node *n = &st->in->nodes[slot];
	uint64_t left = n->memory_bytes - st->used_bytes[slot] - vm->policy.memory_bytes;
	uint64_t load = (st->vcpus[slot] + vm->policy.cpus) * 1000ull / (n->cpus + 1ull);

	return (struct score){{
		(vm->policy.volumes & ~n->paths) == 0,
		vm->in_place == n->id,
		preferred_rank(vm, n->id),
		(apart & role_bit(n->id)) == 0,
		(uint32_t)(left / (n->memory_bytes / 1000 + 1)),
		UINT32_MAX - (uint32_t)(load < UINT32_MAX ? load : UINT32_MAX),
	}};
}

static bool better(const struct score *a, const struct score *b)
{
	for (uint32_t i = 0; i < ARRAY_LEN(a->part); i++) {
		if (a->part[i] != b->part[i]) {
			return a->part[i] > b->part[i];
		}
	}
	return false; /* the lower id was seen first */
}

void place_one(struct place_state *st, uint32_t index, struct place_choice *c)
{
	const struct place_vm *vm = &st->in->vms[index];
	uint64_t apart = neighbours(st, vm);
	uint32_t chosen = UINT32_MAX;
	struct score best = {{0}};

	memset(c, 0, sizeof(*c));
	for (uint32_t slot = 0; slot < st->in->node_count; slot++) {
		enum place_out out = refused(st, vm, apart, slot);

		if (out != PLACE_OUT_NONE) {
			c->out[out] |= role_bit(st->in->nodes[slot].id);
			continue;
		}
		struct score score = judge(st, vm, apart, slot);

		if (chosen == UINT32_MAX || better(&score, &best)) {
			chosen = slot;
			best = score;
		}
	}
	if (chosen == UINT32_MAX) {
		c->how = PLACE_BLOCKED;
		return;
	}
	c->node = st->in->nodes[chosen].id;
	c->how = PLACE_START;
	c->direct = best.part[0] != 0;
	c->preferred = best.part[2] != 0;
	c->together = best.part[3] == 0;
	c->free_permille = (uint16_t)best.part[4];
	settle(st, vm, chosen);
}

void place_run(const struct place_in *in, void *work, struct place_choice *out,
               struct place_summary *sum)
{
	struct place_state st;
	uint32_t count = 0;

	place_begin(&st, in, 0, work);
	*sum = (struct place_summary){0};
	for (uint32_t v = 0; v < in->vm_count; v++) {
		out[v] = (struct place_choice){.node = in->vms[v].node, .how = PLACE_STAY};
		if (in->vms[v].wanted && in->vms[v].node == 0) {
			st.order[count++] = v;
		}
	}
	place_sort(&st, count);
	for (uint32_t i = 0; i < count; i++) {
		place_one(&st, st.order[i], &out[st.order[i]]);
		if (out[st.order[i]].node != 0) {
			sum->placed++;
		} else {
			sum->nowhere++;
		}
	}
}

const char *place_out_name(enum place_out out)
{
	static const char *const names[PLACE_OUT_COUNT] = {
		"",
		"down",
		"maintenance",
		"quarantine",
		"not a possible owner",
		"tried",
		"processor model",
		"processors",
		"memory",
		"kept apart",
	};

	return (uint32_t)out < PLACE_OUT_COUNT ? names[out] : "?";
}
