/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_API_CLIENT_INT_H
#define BASE_API_CLIENT_INT_H

/* Inside of the API client: one curl handle, its connection is kept between calls. */

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/api/client.h"
#include "base/attr.h"

struct api_client {
	CURL *easy;        /* owned */
	char *base;        /* owned: "http://localhost" or "https://NODE:port" */
	char *socket_path; /* owned; NULL = TLS */
	char *connect_to;  /* owned: "::ADDR:" for curl, or NULL */
	char *cert_file;   /* owned, or NULL; likewise: */
	char *key_file;
	char *ca_file;
	char *pin; /* owned: beside or instead of the three, or NULL */
	long connect_timeout_ms;
	char error[CURL_ERROR_SIZE];
};

/* Bytes that grow up to a bound. */
struct api_bytes {
	char *data; /* owned, NUL-terminated if not NULL */
	size_t len;
	size_t size;
	size_t max;
};

/* Returns 0; -EMSGSIZE beyond max; -ENOMEM. */
MUST_USE int api_bytes_add(struct api_bytes *bytes, const void *buf, size_t len);

/* Everything about whom to talk to and how; nothing about the request. Returns 0; -ENOMEM. */
MUST_USE int api_client_prepare(const struct api_client *client, CURL *easy, char *error);

/* What curl says -> -errno and @eb, with a hint. @error: curl's own words. */
int api_client_fail(const struct api_client *client, CURL *easy, CURLcode code, const char *error,
                    struct errbuf *eb);

/*
 * What the server says with a status >= 400 -> -errno and @eb; fills @out's code and body.
 * @text[len]: the body.
 */
int api_client_refused(unsigned status, const char *text, size_t len, struct api_result *out,
                       struct errbuf *eb);

/* Paths come from api_path(); this is against mistakes. Returns 0; -EINVAL. */
MUST_USE int api_client_check_path(const char *path, struct errbuf *eb);

/* A request with method, body and path on client->easy. Returns 0; -errno. */
struct api_request {
	struct curl_slist *headers;    /* owned */
	struct curl_slist *connect_to; /* owned */
	char *body;                    /* owned */
};

MUST_USE int api_request_set(struct api_client *client, const struct api_call *call,
                             struct api_request *out, struct errbuf *eb);
void api_request_fini(struct api_client *client, struct api_request *request);

#endif
