/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csv/format/sample.h"

#include <stdlib.h>
#include <string.h>

#define TERM 7u
#define SEQ 1234u
#define NODE_NUMBER 3u

const struct guid csv_sample_volume =
	GUID_INIT(0x00112233, 0x4455, 0x6677, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff);

void csv_sample_layout(struct csv_layout *out)
{
	const struct csv_layout_cfg cfg = {.size_bytes = 256u << 20};

	if (csv_layout_make(&cfg, out, NULL) != 0) {
		abort();
	}
}

static struct csv_block_id make_id(enum csv_block_type type, uint64_t block, uint64_t owner)
{
	return (struct csv_block_id){type, block, owner, &csv_sample_volume};
}

static void make_super(void *buf, struct csv_block_id *id)
{
	struct csv_super s = {
		.term = TERM,
		.seq = SEQ,
		.copy = 1,
		.volume = csv_sample_volume,
		.cluster = GUID_INIT(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
		.hash_key = "0123456789abcde",
		.created_ns = 1700000000000000000ull,
		.label = "vol1",
	};

	csv_sample_layout(&s.layout);
	csv_super_encode(&s, buf);
	*id = make_id(CSV_SUPER, s.layout.copies[1], CSV_OWNER_ANY);
}

static void make_liveness(void *buf, struct csv_block_id *id)
{
	const struct csv_liveness s = {TERM,
	                               SEQ,
	                               GUID_INIT(9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1),
	                               5,
	                               6,
	                               123456,
	                               0xabcd,
	                               3,
	                               10000,
	                               CSV_NODE_IN_USE,
	                               "n3"};

	csv_liveness_encode(&s, &csv_sample_volume, NODE_NUMBER, buf);
	*id = make_id(CSV_LIVENESS, CSV_LIVENESS_AT + NODE_NUMBER, NODE_NUMBER);
}

static void make_verdict(void *buf, struct csv_block_id *id)
{
	const struct csv_verdict s = {TERM, SEQ, 5, 6, 1700000000000000000ull, true, 2};

	csv_verdict_encode(&s, &csv_sample_volume, NODE_NUMBER, buf);
	*id = make_id(CSV_VERDICT, CSV_VERDICT_AT + NODE_NUMBER, NODE_NUMBER);
}

static void make_mailbox(void *buf, struct csv_block_id *id)
{
	const struct csv_mailbox s = {TERM, SEQ, 5, 99, CSV_COMMAND_RESET, 2};

	csv_mailbox_encode(&s, &csv_sample_volume, NODE_NUMBER, buf);
	*id = make_id(CSV_MAILBOX, CSV_MAILBOX_AT + NODE_NUMBER, NODE_NUMBER);
}

static void make_leader(void *buf, struct csv_block_id *id)
{
	const struct csv_leader s = {TERM, SEQ, 5, 17, 2};

	csv_leader_encode(&s, &csv_sample_volume, buf);
	*id = make_id(CSV_LEADER, CSV_LEADER_AT, 0);
}

static void make_ballot(void *buf, struct csv_block_id *id)
{
	const struct csv_ballot s = {TERM, SEQ, 131, 67, 17, 8, 5, 2};

	csv_ballot_encode(&s, &csv_sample_volume, NODE_NUMBER, buf);
	*id = make_id(CSV_BALLOT, CSV_LEADER_AT + 1 + NODE_NUMBER, NODE_NUMBER);
}

static void make_journal_header(void *buf, struct csv_block_id *id)
{
	const struct csv_journal_header s = {
		.term = TERM,
		.seq = 3,
		.area = 1,
		.held = true,
		.tail_at = 0,
		.tail_seq = 50,
		.held_term = 6,
		.held_at = 200,
		.held_seq = 40,
		.held_end_seq = 50,
	};

	csv_journal_header_encode(&s, &csv_sample_volume, buf);
	*id = make_id(CSV_JOURNAL_HEADER, csv_journal_header_at(TERM, 3), CSV_OWNER_ANY);
}

static void make_txn(void *buf, struct csv_block_id *id)
{
	struct csv_journal_txn s = {.term = TERM, .seq = SEQ, .area = 1, .at = 9, .count = 2};
	struct csv_layout l;

	csv_sample_layout(&l);
	s.entries[0].block = l.state_at;
	s.entries[0].crc = 0x11223344;
	s.entries[1].block = l.pool_at + 5;
	s.entries[1].crc = 0x55667788;
	csv_journal_txn_encode(&s, &l, &csv_sample_volume, buf);
	*id = make_id(CSV_JOURNAL_TXN, csv_layout_area(&l, 1) + 9, 1);
}

static void make_state(void *buf, struct csv_block_id *id)
{
	const struct csv_state_wire w = {
		.free_units = le64_make(100),
		.reserved_units = le64_make(10),
		.pool_free = le64_make(900),
		.files = le64_make(4),
		.directories = le64_make(2),
		.pending = le64_make(1),
		.next_generation = le64_make(77),
	};
	struct csv_layout l;

	csv_sample_layout(&l);
	memcpy(buf, &w, sizeof(w));
	*id = make_id(CSV_STATE, l.state_at, 0);
	csv_block_seal(buf, id, TERM, SEQ);
}

static void make_map(void *buf, struct csv_block_id *id)
{
	struct csv_map_wire w = {.bits = le32_make(256), .free = le32_make(256 - 12)};
	struct csv_layout l;

	csv_sample_layout(&l);
	w.map[0] = 0xff;
	w.map[1] = 0x0f;
	memcpy(buf, &w, sizeof(w));
	*id = make_id(CSV_UNIT_MAP, l.unit_map_at, 0);
	csv_block_seal(buf, id, TERM, SEQ);
}

static void make_file(void *buf, struct csv_block_id *id)
{
	struct csv_inode_wire w = {
		.kind = le32_make(CSV_KIND_FILE),
		.mode = le32_make(0640),
		.uid = le32_make(107),
		.gid = le32_make(107),
		.generation = le64_make(33),
		.size_bytes = le64_make(5000000),
		.token = le64_make(4),
		.created_ns = le64_make(1),
		.modified_ns = le64_make(2),
		.changed_ns = le64_make(3),
		.units = le64_make(3),
		.reserved_units = le64_make(8),
		.cut_block = le64_make(UINT64_MAX),
		.links = le32_make(1),
		.count = le16_make(3),
	};
	struct csv_layout l;

	csv_sample_layout(&l);

	uint64_t data = csv_layout_data_unit(&l) * CSV_UNIT_BLOCKS;
	const struct csv_extent_wire extents[3] = {
		{le64_make(0), le64_make(data), le32_make(300), le32_make(0)},
		{le64_make(300), le64_make(data + 300), le32_make(212),
	         le32_make(CSV_EXTENT_UNWRITTEN)},
		{le64_make(1024), le64_make(data + 1024), le32_make(256), le32_make(0)},
	};

	w.parent = le64_make(csv_layout_root(&l));
	memcpy(w.records, extents, sizeof(extents));
	memcpy(buf, &w, sizeof(w));
	*id = make_id(CSV_INODE, l.pool_at + 9, l.pool_at + 9);
	csv_block_seal(buf, id, TERM, SEQ);
}

static void make_dir_node(void *buf, struct csv_block_id *id)
{
	struct csv_node_wire w = {
		.count = le16_make(2),
		.kind = le32_make(CSV_KIND_DIR),
		.low = le64_make(1000),
	};
	struct csv_layout l;

	csv_sample_layout(&l);

	const struct csv_dirent_wire names[2] = {
		{le64_make(1024), le64_make(l.pool_at + 9), le64_make(33), CSV_KIND_FILE, 9,
	         "disk.vhdx"},
		{le64_make(2048), le64_make(l.pool_at + 10), le64_make(34), CSV_KIND_DIR, 3, "web"},
	};

	memcpy(w.records, names, sizeof(names));
	memcpy(buf, &w, sizeof(w));
	*id = make_id(CSV_NODE, l.pool_at + 12, l.pool_at);
	csv_block_seal(buf, id, TERM, SEQ);
}

static void make_index_node(void *buf, struct csv_block_id *id)
{
	struct csv_node_wire w = {
		.level = le16_make(1),
		.count = le16_make(2),
		.kind = le32_make(CSV_KIND_FILE),
		.low = le64_make(256),
	};
	struct csv_layout l;

	csv_sample_layout(&l);

	const struct csv_index_wire children[2] = {
		{le64_make(256), le64_make(l.pool_at + 20)},
		{le64_make(9000), le64_make(l.pool_at + 21)},
	};

	memcpy(w.records, children, sizeof(children));
	memcpy(buf, &w, sizeof(w));
	*id = make_id(CSV_NODE, l.pool_at + 19, l.pool_at + 9);
	csv_block_seal(buf, id, TERM, SEQ);
}

static void make_pending(void *buf, struct csv_block_id *id)
{
	struct csv_inode_wire w = {
		.kind = le32_make(CSV_KIND_PENDING),
		.generation = le64_make(2),
		.cut_block = le64_make(UINT64_MAX),
		.links = le32_make(1),
		.count = le16_make(1),
	};
	struct csv_layout l;

	csv_sample_layout(&l);

	const struct csv_pending_wire one = {le64_make(l.pool_at + 9), le64_make(33), {{0}}};

	w.parent = le64_make(csv_layout_root(&l));
	memcpy(w.records, &one, sizeof(one));
	memcpy(buf, &w, sizeof(w));
	*id = make_id(CSV_INODE, csv_layout_pending(&l), csv_layout_pending(&l));
	csv_block_seal(buf, id, TERM, SEQ);
}

static const struct {
	const char *name;
	void (*make)(void *buf, struct csv_block_id *id);
} samples[] = {
	{"super", make_super},
	{"liveness", make_liveness},
	{"verdict", make_verdict},
	{"mailbox", make_mailbox},
	{"leader", make_leader},
	{"ballot", make_ballot},
	{"journal-header", make_journal_header},
	{"transaction", make_txn},
	{"state", make_state},
	{"map", make_map},
	{"file", make_file},
	{"directory-node", make_dir_node},
	{"index-node", make_index_node},
	{"pending", make_pending},
};

const char *csv_sample(uint32_t i, void *buf, struct csv_block_id *id)
{
	if (i >= ARRAY_LEN(samples)) {
		return NULL;
	}
	memset(buf, 0, CSV_BLOCK_BYTES);
	samples[i].make(buf, id);
	return samples[i].name;
}

union any {
	struct csv_super super;
	struct csv_liveness liveness;
	struct csv_verdict verdict;
	struct csv_mailbox mailbox;
	struct csv_leader leader;
	struct csv_ballot ballot;
	struct csv_journal_header header;
	struct csv_journal_txn txn;
};

static int decode(const void *buf, const struct csv_block_id *id, union any *out, struct errbuf *eb)
{
	const struct guid *volume = &csv_sample_volume;
	uint32_t node = (uint32_t)id->owner;
	struct csv_layout l;

	csv_sample_layout(&l);
	switch (id->type) {
	case CSV_SUPER:
		return csv_super_decode(buf, id->block, false, &out->super, eb);
	case CSV_LIVENESS:
		return csv_liveness_decode(buf, volume, node, &out->liveness, eb);
	case CSV_VERDICT:
		return csv_verdict_decode(buf, volume, node, &out->verdict, eb);
	case CSV_MAILBOX:
		return csv_mailbox_decode(buf, volume, node, &out->mailbox, eb);
	case CSV_LEADER:
		return csv_leader_decode(buf, volume, &out->leader, eb);
	case CSV_BALLOT:
		return csv_ballot_decode(buf, volume, node, &out->ballot, eb);
	case CSV_JOURNAL_HEADER:
		return csv_journal_header_decode(buf, &l, volume, id->block, &out->header, eb);
	case CSV_JOURNAL_TXN:
		return csv_journal_txn_decode(buf, &l, volume, 1,
		                              id->block - csv_layout_area(&l, 1), &out->txn, eb);
	case CSV_STATE:
	case CSV_UNIT_MAP:
	case CSV_POOL_MAP:
	case CSV_INODE:
	case CSV_NODE:
		break;
	}
	return csv_meta_verify(buf, &l, id, eb);
}

int csv_sample_decode(const void *buf, const struct csv_block_id *id, struct errbuf *eb)
{
	static union any any;

	return decode(buf, id, &any, eb);
}

bool csv_sample_again(const void *buf, const struct csv_block_id *id, void *out)
{
	const struct guid *volume = &csv_sample_volume;
	uint32_t node = (uint32_t)id->owner;
	static union any any;
	struct csv_layout l;

	csv_sample_layout(&l);
	if (decode(buf, id, &any, NULL) != 0) {
		return false;
	}
	switch (id->type) {
	case CSV_SUPER:
		csv_super_encode(&any.super, out);
		return true;
	case CSV_LIVENESS:
		csv_liveness_encode(&any.liveness, volume, node, out);
		return true;
	case CSV_VERDICT:
		csv_verdict_encode(&any.verdict, volume, node, out);
		return true;
	case CSV_MAILBOX:
		csv_mailbox_encode(&any.mailbox, volume, node, out);
		return true;
	case CSV_LEADER:
		csv_leader_encode(&any.leader, volume, out);
		return true;
	case CSV_BALLOT:
		csv_ballot_encode(&any.ballot, volume, node, out);
		return true;
	case CSV_JOURNAL_HEADER:
		csv_journal_header_encode(&any.header, volume, out);
		return true;
	case CSV_JOURNAL_TXN:
		csv_journal_txn_encode(&any.txn, &l, volume, out);
		return true;
	case CSV_STATE:
	case CSV_UNIT_MAP:
	case CSV_POOL_MAP:
	case CSV_INODE:
	case CSV_NODE:
		break;
	}
	return false;
}
