/* SPDX-License-Identifier: Apache-2.0 */

/*
 * slot - what nodes tell one another through the disk: one writer per block (the leader record:
 * whoever won the ballots), written in place, never through the journal.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "csv/format/csv_format.h"

static bool all_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static struct csv_block_id slot_id(enum csv_block_type type, const struct guid *volume,
                                   uint32_t node)
{
	struct csv_block_id id = {.type = type, .owner = node, .volume = volume};

	CHECK(node < CSV_NODES_MAX);
	if (type == CSV_LIVENESS) {
		id.block = CSV_LIVENESS_AT + node;
	} else if (type == CSV_VERDICT) {
		id.block = CSV_VERDICT_AT + node;
	} else if (type == CSV_MAILBOX) {
		id.block = CSV_MAILBOX_AT + node;
	} else if (type == CSV_BALLOT) {
		id.block = CSV_LEADER_AT + 1 + node;
	} else {
		id.block = CSV_LEADER_AT;
	}
	return id;
}

static int slot_open(const void *buf, const struct csv_block_id *id, struct csv_block_head *head,
                     struct errbuf *eb)
{
	if (all_zero(buf, CSV_BLOCK_BYTES)) {
		return -ENOENT;
	}
	return csv_block_open(buf, id, head, eb);
}

static int slot_bad(const struct csv_block_id *id, struct errbuf *eb)
{
	return errbuf_set(eb, -EUCLEAN, "%s at block %" PRIu64 ": a field is out of range",
	                  csv_block_type_name((uint32_t)id->type), id->block);
}

void csv_liveness_encode(const struct csv_liveness *s, const struct guid *volume, uint32_t node,
                         void *buf)
{
	const struct csv_block_id id = slot_id(CSV_LIVENESS, volume, node);
	struct csv_liveness_wire w = {
		.node = s->node,
		.incarnation = le64_make(s->incarnation),
		.epoch = le64_make(s->epoch),
		.boottime_ms = le64_make(s->boottime_ms),
		.pr_key = le64_make(s->pr_key),
		.path_mask = le64_make(s->path_mask),
		.lease_ms = le32_make(s->lease_ms),
		.state = le32_make((uint32_t)s->state),
	};

	memcpy(w.name, s->name, strnlen(s->name, sizeof(w.name)));
	memcpy(buf, &w, sizeof(w));
	csv_block_seal(buf, &id, s->term, s->seq);
}

int csv_liveness_decode(const void *buf, const struct guid *volume, uint32_t node,
                        struct csv_liveness *out, struct errbuf *eb)
{
	const struct csv_block_id id = slot_id(CSV_LIVENESS, volume, node);
	struct csv_liveness_wire w;
	struct csv_block_head head;
	int err = slot_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}
	memcpy(&w, buf, sizeof(w));

	size_t len = strnlen((const char *)w.name, sizeof(w.name));

	if (le32_get(w.state) > CSV_NODE_LEAVING || !all_zero(w.reserved, sizeof(w.reserved)) ||
	    !all_zero(w.name + len, sizeof(w.name) - len)) {
		return slot_bad(&id, eb);
	}
	*out = (struct csv_liveness){
		.term = head.term,
		.seq = head.seq,
		.node = w.node,
		.incarnation = le64_get(w.incarnation),
		.epoch = le64_get(w.epoch),
		.boottime_ms = le64_get(w.boottime_ms),
		.pr_key = le64_get(w.pr_key),
		.path_mask = le64_get(w.path_mask),
		.lease_ms = le32_get(w.lease_ms),
		.state = (enum csv_node_state)le32_get(w.state),
	};
	memcpy(out->name, w.name, sizeof(w.name));
	return 0;
}

void csv_verdict_encode(const struct csv_verdict *s, const struct guid *volume, uint32_t node,
                        void *buf)
{
	const struct csv_block_id id = slot_id(CSV_VERDICT, volume, node);
	const struct csv_verdict_wire w = {
		.incarnation = le64_make(s->incarnation),
		.epoch = le64_make(s->epoch),
		.at_ns = le64_make(s->at_ns),
		.verdict = le32_make(s->fenced ? 1 : 0),
		.by_node = le32_make(s->by_node),
	};

	memcpy(buf, &w, sizeof(w));
	csv_block_seal(buf, &id, s->term, s->seq);
}

int csv_verdict_decode(const void *buf, const struct guid *volume, uint32_t node,
                       struct csv_verdict *out, struct errbuf *eb)
{
	const struct csv_block_id id = slot_id(CSV_VERDICT, volume, node);
	struct csv_verdict_wire w;
	struct csv_block_head head;
	int err = slot_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.verdict) > 1 || le32_get(w.by_node) >= CSV_NODES_MAX ||
	    !all_zero(w.reserved, sizeof(w.reserved))) {
		return slot_bad(&id, eb);
	}
	*out = (struct csv_verdict){
		.term = head.term,
		.seq = head.seq,
		.incarnation = le64_get(w.incarnation),
		.epoch = le64_get(w.epoch),
		.at_ns = le64_get(w.at_ns),
		.fenced = le32_get(w.verdict) == 1,
		.by_node = le32_get(w.by_node),
	};
	return 0;
}

void csv_mailbox_encode(const struct csv_mailbox *s, const struct guid *volume, uint32_t node,
                        void *buf)
{
	const struct csv_block_id id = slot_id(CSV_MAILBOX, volume, node);
	const struct csv_mailbox_wire w = {
		.incarnation = le64_make(s->incarnation),
		.argument = le64_make(s->argument),
		.command = le32_make((uint32_t)s->command),
		.from_node = le32_make(s->from_node),
	};

	memcpy(buf, &w, sizeof(w));
	csv_block_seal(buf, &id, s->term, s->seq);
}

int csv_mailbox_decode(const void *buf, const struct guid *volume, uint32_t node,
                       struct csv_mailbox *out, struct errbuf *eb)
{
	const struct csv_block_id id = slot_id(CSV_MAILBOX, volume, node);
	struct csv_mailbox_wire w;
	struct csv_block_head head;
	int err = slot_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.command) > CSV_COMMAND_POWER_OFF || le32_get(w.from_node) >= CSV_NODES_MAX ||
	    !all_zero(w.reserved, sizeof(w.reserved))) {
		return slot_bad(&id, eb);
	}
	*out = (struct csv_mailbox){
		.term = head.term,
		.seq = head.seq,
		.incarnation = le64_get(w.incarnation),
		.argument = le64_get(w.argument),
		.command = (enum csv_command)le32_get(w.command),
		.from_node = le32_get(w.from_node),
	};
	return 0;
}

void csv_leader_encode(const struct csv_leader *s, const struct guid *volume, void *buf)
{
	const struct csv_block_id id = slot_id(CSV_LEADER, volume, 0);
	const struct csv_leader_wire w = {
		.leader_term = le64_make(s->term),
		.incarnation = le64_make(s->incarnation),
		.version = le64_make(s->version),
		.node = le32_make(s->node),
	};

	memcpy(buf, &w, sizeof(w));
	csv_block_seal(buf, &id, s->term, s->seq);
}

int csv_leader_decode(const void *buf, const struct guid *volume, struct csv_leader *out,
                      struct errbuf *eb)
{
	const struct csv_block_id id = slot_id(CSV_LEADER, volume, 0);
	struct csv_leader_wire w;
	struct csv_block_head head;
	int err = slot_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.node) >= CSV_NODES_MAX || le32_get(w.reserved) != 0 ||
	    le64_get(w.leader_term) != head.term || !all_zero(w.reserved2, sizeof(w.reserved2))) {
		return slot_bad(&id, eb);
	}
	*out = (struct csv_leader){
		.term = head.term,
		.seq = head.seq,
		.incarnation = le64_get(w.incarnation),
		.version = le64_get(w.version),
		.node = le32_get(w.node),
	};
	return 0;
}

void csv_ballot_encode(const struct csv_ballot *s, const struct guid *volume, uint32_t node,
                       void *buf)
{
	const struct csv_block_id id = slot_id(CSV_BALLOT, volume, node);
	const struct csv_ballot_wire w = {
		.mbal = le64_make(s->mbal),
		.bal = le64_make(s->bal),
		.version = le64_make(s->version),
		.inp_term = le64_make(s->inp_term),
		.inp_incarnation = le64_make(s->inp_incarnation),
		.inp_node = le32_make(s->inp_node),
	};

	memcpy(buf, &w, sizeof(w));
	csv_block_seal(buf, &id, s->term, s->seq);
}

int csv_ballot_decode(const void *buf, const struct guid *volume, uint32_t node,
                      struct csv_ballot *out, struct errbuf *eb)
{
	const struct csv_block_id id = slot_id(CSV_BALLOT, volume, node);
	struct csv_ballot_wire w;
	struct csv_block_head head;
	int err = slot_open(buf, &id, &head, eb);

	if (err != 0) {
		return err;
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.inp_node) >= CSV_NODES_MAX || le32_get(w.reserved) != 0 ||
	    le64_get(w.bal) > le64_get(w.mbal) || !all_zero(w.reserved2, sizeof(w.reserved2))) {
		return slot_bad(&id, eb);
	}
	*out = (struct csv_ballot){
		.term = head.term,
		.seq = head.seq,
		.mbal = le64_get(w.mbal),
		.bal = le64_get(w.bal),
		.version = le64_get(w.version),
		.inp_term = le64_get(w.inp_term),
		.inp_incarnation = le64_get(w.inp_incarnation),
		.inp_node = le32_get(w.inp_node),
	};
	return 0;
}
