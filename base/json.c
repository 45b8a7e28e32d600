/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/text.h"

static const struct json_limits json_default_limits = {
	.bytes_max = JSON_BYTES_MAX,
	.depth_max = JSON_DEPTH_MAX,
	.values_max = JSON_VALUES_MAX,
};

/* ---- parsing ---- */

/* Where an offset lies; columns count characters from 1. */
static int json_parse_error(struct errbuf *eb, int err, const char *text, size_t offset,
                            const char *what)
{
	size_t line = 1;
	size_t column = 1;

	for (size_t i = 0; i < offset; i++) {
		if (text[i] == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	return errbuf_set(eb, err, "line %zu, column %zu (byte %zu): %s", line, column, offset,
	                  what);
}

/*
 * Brackets and commas outside of strings: enough to bound what the parser will recurse into and
 * allocate, whether or not the text is JSON.
 */
static int json_scan(const char *text, size_t len, const struct json_limits *limits,
                     struct errbuf *eb)
{
	uint32_t depth = 0;
	uint32_t values = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (in_string) {
			i += c == '\\';
			in_string = c != '"';
			continue;
		}
		in_string = c == '"';
		depth -= (c == ']' || c == '}') && depth != 0;
		depth += c == '[' || c == '{';
		values += c == '[' || c == '{' || c == ',' || c == ':';
		if (depth > limits->depth_max) {
			return json_parse_error(eb, -E2BIG, text, i, "nested too deeply");
		}
		if (values > limits->values_max) {
			return json_parse_error(eb, -E2BIG, text, i, "too many values");
		}
	}
	return 0;
}

/* What people write who know other languages better. */
static void json_parse_hint(struct errbuf *eb, const char *text, size_t offset)
{
	char c = text[offset];
	size_t before = offset;

	while (before > 0 && strchr(" \t\r\n", text[before - 1]) != NULL) {
		before--;
	}
	if ((c == '}' || c == ']') && before > 0 && text[before - 1] == ',') {
		errbuf_hint(eb, "remove the comma before the closing bracket");
	} else if (c == '\'') {
		errbuf_hint(eb, "JSON has double quotes only");
	} else if (c == '/' || c == '#') {
		errbuf_hint(eb, "JSON has no comments");
	}
}

/* jansson's error; its position is the number of bytes read, the last of which is the culprit. */
static int json_parse_failed(const char *text, size_t len, const json_error_t *error,
                             struct errbuf *eb)
{
	size_t offset = error->position > 0 ? (size_t)error->position - 1 : 0;
	enum json_error_code code = json_error_code(error);
	char buf[JSON_ERROR_TEXT_LENGTH + 16];
	struct text what;
	int err = -EBADMSG;

	/* Where jansson has no memory it often does not say anything. */
	if (code == json_error_out_of_memory || error->text[0] == '\0') {
		return errbuf_sys(eb, -ENOMEM, "parse JSON");
	}
	offset = offset < len ? offset : len;
	text_init(&what, buf, sizeof(buf));
	if (code == json_error_premature_end_of_input) {
		offset = len;
		text_add(&what, "the text ends too early");
	} else if (code == json_error_null_character) {
		text_add(&what, "the character \\u0000 is not allowed");
	} else if (code == json_error_stack_overflow) {
		err = -E2BIG;
		text_add(&what, "nested too deeply");
	} else {
		/* It quotes the text, which may hold anything. */
		text_add_clean(&what, error->text, strlen(error->text));
	}
	(void)json_parse_error(eb, err, text, offset, buf);
	if (eb != NULL && offset < len) {
		json_parse_hint(eb, text, offset);
	}
	return err;
}

int json_parse(const void *buf, size_t len, const struct json_limits *limits, json_t **out,
               struct errbuf *eb)
{
	json_error_t error;

	*out = NULL;
	if (limits == NULL) {
		limits = &json_default_limits;
	}
	if (len > limits->bytes_max) {
		return errbuf_set(eb, -E2BIG, "%zu bytes of JSON are too much, the limit is %zu",
		                  len, limits->bytes_max);
	}

	int err = json_scan(buf, len, limits, eb);

	if (err != 0) {
		return err;
	}
	*out = json_loadb(buf, len, JSON_REJECT_DUPLICATES, &error);
	return *out != NULL ? 0 : json_parse_failed(buf, len, &error, eb);
}

/* ---- cursors and error texts ---- */

struct json_at json_root(const json_t *value, const char *name)
{
	return (struct json_at){.value = value, .key = name};
}

struct json_at json_element(const struct json_at *array, size_t index)
{
	CHECK(index < json_array_size(array->value));
	return (struct json_at){
		.value = json_array_get(array->value, index),
		.up = array,
		.index = index,
	};
}

/* Keys that need no quotes. */
static bool json_key_is_plain(const char *key)
{
	return key[0] != '\0' &&
	       key[strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                       "0123456789_-")] == '\0';
}

