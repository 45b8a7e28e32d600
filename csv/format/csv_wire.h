/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_FORMAT_CSV_WIRE_H
#define CSV_FORMAT_CSV_WIRE_H

/*
 * csv_wire - the blocks of a shared volume, as they lie on disk. Little-endian throughout; every
 * block is 4 KiB, addresses are in blocks, storage of files is given out in units of 1 MiB.
 *
 * Source: docs/formats/csv.md.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/guid.h"
#include "base/wire.h"

#define CSV_BLOCK_BYTES 4096u
#define CSV_UNIT_BYTES (1u << 20)
#define CSV_UNIT_BLOCKS (CSV_UNIT_BYTES / CSV_BLOCK_BYTES)
#define CSV_NODES_MAX 64u
#define CSV_SIZE_MAX_BYTES (256ull << 40) /* 2^28 units: the bitmap is read when a volume opens */
#define CSV_SIZE_MIN_BYTES (64ull << 20)

/* Fixed places [blocks]. What the superblock says lies behind them. */
#define CSV_SUPER_AT 16u          /*  64 KiB; the space before it is never written */
#define CSV_LIVENESS_AT 32u       /* 128 KiB, one block per node */
#define CSV_VERDICT_AT 96u        /* 384 KiB, one block per node */
#define CSV_LEADER_AT 160u        /* 640 KiB, and a ballot per node behind it */
#define CSV_MAILBOX_AT 256u       /*   1 MiB, one block per node */
#define CSV_JOURNAL_HEADER_A 512u /*   2 MiB, CSV_JOURNAL_HEADERS blocks */
#define CSV_JOURNAL_HEADER_B 768u /*   3 MiB, another unit of the device */
#define CSV_JOURNAL_HEADERS 8u
#define CSV_JOURNAL_AT 1024u /*   4 MiB: two areas of the journal */
#define CSV_SUPER_COPIES 3u

#define CSV_MAGIC 0x56435747u /* "GWCV" */
#define CSV_VERSION 1u

enum csv_block_type {
	CSV_SUPER = 1,
	CSV_LIVENESS = 2,
	CSV_VERDICT = 3,
	CSV_MAILBOX = 4,
	CSV_LEADER = 5,
	CSV_BALLOT = 6,
	CSV_JOURNAL_HEADER = 7,
	CSV_JOURNAL_TXN = 8,
	CSV_STATE = 9,
	CSV_UNIT_MAP = 10,
	CSV_POOL_MAP = 11,
	CSV_INODE = 12,
	CSV_NODE = 13,
};

/* The head of every block: it says what it is, where it belongs, to whom, and from when. */
struct csv_block_wire {
	le32 magic;         /*  0: "GWCV" */
	le32 crc;           /*  4: crc32c of the 4 KiB with this field 0 */
	le16 type;          /*  8: enum csv_block_type */
	le16 version;       /* 10: 1 */
	le32 reserved;      /* 12: 0 */
	le64 block;         /* 16: its own address */
	le64 owner;         /* 24: by type: copy, node, slot, area, index, or inode */
	struct guid volume; /* 32 */
	le64 term;          /* 48: volume term of the writer */
	le64 seq;           /* 56: number of the transaction, or the writer's own count */
};
WIRE_SIZE(struct csv_block_wire, 64);
WIRE_AT(struct csv_block_wire, block, 16);
WIRE_AT(struct csv_block_wire, volume, 32);
WIRE_AT(struct csv_block_wire, seq, 56);

#define CSV_LABEL_BYTES 64u

