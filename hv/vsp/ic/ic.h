/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_IC_IC_H
#define HV_VSP_IC_IC_H

/*
 * ic - the integration services: heartbeat, shutdown, time synchronization, key-value exchange.
 *
 * All four speak one framing: the host sends NEGOTIATE when the guest opened the channel, the
 * guest picks versions, then the service's messages flow; one request of the host at a time.
 *
 *   CLOSED --open--> NEGOTIATING --versions--> READY --close--> CLOSED
 *   NEGOTIATING --nothing in common--> REFUSED --close--> CLOSED
 *
 * Device thread only. Protocol: docs/spec/integration.md.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;
struct vsp;
struct vsp_env;

enum ic_state { IC_CLOSED, IC_NEGOTIATING, IC_READY, IC_REFUSED, IC_STATE_COUNT };

/* Create one service and offer it. Return 0; -ENOMEM; as vmbus_offer(). */
MUST_USE int ic_heartbeat_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb);
MUST_USE int ic_shutdown_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb);
MUST_USE int ic_timesync_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb);
MUST_USE int ic_kvp_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb);

/* ic_state() - of any of them. */
enum ic_state ic_state(const struct vsp *vsp);

enum ic_health {
	IC_HEALTH_NONE, /* the guest has no heartbeat service (yet) */
	IC_HEALTH_OK,
	IC_HEALTH_LOST, /* no answer for IC_HEARTBEAT_LOST_NS */
};

#define IC_HEARTBEAT_PERIOD_NS (2ull * 1000 * 1000 * 1000)
#define IC_HEARTBEAT_LOST_NS (10ull * 1000 * 1000 * 1000) /* five in a row */

/* ic_heartbeat_health() - @now_ns: monotonic. */
enum ic_health ic_heartbeat_health(const struct vsp *vsp, uint64_t now_ns);

/* @status: 0 the guest will do it; -EIO it refused; -ENOTCONN the service went away. */
typedef void (*ic_shutdown_fn)(void *arg, int status);

/*
 * ic_shutdown_request() - ask the guest to power off, or to restart; @done when it has answered
 * (the end itself is seen at the partition). @text: shown in the guest's log, may be "".
 * Returns 0; -ENOTCONN no service in the guest; -EBUSY a request is under way; -EAGAIN.
 */
MUST_USE int ic_shutdown_request(struct vsp *vsp, bool restart, bool force, const char *text,
                                 ic_shutdown_fn done, void *arg);

#define IC_KVP_ITEMS_MAX 32u

struct ic_kvp_item {
	char key[64];
	char value[256]; /* cut */
};

/* ic_kvp_items() - what the guest tells of itself (name, addresses, system): copies of at most
 * @max items. Returns their number. */
uint32_t ic_kvp_items(const struct vsp *vsp, struct ic_kvp_item *items, uint32_t max);

/* ic_utf16_decode() - @len bytes of UTF-16LE up to its NUL as UTF-8, cut to @room with its NUL;
 * broken pairs and control characters become '?'. ic_utf16_encode() - the reverse, ASCII only;
 * returns bytes without the NUL pair. */
void ic_utf16_decode(const uint8_t *from, uint32_t len_bytes, char *to, uint32_t room_bytes);
uint32_t ic_utf16_encode(const char *from, uint8_t *to, uint32_t room_bytes);

#endif
