/* SPDX-License-Identifier: Apache-2.0 */
#include "base/api/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/api/client_int.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/text.h"

#define API_BYTES_FIRST 4096u
#define API_BODY_UNASKED_MAX 65536u /* less than any socket holds */
#define API_CONTINUE_MS 60000L      /* the server may be slow, not unable: it is ours */

int api_bytes_add(struct api_bytes *bytes, const void *buf, size_t len)
{
	if (len > bytes->max - bytes->len) {
		return -EMSGSIZE;
	}

	size_t size = bytes->size != 0 ? bytes->size : API_BYTES_FIRST;

	while (size < bytes->len + len + 1) {
		size *= 2;
	}
	if (size != bytes->size) {
		char *data = gw_realloc_array(bytes->data, size, 1);

		if (data == NULL) {
			return -ENOMEM;
		}
		bytes->data = data;
		bytes->size = size;
	}
	memcpy(bytes->data + bytes->len, buf, len);
	bytes->len += len;
	bytes->data[bytes->len] = '\0';
	return 0;
}

/* ---- whom to talk to ---- */

/* "n1", "n1:7443" -> https://n1:7443. A path behind it would be a mistake. */
static int api_client_parse_https(struct api_client *client, const char *rest, const char *addr)
{
	size_t host = strcspn(rest, ":/");
	unsigned long port = API_TLS_PORT;

	if (host == 0 || rest[host] == '/') {
		return -EINVAL;
	}
	if (rest[host] == ':') {
		char *end = NULL;

		port = strtoul(rest + host + 1, &end, 10);
		if (end == rest + host + 1 || *end != '\0' || port == 0 || port > UINT16_MAX) {
			return -EINVAL;
		}
	}
	client->base = gw_asprintf("https://%.*s:%lu", (int)host, rest, port);
	if (addr != NULL) {
		/* "HOST1:PORT1:HOST2:PORT2"; empty = any, the same. */
		client->connect_to = gw_asprintf("::%s:", addr);
	}
	return client->base != NULL && (addr == NULL || client->connect_to != NULL) ? 0 : -ENOMEM;
}

static int api_client_parse(struct api_client *client, const struct api_client_cfg *cfg,
                            struct errbuf *eb)
{
	static const char unix_scheme[] = "unix://";
	static const char https_scheme[] = "https://";
	const char *url = cfg->url != NULL ? cfg->url : "unix://" API_SOCKET_PATH;
	int err = -EINVAL;

	if (strncmp(url, unix_scheme, sizeof(unix_scheme) - 1) == 0 &&
	    url[sizeof(unix_scheme) - 1] == '/') {
		client->socket_path = gw_strdup(url + sizeof(unix_scheme) - 1);
		client->base = gw_strdup("http://localhost");
		err = client->socket_path != NULL && client->base != NULL ? 0 : -ENOMEM;
	} else if (strncmp(url, https_scheme, sizeof(https_scheme) - 1) == 0) {
		err = api_client_parse_https(client, url + sizeof(https_scheme) - 1,
		                             cfg->connect_addr);
	}
	if (err == -EINVAL) {
		(void)errbuf_set(eb, -EINVAL, "\"%.200s\" is no address of a host", url);
		errbuf_hint(eb, "use unix:///PATH or https://NODE or https://NODE:PORT");
	} else if (err != 0) {
		(void)errbuf_sys(eb, err, "API client");
	}
	return err;
}

/* *out = a copy of @text, which may be NULL. */
static int api_copy(const char *text, char **out)
{
	*out = text != NULL ? gw_strdup(text) : NULL;
	return text == NULL || *out != NULL ? 0 : -ENOMEM;
}