/* Owner: the number of the copy, 0..2. */
struct csv_super_wire {
	struct csv_block_wire head;
	le64 compat;                    /*  64: who does not know these may do everything */
	le64 ro_compat;                 /*  72: may only read */
	le64 incompat;                  /*  80: must not touch the volume */
	struct guid cluster;            /*  88: nil = of no cluster yet */
	uint8_t hash_key[16];           /* 104: of the hash of names */
	le64 size;                      /* 120: [blocks], whole units */
	le32 block_bytes;               /* 128: 4096 */
	le32 unit_bytes;                /* 132: 1 MiB */
	le32 nodes_max;                 /* 136: 64 */
	le32 reserved;                  /* 140 */
	le64 area_blocks;               /* 144: of each of the journal's two areas */
	le64 state_at;                  /* 152 */
	le64 unit_map_at;               /* 160 */
	le64 unit_map_blocks;           /* 168 */
	le64 pool_map_at;               /* 176 */
	le64 pool_map_blocks;           /* 184 */
	le64 pool_at;                   /* 192: where inodes and tree nodes lie */
	le64 pool_blocks;               /* 200 */
	le64 copies[CSV_SUPER_COPIES];  /* 208: where the superblock is */
	le64 created_ns;                /* 232: since 1970 */
	le64 reserved2;                 /* 240 */
	uint8_t label[CSV_LABEL_BYTES]; /* 248: UTF-8, padded with 0 */
	uint8_t reserved3[4096 - 312];  /* 312 */
};
WIRE_SIZE(struct csv_super_wire, 4096);
WIRE_AT(struct csv_super_wire, cluster, 88);
WIRE_AT(struct csv_super_wire, area_blocks, 144);
WIRE_AT(struct csv_super_wire, copies, 208);
WIRE_AT(struct csv_super_wire, label, 248);

/* Owner: the node's number; head.seq counts its writes. */
struct csv_liveness_wire {
	struct csv_block_wire head;
	struct guid node;       /*  64 */
	le64 incarnation;       /*  80 */
	le64 epoch;             /*  88: of the view the node is in */
	le64 boottime_ms;       /*  96: its clock before it sent this */
	le64 pr_key;            /* 104: SCSI-3 registration key; 0 = none */
	le64 path_mask;         /* 112: paths that work */
	le32 lease_ms;          /* 120: how long this write is good for */
	le32 state;             /* 124: 0 free, 1 joining, 2 in use, 3 leaving */
	uint8_t name[64];       /* 128 */
	uint8_t reserved[3904]; /* 192 */
};
WIRE_SIZE(struct csv_liveness_wire, 4096);
WIRE_AT(struct csv_liveness_wire, name, 128);

/* Owner: the node it is about. */
struct csv_verdict_wire {
	struct csv_block_wire head;
	le64 incarnation; /*  64: the one that is fenced */
	le64 epoch;       /*  72: in which it was decided */
	le64 at_ns;       /*  80: since 1970, for people */
	le32 verdict;     /*  88: 0 none, 1 fenced */
	le32 by_node;     /*  92 */
	uint8_t reserved[4000];
};
WIRE_SIZE(struct csv_verdict_wire, 4096);

/* Owner: the node that is to read it; head.seq counts messages. */
struct csv_mailbox_wire {
	struct csv_block_wire head;
	le64 incarnation; /*  64: of the reader; others ignore it */
	le64 argument;    /*  72 */
	le32 command;     /*  80: 0 none, 1 test, 2 exit, 3 reset, 4 power off */
	le32 from_node;   /*  84 */
	uint8_t reserved[4008];
};
WIRE_SIZE(struct csv_mailbox_wire, 4096);

/* Owner: 0. Who coordinates; the outcome of the ballots. */
struct csv_leader_wire {
	struct csv_block_wire head;
	le64 leader_term; /*  64: of the volume */
	le64 incarnation; /*  72 */
	le64 version;     /*  80: of the lease: one more with each change of hands */
	le32 node;        /*  88 */
	le32 reserved;    /*  92 */
	uint8_t reserved2[4000];
};
WIRE_SIZE(struct csv_leader_wire, 4096);

/* Owner: the node that votes (Disk Paxos). */
struct csv_ballot_wire {
	struct csv_block_wire head;
	le64 mbal;            /*  64: the ballot it takes part in */
	le64 bal;             /*  72: the one its value is from */
	le64 version;         /*  80: of the lease it is about */
	le64 inp_term;        /*  88: the value: who is to lead */
	le64 inp_incarnation; /*  96 */
	le32 inp_node;        /* 104 */
	le32 reserved;        /* 108 */
	uint8_t reserved2[3984];
};
WIRE_SIZE(struct csv_ballot_wire, 4096);

