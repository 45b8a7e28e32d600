/* SPDX-License-Identifier: Apache-2.0 */

/* move_out - moves away from here: the job, step by step. */

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/server.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "bin/godwitd/cert_api.h"
#include "bin/godwitd/job_api.h"
#include "bin/godwitd/move_disks.h"
#include "bin/godwitd/move_int.h"
#include "bin/godwitd/peer.h"
#include "hv/manager/manager.h"

#define TAG "move-api"
#define MOVE_ASK_MS 60000u /* the destination starts a worker */
#define MOVE_DIAL_MS 30000u
#define MOVE_PLACE_NS (20 * NS_PER_S)
#define MOVE_BLACKOUT_NS (50 * NS_PER_MS) /* the limit, where nobody has said one */
#define MOVE_UNASKED_NS (2 * NS_PER_S)    /* the same of moves that nobody asked for one by one */
#define MOVE_SAY_MS 10000u

static struct vm *out_vm(const struct move_out *mv)
{
	return manager_vm_find(mv->api->cfg.manager, mv->vm_id);
}

static void out_free(struct move_out *mv)
{
	list_del(&mv->link);
	json_decref(mv->options);
	json_decref(mv->tls);
	free(mv);
}

/* It is over for this side: the job ends. */
static void out_end(struct move_out *mv, int err, const struct errbuf *eb, json_t *result)
{
	struct move_api *api = mv->api;

	if (result != NULL && mv->options != NULL) {
		(void)json_object_set(result, "mode", json_object_get(mv->options, "mode"));
	}
	if (err == 0 && mv->cluster && !api->stopped) {
		api->cfg.cluster->moved(api->cfg.cluster->arg, mv->vm_name, mv->peer.name, result);
	}
	if (mv->job != NULL) {
		job_end(mv->job, err, eb, result);
	} else {
		json_decref(result);
	}
	out_free(mv);
	if (!api->stopped) {
		loop_timer_arm(api->tick, 0); /* there is room for the next */
	}
}

static void out_detail(struct move_out *mv, int percent, const char *detail, json_t *more)
{
	json_t *progress = more != NULL ? json_deep_copy(more) : json_object();

	if (mv->job == NULL || progress == NULL) {
		json_decref(progress);
		return;
	}
	if (percent >= 0) {
		(void)json_object_set_new(progress, "percent", json_integer(percent));
	}
	(void)json_object_set_new(progress, "detail", json_string(detail));
	job_progress(mv->job, progress);
}

/* ---- calls to the destination ---- */

static int out_call(struct move_out *mv, enum api_method method, const char *path, json_t *body,
                    uint32_t timeout_ms, peer_done_fn fn, struct errbuf *eb)
{
	const struct peer_call call = {
		.node = mv->peer.name,
		.addr = mv->peer.addr,
		.port = mv->peer.port,
		.method = method,
		.path = path,
		.body = body,
		.timeout_ms = timeout_ms,
	};

	return peer_call(mv->api->cfg.peers, &call, fn, mv, eb);
}

static void out_dropped(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	char *move = arg;

	(void)answer;
	if (err != 0 && err != -ENOENT) {
		/* It asks us itself when it has waited long enough. */
		log_info(TAG, "the destination was not told move=%s reason=\"%s\"", move,
		         errbuf_text(eb, err));
	}
	free(move);
}

/* It does not come: say so, without waiting for an answer. */
static void out_drop(struct move_out *mv)
{
	char id[GUID_TEXT_SIZE];
	char *path = api_path("/v1/arrivals/{move}", guid_format(&mv->move, id));
	char *move = gw_strdup(id);
	struct errbuf eb = {0};
	const struct peer_call call = {
		.node = mv->peer.name,
		.addr = mv->peer.addr,
		.port = mv->peer.port,
		.method = API_DELETE,
		.path = path,
		.timeout_ms = MOVE_SAY_MS,
	};

	if (path == NULL || move == NULL ||
	    peer_call(mv->api->cfg.peers, &call, out_dropped, move, &eb) != 0) {
		free(move);
	}
	free(path);
}

