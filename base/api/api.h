/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_API_API_H
#define BASE_API_API_H

/*
 * api - the words that the API's server and client share: methods, errors, paths.
 *
 * HTTP/1.1 and JSON (docs/formats/api.md). An answer with a status >= 400 carries
 * {"error": {"code", "message", "reason", "hint"}}: code is a stable word for programs, message
 * says what went wrong, reason why, hint what to do about it. The last two may be "".
 */

#include "base/attr.h"

struct errbuf;
struct json_t;

#define API_SOCKET_PATH "/run/godwit/api.sock"
#define API_TLS_PORT 7443

enum api_method { API_GET, API_POST, API_PUT, API_PATCH, API_DELETE, API_METHOD_COUNT };

/* api_method_name() - "GET", "POST", ...; static. */
const char *api_method_name(enum api_method method);

/* What an error answer says. All strings borrowed; NULL counts as "". */
struct api_error {
	unsigned status;     /* HTTP, 400..599 */
	const char *code;    /* "not-found", "busy", ... */
	const char *message; /* "vm web1: no such VM" */
	const char *reason;
	const char *hint;
};

/*
 * api_error_from() - the error answer for @err (-errno) with the text and hint of @eb.
 * @out borrows from @eb. An unlisted @err becomes 500 "internal".
 */
void api_error_from(struct api_error *out, int err, const struct errbuf *eb);

/*
 * api_error_errno() - the way back: -errno for a code word, or, if nobody knows the word, for the
 * HTTP status. Never 0.
 */
int api_error_errno(const char *code, unsigned status);

/* api_error_json() - the error body. Broken UTF-8 becomes '?'. NULL = no memory. Caller owns. */
struct json_t *api_error_json(const struct api_error *error);

/*
 * api_path() - put the following strings into the {...} of @pattern, percent-encoded:
 * api_path("/v1/vms/{name}/start", "web 1") = "/v1/vms/web%201/start". As many strings as braces.
 * Also for values of a query: api_path("/v1/events?since={t}", text).
 * Returns a string to free(); NULL = no memory.
 */
char *api_path(const char *pattern, ...);

#endif
