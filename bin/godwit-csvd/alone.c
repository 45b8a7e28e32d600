/* SPDX-License-Identifier: Apache-2.0 */

/* alone - a host that is in no cluster: which volumes it uses, kept in a file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "bin/godwit-csvd/csvd_int.h"

#define ALONE_NODE 1u
#define FILE_MODE 0600

/* ---- the file ---- */

static int load_volume(const struct json_at *at, struct csvd_alone *out, struct errbuf *eb)
{
	const char *name = "";
	const char *device = "";
	const char *id = "";
	int err = json_get_str(at, "name", sizeof(out->name) - 1, &name, eb);

	if (err == 0) {
		err = json_get_str(at, "device", sizeof(out->device) - 1, &device, eb);
	}
	if (err == 0) {
		err = json_get_str(at, "id", GUID_TEXT_SIZE, &id, eb);
	}
	if (err == 0 && guid_parse(id, &out->id) != 0) {
		err = json_error(at, eb, -EINVAL, "id is no GUID");
	}
	(void)snprintf(out->name, sizeof(out->name), "%s", name);
	(void)snprintf(out->device, sizeof(out->device), "%s", device);
	return err;
}

static int load_json(struct csvd_api *api, const json_t *json, struct errbuf *eb)
{
	const struct json_at root = json_root(json, "");
	struct json_at list;
	const char *node = "";
	int err = json_get_str(&root, "node_id", GUID_TEXT_SIZE, &node, eb);

	if (err == 0 && guid_parse(node, &api->node_id) != 0) {
		err = json_error(&root, eb, -EINVAL, "node_id is no GUID");
	}
	if (err == 0) {
		err = json_get_bool(&root, "cluster", &api->cluster, eb);
	}
	if (err == 0) {
		err = json_get_u64(&root, "run", 0, INT64_MAX, &api->run, eb);
	}
	if (err == 0) {
		err = json_get_array(&root, "volumes", CSV_DAEMON_VOLUMES_MAX, &list, eb);
	}
	for (size_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		const struct json_at one = json_element(&list, i);

		err = load_volume(&one, &api->alone[api->alone_count++], eb);
	}
	return err;
}

int alone_load(struct csvd_api *api, struct errbuf *eb)
{
	uint64_t seconds = clock_wall_ns() / NS_PER_S;
	json_t *json;
	int err;

	if (access(api->file, F_OK) != 0 && errno == ENOENT) {
		guid_random(&api->node_id);
	} else {
		err = json_read_file(api->file, NULL, &json, eb);
		if (err == 0) {
			err = load_json(api, json, eb);
			json_decref(json);
			if (err != 0) {
				errbuf_prepend(eb, "%s", api->file);
			}
		}
		if (err != 0) {
			return err;
		}
	}
	/* Greater than all before, also where the file was lost. */
	api->run = api->run + 1 > seconds ? api->run + 1 : seconds;
	return alone_save(api, eb);
}

int alone_save(const struct csvd_api *api, struct errbuf *eb)
{
	char id[GUID_TEXT_SIZE];
	struct json_build list;
	struct json_build b;
	json_t *json = NULL;
	int err;

	json_build_object(&b);
	json_add_str(&b, "node_id", guid_format(&api->node_id, id));
	json_add_bool(&b, "cluster", api->cluster);
	json_add_u64(&b, "run", api->run);
	json_build_array(&list);
	for (uint32_t i = 0; i < api->alone_count; i++) {
		struct json_build one;

		json_build_object(&one);
		json_add_str(&one, "name", api->alone[i].name);
		json_add_str(&one, "device", api->alone[i].device);
		json_add_str(&one, "id", guid_format(&api->alone[i].id, id));
		json_add_build(&list, NULL, &one);
	}
	json_add_build(&b, "volumes", &list);
	err = json_build_end(&b, &json);
	if (err == 0) {
		err = json_write_file(api->file, json, FILE_MODE, eb);
		json_decref(json);
	}
	return err;
}

/* ---- the cluster of one ---- */

