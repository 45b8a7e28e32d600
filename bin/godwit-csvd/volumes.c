/* SPDX-License-Identifier: Apache-2.0 */

/* volumes - how the volumes stand; moving a coordinator. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "bin/godwit-csvd/csvd_int.h"
#include "csv/format/csv_format.h"

#define CLOSING_MAX 128u

static void add_latency(struct json_build *b, const char *key, const struct csv_volume_latency *l)
{
	struct json_build in;

	json_build_object(&in);
	json_add_u64(&in, "count", l->count);
	json_add_u64(&in, "p50_us", l->p50_ns / NS_PER_US);
	json_add_u64(&in, "p99_us", l->p99_ns / NS_PER_US);
	json_add_u64(&in, "max_us", l->max_ns / NS_PER_US);
	json_add_build(b, key, &in);
}

static void add_nodes(struct json_build *b, const struct csv_daemon_members *m,
                      const struct csv_volume_info *i)
{
	struct json_build list;

	json_build_array(&list);
	for (uint32_t n = 0; n < CSV_MSG_NODES; n++) {
		const struct csv_daemon_peer *p = &m->peers[n];
		struct json_build one;

		if (p->run == 0) {
			continue;
		}
		json_build_object(&one);
		json_add_u64(&one, "id", n);
		json_add_str(&one, "name", p->name);
		json_add_u64(&one, "run", p->run);
		json_add_bool(&one, "self", n == m->self);
		json_add_str(&one, "slot", n == m->self ? i->slot : csv_slot_life_name(i->life[n]));
		if (i->coord != NULL) {
			json_add_bool(&one, "connected", (i->sessions >> n & 1) != 0);
		} else {
			json_add_null(&one, "connected");
		}
		json_add_build(&list, NULL, &one);
	}
	json_add_build(b, "nodes", &list);
}

static void add_fences(struct json_build *b, const struct csv_volume_info *i)
{
	struct json_build list;

	json_build_array(&list);
	for (uint32_t n = 0; n < CSV_MSG_NODES; n++) {
		if (i->fence_wanted[n] != 0) {
			struct json_build one;

			json_build_object(&one);
			json_add_u64(&one, "id", n);
			json_add_u64(&one, "run", i->fence_wanted[n]);
			json_add_build(&list, NULL, &one);
		}
	}
	json_add_build(b, "fence", &list);
}

/* What went through another node. */
static void add_direct(struct json_build *b, const struct csv_volume_info *i)
{
	struct json_build one;

	json_build_object(&one);
	json_add_u64(&one, "users", i->direct_users);
	json_add_u64(&one, "told", i->direct_told);
	json_add_build(b, "direct", &one);
}

static void add_moved(struct json_build *b, const char *key, uint64_t requests, uint64_t bytes)
{
	struct json_build in;

	json_build_object(&in);
	json_add_u64(&in, "requests", requests);
	json_add_u64(&in, "bytes", bytes);
	json_add_build(b, key, &in);
}

static void add_moved_to(struct json_build *b, const struct csv_volume_info *i)
{
	if (i->moved_to < CSV_MSG_NODES) {
		json_add_u64(b, "moved_to", i->moved_to);
	} else {
		json_add_null(b, "moved_to");
	}
}

/* What only the coordinator knows. */
static void add_here(struct json_build *b, const struct csv_volume_info *i)
{
	struct json_build in;

	if (i->coord == NULL) {
		json_add_null(b, "here");
		return;
	}
	json_build_object(&in);
	json_add_str(&in, "state", i->coord);
	json_add_str(&in, "why", i->coord_why);
	json_add_u64(&in, "requests", i->coord_stats.requests);
	json_add_u64(&in, "repeated", i->coord_stats.repeated);
	json_add_u64(&in, "handles", i->coord_stats.handles);
	json_add_u64(&in, "leases", i->coord_stats.leases);
	json_add_u64(&in, "missing", i->coord_stats.missing);
	json_add_u64(&in, "locks", i->locks.locks);
	json_add_u64(&in, "waiting", i->locks.waiting);
	json_add_u64(&in, "revoked", i->locks.revoked);
	add_latency(&in, "lock_waits", &i->lock_waits);
	add_moved_to(&in, i);
	add_moved(&in, "gate", i->gate_requests, i->gate_bytes);
	add_fences(&in, i);
	json_add_build(b, "here", &in);
}

/* What keeps a fenced node from writing: keys on the LUN, or leases and slots only. */
static void add_reservations(struct json_build *b, const struct csv_volume_info *i)
{
	struct json_build in;

	json_build_object(&in);
	json_add_str(&in, "level", csv_pr_level_name(i->reservations));
	json_add_str(&in, "why", i->reservations_why);
	if (i->key != 0) {
		json_add_fmt(&in, "key", "%016" PRIx64, i->key);
	} else {
		json_add_null(&in, "key");
	}
	json_add_build(b, "reservations", &in);
}

