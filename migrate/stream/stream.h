/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_STREAM_STREAM_H
#define MIGRATE_STREAM_STREAM_H

/*
 * stream - the frames of a migration: what source and destination say to one another.
 *
 * One control connection and 1..16 data connections. Each carries frames in both directions: a
 * header with its own CRC (so that a damaged length is never believed), a payload with a CRC,
 * and for MEMORY a bulk that lands in guest memory. Frames are numbered per connection and
 * direction: a lost, doubled or reordered frame is noticed. docs/formats/migration-stream.md has
 * the bytes and the order of frames.
 *
 *	source  control                            destination
 *	HELLO --------------------------------------->  version, capabilities, identity, token
 *	      <--------------------------------------- ANSWER
 *	DEFINITION ---------------------------------->  the VM as JSON
 *	      <--------------------------------------- REPORT: every reason against it, or none
 *	      (data connections open: HELLO, ANSWER each; MEMORY..., ROUND_END -> ROUND_ACK)
 *	STATE... FINAL ------------------------------>  device state, "that was all"
 *	      <--------------------------------------- READY: loaded; only COMMIT is missing
 *	COMMIT -------------------------------------->  the owner's decision: now it is yours
 *	      <--------------------------------------- RUNNING
 *
 * PING and PONG at any time; RETRY before FINAL: forget the state, more rounds follow; CANCEL by
 * the source before COMMIT; FAILED by either side ends everything.
 *
 * Pure: encoders fill the caller's buffer, decoders check everything and leave *out alone on
 * failure. All input is hostile.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

struct errbuf;

#define STREAM_VERSION 1u     /* what we write */
#define STREAM_VERSION_MIN 1u /* the oldest we read: N-1, once there is an N */

#define STREAM_HEADER_BYTES 32u
#define STREAM_PAYLOAD_MAX (1u << 20) /* a definition with every device there can be, ample */
#define STREAM_BULK_MAX (1u << 20)    /* fits a second-level cache; a capped link stays smooth */
#define STREAM_PAGE_BYTES 4096u
#define STREAM_RUNS_MAX 512u
#define STREAM_RUN_PAGES_MAX (1u << 20) /* 4 GiB of zeros in one run */
#define STREAM_DATA_PAGES_MAX (STREAM_BULK_MAX / STREAM_PAGE_BYTES)
#define STREAM_GPA_MAX (1ull << 52) /* x86 has no more */
#define STREAM_CONNECTIONS_MAX 16u
#define STREAM_TOKEN_BYTES 32u
#define STREAM_STATE_MAX (256ull << 20)     /* as SAVE_BLOB_BYTES_MAX of hv/save */
#define STREAM_STATE_PIECE_MAX (256u << 10) /* so that PING gets through */
#define STREAM_TEXT_MAX 479u                /* as struct errbuf has, without NUL */
#define STREAM_HINT_MAX 239u
#define STREAM_SMALL_MAX 1024u /* every payload but DEFINITION, REPORT, MEMORY and STATE */
#define STREAM_MEMORY_PAYLOAD_MAX (16u + STREAM_RUNS_MAX * 16u)

enum stream_type {
	STREAM_HELLO = 1,
	STREAM_ANSWER = 2,
	STREAM_DEFINITION = 3,
	STREAM_REPORT = 4,
	STREAM_MEMORY = 5,
	STREAM_ROUND_END = 6,
	STREAM_ROUND_ACK = 7,
	STREAM_STATE = 8,
	STREAM_FINAL = 9,
	STREAM_READY = 10,
	STREAM_COMMIT = 11,
	STREAM_RUNNING = 12,
	STREAM_RETRY = 13,
	STREAM_CANCEL = 14,
	STREAM_FAILED = 15,
	STREAM_PING = 16,
	STREAM_PONG = 17,
};

enum stream_mode {
	STREAM_MODE_LIVE = 1,
	STREAM_MODE_QUICK = 2, /* vCPUs stopped from the start */
	STREAM_MODE_CHECK = 3, /* ends with REPORT */
};

/* Capabilities. */
#define STREAM_CAP_BULK_CRC (1ull << 0) /* the bulk carries a CRC of its own */
#define STREAM_CAP_LZ4 (1ull << 1)
#define STREAM_CAP_ZSTD (1ull << 2)
#define STREAM_CAPS_KNOWN (STREAM_CAP_BULK_CRC | STREAM_CAP_LZ4 | STREAM_CAP_ZSTD)

struct stream_frame {
	uint16_t type;  /* of another version perhaps: see stream_frame_decode() */
	bool mandatory; /* a receiver that does not know the type refuses */
	uint32_t sequence;
	uint32_t payload_bytes;
	uint32_t payload_crc;
	uint32_t bulk_bytes;
};

struct stream_hello {
	uint32_t version_min;
	uint32_t version_max;
	uint64_t offered;
	uint64_t required;
	struct guid vm;
	struct guid move;
	uint64_t epoch;
	uint8_t token[STREAM_TOKEN_BYTES];
	uint32_t connection;
	uint32_t connections;
	enum stream_mode mode;
	uint64_t memory_bytes;
	uint64_t blackout_max_ns;
};

struct stream_answer {
	uint32_t version;
	uint64_t capabilities;
	struct guid move;
};

enum stream_run_kind { STREAM_RUN_DATA = 0, STREAM_RUN_ZERO = 1 };
enum stream_coding { STREAM_CODING_RAW = 0, STREAM_CODING_LZ4 = 1, STREAM_CODING_ZSTD = 2 };

