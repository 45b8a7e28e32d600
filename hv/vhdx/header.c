/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "hv/vhdx/format_int.h"

uint32_t vhdx_crc(const void *buf, size_t len, size_t hole)
{
	static const uint8_t zero[4];
	const uint8_t *p = buf;
	uint32_t crc = crc32c_update(0, p, hole);

	crc = crc32c_update(crc, zero, sizeof(zero));
	return crc32c_update(crc, p + hole + sizeof(zero), len - hole - sizeof(zero));
}

int vhdx_file_id_check(const void *buf, size_t len, struct errbuf *eb)
{
	if (len < sizeof(struct vhdx_file_id_wire) ||
	    memcmp(buf, VHDX_FILE_ID_SIGNATURE, strlen(VHDX_FILE_ID_SIGNATURE)) != 0) {
		return errbuf_set(eb, -EBADMSG, "no \"vhdxfile\" signature: not a VHDX");
	}
	return 0;
}

struct vhdx_file_id_wire vhdx_file_id_encode(const char *creator)
{
	struct vhdx_file_id_wire w = {0};

	memcpy(w.signature, VHDX_FILE_ID_SIGNATURE, sizeof(w.signature));
	for (size_t i = 0; i < VHDX_CREATOR_CHARS - 1 && creator[i] != '\0'; i++) {
		w.creator[i] = le16_make((uint8_t)creator[i]);
	}
	return w;
}

int vhdx_header_decode(const void *buf, size_t len, struct vhdx_header *out, struct errbuf *eb)
{
	struct vhdx_header_wire w;

	if (len < sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "cut short");
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.signature) != VHDX_HEADER_SIGNATURE) {
		return errbuf_set(eb, -EBADMSG, "no \"head\" signature");
	}
	if (le32_get(w.checksum) !=
	    vhdx_crc(&w, sizeof(w), offsetof(struct vhdx_header_wire, checksum))) {
		return errbuf_set(eb, -EBADMSG, "bad checksum");
	}
	if (le16_get(w.version) != VHDX_VERSION) {
		return errbuf_set(eb, -ENOTSUP, "version %u, not %u", le16_get(w.version),
		                  VHDX_VERSION);
	}
	if (le16_get(w.log_version) != VHDX_LOG_VERSION) {
		return errbuf_set(eb, -ENOTSUP, "log version %u, not %u", le16_get(w.log_version),
		                  VHDX_LOG_VERSION);
	}

	struct vhdx_header header = {
		.sequence = le64_get(w.sequence),
		.file_write = w.file_write,
		.data_write = w.data_write,
		.log = w.log,
		.log_bytes = le32_get(w.log_len),
		.log_offset = le64_get(w.log_offset),
	};

	if (header.log_bytes == 0 || header.log_bytes % VHDX_MIB != 0 ||
	    header.log_offset < VHDX_MIB || header.log_offset % VHDX_MIB != 0 ||
	    header.log_offset > VHDX_FILE_SIZE_MAX) {
		return errbuf_set(eb, -EBADMSG, "log at 0x%llx, 0x%x bytes: not in units of 1 MiB",
		                  (unsigned long long)header.log_offset, header.log_bytes);
	}
	*out = header;
	return 0;
}

void vhdx_header_encode(const struct vhdx_header *header, struct vhdx_header_wire *out)
{
	*out = (struct vhdx_header_wire){
		.signature = le32_make(VHDX_HEADER_SIGNATURE),
		.sequence = le64_make(header->sequence),
		.file_write = header->file_write,
		.data_write = header->data_write,
		.log = header->log,
		.log_version = le16_make(VHDX_LOG_VERSION),
		.version = le16_make(VHDX_VERSION),
		.log_len = le32_make(header->log_bytes),
		.log_offset = le64_make(header->log_offset),
	};
	out->checksum =
		le32_make(vhdx_crc(out, sizeof(*out), offsetof(struct vhdx_header_wire, checksum)));
}
