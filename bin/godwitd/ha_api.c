/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/ha_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "bin/godwitd/cluster_timing.h"
#include "bin/godwitd/event_api.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/flight/flight.h"
#include "cluster/member/vm_doc.h"
#include "cluster/timing/timing.h"

/* Of the node's memory; the rest is for the host itself. */
#define MEMORY_FOR_VMS(total) ((total) / 10 * 9)
#define CLOCK_PATH "/sys/devices/system/clocksource/clocksource0/current_clocksource"
#define FILE_MAX (8u << 20)

static bool assumed(const struct ha_api *api)
{
	return strcmp(api->cfg.watchdog, "assume") == 0;
}

static const char *watchdog_path(const struct ha_api *api)
{
	return assumed(api) || strcmp(api->cfg.watchdog, "none") == 0 ? NULL : api->cfg.watchdog;
}

/* Does the file contain the word? */
static bool says(const char *path, const char *word)
{
	char *buf = NULL;
	size_t len = 0;
	bool found = fs_read(path, FILE_MAX, &buf, &len, NULL) == 0 && buf != NULL &&
	             memmem(buf, len, word, strlen(word)) != NULL;

	free(buf);
	return found;
}

/* May the others take our silence as a proof that we stopped? */
static bool lease_proof(struct ha_api *api, const struct timing *t)
{
	struct timing_node node = {
		.watchdog_got_ms = t->cfg.watchdog_ms, /* or the guard had closed it again */
		.clock_stable = !says(CLOCK_PATH, "jiffies"),
		.virtual_machine = says("/proc/cpuinfo", " hypervisor"),
	};
	struct errbuf eb = {0};

	node.watchdog = guard_watchdog(api->guard, &node.watchdog_soft);
	api->watchdog = node.watchdog;
	api->watchdog_soft = node.watchdog_soft;
	if (assumed(api)) {
		log_warn(HA_TAG,
		         "the end of this node's lease is taken as a proof that it stopped, "
		         "without a watchdog: --watchdog assume");
		return true;
	}
	if (timing_check_node(t, &node, &eb) == 0) {
		return true;
	}
	log_warn(HA_TAG, "no failover without another proof when this node fails why=\"%s\"",
	         eb.text);
	return false;
}

/* The guard is another one, with another watchdog or none: the others must not count on the
 * first. */
static void watchdog_look(struct ha_api *api)
{
	bool soft;
	bool open = guard_watchdog(api->guard, &soft);

	if (open != api->watchdog || soft != api->watchdog_soft) {
		ha_set_lease_proof(api->ha, lease_proof(api, ha_timing(api->ha)));
	}
}

/* Somebody asked for another token of corosync: leases that go with it. */
static void timing_look(struct ha_api *api)
{
	struct cluster_timing ct;
	struct timing_cfg cfg;
	struct errbuf eb = {0};
	int err;

	if (!cluster_timing_get(member_db(api->place.member), &ct) ||
	    ct.lease_token_ms == api->lease_token_ms) {
		return;
	}
	cluster_timing_cfg(&ct, &cfg);
	err = ha_set_timing(api->ha, &cfg, &eb);
	if (err == -EAGAIN) {
		return;
	}
	if (err != 0) {
		log_err(HA_TAG, "leases stay as they are text=\"%s\"", eb.text);
	} else {
		log_info(HA_TAG, "leases are for another token token_ms=%u was=%u lease_ms=%u",
		         ct.lease_token_ms, api->lease_token_ms, cfg.lease_ms);
	}
	api->lease_token_ms = ct.lease_token_ms; /* tried once */
}

bool ha_guard_ready(struct ha_api *api)
{
	bool alive = guard_alive(api->guard);

	watchdog_look(api);
	return alive && ha_may_start(api->ha);
}

/* Something of the roles or the view has changed, or time has passed. */
static void on_ha_changed(void *arg)
{
	struct ha_api *api = arg;

	if (!api->stopped) {
		timing_look(api);
		watchdog_look(api);
		ha_notes_look(&api->notes, clock_now_ns());
		ha_drain_look(api); /* tells people, before workers are ended for a long time */
		if (api->moves != NULL) {
			move_api_look(api->moves);
		}
		ha_vms_look(api);
		csv_wire_look(api->csv);
		ha_req_look(api);
		ha_forward_look(api);
		fence_api_look(api->fence);
	}
}

static int open_ha(struct ha_api *api, struct errbuf *eb)
{
	struct vmops_lease lease;
	struct guard_cfg guard = {
		.run_dir = api->cfg.run_dir,
		.watchdog = watchdog_path(api),
		.cluster = api->place.cluster,
		.nodeid = api->place.nodeid,
	};
	struct ha_cfg cfg = {
		.loop = api->cfg.loop,
		.member = api->place.member,
		.vmops = &api->vmops,
		.power = fence_api_power(api->fence),
		.storage = &api->storage,
		.flight = api->flight,
		.nodeid = api->place.nodeid,
		.memory_bytes = MEMORY_FOR_VMS((uint64_t)sysconf(_SC_PHYS_PAGES) *
	                                       (uint64_t)sysconf(_SC_PAGESIZE)),
		.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
		.changed = on_ha_changed,
		.arg = api,
	};
	struct cluster_timing ct;
	struct timing t;
	int err;

	timing_default(&cfg.timing);
	api->lease_token_ms = api->place.token_ms;
	/* A change that was under way when an earlier process of ours ended. */
	if (cluster_timing_get(member_db(api->place.member), &ct) &&
	    ct.lease_token_ms > api->lease_token_ms) {
		api->lease_token_ms = ct.lease_token_ms;
	}
	if (api->lease_token_ms != 0) {
		timing_for_token(api->lease_token_ms, &cfg.timing);
	}
	err = timing_init(&cfg.timing, &t, eb);
	if (err != 0) {
		return err;
	}
	guard.watchdog_s = cfg.timing.watchdog_ms / 1000;
	err = guard_open(&guard, &api->guard, eb);
	if (err != 0) {
		return err;
	}
	cfg.lease_proof = lease_proof(api, &t);
	cfg.run.inc = guard_run(api->guard, &lease);
	cfg.run.since_ns = lease.since_ns;
	cfg.run.lease_ns = lease.lease_ns;
	err = ha_create(&cfg, &api->ha, eb);
	if (err == 0) {
		const struct csv_wire_place place = {
			.member = api->place.member,
			.guard = api->guard,
			.ha = api->ha,
			.nodeid = api->place.nodeid,
		};

		ha_vms_adopt(api);
		csv_wire_open(api->csv, &place);
	}
	return err;
}

