/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_IC_IC_INT_H
#define HV_VSP_IC_IC_INT_H

/* Private to hv/vsp/ic: the part that all services share. */

#include "base/guid.h"
#include "base/log.h"
#include "base/uring.h"
#include "hv/vsp/ic/ic.h"
#include "hv/vsp/ic/ic_wire.h"
#include "hv/vsp/vsp.h"

#define IC_MESSAGE_BYTES_MAX 4096u /* KVP's 2580 + 28 is the largest */
#define IC_VERSIONS_MAX 6u

struct ic;

struct ic_service {
	const char *kind; /* also the save section's name */
	struct guid interface_id;
	struct guid instance_id;
	enum ic_type type;
	struct {
		uint16_t major, minor;
	} versions[IC_VERSIONS_MAX]; /* newest first; {0, 0} ends */
	/* The versions are agreed (or restored: the guest's clock may be off now). */
	void (*ready)(struct ic *ic);
	/* A message of the guest; payload copied, length checked against its header. */
	void (*message)(struct ic *ic, const struct ic_header *h, const uint8_t *payload,
	                uint32_t len_bytes);
	/* The channel closed, or after a load is not open: what was asked is not answered. */
	void (*closed)(struct ic *ic);
	/* The timer of ic_timer_arm(); may be NULL if it is never armed. */
	void (*timer)(struct ic *ic);
	void (*save)(const struct ic *ic, struct save *s); /* NULL: nothing of its own */
	void (*load)(struct ic *ic, struct load *l);
};

/* A service embeds it as its first member. */
struct ic {
	struct vsp vsp; /* first */
	const struct ic_service *service;
	struct vsp_env env;
	struct vmbus_channel *chan; /* borrowed */
	enum ic_state state;
	uint16_t framework_major, framework_minor;
	uint16_t service_major, service_minor;
	uint8_t transaction;
	bool paused;
	bool closing;
	bool ready_due; /* ready() was not called yet: no room, or paused */
	struct uring_op timer_op;
	bool timer_armed;         /* in flight in the ring */
	bool timer_deferred;      /* it is no timeout: there was no room for one */
	bool timer_wanted;        /* service->timer is to be called at timer_due_ns */
	uint64_t timer_due_ns;    /* monotonic */
	uint64_t timer_flight_ns; /* when what is in flight ends by itself */
	struct log_limit limit;
	uint8_t buf[IC_MESSAGE_BYTES_MAX];
};

/* ic_init() - offer it. The struct is zero. Returns as vmbus_offer(). */
MUST_USE int ic_init(struct ic *ic, const struct ic_service *service, const struct vsp_env *env);

/* ic_send() - a message to the guest. Returns 0; -EAGAIN no room; -ENOTCONN. */
MUST_USE int ic_send(struct ic *ic, uint8_t flags, const void *payload, uint32_t len_bytes);

/* ic_timer_arm() - service->timer in @delay_ns; replaces an earlier one. Only while READY; a close
 * or a pause ends it. */
void ic_timer_arm(struct ic *ic, uint64_t delay_ns);

/* ic_is_answer() - does @h answer our last request? Guests return a request's header: one that was
 * late, or meant for another host before a move, has an older number. */
bool ic_is_answer(const struct ic *ic, const struct ic_header *h);

#endif
