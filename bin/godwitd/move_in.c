/* SPDX-License-Identifier: Apache-2.0 */

/* move_in - VMs that come: checked, received, taken or abandoned. */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/tls_pki.h"
#include "bin/godwitd/cert_api.h"
#include "bin/godwitd/move_check.h"
#include "bin/godwitd/move_int.h"
#include "bin/godwitd/peer.h"
#include "hv/manager/manager.h"
#include "migrate/compat/compat.h"

#define TAG "move-api"
#define MOVE_WORD_MS 5000u
#define MOVE_CERT_DAYS 1u

static struct vm *in_vm(const struct move_in *mv)
{
	return manager_vm_find(mv->api->cfg.manager, mv->vm_id);
}

static void in_unlisten(struct move_in *mv)
{
	loop_fd_del(mv->watch);
	mv->watch = NULL;
	if (mv->listen_fd >= 0) {
		(void)close(mv->listen_fd);
	}
	mv->listen_fd = -1;
}

static void in_free(struct move_in *mv)
{
	in_unlisten(mv);
	list_del(&mv->link);
	free(mv);
}

static struct move_in *in_find(struct move_api *api, const char *move)
{
	struct guid id;

	if (guid_parse(move, &id) != 0) {
		return NULL;
	}
	list_for_each(at, &api->in)
	{
		struct move_in *mv = list_entry(at, struct move_in, link);

		if (guid_equal(&mv->move, &id)) {
			return mv;
		}
	}
	return NULL;
}

/* ---- deciding ---- */

static int in_take(struct move_in *mv, uint64_t epoch, struct errbuf *eb)
{
	struct vm *vm = in_vm(mv);
	int err = vm != NULL ? vm_move_take(vm, epoch, eb)
	                     : errbuf_set(eb, -ENOENT, "the VM is gone");

	if (err == 0) {
		mv->decided = true;
		mv->wants_word = false;
		in_unlisten(mv);
	} else {
		log_err(TAG, "arrival not taken vm=%s reason=\"%s\"", mv->vm_id, eb->text);
	}
	return err;
}

/* It does not come. Frees @mv. Returns 0; -errno: it stays, and is tried again. */
static int in_abandon(struct move_in *mv, const char *why, struct errbuf *eb)
{
	struct vm *vm = in_vm(mv);
	int err = 0;

	if (vm != NULL && vm_state_get(vm) == VM_ARRIVING) {
		err = vm_move_abandon(vm, why, eb);
	}
	if (err != 0) {
		log_err(TAG, "arrival not undone vm=%s reason=\"%s\"", mv->vm_id, eb->text);
		return err;
	}
	if (mv->asking) {
		mv->decided = true; /* the call comes back here first */
		in_unlisten(mv);
	} else {
		in_free(mv);
	}
	return 0;
}

static void in_word(void *arg, int err, json_t *answer, const struct errbuf *eb)
{
	struct move_in *mv = arg;
	const char *word = json_string_value(json_object_get(answer, "word"));
	json_int_t epoch = json_integer_value(json_object_get(answer, "epoch"));
	struct errbuf why = {0};

	mv->asking = false;
	if (mv->api->stopped) {
		return;
	}
	if (mv->decided) {
		if (in_vm(mv) == NULL) {
			in_free(mv);
		}
		return;
	}
	if (err != 0 || word == NULL) {
		log_info(TAG, "%s does not say whose the VM is vm=%s reason=\"%s\"", mv->peer.name,
		         mv->vm_id, errbuf_text(eb, err));
	} else if (strcmp(word, "committed") == 0 && epoch > 0) {
		(void)in_take(mv, (uint64_t)epoch, &why);
	} else if (strcmp(word, "refused") == 0) {
		(void)in_abandon(mv, "the source has it", &why);
	}
}

/* Whose is it? The answer may take more than one question. */
static void in_ask(struct move_in *mv)
{
	char id[GUID_TEXT_SIZE];
	char *path;
	struct errbuf eb = {0};

	mv->wants_word = true;
	if (mv->cluster) {
		return; /* the log says it: move_in_look() */
	}
	path = api_path("/v1/departures/{move}?vm={vm}", guid_format(&mv->move, id), mv->vm_id);

	const struct peer_call call = {
		.node = mv->peer.name,
		.addr = mv->peer.addr,
		.port = mv->peer.port,
		.method = API_GET,
		.path = path,
		.timeout_ms = MOVE_WORD_MS,
	};

	if (!mv->asking && path != NULL) {
		mv->asking = peer_call(mv->api->cfg.peers, &call, in_word, mv, &eb) == 0;
	}
	free(path);
}

