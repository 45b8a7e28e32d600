/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/compat/compat.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/json.h"

static bool compat_code_ok(const char *code)
{
	size_t len = strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len != 0 && len < COMPAT_CODE_MAX && code[len] == '\0';
}

/* A place for a new item of @level: behind the others, or a warning's for a blocker. */
static struct compat_item *compat_place(struct compat *c, enum compat_level level)
{
	if (c->count < COMPAT_ITEMS_MAX) {
		return &c->items[c->count++];
	}
	c->dropped++;
	for (uint32_t i = 0; level == COMPAT_BLOCKER && i < c->count; i++) {
		if (c->items[i].level == COMPAT_WARNING) {
			return &c->items[i];
		}
	}
	return NULL;
}

void compat_add(struct compat *c, enum compat_level level, const char *code, const char *fmt, ...)
{
	va_list args;

	CHECK(compat_code_ok(code));
	if (level == COMPAT_BLOCKER) {
		c->blockers++;
	}

	struct compat_item *item = compat_place(c, level);

	c->last = item != NULL ? (uint32_t)(item - c->items) : COMPAT_ITEMS_MAX;
	if (item == NULL) {
		return;
	}
	*item = (struct compat_item){.level = level};
	(void)snprintf(item->code, sizeof(item->code), "%s", code);
	va_start(args, fmt);
	(void)vsnprintf(item->text, sizeof(item->text), fmt, args);
	va_end(args);
}

void compat_hint(struct compat *c, const char *hint)
{
	if (c->last < c->count) {
		struct compat_item *item = &c->items[c->last];

		(void)snprintf(item->hint, sizeof(item->hint), "%s", hint);
	}
}

bool compat_movable(const struct compat *c)
{
	return c->blockers == 0;
}

const char *compat_summary(const struct compat *c, char *buf, size_t size)
{
	int n;

	CHECK(size != 0);
	if (c->blockers == 0) {
		(void)snprintf(buf, size, "nothing speaks against it");
		return buf;
	}
	n = snprintf(buf, size, "%u reason%s against it", c->blockers, c->blockers == 1 ? "" : "s");
	for (uint32_t i = 0, said = 0; i < c->count && n > 0 && (size_t)n < size; i++) {
		if (c->items[i].level == COMPAT_BLOCKER) {
			n += snprintf(buf + n, size - (size_t)n, "%s%s", said++ == 0 ? ": " : "; ",
			              c->items[i].text);
		}
	}
	return buf;
}

int compat_encode(const struct compat *c, char **out, size_t *len)
{
	struct json_build root;
	struct json_build items;
	json_t *value;

	*out = NULL;
	*len = 0;
	json_build_object(&root);
	json_build_array(&items);
	for (uint32_t i = 0; i < c->count; i++) {
		struct json_build item;

		json_build_object(&item);
		json_add_bool(&item, "blocker", c->items[i].level == COMPAT_BLOCKER);
		json_add_str(&item, "code", c->items[i].code);
		json_add_str(&item, "text", c->items[i].text);
		json_add_str(&item, "hint", c->items[i].hint);
		json_add_build(&items, NULL, &item);
	}
	json_add_u64(&root, "blockers", c->blockers);
	json_add_u64(&root, "dropped", c->dropped);
	json_add_build(&root, "items", &items);

	int err = json_build_end(&root, &value);

	if (err != 0) {
		return err;
	}

	char *text = json_text(value, 0);

	json_decref(value);
	if (text == NULL) {
		return -ENOMEM;
	}
	*out = text;
	*len = strlen(text);
	return 0;
}

/* Words of a peer: cut, and without control characters. */
static void compat_copy(char *to, size_t size, const char *from)
{
	(void)snprintf(to, size, "%s", from);
	for (char *p = to; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			*p = '?';
		}
	}
}

static int compat_decode_item(const struct json_at *at, struct compat *c, struct errbuf *eb)
{
	struct compat_item *item = &c->items[c->count];
	const char *code;
	const char *text;
	const char *hint = "";
	bool blocker;

	if (json_get_bool(at, "blocker", &blocker, eb) != 0 ||
	    json_get_str(at, "code", COMPAT_CODE_MAX - 1, &code, eb) != 0 ||
	    json_get_str(at, "text", (size_t)COMPAT_TEXT_MAX * 4, &text, eb) != 0 ||
	    json_opt_str(at, "hint", (size_t)COMPAT_TEXT_MAX * 4, &hint, eb) != 0) {
		return -EBADMSG;
	}
	if (!compat_code_ok(code)) {
		return json_error(at, eb, -EBADMSG, "the code is none");
	}
	item->level = blocker ? COMPAT_BLOCKER : COMPAT_WARNING;
	compat_copy(item->code, sizeof(item->code), code);
	compat_copy(item->text, sizeof(item->text), text);
	compat_copy(item->hint, sizeof(item->hint), hint);
	c->count++;
	return 0;
}

static int compat_decode_root(const json_t *root, struct compat *c, struct errbuf *eb)
{
	struct json_at at = json_root(root, "report");
	struct json_at items;
	uint64_t blockers;
	uint64_t dropped;
	uint32_t seen = 0;

	if (json_get_u64(&at, "blockers", 0, UINT32_MAX, &blockers, eb) != 0 ||
	    json_get_u64(&at, "dropped", 0, UINT32_MAX, &dropped, eb) != 0 ||
	    json_get(&at, "items", &items, eb) != 0 ||
	    json_as_array(&items, COMPAT_ITEMS_MAX, eb) != 0) {
		return -EBADMSG;
	}
	for (size_t i = 0; i < json_array_size(items.value); i++) {
		struct json_at item = json_element(&items, i);
		int err = compat_decode_item(&item, c, eb);

		if (err != 0) {
			return err;
		}
		seen += c->items[i].level == COMPAT_BLOCKER ? 1 : 0;
	}
	/* "No blockers" beside a blocker must not look like a yes. */
	if (seen > blockers || (blockers > seen && dropped == 0)) {
		return json_error(&at, eb, -EBADMSG, "the count of blockers is wrong");
	}
	c->blockers = (uint32_t)blockers;
	c->dropped = (uint32_t)dropped;
	return 0;
}

int compat_decode(const void *buf, size_t len, struct compat *out, struct errbuf *eb)
{
	const struct json_limits limits = {
		.bytes_max = COMPAT_JSON_MAX,
		.depth_max = 4,
		.values_max = 1024,
	};
	struct compat *c = gw_calloc(1, sizeof(*c));
	json_t *root;

	if (c == NULL) {
		return -ENOMEM;
	}

	int err = json_parse(buf, len, &limits, &root, eb);

	if (err == 0) {
		err = compat_decode_root(root, c, eb);
		json_decref(root);
	} else if (err == -E2BIG) {
		err = -EBADMSG;
	}
	if (err == 0) {
		*out = *c;
	}
	free(c);
	return err;
}
