/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ha_back - VMs come back to a node whose maintenance is over: a job that asks for one live move
 * after the other.
 *
 *	WAITS -> ASKED -> GOES -> BACK
 *	   \<------+-------/       \-> or SKIPPED, FAILED: with the reason
 *
 * Which VMs belong there is in the database (DB_JOB drain/N) until this job is over: if the service
 * ends, the same request goes on.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "bin/godwitd/ha_drain.h"
#include "bin/godwitd/job_api.h"
#include "cluster/db/db.h"

#define BACK_NODE_NS (30 * NS_PER_S) /* for the node to take VMs */
#define BACK_ASK_NS (10 * NS_PER_S)  /* for a move to get into the log */
#define BACK_TURN_NS (60 * NS_PER_S) /* for a VM to be in a state in which it can move */
#define BACK_TELL_NS (3 * NS_PER_S)  /* for what a move was like to get there */
#define BACK_TRIES 2u
#define BACK_WHY_MAX 240u

enum back_state { BACK_WAITS, BACK_ASKED, BACK_GOES, BACK_BACK, BACK_SKIPPED, BACK_FAILED };

struct back_vm {
	char name[ROLE_NAME_MAX];
	enum back_state state;
	uint32_t tries;
	uint32_t from; /* where it was when its move began */
	uint64_t since_ns;
	char why[BACK_WHY_MAX];
};

struct ha_back {
	struct list link;
	struct ha_api *api;
	struct job *job;
	uint32_t node;
	bool policy;
	bool cancelled;
	bool told;
	uint64_t begun_ns;
	uint64_t begun_ms; /* cluster time */
	uint32_t count;
	struct back_vm vms[];
};

static const char *state_name(enum back_state state)
{
	static const char *const names[] = {"waiting", "waiting", "moving",
	                                    "back",    "stays",   "failed"};

	return names[state];
}

static bool is_over(const struct back_vm *v)
{
	return v->state >= BACK_BACK;
}

static void enter(struct ha_back *b, struct back_vm *v, enum back_state state, const char *why)
{
	v->state = state;
	v->since_ns = clock_now_ns();
	(void)snprintf(v->why, sizeof(v->why), "%s", why != NULL ? why : "");
	b->told = false;
}

/* What its node said of the move that brought it, or NULL: not yet. */
static const json_t *word_of(const struct ha_back *b, const struct back_vm *v)
{
	const json_t *moved;

	if (v->state != BACK_BACK || v->from == 0 || b->api->place.member == NULL) {
		return NULL;
	}
	moved = json_object_get(ha_doc(b->api, v->name), "moved");
	return json_integer_value(json_object_get(moved, "at_ms")) >= (json_int_t)b->begun_ms
	               ? moved
	               : NULL;
}

static bool is_told(const struct ha_back *b, const struct back_vm *v)
{
	return v->state != BACK_BACK || v->from == 0 || word_of(b, v) != NULL ||
	       clock_now_ns() > v->since_ns + BACK_TELL_NS;
}

static json_t *back_rows(const struct ha_back *b)
{
	json_t *rows = json_array();

	for (uint32_t i = 0; i < b->count; i++) {
		const struct back_vm *v = &b->vms[i];
		json_t *row = json_pack("{s:s,s:s}", "vm", v->name, "state", state_name(v->state));
		json_t *ns = json_object_get(word_of(b, v), "blackout_ns");

		if (row != NULL && v->why[0] != '\0') {
			(void)json_object_set_new(row, "text", json_string(v->why));
		}
		if (row != NULL && ns != NULL) {
			(void)json_object_set(row, "blackout_ns", ns);
		}
		if (row != NULL) {
			(void)json_array_append_new(rows, row);
		}
	}
	return rows;
}

static uint32_t count_of(const struct ha_back *b, enum back_state state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->count; i++) {
		n += b->vms[i].state == state;
	}
	return n;
}

static void back_end(struct ha_back *b, int err, const struct errbuf *eb)
{
	json_t *result =
		json_pack("{s:s,s:i,s:i,s:o}", "node",
	                  b->api->place.member != NULL ? ha_node_name(b->api, b->node) : "", "back",
	                  (int)count_of(b, BACK_BACK), "total", (int)b->count, "vms", back_rows(b));

	list_del(&b->link);
	job_end(b->job, err, eb, result);
	free(b);
}

