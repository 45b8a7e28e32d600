/* SPDX-License-Identifier: Apache-2.0 */
#include "base/api/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"

static const char *const api_method_names[] = {
	[API_GET] = "GET",     [API_POST] = "POST",     [API_PUT] = "PUT",
	[API_PATCH] = "PATCH", [API_DELETE] = "DELETE",
};

/* The one table between -errno, HTTP and the words of docs/formats/api.md. The first line with an
 * errno is what a server says; all lines are what a client understands. */
struct api_error_line {
	int err;
	unsigned status;
	const char *code;
};

static const struct api_error_line api_error_lines[] = {
	{-EINVAL, 400, "invalid"},
	{-EBADMSG, 400, "malformed"},
	{-ERANGE, 400, "out-of-range"},
	{-EPERM, 403, "denied"},
	{-EACCES, 403, "denied"},
	{-ENOENT, 404, "not-found"},
	{-ENODEV, 404, "no-device"},
	{-EEXIST, 409, "exists"},
	{-EBUSY, 409, "busy"},
	{-ENOTEMPTY, 409, "not-empty"},
	{-EALREADY, 409, "already"},
	{-ESTALE, 409, "changed-meanwhile"},
	{-ECANCELED, 409, "cancelled"},
	{-EDEADLK, 409, "conflict"},
	{-EFBIG, 413, "too-large"},
	{-E2BIG, 413, "too-large"},
	{-EMSGSIZE, 413, "too-large"},
	{-ENOTSUP, 501, "not-supported"},
	{-ENOSYS, 501, "not-supported"},
	{-EAGAIN, 503, "unavailable"},
	{-ENOMEM, 503, "no-memory"},
	{-ECONNREFUSED, 503, "unreachable"},
	{-EHOSTUNREACH, 503, "unreachable"},
	{-ECONNRESET, 503, "connection-lost"},
	{-EPIPE, 503, "connection-lost"},
	{-EMFILE, 503, "crowded"},
	{-ETIMEDOUT, 504, "timed-out"},
	{-ENOSPC, 507, "no-space"},
	{-EDQUOT, 507, "no-space"},
	{-EIO, 500, "io-error"},
	{-EROFS, 500, "read-only"},
	/* Words that only the server itself says. */
	{-EINVAL, 400, "bad-json"},
	{-EINVAL, 415, "bad-type"},
	{-EINVAL, 405, "bad-method"},
	{-EINVAL, 411, "length-required"},
	{-ENOSYS, 404, "no-such-path"},
	{-EPROTO, 426, "upgrade-required"},
	{-EPROTO, 500, "internal"},
};

const char *api_method_name(enum api_method method)
{
	CHECK(method < API_METHOD_COUNT);
	return api_method_names[method];
}

void api_error_from(struct api_error *out, int err, const struct errbuf *eb)
{
	const char *text = errbuf_text(eb, err);
	const char *reason = errbuf_text(NULL, err);

	CHECK(err < 0);
	*out = (struct api_error){
		.status = 500,
		.code = "internal",
		.message = text,
		.reason = err == -EINVAL || strcmp(text, reason) == 0 ? "" : reason,
		.hint = eb != NULL ? eb->hint : "",
	};
	for (size_t i = 0; i < ARRAY_LEN(api_error_lines); i++) {
		if (api_error_lines[i].err == err) {
			out->status = api_error_lines[i].status;
			out->code = api_error_lines[i].code;
			return;
		}
	}
}

int api_error_errno(const char *code, unsigned status)
{
	for (size_t i = 0; i < ARRAY_LEN(api_error_lines); i++) {
		if (strcmp(api_error_lines[i].code, code) == 0) {
			return api_error_lines[i].err;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(api_error_lines); i++) {
		if (api_error_lines[i].status == status) {
			return api_error_lines[i].err;
		}
	}
	return status >= 400 && status < 500 ? -EINVAL : -EPROTO;
}

static const char *api_text_or_empty(const char *text)
{
	return text != NULL ? text : "";
}

struct json_t *api_error_json(const struct api_error *error)
{
	struct json_build body;
	struct json_build inner;
	json_t *out = NULL;

	json_build_object(&inner);
	json_add_str(&inner, "code", api_text_or_empty(error->code));
	json_add_str(&inner, "message", api_text_or_empty(error->message));
	json_add_str(&inner, "reason", api_text_or_empty(error->reason));
	json_add_str(&inner, "hint", api_text_or_empty(error->hint));
	json_build_object(&body);
	json_add_build(&body, "error", &inner);
	return json_build_end(&body, &out) == 0 ? out : NULL;
}

/* Unreserved characters of RFC 3986 2.3 stay. */
static bool api_is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-._~", c) != NULL);
}

static size_t api_escape(const char *text, char *out)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t used = 0;

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (api_is_plain(*text)) {
			out[used++] = *text;
		} else {
			out[used++] = '%';
			out[used++] = digits[c >> 4];
			out[used++] = digits[c & 15];
		}
	}
	return used;
}

/* The bytes that api_path() may need. */
static size_t api_path_measure(const char *pattern, va_list ap)
{
	size_t bytes = strlen(pattern) + 1;

	for (const char *p = strchr(pattern, '{'); p != NULL; p = strchr(p + 1, '{')) {
		bytes += 3 * strlen(va_arg(ap, const char *));
	}
	return bytes;
}

char *api_path(const char *pattern, ...)
{
	size_t used = 0;
	va_list ap;

	va_start(ap, pattern);

	char *out = gw_malloc(api_path_measure(pattern, ap));

	va_end(ap);
	if (out == NULL) {
		return NULL;
	}
	va_start(ap, pattern);
	for (const char *p = pattern; *p != '\0'; p++) {
		if (*p != '{') {
			out[used++] = *p;
			continue;
		}
		used += api_escape(va_arg(ap, const char *), out + used);
		p = strchr(p, '}');
		CHECK(p != NULL);
	}
	va_end(ap);
	out[used] = '\0';
	return out;
}
