/* SPDX-License-Identifier: Apache-2.0 */

/* load - the reader half of save.h. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/wire.h"
#include "hv/save/save.h"
#include "hv/save/save_wire.h"

#define LOAD_CRC_FROM offsetof(struct save_section_wire, flags)

/* One section's header, checked as far as it can be without the others. */
struct load_frame {
	uint32_t flags;
	uint32_t version;
	size_t payload_at;
	size_t end;
	char name[SAVE_NAME_MAX + 1];
};

static bool load_name_ok(const uint8_t name[32])
{
	size_t len = 0;

	while (len < 32 && name[len] > ' ' && name[len] <= '~') {
		len++;
	}
	if (len == 0 || len > SAVE_NAME_MAX) {
		return false;
	}
	for (size_t i = len; i < 32; i++) {
		if (name[i] != 0) {
			return false;
		}
	}
	return true;
}

/* The frame at @at (< len): its lengths are inside the blob. Not its CRC. */
static int load_frame(const struct load *l, size_t at, struct load_frame *f, struct errbuf *eb)
{
	struct save_section_wire w;

	if (l->len_bytes - at < sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "saved state ends inside a section header at %zu",
		                  at);
	}
	memcpy(&w, l->buf + at, sizeof(w));
	if (le32_get(w.magic) != SAVE_MAGIC || !load_name_ok(w.name)) {
		return errbuf_set(eb, -EBADMSG, "saved state has no section header at %zu", at);
	}
	memcpy(f->name, w.name, sizeof(f->name));
	f->flags = le32_get(w.flags);
	f->version = le32_get(w.version);
	if ((f->flags & ~SAVE_MANDATORY) != 0 || f->version == 0 || le32_get(w.reserved) != 0) {
		return errbuf_set(eb, -EBADMSG, "section %s: header has unknown fields", f->name);
	}
	f->payload_at = at + sizeof(w);
	if (le32_get(w.len_bytes) > SAVE_SECTION_BYTES_MAX ||
	    le32_get(w.len_bytes) > l->len_bytes - f->payload_at) {
		return errbuf_set(eb, -EBADMSG, "section %s: longer than the saved state", f->name);
	}
	f->end = f->payload_at + le32_get(w.len_bytes);
	if (le32_get(w.crc) != crc32c(l->buf + at + LOAD_CRC_FROM, f->end - at - LOAD_CRC_FROM)) {
		return errbuf_set(eb, -EBADMSG, "section %s: bad CRC", f->name);
	}
	return 0;
}

/* The next frame of a blob that load_init() has passed. Returns false at the end. */
static bool load_next(const struct load *l, size_t *at, struct load_frame *f)
{
	struct save_section_wire w;

	if (*at == l->len_bytes) {
		return false;
	}
	memcpy(&w, l->buf + *at, sizeof(w));
	memcpy(f->name, w.name, sizeof(f->name));
	f->flags = le32_get(w.flags);
	f->version = le32_get(w.version);
	f->payload_at = *at + sizeof(w);
	f->end = f->payload_at + le32_get(w.len_bytes);
	*at = f->end;
	return true;
}

static bool load_find(const struct load *l, const char *name, size_t end, struct load_frame *f)
{
	for (size_t at = 0; at < end && load_next(l, &at, f);) {
		if (strcmp(f->name, name) == 0) {
			return true;
		}
	}
	return false;
}

int load_init(struct load *l, const void *buf, size_t len_bytes, struct errbuf *eb)
{
	uint32_t count = 0;

	*l = (struct load){.buf = buf, .len_bytes = len_bytes, .eb = eb};
	if (len_bytes > SAVE_BLOB_BYTES_MAX) {
		l->error =
			errbuf_set(eb, -E2BIG, "saved state of %zu bytes is too large", len_bytes);
		return l->error;
	}
	for (size_t at = 0; at < len_bytes;) {
		struct load_frame f = {0};
		struct load_frame twin;

		l->error = load_frame(l, at, &f, eb);
		if (l->error == 0 && ++count > SAVE_SECTIONS_MAX) {
			l->error = errbuf_set(eb, -E2BIG, "saved state has too many sections");
		}
		if (l->error == 0 && load_find(l, f.name, at, &twin)) {
			l->error = errbuf_set(eb, -EBADMSG, "section %s is there twice", f.name);
		}
		if (l->error != 0) {
			return l->error;
		}
		at = f.end;
	}
	return 0;
}

int load_fail(struct load *l, int err, const char *fmt, ...)
{
	char text[ERRBUF_TEXT_MAX];
	va_list ap;

	CHECK(err < 0);
	if (l->error != 0) {
		return l->error;
	}
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->error = errbuf_set(l->eb, err, "%s%s%s", l->section, l->section[0] != '\0' ? ": " : "",
	                      text);
	return l->error;
}

int load_error(const struct load *l)
{
	return l->error;
}