/* Not moved: the VM runs on here. */
static void out_fail(struct move_out *mv, int err, const struct errbuf *eb, json_t *result)
{
	const struct move_cluster *cluster = mv->api->cfg.cluster;

	/* Of the copying: it does not converge, or its end was late. */
	json_int_t code = json_integer_value(json_object_get(result, "errno"));
	bool slow = code == EBUSY || code == ETIMEDOUT;

	if (mv->cluster && mv->phase != MOVE_PLACE) {
		cluster->failed(cluster->arg, mv->vm_name, mv->peer.name, slow,
		                mv->cancelled ? -ECANCELED : err, eb);
	}
	if (mv->asked) {
		out_drop(mv);
	}
	out_end(mv, err, eb, result);
}

static void out_cancelled(struct move_out *mv)
{
	struct errbuf eb = {0};

	(void)errbuf_set(&eb, -ECANCELED, "cancelled; %s runs on here", mv->vm_name);
	out_fail(mv, -ECANCELED, &eb, NULL);
}

/* ---- the last step: the destination has it in writing ---- */

static void out_given(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct move_out *mv = arg;
	struct vm *vm = out_vm(mv);
	struct errbuf why = {0};
	json_t *result;

	(void)answer;
	mv->calling = false;
	if (mv->api->stopped) {
		return;
	}
	if (err == 0 && vm != NULL) {
		err = vm_move_forget(vm, &why);
		eb = &why;
	}
	if (err != 0) {
		(void)snprintf(mv->waiting, sizeof(mv->waiting),
		               "waiting for %s to confirm: %.130s", mv->peer.name,
		               errbuf_text(eb, err));
		out_detail(mv, 100, mv->waiting, NULL);
		return; /* the tick tries again */
	}
	result = mv->result;
	mv->result = NULL;
	out_end(mv, 0, NULL, result);
}

void move_out_give(struct move_out *mv)
{
	char id[GUID_TEXT_SIZE];
	char *path = api_path("/v1/arrivals/{move}/commit", guid_format(&mv->move, id));
	json_t *body = json_pack("{s:I,s:s}", "epoch", (json_int_t)mv->epoch_next, "vm", mv->vm_id);
	struct errbuf eb = {0};

	mv->phase = MOVE_GIVE;
	if (!mv->calling && path != NULL && body != NULL) {
		mv->calling = out_call(mv, API_POST, path, body, MOVE_SAY_MS, out_given, &eb) == 0;
	}
	json_decref(body);
	free(path);
}

/* ---- the copying ---- */

static void out_progress(void *arg, json_t *message)
{
	struct move_out *mv = arg;
	json_int_t percent = json_integer_value(json_object_get(message, "percent"));
	json_int_t round = json_integer_value(json_object_get(message, "round"));
	json_int_t rate = json_integer_value(json_object_get(message, "bandwidth_bytes_s"));
	json_int_t blackout = json_integer_value(json_object_get(message, "forecast_blackout_ns"));
	const char *phase = json_string_value(json_object_get(message, "phase"));
	char detail[160];

	(void)snprintf(detail, sizeof(detail),
	               "%.16s, round %" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
	               " MB/s, blackout about %" JSON_INTEGER_FORMAT " ms",
	               phase != NULL ? phase : "", round, rate / 1000000, blackout / 1000000);
	out_detail(mv, percent >= 0 && percent <= 100 ? (int)percent : -1, detail, message);
}

static void out_ready(void *arg)
{
	struct move_out *mv = arg;
	struct vm *vm = out_vm(mv);
	const struct move_cluster *cluster = mv->api->cfg.cluster;
	struct errbuf eb = {0};

	if (vm != NULL && mv->cluster) {
		if (vm_move_hold(vm, &eb) != 0) {
			log_err(TAG, "move refused vm=%s reason=\"%s\"", mv->vm_name, eb.text);
			vm_move_refuse(vm, eb.text);
			return;
		}
		mv->held = true;
		cluster->sent(cluster->arg, mv->vm_name);
		return; /* move_out_look() */
	}
	if (vm != NULL && vm_move_commit(vm, &eb) != 0) {
		log_err(TAG, "move refused vm=%s reason=\"%s\"", mv->vm_name, eb.text);
		vm_move_refuse(vm, eb.text);
	}
}

