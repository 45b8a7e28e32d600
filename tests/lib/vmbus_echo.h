/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_VMBUS_ECHO_H
#define TESTS_LIB_VMBUS_ECHO_H

/*
 * vmbus_echo - the simplest VSP: sends back what it gets. Packets that want a completion get one,
 * others an in-band packet with the same transaction id.
 *
 * With .delay it holds requests in flight, each for as many turns of the ring as the low bits of
 * its transaction id say, so that they complete late and out of order, as a disk's do.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/uring.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/vsp.h"

#define ECHO_IN_FLIGHT_MAX 32u
#define ECHO_BYTES_MAX 4096u

extern const struct guid echo_interface;

struct echo_cfg {
	uint16_t subchannel_index;
	uint32_t instance;
	bool delay;
	int open_result;  /* what open() returns */
	bool close_later; /* not from inside close() even if nothing is in flight */
	bool greet;       /* send a packet from inside open() */
	uint32_t batch;   /* stop ready() after this many and kick; 0 = read until empty */
};

struct echo;

struct echo_request {
	struct echo *echo;
	bool busy;
	bool ready; /* its time has come, but there was no room to answer */
	uint16_t type;
	uint16_t flags;
	uint64_t transaction_id;
	uint32_t turns;
	uint32_t bytes;
	uint8_t payload[ECHO_BYTES_MAX];
	struct uring_op op;
};

/* Readable by tests. */
struct echo {
	struct vsp vsp; /* first */
	struct echo_cfg cfg;
	struct vsp_env env;
	struct vmbus_channel *chan; /* NULL after a rescind */
	bool open;
	bool closing;
	bool paused;
	bool restored; /* the last open() was */
	uint32_t opens;
	uint32_t closes;
	uint32_t readies;
	uint64_t packets;
	uint32_t in_flight;
	int last_error; /* of vmbus_recv() other than -EAGAIN */
	vsp_done_fn paused_done;
	void *paused_arg;
	struct echo_request requests[ECHO_IN_FLIGHT_MAX];
	uint8_t buf[VMBUS_PACKET_BYTES_MAX];
};

/* Returns what vmbus_offer() returned; *out is NULL then. */
MUST_USE int echo_create(const struct vsp_env *env, const struct echo_cfg *cfg, struct echo **out);
/* echo_destroy() - also vsp.ops->destroy: only the memory. */
void echo_destroy(struct echo *e);
/* echo_rescind() - hot remove; the echo stays until echo_destroy(). */
void echo_rescind(struct echo *e);

#endif
