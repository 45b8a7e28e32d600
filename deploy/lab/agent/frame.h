/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_AGENT_FRAME_H
#define DEPLOY_LAB_AGENT_FRAME_H

/*
 * frame - what travels between `lab exec` and a node's agent, over one virtio-serial port.
 *
 * The port is a byte pipe that neither end can reset: whoever connects may find the rest of a frame
 * that somebody else began. So each frame starts with a magic number and the reader skips to the
 * next one. A client that was killed inside a frame leaves at most FRAME_PAYLOAD_MAX bytes missing;
 * its successor, if nobody answers its hello, sends that many zeros.
 *
 * docs/formats/lab-exec.md has the byte table and the order of frames.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/wire.h"

#define FRAME_MAGIC 0x584c5747U /* "GWLX" */
/* One frame is one write to the port, which takes 32 KiB at a time. */
#define FRAME_PAYLOAD_MAX (32U * 1024 - 16)
/* Arguments of one command; the kernel's own limit is far higher, ours is one frame. */
#define FRAME_ARGS_MAX 1024U

enum frame_type {
	/* controller to node */
	FRAME_HELLO = 'H',  /* a new session; whatever ran on this port is killed */
	FRAME_START = 'S',  /* struct frame_start_wire, then NUL-terminated arguments */
	FRAME_STDIN = 'I',  /* bytes, never more than the credit given */
	FRAME_EOF = 'E',    /* end of standard input */
	FRAME_SIGNAL = 'K', /* one byte: signal number for the command's process group */
	FRAME_WINDOW = 'W', /* struct frame_window_wire: the terminal's size changed */
	/* node to controller */
	FRAME_READY = 'A',  /* answers HELLO; le32: exit status of the node's set-up */
	FRAME_BOOT = 'B',   /* session 0: the agent has just started, older sessions are lost */
	FRAME_CREDIT = 'C', /* le32: so many more stdin bytes may be sent */
	FRAME_STDOUT = 'O',
	FRAME_STDERR = 'R',
	FRAME_EXIT = 'Q', /* le32: 0..255, or 128 + signal */
};

struct frame_wire {
	le32 magic;          /* 0 */
	le32 session;        /* 4: chosen by the client, not 0 */
	uint8_t type;        /* 8 */
	uint8_t reserved[3]; /* 9: 0 */
	le32 payload_bytes;  /* 12 */
};
WIRE_SIZE(struct frame_wire, 16);

#define FRAME_START_TTY 0x01U /* run on a pseudo terminal; stderr goes to stdout */

struct frame_window_wire {
	le16 rows;    /* 0 */
	le16 columns; /* 2 */
};
WIRE_SIZE(struct frame_window_wire, 4);

struct frame_start_wire {
	uint8_t flags;                   /* 0: FRAME_START_... */
	uint8_t reserved[3];             /* 1: 0 */
	struct frame_window_wire window; /* 4: used with FRAME_START_TTY */
};
WIRE_SIZE(struct frame_start_wire, 8);

/* One frame; the payload is borrowed from the reader until its next call. */
struct frame {
	uint32_t session;
	uint8_t type;
	const uint8_t *payload;
	size_t payload_bytes;
};

/* Collects a byte stream into frames. Embeddable; all zeros is an empty reader. One thread. */
struct frame_reader {
	uint8_t buf[sizeof(struct frame_wire) + FRAME_PAYLOAD_MAX];
	size_t used_bytes;
	size_t taken_bytes; /* of these, the frame last handed out */
};

/* A decoded FRAME_START. Arguments are borrowed from the payload; argv ends with NULL. */
struct frame_start {
	uint8_t flags;
	uint16_t rows;
	uint16_t columns;
	const char *argv[FRAME_ARGS_MAX + 1];
	uint32_t argc;
};

/*
 * frame_header_encode() - write the header of a frame.
 * @payload_bytes: 0..FRAME_PAYLOAD_MAX; CHECKed.
 */
void frame_header_encode(struct frame_wire *out, uint8_t type, uint32_t session,
                         size_t payload_bytes);

/*
 * frame_reader_room() - where the next bytes of the stream belong, and how many fit (never 0
 * after frame_reader_next() has said -EAGAIN).
 */
uint8_t *frame_reader_room(struct frame_reader *r, size_t *room_bytes);

/* frame_reader_fed() - @bytes were put where frame_reader_room() said. */
void frame_reader_fed(struct frame_reader *r, size_t bytes);

/*
 * frame_reader_next() - the next whole frame; bytes that begin no frame are skipped.
 * Returns 0; -EAGAIN more bytes are needed.
 */
MUST_USE int frame_reader_next(struct frame_reader *r, struct frame *out);

/*
 * frame_start_decode() - check and split the payload of FRAME_START.
 * @payload[len]: borrowed, as is what @out then points to.
 * Returns 0; -EBADMSG too short, reserved bits, no argument, empty program name or the last
 * argument not terminated; -E2BIG more than FRAME_ARGS_MAX arguments.
 */
MUST_USE int frame_start_decode(const uint8_t *payload, size_t len, struct frame_start *out);

/*
 * frame_window_decode() - the payload of FRAME_WINDOW.
 * Returns 0; -EBADMSG wrong length.
 */
MUST_USE int frame_window_decode(const uint8_t *payload, size_t len, uint16_t *rows,
                                 uint16_t *columns);

#endif
