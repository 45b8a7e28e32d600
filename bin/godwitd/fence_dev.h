/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_FENCE_DEV_H
#define BIN_GODWITD_FENCE_DEV_H

/*
 * fence_dev - a fence device as a document of the cluster database: what switches which node off.
 *
 *	DB_SETTING "fence/NAME"
 *	{"node": "n2", "uuid": GUID,      the node as it was when the device was added: another
 *	                                  machine that takes its name later is not meant
 *	 "level": 1, "agent": "fence_ipmilan", "options": {"ip": "192.0.2.7"},
 *	 "secrets": ["passwd"], "sealed": "1...."}        key=value lines (base/tls_seal.h)
 *
 * Pure, but for the random bytes of a seal. docs/formats/fence-device.md, docs/decisions/0230.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"
#include "cluster/fence/fence_agent.h"

struct errbuf;
struct tls_seal;

#define FENCE_DEV_PREFIX "fence/"
#define FENCE_DEV_NAME_MAX 64u
#define FENCE_DEV_OPTIONS_MAX 48u /* of a device, and as many secrets */

/* A device as decoded. Pointers into the document. */
struct fence_dev {
	const char *node;
	const char *uuid;
	const char *agent;
	const char *sealed; /* "" = there is nothing secret */
	json_t *options;    /* read only */
	uint32_t level;     /* 0..FENCE_LEVELS_MAX - 1 */
};

/* fence_dev_name_check() - Returns 0; -EINVAL. */
MUST_USE int fence_dev_name_check(const char *name, struct errbuf *eb);

/*
 * fence_dev_make() - the document of what a person asks for:
 * {"node", "level" (1), "agent", "options": {key: text}, "secrets": {key: text}}.
 * @uuid: of that node. @seal: with its key; its label becomes the device's for the call.
 * Returns 0, *out is a new reference; -EINVAL what is wrong with it; -ENOMEM; as tls_seal().
 */
MUST_USE int fence_dev_make(const json_t *wish, const char *name, const char *uuid,
                            struct tls_seal *seal, json_t **out, struct errbuf *eb);

/* fence_dev_decode() - Returns 0; -EINVAL: not such a document. */
MUST_USE int fence_dev_decode(const json_t *doc, struct fence_dev *out, struct errbuf *eb);

/*
 * fence_dev_options() - what its agent reads, secrets too; wiped and freed by fence_dev_wipe().
 * @seal: as in fence_dev_make(). Returns 0; -EBADMSG the secrets are sealed with another key;
 * -E2BIG; -ENOMEM.
 */
MUST_USE int fence_dev_options(const struct fence_dev *dev, const char *name, struct tls_seal *seal,
                               char **out, struct errbuf *eb);
void fence_dev_wipe(char *options);

/* fence_dev_show() - for people, without the seal. Returns NULL; no memory. */
json_t *fence_dev_show(const json_t *doc, const char *name);

#endif
