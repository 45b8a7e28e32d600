/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwit-csvd/csvd_api.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/shared_direct.h"
#include "bin/godwit-csvd/csvd_int.h"

#define TAG "csvd-api"
#define STOP_NS (10 * NS_PER_S)
#define CLEAR_NS (250 * NS_PER_MS)

/* ---- this node's certificate ---- */

static int load_tls(struct csvd_api *api, struct errbuf *eb)
{
	char cert[CSVD_PATH_MAX];
	char key[CSVD_PATH_MAX];
	char ca[CSVD_PATH_MAX];
	const struct tls_cfg cfg = {.cert_file = cert, .key_file = key, .ca_file = ca};

	(void)snprintf(cert, sizeof(cert), "%s/cert/node.pem", api->state_dir);
	(void)snprintf(key, sizeof(key), "%s/cert/node.key", api->state_dir);
	(void)snprintf(ca, sizeof(ca), "%s/cert/ca.pem", api->state_dir);
	if (access(cert, F_OK) != 0 && errno == ENOENT) {
		return 0; /* it has none yet */
	}
	return api->tls != NULL ? tls_ctx_reload(api->tls, eb)
	                        : tls_ctx_create(&cfg, &api->tls, eb);
}

/* As soon as there is a certificate; a renewed one is taken with the next word of the cluster. */
static void listen_tls(struct csvd_api *api)
{
	struct errbuf eb = {0};
	int err = load_tls(api, &eb);

	if (err == 0 && api->tls != NULL && !api->listening) {
		err = csv_daemon_listen(api->daemon, api->listen_addr, api->port, api->tls, &eb);
		api->listening = err == 0;
		if (err == 0) {
			log_info(TAG, "listening addr=%s port=%u", api->listen_addr,
			         csv_daemon_port(api->daemon));
		}
	}
	if (err != 0) {
		log_err(TAG, "no connections to other nodes text=\"%s\"", errbuf_text(&eb, err));
	}
}

/* ---- what a service before this one has left ---- */

int csvd_clear(struct csvd_api *api, struct errbuf *eb)
{
	if (!api->clear && shared_direct_held(api->lock_path)) {
		if (!api->was_held) {
			log_warn(TAG,
			         "VMs of the service before this one have not ended their I/O");
		}
		api->was_held = true;
		errbuf_set(eb, -EBUSY, "VMs of the service before this one may still write");
		errbuf_hint(eb, "It goes on when they have ended their I/O. Does a device hang?");
		return -EBUSY;
	}
	api->clear = true;
	return 0;
}

/* Alone: nobody says it again. */
static void apply_alone(void *arg)
{
	struct csvd_api *api = arg;
	struct errbuf eb = {0};
	int err = api->cluster ? 0 : alone_apply(api, &eb);

	if (err == -EBUSY && !api->clear) {
		loop_timer_arm(api->retry, CLEAR_NS);
	} else if (err != 0) {
		log_err(TAG, "cannot open volumes text=\"%s\"", errbuf_text(&eb, err));
	}
}

/* ---- members ---- */

/* "to": who says it has looked at a process, and means no other one. */
static int for_us(const struct csvd_api *api, const json_t *body, struct errbuf *eb)
{
	static const char *const known[] = {"pid", "started"};
	const struct json_at root = json_root(body, "");
	uint64_t started = 0;
	uint64_t pid = 0;
	struct json_at to = {0};
	int err = body != NULL ? json_opt(&root, "to", &to, eb) : 0;

	if (err != 0 || to.value == NULL) {
		return err;
	}
	err = json_check_members(&to, known, ARRAY_LEN(known), eb);
	if (err == 0) {
		err = json_get_u64(&to, "pid", 1, INT32_MAX, &pid, eb);
	}
	if (err == 0) {
		err = json_get_u64(&to, "started", 1, INT64_MAX, &started, eb);
	}
	if (err == 0 && (pid != (uint64_t)getpid() || started != api->started)) {
		err = errbuf_set(eb, -ESTALE,
		                 "it is meant for process %" PRIu64 ", which has ended", pid);
	}
	return err;
}

static enum api_then on_put(struct api_req *req, void *arg)
{
	struct csvd_api *api = arg;
	struct csv_daemon_members *m = gw_calloc(1, sizeof(*m));
	struct errbuf eb = {0};
	int err = m == NULL ? -ENOMEM : for_us(api, api_req_body(req), &eb);

	if (err == 0) {
		err = csvd_clear(api, &eb);
	}
	if (err == 0) {
		err = members_parse(api_req_body(req), m, &eb);
	}

	if (err == 0 && !api->cluster) {
		api->cluster = true; /* before anything is opened: also after a crash */
		err = alone_save(api, &eb);
		api->cluster = err == 0;
	}
	if (err == 0) {
		listen_tls(api);
		err = csv_daemon_set_members(api->daemon, m, &eb);
	}
	if (err == 0) {
		*api->members = *m;
	}
	free(m);
	return err != 0 ? api_reply_errno(req, err, &eb)
	                : api_reply(req, 200,
	                            json_pack("{s:i}", "port", csv_daemon_port(api->daemon)));
}

static enum api_then on_delete(struct api_req *req, void *arg)
{
	struct csvd_api *api = arg;
	struct errbuf eb = {0};
	int err = 0;

