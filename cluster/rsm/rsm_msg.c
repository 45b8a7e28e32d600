/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/rsm/rsm_msg.h"

#include <errno.h>
#include <string.h>

size_t rsm_entry_put(const struct rsm_entry *entry, void *buf)
{
	struct rsm_entry_wire w = {
		.index = le64_make(entry->index),
		.epoch = le64_make(entry->epoch),
		.session = entry->session,
		.seq = le64_make(entry->seq),
		.time_ns = le64_make(entry->time_ns),
		.origin = le32_make(entry->origin),
		.type = le16_make((uint16_t)entry->type),
		.len = le32_make(entry->len),
	};

	memcpy(buf, &w, sizeof(w));
	if (entry->len != 0) {
		memcpy((uint8_t *)buf + sizeof(w), entry->payload, entry->len);
	}
	return sizeof(w) + entry->len;
}

int rsm_msg_entry(const uint8_t **buf, size_t *len, struct rsm_entry *out)
{
	struct rsm_entry_wire w;

	if (*len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, *buf, sizeof(w));

	uint32_t bytes = le32_get(w.len);
	uint16_t type = le16_get(w.type);

	if (le16_get(w.reserved) != 0 || le32_get(w.reserved2) != 0 || type < RSM_NEWVIEW ||
	    type >= RSM_TYPE_END || bytes > RSM_PAYLOAD_MAX || bytes > *len - sizeof(w)) {
		return -EBADMSG;
	}
	*out = (struct rsm_entry){
		.index = le64_get(w.index),
		.epoch = le64_get(w.epoch),
		.session = w.session,
		.seq = le64_get(w.seq),
		.time_ns = le64_get(w.time_ns),
		.origin = le32_get(w.origin),
		.type = (enum rsm_type)type,
		.payload = *buf + sizeof(w),
		.len = bytes,
	};
	*buf += sizeof(w) + bytes;
	*len -= sizeof(w) + bytes;
	return 0;
}

size_t rsm_pair_put(const struct rsm_pair *pair, void *buf)
{
	struct rsm_pair_wire w = {.key_len = le32_make((uint32_t)pair->key_len),
	                          .value_len = le32_make((uint32_t)pair->value_len)};
	uint8_t *at = buf;

	memcpy(at, &w, sizeof(w));
	memcpy(at + sizeof(w), pair->key, pair->key_len);
	if (pair->value_len != 0) {
		memcpy(at + sizeof(w) + pair->key_len, pair->value, pair->value_len);
	}
	return sizeof(w) + pair->key_len + pair->value_len;
}

int rsm_msg_pair(const uint8_t **buf, size_t *len, struct rsm_pair *out)
{
	struct rsm_pair_wire w;

	if (*len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, *buf, sizeof(w));

	size_t key_len = le32_get(w.key_len);
	size_t value_len = le32_get(w.value_len);

	if (key_len == 0 || key_len > RSM_KEY_MAX || value_len > RSM_VALUE_MAX ||
	    key_len + value_len > *len - sizeof(w)) {
		return -EBADMSG;
	}
	*out = (struct rsm_pair){.key = *buf + sizeof(w),
	                         .key_len = key_len,
	                         .value = *buf + sizeof(w) + key_len,
	                         .value_len = value_len};
	*buf += sizeof(w) + key_len + value_len;
	*len -= sizeof(w) + key_len + value_len;
	return 0;
}

size_t rsm_mark_put(const struct rsm_mark *mark, void *buf)
{
	struct rsm_mark_wire w = {
		.index = le64_make(mark->applied.index),
		.epoch = le64_make(mark->applied.epoch),
		.hash = le64_make(mark->applied.hash),
		.config_index = le64_make(mark->config_index),
		.level = le32_make(mark->level),
		.node_count = le32_make(mark->config.count),
	};

	memcpy(buf, &w, sizeof(w));
	return sizeof(w) + view_config_encode(&mark->config, (uint8_t *)buf + sizeof(w));
}

int rsm_mark_get(const void *buf, size_t len, struct rsm_mark *out)
{
	struct rsm_mark_wire w;
	struct rsm_mark mark = {0};

	if (len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.node_count) > VIEW_NODES_MAX ||
	    len - sizeof(w) != le32_get(w.node_count) * sizeof(struct view_node) ||
	    le64_get(w.config_index) > le64_get(w.index)) {
		return -EBADMSG;
	}
	if (len != sizeof(w) &&
	    view_config_decode((const uint8_t *)buf + sizeof(w), len - sizeof(w), &mark.config)) {
		return -EBADMSG;
	}
	mark.applied = (struct rsm_pos){
		.index = le64_get(w.index), .epoch = le64_get(w.epoch), .hash = le64_get(w.hash)};
	mark.config_index = le64_get(w.config_index);
	mark.level = le32_get(w.level);
	*out = mark;
	return 0;
}

/* 64 bits at a time, multiplied and folded: differences spread over all bits. */
static uint64_t hash_mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9fb21c651e98df25ull;
	hash ^= hash >> 35;
	hash *= 0xd6e8feb86659fd93ull;
	return hash ^ hash >> 32;
}

uint64_t rsm_hash_bytes(uint64_t before, const void *bytes, size_t len)
{
	const uint8_t *b = bytes;
	uint64_t hash = before;

	for (size_t i = 0; i < len; i += 8) {
		le64 word = {{0}};

		memcpy(&word, b + i, len - i < 8 ? len - i : 8);
		hash = hash_mix(hash, le64_get(word));
	}
	return hash_mix(hash, len);
}

