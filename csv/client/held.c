/* SPDX-License-Identifier: Apache-2.0 */

/*
 * held - handles, leases and locks of this run. What is claimed again from a new coordinator is
 * what is certainly ours: not what was asked for and may have been granted (that is asked again),
 * nor what we began to give up (that is given up again), and of a lock whose conversion is under
 * way only what it has before and after it.
 */
#include <errno.h>
#include <string.h>

#include "csv/client/client_int.h"

enum { PHASE_HANDLES, PHASE_LOCKS, PHASE_LEASES, PHASE_OVER };

static struct client_handle *handle_of(const struct csv_client *c, uint64_t number)
{
	for (uint32_t i = 0; i < c->cfg.handles_max; i++) {
		struct client_handle *h = &c->handles[i];

		if (h->held.state != HELD_FREE && h->held.number == number) {
			return h;
		}
	}
	return NULL;
}

static struct client_lease *lease_of(const struct csv_client *c, uint64_t number)
{
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		struct client_lease *l = &c->leases[i];

		if (l->held.state != HELD_FREE && l->held.number == number) {
			return l;
		}
	}
	return NULL;
}

static struct client_lock *lock_of(const struct csv_client *c, uint64_t number)
{
	for (uint32_t i = 0; i < c->cfg.locks_max; i++) {
		struct client_lock *l = &c->locks[i];

		if (l->held.state != HELD_FREE && l->held.number == number) {
			return l;
		}
	}
	return NULL;
}

static struct held *held_of(const struct csv_client *c, enum csv_msg_what what, uint64_t number)
{
	struct client_handle *h;
	struct client_lease *l;
	struct client_lock *k;

	switch (what) {
	case CSV_MSG_A_HANDLE:
		h = handle_of(c, number);
		return h != NULL ? &h->held : NULL;
	case CSV_MSG_A_LEASE:
		l = lease_of(c, number);
		return l != NULL ? &l->held : NULL;
	case CSV_MSG_A_LOCK:
		k = lock_of(c, number);
		return k != NULL ? &k->held : NULL;
	}
	return NULL;
}

static bool can_end(const struct held *h)
{
	return h != NULL && (h->state == HELD_OURS || h->state == HELD_LOST);
}

static void lose(struct held *h)
{
	if (h->state == HELD_OURS) {
		h->state = HELD_LOST;
		h->say_lost = true;
	}
}

/* Leases go where their handle goes. */
static void lease_states(struct csv_client *c, uint64_t handle, enum held_state to)
{
	c->events = c->events || to == HELD_LOST;
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		struct client_lease *l = &c->leases[i];

		if (l->held.state == HELD_FREE || l->handle != handle) {
			continue;
		}
		if (to == HELD_LOST) {
			lose(&l->held);
		} else {
			l->held.state = to;
			c->leases_count -= to == HELD_FREE;
		}
	}
}

static int add_handle(struct csv_client *c, const struct csv_msg_open *m)
{
	for (uint32_t i = 0; i < c->cfg.handles_max; i++) {
		struct client_handle *h = &c->handles[i];

		if (h->held.state == HELD_FREE) {
			*h = (struct client_handle){
				.held = {.state = HELD_ASKED, .number = m->handle},
				.ino = m->ino,
				.generation = m->generation,
				.share = m->share,
			};
			c->handles_count++;
			return 0;
		}
	}
	return -EMFILE;
}

static int add_lease(struct csv_client *c, const struct csv_msg_layout *m)
{
	const struct client_handle *h = handle_of(c, m->handle);

	if (h == NULL || h->held.state != HELD_OURS) {
		return -EBADF;
	}
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		struct client_lease *l = &c->leases[i];

		if (l->held.state == HELD_FREE) {
			memset(l, 0, sizeof(*l));
			l->held = (struct held){.state = HELD_ASKED, .number = m->number};
			l->from_bytes = m->from_bytes;
			l->to_bytes = m->to_bytes;
			l->handle = m->handle;
			l->write = (m->flags & CSV_MSG_WRITE) != 0;
			c->leases_count++;
			return 0;
		}
	}
	return -EMFILE;
}

static int add_lock(struct csv_client *c, const struct csv_msg_lock *m)
{
	for (uint32_t i = 0; i < c->cfg.locks_max; i++) {
		struct client_lock *l = &c->locks[i];

		if (l->held.state == HELD_FREE) {
			*l = (struct client_lock){
				.held = {.state = HELD_ASKED, .number = m->number},
				.lock = *m,
			};
			c->locks_count++;
			return 0;
		}
	}
	return -EMFILE;
}

