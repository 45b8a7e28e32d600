/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_MEMBER_MEMBER_ROLES_H
#define CLUSTER_MEMBER_MEMBER_ROLES_H

/*
 * member_roles - the roles as part of the replicated state: commands of the log go in, pairs for
 * the store come out, and documents of VMs make, change and end roles.
 *
 *   a document with "ha" comes     a role, OFFLINE, with the lowest free id; its token begins at
 *                                  the number of the entry, so that no token of an earlier role of
 *                                  that id comes again
 *   it changes                     the role's policy changes
 *   it goes                        the role goes, when nobody owns it any more; until then it is
 *                                  wanted offline
 *
 * All that goes in comes from the log, so all nodes have the same roles. Thread: the owner's.
 */

#include <stdbool.h>

#include "cluster/db/db.h"
#include "cluster/member/member.h"
#include "cluster/role/role_table.h"

struct member_roles;

/* member_roles_create() - none yet; watches @db. Returns 0; -ENOMEM. */
MUST_USE int member_roles_create(struct db *db, struct member_roles **out);
void member_roles_destroy(struct member_roles *r); /* before the db; NULL is fine */

const struct role_table *member_roles_table(const struct member_roles *r);
uint32_t member_roles_find(const struct member_roles *r, const char *name);
void member_roles_watch(struct member_roles *r, const struct member_role_ops *ops, void *arg);

/* member_roles_is_cmd(), member_roles_is_key() - is the payload of an entry a command about roles,
 * is the key of a pair one of ours? */
bool member_roles_is_cmd(const void *payload, size_t len);
bool member_roles_is_key(const void *key, size_t len);

/* member_roles_epoch() - entries of @epoch follow. Older ones than known do nothing. */
void member_roles_epoch(struct member_roles *r, uint64_t epoch);

/*
 * member_roles_apply() - returns the status of the command, 0 or -errno; -ENOMEM: as
 * member_roles_flush(). *@event: what to tell of it (member_events.h), a new reference; NULL.
 */
MUST_USE int member_roles_apply(struct member_roles *r, const struct rsm_entry *entry,
                                json_t **event);

/*
 * member_roles_flush() - after each entry: what changed, to the store.
 * Returns 0; -ENOMEM a role could not be made: this node cannot go on with the log.
 */
MUST_USE int member_roles_flush(struct member_roles *r, const struct rsm_sink *sink);

/* The state is replaced: clear, load each pair, loaded. As role_table_load(). */
void member_roles_clear(struct member_roles *r);
MUST_USE int member_roles_load(struct member_roles *r, const void *key, size_t key_len,
                               const void *value, size_t value_len, struct errbuf *eb);
void member_roles_loaded(struct member_roles *r);

#endif