static void out_ended(void *arg, int err, json_t *message, const struct errbuf *eb)
{
	struct move_out *mv = arg;
	struct vm *vm = out_vm(mv);
	json_t *result = json_deep_copy(json_object_get(message, "result"));
	struct vm_move_info info;

	if (vm != NULL && vm_move_info(vm, &info) && info.committed) {
		struct errbuf why = {0};

		/* What the destination needs to know it knows from the log. */
		if (mv->cluster && vm_move_forget(vm, &why) == 0) {
			out_end(mv, 0, NULL, result);
			return;
		}
		mv->result = result;
		move_out_give(mv);
		return;
	}
	out_fail(mv, err != 0 ? err : -EIO, eb, result);
}

const struct vm_move_events move_out_events = {
	.progress = out_progress,
	.ready = out_ready,
	.ended = out_ended,
};

static int out_tls(const struct move_out *mv, struct tls_pem *pem, struct errbuf *eb)
{
	if (mv->plain) {
		*pem = (struct tls_pem){0};
		return 0;
	}
	pem->cert = json_string_value(json_object_get(mv->tls, "cert"));
	pem->key = json_string_value(json_object_get(mv->tls, "key"));
	pem->ca = json_string_value(json_object_get(mv->tls, "ca"));
	return pem->cert != NULL && pem->key != NULL && pem->ca != NULL
	               ? 0
	               : errbuf_set(eb, -EPROTO, "%s sent no credentials", mv->peer.name);
}

static void out_dialled(void *arg, int err, const int *fds, uint32_t count, const struct errbuf *eb)
{
	struct move_out *mv = arg;
	struct vm *vm = out_vm(mv);
	struct errbuf why = {0};
	struct vm_move_cfg cfg = {
		.move = mv->move,
		.peer = mv->peer,
		.options = mv->options,
		.fds = fds,
		.fd_count = count,
		.cluster = mv->cluster,
		.events = &move_out_events,
		.arg = mv,
	};

	mv->calling = false;
	if (mv->api->stopped) {
		return;
	}
	if (mv->cancelled) {
		out_cancelled(mv);
		return;
	}
	if (err == 0 && vm == NULL) {
		err = errbuf_set(&why, -ENOENT, "%s is gone", mv->vm_name);
		eb = &why;
	}
	if (err == 0) {
		(void)snprintf(cfg.token, sizeof(cfg.token), "%s", mv->token);
		err = out_tls(mv, &cfg.tls, &why);
		eb = &why;
	}
	if (err == 0) {
		mv->epoch_next = vm_epoch(vm) + 1;
		err = vm_move_send(vm, &cfg, &why);
		eb = &why;
	}
	if (err != 0) {
		out_fail(mv, err, eb, NULL);
		return;
	}
	mv->phase = MOVE_COPY;
}

/* ---- asking ---- */

static int out_answer(struct move_out *mv, json_t *answer, struct errbuf *eb)
{
	struct json_at at = json_root(answer, mv->peer.name);
	const char *token = NULL;
	uint64_t port = 0;
	int err = json_get_u64(&at, "port", 1, UINT16_MAX, &port, eb);

	if (err == 0) {
		err = json_get_str(&at, "token", VM_MOVE_TOKEN_HEX - 1, &token, eb);
	}
	if (err == 0) {
		(void)snprintf(mv->token, sizeof(mv->token), "%s", token);
		mv->tls = json_incref(json_object_get(answer, "tls"));
	}
	if (err == 0) {
		const struct peer_dial dial = {
			.node = mv->peer.name,
			.addr = mv->peer.addr,
			.port = (uint16_t)port,
			.count = mv->streams + 1,
			.timeout_ms = MOVE_DIAL_MS,
		};

		err = peer_dial(mv->api->cfg.peers, &dial, out_dialled, mv, eb);
	}
	return err;
}

/* What speaks against it is the result, also where it is why the job failed. */
static void out_checked(struct move_out *mv, json_t *answer)
{
	const json_t *report = json_object_get(answer, "report");
	json_int_t blockers = json_integer_value(json_object_get(report, "blockers"));
	struct errbuf eb = {0};
	int err = 0;

	if (blockers != 0) {
		err = errbuf_set(&eb, -EINVAL, "%s cannot run on %s: %" JSON_INTEGER_FORMAT " %s",
		                 mv->vm_name, mv->peer.name, blockers,
		                 blockers == 1 ? "thing is missing" : "things are missing");
	}
	out_end(mv, err, &eb, json_deep_copy(answer));
}