/* What a lock is while it is converted: what both modes allow. */
static uint32_t both(enum csv_lock_class class, uint32_t a, uint32_t b)
{
	if (class == CSV_LOCK_SHARES) {
		return CSV_LOCK_SHARE_MODE(a & b & CSV_LOCK_ALL, (a | b) >> 4 & CSV_LOCK_ALL);
	}
	for (uint32_t m = CSV_LOCK_EX; m > CSV_LOCK_NL; m--) {
		bool fits = true;

		for (uint32_t o = CSV_LOCK_NL; o <= CSV_LOCK_EX; o++) {
			fits = fits && (csv_lock_compatible(class, m, o) ||
			                (!csv_lock_compatible(class, a, o) &&
			                 !csv_lock_compatible(class, b, o)));
		}
		if (fits) {
			return m;
		}
	}
	return CSV_LOCK_NL;
}

static int begin_convert(struct csv_client *c, const struct csv_msg_lock *m)
{
	struct client_lock *l = lock_of(c, m->number);

	if (l == NULL || l->held.state != HELD_OURS) {
		return -EBADF;
	}
	if (l->lock.class != m->class ||
	    m->mode > (m->class == CSV_LOCK_MODES ? CSV_LOCK_EX : 0x77)) {
		return -EINVAL;
	}
	l->lock.mode = both(m->class, l->lock.mode, m->mode);
	return 0;
}

/* A request comes in: what will it make, or end? */
int held_prepare(struct csv_client *c, const struct csv_msg *msg)
{
	struct held *h;

	switch ((uint32_t)msg->type) {
	case CSV_MSG_OPEN:
		return add_handle(c, &msg->open);
	case CSV_MSG_LAYOUT:
		return add_lease(c, &msg->layout);
	case CSV_MSG_LOCK:
		return (msg->lock.flags & CSV_MSG_CONVERT) != 0 ? begin_convert(c, &msg->lock)
		                                                : add_lock(c, &msg->lock);
	case CSV_MSG_CLOSE:
		h = held_of(c, CSV_MSG_A_HANDLE, msg->number);
		if (!can_end(h)) {
			return -EBADF;
		}
		lease_states(c, msg->number, HELD_ENDING);
		break;
	case CSV_MSG_RETURN:
		h = held_of(c, CSV_MSG_A_LEASE, msg->number);
		break;
	case CSV_MSG_UNLOCK:
		h = held_of(c, CSV_MSG_A_LOCK, msg->number);
		break;
	default:
		return 0;
	}
	if (!can_end(h)) {
		return -EBADF;
	}
	h->state = HELD_ENDING;
	return 0;
}

static void free_handle(struct csv_client *c, uint64_t number)
{
	struct client_handle *h = handle_of(c, number);

	if (h != NULL) {
		lease_states(c, number, HELD_FREE);
		h->held.state = HELD_FREE;
		c->handles_count--;
	}
}

static void free_lease(struct csv_client *c, uint64_t number)
{
	struct client_lease *l = lease_of(c, number);

	if (l != NULL) {
		l->held.state = HELD_FREE;
		c->leases_count--;
	}
}

static void free_lock(struct csv_client *c, uint64_t number)
{
	struct client_lock *l = lock_of(c, number);

	if (l != NULL) {
		l->held.state = HELD_FREE;
		c->locks_count--;
	}
}

static void got_lease(struct csv_client *c, struct client_lease *l, const struct csv_msg *reply)
{
	l->lease = reply->reply.lease;
	l->lease.expires_ns = c->until_ns;
}

static void got_lock(struct client_lock *l, const struct csv_msg_lock *m)
{
	l->held.state = l->held.state == HELD_ASKED ? HELD_OURS : l->held.state;
	l->held.noticed = false;
	l->lock.mode = m->mode;
}

/* What @msg gave up is gone. */
static void ended(struct csv_client *c, const struct csv_msg *msg)
{
	if (msg->type == CSV_MSG_CLOSE) {
		free_handle(c, msg->number);
	} else if (msg->type == CSV_MSG_RETURN) {
		free_lease(c, msg->number);
	} else if (msg->type == CSV_MSG_UNLOCK) {
		free_lock(c, msg->number);
	}
}

