/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "hv/vhdx/format_int.h"

#define LOCATOR_PAIRS_MAX 64u                   /* six keys are defined */
#define LOCATOR_KEY_MAX 64u                     /* the longest defined has 19 characters */
#define LOCATOR_GUID_TEXT (GUID_TEXT_SIZE + 2u) /* with braces, as Windows writes it */

static const struct guid locator_type =
	GUID_INIT(0xb04aefb7, 0xd19e, 0x4a81, 0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13);

/* One Unicode character as UTF-8 into @out (room for 4). Returns the bytes. */
static size_t locator_put_utf8(uint32_t c, uint8_t *out)
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (uint8_t)(0xc0 | c >> 6);
		out[1] = (uint8_t)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (uint8_t)(0xe0 | c >> 12);
		out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		out[2] = (uint8_t)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (c & 0x3f));
	return 4;
}

/* One character of UTF-8. Returns the bytes it took; 0 it is not valid. */
static size_t locator_get_utf8(const char *text, uint32_t *out)
{
	const uint8_t *p = (const uint8_t *)text;
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = p[0] < 0x80       ? 1
	           : p[0] >> 5 == 6  ? 2
	           : p[0] >> 4 == 14 ? 3
	           : p[0] >> 3 == 30 ? 4
	                             : 0;

	if (n == 0) {
		return 0;
	}

	uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);

	for (size_t i = 1; i < n; i++) {
		if (p[i] >> 6 != 2) {
			return 0; /* also at the terminator */
		}
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
		return 0;
	}
	*out = c;
	return n;
}

/* UTF-16LE of @len bytes into @out[size], NUL terminated. Returns 0; -EBADMSG. */
static int locator_from_utf16(const uint8_t *p, size_t len, char *out, size_t size)
{
	size_t used = 0;

	if (len % 2 != 0) {
		return -EBADMSG;
	}
	for (size_t i = 0; i < len; i += 2) {
		uint32_t c = (uint32_t)(p[i] | p[i + 1] << 8);

		if (c >= 0xd800 && c < 0xdc00 && i + 3 < len && p[i + 3] >> 2 == 0x37) {
			uint32_t low = (uint32_t)(p[i + 2] | p[i + 3] << 8);

			c = 0x10000 + ((c & 0x3ffu) << 10 | (low & 0x3ffu));
			i += 2;
		} else if (c == 0 || (c >= 0xd800 && c < 0xe000)) {
			return -EBADMSG;
		}

		uint8_t utf8[4];
		size_t n = locator_put_utf8(c, utf8);

		if (used + n >= size) {
			return -EBADMSG;
		}
		memcpy(out + used, utf8, n);
		used += n;
	}
	out[used] = '\0';
	return 0;
}

/* One pair into the field it is for; unknown keys are nobody's business. */
static int locator_take(struct vhdx_locator *to, const char *key, const uint8_t *value, size_t len,
                        struct errbuf *eb)
{
	char guid_text[LOCATOR_GUID_TEXT];
	struct guid *guid = NULL;
	char *path = NULL;
	int err;

	if (strcmp(key, "parent_linkage") == 0) {
		guid = &to->linkage;
	} else if (strcmp(key, "parent_linkage2") == 0) {
		guid = &to->linkage2;
	} else if (strcmp(key, "relative_path") == 0) {
		path = to->relative_path;
	} else if (strcmp(key, "absolute_win32_path") == 0) {
		path = to->absolute_path;
	} else if (strcmp(key, "volume_path") == 0) {
		path = to->volume_path;
	} else {
		return 0;
	}
	if (guid != NULL) {
		err = locator_from_utf16(value, len, guid_text, sizeof(guid_text));
		if (err != 0 || guid_parse(guid_text, guid) != 0) {
			return errbuf_set(eb, -EBADMSG, "%s is no GUID", key);
		}
		return 0;
	}
	if (locator_from_utf16(value, len, path, VHDX_PATH_MAX) != 0) {
		return errbuf_set(eb, -EBADMSG, "%s is no text of at most %u bytes", key,
		                  VHDX_PATH_MAX - 1);
	}
	return 0;
}

