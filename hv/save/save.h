/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SAVE_SAVE_H
#define HV_SAVE_SAVE_H

/*
 * save - the sections in which a stopped partition's state travels to a file or another host.
 *
 * A blob is a sequence of sections: a header with magic, CRC, flags, version, length and name,
 * then the payload. Each device writes one section named after itself and its instance ("vmbus",
 * "storvsp.0"); the payload is a plain sequence of little-endian fields in the order the X_save.c
 * writes them. A reader that does not know a mandatory section refuses the blob, and skips an
 * optional one. Within a section, newer versions only append; a reader takes older versions and
 * refuses newer ones, so whoever saves for an older reader writes the older version.
 * docs/formats/save.md has the bytes, hv/save/save_wire.h the header.
 *
 * Errors are sticky: after the first failure every further call does nothing, and save_finish()
 * or load_finish() returns it; that keeps X_save.c a list of fields.
 * Pure: no I/O, no threads. A blob from a peer or a file is hostile.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define SAVE_NAME_MAX 31u
#define SAVE_SECTION_BYTES_MAX (64u << 20) /* device state, never RAM */
#define SAVE_BLOB_BYTES_MAX (256u << 20)
#define SAVE_SECTIONS_MAX 2048u /* 64 vCPUs and every device there can be, several times over */

/* Writer. Embed; start with save_init(), end with save_finish() or save_fini(). */
struct save {
	uint8_t *buf; /* owned */
	size_t len_bytes;
	size_t room_bytes;
	size_t section_at; /* offset of the open section's header; SIZE_MAX = none */
	int error;
};

void save_init(struct save *s);
void save_fini(struct save *s);

/* save_begin()/save_end() - around the fields of a section. Do not nest. @version >= 1; @name has
 * 1..SAVE_NAME_MAX printable characters and is new to the blob. */
void save_begin(struct save *s, const char *name, uint32_t version, bool mandatory);
void save_end(struct save *s);

void save_u8(struct save *s, uint8_t v);
void save_u16(struct save *s, uint16_t v);
void save_u32(struct save *s, uint32_t v);
void save_u64(struct save *s, uint64_t v);
void save_bool(struct save *s, bool v);
void save_bytes(struct save *s, const void *buf, size_t len_bytes);  /* as they are, no length */
void save_blob(struct save *s, const void *buf, uint32_t len_bytes); /* u32 length, then bytes */

/*
 * save_finish() - the blob; @buf passes to the caller (free()); @s is empty again.
 * Returns 0; -ENOMEM; -E2BIG (NULL then). CHECKs that no section is open.
 */
MUST_USE int save_finish(struct save *s, uint8_t **buf, size_t *len_bytes);

/* Reader. Value type; borrows the blob until the end. */
struct load {
	const uint8_t *buf;
	size_t len_bytes;
	size_t at;          /* next byte of the open section */
	size_t section_end; /* first byte behind it; 0 = none is open */
	uint32_t version;   /* of the open section */
	char section[SAVE_NAME_MAX + 1];
	uint64_t opened[SAVE_SECTIONS_MAX / 64]; /* bit per section, in the blob's order */
	int error;
	struct errbuf *eb; /* borrowed; may be NULL */
};

/*
 * load_init() - check the whole blob: frames, lengths, CRCs, no duplicate names.
 * @buf[len_bytes]: borrowed as long as @l is used, like @eb.
 * Returns 0; -EBADMSG damaged, with the section named in @eb; -E2BIG more than the limits above.
 */
MUST_USE int load_init(struct load *l, const void *buf, size_t len_bytes, struct errbuf *eb);

/*
 * load_begin() - open the section @name, at most @version_max.
 * Returns 0; -ENOENT no such section (not sticky); -EPROTONOSUPPORT newer than we know (sticky);
 * the sticky error.
 */
MUST_USE int load_begin(struct load *l, const char *name, uint32_t version_max);

/* load_end() - close it; bytes left over are an error (-EBADMSG). Also after a failure. */
void load_end(struct load *l);

/* Fields; 0 after an error. load_u32_max() also bounds the value; @what names it in the error. */
uint8_t load_u8(struct load *l);
uint16_t load_u16(struct load *l);
uint32_t load_u32(struct load *l);
uint64_t load_u64(struct load *l);
bool load_bool(struct load *l); /* only 0 and 1 are legal */
uint32_t load_u32_max(struct load *l, uint32_t max, const char *what);
void load_bytes(struct load *l, void *buf, size_t len_bytes);
/* load_blob() - a u32 length <= max_bytes and its bytes, borrowed from the blob; NULL if empty. */
const uint8_t *load_blob(struct load *l, uint32_t max_bytes, uint32_t *len_bytes);

/* load_fail() - a field is illegal: make it the sticky error. Returns @err. */
int load_fail(struct load *l, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* load_error() - 0 or the sticky error. */
MUST_USE int load_error(const struct load *l);

/*
 * load_unknown() - the first mandatory section that is not in @known[count], or NULL: a reader
 * calls it before it touches anything.
 */
const char *load_unknown(const struct load *l, const char *const *known, size_t count);

/*
 * load_unread() - the first mandatory section that load_begin() has not opened so far, or NULL: for
 * a reader that knows only at the end which sections are its own.
 */
const char *load_unread(const struct load *l);

#endif
