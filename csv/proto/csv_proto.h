/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_PROTO_CSV_PROTO_H
#define CSV_PROTO_CSV_PROTO_H

/*
 * csv_msg - what the nodes of a shared volume say to each other: docs/formats/csv-protocol.md.
 *
 * A message is one struct, whatever its type; what its type does not name is 0. Peers are hostile:
 * a message that was decoded has a known type, lengths that fit, names that are names, extents that
 * ascend, and nothing in what its type does not use. Whether it makes sense (handles, tokens,
 * terms) is for csv/coord and csv/client to say.
 *
 * Names and data are borrowed from the buffer. No state, any thread, no allocation.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "csv/layout/csv_layout.h"
#include "csv/lock/csv_lock.h"
#include "csv/meta/csv_meta.h"
#include "csv/proto/csv_proto_wire.h"

struct errbuf;

#define CSV_MSG_DATA_MAX 1048576u /* of one redirected request */
#define CSV_MSG_NAMES_MAX 65536u  /* bytes of names in one reply */
#define CSV_MSG_MAX (CSV_MSG_DATA_MAX + CSV_MSG_NAMES_MAX)
#define CSV_MSG_HEAD_BYTES 40u
#define CSV_MSG_NODES 64u

/* Who sends it: C client, S coordinator, R any node that does another's I/O. */
enum csv_msg_type {
	CSV_MSG_HELLO = 1,       /* C: first on each connection */
	CSV_MSG_WELCOME = 2,     /* S: or with a status, and that was all */
	CSV_MSG_OP = 3,          /* C: metadata */
	CSV_MSG_OPEN = 4,        /* C */
	CSV_MSG_CLOSE = 5,       /* C: number is the handle */
	CSV_MSG_LAYOUT = 6,      /* C: a lease, of a handle */
	CSV_MSG_RETURN = 7,      /* C: number is the lease */
	CSV_MSG_LOCK = 8,        /* C: the reply comes when it is granted, or refused */
	CSV_MSG_UNLOCK = 9,      /* C: number is the lock */
	CSV_MSG_CANCEL = 10,     /* C: likewise */
	CSV_MSG_RECLAIMED = 11,  /* C: all that this node had is claimed again */
	CSV_MSG_BYE = 12,        /* C: nothing is left of this run */
	CSV_MSG_REPLY = 13,      /* S, R */
	CSV_MSG_NOTICE = 14,     /* S: somebody waits for that */
	CSV_MSG_REVOKE = 15,     /* S: that is over; answer by closing, returning, unlocking */
	CSV_MSG_MOVED = 16,      /* S: another node coordinates from now on, or will soon */
	CSV_MSG_READ = 17,       /* C: redirected */
	CSV_MSG_WRITE_DATA = 18, /* C */
	CSV_MSG_FLUSH = 19,      /* C */
	CSV_MSG_PING = 20,       /* both; the other answers with a reply */
};

#define CSV_MSG_GRACE 1u
#define CSV_MSG_NO_REPLACE 1u
#define CSV_MSG_RECLAIM 1u
#define CSV_MSG_WRITE 2u
#define CSV_MSG_ALLOCATE 4u
#define CSV_MSG_TRY 2u
#define CSV_MSG_CONVERT 4u

/* Parts of a reply. */
#define CSV_MSG_ATTR 1u
#define CSV_MSG_STAT 2u
#define CSV_MSG_CONFLICT 4u
#define CSV_MSG_LEASE 8u
#define CSV_MSG_NAMES 16u
#define CSV_MSG_DATA 32u
#define CSV_MSG_PARTS 63u

enum csv_msg_what { CSV_MSG_A_LOCK = 1, CSV_MSG_A_HANDLE = 2, CSV_MSG_A_LEASE = 3 };

struct csv_msg_hello {
	struct guid volume;
	uint64_t incarnation;
	uint32_t node;
	uint16_t version_min;
	uint16_t version_max;
};

struct csv_msg_welcome {
	uint32_t flags;
	uint32_t window;
	uint32_t node;
	uint16_t version;
};