int api_client_create(const struct api_client_cfg *cfg, struct api_client **out, struct errbuf *eb)
{
	struct api_client *client = gw_calloc(1, sizeof(*client));
	int err = -ENOMEM;

	*out = NULL;
	if (client == NULL) {
		return errbuf_sys(eb, -ENOMEM, "API client");
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(client);
		return errbuf_sys(eb, -ENOMEM, "API client");
	}
	client->connect_timeout_ms = (long)(cfg->connect_timeout_ms != 0 ? cfg->connect_timeout_ms
	                                                                 : API_CONNECT_TIMEOUT_MS);
	err = api_client_parse(client, cfg, eb);
	if (err != 0) {
		goto destroy_client;
	}
	client->easy = curl_easy_init();
	if (client->easy == NULL || api_copy(cfg->cert_file, &client->cert_file) != 0 ||
	    api_copy(cfg->key_file, &client->key_file) != 0 ||
	    api_copy(cfg->ca_file, &client->ca_file) != 0 ||
	    api_copy(cfg->pin, &client->pin) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "API client");
		goto destroy_client;
	}
	if (client->socket_path == NULL && client->pin == NULL &&
	    (client->cert_file == NULL || client->key_file == NULL || client->ca_file == NULL)) {
		err = errbuf_set(eb, -EINVAL, "https needs a certificate, its key and the CA");
		errbuf_hint(eb,
		            "godwit has none to show: run it on that host (ssh), by its socket");
		goto destroy_client;
	}
	*out = client;
	return 0;
destroy_client:
	api_client_destroy(client);
	return err;
}

void api_client_destroy(struct api_client *client)
{
	if (client != NULL) {
		curl_easy_cleanup(client->easy);
		free(client->base);
		free(client->socket_path);
		free(client->connect_to);
		free(client->cert_file);
		free(client->key_file);
		free(client->ca_file);
		free(client->pin);
		free(client);
		curl_global_cleanup();
	}
}

/* curl's option list, kept by curl until the handle is reset or freed; see api_client_reset(). */
static int api_client_prepare_tls(const struct api_client *client, CURL *easy)
{
	int bad = 0;

	bad |= curl_easy_setopt(easy, CURLOPT_SSLVERSION,
	                        (long)(CURL_SSLVERSION_TLSv1_3 | CURL_SSLVERSION_MAX_TLSv1_3)) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) != 0;
	if (client->pin != NULL) {
		bad |= curl_easy_setopt(easy, CURLOPT_PINNEDPUBLICKEY, client->pin) != 0;
	}
	if (client->ca_file == NULL) {
		/* Checked by curl also without VERIFYPEER; a name would add nothing to the key. */
		bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L) != 0;
		bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L) != 0;
		return bad == 0 ? 0 : -ENOMEM;
	}
	bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_SSLCERT, client->cert_file) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_SSLKEY, client->key_file) != 0;
	return bad == 0 ? 0 : -ENOMEM;
}

int api_client_prepare(const struct api_client *client, CURL *easy, char *error)
{
	int bad = 0;

	curl_easy_reset(easy); /* the connection stays */
	error[0] = '\0';
	bad |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_PROXY, "") != 0; /* whatever the environment says */
	bad |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) != 0;
	bad |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, client->connect_timeout_ms) != 0;
	if (client->socket_path != NULL) {
		bad |= curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->socket_path) != 0;
	}
	if (bad != 0) {
		return -ENOMEM;
	}
	return client->socket_path == NULL ? api_client_prepare_tls(client, easy) : 0;
}

/* ---- what went wrong ---- */

static void api_client_hint(const struct api_client *client, int err, struct errbuf *eb)
{
	if (client->socket_path == NULL) {
		if (err == -EKEYREJECTED) {
			errbuf_hint(
				eb,
				"check that certificate and CA are this cluster's, and that the "
				"URL has the node's name");
		}
		return;
	}
	if (err == -ENOENT || err == -ECONNREFUSED) {
		errbuf_hint(eb, "is the service running? systemctl status godwitd");
	} else if (err == -EACCES) {
		errbuf_hint(eb, "become root, or join the group that the socket belongs to");
	}
}