/* So that the destination can see whether it means the same disks. */
static int out_mark(struct move_out *mv, const struct vm *vm, json_t *body, struct errbuf *eb)
{
	json_t *marks = NULL;
	int err = move_disks_mark(vm_config_get(vm), &mv->move, &marks, eb);

	mv->marked = err == 0;
	if (err == 0 && json_object_update(body, marks) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "cannot move %s", mv->vm_name);
	}
	json_decref(marks);
	return err;
}

static void out_unmark(struct move_out *mv)
{
	const struct vm *vm = mv->marked ? out_vm(mv) : NULL;

	if (vm != NULL) {
		move_disks_unmark(vm_config_get(vm), &mv->move);
	}
	mv->marked = false;
}

static void out_asked(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct move_out *mv = arg;
	struct errbuf why = {0};

	mv->calling = false;
	if (mv->api->stopped) {
		return;
	}
	out_unmark(mv);
	if (mv->cancelled) {
		out_cancelled(mv);
		return;
	}
	if (err == -EAGAIN) {
		mv->phase = MOVE_QUEUED; /* too many at once there: the tick asks again */
		return;
	}
	if (err == 0 && mv->check) {
		out_checked(mv, answer);
		return;
	}
	if (err == 0) {
		mv->phase = MOVE_DIAL;
		err = out_answer(mv, answer, &why);
		mv->calling = err == 0;
		eb = &why;
	}
	if (err != 0) {
		struct errbuf said = *eb;

		errbuf_prepend(&said, "%s", mv->peer.name);
		out_fail(mv, err, &said, NULL);
	}
}

static void out_ask(struct move_out *mv)
{
	struct vm *vm = out_vm(mv);
	char id[GUID_TEXT_SIZE];
	struct errbuf eb = {0};
	json_t *body = NULL;
	int err;

	if (vm == NULL) {
		err = errbuf_set(&eb, -ENOENT, "%s is gone", mv->vm_name);
	} else {
		body = json_pack("{s:s,s:O,s:I,s:b,s:b,s:i}", "move", guid_format(&mv->move, id),
		                 "definition", vm_config_get(vm)->json, "epoch",
		                 (json_int_t)vm_epoch(vm), "plain", mv->plain, "check", mv->check,
		                 "port", (int)mv->api->cfg.port);
		err = body == NULL ? errbuf_sys(&eb, -ENOMEM, "cannot move %s", mv->vm_name)
		                   : out_mark(mv, vm, body, &eb);
	}
	/* Who does not know it as the cluster's must not take it for an ordinary one. */
	if (err == 0 && mv->cluster && json_object_set_new(body, "cluster", json_true()) != 0) {
		err = errbuf_sys(&eb, -ENOMEM, "cannot move %s", mv->vm_name);
	}
	if (err == 0) {
		err = out_call(mv, API_POST, "/v1/arrivals", body, MOVE_ASK_MS, out_asked, &eb);
	}
	json_decref(body);
	if (err != 0) {
		out_unmark(mv);
		out_fail(mv, err, &eb, NULL);
		return;
	}
	mv->asked = true;
	mv->calling = true;
	mv->phase = MOVE_ASK;
	out_detail(mv, 0, "asking", NULL);
}

/* Begin what is in line, as far as there is room. */
static void out_next(struct move_api *api)
{
	const struct move_cluster *cluster = api->cfg.cluster;
	struct move_how how = {.at_once = MOVE_OUT_MAX};
	uint32_t running = 0;

	if (cluster != NULL) {
		cluster->how(cluster->arg, NULL, &how);
	}
	list_for_each(at, &api->out)
	{
		running += list_entry(at, struct move_out, link)->phase > MOVE_QUEUED ? 1 : 0;
	}
	list_for_each_safe(at, &api->out)
	{
		struct move_out *mv = list_entry(at, struct move_out, link);

		if (running < how.at_once && mv->phase == MOVE_QUEUED && !mv->calling) {
			running++;
			out_ask(mv);
		}
	}
}