void move_in_tick(struct move_api *api)
{
	list_for_each_safe(at, &api->in)
	{
		struct move_in *mv = list_entry(at, struct move_in, link);
		struct vm *vm = in_vm(mv);

		if (mv->decided && !mv->asking && (vm == NULL || vm_state_get(vm) != VM_ARRIVING)) {
			in_free(mv);
		} else if (!mv->decided && mv->wants_word) {
			in_ask(mv);
		}
	}
}

void move_in_look(struct move_api *api)
{
	const struct move_cluster *cluster = api->cfg.cluster;

	list_for_each_safe(at, &api->in)
	{
		struct move_in *mv = list_entry(at, struct move_in, link);
		struct vm *vm = mv->cluster && !mv->decided ? in_vm(mv) : NULL;
		struct errbuf eb = {0};

		if (vm != NULL && vm_state_get(vm) == VM_ARRIVING &&
		    cluster->comes(cluster->arg, vm_config_get(vm)->name) == MOVE_STAY) {
			(void)in_abandon(mv, "the cluster's log says that it stays", &eb);
		}
	}
}

int move_api_take(struct move_api *api, const struct vm *vm, struct errbuf *eb)
{
	char id[GUID_TEXT_SIZE];

	(void)guid_format(&vm_config_get(vm)->id, id);
	list_for_each(at, &api->in)
	{
		struct move_in *mv = list_entry(at, struct move_in, link);

		if (!mv->decided && strcmp(mv->vm_id, id) == 0) {
			return in_take(mv, mv->epoch + 1, eb);
		}
	}
	return -ENOENT;
}

/* ---- what the worker says ---- */

static void in_progress(void *arg, json_t *message)
{
	(void)arg; /* the source shows it */
	(void)message;
}

static void in_committed(void *arg)
{
	struct move_in *mv = arg;
	struct errbuf eb = {0};

	(void)in_take(mv, mv->epoch + 1, &eb);
}

static void in_orphaned(void *arg)
{
	in_ask(arg);
}

static void in_ended(void *arg, int err, json_t *message, const struct errbuf *eb)
{
	struct move_in *mv = arg;

	(void)message;
	if (err != 0 && !mv->decided) {
		log_info(TAG, "arrival ended vm=%s reason=\"%s\"", mv->vm_id, errbuf_text(eb, err));
		in_unlisten(mv);
		in_ask(mv); /* the worker's end says nothing about whose the VM is */
	}
}

static const struct vm_move_events in_events = {
	.progress = in_progress,
	.committed = in_committed,
	.orphaned = in_orphaned,
	.ended = in_ended,
};

/* ---- getting ready ---- */

static void in_accept(int fd, uint32_t events, void *arg)
{
	struct move_in *mv = arg;
	struct vm *vm = in_vm(mv);
	int stream = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (stream < 0) {
		return;
	}
	/* Who it is, it must prove to the worker. */
	if (vm == NULL || vm_move_socket(vm, stream) != 0 ||
	    ++mv->accepted == VM_MOVE_SOCKETS_MAX) {
		in_unlisten(mv);
	}
	(void)close(stream);
}