int vhdx_locator_decode(const void *buf, size_t len, struct vhdx_locator *out, struct errbuf *eb)
{
	const uint8_t *p = buf;
	struct vhdx_locator_wire w;
	char text[GUID_TEXT_SIZE];

	if (len < sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "cut short");
	}
	memcpy(&w, p, sizeof(w));

	uint32_t count = le16_get(w.count);

	if (!guid_equal(&w.type, &locator_type)) {
		(void)guid_format(&w.type, text);
		return errbuf_set(eb, -ENOTSUP, "type %s is unknown", text);
	}
	if (count > LOCATOR_PAIRS_MAX ||
	    len - sizeof(w) < count * sizeof(struct vhdx_locator_entry_wire)) {
		return errbuf_set(eb, -EBADMSG, "%u pairs in %zu bytes", count, len);
	}
	memset(out, 0, sizeof(*out)); /* 12 KiB: not twice on the stack; empty on failure */
	for (uint32_t i = 0; i < count; i++) {
		struct vhdx_locator_entry_wire e;
		char key[LOCATOR_KEY_MAX] = "";

		memcpy(&e, p + sizeof(w) + i * sizeof(e), sizeof(e));

		size_t key_at = le32_get(e.key_offset);
		size_t value_at = le32_get(e.value_offset);
		int err = -EBADMSG;

		if (key_at <= len && le16_get(e.key_len) <= len - key_at && value_at <= len &&
		    le16_get(e.value_len) <= len - value_at) {
			err = locator_from_utf16(p + key_at, le16_get(e.key_len), key, sizeof(key));
		}
		err = err != 0 ? errbuf_set(eb, -EBADMSG, "pair %u lies outside or is no text", i)
		               : locator_take(out, key, p + value_at, le16_get(e.value_len), eb);
		if (err != 0) {
			memset(out, 0, sizeof(*out));
			return err;
		}
	}
	if (guid_is_nil(&out->linkage)) {
		memset(out, 0, sizeof(*out));
		return errbuf_set(eb, -EBADMSG, "no parent_linkage");
	}
	return 0;
}

struct locator_out {
	uint8_t *p;
	size_t size;
	size_t used; /* strings so far end here */
	uint16_t count;
	int err; /* the first failure */
};

/* @text as UTF-16 behind the strings; returns its bytes. */
static uint16_t locator_put_text(struct locator_out *to, const char *text)
{
	size_t from = to->used;

	while (*text != '\0' && to->err == 0) {
		uint32_t c;
		size_t n = locator_get_utf8(text, &c);

		if (n == 0) {
			to->err = -EINVAL;
			break;
		}
		text += n;
		if (to->size - to->used < 4 || to->used - from > UINT16_MAX - 4) {
			to->err = -ENAMETOOLONG;
			break;
		}
		if (c >= 0x10000) {
			uint32_t high = 0xd800 | (c - 0x10000) >> 10;

			to->p[to->used++] = (uint8_t)high;
			to->p[to->used++] = (uint8_t)(high >> 8);
			c = 0xdc00 | ((c - 0x10000) & 0x3ffu);
		}
		to->p[to->used++] = (uint8_t)c;
		to->p[to->used++] = (uint8_t)(c >> 8);
	}
	return (uint16_t)(to->used - from);
}

static void locator_put(struct locator_out *to, const char *key, const char *value)
{
	struct vhdx_locator_entry_wire e;

	if (value[0] == '\0' || to->err != 0) {
		return;
	}
	e.key_offset = le32_make((uint32_t)to->used);
	e.key_len = le16_make(locator_put_text(to, key));
	e.value_offset = le32_make((uint32_t)to->used);
	e.value_len = le16_make(locator_put_text(to, value));
	memcpy(to->p + sizeof(struct vhdx_locator_wire) + to->count * sizeof(e), &e, sizeof(e));
	to->count++;
}

static void locator_guid(const struct guid *guid, char out[LOCATOR_GUID_TEXT])
{
	char text[GUID_TEXT_SIZE];

	(void)snprintf(out, LOCATOR_GUID_TEXT, "{%s}", guid_format(guid, text));
}

int vhdx_locator_encode(const struct vhdx_locator *locator, void *out, size_t size)
{
	enum { PAIRS = 5 };
	struct vhdx_locator_wire w = {.type = locator_type};
	struct locator_out to = {
		.p = out,
		.size = size,
		.used = sizeof(w) + PAIRS * sizeof(struct vhdx_locator_entry_wire),
	};
	char linkage[LOCATOR_GUID_TEXT];
	char linkage2[LOCATOR_GUID_TEXT] = "";

	if (size < to.used) {
		return -ENAMETOOLONG;
	}
	memset(out, 0, to.used);
	locator_guid(&locator->linkage, linkage);
	if (!guid_is_nil(&locator->linkage2)) {
		locator_guid(&locator->linkage2, linkage2);
	}
	locator_put(&to, "parent_linkage", linkage);
	locator_put(&to, "parent_linkage2", linkage2);
	locator_put(&to, "relative_path", locator->relative_path);
	locator_put(&to, "volume_path", locator->volume_path);
	locator_put(&to, "absolute_win32_path", locator->absolute_path);
	if (to.err != 0) {
		return to.err;
	}
	w.count = le16_make(to.count);
	memcpy(out, &w, sizeof(w));
	return (int)to.used;
}