	if (csv_daemon_next(api->daemon, NULL) != NULL && api->cluster) {
		errbuf_set(&eb, -EBUSY, "volumes of the cluster are in use");
		errbuf_hint(&eb, "Say first that there are none.");
		err = -EBUSY;
	} else if (api->cluster) {
		api->cluster = false;
		err = alone_save(api, &eb);
		api->cluster = err != 0;
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	/* What it knows of the cluster goes with it: a new process begins anew. */
	log_info(TAG, "in no cluster any more: starts again");
	loop_stop(api->loop);
	return api_reply(req, 204, NULL);
}

void csvd_add_self(struct json_build *b, const struct csvd_api *api)
{
	const struct csv_daemon_members *m = api->members;

	json_add_bool(b, "alone", !api->cluster);
	json_add_u64(b, "run", m->peers[m->self].run);
	json_add_u64(b, "pid", (uint64_t)getpid());
	json_add_u64(b, "started", api->started);
}

static enum api_then on_get(struct api_req *req, void *arg)
{
	const struct csvd_api *api = arg;
	const struct csv_daemon_members *m = api->members;
	struct json_build list;
	struct json_build b;
	json_t *json = NULL;
	int err;

	json_build_object(&b);
	csvd_add_self(&b, api);
	json_add_u64(&b, "epoch", m->epoch);
	json_add_u64(&b, "self", m->self);
	json_build_array(&list);
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		struct json_build one;

		if (m->peers[i].run != 0) {
			json_build_object(&one);
			json_add_u64(&one, "id", i);
			json_add_str(&one, "name", m->peers[i].name);
			json_add_u64(&one, "run", m->peers[i].run);
			json_add_build(&list, NULL, &one);
		}
	}
	json_add_build(&b, "members", &list);
	err = json_build_end(&b, &json);
	return err != 0 ? api_reply_errno(req, err, NULL) : api_reply(req, 200, json);
}

static const struct api_route routes[] = {
	{API_GET, "/v1/members", on_get},
	{API_PUT, "/v1/members", on_put},
	{API_DELETE, "/v1/members", on_delete},
};

/* ---- life ---- */

static int listen_unix(struct csvd_api *api, const char *run_dir, struct errbuf *eb)
{
	char path[CSVD_PATH_MAX];
	const struct api_listen_unix listen = {
		.path = path,
		.mode = 0600,
		.owner = (uid_t)-1,
		.group = (gid_t)-1,
	};

	(void)snprintf(path, sizeof(path), "%s/csvd.sock", run_dir);

	int err = api_server_listen_unix(api->server, &listen, eb);

	if (err == 0) {
		log_info(TAG, "listening socket=%s", path);
	}
	return err;
}

static int start(struct csvd_api *api, const struct csvd_api_cfg *cfg, struct errbuf *eb)
{
	const struct api_server_cfg server = {.loop = cfg->loop};
	struct csv_daemon_cfg daemon = {.loop = cfg->loop};
	int err;

	api->state_dir = gw_strdup(cfg->state_dir);
	api->listen_addr = gw_strdup(cfg->listen_addr);
	api->file = gw_asprintf("%s/csvd.json", cfg->state_dir);
	api->lock_path = gw_asprintf("%s/" SHARED_DIRECT_LOCK, cfg->run_dir);
	api->mount_dir = gw_asprintf("%s/csv", cfg->state_dir);
	api->members = gw_calloc(1, sizeof(*api->members));
	if (api->state_dir == NULL || api->listen_addr == NULL || api->file == NULL ||
	    api->mount_dir == NULL || api->lock_path == NULL || api->members == NULL) {
		return errbuf_sys(eb, -ENOMEM, "control interface");
	}
	err = alone_load(api, eb);
	if (err == 0) {
		daemon.node_id = api->node_id;
		daemon.mount_dir = api->mount_dir;
		err = csv_daemon_create(&daemon, &api->daemon, eb);
	}
	if (err == 0) {
		err = api_server_create(&server, &api->server, eb);
	}
	if (err == 0) {
		err = api_server_routes(api->server, routes, ARRAY_LEN(routes), api);
		err = err == 0 ? volumes_routes(api) : err;
		err = err == 0 ? alone_routes(api) : err;
		err = err == 0 ? files_routes(api) : err;
		err = err == 0 ? fence_routes(api) : err;
	}
	if (err == 0) {
		err = csv_daemon_direct(api->daemon, cfg->run_dir, eb);
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, apply_alone, api, &api->retry);
	}
	if (err == 0 && !api->cluster) {
		err = alone_apply(api, eb);
		if (err == -EBUSY && !api->clear) {
			loop_timer_arm(api->retry, CLEAR_NS);
			err = 0;
		}
	}
	return err == 0 ? listen_unix(api, cfg->run_dir, eb) : err;
}

int csvd_api_create(const struct csvd_api_cfg *cfg, struct csvd_api **out, struct errbuf *eb)
{
	struct csvd_api *api = gw_calloc(1, sizeof(*api));
	int err;

	*out = NULL;
	if (api == NULL) {
		return errbuf_sys(eb, -ENOMEM, "control interface");
	}
	api->loop = cfg->loop;
	api->port = cfg->port;
	api->started = proc_start(getpid());
	err = start(api, cfg, eb);
	if (err != 0) {
		csvd_api_destroy(api);
		return err;
	}
	*out = api;
	return 0;
}

void csvd_api_stop(struct csvd_api *api, void (*fn)(void *arg), void *arg)
{
	csv_daemon_stop(api->daemon, STOP_NS, fn, arg);
}

void csvd_api_destroy(struct csvd_api *api)
{
	if (api == NULL) {
		return;
	}
	csv_daemon_destroy(api->daemon); /* answers what waits for it */
	api_server_destroy(api->server);
	tls_ctx_destroy(api->tls);
	free(api->members);
	loop_timer_del(api->retry);
	free(api->lock_path);
	free(api->file);
	free(api->mount_dir);
	free(api->listen_addr);
	free(api->state_dir);
	free(api);
}