/* @msg was done. */
void held_answered(struct csv_client *c, const struct csv_msg *msg, const struct csv_msg *reply)
{
	struct client_handle *h;
	struct client_lease *l;
	struct client_lock *k;

	switch ((uint32_t)msg->type) {
	case CSV_MSG_OPEN:
		h = handle_of(c, msg->open.handle);
		if (h != NULL && h->held.state == HELD_ASKED) {
			h->held.state = HELD_OURS;
			h->held.claimed = true;
			c->events = true;
		}
		break;
	case CSV_MSG_LAYOUT:
		l = lease_of(c, msg->layout.number);
		if (l != NULL && l->held.state == HELD_ASKED) {
			l->held.state = HELD_OURS;
			l->held.claimed = true;
			c->events = true;
			got_lease(c, l, reply);
		}
		break;
	case CSV_MSG_LOCK:
		k = lock_of(c, msg->lock.number);
		if (k != NULL) {
			k->held.claimed = true;
			c->events = true;
			got_lock(k, &msg->lock);
		}
		break;
	default:
		ended(c, msg);
		break;
	}
}

/* @msg was refused. */
void held_failed(struct csv_client *c, const struct csv_msg *msg)
{
	const struct client_lock *k;

	switch ((uint32_t)msg->type) {
	case CSV_MSG_OPEN:
		free_handle(c, msg->open.handle);
		break;
	case CSV_MSG_LAYOUT:
		free_lease(c, msg->layout.number);
		break;
	case CSV_MSG_LOCK:
		k = lock_of(c, msg->lock.number);
		if (k != NULL && k->held.state == HELD_ASKED) {
			free_lock(c, msg->lock.number);
		}
		break;
	default:
		ended(c, msg); /* what cannot be given up is not there */
		break;
	}
}

void held_event(struct csv_client *c, const struct csv_msg *msg)
{
	struct held *h = held_of(c, msg->event.what, msg->event.number);

	/* It is on its way back already, or the notice is faster than the lease itself. */
	if (h == NULL || (h->state != HELD_OURS && h->state != HELD_ASKED)) {
		return;
	}
	c->events = true;
	h->mode = msg->event.mode;
	h->noticed = true;
	if (msg->type == CSV_MSG_REVOKE) {
		h->say_revoked = true;
	} else {
		h->say_notice = true;
	}
}

void held_lose_all(struct csv_client *c)
{
	c->events = true;
	for (uint32_t i = 0; i < c->cfg.handles_max; i++) {
		lose(&c->handles[i].held);
	}
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		lose(&c->leases[i].held);
	}
	for (uint32_t i = 0; i < c->cfg.locks_max; i++) {
		lose(&c->locks[i].held);
	}
}

static void unclaim(struct held *h, bool same_term)
{
	h->claimed = h->claimed && same_term;
	h->reclaim = 0;
}

/* In the same term only the claims without an answer are repeated: the others may have been
 * converted since. */
void held_reclaim_start(struct csv_client *c, bool same_term)
{
	c->phase = PHASE_HANDLES;
	c->claims = 0;
	for (uint32_t i = 0; i < c->cfg.handles_max; i++) {
		unclaim(&c->handles[i].held, same_term);
	}
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		unclaim(&c->leases[i].held, same_term);
	}
	for (uint32_t i = 0; i < c->cfg.locks_max; i++) {
		unclaim(&c->locks[i].held, same_term);
	}
}

static bool to_claim(struct csv_client *c, struct held *h)
{
	if (h->state != HELD_OURS || h->claimed || h->reclaim != 0) {
		return false;
	}
	c->claiming = h;
	return true;
}

static bool claim_handle(struct csv_client *c, struct csv_msg *out)
{
	for (uint32_t i = 0; i < c->cfg.handles_max; i++) {
		const struct client_handle *h = &c->handles[i];

		if (to_claim(c, &c->handles[i].held)) {
			*out = (struct csv_msg){
				.type = CSV_MSG_OPEN,
				.open = {h->ino, h->generation, h->held.number, h->share,
			                 CSV_MSG_RECLAIM},
			};
			return true;
		}
	}
	return false;
}

static bool claim_lock(struct csv_client *c, struct csv_msg *out)
{
	for (uint32_t i = 0; i < c->cfg.locks_max; i++) {
		struct client_lock *l = &c->locks[i];

		if (to_claim(c, &l->held)) {
			if (l->claim_term != c->term) {
				l->claim_term = c->term;
				l->claim_mode = l->lock.mode;
			}
			*out = (struct csv_msg){.type = CSV_MSG_LOCK, .lock = l->lock};
			out->lock.mode = l->claim_mode;
			out->lock.flags = CSV_MSG_RECLAIM;
			return true;
		}
	}
	return false;
}

