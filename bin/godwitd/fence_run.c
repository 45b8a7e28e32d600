/* SPDX-License-Identifier: Apache-2.0 */

/* fence_run - agents at work, and which devices a node has. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/tls_seal.h"
#include "bin/godwitd/fence_int.h"
#include "cluster/role/role_table.h"

/* A little less than the leader waits, so that the reason is heard. */
#define AGENT_NS (HA_FENCE_NS - NS_PER_S)
#define POLL_NS (300 * NS_PER_MS)
#define EVENT_NS (5 * NS_PER_S) /* for an event to get into the log */

/* ---- which devices ---- */

bool fence_run_fits(const struct fence_api *api, const struct fence_dev *dev, uint32_t *nodeid)
{
	const struct db_object *o = db_get(member_db(api->place.member), DB_NODE, dev->node);
	const char *uuid = o != NULL ? json_string_value(json_object_get(o->doc, "uuid")) : NULL;
	json_int_t id = o != NULL ? json_integer_value(json_object_get(o->doc, "nodeid")) : 0;

	if (uuid == NULL || strcmp(uuid, dev->uuid) != 0 || id < 1 || id > ROLE_NODES_MAX) {
		return false;
	}
	if (nodeid != NULL) {
		*nodeid = (uint32_t)id;
	}
	return true;
}

/* The next fence device of the database from object *@at on; NULL = no more. */
static const struct db_object *next_device(const struct db *db, size_t *at, struct fence_dev *dev)
{
	for (; *at < db_count(db, DB_SETTING); (*at)++) {
		const struct db_object *o = db_at(db, DB_SETTING, *at);

		if (strncmp(o->key, FENCE_DEV_PREFIX, strlen(FENCE_DEV_PREFIX)) == 0 &&
		    fence_dev_decode(o->doc, dev, NULL) == 0) {
			(*at)++;
			return o;
		}
	}
	return NULL;
}

static const char *name_of(const struct db_object *o)
{
	return o->key + strlen(FENCE_DEV_PREFIX);
}

/* All nodes' devices, once per change of the database. */
static void refresh(struct fence_api *api)
{
	const struct db *db = member_db(api->place.member);
	const struct db_object *o;
	struct fence_dev dev;
	uint32_t id = 0;
	size_t at = 0;

	if (api->fresh && api->index == db_index(db)) {
		return;
	}
	memset(api->levels, 0, sizeof(api->levels));
	memset(api->versions, 0, sizeof(api->versions));
	while ((o = next_device(db, &at, &dev)) != NULL) {
		if (fence_run_fits(api, &dev, &id) &&
		    api->levels[id - 1][dev.level] < FENCE_DEVICES_MAX) {
			api->levels[id - 1][dev.level]++;
			/* Order and versions: another device, or the same changed, is another
			 * sum. */
			api->versions[id - 1] = api->versions[id - 1] * 31 + o->version + 1;
		}
	}
	api->index = db_index(db);
	api->fresh = true;
}

static uint64_t on_devices(void *arg, uint32_t node, uint32_t levels[FENCE_LEVELS_MAX])
{
	struct fence_api *api = arg;

	memset(levels, 0, FENCE_LEVELS_MAX * sizeof(levels[0]));
	if (api->place.member == NULL) {
		return 0;
	}
	refresh(api);
	memcpy(levels, api->levels[node - 1], sizeof(api->levels[0]));
	return api->versions[node - 1];
}

/* Device @index of @level of @node, in the order in which refresh() counted. */
static const struct db_object *device_at(const struct fence_api *api, uint32_t node, uint32_t level,
                                         uint32_t index, struct fence_dev *dev)
{
	const struct db *db = member_db(api->place.member);
	const struct db_object *o;
	uint32_t id = 0;
	size_t at = 0;

	while ((o = next_device(db, &at, dev)) != NULL) {
		if (fence_run_fits(api, dev, &id) && id == node && dev->level == level &&
		    index-- == 0) {
			return o;
		}
	}
	return NULL;
}

/* ---- what is told ---- */

