/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_SWITCH_API_H
#define BIN_GODWITD_SWITCH_API_H

/*
 * switch_api - the virtual switches of this host over HTTP (the routes below /v1/switches), and
 * where the manager gets the taps of adapters from. Thread: the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct api_server;
struct errbuf;
struct loop;
struct manager;
struct manager_tap;
struct switch_api;
struct vm_config;
struct vm_store;

struct switch_api_cfg {
	struct loop *loop; /* borrowed until switch_api_destroy(), like the rest */
	struct api_server *server;
	struct vm_store *store;
	const char *state_dir;
	const char *run_dir;
	void (*event)(void *arg, const json_t *event);
	void *arg;
};

/* switch_api_create() - make the switches of the store, serve. Returns 0; -errno. */
MUST_USE int switch_api_create(const struct switch_api_cfg *cfg, struct switch_api **out,
                               struct errbuf *eb);

/* switch_api_manager() - whose VMs use the switches; borrowed. NULL = none any more. */
void switch_api_manager(struct switch_api *api, struct manager *manager);

/* switch_api_destroy() - after the server's end; the switches go on. NULL is fine. */
void switch_api_destroy(struct switch_api *api);

/* switch_api_has() - is there a switch of that name or id? */
bool switch_api_has(const struct switch_api *api, const char *name);

/* switch_api_tap_open(), switch_api_tap_claim() - manager_cfg.tap_open and tap_claim; @arg: the
 * struct switch_api. */
MUST_USE int switch_api_tap_open(void *arg, const struct vm_config *vm, uint32_t nic, bool arriving,
                                 struct manager_tap *out, struct errbuf *eb);
MUST_USE int switch_api_tap_claim(void *arg, const struct vm_config *vm, uint32_t nic,
                                  struct errbuf *eb);

#endif
