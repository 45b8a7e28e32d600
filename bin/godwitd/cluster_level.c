/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_level.h"

#include <errno.h>

#include "base/errbuf.h"
#include "base/log.h"
#include "bin/godwitd/cluster_int.h"
#include "cluster/member/member.h"
#include "cluster/member/vm_doc.h"

#define UPGRADE_WAIT_NS (30 * NS_PER_S)

int cluster_level_needs(const struct member *m, uint32_t level, const char *what, struct errbuf *eb)
{
	struct rsm_status s;

	member_status(m, &s);
	if (s.level >= level) {
		return 0;
	}
	(void)errbuf_set(eb, -ENOTSUP,
	                 "%s needs functional level %u, the cluster is at %u: nodes with an older "
	                 "version would not understand it",
	                 what, level, s.level);
	errbuf_hint(eb, "when all nodes have this version: godwit cluster upgrade");
	return -ENOTSUP;
}

int cluster_level_doc(const struct member *m, const json_t *before, const json_t *doc,
                      struct errbuf *eb)
{
	const char *what = NULL;
	uint32_t level = vm_doc_level(doc, &what);

	return level > vm_doc_level(before, NULL) ? cluster_level_needs(m, level, what, eb) : 0;
}

static const char *node_name(const struct cluster_api *api, uint32_t nodeid)
{
	const char *name = cluster_node_name(api, nodeid);

	return name != NULL ? name : "a node";
}

/* Whoever votes is here and knows @level. The leader looks as well; this says who does not. */
static int all_can(const struct cluster_api *api, uint32_t level, struct errbuf *eb)
{
	const struct view_config *config = member_config(api->member);
	const struct view *view = member_view(api->member);

	for (uint32_t i = 0; i < config->count; i++) {
		uint32_t nodeid = config->nodes[i].nodeid;
		const struct view_member *m = view_find(view, nodeid);

		if (nodeid == VIEW_WITNESS_NODEID ||
		    (m != NULL && m->said && m->hello.level_max >= level)) {
			continue;
		}
		if (m == NULL || !m->said) {
			(void)errbuf_set(eb, -ENOTSUP, "%s is not here: what it knows is not known",
			                 node_name(api, nodeid));
			errbuf_hint(eb, "start it, or take it out: godwit node evict %s",
			            node_name(api, nodeid));
		} else {
			(void)errbuf_set(eb, -ENOTSUP, "%s has a version that knows level %u only",
			                 node_name(api, nodeid), m->hello.level_max);
			errbuf_hint(eb, "install this version on %s", node_name(api, nodeid));
		}
		return -ENOTSUP;
	}
	return 0;
}

static int poll_upgrade(struct cluster_waiter *w, json_t **answer, struct errbuf *eb)
{
	struct cluster_api *api = w->api;
	struct rsm_status s;
	int err;

	if (api->member == NULL) {
		return cluster_none(eb);
	}
	if (api->proposing || !cluster_is_active(api, NULL)) {
		return 0;
	}
	member_status(api->member, &s);
	if (s.level >= MEMBER_LEVEL) {
		*answer = json_pack("{s:I}", "level", (json_int_t)s.level);
		return *answer != NULL ? 1 : -ENOMEM;
	}
	err = all_can(api, s.level + 1, eb);
	if (err == 0) {
		log_info(CLUSTER_TAG, "functional level is to be raised level=%u", s.level + 1);
		cluster_raise(api);
	}
	return err;
}

enum api_then cluster_on_upgrade(struct api_req *req, void *arg)
{
	struct cluster_api *api = arg;
	const struct cluster_waiter wait = {.poll = poll_upgrade,
	                                    .what = "raising the functional level",
	                                    .deadline_ns = UPGRADE_WAIT_NS};
	struct errbuf eb = {0};
	int err;

	if (!cluster_is_local(req)) {
		return API_ANSWERED;
	}
	err = api->member == NULL ? cluster_none(&eb) : !cluster_is_active(api, &eb) ? -EAGAIN : 0;
	return err == 0 ? cluster_wait(api, req, &wait, NULL) : api_reply_errno(req, err, &eb);
}