json_t *fence_run_tried(const struct fence_api *api)
{
	const struct db *db = member_db(api->place.member);
	json_t *tried = json_object();

	for (size_t i = 0; i < db_count(db, DB_EVENT); i++) {
		const struct db_object *o = db_at(db, DB_EVENT, i);
		const char *event = json_string_value(json_object_get(o->doc, "event"));
		const char *device = json_string_value(json_object_get(o->doc, "device"));
		const char *text = json_string_value(json_object_get(o->doc, "text"));

		if (event != NULL && device != NULL && strcmp(event, "fence.tried") == 0) {
			(void)json_object_set_new(
				tried, device,
				json_pack("{s:I,s:b,s:s}", "time_ns", (json_int_t)o->changed_ns,
			                  "ok", json_is_true(json_object_get(o->doc, "ok")), "text",
			                  text != NULL ? text : ""));
		}
	}
	return tried;
}

static void nobody_waits(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	(void)arg;
	(void)outcome;
	(void)result;
}

/* An event of the cluster, unless it says what the last one about this device said. */
static void tell(const struct fence_api *api, const char *name, const char *node,
                 const struct lead_fence *what, int err, const char *text)
{
	json_t *tried = fence_run_tried(api);
	const char *said = json_string_value(json_object_get(json_object_get(tried, name), "text"));
	bool again = err != 0 && what->action.number > 1 && said != NULL && strcmp(said, text) == 0;
	struct db_cmd cmd;
	json_t *doc;

	json_decref(tried);
	if (again) {
		return;
	}
	doc = json_pack("{s:s,s:s,s:s,s:s,s:I,s:b,s:s}", "event", "fence.tried", "node", node,
	                "device", name, "by", api->node, "run", (json_int_t)what->at.inc, "ok",
	                (int)(err == 0), "text", text);
	db_cmd_init(&cmd);
	db_cmd_log(&cmd, doc);
	json_decref(doc);
	if (db_cmd_end(&cmd) != 0 ||
	    member_propose(api->place.member, &cmd, EVENT_NS, nobody_waits, NULL) != 0) {
		log_warn(FENCE_TAG, "an event is not in the cluster's log device=%s", name);
	}
	db_cmd_fini(&cmd);
}

/* ---- agents ---- */

/* On its thread. */
static int run_agent(void *arg, struct errbuf *eb)
{
	struct fence_run *run = arg;
	int err = run->test ? fence_agent_status(&run->agent, &run->power, eb)
	                    : fence_agent_off(&run->agent, eb);

	if (err != 0 && eb->text[0] == '\0') {
		(void)errbuf_sys(eb, err, "%s", run->agent_name);
	}
	return err;
}

static void end_test(struct fence_run *run, int err, const struct errbuf *eb)
{
	struct api_req *req = run->req;

	run->req = NULL;
	if (req != NULL && err != 0) {
		(void)api_reply_errno(req, err, eb);
	} else if (req != NULL) {
		(void)api_reply(req, 200,
		                json_pack("{s:s,s:s,s:s}", "name", run->name, "node", run->node,
		                          "power", run->power == FENCE_POWER_ON ? "on" : "off"));
	}
}

static void end_off(struct fence_run *run, int err, const struct errbuf *eb)
{
	struct fence_api *api = run->api;
	const char *text = err == 0 ? "switched off, and read back" : errbuf_text(eb, err);

	if (err == 0) {
		log_warn(FENCE_TAG, "switched off node=%s run=%llu device=%s", run->node,
		         (unsigned long long)run->what.at.inc, run->name);
	} else {
		log_err(FENCE_TAG, "not switched off node=%s run=%llu device=%s text=\"%s\"",
		        run->node, (unsigned long long)run->what.at.inc, run->name, text);
	}
	if (api->place.member == NULL || run->open_count != api->open_count) {
		return; /* of a cluster, or a run of ours, that is over */
	}
	tell(api, run->name, run->node, &run->what, err, text);
	if (api->ha != NULL) {
		ha_fenced(api->ha, &run->what, err);
	}
}

static void on_done(void *arg, int err, const struct errbuf *eb)
{
	struct fence_run *run = arg;

	list_del(&run->link);
	run->api->run_count--;
	if (run->test) {
		end_test(run, err, eb);
	} else {
		end_off(run, err, eb);
	}
	fence_dev_wipe(run->options);
	free(run);
}

