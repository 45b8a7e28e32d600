/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_ROLE_ROLE_SAVE_H
#define CLUSTER_ROLE_ROLE_SAVE_H

/*
 * role_save - the table as key/value pairs: to be kept beside the log, and sent to a node that
 * joins. After each applied entry role_table_flush() hands out the pairs that changed; all pairs,
 * in any order, make the same table again. Format: docs/formats/role-cmd.md.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cluster/role/role_table.h"

struct errbuf;

#define ROLE_KEY_BYTES 8u   /* of every key */
#define ROLE_VALUE_MAX 396u /* bytes of a value at most */

/* @value: NULL = the pair is gone. All borrowed for the call. */
typedef void (*role_pair_fn)(void *arg, const void *key, const void *value, size_t value_len);

/* role_table_flush() - the pairs that changed since the last call, in order of keys. */
void role_table_flush(struct role_table *t, role_pair_fn fn, void *arg);

/* role_table_touch_all() - the next flush hands out everything. */
void role_table_touch_all(struct role_table *t);

/*
 * role_table_load() - one pair into a table that began empty; nothing of it counts as changed.
 * Returns 0; -EBADMSG not such a pair; -EEXIST it is there already; -ENOMEM.
 */
MUST_USE int role_table_load(struct role_table *t, const void *key, size_t key_len,
                             const void *value, size_t value_len, struct errbuf *eb);

#endif
