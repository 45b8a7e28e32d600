/* SPDX-License-Identifier: Apache-2.0 */

/* server_req - a request from its headers to its handler. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/api/server_int.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"

#define API_BODY_FIRST_BYTES 4096u

/* ---- life ---- */

static struct api_req *api_req_create(struct api_server *server, struct api_conn *conn,
                                      struct MHD_Connection *mhd)
{
	struct api_req *req = gw_calloc(1, sizeof(*req));

	if (req != NULL) {
		req->server = server;
		req->conn = conn;
		req->mhd = mhd;
		req->peer = conn->peer;
		server->req_count++;
	}
	return req;
}

/* The body's memory counts against all clients together only while it is needed. */
static void api_req_drop_body(struct api_req *req)
{
	req->server->body_bytes -= req->body_size;
	free(req->body);
	req->body = NULL;
	req->body_len = 0;
	req->body_size = 0;
}

void api_req_destroy(struct api_req *req)
{
	CHECK(req->mhd == NULL && (req->answered || !req->held));
	api_req_drop_body(req);
	if (req->response != NULL) {
		MHD_destroy_response(req->response);
	}
	json_decref(req->json);
	free(req->query_text);
	req->server->req_count--;
	free(req);
}

/* In place of a handler. @error->hint and so on as in api_error. */
static void api_req_refuse(struct api_req *req, const struct api_error *error)
{
	req->answered = true;
	req->status = error->status;
	req->response = api_response_error(error);
}