static int in_listen(struct move_in *mv, uint16_t *port, struct errbuf *eb)
{
	struct sockaddr_in6 addr = {.sin6_family = AF_INET6};
	socklen_t len = sizeof(addr);
	int off = 0;
	int err = 0;

	mv->listen_fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (mv->listen_fd < 0 ||
	    setsockopt(mv->listen_fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 ||
	    bind(mv->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    listen(mv->listen_fd, (int)VM_MOVE_SOCKETS_MAX) != 0 ||
	    getsockname(mv->listen_fd, (struct sockaddr *)&addr, &len) != 0) {
		err = -errno;
	} else {
		*port = ntohs(addr.sin6_port);
		err = loop_fd_add(mv->api->cfg.loop, mv->listen_fd, LOOP_READ, in_accept, mv,
		                  &mv->watch);
	}
	return err != 0 ? errbuf_sys(eb, err, "cannot listen for a move") : 0;
}

/* One side's credentials, as JSON and as texts inside it. */
static json_t *in_credentials(const char *ca_pem, const char *ca_key, const char *node,
                              struct errbuf *eb)
{
	struct tls_issue issue = {
		.ca_cert_pem = ca_pem,
		.ca_key_pem = ca_key,
		.kind = TLS_KIND_NODE,
		.name = node,
		.days = MOVE_CERT_DAYS,
		.now_s = (int64_t)(clock_wall_ns() / NS_PER_S),
	};
	json_t *out = NULL;
	char *key = NULL;
	char *csr = NULL;
	char *pem = NULL;
	int err = tls_key_create(&key, eb);

	if (err == 0) {
		err = tls_csr_create(key, node, &csr, eb);
	}
	if (err == 0) {
		issue.csr_pem = csr;
		err = tls_cert_issue(&issue, &pem, eb);
	}
	if (err == 0) {
		out = json_pack("{s:s,s:s,s:s}", "cert", pem, "key", key, "ca", ca_pem);
	}
	tls_pem_free(pem);
	tls_pem_free(csr);
	tls_pem_free(key);
	return out;
}

static int in_token(char token[VM_MOVE_TOKEN_HEX])
{
	uint8_t bytes[(VM_MOVE_TOKEN_HEX - 1) / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
		return -EIO;
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		(void)snprintf(token + i * 2, 3, "%02x", bytes[i]);
	}
	return 0;
}

/* Both sides' credentials of a CA that is forgotten at once. */
static int in_tls(const struct move_in *mv, json_t **ours, json_t **theirs, struct errbuf *eb)
{
	char *ca_pem = NULL;
	char *ca_key = NULL;
	int err = tls_ca_create("move", MOVE_CERT_DAYS, (int64_t)(clock_wall_ns() / NS_PER_S),
	                        &ca_key, &ca_pem, eb);

	if (err == 0) {
		*ours = in_credentials(ca_pem, ca_key, cert_api_node(mv->api->cfg.certs), eb);
		*theirs = in_credentials(ca_pem, ca_key, mv->peer.name, eb);
		err = *ours == NULL || *theirs == NULL ? -ENOMEM : 0;
	}
	tls_pem_free(ca_key);
	tls_pem_free(ca_pem);
	return err;
}

/* The worker, its port, and what the source has to know. */
static int in_receive(struct move_in *mv, const json_t *definition, bool plain, json_t **answer,
                      struct errbuf *eb)
{
	struct vm_move_cfg cfg = {
		.move = mv->move,
		.peer = mv->peer,
		.epoch = mv->epoch,
		.cluster = mv->cluster,
		.events = &in_events,
		.arg = mv,
	};
	json_t *ours = NULL;
	json_t *theirs = NULL;
	struct vm *vm = NULL;
	uint16_t port = 0;
	int err = in_token(cfg.token);

	if (err == 0 && !plain) {
		err = in_tls(mv, &ours, &theirs, eb);
	}
	if (err == 0 && !plain) {
		cfg.tls.cert = json_string_value(json_object_get(ours, "cert"));
		cfg.tls.key = json_string_value(json_object_get(ours, "key"));
		cfg.tls.ca = json_string_value(json_object_get(ours, "ca"));
	}
	if (err == 0) {
		err = in_listen(mv, &port, eb);
	}
	if (err == 0) {
		err = manager_vm_receive(mv->api->cfg.manager, definition, &cfg, &vm, eb);
	}
	if (err == 0) {
		(void)guid_format(&vm_config_get(vm)->id, mv->vm_id);
		*answer = json_pack("{s:i,s:s}", "port", (int)port, "token", cfg.token);
		if (*answer != NULL && !plain) {
			(void)json_object_set(*answer, "tls", theirs);
		}
	}
	json_decref(ours);
	json_decref(theirs);
	return err;
}

static int in_read(struct move_in *mv, const struct json_at *at, bool *plain, bool *check,
                   struct errbuf *eb)
{
	static const char *const known[] = {"move",  "definition", "epoch", "plain",
	                                    "check", "port",       "disks", "cluster"};
	const char *move = NULL;
	uint64_t port = 0;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	err = err != 0 ? err : json_get_str(at, "move", GUID_TEXT_SIZE, &move, eb);
	err = err != 0 ? err : json_get_u64(at, "epoch", 1, INT64_MAX - 1, &mv->epoch, eb);
	err = err != 0 ? err : json_get_u64(at, "port", 0, UINT16_MAX, &port, eb);
	err = err != 0 ? err : json_opt_bool(at, "plain", plain, eb);
	err = err != 0 ? err : json_opt_bool(at, "check", check, eb);
	err = err != 0 ? err : json_opt_bool(at, "cluster", &mv->cluster, eb);
	if (err == 0 && guid_parse(move, &mv->move) != 0) {
		err = errbuf_set(eb, -EINVAL, "'%s' is no id of a move", move);
	}
	mv->peer.port = (uint16_t)port;
	return err;
}

/* All that speaks against it at once: then -EINVAL. *@report: a new reference, or NULL. */
static int in_check(const struct move_in *mv, const json_t *body, json_t **report,
                    struct errbuf *eb)
{
	struct compat *found = gw_calloc(1, sizeof(*found));
	char line[ERRBUF_TEXT_MAX];
	char *text = NULL;
	size_t len = 0;
	int err = found == NULL ? -ENOMEM : 0;

	if (err == 0) {
		move_check(mv->api->cfg.manager, mv->api->cfg.switches,
		           json_object_get(body, "definition"), &mv->move, body, found);
		err = compat_encode(found, &text, &len);
	}
	if (err == 0) {
		err = json_parse(text, len, NULL, report, eb);
	}
	if (err == 0 && !compat_movable(found)) {
		err = errbuf_set(eb, -EINVAL, "%s", compat_summary(found, line, sizeof(line)));
		if (found->count != 0) {
			errbuf_hint(eb, "%s", found->items[0].hint);
		}
	}
	free(text);
	free(found);
	return err;
}

static uint32_t in_count(const struct move_api *api)
{
	uint32_t count = 0;

	list_for_each(at, &api->in)
	{
		count += list_entry(at, struct move_in, link)->decided ? 0 : 1;
	}
	return count;
}

/* A VM of the cluster comes when the log says so, and is guarded from its first moment on. */
static int in_expect(struct move_in *mv, const json_t *body, struct errbuf *eb)
{
	const struct move_cluster *cluster = mv->api->cfg.cluster;
	const char *name =
		json_string_value(json_object_get(json_object_get(body, "definition"), "name"));
	bool said = mv->cluster;

	mv->cluster = cluster != NULL && name != NULL && cluster->owned(cluster->arg, name);
	if (said && !mv->cluster) {
		return errbuf_set(eb, -EAGAIN, "%s is not known here as the cluster's yet",
		                  name != NULL ? name : "a VM");
	}
	return mv->cluster ? cluster->expect(cluster->arg, name, eb) : 0;
}

/* Its worker is there. */
static int in_arriving(struct move_in *mv, struct errbuf *eb)
{
	const struct move_cluster *cluster = mv->api->cfg.cluster;
	struct errbuf why = {0};
	int err = mv->cluster ? cluster->arriving(cluster->arg, in_vm(mv)) : 0;

	if (err != 0) {
		(void)errbuf_sys(eb, err, "the VM cannot be guarded");
		(void)!vm_move_abandon(in_vm(mv), eb->text, &why); /* else it stays, arriving */
	}
	return err;
}

enum api_then move_in_request(struct api_req *req, void *arg)
{
	struct move_api *api = arg;
	struct json_at at = json_root(api_req_body(req), "");
	struct errbuf eb = {0};
	struct move_in *mv;
	json_t *report = NULL;
	json_t *answer = NULL;
	bool plain = false;
	bool check = false;
	int err;

	if (!move_is_node(req)) {
		return API_ANSWERED;
	}
	mv = gw_calloc(1, sizeof(*mv));
	if (mv == NULL) {
		return api_reply_errno(req, -ENOMEM, NULL);
	}
	mv->api = api;
	mv->listen_fd = -1;
	(void)snprintf(mv->peer.name, sizeof(mv->peer.name), "%s", api_req_peer(req)->name);
	(void)snprintf(mv->peer.addr, sizeof(mv->peer.addr), "%s", api_req_peer(req)->addr);
	err = in_read(mv, &at, &plain, &check, &eb);
	list_add_tail(&api->in, &mv->link);
	/* Before anything of it is looked at: that takes time. */
	if (err == 0 && !check && in_count(api) > MOVE_IN_MAX) {
		err = errbuf_set(&eb, -EAGAIN, "%u VMs are arriving already", MOVE_IN_MAX);
	}
	if (err == 0) {
		err = in_check(mv, at.value, &report, &eb);
	}
	if (check && report != NULL) {
		in_free(mv); /* what was asked for is the report, whatever it says */
		return api_reply(req, 200, json_pack("{s:o}", "report", report));
	}
	json_decref(report);
	if (err == 0) {
		err = in_expect(mv, at.value, &eb);
	}
	if (err == 0) {
		err = in_receive(mv, json_object_get(at.value, "definition"), plain, &answer, &eb);
	}
	if (err == 0) {
		err = in_arriving(mv, &eb);
	}
	if (err != 0) {
		in_free(mv);
		json_decref(answer);
		return api_reply_errno(req, err, &eb);
	}
	return api_reply(req, 201, answer);
}

/* ---- the source's word, by its service ---- */

enum api_then move_in_commit(struct api_req *req, void *arg)
{
	struct move_api *api = arg;
	struct move_in *mv = in_find(api, api_req_param(req, "move"));
	struct json_at at = json_root(api_req_body(req), "");
	const char *id = NULL;
	struct errbuf eb = {0};
	uint64_t epoch = 0;
	struct guid vm;
	int err;

	if (!move_is_node(req)) {
		return API_ANSWERED;
	}
	err = json_get_u64(&at, "epoch", 1, INT64_MAX, &epoch, &eb);
	err = err != 0 ? err : json_get_str(&at, "vm", GUID_TEXT_SIZE, &id, &eb);
	if (err == 0 && mv != NULL && strcmp(mv->peer.name, api_req_peer(req)->name) != 0) {
		err = errbuf_set(&eb, -EACCES, "this move is not from %s", api_req_peer(req)->name);
	}
	if (err == 0 && mv != NULL) {
		err = in_take(mv, epoch, &eb);
	} else if (err == 0 &&
	           (guid_parse(id, &vm) != 0 || vm_epoch_known(api->cfg.manager, &vm) < epoch)) {
		err = errbuf_set(&eb, -ENOENT, "no such VM has arrived");
	}
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 200, json_object());
}

enum api_then move_in_drop(struct api_req *req, void *arg)
{
	struct move_in *mv = in_find(arg, api_req_param(req, "move"));
	struct errbuf eb = {0};
	int err = 0;

	if (!move_is_node(req)) {
		return API_ANSWERED;
	}
	if (mv == NULL) {
		return api_reply(req, 204, NULL);
	}
	if (strcmp(mv->peer.name, api_req_peer(req)->name) != 0) {
		err = errbuf_set(&eb, -EACCES, "this move is not from %s", api_req_peer(req)->name);
	} else if (mv->decided) {
		err = errbuf_set(&eb, -EBUSY, "the VM has arrived");
	} else {
		err = in_abandon(mv, "the source keeps it", &eb);
	}
	return err != 0 ? api_reply_errno(req, err, &eb) : api_reply(req, 204, NULL);
}

/* ---- after a restart ---- */

void move_in_resume(struct move_api *api, struct vm *vm, const struct vm_move_info *info)
{
	struct move_in *mv = gw_calloc(1, sizeof(*mv));

	if (mv == NULL) {
		return; /* the next restart tries again */
	}
	mv->api = api;
	mv->listen_fd = -1;
	mv->move = info->move;
	mv->peer = info->peer;
	mv->epoch = info->epoch;
	(void)guid_format(&vm_config_get(vm)->id, mv->vm_id);
	mv->cluster = api->cfg.cluster != NULL && vm_is_owned(vm); /* the log decides */
	list_add_tail(&api->in, &mv->link);
	vm_move_attach(vm, &in_events, mv);
	in_ask(mv);
}

void move_in_stop(struct move_api *api)
{
	list_for_each_safe(at, &api->in)
	{
		in_free(list_entry(at, struct move_in, link));
	}
}
