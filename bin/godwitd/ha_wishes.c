/* SPDX-License-Identifier: Apache-2.0 */

/* ha_wishes - which VMs start before a VM of the cluster, what people expect of its failover. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/fmt.h"
#include "base/text.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "cluster/lead/whatif.h"
#include "cluster/member/vm_doc.h"

#define CHAIN_MAX 32u /* VMs looked at: a command has room for so many conditions */

/* VMs that are to run before it, and those before them. */
struct chain {
	const struct db *db;
	const char *self;
	struct db_cmd *cmd;
	const char *names[CHAIN_MAX];
	uint32_t count;
};

static int chain_add(struct chain *c, const json_t *doc, const char *of, struct errbuf *eb)
{
	const char *name;

	for (uint32_t i = 0; (name = vm_doc_after(doc, i)) != NULL; i++) {
		bool known = false;

		if (strcmp(name, c->self) == 0) {
			(void)errbuf_set(eb, -ELOOP, "%s starts after %s%s%s: a circle", c->self,
			                 of, of == c->self ? "" : ", which starts after ",
			                 of == c->self ? "" : c->self);
			errbuf_hint(eb, "godwit vm set %s --start-after none", of);
			return -ELOOP;
		}
		for (uint32_t k = 0; k < c->count && !known; k++) {
			known = strcmp(c->names[k], name) == 0;
		}
		if (!known && c->count == CHAIN_MAX) {
			return errbuf_set(eb, -E2BIG, "%s starts after more than %u other VMs",
			                  c->self, CHAIN_MAX);
		}
		if (!known) {
			c->names[c->count++] = name;
		}
	}
	return 0;
}

int ha_after_check(const struct ha_api *api, const char *self, const json_t *doc,
                   struct db_cmd *cmd, struct errbuf *eb)
{
	struct chain c = {.db = member_db(api->place.member), .self = self, .cmd = cmd};
	int err = chain_add(&c, doc, self, eb);

	for (uint32_t i = 0; err == 0 && i < c.count; i++) {
		const struct db_object *o = db_get(c.db, DB_VM, c.names[i]);

		if (o == NULL || !vm_doc_is_role(o->doc)) {
			/* One further down may have gone since: it is not waited for. */
			const char *first = vm_doc_after(doc, i);

			if (first == NULL || strcmp(first, c.names[i]) != 0) {
				continue;
			}
			(void)errbuf_set(eb, -ENOENT,
			                 "--start-after: the cluster has no VM named %s",
			                 c.names[i]);
			errbuf_hint(eb, "only VMs that the cluster runs (--ha) can be waited for");
			return -ENOENT;
		}
		/* Two that are changed at the same time must not make a circle together. */
		db_cmd_check(cmd, DB_VM, o->key);
		db_cmd_if_version(cmd, o->version);
		err = chain_add(&c, o->doc, o->key, eb);
	}
	return err;
}

void ha_wishes_tidy(json_t *ha)
{
	static const char *const keys[] = {"after", "restart_within_ms", "wait_ms"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (json_is_null(json_object_get(ha, keys[i]))) {
			(void)json_object_del(ha, keys[i]);
		}
	}
}

static uint64_t number(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json_object_get(doc, "ha"), key));

	return v > 0 ? (uint64_t)v : 0;
}

/* Would it be held if its node died now? */
static void add_forecast(const struct ha_api *api, const struct role *r, uint64_t within_ns,
                         struct text *t)
{
	struct lead_view view;
	struct whatif_node n;
	char proof[FMT_MAX];
	const char *node = ha_node_name(api, r->owner.node);

	(void)ha_view(api->ha, &view);
	whatif_node(&view, r->owner.node, &n);
	if (n.proof == ROLE_PROOF_NONE) {
		text_add(t,
		         "; not held now: nothing but a person's word proves that %s has stopped",
		         node);
		return;
	}
	text_add(t,
	         n.proof_max_ns > within_ns
	                 ? "; not held now: if %s dies it takes up to %s until that is proven"
	                 : "; if %s dies it takes up to %s until that is proven, and its start",
	         node, fmt_duration(n.proof_max_ns, proof));
}

void ha_objective_text(const struct ha_api *api, const struct role *r, char *buf, size_t size)
{
	const json_t *doc = ha_doc(api, r->name);
	uint64_t within_ms = number(doc, "restart_within_ms");
	uint64_t wait_ms = number(doc, "wait_ms");
	uint64_t now_ms = ha_now_ms(api->ha);
	uint64_t lost_ms =
		r->state == ROLE_FENCING && now_ms > r->since_ms ? now_ms - r->since_ms : 0;
	char span[FMT_MAX];
	char runs[FMT_MAX];
	struct text t;

	text_init(&t, buf, size);
	if (wait_ms != 0) {
		text_add(&t, "waits up to %s for a lost node",
		         fmt_duration(wait_ms * NS_PER_MS, span));
		if (r->state == ROLE_UNMONITORED && r->until_ms > now_ms) {
			text_add(&t, ": %s are left",
			         fmt_duration((r->until_ms - now_ms) * NS_PER_MS, span));
		}
	} else if (within_ms != 0) {
		text_add(&t, "restart within %s", fmt_duration(within_ms * NS_PER_MS, span));
		if (r->state == ROLE_FENCING) {
			text_add(&t,
			         lost_ms <= within_ms ? ": its node is lost for %s, %s are left"
			                              : ": its node is lost for %s, %s too long",
			         fmt_duration(lost_ms * NS_PER_MS, runs),
			         fmt_duration((lost_ms <= within_ms ? within_ms - lost_ms
			                                            : lost_ms - within_ms) *
			                              NS_PER_MS,
			                      span));
		} else if (r->state == ROLE_ONLINE) {
			add_forecast(api, r, within_ms * NS_PER_MS, &t);
		}
	}
}