void move_out_tick(struct move_api *api)
{
	list_for_each_safe(at, &api->out)
	{
		struct move_out *mv = list_entry(at, struct move_out, link);

		if (mv->phase == MOVE_GIVE) {
			move_out_give(mv);
		}
	}
	out_next(api);
}

/* ---- requests ---- */

static int out_cancel(void *arg, struct errbuf *eb)
{
	struct move_out *mv = arg;
	struct vm *vm = out_vm(mv);

	if (mv->held) {
		return errbuf_set(eb, -EBUSY, "it is too late: the cluster decides about %s",
		                  mv->vm_name);
	}
	switch (mv->phase) {
	case MOVE_PLACE:
	case MOVE_QUEUED:
		out_cancelled(mv);
		return 0;
	case MOVE_ASK:
	case MOVE_DIAL:
		mv->cancelled = true; /* when the call under way is back */
		return 0;
	case MOVE_COPY:
		return vm != NULL ? vm_move_cancel(vm, eb) : -ENOENT;
	case MOVE_GIVE:
		break;
	}
	return errbuf_set(eb, -EBUSY, "it is too late: %s belongs to %s", mv->vm_name,
	                  mv->peer.name);
}

struct move_out *move_out_new(struct move_api *api, const struct vm *vm)
{
	struct move_out *mv = gw_calloc(1, sizeof(*mv));

	if (mv != NULL) {
		mv->api = api;
		(void)guid_format(&vm_config_get(vm)->id, mv->vm_id);
		(void)snprintf(mv->vm_name, sizeof(mv->vm_name), "%s", vm_config_get(vm)->name);
		list_add_tail(&api->out, &mv->link);
	}
	return mv;
}

/* Words that are there already, for what is not there yet. */
static int out_later(const struct json_at *at, struct errbuf *eb)
{
	static const char *const transports[] = {"tcp", "rdma", "smb"};
	const char *storage = "";
	size_t transport = 0;
	int err = json_opt_word(at, "transport", transports, ARRAY_LEN(transports), &transport, eb);

	err = err != 0 ? err : json_opt_str(at, "storage", PATH_MAX, &storage, eb);
	if (err == 0 && transport != 0) {
		err = errbuf_set(eb, -ENOTSUP, "moves over %s are not in this version yet",
		                 transport == 1 ? "RDMA" : "SMB");
		errbuf_hint(eb, "leave --transport out, or say tcp");
	} else if (err == 0 && storage[0] != '\0') {
		err = errbuf_set(eb, -ENOTSUP, "moving a VM's storage is not in this version yet");
		errbuf_hint(eb, "its disks must be on storage that both nodes share; leave "
		                "--storage out");
	}
	return err;
}

/* How long it may stand still, where nobody says it for this move. */
static uint64_t out_blackout(const struct move_out *mv, uint64_t preset_ns)
{
	const struct move_cluster *cluster = mv->api->cfg.cluster;
	struct move_how how = {0};

	if (cluster != NULL && cluster->owned(cluster->arg, mv->vm_name)) {
		cluster->how(cluster->arg, mv->vm_name, &how);
	}
	return how.blackout_max_ns != 0 ? how.blackout_max_ns : preset_ns;
}

/* Of a move that nobody asked for one by one. */
static json_t *out_unasked(const struct move_out *mv)
{
	const struct move_cluster *cluster = mv->api->cfg.cluster;
	struct move_how how = {0};

	cluster->how(cluster->arg, mv->vm_name, &how);
	return json_pack("{s:s,s:I}", "mode", how.quick ? "quick" : "live", "blackout_max_ns",
	                 (json_int_t)out_blackout(mv, MOVE_UNASKED_NS));
}

