/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/witness/witness.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "cluster/witness/witness_wire.h"

#define BALLOT_SHIFT 16u /* below: the slot, so that no two nodes have the same */

_Static_assert(WITNESS_NODES_MAX == sizeof(((struct witness_tag_wire *)0)->nodes) / sizeof(le32),
               "the same limit");

uint32_t witness_slot(uint32_t nodeid)
{
	return nodeid % WITNESS_SLOTS;
}

void witness_last(const struct witness_block *blocks, struct witness_tag *out)
{
	*out = (struct witness_tag){0};
	for (uint32_t i = 0; i < WITNESS_SLOTS; i++) {
		if (blocks[i].decided.seq > out->seq) {
			*out = blocks[i].decided;
		}
	}
}

bool witness_allows(const struct witness_tag *last, const struct witness_claim *claim)
{
	if (last->seq == 0 || claim->last_epoch >= last->epoch) {
		return true;
	}
	for (uint32_t i = 0; i < claim->count; i++) {
		for (uint32_t k = 0; k < last->count; k++) {
			if (claim->nodes[i] == last->nodes[k]) {
				return true;
			}
		}
	}
	return false;
}

void witness_begin(struct witness_try *t, const struct witness_claim *claim)
{
	CHECK(claim->count <= WITNESS_NODES_MAX && claim->synced <= claim->count);
	*t = (struct witness_try){.claim = *claim};
}

/* A ballot above all that are seen in the round. */
static uint64_t ballot_next(const struct witness_try *t, const struct witness_block *blocks)
{
	uint64_t top = 0;

	for (uint32_t i = 0; i < WITNESS_SLOTS; i++) {
		if (blocks[i].seq == t->seq && blocks[i].mbal > top) {
			top = blocks[i].mbal;
		}
	}
	return (((top >> BALLOT_SHIFT) + 1) << BALLOT_SHIFT) | witness_slot(t->claim.nodeid);
}

static bool ballot_beaten(const struct witness_try *t, const struct witness_block *blocks)
{
	for (uint32_t i = 0; i < WITNESS_SLOTS; i++) {
		if (blocks[i].seq == t->seq && blocks[i].mbal > t->mbal) {
			return true;
		}
	}
	return false;
}

/* The value of the highest ballot, if somebody has written one; else ours. */
static void value_choose(struct witness_try *t, const struct witness_block *blocks)
{
	uint64_t top = 0;

	t->value = (struct witness_tag){.seq = t->seq,
	                                .epoch = t->claim.epoch,
	                                .claim = t->claim.id,
	                                .count = t->claim.synced};
	memcpy(t->value.nodes, t->claim.nodes, t->claim.synced * sizeof(t->value.nodes[0]));
	for (uint32_t i = 0; i < WITNESS_SLOTS; i++) {
		if (blocks[i].seq == t->seq && blocks[i].bal > top) {
			top = blocks[i].bal;
			t->value = blocks[i].value;
		}
	}
}

static enum witness_do try_start(struct witness_try *t, const struct witness_block *blocks,
                                 struct witness_block *write)
{
	const struct witness_block *own = &blocks[witness_slot(t->claim.nodeid)];

	t->phase = WITNESS_START;
	if (t->last.seq < t->claim.seen) {
		return WITNESS_OLD;
	}
	if (t->last.seq != 0 && guid_equal(&t->last.claim, &t->claim.id)) {
		return WITNESS_WON;
	}
	if (!witness_allows(&t->last, &t->claim)) {
		return WITNESS_LOST;
	}
	t->seq = t->last.seq + 1;
	t->mbal = ballot_next(t, blocks);
	*write = (struct witness_block){
		.nodeid = t->claim.nodeid, .decided = t->last, .seq = t->seq, .mbal = t->mbal};
	if (own->seq == t->seq) { /* what we said before in this round stays said */
		write->bal = own->bal;
		write->value = own->value;
	}
	t->phase = WITNESS_PREPARED;
	return WITNESS_WRITE;
}

enum witness_do witness_next(struct witness_try *t, const struct witness_block *blocks,
                             struct witness_block *write)
{
	witness_last(blocks, &t->last);
	if (t->last.seq > t->claim.seen) {
		t->claim.seen = t->last.seq;
	}
	if (t->phase == WITNESS_START || t->last.seq >= t->seq || t->last.seq < t->claim.seen) {
		return try_start(t, blocks, write);
	}
	if (ballot_beaten(t, blocks)) {
		t->phase = WITNESS_START;
		return WITNESS_WAIT;
	}
	*write = (struct witness_block){
		.nodeid = t->claim.nodeid, .decided = t->last, .seq = t->seq, .mbal = t->mbal};
	if (t->phase == WITNESS_PREPARED) {
		value_choose(t, blocks);
		t->phase = WITNESS_ACCEPTED;
	} else {
		write->decided = t->value;
		t->phase = WITNESS_START;
	}
	write->bal = t->mbal;
	write->value = t->value;
	return WITNESS_WRITE;
}