static void add_sizes(struct json_build *b, const struct csv_volume_info *i)
{
	if (!i->stat_known) {
		json_add_null(b, "space");
		return;
	}

	struct json_build in;

	json_build_object(&in);
	json_add_u64(&in, "size_bytes", i->stat.units * CSV_UNIT_BYTES);
	json_add_u64(&in, "free_bytes", i->stat.free_units * CSV_UNIT_BYTES);
	json_add_u64(&in, "files", i->stat.files);
	json_add_u64(&in, "directories", i->stat.directories);
	json_add_build(b, "space", &in);
}

static void add_way(struct json_build *b, enum csv_volume_way way)
{
	static const char *const names[] = {
		[CSV_VOLUME_WAY_UNKNOWN] = "unknown",
		[CSV_VOLUME_WAY_GOOD] = "good",
		[CSV_VOLUME_WAY_LOST] = "lost",
	};

	json_add_str(b, "way", names[way]);
}

static void add_volume(struct json_build *list, const char *key, const struct csvd_api *api,
                       const struct csv_volume *v)
{
	const struct csv_daemon_members *m = api->members;
	struct csv_volume_info i;
	char id[GUID_TEXT_SIZE];
	struct json_build b;

	csv_volume_get_info(v, &i);
	json_build_object(&b);
	json_add_str(&b, "name", i.name);
	json_add_str(&b, "device", i.device);
	add_way(&b, i.way);
	json_add_str(&b, "id", guid_is_nil(&i.id) ? NULL : guid_format(&i.id, id));
	json_add_str(&b, "state", csv_volume_state_name(i.state));
	json_add_str(&b, "reason", i.reason);
	json_add_str(&b, "detail", i.detail);
	json_add_u64(&b, "since_s", (clock_boot_ns() - i.since_ns) / NS_PER_S);
	json_add_bool(&b, "alone", m->alone);
	if (i.coordinator < CSV_MSG_NODES) {
		json_add_str(&b, "coordinator", m->peers[i.coordinator].name);
	} else {
		json_add_null(&b, "coordinator");
	}
	json_add_u64(&b, "term", i.term);
	json_add_str(&b, "path", i.path[0] != '\0' ? i.path : NULL);
	json_add_str(&b, "mount_error", i.mount_why[0] != '\0' ? i.mount_why : NULL);
	json_add_str(&b, "client", i.client);
	json_add_str(&b, "slot", i.slot);
	add_reservations(&b, &i);
	add_moved(&b, "redirected", i.redirect_requests, i.redirect_bytes);
	add_direct(&b, &i);
	add_latency(&b, "meta", &i.meta);
	add_sizes(&b, &i);
	add_nodes(&b, m, &i);
	add_here(&b, &i);
	json_add_build(list, key, &b);
}

static enum api_then reply(struct api_req *req, struct json_build *b)
{
	json_t *json = NULL;
	int err = json_build_end(b, &json);

	return err != 0 ? api_reply_errno(req, err, NULL) : api_reply(req, 200, json);
}

/* Not used any more, and not closed yet. */
static void add_closing(struct json_build *b, const struct csvd_api *api)
{
	struct guid ids[CLOSING_MAX];
	uint32_t count = csv_daemon_closing(api->daemon, ids, CLOSING_MAX);
	struct json_build list;

	if (count > CLOSING_MAX) {
		json_add_null(b, "closing"); /* who asks must not take a part for all */
		return;
	}
	json_build_array(&list);
	for (uint32_t i = 0; i < count; i++) {
		char id[GUID_TEXT_SIZE];

		json_add_str(&list, NULL, guid_format(&ids[i], id));
	}
	json_add_build(b, "closing", &list);
}

static enum api_then on_list(struct api_req *req, void *arg)
{
	const struct csvd_api *api = arg;
	const struct csv_volume *v = NULL;
	struct json_build list;
	struct json_build b;

	json_build_object(&b);
	json_build_array(&list);
	while ((v = csv_daemon_next(api->daemon, v)) != NULL) {
		add_volume(&list, NULL, api, v);
	}
	json_add_bool(&b, "alone", !api->cluster);
	json_add_build(&b, "volumes", &list);
	add_closing(&b, api);
	return reply(req, &b);
}

/* ---- what godwitd looks at all the time ---- */

