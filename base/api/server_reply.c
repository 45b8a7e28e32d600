/* SPDX-License-Identifier: Apache-2.0 */

/* server_reply - answers: JSON, errors, bytes, and handing the connection over. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/api/server_int.h"
#include "base/check.h"
#include "base/json.h"

/* For the moment when there is no memory for anything else. */
static const char api_no_memory[] =
	"{\"error\":{\"code\":\"no-memory\",\"message\":\"the service has no memory left\","
	"\"reason\":\"\",\"hint\":\"try again\"}}\n";

void api_response_header(struct MHD_Response *response, const char *name, const char *value)
{
	if (response != NULL) {
		(void)MHD_add_response_header(response, name, value);
	}
}

static struct MHD_Response *api_response_finish(struct MHD_Response *response, const char *type)
{
	api_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	api_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	api_response_header(response, "X-Content-Type-Options", "nosniff");
	return response;
}

static struct MHD_Response *api_response_no_memory(void)
{
	/* The buffer is not written to: the type is libmicrohttpd's. */
	union {
		const char *in;
		char *out;
	} text = {.in = api_no_memory};

	return api_response_finish(MHD_create_response_from_buffer(sizeof(api_no_memory) - 1,
	                                                           text.out,
	                                                           MHD_RESPMEM_PERSISTENT),
	                           "application/json");
}

/* Takes @value; NULL = no memory. Returns NULL for lack of memory. */
static struct MHD_Response *api_response_json(json_t *value)
{
	char *text = value != NULL ? json_text(value, 0) : NULL;
	struct MHD_Response *response = NULL;

	json_decref(value);
	if (text == NULL) {
		return NULL;
	}

	size_t len = strlen(text);

	text[len] = '\n'; /* in place of the NUL: a person may look at it with curl */
	response = MHD_create_response_from_buffer(len + 1, text, MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		free(text);
	}
	return api_response_finish(response, "application/json");
}

struct MHD_Response *api_response_error(const struct api_error *error)
{
	struct MHD_Response *response = api_response_json(api_error_json(error));

	if (response == NULL) {
		response = api_response_no_memory();
	}
	if (error->status == MHD_HTTP_SERVICE_UNAVAILABLE) {
		api_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
	}
	return response;
}

void api_req_answer(struct api_req *req, unsigned status, struct MHD_Response *response)
{
	CHECK(req->held && !req->answered);
	req->answered = true;
	req->status = status;
	req->response = response;
	req->gone_fn = NULL;
	if (req->mhd == NULL) {
		api_req_destroy(req); /* nobody waits for it any more */
	} else {
		/* Not suspended: the handler runs, and api_req_dispatch() goes on after it. */
		api_conn_resume(req->conn);
	}
}

enum api_then api_reply(struct api_req *req, unsigned status, struct json_t *body)
{
	struct MHD_Response *response = NULL;

	if (status == MHD_HTTP_NO_CONTENT && body == NULL) {
		response = api_response_finish(
			MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT),
			"application/json");
	} else {
		response = api_response_json(body);
		if (response == NULL) {
			status = MHD_HTTP_SERVICE_UNAVAILABLE;
			response = api_response_no_memory();
		}
	}
	api_req_answer(req, status, response);
	return API_ANSWERED;
}

enum api_then api_reply_errno(struct api_req *req, int err, const struct errbuf *eb)
{
	struct api_error error;

	api_error_from(&error, err, eb);
	return api_reply_error(req, &error);
}

enum api_then api_reply_error(struct api_req *req, const struct api_error *error)
{
	CHECK(error->status >= 400 && error->status <= 599);
	api_req_answer(req, error->status, api_response_error(error));
	return API_ANSWERED;
}

enum api_then api_reply_bytes(struct api_req *req, const char *type, const void *buf, size_t len)
{
	union {
		const void *in;
		void *out;
	} data = {.in = buf}; /* copied: the type is libmicrohttpd's */
	struct MHD_Response *response =
		MHD_create_response_from_buffer(len, data.out, MHD_RESPMEM_MUST_COPY);
	unsigned status = MHD_HTTP_OK;

	if (response != NULL) {
		(void)api_response_finish(response, type);
	} else {
		status = MHD_HTTP_SERVICE_UNAVAILABLE;
		response = api_response_no_memory();
	}
	api_req_answer(req, status, response);
	return API_ANSWERED;
}

/* ---- upgrade ---- */

/*
 * libmicrohttpd keeps the socket until it is told that we are done. We duplicate it and are done
 * at once: the new owner has a descriptor like any other, which it may watch, close or pass on.
 */
static void api_upgraded(void *cls, struct MHD_Connection *mhd, void *req_cls, const char *early,
                         size_t early_len, MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
	struct api_req *req = req_cls;
	api_upgraded_fn fn = req->upgraded;
	int fd = fcntl(sock, F_DUPFD_CLOEXEC, 3);

	(void)cls;
	(void)mhd;
	req->upgraded = NULL;
	req->conn->deadline_ns = 0;
	(void)MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
	fn(fd, early, fd >= 0 ? early_len : 0, req->upgraded_arg);
}

static bool api_req_wants(const struct api_req *req, const char *protocol)
{
	if (req->mhd == NULL) {
		return false;
	}

	const char *asked =
		MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_UPGRADE);

	return asked != NULL && strcasecmp(asked, protocol) == 0;
}

enum api_then api_reply_upgrade(struct api_req *req, const char *protocol, api_upgraded_fn fn,
                                void *arg)
{
	struct MHD_Response *response = NULL;

	if (!api_req_wants(req, protocol)) {
		struct api_error error = {.status = MHD_HTTP_UPGRADE_REQUIRED,
		                          .code = "upgrade-required",
		                          .message = "this path is a byte stream",
		                          .hint = "send the headers Connection: Upgrade and "
		                                  "Upgrade: with the stream's protocol"};

		response = api_response_error(&error);
		api_response_header(response, MHD_HTTP_HEADER_UPGRADE, protocol);
		api_req_answer(req, error.status, response);
		fn(-1, NULL, 0, arg);
		return API_ANSWERED;
	}
	response = MHD_create_response_for_upgrade(api_upgraded, NULL);
	if (response == NULL) {
		api_req_answer(req, MHD_HTTP_SERVICE_UNAVAILABLE, api_response_no_memory());
		fn(-1, NULL, 0, arg);
		return API_ANSWERED;
	}
	api_response_header(response, MHD_HTTP_HEADER_UPGRADE, protocol);
	req->upgraded = fn;
	req->upgraded_arg = arg;
	api_req_answer(req, MHD_HTTP_SWITCHING_PROTOCOLS, response);
	return API_ANSWERED;
}
