/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

/*
 * json - JSON from strangers, and for them. jansson holds the values; this header is its door
 * (docs/decisions/0003), so its functions may be used wherever this is included.
 *
 * Reading: json_parse() checks size, depth and count before anything is allocated and says where
 * an error is (line, column, byte). A struct json_at is a value together with the way to it;
 * getters that find something wrong name it: "vm.disks[2].size: expected a string, got an
 * integer". Objects of a fixed shape end with json_check_members(), so that no typing error is
 * ignored.
 *
 * Writing: a struct json_build collects errors until json_build_end(), so that building a value
 * needs one check, not one per member.
 *
 * Threads: a value belongs to one thread at a time.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

struct errbuf;

#define JSON_BYTES_MAX (16u << 20) /* a whole cluster database in one answer stays below */
#define JSON_DEPTH_MAX 32u         /* ours nest 8 deep; the parser and the printer recurse */
#define JSON_VALUES_MAX 500000u /* jansson needs up to 100 bytes of memory per byte of "[[],[]]" */
#define JSON_PATH_MAX 160       /* bytes of a path in an error text, cut */

struct json_limits {
	size_t bytes_max;
	uint32_t depth_max;  /* 1: an array of numbers */
	uint32_t values_max; /* values and keys */
};

/*
 * json_parse() - parse @buf[len], an object or an array and nothing else; UTF-8, no key twice,
 * no NUL in strings, integers within 64 bits.
 * @limits: NULL = the JSON_..._MAX above.
 * @out: a new reference: json_decref().
 * Returns 0; -EBADMSG not JSON; -E2BIG beyond a limit; -ENOMEM (of a key: also -EBADMSG, jansson
 * cannot tell).
 */
MUST_USE int json_parse(const void *buf, size_t len, const struct json_limits *limits, json_t **out,
                        struct errbuf *eb);

/*
 * json_read_file() - parse a file of ours (base/fs.h). Error texts begin with @path.
 * Returns 0; as fs_read(), -EFBIG beyond limits->bytes_max; as json_parse().
 */
MUST_USE int json_read_file(const char *path, const struct json_limits *limits, json_t **out,
                            struct errbuf *eb);

/* json_write_file() - replace a file by @value, for people, durably: as fs_write(), or -ENOMEM. */
MUST_USE int json_write_file(const char *path, const json_t *value, mode_t mode, struct errbuf *eb);

/* A value and the way to it. Value type; borrows the value, the key and the cursor above, which
 * must stay as it is: at = json_element(&at, 0) would make it its own parent. */
struct json_at {
	const json_t *value;
	const struct json_at *up; /* NULL: the root */
	const char *key;          /* the root's name, or the key in up; NULL: an element of up */
	size_t index;
};

/* json_root() - @name: what error texts call it, e.g. "vm"; "" = nothing. */
struct json_at json_root(const json_t *value, const char *name);

/* json_element() - element @index of an array, of any type; index < json_array_size(). */
struct json_at json_element(const struct json_at *array, size_t index);

/* json_path() - write the way to the value, e.g. "vm.disks[2].size". Returns @buf. */
const char *json_path(const struct json_at *at, char *buf, size_t size);

/*
 * json_error() - an error text about this value: its path, ": " and the rest.
 * Returns @err.
 */
