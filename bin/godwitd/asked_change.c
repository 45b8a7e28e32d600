/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/asked_change.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "cluster/db/db_cmd.h"
#include "cluster/member/member.h"

#define PROPOSE_NS (10 * NS_PER_S)

static void change_end(struct asked_change *c, int err, const struct errbuf *eb)
{
	struct api_req *req = c->req;

	c->req = NULL;
	if (req != NULL && err != 0) {
		(void)api_reply_errno(req, err, eb);
	} else if (req != NULL) {
		(void)api_reply(req, 200, json_pack("{s:s}", "name", c->name));
	}
}

static void on_changed(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct asked_change *c = arg;
	struct errbuf eb = {0};
	int err = 0;

	if (outcome == RSM_UNKNOWN) {
		err = errbuf_set(
			&eb, -ETIMEDOUT,
			"the cluster did not answer in time: it may have been done or not");
		if (c->all->look != NULL) {
			errbuf_hint(&eb, "%s", c->all->look);
		}
	} else if (result->status != 0) {
		err = -EBUSY;
		c->all->taken(c->name, &eb);
		errbuf_hint(&eb, "ask again");
	}
	change_end(c, err, &eb);
	c->used = false;
}

static void on_gone(void *arg)
{
	change_end(arg, -ECANCELED, NULL); /* the change goes on */
}

bool asked_in_cluster(const struct member *m, struct api_req *req, const char *hint)
{
	struct errbuf eb = {0};

	if (m != NULL) {
		return true;
	}
	(void)errbuf_set(&eb, -ENOTCONN, "this host is in no cluster");
	if (hint != NULL) {
		errbuf_hint(&eb, "%s", hint);
	}
	(void)api_reply_errno(req, -ENOTCONN, &eb);
	return false;
}

enum api_then asked_change_begin(struct asked_changes *all, struct member *m, struct api_req *req,
                                 const char *name, struct db_cmd *cmd)
{
	struct asked_change *c = NULL;
	struct errbuf eb = {0};
	int err;

	for (uint32_t i = 0; i < ASKED_CHANGES_MAX && c == NULL; i++) {
		c = !all->slots[i].used ? &all->slots[i] : NULL;
	}
	err = c != NULL ? db_cmd_end(cmd) : -EBUSY;
	if (err == 0) {
		err = member_propose(m, cmd, PROPOSE_NS, on_changed, c);
	}
	db_cmd_fini(cmd);
	if (err != 0) {
		if (err == -ENOTCONN || err == -EAGAIN) {
			(void)errbuf_set(&eb, err, "the cluster has no quorum here");
			errbuf_hint(&eb, "godwit cluster status shows which nodes are missing");
		}
		return api_reply_errno(req, err, &eb);
	}
	*c = (struct asked_change){.all = all, .req = req, .used = true};
	(void)snprintf(c->name, sizeof(c->name), "%s", name);
	api_req_on_gone(req, on_gone, c);
	return API_LATER;
}

void asked_changes_stop(struct asked_changes *all, const struct member *m)
{
	for (uint32_t i = 0; i < ASKED_CHANGES_MAX; i++) {
		struct errbuf eb = {0};

		(void)errbuf_set(&eb, -ECANCELED, "godwitd is stopping");
		change_end(&all->slots[i], -ECANCELED, &eb);
		/* The member forgets what it was asked, or has said so. */
		all->slots[i].used = all->slots[i].used && m != NULL;
	}
}
