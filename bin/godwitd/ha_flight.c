/* SPDX-License-Identifier: Apache-2.0 */

/* ha_flight - GET /v1/flight: what this node's flight recorder has; ?previous: of the last boot. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/fs.h"
#include "base/log.h"
#include "bin/godwitd/ha_int.h"
#include "cluster/flight/flight.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define PATH_SIZE 512

int ha_boot_id(struct guid *out)
{
	char *text = NULL;
	size_t len = 0;
	int err = fs_read(BOOT_ID_PATH, 128, &text, &len, NULL);

	if (err == 0) {
		text[strcspn(text, "\n")] = '\0';
		err = guid_parse(text, out);
	}
	free(text);
	return err;
}

void ha_flight_open(struct ha_api *api)
{
	char path[PATH_SIZE];
	struct flight_cfg cfg = {
		.path = path, .cluster = api->place.cluster, .nodeid = api->place.nodeid};
	struct errbuf eb = {0};
	int err = ha_boot_id(&cfg.boot);

	(void)snprintf(path, sizeof(path), "%s/flight", api->place.dir);
	if (err == 0) {
		err = flight_open(&cfg, &api->flight, &eb);
	}
	if (err != 0) {
		log_warn(HA_TAG, "heartbeats and leases are not recorded text=\"%s\"",
		         errbuf_text(&eb, err));
	}
}

static enum api_then on_flight(struct api_req *req, void *arg)
{
	struct ha_api *api = arg;
	struct flight_log *now = NULL;
	const struct flight_log *log;
	struct errbuf eb = {0};
	json_t *out;

	if (api->flight == NULL) {
		(void)errbuf_set(&eb, -ENOTCONN, "this host records nothing for a cluster");
		return api_reply_errno(req, -ENOTCONN, &eb);
	}
	log = flight_before(api->flight);
	if (api_req_query(req, "previous") == NULL) {
		if (flight_now(api->flight, &now) != 0) {
			return api_reply_errno(req, -ENOMEM, NULL);
		}
		log = now;
	} else if (log == NULL) {
		(void)errbuf_set(&eb, -ENOENT, "there is no record of the boot before");
		return api_reply_errno(req, -ENOENT, &eb);
	}
	out = flight_json(log);
	free(now);
	return api_reply(req, 200, out);
}

static const struct api_route routes[] = {
	{API_GET, "/v1/flight", on_flight},
};

int ha_flight_routes(struct ha_api *api)
{
	return api_server_routes(api->cfg.server, routes, ARRAY_LEN(routes), api);
}