static void json_path_add(struct text *t, const struct json_at *at)
{
	if (at->key == NULL) {
		text_add(t, "[%zu]", at->index);
	} else if (at->up == NULL) {
		text_add(t, "%s", at->key);
	} else if (json_key_is_plain(at->key)) {
		text_add(t, "%s%s", t->len != 0 ? "." : "", at->key);
	} else {
		text_add(t, "[\"");
		text_add_clean(t, at->key, strlen(at->key));
		text_add(t, "\"]");
	}
}

const char *json_path(const struct json_at *at, char *buf, size_t size)
{
	const struct json_at *way[JSON_DEPTH_MAX];
	size_t count = 0;
	struct text t;

	/* Bounded, so that a cursor made its own parent by mistake is only a strange path. */
	for (; at != NULL && count < ARRAY_LEN(way); at = at->up) {
		way[count++] = at;
	}
	text_init(&t, buf, size);
	while (count != 0) {
		json_path_add(&t, way[--count]);
	}
	return buf;
}

int json_error(const struct json_at *at, struct errbuf *eb, int err, const char *fmt, ...)
{
	char path[JSON_PATH_MAX];
	char buf[ERRBUF_TEXT_MAX];
	va_list ap;

	if (eb == NULL) {
		return err;
	}
	va_start(ap, fmt);
	(void)vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	(void)json_path(at, path, sizeof(path));
	return errbuf_set(eb, err, "%s%s%s", path, path[0] != '\0' ? ": " : "", buf);
}

static int json_wrong_type(const struct json_at *at, const char *expected, struct errbuf *eb)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",
		[JSON_STRING] = "a string",  [JSON_INTEGER] = "an integer",
		[JSON_REAL] = "a fraction",  [JSON_TRUE] = "true",
		[JSON_FALSE] = "false",      [JSON_NULL] = "null",
	};

	(void)json_error(at, eb, -EINVAL, "expected %s, got %s", expected,
	                 at->value != NULL ? names[json_typeof(at->value)] : "nothing");
	return -EINVAL;
}

/* ---- values ---- */

int json_as_str(const struct json_at *at, size_t len_max, const char **out, struct errbuf *eb)
{
	if (!json_is_string(at->value)) {
		return json_wrong_type(at, "a string", eb);
	}
	if (json_string_length(at->value) > len_max) {
		return json_error(at, eb, -EINVAL, "%zu bytes are too long, the limit is %zu",
		                  json_string_length(at->value), len_max);
	}
	*out = json_string_value(at->value);
	return 0;
}

int json_as_i64(const struct json_at *at, int64_t min, int64_t max, int64_t *out, struct errbuf *eb)
{
	if (!json_is_integer(at->value)) {
		return json_wrong_type(at, "an integer", eb);
	}

	int64_t number = json_integer_value(at->value);

	if (number < min || number > max) {
		return json_error(at, eb, -EINVAL, "%jd is out of range, %jd to %jd are allowed",
		                  (intmax_t)number, (intmax_t)min, (intmax_t)max);
	}
	*out = number;
	return 0;
}

int json_as_u64(const struct json_at *at, uint64_t min, uint64_t max, uint64_t *out,
                struct errbuf *eb)
{
	if (!json_is_integer(at->value)) {
		return json_wrong_type(at, "an integer", eb);
	}

	int64_t number = json_integer_value(at->value);

