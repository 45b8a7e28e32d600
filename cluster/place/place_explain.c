/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fmt.h"
#include "base/text.h"
#include "cluster/place/place_int.h"

static void add_nodes(struct text *text, uint64_t set)
{
	bool first = true;

	for (uint32_t id = 1; id <= ROLE_NODES_MAX; id++) {
		if ((set & role_bit(id)) != 0) {
			text_add(text, "%sn%u", first ? "" : ",", id);
			first = false;
		}
	}
}

static const char *how_name(const struct place_choice *c)
{
	switch (c->how) {
	case PLACE_STAY:
		return "stays";
	case PLACE_START:
		return "starts";
	case PLACE_LIVE:
		return "moves live";
	case PLACE_QUICK:
		return "moves quickly (save, move, restore)";
	case PLACE_SHUTDOWN:
		return "is shut down and started";
	case PLACE_BLOCKED:
		break;
	}
	return "cannot go anywhere";
}

static void add_refusals(struct text *text, const struct place_choice *c)
{
	for (uint32_t out = 1; out < PLACE_OUT_COUNT; out++) {
		if (c->out[out] != 0) {
			text_add(text, "; not ");
			add_nodes(text, c->out[out]);
			text_add(text, ": %s", place_out_name((enum place_out)out));
		}
	}
}

static const char *vm_name(const struct place_in *in, uint32_t id)
{
	uint32_t index = place_find(in, id);

	return index != UINT32_MAX ? in->vms[index].name : "?";
}

void place_explain(const struct place_in *in, const struct place_choice *out, uint32_t index,
                   char *buf, size_t size)
{
	const struct place_choice *c = &out[index];
	const struct place_vm *vm = &in->vms[index];
	char bytes[FMT_MAX];
	struct text text;

	text_init(&text, buf, size);
	text_add(&text, "%s: ", vm->name);
	if (c->how == PLACE_STAY) {
		if (c->node != 0) {
			text_add(&text, "stays on n%u", c->node);
		} else {
			text_add(&text, "stays off%s",
			         vm->policy.priority == ROLE_PRIORITY_NONE ? " (priority none)"
			                                                   : "");
		}
		return;
	}
	if (c->how == PLACE_BLOCKED && !vm->live && vm->policy.fallback == ROLE_FALLBACK_LEAVE &&
	    vm->node != 0) {
		text_add(&text,
		         "stays: it cannot be moved live, and its policy allows nothing else");
		return;
	}
	text_add(&text, "%s", how_name(c));
	if (c->node != 0) {
		text_add(&text, " on n%u: %s, %s%s%u%% of memory free afterwards", c->node,
		         c->direct ? "direct path" : "through another node",
		         c->preferred ? "preferred owner, " : "",
		         c->together ? "next to one of its group, " : "",
		         (uint32_t)c->free_permille / 10);
	} else {
		text_add(&text, ", needs %s and %u processors",
		         fmt_size(vm->policy.memory_bytes, bytes), vm->policy.cpus);
	}
	if (!vm->live && vm->node != 0 && c->how != PLACE_START) {
		text_add(&text, "; it cannot be moved live");
	}
	if (c->wave > 1) {
		text_add(&text, "; in wave %u", c->wave);
	}
	if (c->waits_for != 0) {
		text_add(&text, "; after %s", vm_name(in, c->waits_for));
	}
	add_refusals(&text, c);
}
