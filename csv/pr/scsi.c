/* SPDX-License-Identifier: Apache-2.0 */

/* scsi - commands and data of persistent reservations, to bytes and back. */
#include <errno.h>
#include <string.h>

#include "csv/pr/csv_pr.h"
#include "csv/pr/csv_pr_wire.h"

void csv_pr_out_encode(const struct csv_pr_out *out, uint8_t *cdb, uint8_t *data)
{
	const struct pr_out_cdb_wire c = {
		.operation = PR_OP_OUT,
		.action = (uint8_t)out->action,
		.scope_type = (uint8_t)out->type,
		.length = be32_make(sizeof(struct pr_out_wire)),
	};
	const struct pr_out_wire d = {
		.key = be64_make(out->key),
		.action_key = be64_make(out->action_key),
		.flags = out->persist ? PR_OUT_APTPL : 0,
	};

	memcpy(cdb, &c, sizeof(c));
	memcpy(data, &d, sizeof(d));
}

void csv_pr_in_encode(uint8_t action, uint16_t length, uint8_t *cdb)
{
	const struct pr_in_cdb_wire c = {
		.operation = PR_OP_IN,
		.action = action,
		.length = be16_make(length),
	};

	memcpy(cdb, &c, sizeof(c));
}

/* Returns what follows the head, at most what is there; -EBADMSG. */
static int head_decode(const void *data, size_t len, struct pr_in_head_wire *head, size_t *rest)
{
	if (len < sizeof(*head)) {
		return -EBADMSG;
	}
	memcpy(head, data, sizeof(*head));
	*rest = be32_get(head->length);
	return 0;
}

int csv_pr_keys_decode(const void *data, size_t len, struct csv_pr_keys *out)
{
	const uint8_t *at = (const uint8_t *)data + sizeof(struct pr_in_head_wire);
	struct pr_in_head_wire head;
	size_t bytes;
	int err = head_decode(data, len, &head, &bytes);

	if (err != 0 || bytes % sizeof(be64) != 0) {
		return -EBADMSG;
	}
	if (bytes / sizeof(be64) > CSV_PR_KEYS_MAX) {
		return -E2BIG;
	}
	if (bytes > len - sizeof(head)) {
		return -EBADMSG; /* cut off: what we do not see may be what we look for */
	}
	out->generation = be32_get(head.generation);
	out->count = (uint32_t)(bytes / sizeof(be64));
	for (uint32_t i = 0; i < out->count; i++) {
		be64 key;

		memcpy(&key, at + i * sizeof(key), sizeof(key));
		out->keys[i] = be64_get(key);
	}
	return 0;
}

int csv_pr_reservation_decode(const void *data, size_t len, struct csv_pr_reservation *out)
{
	struct pr_in_head_wire head;
	struct pr_reservation_wire r = {0};
	size_t bytes;
	int err = head_decode(data, len, &head, &bytes);

	if (err != 0 || (bytes != 0 && (bytes < sizeof(r) || len - sizeof(head) < sizeof(r)))) {
		return -EBADMSG;
	}
	if (bytes != 0) {
		memcpy(&r, (const uint8_t *)data + sizeof(head), sizeof(r));
		if (r.scope_type >> 4 != 0 || (r.scope_type & 15) == 0) {
			return -EBADMSG; /* there is none but that of the whole unit */
		}
	}
	*out = (struct csv_pr_reservation){
		.generation = be32_get(head.generation),
		.type = r.scope_type & 15,
		.key = be64_get(r.key),
	};
	return 0;
}

int csv_pr_capabilities_decode(const void *data, size_t len, struct csv_pr_capabilities *out)
{
	struct pr_capabilities_wire c;

	if (len < sizeof(c)) {
		return -EBADMSG;
	}
	memcpy(&c, data, sizeof(c));
	if (be16_get(c.length) != sizeof(c)) {
		return -EBADMSG;
	}
	*out = (struct csv_pr_capabilities){
		.can_persist = (c.flags & PR_CAP_PTPL_C) != 0,
		.persists = (c.flags2 & PR_CAP_PTPL_A) != 0,
		.types_known = (c.flags2 & PR_CAP_TMV) != 0,
		.write_ex_registrants = (c.types & PR_CAP_WR_EX_RO) != 0,
		.write_ex_all = (c.types & PR_CAP_WR_EX_AR) != 0,
	};
	return 0;
}

int csv_pr_sense_decode(const void *sense, size_t len, struct csv_pr_sense *out)
{
	const uint8_t *s = sense;
	uint8_t code = len == 0 ? 0 : s[0] & 0x7f;

	if ((code == 0x70 || code == 0x71) && len >= 14) { /* fixed */
		*out = (struct csv_pr_sense){s[2] & 15, s[12], s[13]};
		return 0;
	}
	if ((code == 0x72 || code == 0x73) && len >= 4) { /* descriptors */
		*out = (struct csv_pr_sense){s[1] & 15, s[2], s[3]};
		return 0;
	}
	return -EBADMSG;
}

uint64_t csv_pr_key(uint32_t cluster, uint32_t node, uint64_t incarnation)
{
	/* Nodes count from 0; the bit keeps a key from being 0. */
	return (uint64_t)(cluster & 0xffffff) << 40 | (uint64_t)(node & 0x7f) << 32 | 1ull << 39 |
	       (incarnation & 0xffffffff);
}

bool csv_pr_has(const struct csv_pr_keys *keys, uint64_t key)
{
	for (uint32_t i = 0; i < keys->count; i++) {
		if (keys->keys[i] == key) {
			return true;
		}
	}
	return false;
}

const char *csv_pr_level_name(enum csv_pr_level level)
{
	switch (level) {
	case CSV_PR_NONE:
		return "none";
	case CSV_PR_PREEMPT_ONLY:
		return "preempt";
	case CSV_PR_ABORT:
		return "preempt-and-abort";
	}
	return "?";
}
