/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_FORMAT_CSV_FORMAT_H
#define CSV_FORMAT_CSV_FORMAT_H

/*
 * csv_format - encoding, decoding and judging the blocks of a shared volume (docs/formats/csv.md).
 *
 * Every block comes from a disk that several nodes write: hostile. Small records (superblock,
 * slots, journal header) are decoded into structs. The blocks of the metadata (state, maps, inodes,
 * tree nodes) are judged as a whole by csv_meta_verify() and then used where they are; what passed
 * has sorted keys, counts within bounds, and addresses inside the region they must point into.
 *
 * All decoders: @buf is CSV_BLOCK_BYTES, borrowed; *out is untouched on failure; -EUCLEAN is a
 * block that is not what it should be, and @eb names the block and says why. No state, any thread,
 * no allocation.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "csv/format/csv_wire.h"

struct errbuf;

#define CSV_OWNER_ANY UINT64_MAX
#define CSV_NO_BLOCK UINT64_MAX

/* Which block it should be. */
struct csv_block_id {
	enum csv_block_type type;
	uint64_t block;
	uint64_t owner;            /* CSV_OWNER_ANY = do not ask */
	const struct guid *volume; /* borrowed; NULL = do not ask */
};

/* What a block's head says beyond that. */
struct csv_block_head {
	uint64_t owner;
	uint64_t term;
	uint64_t seq;
	struct guid volume;
};

/*
 * csv_block_seal() - fill in the head of @buf and its checksum; the rest is left as it is.
 * @id: volume must be given.
 */
void csv_block_seal(void *buf, const struct csv_block_id *id, uint64_t term, uint64_t seq);

/*
 * csv_block_open() - is @buf the block that @id names, and unharmed?
 * @out: may be NULL.
 * Returns 0; -EUCLEAN. -EPROTONOSUPPORT: intact, but of a version that we do not know.
 */
MUST_USE int csv_block_open(const void *buf, const struct csv_block_id *id,
                            struct csv_block_head *out, struct errbuf *eb);

/* csv_block_type_name() - "superblock", "inode", ...; "unknown block". */
const char *csv_block_type_name(uint32_t type);

/* Features that this version knows. Bits beyond them are refused by number. */
#define CSV_COMPAT_KNOWN 0ull
#define CSV_RO_COMPAT_KNOWN 0ull
#define CSV_INCOMPAT_KNOWN 0ull

/* Where things are on one volume. Value type; consistent if it came from csv_layout_make() or a
 * superblock. Addresses and lengths [blocks]. */
struct csv_layout {
	uint64_t size;
	uint64_t area_blocks; /* of each of the journal's two areas; they start at CSV_JOURNAL_AT */
	uint64_t state_at;
	uint64_t unit_map_at;
	uint64_t unit_map_blocks;
	uint64_t pool_map_at;
	uint64_t pool_map_blocks;
	uint64_t pool_at;
	uint64_t pool_blocks;
	uint64_t copies[CSV_SUPER_COPIES];
};

/* Sizes that somebody chose; 0 = as the volume's size suggests. */
struct csv_layout_cfg {
	uint64_t size_bytes; /* of the device; what is beyond whole units is not used */
	uint64_t area_bytes; /* whole units, 1 MiB..256 MiB */
	uint64_t pool_bytes; /* whole units */
};

/*
 * csv_layout_make() - divide a device.
 * Returns 0; -EINVAL a size is out of range, or the regions leave no room for files.
 */
MUST_USE int csv_layout_make(const struct csv_layout_cfg *cfg, struct csv_layout *out,
                             struct errbuf *eb);

/* csv_layout_check() - is this division of a device one that we could have made? -EUCLEAN. */
MUST_USE int csv_layout_check(const struct csv_layout *layout, struct errbuf *eb);

/* csv_layout_area() - the first block of a journal area, @area 0 or 1. */
uint64_t csv_layout_area(const struct csv_layout *layout, uint32_t area);

/* csv_layout_units() - how many units the volume has. */
static inline uint64_t csv_layout_units(const struct csv_layout *layout)
{
	return layout->size / CSV_UNIT_BLOCKS;
}

/* csv_layout_data_unit() - the first unit behind the metadata. */
uint64_t csv_layout_data_unit(const struct csv_layout *layout);

/* csv_layout_fixed() - is this unit never a file's: metadata, or a copy of the superblock? */
bool csv_layout_fixed(const struct csv_layout *layout, uint64_t unit);

/* csv_layout_root() - the inode of the root directory; of what is pending. */
static inline uint64_t csv_layout_root(const struct csv_layout *layout)
{
	return layout->pool_at;
}