/* Members as add_volume() has them. */
static void add_standing(struct json_build *list, const struct csv_volume *v)
{
	struct csv_volume_info i;
	char id[GUID_TEXT_SIZE];
	struct json_build here;
	struct json_build b;

	csv_volume_get_info(v, &i);
	json_build_object(&b);
	json_add_str(&b, "name", i.name);
	add_way(&b, i.way);
	json_add_str(&b, "id", guid_is_nil(&i.id) ? NULL : guid_format(&i.id, id));
	json_add_str(&b, "state", csv_volume_state_name(i.state));
	json_add_str(&b, "reason", i.reason);
	json_add_u64(&b, "term", i.term);
	json_add_str(&b, "path", i.path[0] != '\0' ? i.path : NULL);
	json_add_str(&b, "slot", i.slot);
	add_reservations(&b, &i);
	if (i.coord == NULL) {
		json_add_null(&b, "here");
	} else {
		json_build_object(&here);
		json_add_str(&here, "state", i.coord);
		add_moved_to(&here, &i);
		add_fences(&here, &i);
		json_add_build(&b, "here", &here);
	}
	json_add_build(list, NULL, &b);
}

static enum api_then on_standing(struct api_req *req, void *arg)
{
	const struct csvd_api *api = arg;
	const struct csv_volume *v = NULL;
	struct json_build list;
	struct json_build b;

	json_build_object(&b);
	csvd_add_self(&b, api);
	json_build_array(&list);
	while ((v = csv_daemon_next(api->daemon, v)) != NULL) {
		add_standing(&list, v);
	}
	json_add_build(&b, "volumes", &list);
	add_closing(&b, api);
	return reply(req, &b);
}

struct csv_volume *volumes_named(const struct csvd_api *api, const struct api_req *req,
                                 struct errbuf *eb)
{
	const char *name = api_req_param(req, "name");
	struct csv_volume *v = csv_daemon_volume(api->daemon, name);

	if (v == NULL) {
		(void)errbuf_set(eb, -ENOENT, "this node uses no volume \"%.63s\"", name);
	}
	return v;
}

static enum api_then on_show(struct api_req *req, void *arg)
{
	const struct csvd_api *api = arg;
	struct errbuf eb = {0};
	struct csv_volume *v = volumes_named(api, req, &eb);
	struct json_build b;

	if (v == NULL) {
		return api_reply_errno(req, -ENOENT, &eb);
	}
	json_build_object(&b);
	add_volume(&b, "volume", api, v);
	return reply(req, &b);
}

/* ---- move ---- */

static void moved(void *arg, int err)
{
	struct csvd_move *move = arg;
	struct api_req *req = move->req;
	struct errbuf eb = {0};

	move->req = NULL;
	if (err == 0) {
		(void)api_reply(req, 200, json_pack("{s:b}", "handed_over", 1));
		return;
	}
	(void)errbuf_set(&eb, err, "it ended before it was handed over");
	(void)api_reply_errno(req, err, &eb);
}

static int move_to(const struct csvd_api *api, const struct api_req *req, uint32_t *out,
                   struct errbuf *eb)
{
	static const char *const known[] = {"to"};
	const struct json_at root = json_root(api_req_body(req), "");
	const char *to = "";
	int err = root.value == NULL ? errbuf_set(eb, -EINVAL, "there is no body")
	                             : json_check_members(&root, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_str(&root, "to", TLS_NAME_MAX, &to, eb);
	}
	for (uint32_t n = 0; err == 0 && n < CSV_MSG_NODES; n++) {
		if (api->members->peers[n].run != 0 &&
		    strcmp(api->members->peers[n].name, to) == 0) {
			*out = n;
			return 0;
		}
	}
	return err != 0 ? err : errbuf_set(eb, -EINVAL, "there is no node \"%.63s\"", to);
}

static enum api_then on_move(struct api_req *req, void *arg)
{
	struct csvd_api *api = arg;
	struct errbuf eb = {0};
	struct csv_volume *v = volumes_named(api, req, &eb);
	struct csvd_move *move = NULL;
	uint32_t to = 0;
	int err = v == NULL ? -ENOENT : 0;

	for (uint32_t i = 0; i < CSVD_MOVES_MAX && move == NULL; i++) {
		move = api->moves[i].req == NULL ? &api->moves[i] : NULL;
	}
	if (err == 0 && api->members->alone) {
		err = errbuf_set(&eb, -ENOTSUP,
		                 "this host is in no cluster: nobody else can coordinate");
	}
	if (err == 0) {
		err = move == NULL ? -EBUSY : move_to(api, req, &to, &eb);
	}
	if (err == 0) {
		move->api = api;
		err = csv_volume_hand_over(v, to, moved, move, &eb);
	}
	if (err != 0) {
		return api_reply_errno(req, err, &eb);
	}
	move->req = req;
	return API_LATER;
}

static const struct api_route routes[] = {
	{API_GET, "/v1/volumes", on_list},
	{API_GET, "/v1/volumes/{name}", on_show},
	{API_GET, "/v1/standing", on_standing},
	{API_POST, "/v1/volumes/{name}/move", on_move},
};

int volumes_routes(struct csvd_api *api)
{
	return api_server_routes(api->server, routes, ARRAY_LEN(routes), api);
}
