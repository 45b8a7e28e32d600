/* SPDX-License-Identifier: Apache-2.0 */

/* server_route - which handler a path belongs to. Pure: tables and text in, match out. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/api/server_int.h"
#include "base/check.h"
#include "base/text.h"

/* One segment of a path: text up to the next '/'. */
struct api_segment {
	const char *text;
	size_t len;
};

/* Returns the count; -EINVAL not absolute, an empty segment, or too many. "/" has none. */
static int api_segments(const char *path, struct api_segment out[API_SEGMENT_MAX])
{
	size_t count = 0;

	if (path[0] != '/') {
		return -EINVAL;
	}
	if (path[1] == '\0') {
		return 0;
	}
	while (path[0] == '/') {
		size_t len = strcspn(path + 1, "/");

		if (len == 0 || count == API_SEGMENT_MAX) {
			return -EINVAL;
		}
		out[count].text = path + 1;
		out[count].len = len;
		count++;
		path += 1 + len;
	}
	return (int)count;
}

static int api_hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	                              : -1;
}

int api_percent_decode(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		if (*from != '%') {
			*to++ = *from;
			continue;
		}

		int high = api_hex(from[1]);
		int low = high < 0 ? -1 : api_hex(from[2]);

		if (low < 0 || (high == 0 && low == 0)) {
			return -EINVAL;
		}
		*to++ = (char)(high * 16 + low);
		from += 2;
	}
	*to = '\0';
	return (int)(to - text);
}

bool api_text_valid(const char *text, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t step = text_utf8_step(text + at, len - at);
		unsigned char c = (unsigned char)text[at];
		bool c1 = step == 2 && c == 0xc2 && (unsigned char)text[at + 1] < 0xa0;

		if (step == 0 || c < 0x20 || c == 0x7f || c1) {
			return false;
		}
		at += step;
	}
	return true;
}

static bool api_is_param(const struct api_segment *segment)
{
	return segment->text[0] == '{';
}

static bool api_same(const struct api_segment *a, const struct api_segment *b)
{
	return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static bool api_path_fits(const struct api_segment *pattern, const struct api_segment *path,
                          size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!api_is_param(&pattern[i]) && !api_same(&pattern[i], &path[i])) {
			return false;
		}
	}
	return true;
}

/* Of two patterns that fit: is @a the more literal one, seen from the left? */
static bool api_more_literal(const struct api_segment *a, const struct api_segment *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (api_is_param(&a[i]) != api_is_param(&b[i])) {
			return api_is_param(&b[i]);
		}
	}
	return false;
}

static int api_params_take(struct api_match *match, const struct api_segment *pattern,
                           const struct api_segment *path, size_t count)
{
	size_t used = 0;

	match->param_count = 0;
	for (size_t i = 0; i < count; i++) {
		if (!api_is_param(&pattern[i])) {
			continue;
		}

		char *value = match->text + used;

		/* Room: the values together are shorter than a path of at most API_URL_MAX. */
		memcpy(value, path[i].text, path[i].len);
		value[path[i].len] = '\0';

		int len = api_percent_decode(value);

		if (len <= 0 || !api_text_valid(value, (size_t)len)) {
			return -EINVAL;
		}
		used += (size_t)len + 1;
		match->params[match->param_count].name = pattern[i].text; /* "{name}..." */
		match->params[match->param_count].value = value;
		match->param_count++;
	}
	return 0;
}

int api_route_find(const struct api_table *tables, size_t table_count, enum api_method method,
                   const char *path, struct api_match *out)
{
	struct api_segment segments[API_SEGMENT_MAX];
	struct api_segment best[API_SEGMENT_MAX] = {{0}};
	bool found = false;
	int count = strlen(path) > API_URL_MAX ? -EINVAL : api_segments(path, segments);

	out->route = NULL;
	out->arg = NULL;
	out->allowed = 0;
	out->param_count = 0;
	if (count < 0) {
		return -EINVAL;
	}
	for (size_t t = 0; t < table_count; t++) {
		for (size_t r = 0; r < tables[t].count; r++) {
			const struct api_route *route = &tables[t].routes[r];
			struct api_segment pattern[API_SEGMENT_MAX];

			if (api_segments(route->path, pattern) != count ||
			    !api_path_fits(pattern, segments, (size_t)count) ||
			    (found && api_more_literal(best, pattern, (size_t)count))) {
				continue;
			}
			if (!found || api_more_literal(pattern, best, (size_t)count)) {
				/* A better path: the methods of the worse one do not count. */
				memcpy(best, pattern, sizeof(best));
				out->allowed = 0;
				out->route = NULL;
				found = true;
			}
			out->allowed |= 1u << route->method;
			if (route->method == method) {
				out->route = route;
				out->arg = tables[t].arg;
			}
		}
	}
	if (out->route == NULL) {
		return 0;
	}
	return api_params_take(out, best, segments, (size_t)count);
}

/* "{name}" with at least one letter, or literal without braces and without what needs escaping. */
static bool api_pattern_segment_valid(const struct api_segment *segment)
{
	size_t plain = strspn(segment->text + (api_is_param(segment) ? 1 : 0),
	                      "abcdefghijklmnopqrstuvwxyz0123456789-_.");

	if (api_is_param(segment)) {
		return plain != 0 && plain + 2 == segment->len && segment->text[plain + 1] == '}';
	}
	return plain == segment->len;
}

/* Same method and the same path but for the names of parameters? */
static bool api_route_equal(const struct api_route *a, const struct api_route *b)
{
	struct api_segment one[API_SEGMENT_MAX];
	struct api_segment two[API_SEGMENT_MAX];
	int count = api_segments(a->path, one);

	if (a->method != b->method || count != api_segments(b->path, two)) {
		return false;
	}
	for (int i = 0; i < count; i++) {
		bool params = api_is_param(&one[i]) && api_is_param(&two[i]);

		if (!params && !api_same(&one[i], &two[i])) {
			return false;
		}
	}
	return true;
}

void api_route_check(const struct api_table *tables, size_t table_count)
{
	const struct api_table *last = &tables[table_count - 1];

	for (size_t r = 0; r < last->count; r++) {
		const struct api_route *route = &last->routes[r];
		struct api_segment pattern[API_SEGMENT_MAX];
		int count = api_segments(route->path, pattern);
		unsigned params = 0;

		CHECK(count >= 0 && route->method < API_METHOD_COUNT && route->handler != NULL);
		for (int i = 0; i < count; i++) {
			CHECK(api_pattern_segment_valid(&pattern[i]));
			params += api_is_param(&pattern[i]);
		}
		CHECK(params <= API_PARAM_MAX);
		for (size_t t = 0; t < table_count; t++) {
			for (size_t o = 0; o < (t == table_count - 1 ? r : tables[t].count); o++) {
				CHECK(!api_route_equal(route, &tables[t].routes[o]));
			}
		}
	}
}

void api_route_allowed(uint32_t methods, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (int m = 0; m < API_METHOD_COUNT; m++) {
		if ((methods & 1u << m) != 0 && used < size) {
			used += (size_t)snprintf(out + used, size - used, "%s%s",
			                         used == 0 ? "" : ", ",
			                         api_method_name((enum api_method)m));
		}
	}
}