static int out_options(struct move_out *mv, const struct json_at *at, struct errbuf *eb)
{
	static const char *const known[] = {"to",       "addr",        "port",
	                                    "mode",     "streams",     "blackout_max_ns",
	                                    "compress", "plain",       "bandwidth_bytes_s",
	                                    "check",    "time_max_ns", "transport",
	                                    "storage"};
	static const char *const modes[] = {"live", "quick"};
	static const char *const packs[] = {"none", "lz4", "zstd"};
	const char *to = NULL;
	const char *addr = "";
	uint64_t port = API_TLS_PORT;
	uint64_t streams = MOVE_STREAMS_DEFAULT;
	uint64_t blackout = 0;
	uint64_t bandwidth = 0;
	uint64_t time_max = 0;
	size_t mode = 0;
	size_t pack = 0;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	err = err != 0 ? err : json_get_str(at, "to", VM_MOVE_PEER_MAX - 1, &to, eb);
	err = err != 0 ? err : json_opt_str(at, "addr", VM_MOVE_ADDR_MAX - 1, &addr, eb);
	err = err != 0 ? err : json_opt_u64(at, "port", 1, UINT16_MAX, &port, eb);
	err = err != 0 ? err : json_opt_u64(at, "streams", 1, MOVE_STREAMS_MAX, &streams, eb);
	err = err != 0 ? err : json_opt_u64(at, "blackout_max_ns", 1, INT64_MAX, &blackout, eb);
	err = err != 0 ? err : json_opt_u64(at, "time_max_ns", 0, INT64_MAX, &time_max, eb);
	err = err != 0 ? err : json_opt_u64(at, "bandwidth_bytes_s", 0, INT64_MAX, &bandwidth, eb);
	err = err != 0 ? err : json_opt_word(at, "mode", modes, ARRAY_LEN(modes), &mode, eb);
	err = err != 0 ? err : json_opt_word(at, "compress", packs, ARRAY_LEN(packs), &pack, eb);
	err = err != 0 ? err : json_opt_bool(at, "plain", &mv->plain, eb);
	err = err != 0 ? err : json_opt_bool(at, "check", &mv->check, eb);
	err = err != 0 ? err : out_later(at, eb);
	if (err != 0) {
		return err;
	}
	if (!tls_name_valid(to)) {
		return errbuf_set(eb, -EINVAL, "'%s' is no node's name", to);
	}
	(void)snprintf(mv->peer.name, sizeof(mv->peer.name), "%s", to);
	(void)snprintf(mv->peer.addr, sizeof(mv->peer.addr), "%s", addr);
	mv->peer.port = (uint16_t)port;
	mv->streams = (uint32_t)streams;
	blackout = blackout != 0 ? blackout : out_blackout(mv, MOVE_BLACKOUT_NS);
	mv->options =
		json_pack("{s:s,s:I,s:I,s:I,s:s}", "mode", modes[mode], "blackout_max_ns",
	                  (json_int_t)blackout, "time_max_ns", (json_int_t)time_max,
	                  "bandwidth_bytes_s", (json_int_t)bandwidth, "compress", packs[pack]);
	return mv->options != NULL ? 0 : errbuf_sys(eb, -ENOMEM, "cannot move the VM");
}

/* What can be said at once. */
static int out_possible(const struct move_out *mv, const struct vm *vm, struct errbuf *eb)
{
	const char *self = cert_api_node(mv->api->cfg.certs);
	struct move_out *other;

	if (self == NULL) {
		int err = errbuf_set(eb, -ENOTCONN,
		                     "this node has no certificate, no other node "
		                     "would trust it");

		errbuf_hint(eb, "godwit help cert init");
		return err;
	}
	if (strcmp(self, mv->peer.name) == 0) {
		return errbuf_set(eb, -EINVAL, "%s is on %s already", mv->vm_name, self);
	}
	list_for_each(at, &mv->api->out)
	{
		other = list_entry(at, struct move_out, link);
		if (other != mv && strcmp(other->vm_id, mv->vm_id) == 0) {
			return errbuf_set(eb, -EBUSY, "%s is being moved already", mv->vm_name);
		}
	}
	if (!mv->check && vm_state_get(vm) != VM_RUNNING) {
		int err = errbuf_set(eb, -EBUSY, "cannot move %s: it is %s", mv->vm_name,
		                     vm_state_name(vm_state_get(vm)));

		errbuf_hint(eb, "a VM that runs can be moved; --check works always");
		return err;
	}
	return 0;
}

