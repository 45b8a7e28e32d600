/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view/flap.h"

#include <string.h>

static bool same_members(const struct flap *f, const struct view *view)
{
	return f->count == view->ring_count &&
	       memcmp(f->members, view->ring_members, f->count * sizeof(f->members[0])) == 0;
}

/* By the list, not by corosync's word, which may not have come before the ring breaks. */
static bool is_minority(const struct view *view, const struct view_config *config)
{
	uint32_t votes = 0;

	for (uint32_t i = 0; i < config->count; i++) {
		for (uint32_t k = 0; k < view->ring_count; k++) {
			votes += config->nodes[i].nodeid == view->ring_members[k]
			                 ? config->nodes[i].votes
			                 : 0;
		}
	}
	return votes * 2 < view_config_total(config);
}

static uint64_t leave(struct flap *f)
{
	uint64_t ns = FLAP_LEAVE_NS << f->times;

	f->rings = 0;
	f->count = 0;
	f->times += f->times < FLAP_TIMES_MAX;
	return ns;
}

uint64_t flap_look(struct flap *f, const struct view *view, const struct view_config *config,
                   uint64_t now_ns)
{
	if (view->state == VIEW_PRIMARY) {
		f->rings = 0;
		f->calm_ns = f->calm_ns == 0 ? now_ns : f->calm_ns;
		if (now_ns - f->calm_ns >= FLAP_CALM_NS) {
			f->times = 0;
		}
		return 0;
	}
	f->calm_ns = 0;
	if (view->state == VIEW_DOWN || view->ring.seq == f->seq || !is_minority(view, config)) {
		return 0;
	}
	f->seq = view->ring.seq;
	if (f->rings == 0 || !same_members(f, view) || now_ns - f->first_ns > FLAP_WINDOW_NS) {
		memcpy(f->members, view->ring_members,
		       view->ring_count * sizeof(view->ring_members[0]));
		f->count = view->ring_count;
		f->first_ns = now_ns;
		f->rings = 0;
	}
	return ++f->rings >= FLAP_RINGS ? leave(f) : 0;
}