#define CSV_JOURNAL_CLEAN 1u /* nothing to replay */
#define CSV_JOURNAL_HELD 2u  /* the other area is still part of the log */

/* Owner: term % CSV_JOURNAL_HEADERS. head.seq even lies in A, odd in B; the greatest (term, seq)
 * counts. */
struct csv_journal_header_wire {
	struct csv_block_wire head;
	le32 area;         /*  64: 0 or 1, where this term writes */
	le32 flags;        /*  68 */
	le64 tail_at;      /*  72: block of the area at which the oldest transaction starts */
	le64 tail_seq;     /*  80: its number */
	le64 held_term;    /*  88: HELD: the term that wrote the other area */
	le64 held_at;      /*  96 */
	le64 held_seq;     /* 104: its oldest transaction */
	le64 held_end_seq; /* 112: one more than its last; what lies behind does not count */
	uint8_t reserved[3976];
};
WIRE_SIZE(struct csv_journal_header_wire, 4096);
WIRE_AT(struct csv_journal_header_wire, held_end_seq, 112);

struct csv_journal_entry_wire {
	le64 block;    /* 0: where the image belongs */
	le32 crc;      /* 8: crc32c of the image */
	le32 reserved; /* 12 */
};
WIRE_SIZE(struct csv_journal_entry_wire, 16);

#define CSV_TXN_BLOCKS_MAX 120u /* a transaction is less than half of the smallest area */
#define CSV_TXN_ENTRIES 251u    /* that fit into the block */

/* Owner: the area; head.seq is the transaction's number. The images follow, in a ring. */
struct csv_journal_txn_wire {
	struct csv_block_wire head;
	le32 count;                                             /* 64: 1..CSV_TXN_BLOCKS_MAX */
	le32 reserved;                                          /* 68 */
	uint8_t padding[8];                                     /* 72 */
	struct csv_journal_entry_wire entries[CSV_TXN_ENTRIES]; /* 80 */
};
WIRE_SIZE(struct csv_journal_txn_wire, 4096);
WIRE_AT(struct csv_journal_txn_wire, entries, 80);

/* Owner: 0. What is true of the volume as a whole; changed by nearly every transaction. */
/* What a node asked the coordinator to change, as far as it was done: requests have ascending
 * numbers, bit n of the mask is request last - n. */
struct csv_done_wire {
	le64 incarnation; /*  0: of the node; 0 = nothing yet */
	le64 last;        /*  8 */
	le64 mask;        /* 16 */
};
WIRE_SIZE(struct csv_done_wire, 24);

struct csv_state_wire {
	struct csv_block_wire head;
	le64 free_units;               /*  64 */
	le64 reserved_units;           /*  72: of them, promised to files */
	le64 pool_free;                /*  80: [blocks] */
	le64 files;                    /*  88 */
	le64 directories;              /*  96: with the root */
	le64 pending;                  /* 104: inodes that wait to be freed or cut */
	le64 next_generation;          /* 112: of inodes: no two ever have the same */
	struct csv_done_wire done[64]; /* 120: by node */
	uint8_t reserved[2440];
};
WIRE_SIZE(struct csv_state_wire, 4096);
WIRE_AT(struct csv_state_wire, done, 120);

#define CSV_MAP_BITS 32128u

/* Owner: its index. Bit n is unit (block of the pool) owner * CSV_MAP_BITS + n; set = in use. */
struct csv_map_wire {
	struct csv_block_wire head;
	le32 bits;          /* 64: how many count; the others are 0 */
	le32 free;          /* 68: how many of them are 0 */
	uint8_t padding[8]; /* 72 */
	uint8_t map[4016];  /* 80 */
};
WIRE_SIZE(struct csv_map_wire, 4096);
WIRE_AT(struct csv_map_wire, map, 80);