/* As struct csv_op, whose comments say what means what. */
struct csv_msg_op {
	enum csv_op_type op;
	uint32_t flags;
	uint32_t mask;
	uint64_t ino;
	uint64_t generation;
	uint64_t dir;
	uint64_t dir2;
	uint64_t handle;
	uint64_t block;
	uint64_t count;
	uint64_t size_bytes;
	uint64_t token;
	uint64_t cookie;
	uint64_t modified_ns;
	uint64_t now_ns;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t name_len;
	uint32_t name2_len;
	const char *name; /* borrowed, not terminated */
	const char *name2;
};

struct csv_msg_open {
	uint64_t ino;
	uint64_t generation;
	uint64_t handle;
	uint32_t share; /* CSV_LOCK_SHARE_MODE() */
	uint32_t flags;
};

struct csv_msg_layout {
	uint64_t handle;
	uint64_t number;
	uint64_t from_bytes;
	uint64_t to_bytes;
	uint64_t now_ns;
	uint32_t flags;
};

struct csv_msg_lock {
	uint64_t number;
	struct csv_lock_name name;
	uint64_t from;
	uint64_t to;
	uint32_t mode;
	enum csv_lock_class class;
	uint32_t flags;
};

struct csv_msg_io {
	uint64_t handle;
	uint64_t lease;
	uint64_t ino;
	uint64_t token;
	uint64_t device_bytes;
	uint32_t length_bytes;
};

struct csv_msg_event {
	enum csv_msg_what what;
	uint64_t number;
	uint32_t mode; /* notice: waited for; move: the node */
};

struct csv_msg_reply {
	uint32_t parts;
	uint64_t count;
	struct csv_attr attr;
	struct csv_stat stat;
	struct csv_lock_conflict conflict;
	struct csv_layout_lease lease; /* its term is the message's; expires_ns is not sent */
	uint32_t names_count;
	uint32_t names_bytes;
	const uint8_t *names; /* borrowed: read with csv_msg_name() */
};

struct csv_msg {
	enum csv_msg_type type;
	uint64_t term;
	uint64_t request;
	int status;          /* 0 or -errno */
	uint64_t acked;      /* requests: replies up to this number were received */
	uint64_t number;     /* close, return, unlock, cancel */
	uint32_t data_bytes; /* write, reply with CSV_MSG_DATA */
	const uint8_t *data; /* borrowed */
	union {
		struct csv_msg_hello hello;
		struct csv_msg_welcome welcome;
		struct csv_msg_op op;
		struct csv_msg_open open;
		struct csv_msg_layout layout;
		struct csv_msg_lock lock;
		struct csv_msg_io io;
		struct csv_msg_event event;
		struct csv_msg_reply reply;
	};
};

/*
 * csv_msg_encode() - write @msg to @buf.
 * @msg: what csv_msg_decode() would accept (a programmer's error otherwise; not checked).
 * Returns its length [bytes]; -EMSGSIZE it does not fit into @len.
 */
MUST_USE int csv_msg_encode(const struct csv_msg *msg, void *buf, size_t len);

/*
 * csv_msg_length() - how long the message is that starts here.
 * Returns its length; -EAGAIN: @len is below CSV_MSG_HEAD_BYTES; -EPROTO no message, or a length
 * that none has: the stream is lost.
 */
MUST_USE int csv_msg_length(const void *buf, size_t len, struct errbuf *eb);

/*
 * csv_msg_decode() - judge one whole message.
 * Returns 0; -EBADMSG checksum; -EPROTONOSUPPORT another version; -EPROTO anything else. *out is
 * untouched on failure.
 */
MUST_USE int csv_msg_decode(const void *buf, size_t len, struct csv_msg *out, struct errbuf *eb);

/* csv_msg_name() - the name at *offset (0 first) of a decoded reply; moves it on. Returns false at
 * the end. */
bool csv_msg_name(const struct csv_msg_reply *reply, uint32_t *offset, struct csv_name *out);

/* csv_msg_add_name() - append to the names of a reply that is being made, which lie in
 * @buf[len]. Returns 0; -ENOSPC. */
MUST_USE int csv_msg_add_name(struct csv_msg_reply *reply, uint8_t *buf, size_t len,
                              const struct csv_name *name);

/* csv_msg_type_name() - "hello", ... */
const char *csv_msg_type_name(enum csv_msg_type type);

#endif