static void on_opened(void *arg, const struct cluster_place *place)
{
	struct ha_api *api = arg;
	struct errbuf eb = {0};
	struct guid boot;
	int err;

	api->place = *place;
	(void)snprintf(api->node, sizeof(api->node), "%s", place->node);
	api->trouble = (struct errbuf){0};
	ha_flight_open(api);
	api->boot[0] = '\0';
	api->elsewhere.known = false;
	if (ha_boot_id(&boot) == 0) {
		(void)guid_format(&boot, api->boot);
	}
	err = open_ha(api, &eb);
	if (err != 0) {
		log_err(HA_TAG, "no highly available VMs on this node text=\"%s\"",
		        errbuf_text(&eb, err));
		api->trouble = eb;
		guard_close(api->guard);
		api->guard = NULL;
	}
	fence_api_open(api->fence, place, api->ha);
	if (event_api_open(vm_api_events(api->cfg.vms), member_db(place->member), place->node) !=
	    0) {
		log_err(HA_TAG, "the cluster's events are not shown here: no memory");
	}
	vm_api_set_ha(api->cfg.vms, &api->vm_hooks);
}

static void on_view_changed(void *arg)
{
	struct ha_api *api = arg;

	if (api->ha != NULL) {
		ha_kick(api->ha);
	}
}

static uint32_t on_lease_ms(void *arg)
{
	const struct ha_api *api = arg;

	return api->ha != NULL ? ha_lease_ms(api->ha) : 0;
}

static void on_closing(void *arg)
{
	struct ha_api *api = arg;

	/* The VMs go on until their lease is over: whoever comes after us finds them. */
	vm_api_set_ha(api->cfg.vms, NULL);
	ha_req_stop(api);
	ha_drain_stop(api);
	ha_notes_stop(&api->notes);
	ha_forward_stop(api);
	csv_wire_close(api->csv);
	fence_api_close(api->fence);
	event_api_close(vm_api_events(api->cfg.vms));
	ha_destroy(api->ha);
	api->ha = NULL;
	flight_close(api->flight);
	api->flight = NULL;
	guard_close(api->guard);
	api->guard = NULL;
	api->place.member = NULL;
}

bool ha_api_owns(const struct ha_api *api, const char *name)
{
	return api->place.member != NULL && ha_doc(api, name) != NULL;
}

const struct cluster_hooks *ha_api_hooks(struct ha_api *api)
{
	return &api->hooks;
}

int ha_api_create(const struct ha_api_cfg *cfg, struct ha_api **out, struct errbuf *eb)
{
	struct ha_api *api = gw_calloc(1, sizeof(*api));

	*out = NULL;
	if (api == NULL) {
		return errbuf_sys(eb, -ENOMEM, "highly available VMs");
	}
	const struct csv_wire_cfg csv = {
		.loop = cfg->loop, .server = cfg->server, .run_dir = cfg->run_dir};
	const struct fence_api_cfg fence = {
		.loop = cfg->loop, .server = cfg->server, .agents_dir = cfg->agents_dir};
	int err = csv_wire_create(&csv, &api->csv, eb);

	if (err == 0) {
		err = fence_api_create(&fence, &api->fence, eb);
	}
	if (err != 0) {
		csv_wire_destroy(api->csv);
		free(api);
		return err;
	}
	api->cfg = *cfg;
	list_init(&api->waits);
	list_init(&api->drains);
	list_init(&api->backs);
	list_init(&api->forwards);
	api->hooks = (struct cluster_hooks){.opened = on_opened,
	                                    .changed = on_view_changed,
	                                    .closing = on_closing,
	                                    .lease_ms = on_lease_ms,
	                                    .arg = api};
	ha_vms_ops(api);
	ha_proof_ops(api);
	ha_req_hooks(api);
	ha_move_init(api);
	if (ha_drain_routes(api) != 0 || ha_settings_routes(api) != 0 ||
	    ha_whatif_routes(api) != 0 || ha_flight_routes(api) != 0) {
		fence_api_destroy(api->fence);
		csv_wire_destroy(api->csv);
		free(api);
		return errbuf_sys(eb, -ENOMEM, "highly available VMs");
	}
	*out = api;
	return 0;
}

void ha_api_stop(struct ha_api *api)
{
	if (api != NULL) {
		api->stopped = true;
		api->moves = NULL;
		vm_api_set_ha(api->cfg.vms, NULL);
		ha_req_stop(api);
		ha_drain_stop(api);
		ha_notes_stop(&api->notes);
		ha_forward_stop(api);
		csv_wire_stop(api->csv);
		fence_api_stop(api->fence);
	}
}

void ha_api_destroy(struct ha_api *api)
{
	if (api != NULL) {
		ha_forward_fini(api);
		csv_wire_destroy(api->csv);
		fence_api_destroy(api->fence);
		ha_destroy(api->ha);
		flight_close(api->flight);
		guard_close(api->guard);
		free(api);
	}
}
