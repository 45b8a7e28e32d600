/* SPDX-License-Identifier: Apache-2.0 */

/* fence - take the key of a run away from a volume's LUN, for who has decided that it is over. */
#include <errno.h>

#include "bin/godwit-csvd/csvd_int.h"

static void fenced(void *arg, int err, bool aborted)
{
	struct api_req *req = arg;
	struct errbuf eb = {0};

	if (err == 0 || err == -EALREADY) {
		const char *proof = err != 0 ? "absent" : aborted ? "aborted" : "preempted";

		(void)api_reply(req, 200, json_pack("{s:s}", "proof", proof));
		return;
	}
	(void)errbuf_sys(&eb, err, "the key was not taken away");
	(void)api_reply_errno(req, err, &eb);
}

static int parse(const json_t *body, uint64_t *node, uint64_t *run, struct errbuf *eb)
{
	static const char *const known[] = {"id", "run"};
	const struct json_at root = json_root(body, "");
	int err = body == NULL ? errbuf_set(eb, -EINVAL, "there is no body")
	                       : json_check_members(&root, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_u64(&root, "id", 0, CSV_MSG_NODES - 1, node, eb);
	}
	return err == 0 ? json_get_u64(&root, "run", 1, INT64_MAX, run, eb) : err;
}

static enum api_then on_fence(struct api_req *req, void *arg)
{
	const struct csvd_api *api = arg;
	struct errbuf eb = {0};
	struct csv_volume *v = volumes_named(api, req, &eb);
	uint64_t node = 0;
	uint64_t run = 0;
	int err = v == NULL ? -ENOENT : parse(api_req_body(req), &node, &run, &eb);

	if (err == 0) {
		err = csv_volume_fence(v, (uint32_t)node, run, fenced, req, &eb);
	}
	return err != 0 ? api_reply_errno(req, err, &eb) : API_LATER;
}

static const struct api_route routes[] = {
	{API_POST, "/v1/volumes/{name}/fence", on_fence},
};

int fence_routes(struct csvd_api *api)
{
	return api_server_routes(api->server, routes, ARRAY_LEN(routes), api);
}
