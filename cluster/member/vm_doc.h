/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_MEMBER_VM_DOC_H
#define CLUSTER_MEMBER_VM_DOC_H

/*
 * vm_doc - the document of a VM that the cluster runs, and what of it concerns its role.
 *
 *	{"id": GUID, "definition": {...},                  as hv/config knows it, complete
 *	 "ha": {"priority": "medium",                      none, low, medium, high
 *	        "possible": [1, 3], "preferred": [3],      numbers of nodes
 *	        "groups": ["web"]}}                        kept apart from others of the group
 *
 * docs/formats/cluster-vm.md. Pure: what comes of a document is the same on every node.
 */

#include "base/attr.h"
#include "base/json.h"
#include "cluster/role/role.h"

struct errbuf;

/* vm_doc_is_role() - does the cluster run it? NULL: no. */
bool vm_doc_is_role(const json_t *doc);

/*
 * vm_doc_policy() - what the document says about its role; what it does not say is as
 * role_policy_default(). Returns 0; -EINVAL with the member that is wrong.
 */
MUST_USE int vm_doc_policy(const json_t *doc, struct role_policy *out, struct errbuf *eb);

#endif
