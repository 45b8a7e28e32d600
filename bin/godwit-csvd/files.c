/* SPDX-License-Identifier: Apache-2.0 */

/*
 * files - files in the root directory of a volume, made with their storage, listed and removed, for
 * who prepares disks of VMs and has no mount. Each request is a chain of requests to the
 * coordinator; it ends when all of it is durable, also if the coordinator changes meanwhile.
 *
 *	make:  create -> open -> (lease with storage -> return) until it is long enough
 *	       -> truncate to the size -> close
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "bin/godwit-csvd/csvd_int.h"

#define SIZE_MAX_BYTES (256ull << 40)
#define NAMES_MAX 4096u /* of one list */

enum step {
	STEP_CREATE,
	STEP_OPEN,
	STEP_LAYOUT,
	STEP_RETURN,
	STEP_SIZE,
	STEP_CLOSE,
	STEP_REMOVE,
	STEP_LIST
};

struct file_job {
	struct csv_volume_req ask;
	struct csv_volume *v; /* borrowed while a request is under way */
	struct api_req *req;
	enum step step;
	char name[CSV_NAME_MAX + 1];
	uint64_t size_bytes;
	uint64_t have_bytes;
	struct csv_attr attr;
	uint64_t handle;
	uint64_t lease;
	int err; /* to be answered when the handle is closed */
	struct json_build names;
	uint32_t names_count;
};

static void job_end(struct file_job *j, int err)
{
	struct errbuf eb = {0};

	if (err != 0) {
		(void)errbuf_sys(&eb, err, "%s", j->name);
		json_decref(j->names.value);
		(void)api_reply_errno(j->req, err, &eb);
	} else if (j->step == STEP_LIST) {
		json_t *names = NULL;

		err = json_build_end(&j->names, &names);
		(void)api_reply(j->req, 200, err == 0 ? json_pack("{s:o}", "files", names) : NULL);
	} else {
		(void)api_reply(j->req, 204, NULL);
	}
	free(j);
}

static void ask(struct file_job *j, enum step step, enum csv_msg_type type)
{
	j->step = step;
	j->ask.req.msg.type = type;
	csv_volume_submit(j->v, &j->ask);
}

static void ask_op(struct file_job *j, enum step step, const struct csv_msg_op *op)
{
	j->ask.req.msg = (struct csv_msg){.op = *op};
	ask(j, step, CSV_MSG_OP);
}

static void ask_name(struct file_job *j, enum step step, enum csv_op_type op)
{
	const struct csv_msg_op msg = {
		.op = op,
		.dir = csv_volume_root(j->v),
		.name = j->name,
		.name_len = (uint32_t)strlen(j->name),
		.mode = op == CSV_OP_CREATE ? 0600 : 0,
		.now_ns = clock_wall_ns(),
	};

	ask_op(j, step, &msg);
}

static void ask_open(struct file_job *j)
{
	j->handle = csv_volume_number(j->v);
	j->ask.req.msg = (struct csv_msg){
		.open = {.ino = j->attr.ino,
	                 .generation = j->attr.generation,
	                 .handle = j->handle,
	                 .share = CSV_LOCK_SHARE_MODE(CSV_LOCK_READ | CSV_LOCK_WRITE,
	                                              CSV_LOCK_READ | CSV_LOCK_DELETE)},
	};
	ask(j, STEP_OPEN, CSV_MSG_OPEN);
}

static uint64_t whole_blocks(uint64_t bytes)
{
	return (bytes + CSV_BLOCK_BYTES - 1) / CSV_BLOCK_BYTES * CSV_BLOCK_BYTES;
}

static void ask_number(struct file_job *j, enum step step, enum csv_msg_type type, uint64_t number)
{
	j->ask.req.msg = (struct csv_msg){.number = number};
	ask(j, step, type);
}

static void ask_more(struct file_job *j)
{
	if (j->have_bytes < j->size_bytes) {
		j->lease = csv_volume_number(j->v);
		j->ask.req.msg = (struct csv_msg){
			.layout = {.handle = j->handle,
		                   .number = j->lease,
		                   .from_bytes = j->have_bytes,
		                   .to_bytes = whole_blocks(j->size_bytes),
		                   .now_ns = clock_wall_ns(),
		                   .flags = CSV_MSG_WRITE | CSV_MSG_ALLOCATE},
		};
		ask(j, STEP_LAYOUT, CSV_MSG_LAYOUT);
	} else {
		const struct csv_msg_op op = {
			.op = CSV_OP_TRUNCATE,
			.ino = j->attr.ino,
			.generation = j->attr.generation,
			.handle = j->handle,
			.size_bytes = j->size_bytes,
			.now_ns = clock_wall_ns(),
		};

		ask_op(j, STEP_SIZE, &op);
	}
}

/* One batch of names. Returns false at the end. */
static bool take_names(struct file_job *j, const struct csv_msg_reply *r)
{
	struct csv_name name;
	uint32_t offset = 0;
	bool any = false;

	while (csv_msg_name(r, &offset, &name)) {
		struct json_build one;

		any = true;
		json_build_object(&one);
		json_add_strn(&one, "name", name.name, name.len);
		json_add_str(&one, "kind", name.kind == CSV_KIND_DIR ? "directory" : "file");
		json_add_build(&j->names, NULL, &one);
		j->names_count++;
	}
	return any && j->names_count < NAMES_MAX;
}

