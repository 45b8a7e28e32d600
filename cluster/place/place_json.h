/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_PLACE_PLACE_JSON_H
#define CLUSTER_PLACE_PLACE_JSON_H

/*
 * place_json - inputs of a placement on paper: written with every decision, replayed later. What
 * comes back decides the same. Format: docs/formats/placement.md.
 */

#include "base/attr.h"
#include "base/json.h"
#include "cluster/place/place.h"

struct errbuf;

#define PLACE_VMS_MAX ROLE_COUNT_MAX

/* An input that owns its memory; read .in. */
struct place_saved {
	struct place_in in;
	struct place_node nodes[ROLE_NODES_MAX];
	struct place_vm *vms;         /* owned */
	char (*names)[ROLE_NAME_MAX]; /* owned: one per VM */
};

/* place_save() - @in as a JSON value, a new reference. Returns 0; -ENOMEM; -ERANGE. */
MUST_USE int place_save(const struct place_in *in, json_t **out);

/*
 * place_load() - a saved input.
 * Returns 0; -EINVAL, @eb says where; -ENOMEM. Free with place_saved_free().
 */
MUST_USE int place_load(const json_t *value, struct place_saved **out, struct errbuf *eb);

/* place_saved_free() - NULL is fine. */
void place_saved_free(struct place_saved *saved);

#endif
