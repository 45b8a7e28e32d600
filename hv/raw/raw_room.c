/* SPDX-License-Identifier: Apache-2.0 */

/*
 * raw_room - requests that found the storage full, and wait until it has room again.
 *
 * All but one of them lie still: the trial, which is tried again with each look. When it has ended,
 * well or otherwise, all are started anew, and find out themselves.
 *
 * How long requests are under way is counted by two ages: an age lasts until nothing of the former
 * one is left. So what is of the former age was begun before raw_room.turned_ns.
 */
#include <errno.h>

#include "base/check.h"
#include "hv/raw/raw_direct.h"
#include "hv/raw/raw_int.h"

bool raw_room_want(struct raw *raw, struct raw_req *r, int32_t res)
{
	struct raw_room *room = &raw->room;

	if (!room->patient || (res != -ENOSPC && res != -EDQUOT)) {
		return false;
	}
	/* The kernel has told it once and forgotten what it could not write. */
	if (r->req->op == BLK_FLUSH && !raw->limits.direct) {
		return false;
	}
	room->begun[r->age]--;
	if (room->trial == r) {
		room->trial = NULL;
		list_add_head(&room->waiting, &r->link);
	} else {
		list_add_tail(&room->waiting, &r->link);
	}
	return true;
}

void raw_room_end(struct raw *raw, const struct raw_req *r)
{
	struct raw_room *room = &raw->room;
	struct list all;

	if (room->trial != r) {
		return;
	}
	room->trial = NULL;
	list_init(&all);
	list_splice_tail(&all, &room->waiting);
	for (struct list *link = list_pop(&all); link != NULL; link = list_pop(&all)) {
		raw_again(raw, list_entry(link, struct raw_req, link));
	}
}

static void raw_room_give_up(struct raw *raw)
{
	for (struct list *link = list_pop(&raw->room.waiting); link != NULL;
	     link = list_pop(&raw->room.waiting)) {
		struct raw_req *r = list_entry(link, struct raw_req, link);

		if (raw->direct != NULL) {
			raw_direct_leave(raw, r);
		}
		/* Takes over what @link lies in. */
		blk_complete_later(&raw->blk, r->req, -ENOSPC);
	}
}

void raw_patience(struct blk *blk, bool on)
{
	struct raw *raw = container_of(blk, struct raw, blk);

	raw_check(blk);
	raw->room.patient = on;
	if (!on) {
		raw_room_give_up(raw);
	}
}

/* Is something of the former age left? */
static bool raw_is_silent(struct raw_room *room, uint64_t now_ns, uint64_t silent_ns)
{
	uint8_t former = room->age == 0;

	if (room->begun[former] == 0) {
		room->age = former;
		room->turned_ns = now_ns;
	}
	return room->begun[room->age == 0] != 0 && now_ns - room->turned_ns >= silent_ns;
}

enum raw_trouble raw_look(struct blk *blk, uint64_t now_ns, uint64_t silent_ns, uint64_t limit_ns)
{
	struct raw *raw = container_of(blk, struct raw, blk);
	struct raw_room *room = &raw->room;
	bool silent;

	raw_check(blk);
	silent = raw_is_silent(room, now_ns, silent_ns);
	if (list_empty(&room->waiting) && room->trial == NULL) {
		room->since_ns = 0;
		return silent ? RAW_NO_ANSWER : RAW_WELL;
	}
	if (room->since_ns == 0) {
		room->since_ns = now_ns;
	}
	if (now_ns - room->since_ns >= limit_ns) {
		raw_room_give_up(raw);
	} else if (room->trial == NULL) {
		room->trial = list_entry(list_pop(&room->waiting), struct raw_req, link);
		raw_again(raw, room->trial);
	}
	return RAW_NO_ROOM;
}