	if (number < 0 || (uint64_t)number < min || (uint64_t)number > max) {
		return json_error(at, eb, -EINVAL, "%jd is out of range, %ju to %ju are allowed",
		                  (intmax_t)number, (uintmax_t)min, (uintmax_t)max);
	}
	*out = (uint64_t)number;
	return 0;
}

int json_as_bool(const struct json_at *at, bool *out, struct errbuf *eb)
{
	if (!json_is_boolean(at->value)) {
		return json_wrong_type(at, "true or false", eb);
	}
	*out = json_is_true(at->value);
	return 0;
}

/* "a, b, c" */
static void json_list_words(struct text *t, const char *const words[], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		text_add(t, "%s%s", i != 0 ? ", " : "", words[i]);
	}
}

int json_as_word(const struct json_at *at, const char *const words[], size_t count, size_t *out,
                 struct errbuf *eb)
{
	const char *word = json_string_value(at->value);
	char shown[64];
	char list[ERRBUF_TEXT_MAX / 2];
	struct text t;

	if (word == NULL) {
		return json_wrong_type(at, "a string", eb);
	}
	for (size_t i = 0; i < count; i++) {
		if (strcmp(word, words[i]) == 0) {
			*out = i;
			return 0;
		}
	}
	text_init(&t, shown, sizeof(shown));
	text_add_clean(&t, word, strlen(word));
	text_init(&t, list, sizeof(list));
	json_list_words(&t, words, count);
	(void)json_error(at, eb, -EINVAL, "\"%s\" is none of %s", shown, list);

	const char *near = text_nearest(word, words, count);

	if (near != NULL) {
		errbuf_hint(eb, "did you mean \"%s\"?", near);
	}
	return -EINVAL;
}

int json_as_object(const struct json_at *at, struct errbuf *eb)
{
	return json_is_object(at->value) ? 0 : json_wrong_type(at, "an object", eb);
}

int json_as_array(const struct json_at *at, size_t count_max, struct errbuf *eb)
{
	if (!json_is_array(at->value)) {
		return json_wrong_type(at, "an array", eb);
	}
	if (json_array_size(at->value) > count_max) {
		return json_error(at, eb, -EINVAL, "%zu elements are too many, the limit is %zu",
		                  json_array_size(at->value), count_max);
	}
	return 0;
}

/* ---- members ---- */

int json_opt(const struct json_at *at, const char *key, struct json_at *out, struct errbuf *eb)
{
	int err = json_as_object(at, eb);

	if (err == 0) {
		*out = (struct json_at){
			.value = json_object_get(at->value, key), .up = at, .key = key};
	}
	return err;
}

int json_get(const struct json_at *at, const char *key, struct json_at *out, struct errbuf *eb)
{
	struct json_at member;
	int err = json_opt(at, key, &member, eb);

	if (err != 0) {
		return err;
	}
	if (member.value == NULL) {
		(void)json_error(at, eb, -EINVAL, "member \"%s\" is missing", key);
		return -EINVAL;
	}
	*out = member;
	return 0;
}

int json_get_str(const struct json_at *at, const char *key, size_t len_max, const char **out,
                 struct errbuf *eb)
{
	struct json_at member;
	int err = json_get(at, key, &member, eb);

	return err != 0 ? err : json_as_str(&member, len_max, out, eb);
}

int json_get_u64(const struct json_at *at, const char *key, uint64_t min, uint64_t max,
                 uint64_t *out, struct errbuf *eb)
{
	struct json_at member;
	int err = json_get(at, key, &member, eb);

	return err != 0 ? err : json_as_u64(&member, min, max, out, eb);
}

int json_get_i64(const struct json_at *at, const char *key, int64_t min, int64_t max, int64_t *out,
                 struct errbuf *eb)
{
	struct json_at member;
	int err = json_get(at, key, &member, eb);

	return err != 0 ? err : json_as_i64(&member, min, max, out, eb);
}

int json_get_bool(const struct json_at *at, const char *key, bool *out, struct errbuf *eb)
{
	struct json_at member;
	int err = json_get(at, key, &member, eb);

	return err != 0 ? err : json_as_bool(&member, out, eb);
}

