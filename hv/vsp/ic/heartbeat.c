/* SPDX-License-Identifier: Apache-2.0 */

/* heartbeat - is the guest's kernel alive? Every two seconds it returns our number plus one. */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/save/save.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/ic/ic_int.h"

struct heartbeat {
	struct ic ic; /* first */
	uint64_t sequence;
	uint64_t answered_ns; /* monotonic: the last answer, or when the service became ready */
};

static void heartbeat_beat(struct ic *ic)
{
	struct heartbeat *h = (struct heartbeat *)(void *)ic;
	const struct ic_heartbeat m = {.sequence = le64_make(h->sequence)};

	/* A guest that reads nothing fills its ring: then it is as good as silent. */
	if (ic_send(ic, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, &m, sizeof(m)) == 0) {
		h->sequence++;
	}
	ic_timer_arm(ic, IC_HEARTBEAT_PERIOD_NS);
}

static void heartbeat_ready(struct ic *ic)
{
	struct heartbeat *h = (struct heartbeat *)(void *)ic;

	h->answered_ns = clock_now_ns();
	heartbeat_beat(ic);
}

static void heartbeat_message(struct ic *ic, const struct ic_header *hdr, const uint8_t *payload,
                              uint32_t len_bytes)
{
	struct heartbeat *h = (struct heartbeat *)(void *)ic;

	(void)hdr;
	(void)payload;
	if (len_bytes >= sizeof(le64)) {
		h->answered_ns = clock_now_ns();
	}
}

static void heartbeat_closed(struct ic *ic)
{
	(void)ic;
}

static void heartbeat_save(const struct ic *ic, struct save *s)
{
	save_u64(s, ((const struct heartbeat *)(const void *)ic)->sequence);
}

static void heartbeat_load(struct ic *ic, struct load *l)
{
	((struct heartbeat *)(void *)ic)->sequence = load_u64(l);
}

static const struct ic_service heartbeat_service = {
	.kind = "heartbeat",
	.interface_id = GUID_INIT(0x57164f39, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5,
                                  0x42, 0x2d),
	.instance_id = GUID_INIT(0xfd149e91, 0x82e0, 0x4a7d, 0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb,
                                 0xd7, 0xc0),
	.type = IC_HEARTBEAT,
	.versions = {{3, 0}, {1, 0}},
	.ready = heartbeat_ready,
	.message = heartbeat_message,
	.closed = heartbeat_closed,
	.timer = heartbeat_beat,
	.save = heartbeat_save,
	.load = heartbeat_load,
};

enum ic_health ic_heartbeat_health(const struct vsp *vsp, uint64_t now_ns)
{
	const struct heartbeat *h = (const struct heartbeat *)(const void *)vsp;

	if (h->ic.state != IC_READY || h->ic.paused || h->ic.ready_due) {
		return IC_HEALTH_NONE;
	}
	return now_ns > h->answered_ns + IC_HEARTBEAT_LOST_NS ? IC_HEALTH_LOST : IC_HEALTH_OK;
}

int ic_heartbeat_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb)
{
	struct heartbeat *h = gw_calloc(1, sizeof(*h));
	int err = h != NULL ? ic_init(&h->ic, &heartbeat_service, env) : -ENOMEM;

	*out = NULL;
	if (err != 0) {
		free(h);
		return errbuf_sys(eb, err, "cannot offer the heartbeat service");
	}
	*out = &h->ic.vsp;
	return 0;
}
