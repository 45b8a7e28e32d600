/* SPDX-License-Identifier: Apache-2.0 */

/* mkfs - the first content of a volume: an empty root, nothing pending, a clean journal. */
#include <string.h>

#include "csv/meta/meta_int.h"

struct mkfs {
	const struct csv_super *super;
	csv_meta_emit_fn emit; /* borrowed */
	void *arg;             /* borrowed */
	uint8_t buf[CSV_BLOCK_BYTES];
};

static int put(struct mkfs *f, enum csv_block_type type, uint64_t block, uint64_t owner)
{
	const struct csv_block_id id = {type, block, owner, &f->super->volume};

	csv_block_seal(f->buf, &id, f->super->term, 0);
	return f->emit(f->arg, block, f->buf);
}

/* Slots and headers that were never written are all 0. */
static int blank_slots(struct mkfs *f)
{
	const struct {
		uint64_t at;
		uint32_t count;
	} places[] = {
		{CSV_LIVENESS_AT, CSV_NODES_MAX},
		{CSV_VERDICT_AT, CSV_NODES_MAX},
		{CSV_LEADER_AT, 1 + CSV_NODES_MAX},
		{CSV_MAILBOX_AT, CSV_NODES_MAX},
		{CSV_JOURNAL_HEADER_A, CSV_JOURNAL_HEADERS},
		{CSV_JOURNAL_HEADER_B, CSV_JOURNAL_HEADERS},
	};

	memset(f->buf, 0, sizeof(f->buf));
	for (uint32_t i = 0; i < ARRAY_LEN(places); i++) {
		for (uint32_t n = 0; n < places[i].count; n++) {
			int err = f->emit(f->arg, places[i].at + n, f->buf);

			if (err != 0) {
				return err;
			}
		}
	}
	return 0;
}

static int put_header(struct mkfs *f)
{
	const struct csv_journal_header h = {.term = f->super->term, .clean = true, .tail_seq = 1};

	csv_journal_header_encode(&h, &f->super->volume, f->buf);
	return f->emit(f->arg, csv_journal_header_at(h.term, h.seq), f->buf);
}

static bool taken(const struct csv_layout *l, enum csv_block_type type, uint64_t bit)
{
	return type == CSV_UNIT_MAP ? csv_layout_fixed(l, bit) : bit < 2;
}

static int put_map(struct mkfs *f, enum csv_block_type type, uint64_t *all_free)
{
	const struct csv_layout *l = &f->super->layout;
	uint64_t at = type == CSV_UNIT_MAP ? l->unit_map_at : l->pool_map_at;
	uint64_t blocks = type == CSV_UNIT_MAP ? l->unit_map_blocks : l->pool_map_blocks;
	struct csv_map_wire *w = (void *)f->buf;

	for (uint64_t i = 0; i < blocks; i++) {
		uint32_t bits = csv_layout_map_bits(l, type, i);
		uint32_t used = 0;

		memset(f->buf, 0, sizeof(f->buf));
		for (uint32_t bit = 0; bit < bits; bit++) {
			if (taken(l, type, i * CSV_MAP_BITS + bit)) {
				w->map[bit / 8] = (uint8_t)(w->map[bit / 8] | 1u << bit % 8);
				used++;
			}
		}
		w->bits = le32_make(bits);
		w->free = le32_make(bits - used);
		*all_free += bits - used;

		int err = put(f, type, at + i, i);

		if (err != 0) {
			return err;
		}
	}
	return 0;
}

static int put_inode(struct mkfs *f, enum csv_kind kind, uint64_t block, uint64_t now_ns)
{
	struct csv_inode_wire w = {
		.kind = le32_make((uint32_t)kind),
		.mode = le32_make(0755),
		.generation = le64_make(kind == CSV_KIND_DIR ? 1 : 2),
		.parent = le64_make(csv_layout_root(&f->super->layout)),
		.created_ns = le64_make(now_ns),
		.modified_ns = le64_make(now_ns),
		.changed_ns = le64_make(now_ns),
		.cut_block = le64_make(UINT64_MAX),
		.links = le32_make(1),
	};

	memcpy(f->buf, &w, sizeof(w));
	return put(f, CSV_INODE, block, block);
}

static int put_supers(struct mkfs *f)
{
	struct csv_super s = *f->super;
	int err = 0;

	for (uint32_t copy = CSV_SUPER_COPIES; err == 0 && copy-- > 0;) {
		s.copy = copy;
		csv_super_encode(&s, f->buf);
		err = f->emit(f->arg, s.layout.copies[copy], f->buf);
	}
	return err;
}

int csv_meta_format(const struct csv_super *super, uint64_t now_ns, csv_meta_emit_fn emit,
                    void *arg)
{
	struct mkfs f = {.super = super, .emit = emit, .arg = arg};
	const struct csv_layout *l = &super->layout;
	struct csv_state_wire state = {.directories = le64_make(1),
	                               .next_generation = le64_make(3)};
	uint64_t free_units = 0;
	uint64_t pool_free = 0;
	int err = blank_slots(&f);

	if (err == 0) {
		err = put_header(&f);
	}
	if (err == 0) {
		err = put_map(&f, CSV_UNIT_MAP, &free_units);
	}
	if (err == 0) {
		err = put_map(&f, CSV_POOL_MAP, &pool_free);
	}
	if (err == 0) {
		err = put_inode(&f, CSV_KIND_DIR, csv_layout_root(l), now_ns);
	}
	if (err == 0) {
		err = put_inode(&f, CSV_KIND_PENDING, csv_layout_pending(l), now_ns);
	}
	if (err == 0) {
		state.free_units = le64_make(free_units);
		state.pool_free = le64_make(pool_free);
		memcpy(f.buf, &state, sizeof(state));
		err = put(&f, CSV_STATE, l->state_at, 0);
	}
	return err != 0 ? err : put_supers(&f);
}
