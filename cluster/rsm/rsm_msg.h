/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_RSM_RSM_MSG_H
#define CLUSTER_RSM_RSM_MSG_H

/* rsm_msg - the messages of the replicated log, taken apart and put together. */

#include "cluster/rsm/rsm_store.h"
#include "cluster/rsm/rsm_wire.h"
#include "cluster/view/frame.h"

#define RSM_FETCH_BYTES (256u << 10) /* of entries or pairs in one message: a few ms of a link */

/* One decoded message; what belongs to its type. Pointers into the frame. */
struct rsm_msg {
	uint16_t type; /* enum frame_type */
	uint64_t epoch;
	uint64_t index;
	uint64_t hash;
	uint32_t chunk;
	uint32_t count;
	bool last;
	struct rsm_entry entry; /* PROPOSE, APPEND */
	struct rsm_mark mark;   /* PAIRS */
	const uint8_t *rest;    /* ENTRIES, PAIRS: checked by walking: rsm_msg_entry(), _pair() */
	size_t rest_len;
};

/* rsm_msg_decode() - the body of a frame of type FRAME_PROPOSE and above, to the last byte.
 * Returns 0; -EBADMSG, *out is undefined. */
MUST_USE int rsm_msg_decode(uint16_t type, const uint8_t *body, size_t len, struct rsm_msg *out);

/* rsm_msg_entry() - take the next entry off the front of buf[len]. Returns 0; -EBADMSG. */
MUST_USE int rsm_msg_entry(const uint8_t **buf, size_t *len, struct rsm_entry *out);

struct rsm_pair {
	const uint8_t *key;
	const uint8_t *value;
	size_t key_len;
	size_t value_len;
};

/* rsm_msg_pair() - take the next pair off the front of buf[len]. Returns 0; -EBADMSG. */
MUST_USE int rsm_msg_pair(const uint8_t **buf, size_t *len, struct rsm_pair *out);

/* rsm_entry_put() - as struct rsm_entry_wire and payload. Returns the bytes. */
size_t rsm_entry_put(const struct rsm_entry *entry, void *buf);

/* rsm_pair_put() - returns the bytes. */
size_t rsm_pair_put(const struct rsm_pair *pair, void *buf);

/* rsm_mark_put() / _get() - a mark as bytes, at most RSM_MARK_MAX. _get: 0; -EBADMSG. */
#define RSM_MARK_MAX (40u + VIEW_NODES_MAX * 24u)
size_t rsm_mark_put(const struct rsm_mark *mark, void *buf);
MUST_USE int rsm_mark_get(const void *buf, size_t len, struct rsm_mark *out);

/* rsm_hash() - of the chain after @entry. Detects difference by accident, is no seal. */
uint64_t rsm_hash(uint64_t before, const struct rsm_entry *entry);

/* rsm_hash_bytes() - the same of any bytes and their number. */
uint64_t rsm_hash_bytes(uint64_t before, const void *bytes, size_t len);

#endif