/* Is @node better for it than where it is, by its own list? */
static bool prefers(const struct role *r, uint32_t node)
{
	for (uint32_t i = 0; i < ROLE_PREFERRED_MAX; i++) {
		if (r->policy.preferred[i] == node) {
			return true;
		}
		if (r->policy.preferred[i] == r->owner.node || r->policy.preferred[i] == 0) {
			return false;
		}
	}
	return false;
}

/* Why its last move to the node failed, or NULL. */
static const char *failure(const struct ha_back *b, const char *name)
{
	char key[16];
	const json_t *one;

	(void)snprintf(key, sizeof(key), "%u", b->node);
	one = json_object_get(json_object_get(ha_doc(b->api, name), "unmoved"), key);
	return json_integer_value(json_object_get(one, "at_ms")) >= (json_int_t)b->begun_ms
	               ? json_string_value(json_object_get(one, "text"))
	               : NULL;
}

static void ask(struct ha_back *b, struct back_vm *v, const struct role *r)
{
	uint64_t now_ns = clock_now_ns();

	if (r->policy.possible != 0 && (r->policy.possible & role_bit(b->node)) == 0) {
		enter(b, v, BACK_SKIPPED, "its definition does not allow that node");
	} else if (b->policy && !prefers(r, b->node)) {
		enter(b, v, BACK_SKIPPED, "it does not prefer that node to where it is");
	} else if (r->state != ROLE_ONLINE || r->frozen) {
		if (now_ns > v->since_ns + BACK_TURN_NS) {
			enter(b, v, BACK_FAILED, role_state_name(r->state));
		}
	} else if (ha_migrate(b->api->ha, r->id, b->node) == 0) {
		v->from = r->owner.node;
		v->tries++;
		enter(b, v, BACK_ASKED, NULL);
	} else if (now_ns > v->since_ns + BACK_TURN_NS) {
		enter(b, v, BACK_FAILED, "the cluster cannot be asked");
	}
}

/* It did not come. */
static void again(struct ha_back *b, struct back_vm *v)
{
	const char *why = failure(b, v->name);

	enter(b, v, v->tries < BACK_TRIES ? BACK_WAITS : BACK_FAILED,
	      why != NULL ? why : "the move was given up");
}

static void look_at(struct ha_back *b, struct back_vm *v, uint32_t *room)
{
	const struct member *m = b->api->place.member;
	const struct role *r = role_table_role(member_roles(m), member_role_find(m, v->name));
	uint64_t now_ns = clock_now_ns();

	if (r == NULL) {
		enter(b, v, BACK_SKIPPED, "it was removed");
	} else if (r->state == ROLE_OFFLINE || r->state == ROLE_FAILED) {
		enter(b, v, BACK_SKIPPED, role_state_name(r->state));
	} else if (r->owner.node == b->node && r->state == ROLE_ONLINE) {
		enter(b, v, BACK_BACK, NULL);
	} else if (v->state == BACK_WAITS) {
		if (*room > 0 && !b->cancelled) {
			ask(b, v, r);
			*room -= v->state == BACK_ASKED;
		}
	} else if (r->state == ROLE_MIGRATING && r->dest.node == b->node) {
		if (v->state == BACK_ASKED) {
			enter(b, v, BACK_GOES, NULL);
		}
		v->since_ns = now_ns; /* what comes behind the move has its own time */
	} else if (r->state == ROLE_ONLINE &&
	           (v->state == BACK_GOES || now_ns > v->since_ns + BACK_ASK_NS)) {
		again(b, v);
	} else if (now_ns > v->since_ns + BACK_TURN_NS) {
		/* Its node was lost, or it goes somewhere else: others wait for their turn. */
		enter(b, v, BACK_FAILED, role_state_name(r->state));
	}
}

static void back_progress(struct ha_back *b)
{
	uint32_t back = count_of(b, BACK_BACK);
	uint32_t over = back + count_of(b, BACK_SKIPPED) + count_of(b, BACK_FAILED);
	char text[120];

	if (b->told) {
		return;
	}
	b->told = true;
	(void)snprintf(text, sizeof(text), "%u of %u back, %u stay", back, b->count, over - back);
	job_progress(b->job, json_pack("{s:i,s:s,s:o}", "percent",
	                               b->count > 0 ? (int)(over * 100 / b->count) : 100, "detail",
	                               text, "vms", back_rows(b)));
}

