/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_STREAM_STREAM_WIRE_H
#define MIGRATE_STREAM_STREAM_WIRE_H

/* stream_wire - layouts of the migration stream. docs/formats/migration-stream.md. */

#include <stddef.h>
#include <stdint.h>

#include "base/guid.h"
#include "base/wire.h"

#define STREAM_MAGIC 0x314d5747u /* "GWM1" */

/* In front of every frame. The payload follows, then the bulk. */
struct stream_frame_wire {
	le32 magic;         /*  0: STREAM_MAGIC */
	le32 header_crc;    /*  4: crc32c of bytes 8..31 */
	le16 type;          /*  8: enum stream_type */
	le16 flags;         /* 10: STREAM_MANDATORY or 0 */
	le32 sequence;      /* 12: frames sent before on this connection and direction */
	le32 payload_bytes; /* 16: ..STREAM_PAYLOAD_MAX */
	le32 payload_crc;   /* 20: crc32c of the payload */
	le32 bulk_bytes;    /* 24: ..STREAM_BULK_MAX; only MEMORY has any */
	le32 reserved;      /* 28: 0 */
};
WIRE_SIZE(struct stream_frame_wire, 32);
WIRE_AT(struct stream_frame_wire, sequence, 12);
WIRE_AT(struct stream_frame_wire, bulk_bytes, 24);

struct stream_hello_wire {
	le32 version_min;     /*   0 */
	le32 version_max;     /*   4 */
	le64 offered;         /*   8: capabilities */
	le64 required;        /*  16: those the peer must know */
	struct guid vm;       /*  24 */
	struct guid move;     /*  40: of this attempt */
	le64 epoch;           /*  56: the ownership that the source holds */
	uint8_t token[32];    /*  64: one-time right to connect */
	le32 connection;      /*  96: 0 control, 1.. data */
	le32 connections;     /* 100: data connections there will be */
	le32 page_bytes;      /* 104: 4096 */
	le32 mode;            /* 108: enum stream_mode */
	le64 memory_bytes;    /* 112: of the guest */
	le64 blackout_max_ns; /* 120: for the record; the source enforces it */
};
WIRE_SIZE(struct stream_hello_wire, 128);
WIRE_AT(struct stream_hello_wire, vm, 24);
WIRE_AT(struct stream_hello_wire, token, 64);
WIRE_AT(struct stream_hello_wire, memory_bytes, 112);

struct stream_answer_wire {
	le32 version;      /*  0: the one both speak */
	le32 reserved;     /*  4: 0 */
	le64 capabilities; /*  8: those both have */
	struct guid move;  /* 16: echoed */
};
WIRE_SIZE(struct stream_answer_wire, 32);

/* Payload of MEMORY: this, then the runs. The data of the runs is the bulk. */
struct stream_memory_wire {
	le32 round;      /*  0 */
	le16 run_count;  /*  4: 1..STREAM_RUNS_MAX */
	uint8_t coding;  /*  6: enum stream_coding, of the bulk */
	uint8_t flags;   /*  7: STREAM_BULK_CRC or 0 */
	le32 data_bytes; /*  8: of the bulk when decoded */
	le32 bulk_crc;   /* 12: crc32c of the bulk as sent, if STREAM_BULK_CRC, else 0 */
};
WIRE_SIZE(struct stream_memory_wire, 16);

struct stream_run_wire {
	le64 gpa;   /*  0: multiple of 4096 */
	le32 pages; /*  8: 1.. */
	le32 kind;  /* 12: enum stream_run_kind */
};
WIRE_SIZE(struct stream_run_wire, 16);

/* ROUND_END and ROUND_ACK. */
struct stream_round_wire {
	le32 round;      /*  0 */
	le32 reserved;   /*  4: 0 */
	le64 data_pages; /*  8: on this connection in this round */
	le64 zero_pages; /* 16 */
	le64 frames;     /* 24: MEMORY frames */
};
WIRE_SIZE(struct stream_round_wire, 32);

/* In front of each piece of STATE. */
struct stream_state_wire {
	le64 offset_bytes; /* 0: where this piece belongs */
	le64 total_bytes;  /* 8: of all pieces, ..STREAM_STATE_MAX */
};
WIRE_SIZE(struct stream_state_wire, 16);

struct stream_final_wire {
	le64 state_bytes; /* 0 */
	le32 state_crc;   /* 8: crc32c of the whole state */
	le32 rounds;      /* 12: that memory took */
};
WIRE_SIZE(struct stream_final_wire, 16);

/* READY, COMMIT. */
struct stream_epoch_wire {
	le64 epoch; /* READY: the source's; COMMIT: the destination's, greater */
};
WIRE_SIZE(struct stream_epoch_wire, 8);

struct stream_running_wire {
	le64 epoch;   /*  0 */
	le64 load_ns; /*  8: FINAL to READY */
	le64 run_ns;  /* 16: COMMIT to vCPUs running */
	le64 wall_ns; /* 24: since 1970, when the vCPUs ran */
};
WIRE_SIZE(struct stream_running_wire, 32);

/* FAILED, CANCEL: this, then text and hint in UTF-8. */
struct stream_text_wire {
	le32 code;       /* 0: errno of Linux, positive */
	le16 text_bytes; /* 4 */
	le16 hint_bytes; /* 6 */
};
WIRE_SIZE(struct stream_text_wire, 8);

struct stream_ping_wire {
	le64 cookie;
};
WIRE_SIZE(struct stream_ping_wire, 8);

#endif
