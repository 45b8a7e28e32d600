/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/save/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/fault.h"
#include "base/wire.h"
#include "hv/save/save_wire.h"

#define SAVE_ROOM_MIN 4096u
#define SAVE_CRC_FROM offsetof(struct save_section_wire, flags)

void save_init(struct save *s)
{
	*s = (struct save){.section_at = SIZE_MAX};
}

void save_fini(struct save *s)
{
	free(s->buf);
	save_init(s);
}

/* Room for @more bytes at the end; NULL after a failure. */
static uint8_t *save_grow(struct save *s, size_t more)
{
	if (s->error != 0) {
		return NULL;
	}
	if (more > SAVE_BLOB_BYTES_MAX - s->len_bytes) {
		s->error = -E2BIG;
		return NULL;
	}

	size_t need = s->len_bytes + more;

	if (need > s->room_bytes) {
		size_t room = s->room_bytes != 0 ? s->room_bytes : SAVE_ROOM_MIN;

		while (room < need) {
			room *= 2;
		}

		uint8_t *buf = gw_realloc_array(s->buf, room, 1);

		if (buf == NULL) {
			s->error = -ENOMEM;
			return NULL;
		}
		s->buf = buf;
		s->room_bytes = room;
	}

	uint8_t *at = s->buf + s->len_bytes;

	s->len_bytes = need;
	return at;
}

static bool save_name_ok(const uint8_t *name, size_t len)
{
	if (len == 0 || len > SAVE_NAME_MAX) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (name[i] <= ' ' || name[i] > '~') {
			return false;
		}
	}
	return true;
}

void save_begin(struct save *s, const char *name, uint32_t version, bool mandatory)
{
	struct save_section_wire w = {
		.magic = le32_make(SAVE_MAGIC),
		.flags = le32_make(mandatory ? SAVE_MANDATORY : 0),
		.version = le32_make(version),
	};
	size_t name_len = strlen(name);

	CHECK(s->section_at == SIZE_MAX && version != 0);
	CHECK(save_name_ok((const uint8_t *)name, name_len));
	memcpy(w.name, name, name_len);
	s->section_at = s->len_bytes;
	save_bytes(s, &w, sizeof(w));
}

void save_end(struct save *s)
{
	CHECK(s->section_at != SIZE_MAX);

	size_t at = s->section_at;

	s->section_at = SIZE_MAX;
	if (s->error != 0) {
		return;
	}

	struct save_section_wire w;
	size_t payload = s->len_bytes - at - sizeof(w);

	if (payload > SAVE_SECTION_BYTES_MAX) {
		s->error = -E2BIG;
		return;
	}
	memcpy(&w, s->buf + at, sizeof(w));
	w.len_bytes = le32_make((uint32_t)payload);
	memcpy(s->buf + at, &w, sizeof(w));
	w.crc = le32_make(crc32c(s->buf + at + SAVE_CRC_FROM, s->len_bytes - at - SAVE_CRC_FROM));
	memcpy(s->buf + at, &w, sizeof(w));
}

void save_bytes(struct save *s, const void *buf, size_t len_bytes)
{
	CHECK(s->section_at != SIZE_MAX);
	if (len_bytes == 0) {
		return;
	}

	uint8_t *at = save_grow(s, len_bytes);

	if (at != NULL) {
		memcpy(at, buf, len_bytes);
	}
}

void save_u8(struct save *s, uint8_t v)
{
	save_bytes(s, &v, sizeof(v));
}

void save_u16(struct save *s, uint16_t v)
{
	le16 w = le16_make(v);

	save_bytes(s, &w, sizeof(w));
}

void save_u32(struct save *s, uint32_t v)
{
	le32 w = le32_make(v);

	save_bytes(s, &w, sizeof(w));
}

void save_u64(struct save *s, uint64_t v)
{
	le64 w = le64_make(v);

	save_bytes(s, &w, sizeof(w));
}

void save_bool(struct save *s, bool v)
{
	save_u8(s, v ? 1 : 0);
}

void save_blob(struct save *s, const void *buf, uint32_t len_bytes)
{
	save_u32(s, len_bytes);
	save_bytes(s, buf, len_bytes);
}

int save_finish(struct save *s, uint8_t **buf, size_t *len_bytes)
{
	int err = s->error;

	CHECK(s->section_at == SIZE_MAX);
	*buf = NULL;
	*len_bytes = 0;
	if (err == 0) {
		*buf = s->buf;
		*len_bytes = s->len_bytes;
		s->buf = NULL;
	}
	save_fini(s);
	return err;
}