static void back_look(struct ha_back *b)
{
	uint32_t moves = maint_moves(member_db(b->api->place.member));
	uint32_t busy = count_of(b, BACK_ASKED) + count_of(b, BACK_GOES);
	uint32_t room = moves > busy ? moves - busy : 0;
	struct errbuf eb = {0};
	uint32_t failed;
	bool over = true;

	if (!ha_node_usable(b->api, b->node)) {
		if (clock_now_ns() > b->begun_ns + BACK_NODE_NS || b->told) {
			back_end(b,
			         errbuf_set(&eb, -EHOSTDOWN, "%s takes no VMs",
			                    ha_node_name(b->api, b->node)),
			         &eb);
		}
		return;
	}
	for (uint32_t i = 0; i < b->count; i++) {
		if (!is_over(&b->vms[i])) {
			look_at(b, &b->vms[i], &room);
		}
		over = over && is_told(b, &b->vms[i]) &&
		       (is_over(&b->vms[i]) || (b->cancelled && b->vms[i].state == BACK_WAITS));
	}
	back_progress(b);
	if (!over) {
		return;
	}
	failed = count_of(b, BACK_FAILED);
	if (b->cancelled) {
		back_end(b, errbuf_set(&eb, -ECANCELED, "cancelled; what is back stays"), &eb);
		return;
	}
	ha_drain_forget(b->api, b->node);
	back_end(b,
	         failed != 0
	                 ? errbuf_set(&eb, -EBUSY, "%u of %u did not come back", failed, b->count)
	                 : 0,
	         &eb);
}

void ha_back_look(struct ha_api *api)
{
	list_for_each_safe(link, &api->backs)
	{
		if (api->ha != NULL) {
			back_look(list_entry(link, struct ha_back, link));
		}
	}
}

void ha_back_stop(struct ha_api *api)
{
	list_for_each_safe(link, &api->backs)
	{
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED, "the node service is stopping");
		back_end(list_entry(link, struct ha_back, link), -ECANCELED, &eb);
	}
}

static int back_cancel(void *arg, struct errbuf *eb)
{
	struct ha_back *b = arg;
	const struct member *m = b->api->place.member;
	int err = 0;

	b->cancelled = true;
	b->told = false;
	for (uint32_t i = 0; err == 0 && i < b->count; i++) {
		const struct role *r =
			role_table_role(member_roles(m), member_role_find(m, b->vms[i].name));

		if (b->vms[i].state == BACK_ASKED) {
			b->vms[i].tries = BACK_TRIES;
		}
		if (r != NULL && r->state == ROLE_MIGRATING && r->dest.node == b->node &&
		    !is_over(&b->vms[i])) {
			b->vms[i].tries = BACK_TRIES;
			err = ha_stay(b->api->ha, r->id);
		}
	}
	return err == 0 ? 0 : errbuf_sys(eb, err, "the cluster cannot be asked");
}

int ha_back_begin(struct ha_api *api, uint32_t node, bool policy, const json_t *vms,
                  struct job **job, struct errbuf *eb)
{
	struct ha_back *b;
	const json_t *name;
	char object[160];
	char text[200];
	size_t i;
	int err;

	list_for_each(link, &api->backs)
	{
		if (list_entry(link, struct ha_back, link)->node == node) {
			return errbuf_set(eb, -EBUSY, "VMs come back to %s already",
			                  ha_node_name(api, node));
		}
	}
	b = gw_calloc(1, sizeof(*b) + json_array_size(vms) * sizeof(b->vms[0]));
	if (b == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot bring VMs back");
	}
	b->api = api;
	b->node = node;
	b->policy = policy;
	b->begun_ns = clock_now_ns();
	b->begun_ms = ha_now_ms(api->ha);
	json_array_foreach(vms, i, name)
	{
		const char *word = json_string_value(name);

		if (word != NULL) {
			b->vms[b->count].since_ns = b->begun_ns;
			(void)snprintf(b->vms[b->count].name, ROLE_NAME_MAX, "%s", word);
			b->count++;
		}
	}
	(void)snprintf(object, sizeof(object), "node/%s", ha_node_name(api, node));
	(void)snprintf(text, sizeof(text), "VMs come back to %s", ha_node_name(api, node));

	const struct job_cfg cfg = {.kind = "failback",
	                            .object = object,
	                            .text = text,
	                            .cancel = back_cancel,
	                            .arg = b};

	err = job_new(api->cfg.jobs, &cfg, &b->job, eb);
	if (err != 0) {
		free(b);
		return err;
	}
	list_add_tail(&api->backs, &b->link);
	*job = b->job;
	return 0;
}