int alone_apply(struct csvd_api *api, struct errbuf *eb)
{
	struct csv_daemon_members *m = api->members;
	char host[TLS_NAME_MAX] = "";
	int err = csvd_clear(api, eb);

	if (err != 0) {
		return err;
	}
	memset(m, 0, sizeof(*m));
	m->alone = true;
	m->epoch = 0;
	m->self = ALONE_NODE;
	timing_default(&m->timing);
	if (gethostname(host, sizeof(host) - 1) != 0 || !tls_name_valid(host)) {
		(void)snprintf(host, sizeof(host), "host");
	}
	(void)snprintf(m->peers[ALONE_NODE].name, sizeof(m->peers[ALONE_NODE].name), "%s", host);
	m->peers[ALONE_NODE].run = api->run;
	for (uint32_t i = 0; i < api->alone_count; i++) {
		struct csv_daemon_volume *v = &m->volumes[m->volumes_count++];

		memcpy(v->name, api->alone[i].name, sizeof(v->name));
		memcpy(v->device, api->alone[i].device, sizeof(v->device));
		v->id = api->alone[i].id;
		v->coordinator = ALONE_NODE;
		v->quiet = true; /* the slot was waited for */
	}
	return csv_daemon_set_members(api->daemon, m, eb);
}

/* ---- routes ---- */

static int refuse_cluster(const struct csvd_api *api, struct errbuf *eb)
{
	if (!api->cluster) {
		return 0;
	}
	errbuf_set(eb, -ENOTSUP, "this host is a node of a cluster, which says what it uses");
	return -ENOTSUP;
}

static int parse_add(const struct csvd_api *api, const json_t *body, struct csvd_alone *out,
                     struct errbuf *eb)
{
	static const char *const known[] = {"name", "device", "id"};
	const struct json_at root = json_root(body, "");
	int err = body == NULL ? errbuf_set(eb, -EINVAL, "there is no body")
	                       : json_check_members(&root, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = load_volume(&root, out, eb);
	}
	if (err == 0 && out->device[0] != '/') {
		err = json_error(&root, eb, -EINVAL, "device: must be an absolute path");
	}
	for (uint32_t i = 0; err == 0 && i < api->alone_count; i++) {
		if (strcmp(api->alone[i].name, out->name) == 0 ||
		    guid_equal(&api->alone[i].id, &out->id)) {
			err = errbuf_set(eb, -EEXIST, "volume %s is used already",
			                 api->alone[i].name);
		}
	}
	if (err == 0 && api->alone_count == CSV_DAEMON_VOLUMES_MAX) {
		err = errbuf_set(eb, -ENOSPC, "%u volumes are in use: no more fit",
		                 CSV_DAEMON_VOLUMES_MAX);
	}
	return err;
}

static enum api_then on_add(struct api_req *req, void *arg)
{
	struct csvd_api *api = arg;
	struct errbuf eb = {0};
	struct csvd_alone add = {0};
	int err = refuse_cluster(api, &eb);

	if (err == 0) {
		err = csvd_clear(api, &eb);
	}
	if (err == 0) {
		err = parse_add(api, api_req_body(req), &add, &eb);
	}
	if (err == 0) {
		api->alone[api->alone_count++] = add;
		err = alone_save(api, &eb);
		if (err != 0) {
			api->alone_count--;
		}
	}
	if (err == 0) {
		err = alone_apply(api, &eb);
	}
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 204, NULL);
}

static enum api_then on_evict(struct api_req *req, void *arg)
{
	struct csvd_api *api = arg;
	const char *name = api_req_param(req, "name");
	struct errbuf eb = {0};
	uint32_t i = 0;
	int err = refuse_cluster(api, &eb);

	while (i < api->alone_count && strcmp(api->alone[i].name, name) != 0) {
		i++;
	}
	if (err == 0) {
		err = csvd_clear(api, &eb);
	}
	if (err == 0 && i == api->alone_count) {
		err = errbuf_set(&eb, -ENOENT, "this host uses no volume \"%.63s\"", name);
	}
	if (err == 0) {
		struct csvd_alone was = api->alone[i];

		api->alone[i] = api->alone[--api->alone_count];
		err = alone_save(api, &eb);
		if (err != 0) {
			api->alone[api->alone_count++] = was;
		}
	}
	if (err == 0) {
		err = alone_apply(api, &eb);
	}
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 204, NULL);
}

static const struct api_route routes[] = {
	{API_POST, "/v1/volumes", on_add},
	{API_DELETE, "/v1/volumes/{name}", on_evict},
};

int alone_routes(struct csvd_api *api)
{
	return api_server_routes(api->server, routes, ARRAY_LEN(routes), api);
}