static inline uint64_t csv_layout_pending(const struct csv_layout *layout)
{
	return layout->pool_at + 1;
}

/* csv_layout_in_pool() - can an inode or a tree node be here? */
static inline bool csv_layout_in_pool(const struct csv_layout *layout, uint64_t block)
{
	return block >= layout->pool_at && block - layout->pool_at < layout->pool_blocks;
}

/* csv_layout_map_bits() - how many bits of map block @index count; @type CSV_UNIT_MAP or
 * CSV_POOL_MAP. */
uint32_t csv_layout_map_bits(const struct csv_layout *layout, enum csv_block_type type,
                             uint64_t index);

/* csv_layout_super_places() - where copies of the superblock are on a device of this size, for one
 * who has not read any. @out[CSV_SUPER_COPIES] [blocks]. Returns 0; -EINVAL too small, too big. */
MUST_USE int csv_layout_super_places(uint64_t size_bytes, uint64_t *out);

struct csv_super {
	uint64_t compat;
	uint64_t ro_compat;
	uint64_t incompat;
	uint64_t term; /* in which it was written */
	uint64_t seq;  /* greatest = newest */
	uint32_t copy;
	struct guid volume;
	struct guid cluster;
	uint8_t hash_key[16];
	struct csv_layout layout;
	uint64_t created_ns;
	char label[CSV_LABEL_BYTES + 1]; /* printable, no control characters */
};

/* csv_super_encode() - @super->copy says which copy @buf becomes. @super must be decodable. */
void csv_super_encode(const struct csv_super *super, void *buf);

/*
 * csv_super_decode() - judge the superblock that was read from @block.
 * Returns 0; -EUCLEAN; -EPROTONOSUPPORT it says what we do not know in version or incompat (@eb
 * names the bits); -EROFS the same in ro_compat, unless @read_only.
 */
MUST_USE int csv_super_decode(const void *buf, uint64_t block, bool read_only,
                              struct csv_super *out, struct errbuf *eb);

enum csv_node_state {
	CSV_NODE_FREE = 0,
	CSV_NODE_JOINING = 1,
	CSV_NODE_IN_USE = 2,
	CSV_NODE_LEAVING = 3,
};

struct csv_liveness {
	uint64_t term; /* the volume term that the node knows */
	uint64_t seq;  /* one more with every write */
	struct guid node;
	uint64_t incarnation;
	uint64_t epoch;
	uint64_t boottime_ms;
	uint64_t pr_key;
	uint64_t path_mask;
	uint32_t lease_ms;
	enum csv_node_state state;
	char name[65];
};

struct csv_verdict {
	uint64_t term;
	uint64_t seq;
	uint64_t incarnation;
	uint64_t epoch;
	uint64_t at_ns;
	bool fenced;
	uint32_t by_node;
};

enum csv_command {
	CSV_COMMAND_NONE = 0,
	CSV_COMMAND_TEST = 1,
	CSV_COMMAND_EXIT = 2,
	CSV_COMMAND_RESET = 3,
	CSV_COMMAND_POWER_OFF = 4,
};

struct csv_mailbox {
	uint64_t term;
	uint64_t seq;
	uint64_t incarnation;
	uint64_t argument;
	enum csv_command command;
	uint32_t from_node;
};

struct csv_leader {
	uint64_t term; /* of the volume, which this node leads in */
	uint64_t seq;
	uint64_t incarnation;
	uint64_t version;
	uint32_t node;
};

struct csv_ballot {
	uint64_t term; /* of the volume, as the voter knows it */
	uint64_t seq;
	uint64_t mbal;
	uint64_t bal;
	uint64_t version;
	uint64_t inp_term;
	uint64_t inp_incarnation;
	uint32_t inp_node;
};

/*
 * Slots: @node 0..63 (CHECK) chooses the address. The encoders fill all of @buf. A slot that was
 * never written (all 0) decodes as -ENOENT. Errors besides: -EUCLEAN, -EPROTONOSUPPORT.
 */
void csv_liveness_encode(const struct csv_liveness *slot, const struct guid *volume, uint32_t node,
                         void *buf);
MUST_USE int csv_liveness_decode(const void *buf, const struct guid *volume, uint32_t node,
                                 struct csv_liveness *out, struct errbuf *eb);
void csv_verdict_encode(const struct csv_verdict *slot, const struct guid *volume, uint32_t node,
                        void *buf);
MUST_USE int csv_verdict_decode(const void *buf, const struct guid *volume, uint32_t node,
                                struct csv_verdict *out, struct errbuf *eb);
void csv_mailbox_encode(const struct csv_mailbox *slot, const struct guid *volume, uint32_t node,
                        void *buf);