int json_get_word(const struct json_at *at, const char *key, const char *const words[],
                  size_t count, size_t *out, struct errbuf *eb)
{
	struct json_at member;
	int err = json_get(at, key, &member, eb);

	return err != 0 ? err : json_as_word(&member, words, count, out, eb);
}

int json_get_object(const struct json_at *at, const char *key, struct json_at *out,
                    struct errbuf *eb)
{
	struct json_at member;
	int err = json_get(at, key, &member, eb);

	if (err == 0) {
		err = json_as_object(&member, eb);
	}
	if (err == 0) {
		*out = member;
	}
	return err;
}

int json_get_array(const struct json_at *at, const char *key, size_t count_max, struct json_at *out,
                   struct errbuf *eb)
{
	struct json_at member;
	int err = json_get(at, key, &member, eb);

	if (err == 0) {
		err = json_as_array(&member, count_max, eb);
	}
	if (err == 0) {
		*out = member;
	}
	return err;
}

int json_opt_str(const struct json_at *at, const char *key, size_t len_max, const char **out,
                 struct errbuf *eb)
{
	struct json_at member;
	int err = json_opt(at, key, &member, eb);

	return err != 0 || member.value == NULL ? err : json_as_str(&member, len_max, out, eb);
}

int json_opt_u64(const struct json_at *at, const char *key, uint64_t min, uint64_t max,
                 uint64_t *out, struct errbuf *eb)
{
	struct json_at member;
	int err = json_opt(at, key, &member, eb);

	return err != 0 || member.value == NULL ? err : json_as_u64(&member, min, max, out, eb);
}

int json_opt_i64(const struct json_at *at, const char *key, int64_t min, int64_t max, int64_t *out,
                 struct errbuf *eb)
{
	struct json_at member;
	int err = json_opt(at, key, &member, eb);

	return err != 0 || member.value == NULL ? err : json_as_i64(&member, min, max, out, eb);
}

int json_opt_bool(const struct json_at *at, const char *key, bool *out, struct errbuf *eb)
{
	struct json_at member;
	int err = json_opt(at, key, &member, eb);

	return err != 0 || member.value == NULL ? err : json_as_bool(&member, out, eb);
}

int json_opt_word(const struct json_at *at, const char *key, const char *const words[],
                  size_t count, size_t *out, struct errbuf *eb)
{
	struct json_at member;
	int err = json_opt(at, key, &member, eb);

	return err != 0 || member.value == NULL ? err
	                                        : json_as_word(&member, words, count, out, eb);
}

static int json_unknown_member(const struct json_at *at, const char *key, const char *const known[],
                               size_t count, struct errbuf *eb)
{
	char shown[64];
	char list[ERRBUF_HINT_MAX - 32];
	struct text t;
	const char *near = text_nearest(key, known, count);

	text_init(&t, shown, sizeof(shown));
	text_add_clean(&t, key, strlen(key));
	(void)json_error(at, eb, -EINVAL, "unknown member \"%s\"", shown);
	if (near != NULL) {
		errbuf_hint(eb, "did you mean \"%s\"?", near);
	} else {
		text_init(&t, list, sizeof(list));
		json_list_words(&t, known, count);
		errbuf_hint(eb, "known members: %s%s", list, t.cut ? "..." : "");
	}
	return -EINVAL;
}

int json_check_members(const struct json_at *at, const char *const known[], size_t count,
                       struct errbuf *eb)
{
	const char *key;
	json_t *value;
	int err = json_as_object(at, eb);

	if (err != 0) {
		return err;
	}
	/* jansson's iterators change nothing but want a pointer that may.
	 * NOLINTNEXTLINE(performance-no-int-to-ptr) */
	json_object_foreach((json_t *)(uintptr_t)at->value, key, value)
	{
		size_t i = 0;

		(void)value;
		while (i < count && strcmp(key, known[i]) != 0) {
			i++;
		}
		if (i == count) {
			return json_unknown_member(at, key, known, count, eb);
		}
	}
	return 0;
}

/* ---- writing ---- */

void json_build_object(struct json_build *b)
{
	b->value = json_object();
	b->err = b->value != NULL ? 0 : -ENOMEM;
}

void json_build_array(struct json_build *b)
{
	b->value = json_array();
	b->err = b->value != NULL ? 0 : -ENOMEM;
}

