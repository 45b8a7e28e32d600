/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/role/role.h"

#include "base/attr.h"
#include "base/fmt.h"
#include "base/text.h"

#define NS_PER_MS 1000000ull

static const char *const state_names[ROLE_STATE_COUNT] = {
	[ROLE_OFFLINE] = "offline",     [ROLE_RAISING] = "raising",
	[ROLE_PLACING] = "placing",     [ROLE_STARTING] = "starting",
	[ROLE_ONLINE] = "online",       [ROLE_STOPPING] = "stopping",
	[ROLE_MIGRATING] = "migrating", [ROLE_UNMONITORED] = "unmonitored",
	[ROLE_FENCING] = "fencing",     [ROLE_FAILED] = "failed",
};

static const char *const why_names[ROLE_WHY_COUNT] = {
	[ROLE_WHY_NONE] = "",
	[ROLE_WHY_WANTED] = "asked for",
	[ROLE_WHY_GUEST_OFF] = "the guest shut itself down",
	[ROLE_WHY_CRASHED] = "its worker ended unexpectedly",
	[ROLE_WHY_START_FAILED] = "could not be started",
	[ROLE_WHY_LOST] = "its node left the cluster",
	[ROLE_WHY_FENCED] = "its node is proven stopped",
	[ROLE_WHY_LEFT] = "its node left in order",
	[ROLE_WHY_LIMIT] = "restarted too often",
	[ROLE_WHY_NO_AUTO] = "priority none: not restarted by itself",
	[ROLE_WHY_MOVED] = "moved",
};

const char *role_state_name(enum role_state state)
{
	return (uint32_t)state < ROLE_STATE_COUNT ? state_names[state] : "?";
}

const char *role_why_name(enum role_why why)
{
	return (uint32_t)why < ROLE_WHY_COUNT ? why_names[why] : "?";
}

const char *role_priority_name(enum role_priority priority)
{
	static const char *const names[ROLE_PRIORITY_COUNT] = {"none", "low", "medium", "high"};

	return (uint32_t)priority < ROLE_PRIORITY_COUNT ? names[priority] : "?";
}

const char *role_fallback_name(enum role_fallback fallback)
{
	static const char *const names[ROLE_FALLBACK_COUNT] = {"leave", "quick", "shutdown"};

	return (uint32_t)fallback < ROLE_FALLBACK_COUNT ? names[fallback] : "?";
}

void role_policy_default(struct role_policy *p)
{
	*p = (struct role_policy){
		.priority = ROLE_PRIORITY_MEDIUM,
		.fallback = ROLE_FALLBACK_QUICK,
		.memory_bytes = 512ull << 20,
		.cpus = 1,
		.restart_max = 2,
		.restart_window_s = 15 * 60,
		.failover_max = 5,
		.failover_window_s = 6 * 3600,
		.isolated_ok = true,
	};
}

const char *role_policy_check(const struct role_policy *p)
{
	if ((uint32_t)p->priority >= ROLE_PRIORITY_COUNT) {
		return "unknown priority";
	}
	if ((uint32_t)p->fallback >= ROLE_FALLBACK_COUNT) {
		return "unknown fallback";
	}
	for (uint32_t i = 0; i < ROLE_PREFERRED_MAX; i++) {
		if (p->preferred[i] > ROLE_NODES_MAX) {
			return "a preferred owner is no node";
		}
	}
	if (p->restart_max > ROLE_TIMES_MAX || p->failover_max > ROLE_TIMES_MAX) {
		return "a restart limit is above 8";
	}
	if (p->memory_bytes == 0 || p->cpus == 0) {
		return "no memory or no processor";
	}
	if (p->memory_bytes > ROLE_MEMORY_MAX || p->cpus > ROLE_CPUS_MAX) {
		return "more memory or processors than any VM may have";
	}
	return NULL;
}

bool role_owned(enum role_state state)
{
	switch (state) {
	case ROLE_OFFLINE:
	case ROLE_RAISING:
	case ROLE_PLACING:
	case ROLE_FAILED:
	case ROLE_STATE_COUNT:
		return false;
	case ROLE_STARTING:
	case ROLE_ONLINE:
	case ROLE_STOPPING:
	case ROLE_MIGRATING:
	case ROLE_UNMONITORED:
	case ROLE_FENCING:
		return true;
	}
	return false;
}

bool role_is_at(const struct role *r, struct role_at at)
{
	return at.node != 0 && r->owner.node == at.node && r->owner.inc == at.inc;
}

bool role_may_run(const struct role *r, struct role_at self)
{
	return role_owned(r->state) && role_is_at(r, self);
}

const char *role_check(const struct role *r)
{
	if (r->id == 0 || (uint32_t)r->state >= ROLE_STATE_COUNT) {
		return "no id or no state";
	}
	if (role_owned(r->state) != (r->owner.node != 0)) {
		return "a state and an owner that do not fit";
	}
	if ((r->state == ROLE_MIGRATING) != (r->dest.node != 0)) {
		return "a destination without a migration, or the other way round";
	}
	if (r->state == ROLE_MIGRATING && r->dest.node == r->owner.node) {
		return "a migration to where it is";
	}
	if (role_owned(r->state) && r->token == 0) {
		return "an owner without a token";
	}
	if ((r->state == ROLE_PLACING || (r->state == ROLE_STARTING && !r->incoming)) &&
	    (r->policy.volumes & ~r->acked) != 0) {
		return "to be started, but a volume does not know its token";
	}
	if ((r->state == ROLE_RAISING || r->state == ROLE_PLACING) && r->want != ROLE_WANT_ONLINE) {
		return "on its way to a start that nobody wants";
	}
	return NULL;
}

static void add_set(struct text *text, const char *before, uint64_t set)
{
	text_add(text, "%s", before);
	for (uint32_t id = 1; id <= 64; id++) {
		if ((set & role_bit(id)) != 0) {
			text_add(text, "%s%u", (set & (role_bit(id) - 1)) != 0 ? "," : "", id);
		}
	}
}

void role_describe(const struct role *r, uint64_t now_ms, char *buf, size_t size)
{
	char span[FMT_MAX];
	struct text text;

	text_init(&text, buf, size);
	text_add(&text, "%s", role_state_name(r->state));
	if (role_owned(r->state)) {
		text_add(&text, " on n%u", r->owner.node);
	}
	if (r->state == ROLE_MIGRATING) {
		text_add(&text, " to n%u", r->dest.node);
	}
	text_add(&text, " for %s",
	         fmt_duration((now_ms > r->since_ms ? now_ms - r->since_ms : 0) * NS_PER_MS, span));
	if (r->why != ROLE_WHY_NONE) {
		text_add(&text, " (%s)", role_why_name(r->why));
	}
	if (r->state == ROLE_RAISING) {
		add_set(&text, ": waiting for volumes ", r->policy.volumes & ~r->acked);
	}
	if (r->state == ROLE_UNMONITORED && r->until_ms > now_ms) {
		text_add(&text, ": waiting %s for its node",
		         fmt_duration((r->until_ms - now_ms) * NS_PER_MS, span));
	}
	if ((r->state == ROLE_RAISING || r->state == ROLE_PLACING) && r->until_ms > now_ms) {
		text_add(&text,
		         r->policy.patient && r->in_place != 0
		                 ? ": waiting %s for its node"
		                 : ": not before %s, it failed lately",
		         fmt_duration((r->until_ms - now_ms) * NS_PER_MS, span));
	}
	if (r->frozen) {
		text_add(&text, "; frozen by a person");
	}
}