static void ask_names(struct file_job *j, uint64_t cookie)
{
	const struct csv_msg_op op = {
		.op = CSV_OP_LIST,
		.dir = csv_volume_root(j->v),
		.cookie = cookie,
	};

	ask_op(j, STEP_LIST, &op);
}

/* Whatever went wrong: the handle goes back. */
static void give_up(struct file_job *j, int err)
{
	j->err = err;
	ask_number(j, STEP_CLOSE, CSV_MSG_CLOSE, j->handle);
}

static void done(struct csv_volume_req *r)
{
	struct file_job *j = container_of(r, struct file_job, ask);
	const struct csv_msg *reply = r->req.reply;
	int err = r->req.result;

	switch (j->step) {
	case STEP_CREATE:
		if (err != 0 || (reply->reply.parts & CSV_MSG_ATTR) == 0) {
			job_end(j, err != 0 ? err : -EPROTO);
		} else {
			j->attr = reply->reply.attr;
			ask_open(j);
		}
		return;
	case STEP_OPEN:
		if (err != 0) {
			job_end(j, err);
		} else {
			ask_more(j);
		}
		return;
	case STEP_LAYOUT:
		if (err != 0 || reply->reply.lease.to_bytes <= j->have_bytes) {
			give_up(j, err != 0 ? err : -ENOSPC);
		} else {
			j->have_bytes = reply->reply.lease.to_bytes;
			ask_number(j, STEP_RETURN, CSV_MSG_RETURN, j->lease);
		}
		return;
	case STEP_RETURN:
		ask_more(j);
		return;
	case STEP_SIZE:
		give_up(j, err);
		return;
	case STEP_CLOSE:
	case STEP_REMOVE:
		job_end(j, err != 0 ? err : j->err);
		return;
	case STEP_LIST:
		if (err == 0 && take_names(j, &reply->reply)) {
			ask_names(j, reply->reply.count);
		} else {
			job_end(j, err);
		}
		return;
	}
}

/* ---- routes ---- */

static struct file_job *job_new(const struct csvd_api *api, struct api_req *req, struct errbuf *eb)
{
	struct csv_volume *v = volumes_named(api, req, eb);
	struct file_job *j;

	if (v == NULL) {
		(void)api_reply_errno(req, -ENOENT, eb);
		return NULL;
	}
	if (csv_volume_root(v) == 0) {
		(void)errbuf_set(eb, -EAGAIN, "the volume is not open here yet");
		(void)api_reply_errno(req, -EAGAIN, eb);
		return NULL;
	}
	j = gw_calloc(1, sizeof(*j));
	if (j == NULL) {
		(void)api_reply_errno(req, -ENOMEM, NULL);
		return NULL;
	}
	j->v = v;
	j->req = req;
	j->ask.fn = done;
	return j;
}

static int parse_make(const json_t *body, struct file_job *j, struct errbuf *eb)
{
	static const char *const known[] = {"name", "size_bytes"};
	const struct json_at root = json_root(body, "");
	const char *name = "";
	int err = body == NULL ? errbuf_set(eb, -EINVAL, "there is no body")
	                       : json_check_members(&root, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_str(&root, "name", CSV_NAME_MAX, &name, eb);
	}
	if (err == 0 && csv_name_check(name, strlen(name)) != 0) {
		err = json_error(&root, eb, -EINVAL, "no name of a file");
	}
	if (err == 0) {
		err = json_get_u64(&root, "size_bytes", 0, SIZE_MAX_BYTES, &j->size_bytes, eb);
	}
	if (err == 0) {
		memcpy(j->name, name, strlen(name) + 1);
	}
	return err;
}

static enum api_then on_make(struct api_req *req, void *arg)
{
	struct errbuf eb = {0};
	struct file_job *j = job_new(arg, req, &eb);
	int err;

	if (j == NULL) {
		return API_ANSWERED;
	}
	err = parse_make(api_req_body(req), j, &eb);
	if (err != 0) {
		free(j);
		return api_reply_errno(req, err, &eb);
	}
	ask_name(j, STEP_CREATE, CSV_OP_CREATE);
	return API_LATER;
}

static enum api_then on_remove(struct api_req *req, void *arg)
{
	const char *name = api_req_param(req, "file");
	struct errbuf eb = {0};
	struct file_job *j;

	if (csv_name_check(name, strlen(name)) != 0) {
		(void)errbuf_set(&eb, -EINVAL, "no name of a file");
		return api_reply_errno(req, -EINVAL, &eb);
	}
	j = job_new(arg, req, &eb);
	if (j == NULL) {
		return API_ANSWERED;
	}
	memcpy(j->name, name, strlen(name) + 1);
	ask_name(j, STEP_REMOVE, CSV_OP_UNLINK);
	return API_LATER;
}

static enum api_then on_list(struct api_req *req, void *arg)
{
	struct errbuf eb = {0};
	struct file_job *j = job_new(arg, req, &eb);

	if (j == NULL) {
		return API_ANSWERED;
	}
	memcpy(j->name, "/", 2);
	json_build_array(&j->names);
	ask_names(j, 0);
	return API_LATER;
}

static const struct api_route routes[] = {
	{API_GET, "/v1/volumes/{name}/files", on_list},
	{API_POST, "/v1/volumes/{name}/files", on_make},
	{API_DELETE, "/v1/volumes/{name}/files/{file}", on_remove},
};

int files_routes(struct csvd_api *api)
{
	return api_server_routes(api->server, routes, ARRAY_LEN(routes), api);
}