struct stream_run {
	uint64_t gpa;
	uint32_t pages;
	enum stream_run_kind kind;
};

struct stream_memory {
	uint32_t round;
	enum stream_coding coding;
	bool has_crc;
	uint32_t bulk_crc;
	uint32_t data_bytes; /* decoded; = bulk_bytes if RAW */
	uint32_t run_count;
	struct stream_run runs[STREAM_RUNS_MAX]; /* ascending, not overlapping */
};

struct stream_round {
	uint32_t round;
	uint64_t data_pages;
	uint64_t zero_pages;
	uint64_t frames;
};

struct stream_state {
	uint64_t offset_bytes;
	uint64_t total_bytes;
	const uint8_t *piece; /* borrowed from the payload */
	uint32_t piece_bytes;
};

struct stream_final {
	uint64_t state_bytes;
	uint32_t state_crc;
	uint32_t rounds;
};

struct stream_running {
	uint64_t epoch;
	uint64_t load_ns;
	uint64_t run_ns;
	uint64_t wall_ns;
};

/* stream_frame_encode() - the header of @f, whose CRC of the payload is set. */
void stream_frame_encode(const struct stream_frame *f, uint8_t out[STREAM_HEADER_BYTES]);

/*
 * stream_frame_decode() - check a header.
 * @sequence: the number this frame must have.
 * An unknown type is no error here unless it is mandatory (-EPROTONOSUPPORT, named in @eb); the
 * caller skips its payload. Only MEMORY has a bulk.
 * Returns 0; -EBADMSG damaged, out of order or beyond a limit; -EPROTONOSUPPORT.
 */
MUST_USE int stream_frame_decode(const uint8_t in[STREAM_HEADER_BYTES], uint32_t sequence,
                                 struct stream_frame *out, struct errbuf *eb);

/* stream_payload_check() - Returns 0; -EBADMSG the CRC is not that of the header. */
MUST_USE int stream_payload_check(const struct stream_frame *f, const void *payload,
                                  struct errbuf *eb);

/* stream_type_name() - "HELLO"; "type 99". @buf: for the latter. */
const char *stream_type_name(uint16_t type, char buf[16]);

/*
 * Payloads. Encoders return the length; the buffer has STREAM_SMALL_MAX bytes, for memory
 * STREAM_MEMORY_PAYLOAD_MAX. Decoders return 0; -EBADMSG length, range or reserved bytes. HELLO
 * may be longer than we know: a newer peer appends fields, we ignore them.
 */
uint32_t stream_hello_encode(const struct stream_hello *h, uint8_t *out);
MUST_USE int stream_hello_decode(const void *buf, size_t len, struct stream_hello *out,
                                 struct errbuf *eb);

uint32_t stream_answer_encode(const struct stream_answer *a, uint8_t *out);
MUST_USE int stream_answer_decode(const void *buf, size_t len, struct stream_answer *out,
                                  struct errbuf *eb);

/*
 * stream_agree() - what destination and source have in common.
 * @ours: capabilities of the destination; @version_min, @version_max: what it speaks.
 * Returns 0; -EPROTONOSUPPORT no common version, or a required capability is missing, with both
 * sides' numbers in @eb.
 */
MUST_USE int stream_agree(const struct stream_hello *h, uint64_t ours, uint32_t version_min,
                          uint32_t version_max, struct stream_answer *out, struct errbuf *eb);

uint32_t stream_memory_encode(const struct stream_memory *m, uint8_t *out);
/* @bulk_bytes: of the frame. Does not know the guest's memory map: the caller checks each run. */
MUST_USE int stream_memory_decode(const void *buf, size_t len, uint32_t bulk_bytes,
                                  struct stream_memory *out, struct errbuf *eb);

uint32_t stream_round_encode(const struct stream_round *r, uint8_t *out);
MUST_USE int stream_round_decode(const void *buf, size_t len, struct stream_round *out,
                                 struct errbuf *eb);

/* stream_state_encode() - only the 16 bytes in front; the piece follows them in the payload. */
uint32_t stream_state_encode(const struct stream_state *s, uint8_t *out);
MUST_USE int stream_state_decode(const void *buf, size_t len, struct stream_state *out,
                                 struct errbuf *eb);

uint32_t stream_final_encode(const struct stream_final *f, uint8_t *out);
MUST_USE int stream_final_decode(const void *buf, size_t len, struct stream_final *out,
                                 struct errbuf *eb);

/* READY and COMMIT; PING and PONG: one number. */
uint32_t stream_number_encode(uint64_t number, uint8_t *out);
MUST_USE int stream_number_decode(const void *buf, size_t len, uint64_t *out, struct errbuf *eb);

uint32_t stream_running_encode(const struct stream_running *r, uint8_t *out);
MUST_USE int stream_running_decode(const void *buf, size_t len, struct stream_running *out,
                                   struct errbuf *eb);

/* FAILED and CANCEL. @err: -errno, negative; @why: its text and hint are cut to the limits. */
uint32_t stream_text_encode(int err, const struct errbuf *why, uint8_t *out);
/* @err: negative; unprintable bytes of @why become '?'. */
MUST_USE int stream_text_decode(const void *buf, size_t len, int *err, struct errbuf *why,
                                struct errbuf *eb);

/* stream_tokens_equal() - compare one-time tokens in constant time. */
bool stream_tokens_equal(const uint8_t a[STREAM_TOKEN_BYTES], const uint8_t b[STREAM_TOKEN_BYTES]);

#endif