/* A VM of the cluster: it has to agree first; then move_api_send() comes. */
static int out_place(struct move_out *mv, struct errbuf *eb)
{
	const struct move_cluster *cluster = mv->api->cfg.cluster;
	int err;

	if (cluster == NULL || !cluster->owned(cluster->arg, mv->vm_name)) {
		if (vm_is_owned(out_vm(mv))) {
			(void)errbuf_set(eb, -EPERM,
			                 "%s belongs to a cluster that this node cannot ask",
			                 mv->vm_name);
			errbuf_hint(eb, "godwit cluster status shows whether this node is in it");
			return -EPERM;
		}
		mv->phase = MOVE_QUEUED;
		return 0;
	}
	if (mv->check) {
		mv->phase = MOVE_QUEUED;
		return cluster->ask(cluster->arg, NULL, &mv->peer, eb);
	}
	err = cluster->ask(cluster->arg, mv->vm_name, &mv->peer, eb);
	mv->cluster = true;
	mv->place_by_ns = clock_now_ns() + MOVE_PLACE_NS;
	return err;
}

void move_api_send(struct move_api *api, struct vm *vm, const struct vm_move_peer *peer)
{
	const char *name = vm_config_get(vm)->name;
	struct move_out *mv = NULL;
	char object[160];
	char text[200];
	const struct job_cfg job = {
		.kind = "move", .object = object, .text = text, .cancel = out_cancel};
	struct job_cfg cfg = job;

	list_for_each(at, &api->out)
	{
		struct move_out *other = list_entry(at, struct move_out, link);

		if (strcmp(other->vm_name, name) == 0) {
			mv = other;
		}
	}
	if (mv == NULL && (mv = move_out_new(api, vm)) != NULL) {
		guid_random(&mv->move);
		mv->phase = MOVE_PLACE;
		mv->cluster = true;
		mv->streams = MOVE_STREAMS_DEFAULT;
		mv->options = out_unasked(mv);
		cfg.arg = mv;
		(void)snprintf(object, sizeof(object), "vm/%s", name);
		(void)snprintf(text, sizeof(text), "moving %s to %s", name, peer->name);
		if (job_new(api->cfg.jobs, &cfg, &mv->job, NULL) != 0) {
			mv->job = NULL; /* it is moved all the same */
		}
	}
	if (mv == NULL || mv->phase != MOVE_PLACE) {
		return; /* the agent is told when that one has ended */
	}
	mv->peer = *peer;
	mv->phase = MOVE_QUEUED;
	out_next(api);
}

static void out_look(struct move_out *mv)
{
	const struct move_cluster *cluster = mv->api->cfg.cluster;
	enum move_word word = cluster->leaves(cluster->arg, mv->vm_name);
	struct vm *vm = out_vm(mv);
	struct errbuf eb = {0};

	if (mv->phase == MOVE_PLACE) {
		if (clock_now_ns() > mv->place_by_ns) {
			(void)errbuf_set(&eb, -ETIMEDOUT, "the cluster did not agree to move %s",
			                 mv->vm_name);
			out_fail(mv, -ETIMEDOUT, &eb, NULL);
		}
	} else if (mv->held && vm != NULL && word != MOVE_WAIT) {
		mv->held = false;
		if (word == MOVE_STAY) {
			vm_move_refuse(vm, "the cluster's log says that it stays");
		} else if (vm_move_commit(vm, &eb) != 0) {
			/* It is not ours any more: nothing of it may run here. */
			log_err(TAG, "moved, not written down vm=%s reason=\"%s\"", mv->vm_name,
			        eb.text);
			vm_cut(vm);
		}
	} else if (!mv->held && word == MOVE_STAY && mv->phase < MOVE_GIVE && !mv->cancelled) {
		mv->cancelled = true;
		(void)out_cancel(mv, &eb);
	}
}

void move_out_look(struct move_api *api)
{
	list_for_each_safe(at, &api->out)
	{
		struct move_out *mv = list_entry(at, struct move_out, link);

		if (mv->cluster) {
			out_look(mv);
		}
	}
}

enum api_then move_out_request(struct api_req *req, void *arg)
{
	struct move_api *api = arg;
	struct vm *vm = manager_vm_find(api->cfg.manager, api_req_param(req, "name"));
	struct json_at at = json_root(api_req_body(req), "");
	struct errbuf eb = {0};
	struct move_out *mv;
	char object[160];
	char text[200];
	int err;