static const char *api_req_header(const struct api_req *req, const char *name)
{
	return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

/* ---- headers ---- */

/* HEAD is GET whose body libmicrohttpd keeps to itself. */
static int api_method_parse(const char *word, enum api_method *out)
{
	if (strcmp(word, "HEAD") == 0) {
		*out = API_GET;
		return 0;
	}
	for (int m = 0; m < API_METHOD_COUNT; m++) {
		if (strcmp(word, api_method_name((enum api_method)m)) == 0) {
			*out = (enum api_method)m;
			return 0;
		}
	}
	return -EINVAL;
}

static bool api_req_has_body(const struct api_req *req)
{
	const char *length = api_req_header(req, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return api_req_header(req, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
	       (length != NULL && strspn(length, "0") != strlen(length));
}

static enum MHD_Result api_count_lengths(void *cls, enum MHD_ValueKind kind, const char *name,
                                         const char *value)
{
	unsigned *count = cls;

	(void)kind;
	(void)value;
	*count += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
	return MHD_YES;
}

/* Two lengths, or a length and chunks: what is the body for one reader is a request for another. */
static bool api_req_is_ambiguous(const struct api_req *req)
{
	unsigned lengths = 0;

	(void)MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, api_count_lengths, &lengths);
	return lengths > 1 ||
	       (lengths == 1 && api_req_header(req, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL);
}

static bool api_req_says_too_much(const struct api_req *req)
{
	const char *length = api_req_header(req, MHD_HTTP_HEADER_CONTENT_LENGTH);

	/* libmicrohttpd has checked that it is a number. */
	return length != NULL && strtoull(length, NULL, 10) > req->server->cfg.body_bytes_max;
}

/* "application/json", perhaps followed by parameters. */
static bool api_req_is_json(const struct api_req *req)
{
	static const char json[] = "application/json";
	const char *type = api_req_header(req, MHD_HTTP_HEADER_CONTENT_TYPE);

	return type != NULL && strncasecmp(type, json, sizeof(json) - 1) == 0 &&
	       strchr(" \t;", type[sizeof(json) - 1]) != NULL;
}

/*
 * A browser that shows a foreign page may send requests here with the user's certificate. It says
 * where the page is from: Origin must be this very server.
 */
static bool api_req_is_foreign(const struct api_req *req)
{
	static const char scheme[] = "https://";
	const char *origin = api_req_header(req, MHD_HTTP_HEADER_ORIGIN);
	const char *host = api_req_header(req, MHD_HTTP_HEADER_HOST);

	return origin != NULL &&
	       (host == NULL || strncmp(origin, scheme, sizeof(scheme) - 1) != 0 ||
	        strcasecmp(origin + sizeof(scheme) - 1, host) != 0);
}

struct api_query_walk {
	struct api_req *req;
	size_t bytes;
	int err;
};

static enum MHD_Result api_query_measure(void *cls, enum MHD_ValueKind kind, const char *name,
                                         const char *value)
{
	struct api_query_walk *walk = cls;

	(void)kind;
	walk->bytes += strlen(name) + 1 + (value != NULL ? strlen(value) : 0) + 1;
	walk->req->query_count++;
	return MHD_YES;
}

/* Append a decoded copy of @text. NULL = malformed. */
static const char *api_query_copy(struct api_query_walk *walk, const char *text)
{
	char *copy = walk->req->query_text + walk->bytes;

	memcpy(copy, text, strlen(text) + 1);

	int len = api_percent_decode(copy);

	if (len < 0 || !api_text_valid(copy, (size_t)len)) {
		walk->err = -EINVAL;
		return NULL;
	}
	walk->bytes += (size_t)len + 1;
	return copy;
}

static enum MHD_Result api_query_take(void *cls, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
	struct api_query_walk *walk = cls;
	struct api_pair *pair = &walk->req->query[walk->req->query_count];

	(void)kind;
	pair->name = api_query_copy(walk, name);
	pair->value = api_query_copy(walk, value != NULL ? value : "");
	walk->req->query_count++;
	return walk->err == 0 ? MHD_YES : MHD_NO;
}

/* Returns 0; -EINVAL malformed; -E2BIG too many; -ENOMEM. */
static int api_req_take_query(struct api_req *req)
{
	struct api_query_walk walk = {.req = req};

	(void)MHD_get_connection_values(req->mhd, MHD_GET_ARGUMENT_KIND, api_query_measure, &walk);
	if (req->query_count == 0) {
		return 0;
	}
	if (req->query_count > API_QUERY_MAX) {
		req->query_count = 0;
		return -E2BIG;
	}
	req->query_count = 0;
	req->query_text = gw_malloc(walk.bytes);
	if (req->query_text == NULL) {
		return -ENOMEM;
	}
	walk.bytes = 0;
	(void)MHD_get_connection_values(req->mhd, MHD_GET_ARGUMENT_KIND, api_query_take, &walk);
	return walk.err;
}

/* 404 or 405. */
static void api_req_refuse_path(struct api_req *req, const char *method, const char *url)
{
	char allowed[64];
	struct errbuf eb = {0};

	if (req->match.allowed == 0) {
		(void)errbuf_set(&eb, -ENOENT, "%s: no such path", url);
		api_req_refuse(req, &(struct api_error){
					    .status = MHD_HTTP_NOT_FOUND,
					    .code = "no-such-path",
					    .message = eb.text,
					    .hint = "see docs/formats/api.md for the paths; client "
						    "and server may be of different versions"});
		return;
	}
	api_route_allowed(req->match.allowed, allowed, sizeof(allowed));
	(void)errbuf_set(&eb, -EINVAL, "%s: not with %.16s", url, method);
	errbuf_hint(&eb, "use %s", allowed);
	api_req_refuse(req, &(struct api_error){.status = MHD_HTTP_METHOD_NOT_ALLOWED,
	                                        .code = "bad-method",
	                                        .message = eb.text,
	                                        .hint = eb.hint});
	api_response_header(req->response, MHD_HTTP_HEADER_ALLOW, allowed);
}

static bool api_req_is_expelled(const struct api_req *req)
{
	const struct api_server *server = req->server;

	return !req->peer.local && server->guard != NULL &&
	       !server->guard(&req->peer, server->guard_arg);
}

/* What the connection, the path and the query say. Sets req->answered to refuse. */
static void api_req_check_path(struct api_req *req, const char *method, const char *url)
{
	const struct api_server *server = req->server;
	struct api_error error = {.status = MHD_HTTP_BAD_REQUEST, .code = "invalid"};
	bool known = api_method_parse(method, &req->method) == 0;
	int err = 0;

	if (req->conn->admit == API_DENIED) {
		error = (struct api_error){.status = MHD_HTTP_FORBIDDEN,
		                           .code = "denied",
		                           .message = "you may not use this service",
		                           .reason = "your user is in none of the allowed groups",
		                           .hint = "become root, or join the group that the "
		                                   "service's socket belongs to"};
	} else if (req->conn->admit == API_CROWDED) {
		error = (struct api_error){.status = MHD_HTTP_SERVICE_UNAVAILABLE,
		                           .code = "crowded",
		                           .message = "too many connections",
		                           .hint = "close some, or try again"};
	} else if (api_req_is_expelled(req)) {
		error = (struct api_error){.status = MHD_HTTP_FORBIDDEN,
		                           .code = "denied",
		                           .message = "your certificate is no longer accepted",
		                           .reason = "it is not that of a node of the cluster",
		                           .hint = "was this node evicted? see: godwit cluster "
		                                   "status, on a node of the cluster"};
	} else if (api_req_is_foreign(req)) {
		error = (struct api_error){.status = MHD_HTTP_FORBIDDEN,
		                           .code = "denied",
		                           .message = "request from another site's page",
		                           .reason = "Origin is not this server"};
	} else if (api_route_find(server->tables, server->table_count,
	                          known ? req->method : API_METHOD_COUNT, url, &req->match) != 0) {
		error.message = "malformed path";
		error.hint = "percent-encode values, as UTF-8 and without control characters";
	} else if (req->match.route == NULL) {
		api_req_refuse_path(req, method, url);
		return;
	} else if ((err = api_req_take_query(req)) != 0) {
		api_error_from(&error, err, NULL);
		error.message = err == -ENOMEM ? "out of memory" : "malformed query";
	} else {
		return;
	}
	api_req_refuse(req, &error);
}

static void api_req_check_body(struct api_req *req)
{
	if (api_req_header(req, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL) {
		/* libmicrohttpd 0.9.75 spins on a chunk's head that is longer than its buffer; and
		 * a body in chunks is too large only when it has come. Nobody needs them here. */
		api_req_refuse(req, &(struct api_error){
					    .status = MHD_HTTP_LENGTH_REQUIRED,
					    .code = "length-required",
					    .message = "the request body must not come in chunks",
					    .hint = "send the header Content-Length"});
	} else if (api_req_says_too_much(req)) {
		api_req_refuse(req,
		               &(struct api_error){.status = MHD_HTTP_CONTENT_TOO_LARGE,
		                                   .code = "too-large",
		                                   .message = "the request body is too large"});
	} else if (!api_req_is_json(req)) {
		api_req_refuse(req, &(struct api_error){.status = MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
		                                        .code = "bad-type",
		                                        .message = "the request body must be JSON",
		                                        .hint = "send the header Content-Type: "
		                                                "application/json"});
	}
}

/* ---- body ---- */

/* Room for @more bytes; false = no. */
static bool api_req_grow(struct api_req *req, size_t more)
{
	struct api_server *server = req->server;
	size_t need = req->body_len + more;
	size_t size = req->body_size != 0 ? req->body_size : API_BODY_FIRST_BYTES;

	if (need > server->cfg.body_bytes_max) {
		return false;
	}
	while (size < need) {
		size *= 2;
	}
	if (size == req->body_size) {
		return true;
	}
	if (server->body_bytes + size - req->body_size > API_BODY_TOTAL_MAX) {
		return false;
	}

	char *body = gw_realloc_array(req->body, size, 1);

	if (body == NULL) {
		return false;
	}
	server->body_bytes += size - req->body_size;
	req->body = body;
	req->body_size = size;
	return true;
}

static void api_req_take_body(struct api_req *req, const char *upload, size_t len)
{
	if (req->body_refused) {
		return;
	}
	if (!api_req_grow(req, len)) {
		/* libmicrohttpd takes an answer only after the last byte: read on, which the length
		 * and the request's deadline bound. */
		req->body_refused = true;
		api_req_drop_body(req);
		api_req_refuse(req, &(struct api_error){.status = MHD_HTTP_SERVICE_UNAVAILABLE,
		                                        .code = "crowded",
		                                        .message = "no memory for the request",
		                                        .hint = "try again"});
		return;
	}
	memcpy(req->body + req->body_len, upload, len);
	req->body_len += len;
}

static void api_req_parse_body(struct api_req *req)
{
	struct errbuf eb = {0};

	if (req->body_len == 0) {
		return;
	}

	int err = json_parse(req->body, req->body_len, NULL, &req->json, &eb);

	api_req_drop_body(req);
	if (err == 0 && !json_is_object(req->json)) {
		err = errbuf_set(&eb, -EINVAL, "the request body must be a JSON object");
	}
	if (err != 0) {
		struct api_error error;

		api_error_from(&error, err == -ENOMEM ? -ENOMEM : -EINVAL, &eb);
		error.code = err == -ENOMEM ? error.code : "bad-json";
		api_req_refuse(req, &error);
	}
}

/* ---- dispatch ---- */

/* Give libmicrohttpd the answer. */
static enum MHD_Result api_req_send(struct api_req *req)
{
	struct MHD_Response *response = req->response;
	enum MHD_Result result = MHD_NO;

	req->response = NULL;
	if (response != NULL) {
		result = MHD_queue_response(req->mhd, req->status, response);
		MHD_destroy_response(response);
	}
	return result;
}

static enum MHD_Result api_req_dispatch(struct api_req *req)
{
	enum api_then then = API_ANSWERED;

	req->conn->deadline_ns = 0; /* from here on it is our turn */
	if (!req->answered) {
		api_req_parse_body(req);
	}
	if (!req->answered) {
		req->held = true;
		then = req->match.route->handler(req, req->match.arg);
	}
	if (req->answered) {
		return api_req_send(req);
	}
	CHECK(then == API_LATER);
	api_conn_suspend(req->conn);
	return MHD_YES;
}

/* NOLINTBEGIN(bugprone-easily-swappable-parameters): the type is libmicrohttpd's. */
enum MHD_Result api_req_access(void *cls, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_len, void **req_cls)
/* NOLINTEND(bugprone-easily-swappable-parameters) */
{
	struct api_server *server = cls;
	struct api_req *req = *req_cls;

	(void)version;
	if (req == NULL) { /* headers are complete */
		struct api_conn *conn =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
				->socket_context;

		req = api_req_create(server, conn, mhd);
		if (req == NULL) {
			return MHD_NO;
		}
		conn->req = req;
		*req_cls = req;

		bool ambiguous = api_req_is_ambiguous(req);
		bool has_body = ambiguous || api_req_has_body(req);

		if (ambiguous) {
			api_req_refuse(req,
			               &(struct api_error){.status = MHD_HTTP_BAD_REQUEST,
			                                   .code = "malformed",
			                                   .message = "two lengths of a body"});
		} else {
			api_req_check_path(req, method, url);
		}
		if (!req->answered && has_body) {
			api_req_check_body(req);
		}
		/* Answering now ends the connection after the answer, so only instead of a body. */
		return req->answered && has_body ? api_req_send(req) : MHD_YES;
	}
	if (*upload_len != 0) {
		api_req_take_body(req, upload, *upload_len);
		*upload_len = 0;
		return MHD_YES;
	}
	if (req->held) { /* resumed */
		return req->answered && !req->conn->dead ? api_req_send(req) : MHD_NO;
	}
	if (!req->settled) {
		/*
		 * Not now but with its next call, which follows at once: until this one returns it
		 * means to read more from the socket, and would do so first when a suspended
		 * connection is resumed. The end of input of a client that has only finished
		 * sending would then count as a hang-up.
		 */
		req->settled = true;
		return MHD_YES;
	}
	return api_req_dispatch(req);
}

void api_req_completed(void *cls, struct MHD_Connection *mhd, void **req_cls,
                       enum MHD_RequestTerminationCode how)
{
	struct api_server *server = cls;
	struct api_req *req = *req_cls;

	(void)mhd;
	(void)how;
	if (req == NULL) { /* it did not get as far as its headers */
		return;
	}
	*req_cls = NULL;
	req->conn->req = NULL;
	req->conn->deadline_ns = clock_now_ns() + server->cfg.idle_s * NS_PER_S;
	api_conn_nudge(req->conn);
	req->conn = NULL;
	req->mhd = NULL;
	if (req->stream != NULL) {
		struct api_stream *stream = req->stream;

		req->stream = NULL;
		api_stream_gone(stream);
	}
	if (req->upgraded != NULL) {
		api_upgraded_fn fn = req->upgraded;

		req->upgraded = NULL;
		fn(-1, NULL, 0, req->upgraded_arg);
	}
	if (req->answered || !req->held) {
		api_req_destroy(req);
	} else if (req->gone_fn != NULL) {
		req->gone_fn(req->gone_arg); /* may answer, which frees the request */
	}
}

/* ---- what handlers ask ---- */

enum api_method api_req_method(const struct api_req *req)
{
	return req->method;
}

const char *api_req_param(const struct api_req *req, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < req->match.param_count; i++) {
		const char *braced = req->match.params[i].name;

		if (strncmp(braced + 1, name, len) == 0 && braced[1 + len] == '}') {
			return req->match.params[i].value;
		}
	}
	check_failed("the route has this parameter", __FILE__, __LINE__);
}

const char *api_req_query(const struct api_req *req, const char *name)
{
	for (size_t i = 0; i < req->query_count; i++) {
		if (strcmp(req->query[i].name, name) == 0) {
			return req->query[i].value;
		}
	}
	return NULL;
}

const struct json_t *api_req_body(const struct api_req *req)
{
	return req->json;
}

const struct api_peer *api_req_peer(const struct api_req *req)
{
	return &req->peer;
}

void api_req_on_gone(struct api_req *req, void (*fn)(void *arg), void *arg)
{
	req->gone_fn = fn;
	req->gone_arg = arg;
}