static bool claim_lease(struct csv_client *c, struct csv_msg *out)
{
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		const struct client_lease *l = &c->leases[i];

		if (to_claim(c, &c->leases[i].held)) {
			*out = (struct csv_msg){
				.type = CSV_MSG_LAYOUT,
				.layout = {l->handle, l->held.number, l->from_bytes, l->to_bytes, 0,
			                   CSV_MSG_RECLAIM | (l->write ? CSV_MSG_WRITE : 0)},
			};
			return true;
		}
	}
	return false;
}

/* Leases come when all handles are there: they belong to them. */
bool held_reclaim_next(struct csv_client *c, struct csv_msg *out)
{
	while (c->phase != PHASE_OVER) {
		if (c->phase == PHASE_HANDLES ? claim_handle(c, out)
		    : c->phase == PHASE_LOCKS ? claim_lock(c, out)
		                              : claim_lease(c, out)) {
			return true;
		}
		if (c->claims != 0) {
			return false;
		}
		c->phase++;
	}
	return false;
}

void held_reclaim_sent(struct csv_client *c, uint64_t request)
{
	c->claiming->reclaim = request;
	c->claims++;
}

bool held_reclaim_over(struct csv_client *c)
{
	return c->phase == PHASE_OVER;
}

static bool claimed(struct csv_client *c, struct held *h, const struct csv_msg *reply)
{
	if (h->state == HELD_FREE || h->reclaim != reply->request) {
		return false;
	}
	h->reclaim = 0;
	c->claims--;
	c->events = true;
	if (reply->status == 0) {
		h->claimed = true;
		h->noticed = false;
	} else if (reply->status != -EAGAIN) {
		lose(h);
	}
	return true;
}

/* Is this the reply to a claim? */
bool held_reclaimed(struct csv_client *c, const struct csv_msg *reply)
{
	for (uint32_t i = 0; i < c->cfg.handles_max; i++) {
		struct held *h = &c->handles[i].held;

		if (claimed(c, h, reply)) {
			if (h->state == HELD_LOST) {
				lease_states(c, h->number, HELD_LOST);
			}
			return true;
		}
	}
	for (uint32_t i = 0; i < c->cfg.locks_max; i++) {
		if (claimed(c, &c->locks[i].held, reply)) {
			return true;
		}
	}
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		struct client_lease *l = &c->leases[i];

		if (claimed(c, &l->held, reply)) {
			if (l->held.claimed) {
				got_lease(c, l, reply);
			}
			return true;
		}
	}
	return false;
}

const struct csv_layout_lease *csv_client_lease(const struct csv_client *c, uint64_t number)
{
	const struct client_lease *l = lease_of(c, number);

	if (c->state == CSV_CLIENT_DEAD || l == NULL || l->held.state != HELD_OURS ||
	    l->held.noticed) {
		return NULL;
	}
	return &l->lease;
}

void csv_client_set_until(struct csv_client *c, uint64_t until_ns)
{
	c->until_ns = until_ns;
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		c->leases[i].lease.expires_ns = until_ns;
	}
}

static bool event_of(struct held *h, enum csv_msg_what what, struct csv_client_event *out)
{
	if ((h->state != HELD_OURS && h->state != HELD_LOST) ||
	    (!h->say_lost && !h->say_revoked && !h->say_notice)) {
		return false;
	}
	*out = (struct csv_client_event){
		.type = h->say_lost      ? CSV_CLIENT_LOST
	                : h->say_revoked ? CSV_CLIENT_REVOKED
	                                 : CSV_CLIENT_NOTICE,
		.what = what,
		.number = h->number,
		.mode = h->mode,
	};
	h->say_notice = false;
	h->say_revoked = false;
	h->say_lost = false;
	return true;
}

static bool next_event(struct csv_client *c, struct csv_client_event *out)
{
	for (uint32_t i = 0; i < c->cfg.handles_max; i++) {
		if (event_of(&c->handles[i].held, CSV_MSG_A_HANDLE, out)) {
			return true;
		}
	}
	for (uint32_t i = 0; i < c->cfg.leases_max; i++) {
		if (event_of(&c->leases[i].held, CSV_MSG_A_LEASE, out)) {
			return true;
		}
	}
	for (uint32_t i = 0; i < c->cfg.locks_max; i++) {
		if (event_of(&c->locks[i].held, CSV_MSG_A_LOCK, out)) {
			return true;
		}
	}
	return false;
}

bool csv_client_next_event(struct csv_client *c, struct csv_client_event *out)
{
	c->events = c->events && next_event(c, out);
	return c->events;
}
