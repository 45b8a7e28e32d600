/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "csv/format/csv_format.h"

static const char *const type_names[] = {
	[0] = "unknown block",
	[CSV_SUPER] = "superblock",
	[CSV_LIVENESS] = "liveness slot",
	[CSV_VERDICT] = "verdict slot",
	[CSV_MAILBOX] = "mailbox",
	[CSV_LEADER] = "leader record",
	[CSV_BALLOT] = "ballot",
	[CSV_JOURNAL_HEADER] = "journal header",
	[CSV_JOURNAL_TXN] = "transaction",
	[CSV_STATE] = "volume state",
	[CSV_UNIT_MAP] = "map of units",
	[CSV_POOL_MAP] = "map of the pool",
	[CSV_INODE] = "inode",
	[CSV_NODE] = "tree node",
};

const char *csv_block_type_name(uint32_t type)
{
	return type < ARRAY_LEN(type_names) ? type_names[type] : type_names[0];
}

static uint32_t block_crc(const void *buf)
{
	const uint8_t *p = buf;
	const uint8_t zero[4] = {0};
	uint32_t crc = crc32c(p, 4);

	crc = crc32c_update(crc, zero, sizeof(zero));
	return crc32c_update(crc, p + 8, CSV_BLOCK_BYTES - 8);
}

void csv_block_seal(void *buf, const struct csv_block_id *id, uint64_t term, uint64_t seq)
{
	struct csv_block_wire w = {
		.magic = le32_make(CSV_MAGIC),
		.type = le16_make((uint16_t)id->type),
		.version = le16_make(CSV_VERSION),
		.block = le64_make(id->block),
		.owner = le64_make(id->owner),
		.volume = *id->volume,
		.term = le64_make(term),
		.seq = le64_make(seq),
	};

	memcpy(buf, &w, sizeof(w));
	w.crc = le32_make(block_crc(buf));
	memcpy(buf, &w, sizeof(w));
}

static int bad(const struct csv_block_id *id, struct errbuf *eb, const char *what)
{
	return errbuf_set(eb, -EUCLEAN, "%s at block %" PRIu64 ": %s",
	                  csv_block_type_name((uint32_t)id->type), id->block, what);
}

int csv_block_open(const void *buf, const struct csv_block_id *id, struct csv_block_head *out,
                   struct errbuf *eb)
{
	struct csv_block_wire w;

	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.magic) != CSV_MAGIC) {
		return bad(id, eb, "not a block of a volume (bad magic)");
	}
	if (le32_get(w.crc) != block_crc(buf)) {
		return bad(id, eb, "bad checksum");
	}
	if (le16_get(w.version) != CSV_VERSION) {
		return errbuf_set(eb, -EPROTONOSUPPORT,
		                  "%s at block %" PRIu64 ": version %u, this program knows %u",
		                  csv_block_type_name((uint32_t)id->type), id->block,
		                  le16_get(w.version), CSV_VERSION);
	}
	if (le16_get(w.type) != id->type) {
		return errbuf_set(eb, -EUCLEAN,
		                  "%s at block %" PRIu64 ": it is a block of type \"%s\"",
		                  csv_block_type_name((uint32_t)id->type), id->block,
		                  csv_block_type_name(le16_get(w.type)));
	}
	if (le64_get(w.block) != id->block) {
		return errbuf_set(
			eb, -EUCLEAN, "%s at block %" PRIu64 ": belongs to block %" PRIu64,
			csv_block_type_name((uint32_t)id->type), id->block, le64_get(w.block));
	}
	if (id->volume != NULL && !guid_equal(&w.volume, id->volume)) {
		return bad(id, eb, "is of another volume");
	}
	if (id->owner != CSV_OWNER_ANY && le64_get(w.owner) != id->owner) {
		return errbuf_set(eb, -EUCLEAN,
		                  "%s at block %" PRIu64 ": is of owner %" PRIu64 ", not %" PRIu64,
		                  csv_block_type_name((uint32_t)id->type), id->block,
		                  le64_get(w.owner), id->owner);
	}
	if (le32_get(w.reserved) != 0) {
		return bad(id, eb, "reserved bytes are not 0");
	}
	if (out != NULL) {
		*out = (struct csv_block_head){
			.owner = le64_get(w.owner),
			.term = le64_get(w.term),
			.seq = le64_get(w.seq),
			.volume = w.volume,
		};
	}
	return 0;
}
