/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/fault.h"
#include "csv/coord/coord_int.h"
#include "csv/coord/csv_coord.h"

bool coord_same(const struct csv_lock_owner *a, const struct csv_lock_owner *b)
{
	return a->node == b->node && a->incarnation == b->incarnation;
}

static int check_cfg(const struct csv_coord_cfg *cfg, struct errbuf *eb)
{
	if (cfg->node >= CSV_MSG_NODES || cfg->term == 0) {
		return errbuf_set(eb, -EINVAL, "csv: node %u or term out of range", cfg->node);
	}
	if (cfg->holders_count > CSV_COORD_HOLDERS_MAX) {
		return errbuf_set(eb, -EINVAL, "csv: %u runs may hold something: at most %u",
		                  cfg->holders_count, CSV_COORD_HOLDERS_MAX);
	}
	for (uint32_t i = 0; i < cfg->holders_count; i++) {
		if (cfg->holders[i].node >= CSV_MSG_NODES) {
			return errbuf_set(eb, -EINVAL, "csv: node %u out of range",
			                  cfg->holders[i].node);
		}
	}
	return 0;
}

static bool gone(const struct csv_members *m, const struct csv_lock_owner *owner)
{
	return owner->incarnation <= m->fenced[owner->node];
}

static int allocate(struct csv_coord *c, const struct csv_coord_cfg *cfg, struct errbuf *eb)
{
	const struct csv_meta_cfg meta = {
		.super = cfg->super,
		.term = cfg->term,
		.quiet = cfg->quiet,
		.cache_blocks = cfg->cache_blocks,
		.open_max = c->handles_max,
	};
	const uint32_t locks_max = cfg->locks_max != 0 ? cfg->locks_max : 65536;
	const struct csv_lock_cfg lock = {
		.locks_max = locks_max,
		.per_client_max = locks_max / 2,
		.grace = true,
	};

	c->requests = gw_calloc(REQUESTS, sizeof(*c->requests));
	c->handles = gw_calloc(c->handles_max, sizeof(*c->handles));
	c->leases = gw_calloc(c->leases_max, sizeof(*c->leases));
	c->out = gw_calloc(OUT, sizeof(*c->out));
	if (c->requests == NULL || c->handles == NULL || c->leases == NULL || c->out == NULL) {
		return errbuf_set(eb, -ENOMEM, "csv: no memory for a coordinator");
	}

	int err = csv_lock_create(&lock, &c->lock, eb);

	return err != 0 ? err : csv_meta_create(&meta, &c->meta, eb);
}

int csv_coord_create(const struct csv_coord_cfg *cfg, uint64_t now_ns, struct csv_coord **out,
                     struct errbuf *eb)
{
	int err = check_cfg(cfg, eb);

	*out = NULL;
	if (err != 0) {
		return err;
	}

	struct csv_coord *c = gw_calloc(1, sizeof(*c));

	if (c == NULL) {
		return errbuf_set(eb, -ENOMEM, "csv: no memory for a coordinator");
	}
	c->state = CSV_COORD_OPENING;
	c->node = cfg->node;
	c->term = cfg->term;
	c->volume = cfg->super->volume;
	c->now_ns = now_ns;
	c->grace_ns = cfg->grace_ns != 0 ? cfg->grace_ns : CSV_COORD_GRACE_NS;
	c->fence_ns = cfg->fence_ns != 0 ? cfg->fence_ns : CSV_COORD_FENCE_NS;
	c->members = *cfg->members;
	c->handles_max = cfg->handles_max != 0 ? cfg->handles_max : 4096;
	c->leases_max = cfg->leases_max != 0 ? cfg->leases_max : 8192;
	for (uint32_t i = 0; i < cfg->holders_count; i++) {
		c->holders[i].owner = cfg->holders[i];
		c->holders[i].over = gone(&c->members, &cfg->holders[i]);
	}
	c->holders_count = cfg->holders_count;
	err = allocate(c, cfg, eb);
	if (err != 0) {
		csv_coord_destroy(c);
		return err;
	}
	*out = c;
	return 0;
}

void csv_coord_destroy(struct csv_coord *c)
{
	if (c == NULL) {
		return;
	}
	csv_meta_destroy(c->meta);
	csv_lock_destroy(c->lock);
	free(c->requests);
	free(c->handles);
	free(c->leases);
	free(c->out);
	free(c);
}

static uint32_t missing(const struct csv_coord *c)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < c->holders_count; i++) {
		count += !c->holders[i].over;
	}
	return count;
}

/* Nobody is left who could claim anything. */
void coord_check_grace(struct csv_coord *c)
{
	if (c->state == CSV_COORD_GRACE && missing(c) == 0) {
		c->state = CSV_COORD_ACTIVE;
		csv_lock_set_grace(c->lock, false);
		csv_meta_reap(c->meta);
	}
}

/* Follow the metadata. */
void coord_poll(struct csv_coord *c)
{
	int err = csv_meta_status(c->meta, NULL);

	if (c->state == CSV_COORD_OPENING && err == 0) {
		c->state = CSV_COORD_GRACE;
		c->grace_began_ns = c->now_ns;
		coord_check_grace(c);
	} else if (c->state == CSV_COORD_CLOSING && err == 0 && op_idle(c) && !c->meta_closing) {
		c->meta_closing = true;
		csv_meta_close(c->meta);
	} else if (c->state == CSV_COORD_CLOSING && err == -ESHUTDOWN) {
		c->state = CSV_COORD_CLOSED;
	} else if (err != 0 && err != -EINPROGRESS && err != -ESHUTDOWN) {
		c->state = CSV_COORD_FAILED;
	}
}