void json_add(struct json_build *b, const char *key, json_t *value)
{
	if (value == NULL && b->err == 0) {
		b->err = -ENOMEM;
	}
	if (b->err != 0) {
		json_decref(value);
		return;
	}
	CHECK(key != NULL ? json_is_object(b->value) : json_is_array(b->value));
	if (key != NULL && json_object_get(b->value, key) != NULL) {
		json_decref(value);
		b->err = -EEXIST;
		return;
	}
	/* Both take the reference even if they fail. */
	int rc = key != NULL ? json_object_set_new(b->value, key, value)
	                     : json_array_append_new(b->value, value);

	if (rc != 0) {
		b->err = -ENOMEM;
	}
}

/* Broken bytes become U+FFFD, three bytes in UTF-8. */
static json_t *json_str_mended(const char *bytes, size_t len)
{
	static const char replacement[3] = {'\xef', '\xbf', '\xbd'};
	char *mended = gw_realloc_array(NULL, len + 1, 3);
	size_t used = 0;

	if (mended == NULL) {
		return NULL;
	}
	while (len != 0) {
		size_t step = text_utf8_step(bytes, len);

		if (step == 0 || *bytes == '\0') {
			memcpy(mended + used, replacement, sizeof(replacement));
			used += sizeof(replacement);
			step = 1;
		} else {
			memcpy(mended + used, bytes, step);
			used += step;
		}
		bytes += step;
		len -= step;
	}

	json_t *value = json_stringn(mended, used);

	free(mended);
	return value;
}

void json_add_strn(struct json_build *b, const char *key, const char *bytes, size_t len)
{
	size_t good = 0;

	while (good < len && bytes[good] != '\0') {
		size_t step = text_utf8_step(bytes + good, len - good);

		if (step == 0) {
			break;
		}
		good += step;
	}
	json_add(b, key, good == len ? json_stringn(bytes, len) : json_str_mended(bytes, len));
}

void json_add_str(struct json_build *b, const char *key, const char *text)
{
	if (text == NULL) {
		json_add_null(b, key);
	} else {
		json_add_strn(b, key, text, strlen(text));
	}
}

void json_add_fmt(struct json_build *b, const char *key, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0) {
		text = NULL;
	}
	va_end(ap);
	if (text == NULL) {
		json_add(b, key, NULL);
	} else {
		json_add_str(b, key, text);
	}
	free(text);
}

void json_add_i64(struct json_build *b, const char *key, int64_t number)
{
	json_add(b, key, json_integer(number));
}

void json_add_u64(struct json_build *b, const char *key, uint64_t number)
{
	if (number > INT64_MAX) {
		b->err = b->err != 0 ? b->err : -ERANGE;
	} else {
		json_add_i64(b, key, (int64_t)number);
	}
}

void json_add_real(struct json_build *b, const char *key, double number)
{
	if (!__builtin_isfinite(number)) { /* JSON has no word for it */
		b->err = b->err != 0 ? b->err : -ERANGE;
	} else {
		json_add(b, key, json_real(number));
	}
}

void json_add_bool(struct json_build *b, const char *key, bool value)
{
	json_add(b, key, json_boolean(value));
}

void json_add_null(struct json_build *b, const char *key)
{
	json_add(b, key, json_null());
}

void json_add_build(struct json_build *b, const char *key, struct json_build *inner)
{
	json_t *value = NULL;
	int err = json_build_end(inner, &value);

	if (err != 0 && b->err == 0) {
		b->err = err;
	}
	json_add(b, key, value);
}

int json_build_end(struct json_build *b, json_t **out)
{
	*out = b->err == 0 ? b->value : NULL;
	if (b->err != 0) {
		json_decref(b->value);
	}
	b->value = NULL;
	return b->err;
}

char *json_text(const json_t *value, uint32_t flags)
{
	return json_dumps(
		value, JSON_ENCODE_ANY |
			       ((flags & JSON_TEXT_PRETTY) != 0 ? JSON_INDENT(2) : JSON_COMPACT) |
			       ((flags & JSON_TEXT_SORTED) != 0 ? JSON_SORT_KEYS : 0u));
}
