/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "csv/format/csv_format.h"

void csv_super_encode(const struct csv_super *s, void *buf)
{
	const struct csv_layout *l = &s->layout;
	struct csv_super_wire w = {
		.compat = le64_make(s->compat),
		.ro_compat = le64_make(s->ro_compat),
		.incompat = le64_make(s->incompat),
		.cluster = s->cluster,
		.size = le64_make(l->size),
		.block_bytes = le32_make(CSV_BLOCK_BYTES),
		.unit_bytes = le32_make(CSV_UNIT_BYTES),
		.nodes_max = le32_make(CSV_NODES_MAX),
		.area_blocks = le64_make(l->area_blocks),
		.state_at = le64_make(l->state_at),
		.unit_map_at = le64_make(l->unit_map_at),
		.unit_map_blocks = le64_make(l->unit_map_blocks),
		.pool_map_at = le64_make(l->pool_map_at),
		.pool_map_blocks = le64_make(l->pool_map_blocks),
		.pool_at = le64_make(l->pool_at),
		.pool_blocks = le64_make(l->pool_blocks),
		.created_ns = le64_make(s->created_ns),
	};

	CHECK(s->copy < CSV_SUPER_COPIES);
	memcpy(w.hash_key, s->hash_key, sizeof(w.hash_key));
	memcpy(w.label, s->label, strnlen(s->label, CSV_LABEL_BYTES));
	for (uint32_t i = 0; i < CSV_SUPER_COPIES; i++) {
		w.copies[i] = le64_make(l->copies[i]);
	}
	memcpy(buf, &w, sizeof(w));

	const struct csv_block_id id = {
		.type = CSV_SUPER,
		.block = l->copies[s->copy],
		.owner = s->copy,
		.volume = &s->volume,
	};

	csv_block_seal(buf, &id, s->term, s->seq);
}

static int check_features(const struct csv_super_wire *w, uint64_t block, bool read_only,
                          struct errbuf *eb)
{
	uint64_t incompat = le64_get(w->incompat) & ~CSV_INCOMPAT_KNOWN;
	uint64_t ro_compat = le64_get(w->ro_compat) & ~CSV_RO_COMPAT_KNOWN;

	if (incompat != 0) {
		errbuf_set(eb, -EPROTONOSUPPORT,
		           "superblock at block %" PRIu64 ": incompatible feature 0x%" PRIx64
		           " is not known to this program",
		           block, incompat);
		errbuf_hint(eb, "A newer Godwit made or changed this volume: use that version.");
		return -EPROTONOSUPPORT;
	}
	if (ro_compat != 0 && !read_only) {
		errbuf_set(eb, -EROFS,
		           "superblock at block %" PRIu64 ": feature 0x%" PRIx64
		           " is not known to this program, which may only read the volume",
		           block, ro_compat);
		errbuf_hint(eb, "A newer Godwit made or changed this volume: use that version.");
		return -EROFS;
	}
	return 0;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != 0) {
			return false;
		}
	}
	return true;
}

static bool label_ok(const uint8_t *label)
{
	size_t len = strnlen((const char *)label, CSV_LABEL_BYTES);

	for (size_t i = 0; i < len; i++) {
		if (label[i] < 0x20 || label[i] == 0x7f) {
			return false;
		}
	}
	return all_zero(label + len, CSV_LABEL_BYTES - len);
}

static void decode_layout(const struct csv_super_wire *w, struct csv_layout *out)
{
	*out = (struct csv_layout){
		.size = le64_get(w->size),
		.area_blocks = le64_get(w->area_blocks),
		.state_at = le64_get(w->state_at),
		.unit_map_at = le64_get(w->unit_map_at),
		.unit_map_blocks = le64_get(w->unit_map_blocks),
		.pool_map_at = le64_get(w->pool_map_at),
		.pool_map_blocks = le64_get(w->pool_map_blocks),
		.pool_at = le64_get(w->pool_at),
		.pool_blocks = le64_get(w->pool_blocks),
	};
	for (uint32_t i = 0; i < CSV_SUPER_COPIES; i++) {
		out->copies[i] = le64_get(w->copies[i]);
	}
}

static int check_fields(const struct csv_super_wire *w, uint64_t block, const char **why)
{
	struct csv_layout l;
	uint64_t copy = le64_get(w->head.owner);

	decode_layout(w, &l);
	*why = NULL;
	if (le32_get(w->block_bytes) != CSV_BLOCK_BYTES ||
	    le32_get(w->unit_bytes) != CSV_UNIT_BYTES || le32_get(w->nodes_max) != CSV_NODES_MAX) {
		*why = "sizes of blocks, units or nodes are not ours";
	} else if (le32_get(w->reserved) != 0 || le64_get(w->reserved2) != 0 ||
	           !all_zero(w->reserved3, sizeof(w->reserved3))) {
		*why = "reserved bytes are not 0";
	} else if (!label_ok(w->label)) {
		*why = "the label is not text";
	} else if (guid_is_nil(&w->head.volume)) {
		*why = "the volume has no name";
	} else if (copy >= CSV_SUPER_COPIES || l.copies[copy] != block) {
		*why = "it is a copy that belongs elsewhere";
	}
	return *why == NULL ? 0 : -EUCLEAN;
}

int csv_super_decode(const void *buf, uint64_t block, bool read_only, struct csv_super *out,
                     struct errbuf *eb)
{
	const struct csv_block_id id = {.type = CSV_SUPER, .block = block, .owner = CSV_OWNER_ANY};
	struct csv_super_wire w;
	struct csv_layout layout;
	struct csv_block_head head;
	const char *why;
	int err = csv_block_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}
	memcpy(&w, buf, sizeof(w));
	/* Features first: what they change must not look like damage. */
	err = check_features(&w, block, read_only, eb);
	if (err != 0) {
		return err;
	}
	decode_layout(&w, &layout);
	if (check_fields(&w, block, &why) != 0) {
		return errbuf_set(eb, -EUCLEAN, "superblock at block %" PRIu64 ": %s", block, why);
	}
	err = csv_layout_check(&layout, eb);
	if (err != 0) {
		errbuf_prepend(eb, "superblock at block %" PRIu64, block);
		return err;
	}
	*out = (struct csv_super){
		.compat = le64_get(w.compat),
		.ro_compat = le64_get(w.ro_compat),
		.incompat = le64_get(w.incompat),
		.term = head.term,
		.seq = head.seq,
		.copy = (uint32_t)head.owner,
		.volume = head.volume,
		.cluster = w.cluster,
		.layout = layout,
		.created_ns = le64_get(w.created_ns),
	};
	memcpy(out->hash_key, w.hash_key, sizeof(out->hash_key));
	memcpy(out->label, w.label, CSV_LABEL_BYTES);
	return 0;
}