	if (vm == NULL && api->cfg.cluster != NULL &&
	    api->cfg.cluster->forward(api->cfg.cluster->arg, req, api_req_param(req, "name"))) {
		return API_LATER;
	}
	if (vm == NULL) {
		(void)errbuf_set(&eb, -ENOENT, "there is no VM named %s",
		                 api_req_param(req, "name"));
		errbuf_hint(&eb, "godwit vm list shows those there are");
		return api_reply_errno(req, -ENOENT, &eb);
	}
	mv = move_out_new(api, vm);
	if (mv == NULL) {
		return api_reply_errno(req, -ENOMEM, NULL);
	}
	guid_random(&mv->move);
	err = out_options(mv, &at, &eb);
	if (err == 0) {
		err = out_possible(mv, vm, &eb);
	}
	if (err == 0) {
		err = out_place(mv, &eb);
	}
	if (err == 0) {
		const struct job_cfg job = {.kind = mv->check ? "move-check" : "move",
		                            .object = object,
		                            .text = text,
		                            .cancel = out_cancel,
		                            .arg = mv};

		(void)snprintf(object, sizeof(object), "vm/%s", mv->vm_name);
		(void)snprintf(text, sizeof(text), "%s %s to %s", mv->check ? "could" : "moving",
		               mv->vm_name, mv->peer.name);
		err = job_new(api->cfg.jobs, &job, &mv->job, &eb);
	}
	if (err != 0) {
		out_free(mv);
		return api_reply_errno(req, err, &eb);
	}
	json_t *answer = job_json(mv->job);

	out_next(api);
	return api_reply(req, 202, answer);
}

/* What the destination asks: whose is it? */
enum api_then move_out_word(struct api_req *req, void *arg)
{
	struct move_api *api = arg;
	const char *id = api_req_query(req, "vm");
	struct vm *vm = id != NULL ? manager_vm_find(api->cfg.manager, id) : NULL;
	struct vm_move_info info;
	struct guid move;
	const char *word = "refused";
	uint64_t epoch = 0;

	if (!move_is_node(req)) {
		return API_ANSWERED;
	}
	if (guid_parse(api_req_param(req, "move"), &move) == 0 && vm != NULL &&
	    vm_move_info(vm, &info) && info.role == VM_MOVE_SOURCE &&
	    guid_equal(&info.move, &move)) {
		word = info.committed ? "committed" : "undecided";
		epoch = info.epoch;
	}
	return api_reply(req, 200,
	                 json_pack("{s:s,s:I}", "word", word, "epoch", (json_int_t)epoch));
}

void move_out_resume(struct move_api *api, struct vm *vm, const struct vm_move_info *info)
{
	struct errbuf eb = {0};
	char object[160];
	char text[200];
	const struct job_cfg job = {.kind = "move", .object = object, .text = text};

	/* What the destination needs to know it knows from the log. */
	if (vm_is_owned(vm) && vm_move_forget(vm, &eb) == 0) {
		return;
	}

	struct move_out *mv = move_out_new(api, vm);

	if (mv == NULL) {
		return; /* the next restart tries again */
	}
	mv->move = info->move;
	mv->peer = info->peer;
	mv->epoch_next = info->epoch;
	mv->asked = true;
	(void)snprintf(object, sizeof(object), "vm/%s", mv->vm_name);
	(void)snprintf(text, sizeof(text), "handing %s over to %s", mv->vm_name, mv->peer.name);
	if (job_new(api->cfg.jobs, &job, &mv->job, &eb) != 0) {
		mv->job = NULL;
	}
	vm_move_attach(vm, &move_out_events, mv);
	move_out_give(mv);
}

void move_out_stop(struct move_api *api)
{
	struct errbuf eb = {0};

	(void)errbuf_set(&eb, -ECANCELED, "the node service is stopping");
	list_for_each_safe(at, &api->out)
	{
		struct move_out *mv = list_entry(at, struct move_out, link);

		json_decref(mv->result);
		out_unmark(mv);
		out_end(mv, -ECANCELED, &eb, NULL);
	}
}