uint64_t rsm_hash(uint64_t before, const struct rsm_entry *entry)
{
	struct rsm_entry head = *entry;
	uint8_t w[sizeof(struct rsm_entry_wire)];
	uint64_t hash = before;

	head.len = 0; /* only the header here; the length is mixed in below */
	(void)rsm_entry_put(&head, w);
	for (size_t i = 0; i < sizeof(w); i += 8) {
		le64 word;

		memcpy(&word, w + i, 8);
		hash = hash_mix(hash, le64_get(word));
	}
	return rsm_hash_bytes(hash, entry->payload, entry->len);
}

static int decode_entries(const uint8_t *body, size_t len, struct rsm_msg *out)
{
	struct rsm_entries_wire w;

	if (len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, body, sizeof(w));
	out->epoch = le64_get(w.epoch);
	out->hash = le64_get(w.prev_hash);
	out->count = le32_get(w.count);
	out->rest = body + sizeof(w);
	out->rest_len = len - sizeof(w);

	const uint8_t *at = out->rest;
	size_t left = out->rest_len;
	uint64_t index = 0;

	for (uint32_t i = 0; i < out->count; i++) {
		struct rsm_entry entry;

		if (rsm_msg_entry(&at, &left, &entry) != 0 ||
		    (i != 0 && entry.index != index + 1) || entry.index == 0) {
			return -EBADMSG;
		}
		index = entry.index;
	}
	return left == 0 && le32_get(w.reserved) == 0 ? 0 : -EBADMSG;
}

static int decode_pairs(const uint8_t *body, size_t len, struct rsm_msg *out)
{
	struct rsm_pairs_wire w;

	if (len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, body, sizeof(w));

	size_t mark = le32_get(w.mark);

	if (mark > len - sizeof(w) || le32_get(w.last) > 1 || le32_get(w.chunk) == 0 ||
	    rsm_mark_get(body + sizeof(w), mark, &out->mark) != 0) {
		return -EBADMSG;
	}
	out->epoch = le64_get(w.epoch);
	out->chunk = le32_get(w.chunk);
	out->count = le32_get(w.count);
	out->last = le32_get(w.last) == 1;
	out->rest = body + sizeof(w) + mark;
	out->rest_len = len - sizeof(w) - mark;

	const uint8_t *at = out->rest;
	size_t left = out->rest_len;

	for (uint32_t i = 0; i < out->count; i++) {
		struct rsm_pair pair;

		if (rsm_msg_pair(&at, &left, &pair) != 0) {
			return -EBADMSG;
		}
	}
	return left == 0 ? 0 : -EBADMSG;
}

/* One entry to the end of the message. */
static int decode_entry(const uint8_t *at, size_t left, struct rsm_msg *out)
{
	return rsm_msg_entry(&at, &left, &out->entry) == 0 && left == 0 ? 0 : -EBADMSG;
}

static int decode_propose(const uint8_t *body, size_t len, struct rsm_msg *out)
{
	struct rsm_propose_wire w;

	if (len < sizeof(w) || decode_entry(body + sizeof(w), len - sizeof(w), out) != 0) {
		return -EBADMSG;
	}
	memcpy(&w, body, sizeof(w));
	out->epoch = le64_get(w.epoch);

	const struct rsm_entry *e = &out->entry;

	return e->index == 0 && e->epoch == 0 &&
	                       (e->type == RSM_COMMAND || e->type == RSM_NOP ||
	                        e->type == RSM_CONFIG || e->type == RSM_LEVEL)
	               ? 0
	               : -EBADMSG;
}

static int decode_append(const uint8_t *body, size_t len, struct rsm_msg *out)
{
	struct rsm_append_wire w;

	if (len < sizeof(w) || decode_entry(body + sizeof(w), len - sizeof(w), out) != 0 ||
	    out->entry.index == 0 || out->entry.epoch == 0) {
		return -EBADMSG;
	}
	memcpy(&w, body, sizeof(w));
	out->hash = le64_get(w.prev_hash);
	out->epoch = out->entry.epoch;
	return 0;
}

static int decode_small(uint16_t type, const uint8_t *body, size_t len, struct rsm_msg *out)
{
	struct rsm_fetch_wire w = {0};
	size_t want = type == FRAME_FETCH      ? sizeof(w)
	              : type == FRAME_ACK      ? sizeof(struct rsm_ack_wire)
	              : type == FRAME_EFFECTS  ? sizeof(struct rsm_effects_wire)
	              : type == FRAME_NO_MATCH ? sizeof(struct rsm_no_match_wire)
	                                       : sizeof(struct rsm_suspect_wire);

	if (len != want) {
		return -EBADMSG;
	}
	memcpy(&w, body, len); /* epoch, index, hash stand at the same places in all of them */
	out->epoch = le64_get(w.epoch);
	out->index = le64_get(w.index);
	out->hash = le64_get(w.hash);
	out->chunk = le32_get(w.chunk);
	return le32_get(w.reserved) == 0 ? 0 : -EBADMSG;
}

int rsm_msg_decode(uint16_t type, const uint8_t *body, size_t len, struct rsm_msg *out)
{
	*out = (struct rsm_msg){.type = type};
	switch (type) {
	case FRAME_PROPOSE:
		return decode_propose(body, len, out);
	case FRAME_APPEND:
		return decode_append(body, len, out);
	case FRAME_ENTRIES:
		return decode_entries(body, len, out);
	case FRAME_PAIRS:
		return decode_pairs(body, len, out);
	case FRAME_ACK:
	case FRAME_SUSPECT:
	case FRAME_EFFECTS:
	case FRAME_FETCH:
	case FRAME_NO_MATCH:
		return decode_small(type, body, len, out);
	default: /* of the wire */
		return -EBADMSG;
	}
}
