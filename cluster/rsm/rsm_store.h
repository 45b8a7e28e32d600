/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_RSM_RSM_STORE_H
#define CLUSTER_RSM_RSM_STORE_H

/*
 * rsm_store - where a node keeps its log and its state: a table of functions.
 *
 * Changes are queued in order and become durable together, all or nothing, by sync(), which answers
 * later through rsm_on_synced(). Reading sees what is queued. What was not synced may be lost
 * by a crash, as a whole suffix of the queue at sync() points.
 *
 * The state is a set of pairs; with mark() it names the entry it belongs to. The log keeps the
 * entries after base. Values and keys are copied before the functions return.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "cluster/view/view.h"

#define RSM_PAYLOAD_MAX (64u << 10) /* bytes; larger ones would hold up the ring for all */
#define RSM_KEY_MAX 160u            /* bytes of a pair's key */
#define RSM_VALUE_MAX (64u << 10)

enum rsm_type {
	RSM_NEWVIEW = 1, /* first of an epoch: the members with their incarnations */
	RSM_COMMAND,     /* for the machine */
	RSM_NOP,         /* nothing: when it is applied, everything before is */
	RSM_CONFIG,      /* the nodes and their votes; effective when appended */
	RSM_LEVEL,       /* le32: the functional level */
	RSM_REFUSED,     /* le32: the leader did not accept it; -errno */
	RSM_TYPE_END
};

struct rsm_entry {
	uint64_t index;
	uint64_t epoch;
	struct guid session;
	uint64_t seq;
	uint64_t time_ns; /* wall clock of the origin */
	uint32_t origin;  /* nodeid */
	enum rsm_type type;
	const uint8_t *payload; /* borrowed */
	uint32_t len;
};

/* A place in the log. */
struct rsm_pos {
	uint64_t index;
	uint64_t epoch;
	uint64_t hash;
};

/* What the pairs are the state of. */
struct rsm_mark {
	struct rsm_pos applied;
	uint64_t config_index;
	uint32_t level;
	struct view_config config; /* as of applied */
};

/* What a store holds when it is opened. */
struct rsm_boot {
	uint64_t promised;
	struct rsm_pos base; /* before the first entry */
	struct rsm_pos last;
	struct rsm_mark mark;
};

struct rsm_store;

typedef int (*rsm_pair_fn)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                           size_t value_len);

/* int functions: 0; -ENOMEM; -EIO: the store is not usable any more. */
struct rsm_store_ops {
	void (*boot)(struct rsm_store *s, struct rsm_boot *out);

	int (*promise)(struct rsm_store *s, uint64_t epoch);
	int (*append)(struct rsm_store *s, const struct rsm_entry *entry, uint64_t hash);
	/* Remove the entries after @index. */
	int (*truncate)(struct rsm_store *s, uint64_t index);
	/* Entries up to @index (applied, durable) are not needed: they may go, base follows. */
	int (*trim)(struct rsm_store *s, uint64_t index);
	int (*put)(struct rsm_store *s, const void *key, size_t key_len, const void *value,
	           size_t value_len);
	int (*del)(struct rsm_store *s, const void *key, size_t key_len);
	int (*mark)(struct rsm_store *s, const struct rsm_mark *mark);
	/*
	 * A new state in place of everything, put aside piece by piece: stage_begin() (drops what
	 * an earlier one left), stage_put()..., stage_commit() (pairs and mark are replaced, the
	 * log is empty, base is the mark's place; reading sees it once it is synced) or
	 * stage_begin() again.
	 */
	int (*stage_begin)(struct rsm_store *s);
	int (*stage_put)(struct rsm_store *s, const void *key, size_t key_len, const void *value,
	                 size_t value_len);
	int (*stage_commit)(struct rsm_store *s, const struct rsm_mark *mark);
	/* Everything queued: rsm_on_synced(token) once it is durable. One at a time. */
	int (*sync)(struct rsm_store *s, uint64_t token);

	/* @buf[RSM_PAYLOAD_MAX]: for the payload. Also -ENOENT. */
	int (*read)(struct rsm_store *s, uint64_t index, struct rsm_entry *out, uint8_t *buf);
	/* Epoch and hash of the entry, or of base. Also -ENOENT. */
	int (*pos)(struct rsm_store *s, uint64_t index, struct rsm_pos *out);
	/* All durable pairs, in any order. Stops at the first error of @fn. Nothing is queued. */
	int (*each)(struct rsm_store *s, rsm_pair_fn fn, void *arg);

	/* A durable state as it is now, while others change it: *out, and the mark. */
	int (*snap_open)(struct rsm_store *s, void **out, struct rsm_mark *mark);
	/* The next pair; pointers until the next call. Returns 1; 0 no more. */
	int (*snap_next)(struct rsm_store *s, void *snap, const uint8_t **key, size_t *key_len,
	                 const uint8_t **value, size_t *value_len);
	void (*snap_close)(struct rsm_store *s, void *snap);
};

/* An implementation embeds it as its first member. */
struct rsm_store {
	const struct rsm_store_ops *ops;
};

#endif