/* ---- layout ---- */

static void tag_encode(const struct witness_tag *tag, struct witness_tag_wire *w)
{
	*w = (struct witness_tag_wire){.seq = le64_make(tag->seq),
	                               .epoch = le64_make(tag->epoch),
	                               .claim = tag->claim,
	                               .count = le32_make(tag->count)};
	for (uint32_t i = 0; i < tag->count && i < WITNESS_NODES_MAX; i++) {
		w->nodes[i] = le32_make(tag->nodes[i]);
	}
}

static bool tag_decode(const struct witness_tag_wire *w, struct witness_tag *out)
{
	*out = (struct witness_tag){.seq = le64_get(w->seq),
	                            .epoch = le64_get(w->epoch),
	                            .claim = w->claim,
	                            .count = le32_get(w->count)};
	if (out->count > WITNESS_NODES_MAX || le32_get(w->reserved) != 0) {
		return false;
	}
	for (uint32_t i = 0; i < WITNESS_NODES_MAX; i++) {
		out->nodes[i] = le32_get(w->nodes[i]);
		if (i >= out->count && out->nodes[i] != 0) {
			return false;
		}
	}
	return true;
}

static bool all_zero(const void *buf, size_t len)
{
	const uint8_t *b = buf;

	for (size_t i = 0; i < len; i++) {
		if (b[i] != 0) {
			return false;
		}
	}
	return true;
}

int witness_block_decode(const void *buf, size_t len, const struct guid *witness,
                         struct witness_block *out)
{
	struct witness_block_wire w;
	struct witness_block b = {0};

	if (len != WITNESS_BLOCK_BYTES) {
		return -EBADMSG;
	}
	if (all_zero(buf, len)) {
		*out = b;
		return 0;
	}
	memcpy(&w, buf, sizeof(w));
	if (le64_get(w.magic) != WITNESS_MAGIC_BLOCK ||
	    le32_get(w.crc) != crc32c(&w, offsetof(struct witness_block_wire, crc)) ||
	    !guid_equal(&w.witness, witness) || le32_get(w.reserved) != 0 ||
	    le32_get(w.reserved2) != 0 ||
	    !all_zero((const uint8_t *)buf + sizeof(w), len - sizeof(w)) ||
	    !tag_decode(&w.decided, &b.decided) || !tag_decode(&w.value, &b.value)) {
		return -EBADMSG;
	}
	b.nodeid = le32_get(w.nodeid);
	b.seq = le64_get(w.seq);
	b.mbal = le64_get(w.mbal);
	b.bal = le64_get(w.bal);
	if (b.nodeid == 0 || b.bal > b.mbal || b.seq > b.decided.seq + 1 ||
	    (b.bal != 0 && b.value.seq != b.seq)) {
		return -EBADMSG;
	}
	*out = b;
	return 0;
}

void witness_block_encode(const struct witness_block *block, const struct guid *witness, void *buf)
{
	struct witness_block_wire w = {.magic = le64_make(WITNESS_MAGIC_BLOCK),
	                               .witness = *witness,
	                               .nodeid = le32_make(block->nodeid),
	                               .seq = le64_make(block->seq),
	                               .mbal = le64_make(block->mbal),
	                               .bal = le64_make(block->bal)};

	tag_encode(&block->decided, &w.decided);
	tag_encode(&block->value, &w.value);
	w.crc = le32_make(crc32c(&w, offsetof(struct witness_block_wire, crc)));
	memset(buf, 0, WITNESS_BLOCK_BYTES);
	memcpy(buf, &w, sizeof(w));
}

int witness_head_decode(const void *buf, size_t len, struct witness_head *out)
{
	struct witness_head_wire w;

	if (len != WITNESS_BLOCK_BYTES) {
		return -EBADMSG;
	}
	memcpy(&w, buf, sizeof(w));
	if (le64_get(w.magic) != WITNESS_MAGIC_HEAD ||
	    le32_get(w.crc) != crc32c(&w, offsetof(struct witness_head_wire, crc)) ||
	    le32_get(w.slots) != WITNESS_SLOTS ||
	    !all_zero((const uint8_t *)buf + sizeof(w), len - sizeof(w))) {
		return -EBADMSG;
	}
	*out = (struct witness_head){.cluster = w.cluster, .witness = w.witness};
	return 0;
}

void witness_head_encode(const struct witness_head *head, void *buf)
{
	struct witness_head_wire w = {.magic = le64_make(WITNESS_MAGIC_HEAD),
	                              .cluster = head->cluster,
	                              .witness = head->witness,
	                              .slots = le32_make(WITNESS_SLOTS)};

	w.crc = le32_make(crc32c(&w, offsetof(struct witness_head_wire, crc)));
	memset(buf, 0, WITNESS_BLOCK_BYTES);
	memcpy(buf, &w, sizeof(w));
}
