/* SPDX-License-Identifier: Apache-2.0 */

/*
 * timesync - the guest's clock follows the host's: stepped when the guest boots and whenever it
 * went on after a pause, a restore or a move; fed with samples in between (Linux: /dev/ptp_hyperv).
 */

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/ic/ic_int.h"

#define TIMESYNC_PERIOD_NS (5 * NS_PER_S)
#define TIMESYNC_SECOND_NS (1 * NS_PER_S)
#define TIMESYNC_STEPS 2u /* the first is often lost in the guest's own start-up */
#define TIMESYNC_EPOCH 116444736000000000ull /* 1601 to 1970 in 100 ns */

struct timesync {
	struct ic ic; /* first */
	uint32_t steps_left;
};

static void timesync_say(struct ic *ic)
{
	struct timesync *t = (struct timesync *)(void *)ic;
	uint8_t flags = t->steps_left != 0 ? IC_TIME_SYNC : IC_TIME_SAMPLE;
	uint64_t reference = ic->env.reference_time(ic->env.reference_arg);
	uint64_t host = clock_wall_ns() / 100 + TIMESYNC_EPOCH;
	int err;

	if (ic->service_major >= 4) {
		const struct ic_timesync m = {
			.host_time = le64_make(host),
			.reference_time = le64_make(reference),
			.flags = flags,
		};

		err = ic_send(ic, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, &m, sizeof(m));
	} else {
		const struct ic_timesync_v3 m = {.parent_time = le64_make(host), .flags = flags};

		err = ic_send(ic, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, &m, sizeof(m));
	}
	if (err == 0 && t->steps_left != 0) {
		t->steps_left--;
	}
	ic_timer_arm(ic, t->steps_left != 0 ? TIMESYNC_SECOND_NS : TIMESYNC_PERIOD_NS);
}

static void timesync_ready(struct ic *ic)
{
	((struct timesync *)(void *)ic)->steps_left = TIMESYNC_STEPS;
	timesync_say(ic);
}

static void timesync_message(struct ic *ic, const struct ic_header *h, const uint8_t *payload,
                             uint32_t len_bytes)
{
	(void)ic; /* the guest's receipt */
	(void)h;
	(void)payload;
	(void)len_bytes;
}

static void timesync_closed(struct ic *ic)
{
	(void)ic;
}

static const struct ic_service timesync_service = {
	.kind = "timesync",
	.interface_id = GUID_INIT(0x9527e630, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17,
                                  0x5c, 0xaf),
	.instance_id = GUID_INIT(0x2dd1ce17, 0x079e, 0x403c, 0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2,
                                 0x07, 0xee),
	.type = IC_TIMESYNC,
	.versions = {{4, 0}, {3, 0}, {1, 0}},
	.ready = timesync_ready,
	.message = timesync_message,
	.closed = timesync_closed,
	.timer = timesync_say,
};

int ic_timesync_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb)
{
	struct timesync *t = gw_calloc(1, sizeof(*t));
	int err = t != NULL ? 0 : -ENOMEM;

	CHECK(env->reference_time != NULL);
	*out = NULL;
	if (err == 0) {
		err = ic_init(&t->ic, &timesync_service, env);
	}
	if (err != 0) {
		free(t);
		return errbuf_sys(eb, err, "cannot offer the time service");
	}
	*out = &t->ic.vsp;
	return 0;
}