MUST_USE int csv_mailbox_decode(const void *buf, const struct guid *volume, uint32_t node,
                                struct csv_mailbox *out, struct errbuf *eb);
void csv_ballot_encode(const struct csv_ballot *slot, const struct guid *volume, uint32_t node,
                       void *buf);
MUST_USE int csv_ballot_decode(const void *buf, const struct guid *volume, uint32_t node,
                               struct csv_ballot *out, struct errbuf *eb);
void csv_leader_encode(const struct csv_leader *leader, const struct guid *volume, void *buf);
MUST_USE int csv_leader_decode(const void *buf, const struct guid *volume, struct csv_leader *out,
                               struct errbuf *eb);

struct csv_journal_header {
	uint64_t term;
	uint64_t seq; /* one more with every write of this term */
	uint32_t area;
	bool clean;
	bool held;
	uint64_t tail_at; /* within the area */
	uint64_t tail_seq;
	uint64_t held_term; /* the held_ fields are 0 unless held */
	uint64_t held_at;
	uint64_t held_seq;
	uint64_t held_end_seq;
};

/* csv_journal_header_at() - where the header of @term with number @seq lies. */
uint64_t csv_journal_header_at(uint64_t term, uint64_t seq);

void csv_journal_header_encode(const struct csv_journal_header *header, const struct guid *volume,
                               void *buf);
/* csv_journal_header_decode() - @block: where it was read. -ENOENT if it is all 0. */
MUST_USE int csv_journal_header_decode(const void *buf, const struct csv_layout *layout,
                                       const struct guid *volume, uint64_t block,
                                       struct csv_journal_header *out, struct errbuf *eb);

/* What the first block of a transaction says. */
struct csv_journal_txn {
	uint64_t term;
	uint64_t seq;
	uint32_t area;
	uint64_t at; /* its place within the area [blocks] */
	uint32_t count;
	struct {
		uint64_t block;
		uint32_t crc; /* of the image */
	} entries[CSV_TXN_BLOCKS_MAX];
};

void csv_journal_txn_encode(const struct csv_journal_txn *txn, const struct csv_layout *layout,
                            const struct guid *volume, void *buf);

/*
 * csv_journal_txn_decode() - the block read from place @at of @area.
 * Returns 0; -EUCLEAN: nothing starts here, or it names blocks that no transaction changes.
 */
MUST_USE int csv_journal_txn_decode(const void *buf, const struct csv_layout *layout,
                                    const struct guid *volume, uint32_t area, uint64_t at,
                                    struct csv_journal_txn *out, struct errbuf *eb);

/* csv_meta_at() - what kind of metadata lies at @block: CSV_STATE, the maps, or CSV_INODE for all
 * of the pool; 0 = none, no transaction changes it. */
uint32_t csv_meta_at(const struct csv_layout *layout, uint64_t block);

/*
 * csv_meta_verify() - judge a block of the metadata completely.
 * @id: type CSV_STATE, CSV_UNIT_MAP, CSV_POOL_MAP, CSV_INODE, CSV_NODE; 0 = whatever may be at this
 * place. With an owner the block must be its.
 * Returns 0; -EUCLEAN; -EPROTONOSUPPORT.
 */
MUST_USE int csv_meta_verify(const void *buf, const struct csv_layout *layout,
                             const struct csv_block_id *id, struct errbuf *eb);

/* The records of an inode's root or of a tree node, to look at what csv_meta_verify() passed. */
struct csv_records {
	const uint8_t *at; /* borrowed: in the block */
	uint32_t level;
	uint32_t count;
	uint32_t max;   /* that fit */
	uint32_t bytes; /* of one */
};

/* csv_records_of() - @buf passed csv_meta_verify() as CSV_INODE or CSV_NODE. */
void csv_records_of(const void *buf, struct csv_records *out);

/* csv_record_bytes() - of a record at @level in a tree of @kind. */
uint32_t csv_record_bytes(enum csv_kind kind, uint32_t level);

/* csv_name_check() - 1..255 bytes, no NUL, no '/', neither "." nor "..". -EINVAL, -ENAMETOOLONG. */
MUST_USE int csv_name_check(const char *name, size_t len);

/* csv_name_key() - the key under which a directory keeps @name: a keyed hash with 8 low bits 0. */
uint64_t csv_name_key(const uint8_t key[16], const char *name, size_t len);

/* csv_siphash() - SipHash-2-4 (Aumasson, Bernstein): nobody can choose names that collide. */
uint64_t csv_siphash(const uint8_t key[16], const void *buf, size_t len);

#endif
