/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_LINK_LINK_H
#define MIGRATE_LINK_LINK_H

/*
 * link - frames of migrate/stream over one transport: numbers and CRCs in, checked frames out.
 *
 * Headers and payloads go through a small buffer, so that several short frames cost one system
 * call; what of a bulk is already in it is copied, the rest is received where it belongs.
 * Threads: as the transport.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "migrate/stream/stream.h"
#include "migrate/transport/transport.h"

struct errbuf;

#define LINK_BUFFER_BYTES (16u << 10) /* a MEMORY payload of all runs fits */

/* Embed; start with link_init(), end with link_fini(). */
struct link {
	struct transport *t; /* owned */
	uint32_t sent;       /* frames */
	uint32_t received;
	uint64_t sent_bytes;
	uint64_t received_bytes;
	uint8_t *buffer; /* owned: [LINK_BUFFER_BYTES] */
	size_t buffer_at;
	size_t buffer_end;
	uint8_t *payload; /* owned */
	size_t payload_room;
	uint32_t bulk_left; /* of the last frame */
	bool broken;        /* a frame was sent in part: nothing may follow */
};

/* link_init() - takes @t, also on failure. Returns 0; -ENOMEM. */
MUST_USE int link_init(struct link *l, struct transport *t);
void link_fini(struct link *l); /* also of {0} */

#define LINK_BULK_MAX (TRANSPORT_IOV_MAX - 3) /* pieces of a bulk */

/* A frame to send. All borrowed for the call. */
struct link_out {
	enum stream_type type;
	const void *head; /* first part of the payload */
	uint32_t head_bytes;
	const void *rest; /* second part, may be NULL */
	uint32_t rest_bytes;
	const struct iovec *bulk; /* [bulk_count], ..LINK_BULK_MAX */
	int bulk_count;
	uint32_t bulk_bytes; /* of all pieces */
};

/* link_send() - one frame. Returns 0; as transport_send(). */
MUST_USE int link_send(struct link *l, const struct link_out *out);

/* link_send_small() - a frame with this payload only. */
MUST_USE int link_send_small(struct link *l, enum stream_type type, const void *payload,
                             uint32_t len);

/*
 * link_recv() - the next frame's header and payload (l->payload, valid until the next call). A
 * bulk must be received before the next frame. Optional frames of unknown type are skipped.
 * @payload_max: of this place in the conversation.
 * Returns 0; -EBADMSG damaged; -EPROTONOSUPPORT; -EMSGSIZE larger than @payload_max; -ENOMEM; as
 * transport_recv(). All but the last kind are said in @eb.
 */
MUST_USE int link_recv(struct link *l, uint32_t payload_max, struct stream_frame *out,
                       struct errbuf *eb);

/* link_recv_bulk() - the next bytes of the frame's bulk into @iov[count], at most what is left of
 * it (CHECKed). Returns 0; as transport_recv(). */
MUST_USE int link_recv_bulk(struct link *l, const struct iovec *iov, int count);

/* link_cut() - the other end shall notice at once that nothing can come any more. */
void link_cut(struct link *l);

/*
 * link_linger() - no more frames: let the peer read the last ones before the socket closes (closing
 * with unread bytes would destroy them). Waits for the peer to close, for @wake_fd (-1 = none) or
 * the time.
 */
void link_linger(struct link *l, int wake_fd, uint64_t max_ns);

/* link_buffered() - received bytes wait in memory: poll() does not tell about them. */
bool link_buffered(const struct link *l);

#endif