/* load_init() has counted them: at most SAVE_SECTIONS_MAX. */
static void load_note_opened(struct load *l, const struct load_frame *opened)
{
	struct load_frame f;
	uint32_t index = 0;

	for (size_t at = 0; load_next(l, &at, &f) && f.payload_at != opened->payload_at;) {
		index++;
	}
	CHECK(index < SAVE_SECTIONS_MAX);
	l->opened[index / 64] |= 1ull << (index % 64);
}

int load_begin(struct load *l, const char *name, uint32_t version_max)
{
	struct load_frame f;

	CHECK(l->section_end == 0);
	if (l->error != 0) {
		return l->error;
	}
	if (!load_find(l, name, l->len_bytes, &f)) {
		return -ENOENT;
	}
	memcpy(l->section, f.name, sizeof(l->section));
	if (f.version > version_max) {
		(void)load_fail(l, -EPROTONOSUPPORT,
		                "state was saved by a newer version (%u, this one knows %u)",
		                f.version, version_max);
		errbuf_hint(l->eb, "load it with the version that saved it, or a newer one");
		l->section[0] = '\0';
		return l->error;
	}
	load_note_opened(l, &f);
	l->version = f.version;
	l->at = f.payload_at;
	l->section_end = f.end;
	return 0;
}

void load_end(struct load *l)
{
	if (l->error == 0 && l->at != l->section_end) {
		(void)load_fail(l, -EBADMSG, "%zu bytes left over", l->section_end - l->at);
	}
	l->section_end = 0;
	l->section[0] = '\0';
}

/* The next @len_bytes of the open section; NULL after an error or past the end. */
static const uint8_t *load_take(struct load *l, size_t len_bytes)
{
	if (l->error != 0) {
		return NULL;
	}
	CHECK(l->section_end != 0);
	if (len_bytes > l->section_end - l->at) {
		(void)load_fail(l, -EBADMSG, "too short");
		return NULL;
	}

	const uint8_t *at = l->buf + l->at;

	l->at += len_bytes;
	return at;
}

void load_bytes(struct load *l, void *buf, size_t len_bytes)
{
	if (len_bytes == 0) {
		return;
	}

	const uint8_t *at = load_take(l, len_bytes);

	if (at != NULL) {
		memcpy(buf, at, len_bytes);
	} else {
		memset(buf, 0, len_bytes);
	}
}

uint8_t load_u8(struct load *l)
{
	uint8_t v;

	load_bytes(l, &v, sizeof(v));
	return v;
}

uint16_t load_u16(struct load *l)
{
	le16 w;

	load_bytes(l, &w, sizeof(w));
	return le16_get(w);
}

uint32_t load_u32(struct load *l)
{
	le32 w;

	load_bytes(l, &w, sizeof(w));
	return le32_get(w);
}

uint64_t load_u64(struct load *l)
{
	le64 w;

	load_bytes(l, &w, sizeof(w));
	return le64_get(w);
}

bool load_bool(struct load *l)
{
	uint8_t v = load_u8(l);

	if (v > 1) {
		(void)load_fail(l, -EBADMSG, "a flag is %u", v);
		return false;
	}
	return v != 0;
}

uint32_t load_u32_max(struct load *l, uint32_t max, const char *what)
{
	uint32_t v = load_u32(l);

	if (v > max) {
		(void)load_fail(l, -EBADMSG, "%s is %u, at most %u", what, v, max);
		return 0;
	}
	return v;
}

const uint8_t *load_blob(struct load *l, uint32_t max_bytes, uint32_t *len_bytes)
{
	*len_bytes = load_u32_max(l, max_bytes, "length");
	if (*len_bytes == 0) {
		return NULL;
	}

	const uint8_t *at = load_take(l, *len_bytes);

	if (at == NULL) {
		*len_bytes = 0;
	}
	return at;
}

/* The name lies in the blob with its NUL, so it lives as long as that. */
static const char *load_frame_name(const struct load *l, const struct load_frame *f)
{
	return (const char *)l->buf + f->payload_at - sizeof(f->name);
}

const char *load_unknown(const struct load *l, const char *const *known, size_t count)
{
	struct load_frame f;

	for (size_t at = 0; load_next(l, &at, &f);) {
		bool found = (f.flags & SAVE_MANDATORY) == 0;

		for (size_t i = 0; i < count && !found; i++) {
			found = strcmp(known[i], f.name) == 0;
		}
		if (!found) {
			return load_frame_name(l, &f);
		}
	}
	return NULL;
}

const char *load_unread(const struct load *l)
{
	struct load_frame f;
	uint32_t index = 0;

	for (size_t at = 0; load_next(l, &at, &f); index++) {
		if ((f.flags & SAVE_MANDATORY) != 0 &&
		    (l->opened[index / 64] & 1ull << (index % 64)) == 0) {
			return load_frame_name(l, &f);
		}
	}
	return NULL;
}