enum csv_coord_state csv_coord_state(const struct csv_coord *c, struct errbuf *eb)
{
	if (c->state == CSV_COORD_FAILED) {
		int err = csv_meta_status(c->meta, eb);

		CHECK(err != 0);
	}
	return c->state;
}

const char *csv_coord_state_name(enum csv_coord_state state)
{
	switch (state) {
	case CSV_COORD_OPENING:
		return "opening";
	case CSV_COORD_GRACE:
		return "grace";
	case CSV_COORD_ACTIVE:
		return "active";
	case CSV_COORD_CLOSING:
		return "closing";
	case CSV_COORD_CLOSED:
		return "closed";
	case CSV_COORD_FAILED:
		return "failed";
	}
	return "?";
}

bool csv_coord_next_io(struct csv_coord *c, struct csv_io *out)
{
	bool any = csv_meta_next_io(c->meta, out);

	coord_poll(c);
	return any || csv_meta_next_io(c->meta, out);
}

void csv_coord_io_done(struct csv_coord *c, uint32_t id, int result)
{
	csv_meta_io_done(c->meta, id, result);
}

void csv_coord_quiet(struct csv_coord *c)
{
	csv_meta_quiet(c->meta);
}

/* There is a proof about this run, or its own word. */
void coord_purge(struct csv_coord *c, const struct csv_lock_owner *owner)
{
	op_purge(c, owner);
	file_purge(c, owner);
	(void)csv_lock_purge(c->lock, owner, c->now_ns);
}

void csv_coord_set_members(struct csv_coord *c, const struct csv_members *members, uint64_t now_ns)
{
	c->now_ns = now_ns > c->now_ns ? now_ns : c->now_ns;
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		const struct csv_lock_owner owner = {i, members->fenced[i]};

		if (members->fenced[i] <= c->members.fenced[i]) {
			continue;
		}
		if (c->sessions[i].incarnation <= owner.incarnation) {
			c->sessions[i].connected = false;
		}
		coord_purge(c, &owner);
	}

	struct csv_members was = c->members;

	c->members = *members;
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		/* What was proven stays proven. */
		if (c->members.fenced[i] < was.fenced[i]) {
			c->members.fenced[i] = was.fenced[i];
		}
	}
	for (uint32_t i = 0; i < c->holders_count; i++) {
		c->holders[i].over = c->holders[i].over || gone(&c->members, &c->holders[i].owner);
	}
	coord_check_grace(c);
}

/* When others may no longer wait for it. The service of a member may be slow, or be told late. */
static uint64_t fence_at(const struct csv_coord *c, const struct holder *h)
{
	bool member = c->members.run[h->owner.node] == h->owner.incarnation;

	return c->grace_began_ns + (member ? c->fence_ns : c->grace_ns);
}

uint64_t csv_coord_waits_for(const struct csv_coord *c, uint32_t node, bool *fence)
{
	uint64_t run = csv_lock_overdue(c->lock, node);

	CHECK(node < CSV_MSG_NODES);
	*fence = run != 0;
	if (c->state != CSV_COORD_GRACE || c->now_ns < c->grace_began_ns + c->grace_ns) {
		return run;
	}
	for (uint32_t i = 0; i < c->holders_count; i++) {
		const struct holder *h = &c->holders[i];

		if (!h->over && h->owner.node == node && h->owner.incarnation > run) {
			run = h->owner.incarnation;
			*fence = c->now_ns >= fence_at(c, h);
		}
	}
	return run;
}

void csv_coord_postpone(struct csv_coord *c, uint64_t by_ns)
{
	c->grace_began_ns += by_ns;
	csv_lock_postpone(c->lock, by_ns);
}

void csv_coord_tick(struct csv_coord *c, uint64_t now_ns)
{
	c->now_ns = now_ns > c->now_ns ? now_ns : c->now_ns;
	csv_lock_tick(c->lock, c->now_ns);
}

uint64_t csv_coord_next_ns(const struct csv_coord *c)
{
	const uint64_t times[] = {
		c->grace_began_ns + c->grace_ns,
		c->grace_began_ns + c->fence_ns,
	};
	uint64_t next = csv_lock_next_ns(c->lock);

	for (uint32_t i = 0; c->state == CSV_COORD_GRACE && i < ARRAY_LEN(times); i++) {
		next = times[i] > c->now_ns && times[i] < next ? times[i] : next;
	}
	return next;
}

void csv_coord_hand_over(struct csv_coord *c, uint32_t node)
{
	if (c->state != CSV_COORD_GRACE && c->state != CSV_COORD_ACTIVE) {
		return;
	}
	c->state = CSV_COORD_CLOSING;
	c->moved_to = node;
	op_purge(c, NULL);
}

void csv_coord_get_stats(const struct csv_coord *c, struct csv_coord_stats *out)
{
	*out = c->stats;
	out->missing = missing(c);
}

const struct csv_lock *csv_coord_locks(const struct csv_coord *c)
{
	return c->lock;
}

const struct csv_meta *csv_coord_meta(const struct csv_coord *c)
{
	return c->meta;
}