static void on_gone(void *arg)
{
	struct fence_run *run = arg;

	atomic_store(&run->stop, true);
	end_test(run, -ECANCELED, NULL);
}

/* What its agent will read. */
static int read_options(struct fence_run *run, const struct fence_dev *dev, struct errbuf *eb)
{
	struct tls_seal seal = {{0}, NULL};
	int err = dev->sealed[0] != '\0'
	                  ? cluster_seal_key(run->api->dir, FENCE_SEAL_LABEL, &seal, eb)
	                  : 0;

	if (err == 0) {
		err = fence_dev_options(dev, run->name, &seal, &run->options, eb);
	}
	hash_wipe(seal.key, sizeof(seal.key));
	return err;
}

int fence_run_start(struct fence_api *api, const char *name, const struct fence_dev *dev,
                    struct api_req *req, const struct lead_fence *what, struct errbuf *eb)
{
	struct fence_run *run = api->run_count < FENCE_RUNS_MAX ? gw_calloc(1, sizeof(*run)) : NULL;
	int err;

	if (run == NULL) {
		return errbuf_set(eb, -EBUSY, "%u fence agents run already", api->run_count);
	}
	run->api = api;
	run->test = req != NULL;
	run->open_count = api->open_count;
	if (what != NULL) {
		run->what = *what;
	}
	(void)snprintf(run->name, sizeof(run->name), "%s", name);
	(void)snprintf(run->node, sizeof(run->node), "%s", dev->node);
	(void)snprintf(run->agent_name, sizeof(run->agent_name), "%s", dev->agent);
	err = read_options(run, dev, eb);
	if (err == 0) {
		run->agent = (struct fence_agent){.dir = api->cfg.agents_dir,
		                                  .name = run->agent_name,
		                                  .options = run->options,
		                                  .timeout_ns = AGENT_NS,
		                                  .poll_ns = POLL_NS,
		                                  .stop = &run->stop};
		err = cluster_work_start(api->works, run_agent, on_done, run);
	}
	if (err != 0) {
		fence_dev_wipe(run->options);
		free(run);
		return err;
	}
	list_add_tail(&api->runs, &run->link);
	api->run_count++;
	run->req = req;
	if (req != NULL) {
		api_req_on_gone(req, on_gone, run);
	}
	return 0;
}

/* Is that run of the node still being fenced, as far as we know? */
static bool wanted(const struct fence_api *api, const struct fence_run *run)
{
	const struct role_node *n =
		role_table_node(member_roles(api->place.member), run->what.at.node);

	return n->state == ROLE_NODE_FENCING && n->inc == run->what.at.inc;
}

void fence_run_end(struct fence_api *api, bool all)
{
	list_for_each(link, &api->runs)
	{
		struct fence_run *run = list_entry(link, struct fence_run, link);

		if (all || (!run->test && (api->place.member == NULL || !wanted(api, run)))) {
			atomic_store(&run->stop, true);
		}
	}
}

static void on_off(void *arg, const struct lead_fence *what)
{
	struct fence_api *api = arg;
	struct fence_dev dev;
	struct errbuf eb = {0};
	const struct db_object *o = api->place.member != NULL
	                                    ? device_at(api, what->at.node, what->action.level,
	                                                what->action.device, &dev)
	                                    : NULL;

	if (o == NULL) {
		return; /* given up in time, and other devices are tried */
	}
	log_warn(FENCE_TAG, "switches off node=%s run=%llu device=%s agent=%s try=%u", dev.node,
	         (unsigned long long)what->at.inc, name_of(o), dev.agent, what->action.number);

	int err = fence_run_start(api, name_of(o), &dev, NULL, what, &eb);

	if (err != 0) {
		log_err(FENCE_TAG, "not switched off node=%s device=%s text=\"%s\"", dev.node,
		        name_of(o), errbuf_text(&eb, err));
		tell(api, name_of(o), dev.node, what, err, errbuf_text(&eb, err));
		ha_fenced(api->ha, what, err);
	}
}

void fence_run_power(struct fence_api *api)
{
	api->power = (struct ha_power){.devices = on_devices, .off = on_off, .arg = api};
}
