/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_MEMBER_VM_DOC_H
#define CLUSTER_MEMBER_VM_DOC_H

/*
 * vm_doc - the document of a VM that the cluster runs, and what of it concerns its role.
 *
 *	{"id": GUID, "definition": {...},                  as hv/config knows it, complete
 *	 "ha": {"priority": "medium",                      none, low, medium, high
 *	        "possible": [1, 3], "preferred": [3],      numbers of nodes
 *	        "groups": ["web"],                         kept apart from others of the group
 *	        "fallback": "quick",                       if it cannot be moved alive: maint.h
 *	        "blackout_max_ns": 300000000,              of a move
 *	        "after": ["db1"],                          VMs that are to run before it
 *	        "restart_within_ms": 15000}}               what people expect of a failover; or
 *	                                                   "wait_ms": wait so long for a lost node
 *
 * docs/formats/cluster-vm.md. Pure: what comes of a document is the same on every node.
 */

#include "base/attr.h"
#include "base/json.h"
#include "cluster/role/role.h"

struct errbuf;

#define VM_DOC_BLACKOUT_MAX_NS 60000000000ull /* who wants more wants --quick */

/* vm_doc_is_role() - does the cluster run it? NULL: no. */
bool vm_doc_is_role(const json_t *doc);

#define VM_DOC_WITHIN_MAX_MS 3600000u /* an hour */
#define VM_DOC_WAIT_MAX_MS 86400000u  /* a day: whoever waits longer wants priority none */

/*
 * vm_doc_level() - the lowest functional level (member.h) at which all nodes understand the
 * document; a lower one refuses it, and numbers the VMs that come after it differently.
 * *@what: for people, the option that makes it so; NULL at level 1; may be NULL.
 */
uint32_t vm_doc_level(const json_t *doc, const char **what);

/* vm_doc_after() - the name of the VM number @i that is to run before it; NULL: no more. Which
 * roles these are is not of the document: vm_doc_policy() leaves policy.after alone. */
const char *vm_doc_after(const json_t *doc, uint32_t i);

/*
 * vm_doc_policy() - what the document says about its role; what it does not say is as
 * role_policy_default(). Returns 0; -EINVAL with the member that is wrong.
 */
MUST_USE int vm_doc_policy(const json_t *doc, struct role_policy *out, struct errbuf *eb);

#endif
