/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/place/place_int.h"

#define CHAIN_MAX 16u /* length of a chain of policy.after that is followed */

static uint32_t at_least_one(uint32_t value)
{
	return value > 0 ? value : 1;
}

/* The earliest wave from @from in which @slot has room; what is beyond the last shares it. */
static uint32_t free_wave(struct place_state *st, uint32_t slot, uint32_t from)
{
	uint16_t *taken = &st->taken[(size_t)slot * PLACE_WAVES_MAX];
	uint32_t wave = from;

	while (wave < PLACE_WAVES_MAX && taken[wave - 1] >= st->per_node) {
		wave++;
	}
	return wave;
}

static void take_wave(struct place_state *st, uint32_t slot, uint32_t wave)
{
	st->taken[(size_t)slot * PLACE_WAVES_MAX + wave - 1]++;
}

/* VM @id, if it starts in this plan; UINT32_MAX = not. */
static uint32_t starting(const struct place_in *in, const struct place_choice *out, uint32_t id)
{
	uint32_t index = id != 0 ? place_find(in, id) : UINT32_MAX;

	return index != UINT32_MAX && out[index].how == PLACE_START ? index : UINT32_MAX;
}

/* One of those that VM @index waits for which has no wave yet and is not on the way here. */
static uint32_t open_need(const struct place_in *in, const struct place_choice *out, uint32_t index,
                          const uint32_t *way, uint32_t depth)
{
	for (uint32_t i = 0; i < ROLE_AFTER_MAX; i++) {
		uint32_t need = starting(in, out, in->vms[index].policy.after[i]);
		bool open = need != UINT32_MAX && out[need].wave == 0;

		for (uint32_t d = 0; open && d < depth; d++) {
			open = way[d] != need; /* a circle: it starts nevertheless */
		}
		if (open) {
			return need;
		}
	}
	return UINT32_MAX;
}

static uint32_t number_one(struct place_state *st, uint32_t index, struct place_choice *out)
{
	const struct place_in *in = st->in;
	struct place_choice *c = &out[index];
	uint32_t slot = place_slot(in, c->node);
	uint32_t from = 1;

	for (uint32_t i = 0; i < ROLE_AFTER_MAX; i++) {
		uint32_t id = in->vms[index].policy.after[i];
		uint32_t need = starting(in, out, id);

		if (need != UINT32_MAX && out[need].wave >= from &&
		    out[need].wave < PLACE_WAVES_MAX) {
			from = out[need].wave + 1;
			c->waits_for = id;
		}
	}
	c->wave = free_wave(st, slot, from);
	take_wave(st, slot, c->wave);
	return c->wave;
}

/*
 * Waves of starts: on each node starts_per_node at a time, in the order of st->order, but those
 * that a VM waits for go before it and so share its importance.
 */
static uint32_t number_starts(struct place_state *st, uint32_t count, struct place_choice *out)
{
	uint32_t waves = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t way[CHAIN_MAX] = {st->order[i]};
		uint32_t depth = out[way[0]].how == PLACE_START && out[way[0]].wave == 0;

		while (depth > 0) {
			uint32_t need = open_need(st->in, out, way[depth - 1], way, depth);

			if (need != UINT32_MAX && depth < CHAIN_MAX) {
				way[depth++] = need;
				continue;
			}
			uint32_t wave = number_one(st, way[--depth], out);

			waves = wave > waves ? wave : waves;
		}
	}
	return waves;
}

void place_failover(const struct place_in *in, uint64_t dead, void *work, struct place_choice *out,
                    struct place_summary *sum)
{
	struct place_state st;
	uint32_t count = 0;

	place_begin(&st, in, dead, work);
	st.per_node = at_least_one(in->starts_per_node);
	*sum = (struct place_summary){0};
	for (uint32_t v = 0; v < in->vm_count; v++) {
		const struct place_vm *vm = &in->vms[v];

		out[v] = (struct place_choice){.node = vm->node, .how = PLACE_STAY};
		if (vm->node == 0 || (dead & role_bit(vm->node)) == 0) {
			continue;
		}
		out[v].node = 0;
		if (vm->policy.priority != ROLE_PRIORITY_NONE) {
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
	sum->waves = number_starts(&st, count, out);
}

/* How a VM leaves, given that @c->node takes it (0: none does). */
static void choose_way(const struct place_vm *vm, struct place_choice *c)
{
	if (vm->live && c->node != 0) {
		c->how = PLACE_LIVE;
		return;
	}
	switch (vm->policy.fallback) {
	case ROLE_FALLBACK_QUICK:
		c->how = c->node != 0 ? PLACE_QUICK : PLACE_BLOCKED;
		return;
	case ROLE_FALLBACK_SHUTDOWN:
		c->how = PLACE_SHUTDOWN; /* without a node it stays off until there is one */
		return;
	case ROLE_FALLBACK_LEAVE:
	case ROLE_FALLBACK_COUNT:
		break;
	}
	c->how = PLACE_BLOCKED;
}

void place_drain(const struct place_in *in, uint32_t node, void *work, struct place_choice *out,
                 struct place_summary *sum)
{
	uint32_t from = place_slot(in, node);
	struct place_state st;
	uint32_t count = 0;

	place_begin(&st, in, 0, work);
	st.per_node = at_least_one(in->moves_per_node);
	st.empty = role_bit(node);
	*sum = (struct place_summary){0};
	for (uint32_t v = 0; v < in->vm_count; v++) {
		out[v] = (struct place_choice){.node = in->vms[v].node, .how = PLACE_STAY};
		if (from != UINT32_MAX && in->vms[v].node == node) {
			st.order[count++] = v;
		}
	}
	place_sort(&st, count);
	for (uint32_t i = 0; i < count; i++) {
		struct place_choice *c = &out[st.order[i]];

		place_one(&st, st.order[i], c);
		choose_way(&in->vms[st.order[i]], c);
		if (c->how == PLACE_BLOCKED) {
			sum->nowhere++;
			place_undo(&st, st.order[i], c->node);
			c->node = 0;
			continue;
		}
		sum->placed++;
		c->wave = 1;
		while (c->wave < PLACE_WAVES_MAX &&
		       (free_wave(&st, from, c->wave) != c->wave ||
		        (c->node != 0 &&
		         free_wave(&st, place_slot(in, c->node), c->wave) != c->wave))) {
			c->wave++;
		}
		take_wave(&st, from, c->wave);
		if (c->node != 0) {
			take_wave(&st, place_slot(in, c->node), c->wave);
		}
		sum->waves = c->wave > sum->waves ? c->wave : sum->waves;
	}
}
