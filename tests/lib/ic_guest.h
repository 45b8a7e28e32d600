/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_IC_GUEST_H
#define TESTS_LIB_IC_GUEST_H

/*
 * ic_guest - the integration services' driver of the simulated guest: answers as Linux does, in the
 * message it got.
 *
 *	struct icg i;
 *	struct icg_message m;
 *
 *	icg_create(ic_heartbeat_create, &i);
 *	icg_open(&i);
 *	icg_negotiate(&i, 3, 0);        // takes NEGOTIATE, chooses this version
 *	icg_wait(&i, &m);               // the service's first message
 *	icg_answer(&i, &m, IC_STATUS_OK);
 *	icg_destroy(&i);
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/vsp/ic/ic.h"
#include "hv/vsp/ic/ic_wire.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/vmbus_guest.h"

struct save;

typedef int (*icg_create_fn)(const struct vsp_env *env, struct vsp **out, struct errbuf *eb);

struct icg {
	struct guest *g;
	struct vsp_env env;
	icg_create_fn create;
	struct vsp *vsp;
	struct guest_chan *chan;
	uint64_t reference_time;
};

struct icg_message {
	struct ic_header h;
	uint8_t payload[3000];
	uint32_t bytes;
};

/* icg_create() - guest and service, booted, not open. */
void icg_create(icg_create_fn create, struct icg *out);
/* icg_destroy() - unload and free. */
void icg_destroy(struct icg *i);
/* icg_open() - open its channel, as hv_utils does: rings of 4 pages. */
void icg_open(struct icg *i);
void icg_close(struct icg *i);

/* icg_take() - a message that is there; checks the framing. Returns false if there is none. */
bool icg_take(struct icg *i, struct icg_message *m);
/* icg_wait() - the next message. */
void icg_wait(struct icg *i, struct icg_message *m);
/* icg_answer() - send @m back as an answer with this status. */
void icg_answer(struct icg *i, const struct icg_message *m, uint32_t status);
/* icg_send() - send @m as it is; waits for room. */
void icg_send(struct icg *i, const struct icg_message *m);

/* icg_offered() - does NEGOTIATE @m offer this service version? */
bool icg_offered(const struct icg_message *m, uint16_t major, uint16_t minor);
/* icg_choose() - answer NEGOTIATE @m with framework 3.0 and this version. */
void icg_choose(struct icg *i, const struct icg_message *m, uint16_t major, uint16_t minor);
/* icg_negotiate() - wait for NEGOTIATE, choose; until the service is ready. */
void icg_negotiate(struct icg *i, uint16_t major, uint16_t minor);

/* icg_pause() - bus and service (which is done at once). icg_resume(): go on. */
void icg_pause(struct icg *i);
void icg_resume(struct icg *i);
/* icg_move() - pause, save, destroy, create again over the same memory, load, go on. */
void icg_move(struct icg *i, bool bus_first);

/* icg_vsp_create() - the service on the guest that @i has. */
MUST_USE int icg_vsp_create(struct icg *i, struct vsp **out);

#endif
