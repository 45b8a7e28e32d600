/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VIEW_FLAP_H
#define CLUSTER_VIEW_FLAP_H

/*
 * flap - is it this node that keeps the others from forming a ring? A pure core.
 *
 * Where two nodes hear a third but not each other, corosync cannot have all of them in one ring. It
 * forms one without one of them; that one hears the third, asks to be let in, and breaks the ring
 * each time, every 1.2 tokens: nobody can commit anything. Who is left out sees it as a ring of the
 * same few members again and again, without a majority. After FLAP_RINGS of them within
 * FLAP_WINDOW_NS it leaves for a while, each time for twice as long. It loses nothing: it had no
 * majority. A clean cut shows one such ring, nodes that start show growing ones.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cluster/view/view.h"

#define FLAP_RINGS 3u
#define FLAP_WINDOW_NS 20000000000ull
#define FLAP_LEAVE_NS 30000000000ull /* the first time; */
#define FLAP_TIMES_MAX 6u            /* doubled so often at most: half an hour */
#define FLAP_CALM_NS 600000000000ull /* with a majority for so long: the first time again */

/* Zeros: nothing was seen. Value type; only the functions below change it. */
struct flap {
	uint64_t seq; /* of the ring that was seen last */
	uint32_t members[VIEW_NODES_MAX];
	uint32_t count;
	uint32_t rings;    /* in a row with these members */
	uint64_t first_ns; /* the first of them */
	uint32_t times;    /* that we left */
	uint64_t calm_ns;  /* with a majority since; 0 = not */
};

/*
 * flap_look() - the view as it is now; often, the same ring counts once. @config: who has votes.
 * Returns 0 stay; else for how long to leave [ns].
 */
uint64_t flap_look(struct flap *f, const struct view *view, const struct view_config *config,
                   uint64_t now_ns);

#endif
