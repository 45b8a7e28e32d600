/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_MEM_STORE_H
#define TESTS_LIB_MEM_STORE_H

/*
 * mem_store - a store of the cluster's log (cluster/rsm/rsm_store.h) in memory, which loses what
 * was not synced when it crashes. sync() only notes the token: the test says when the disk is done.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cluster/rsm/rsm_store.h"

struct mem_store;

/* mem_store_create() - empty, but for a mark: the configuration a cluster begins with, or NULL. */
struct mem_store *mem_store_create(const struct rsm_mark *mark);
void mem_store_destroy(struct mem_store *m);

struct rsm_store *mem_store_rsm(struct mem_store *m);

/* The token of the sync that runs; 0 = none. */
uint64_t mem_store_token(const struct mem_store *m);

/* The running sync is done: durable. */
void mem_store_synced(struct mem_store *m);

/* The running sync is answered, and nothing is durable yet: a disk that lies. */
void mem_store_lied(struct mem_store *m);

/* Power is gone: what is not durable is lost. @landed: a running sync had reached the disk. */
void mem_store_crash(struct mem_store *m, bool landed);

#endif