int json_error(const struct json_at *at, struct errbuf *eb, int err, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/*
 * The value itself. All return 0; -EINVAL wrong type or out of range, then *out is untouched.
 * Texts live as long as the value. json_as_word(): *out = the index in @words[count].
 */
MUST_USE int json_as_str(const struct json_at *at, size_t len_max, const char **out,
                         struct errbuf *eb);
MUST_USE int json_as_u64(const struct json_at *at, uint64_t min, uint64_t max, uint64_t *out,
                         struct errbuf *eb);
MUST_USE int json_as_i64(const struct json_at *at, int64_t min, int64_t max, int64_t *out,
                         struct errbuf *eb);
MUST_USE int json_as_bool(const struct json_at *at, bool *out, struct errbuf *eb);
MUST_USE int json_as_word(const struct json_at *at, const char *const words[], size_t count,
                          size_t *out, struct errbuf *eb);
MUST_USE int json_as_object(const struct json_at *at, struct errbuf *eb);
MUST_USE int json_as_array(const struct json_at *at, size_t count_max, struct errbuf *eb);

/*
 * A member of an object. json_get_: it must be there. json_opt_: if it is not there, *out stays
 * as it is (the default); null is not the same as absent. Returns as above; -EINVAL also if @at
 * is no object or, for json_get_, has no such member.
 */
MUST_USE int json_get(const struct json_at *at, const char *key, struct json_at *out,
                      struct errbuf *eb);
MUST_USE int json_get_str(const struct json_at *at, const char *key, size_t len_max,
                          const char **out, struct errbuf *eb);
MUST_USE int json_get_u64(const struct json_at *at, const char *key, uint64_t min, uint64_t max,
                          uint64_t *out, struct errbuf *eb);
MUST_USE int json_get_i64(const struct json_at *at, const char *key, int64_t min, int64_t max,
                          int64_t *out, struct errbuf *eb);
MUST_USE int json_get_bool(const struct json_at *at, const char *key, bool *out, struct errbuf *eb);
MUST_USE int json_get_word(const struct json_at *at, const char *key, const char *const words[],
                           size_t count, size_t *out, struct errbuf *eb);
MUST_USE int json_get_object(const struct json_at *at, const char *key, struct json_at *out,
                             struct errbuf *eb);
MUST_USE int json_get_array(const struct json_at *at, const char *key, size_t count_max,
                            struct json_at *out, struct errbuf *eb);

/* json_opt() - *out = the member, with value NULL if it is not there. */
MUST_USE int json_opt(const struct json_at *at, const char *key, struct json_at *out,
                      struct errbuf *eb);
MUST_USE int json_opt_str(const struct json_at *at, const char *key, size_t len_max,
                          const char **out, struct errbuf *eb);
MUST_USE int json_opt_u64(const struct json_at *at, const char *key, uint64_t min, uint64_t max,
                          uint64_t *out, struct errbuf *eb);
MUST_USE int json_opt_i64(const struct json_at *at, const char *key, int64_t min, int64_t max,
                          int64_t *out, struct errbuf *eb);
MUST_USE int json_opt_bool(const struct json_at *at, const char *key, bool *out, struct errbuf *eb);
MUST_USE int json_opt_word(const struct json_at *at, const char *key, const char *const words[],
                           size_t count, size_t *out, struct errbuf *eb);

/*
 * json_check_members() - every member of this object is one of @known[count].
 * Returns 0; -EINVAL, with "did you mean" as the hint.
 */
MUST_USE int json_check_members(const struct json_at *at, const char *const known[], size_t count,
                                struct errbuf *eb);

/* ---- writing ---- */

/* Value type: start with json_build_object() or _array(), finish with json_build_end(). */
struct json_build {
	json_t *value; /* owned */
	int err;       /* the first error, or 0 */
};

void json_build_object(struct json_build *b);
void json_build_array(struct json_build *b);

/*
 * Add a member, or an element if @key is NULL. Text that is not UTF-8 (a guest may say anything)
 * gets U+FFFD for each broken byte; a NULL text is null. Numbers above INT64_MAX are -ERANGE.
 */
void json_add_str(struct json_build *b, const char *key, const char *text);
void json_add_strn(struct json_build *b, const char *key, const char *bytes, size_t len);
void json_add_fmt(struct json_build *b, const char *key, const char *fmt, ...) PRINTF_LIKE(3, 4);
void json_add_u64(struct json_build *b, const char *key, uint64_t number);
void json_add_i64(struct json_build *b, const char *key, int64_t number);
void json_add_real(struct json_build *b, const char *key, double number);
void json_add_bool(struct json_build *b, const char *key, bool value);
void json_add_null(struct json_build *b, const char *key);
/* json_add() - takes the reference @value; NULL counts as -ENOMEM. */
void json_add(struct json_build *b, const char *key, json_t *value);
/* json_add_build() - takes the value of @inner, or its error. */
void json_add_build(struct json_build *b, const char *key, struct json_build *inner);

/*
 * json_build_end() - hand the value out, a new reference.
 * Returns 0; -ENOMEM; -ERANGE; -EEXIST a key was added twice; then *out = NULL, all is freed.
 */
MUST_USE int json_build_end(struct json_build *b, json_t **out);

#define JSON_TEXT_PRETTY 1u /* indented, for people; else no spaces at all */
#define JSON_TEXT_SORTED 2u /* keys in byte order, for hashes and comparisons */

/* json_text() - as text, without a newline at the end; also numbers and strings alone. Returns
 * memory to free(); NULL = no memory. */
char *json_text(const json_t *value, uint32_t flags);

#endif