static int api_curl_errno(CURL *easy, CURLcode code, const char *error)
{
	long os_errno = 0;

	switch ((int)code) { /* not all of curl's hundred codes */
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		(void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_errno);
		return os_errno > 0 && os_errno < 4096 ? (int)-os_errno : -ECONNREFUSED;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
	case CURLE_SSL_CONNECT_ERROR:
		return -EKEYREJECTED;
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
		/* With TLS 1.3 the server judges our certificate after we think all is well. */
		return strstr(error, "alert") != NULL ? -EKEYREJECTED : -ECONNRESET;
	default:
		return -EPROTO;
	}
}

int api_client_fail(const struct api_client *client, CURL *easy, CURLcode code, const char *error,
                    struct errbuf *eb)
{
	const char *where = client->socket_path != NULL ? client->socket_path : client->base;
	int err = api_curl_errno(easy, code, error);

	if (err == -ETIMEDOUT || client->socket_path == NULL || err == -EPROTO) {
		(void)errbuf_set(eb, err, "%s: %.200s", where,
		                 error[0] != '\0' ? error : curl_easy_strerror(code));
	} else {
		(void)errbuf_sys(eb, err, "%s", where);
	}
	api_client_hint(client, err, eb);
	return err;
}

/* A text of the server's for a person's terminal. */
static const char *api_error_member(const json_t *body, const char *key, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(json_object_get(body, "error"), key));
	struct text t;

	text_init(&t, out, size);
	if (text != NULL) {
		text_add_clean(&t, text, strlen(text));
	}
	return out;
}

int api_client_refused(unsigned status, const char *text, size_t len, struct api_result *out,
                       struct errbuf *eb)
{
	char message[ERRBUF_TEXT_MAX];
	char hint[ERRBUF_HINT_MAX];

	out->status = status;
	out->code[0] = '\0';
	if (len != 0 && json_parse(text, len, NULL, &out->body, NULL) == 0) {
		(void)api_error_member(out->body, "code", out->code, sizeof(out->code));
	}

	int err = api_error_errno(out->code, status);

	if (api_error_member(out->body, "message", message, sizeof(message))[0] == '\0') {
		return errbuf_set(eb, err, "the service answered with HTTP status %u", status);
	}
	/* The message is a whole sentence; the reason only says its errno in general words. */
	(void)errbuf_set(eb, err, "%s", message);
	if (api_error_member(out->body, "hint", hint, sizeof(hint))[0] != '\0') {
		errbuf_hint(eb, "%s", hint);
	}
	return err;
}

/* ---- one call ---- */

int api_client_check_path(const char *path, struct errbuf *eb)
{
	for (const char *p = path; *p != '\0'; p++) {
		if (*p <= ' ' || *p == '\x7f' || *p == '#') {
			return errbuf_set(eb, -EINVAL, "malformed path in a call");
		}
	}
	return path[0] == '/' ? 0 : errbuf_set(eb, -EINVAL, "malformed path in a call");
}

static int api_request_headers(struct api_request *out)
{
	/*
	 * A large body waits until the server wants it: one that is refused closes the
	 * connection, and what it says is lost if more was sent than the socket holds. A small one
	 * goes at once.
	 */
	bool asks = strlen(out->body) > API_BODY_UNASKED_MAX;
	const char *const lines[] = {"Content-Type: application/json",
	                             asks ? "Expect: 100-continue" : "Expect:"};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct curl_slist *more = curl_slist_append(out->headers, lines[i]);

		if (more == NULL) {
			return -ENOMEM;
		}
		out->headers = more;
	}
	return 0;
}

int api_request_set(struct api_client *client, const struct api_call *call, struct api_request *out,
                    struct errbuf *eb)
{
	CURL *easy = client->easy;
	char *url = NULL;
	int bad = 0;
	int err = api_client_check_path(call->path, eb);