/* Records of trees, in the order of their keys. */
struct csv_index_wire {
	le64 key;   /* 0: of all records in the child, the lower bound */
	le64 child; /* 8 */
};
WIRE_SIZE(struct csv_index_wire, 16);

#define CSV_EXTENT_UNWRITTEN 1u /* reads as zero */

struct csv_extent_wire {
	le64 file_block; /*  0: the key */
	le64 disk_block; /*  8: the same within its unit as file_block */
	le32 count;      /* 16: [blocks] */
	le32 flags;      /* 20 */
};
WIRE_SIZE(struct csv_extent_wire, 24);

struct csv_pending_wire {
	le64 ino;        /*  0: the key */
	le64 generation; /*  8 */
	le64 reserved;   /* 16 */
};
WIRE_SIZE(struct csv_pending_wire, 24);

#define CSV_NAME_MAX 255u

struct csv_dirent_wire {
	le64 key;          /*   0: the name's hash with the low 8 bits counting collisions */
	le64 ino;          /*   8 */
	le64 generation;   /*  16: of the inode */
	uint8_t kind;      /*  24: enum csv_kind */
	uint8_t name_len;  /*  25: 1..255 */
	uint8_t name[262]; /*  26: the rest is 0 */
};
WIRE_SIZE(struct csv_dirent_wire, 288);

enum csv_kind {
	CSV_KIND_FILE = 1,    /* a tree of extents */
	CSV_KIND_DIR = 2,     /* a tree of directory entries */
	CSV_KIND_PENDING = 3, /* one per volume: inodes to be freed or cut */
};

#define CSV_INODE_RECORDS_BYTES 3840u
#define CSV_NODE_RECORDS_BYTES 4016u
#define CSV_LEVEL_MAX 6u                 /* 2^36 extents need 5 */
#define CSV_FILE_BLOCKS_MAX (1ull << 38) /* 1 PiB: more than a volume, even sparse */

/* Owner: itself. The number of an inode is its address; behind its fields lies the tree's root. */
struct csv_inode_wire {
	struct csv_block_wire head;
	le32 kind;            /*  64: enum csv_kind */
	le32 mode;            /*  68: permission bits */
	le32 uid;             /*  72 */
	le32 gid;             /*  76 */
	le64 generation;      /*  80 */
	le64 parent;          /*  88: the directory that has it; root: itself */
	le64 size_bytes;      /*  96: files */
	le64 token;           /* 104: only grows; who has an older one may not write */
	le64 created_ns;      /* 112 */
	le64 modified_ns;     /* 120 */
	le64 changed_ns;      /* 128 */
	le64 units;           /* 136: in use */
	le64 reserved_units;  /* 144: promised, not in use */
	le64 cut_block;       /* 152: extents from here on are being freed; UINT64_MAX = none */
	le64 entries;         /* 160: directories: names */
	le64 tree_blocks;     /* 168: of the tree, without this one */
	le32 links;           /* 176: 1; 0 = has no name, is pending */
	le32 flags;           /* 180: 0 */
	uint8_t reserved[64]; /* 184 */
	le16 level;           /* 248: 0 = the records are what the kind says, else csv_index_wire */
	le16 count;           /* 250 */
	le32 reserved2;       /* 252 */
	uint8_t records[CSV_INODE_RECORDS_BYTES]; /* 256 */
};
WIRE_SIZE(struct csv_inode_wire, 4096);
WIRE_AT(struct csv_inode_wire, cut_block, 152);
WIRE_AT(struct csv_inode_wire, level, 248);
WIRE_AT(struct csv_inode_wire, records, 256);

/* Owner: the inode whose tree it is part of. */
struct csv_node_wire {
	struct csv_block_wire head;
	le16 level; /* 64 */
	le16 count; /* 66: > 0 */
	le32 kind;  /* 68: the inode's */
	le64 low;   /* 72: no key is below; equal to the key of its record in the parent */
	uint8_t records[CSV_NODE_RECORDS_BYTES]; /* 80 */
};
WIRE_SIZE(struct csv_node_wire, 4096);
WIRE_AT(struct csv_node_wire, records, 80);

#endif