	*out = (struct api_request){0};
	if (err != 0) {
		return err;
	}
	if (api_client_prepare(client, easy, client->error) != 0) {
		goto no_memory;
	}
	url = gw_asprintf("%s%s", client->base, call->path);
	bad |= url == NULL || curl_easy_setopt(easy, CURLOPT_URL, url) != 0;
	free(url);
	bad |= curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, api_method_name(call->method)) != 0;
	if (call->body != NULL) {
		out->body = json_text(call->body, 0);
		bad |= out->body == NULL || api_request_headers(out) != 0 ||
		       curl_easy_setopt(easy, CURLOPT_POSTFIELDS, out->body) != 0 ||
		       curl_easy_setopt(easy, CURLOPT_EXPECT_100_TIMEOUT_MS, API_CONTINUE_MS) !=
		               0 ||
		       curl_easy_setopt(easy, CURLOPT_HTTPHEADER, out->headers) != 0;
	}
	if (client->connect_to != NULL) {
		struct curl_slist *to = curl_slist_append(NULL, client->connect_to);

		bad |= to == NULL || curl_easy_setopt(easy, CURLOPT_CONNECT_TO, to) != 0;
		out->connect_to = to;
	}
	if (bad == 0) {
		return 0;
	}
no_memory:
	api_request_fini(client, out);
	return errbuf_sys(eb, -ENOMEM, "API client");
}

void api_request_fini(struct api_client *client, struct api_request *request)
{
	curl_easy_reset(client->easy); /* it borrowed what goes now */
	curl_slist_free_all(request->headers);
	curl_slist_free_all(request->connect_to);
	free(request->body);
	*request = (struct api_request){0};
}

struct api_collect {
	struct api_bytes bytes;
	int err;
};

static size_t api_collect_body(char *data, size_t size, size_t count, void *arg)
{
	struct api_collect *collect = arg;

	collect->err = api_bytes_add(&collect->bytes, data, size * count);
	return collect->err == 0 ? size * count : 0;
}

static int api_client_parse_answer(unsigned status, const struct api_bytes *bytes,
                                   struct api_result *out, struct errbuf *eb)
{
	static const struct json_limits limits = {.bytes_max = API_ANSWER_MAX,
	                                          .depth_max = JSON_DEPTH_MAX,
	                                          .values_max = API_ANSWER_VALUES_MAX};

	if (status >= 400) {
		return api_client_refused(status, bytes->data, bytes->len, out, eb);
	}
	out->status = status;
	if (status < 200 || status >= 300) {
		return errbuf_set(eb, -EPROTO, "unexpected answer: HTTP status %u", status);
	}
	if (bytes->len == 0) {
		return 0;
	}

	int err = json_parse(bytes->data, bytes->len, &limits, &out->body, eb);

	if (err != 0) {
		errbuf_prepend(eb, "unexpected answer");
	}
	return err == -ENOMEM ? -ENOMEM : err != 0 ? -EPROTO : 0;
}

int api_client_call(struct api_client *client, const struct api_call *call, struct api_result *out,
                    struct errbuf *eb)
{
	struct api_collect collect = {.bytes = {.max = API_ANSWER_MAX}};
	struct api_request request;
	long status = 0;

	*out = (struct api_result){0};

	int err = api_request_set(client, call, &request, eb);

	if (err != 0) {
		return err;
	}
	(void)curl_easy_setopt(client->easy, CURLOPT_WRITEFUNCTION, api_collect_body);
	(void)curl_easy_setopt(client->easy, CURLOPT_WRITEDATA, &collect);
	(void)curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);

	CURLcode code = curl_easy_perform(client->easy);

	(void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
	if (collect.err != 0) {
		err = errbuf_sys(eb, collect.err, "the answer cannot be taken");
	} else if (code != CURLE_OK && status < 400) {
		err = api_client_fail(client, client->easy, code, client->error, eb);
	} else {
		/* A refusal may come before all was sent, which curl calls an error. */
		err = api_client_parse_answer((unsigned)status, &collect.bytes, out, eb);
	}
	api_request_fini(client, &request);
	free(collect.bytes.data);
	return err;
}

void api_result_fini(struct api_result *result)
{
	json_decref(result->body);
	*result = (struct api_result){0};
}
