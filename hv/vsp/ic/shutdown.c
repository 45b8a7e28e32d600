/* SPDX-License-Identifier: Apache-2.0 */

/* shutdown - ask the guest to power off or restart in good order. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/save/save.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/ic/ic_int.h"

#define SHUTDOWN_REASON_PLANNED 0x80000000u /* as the guest's event log shows it */

struct shutdown {
	struct ic ic; /* first */
	bool asked;   /* a request is under way */
	ic_shutdown_fn done;
	void *arg;
};

static void shutdown_finish(struct shutdown *s, int status)
{
	ic_shutdown_fn done = s->done;

	s->asked = false;
	s->done = NULL;
	if (done != NULL) {
		done(s->arg, status);
	}
}

static void shutdown_ready(struct ic *ic)
{
	(void)ic;
}

static void shutdown_message(struct ic *ic, const struct ic_header *h, const uint8_t *payload,
                             uint32_t len_bytes)
{
	struct shutdown *s = (struct shutdown *)(void *)ic;

	(void)payload;
	(void)len_bytes;
	if (s->asked && ic_is_answer(ic, h)) {
		shutdown_finish(s, le32_get(h->status) == IC_STATUS_OK ? 0 : -EIO);
	}
}

static void shutdown_closed(struct ic *ic)
{
	struct shutdown *s = (struct shutdown *)(void *)ic;

	if (s->asked) {
		shutdown_finish(s, -ENOTCONN);
	}
}

/* Who asked is not there any more on the other host; that the guest was asked must be. */
static void shutdown_save(const struct ic *ic, struct save *s)
{
	save_bool(s, ((const struct shutdown *)(const void *)ic)->asked);
}

static void shutdown_load(struct ic *ic, struct load *l)
{
	((struct shutdown *)(void *)ic)->asked = load_bool(l);
}

static const struct ic_service shutdown_service = {
	.kind = "shutdown",
	.interface_id = GUID_INIT(0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed,
                                  0x39, 0xdb),
	.instance_id = GUID_INIT(0xb6650ff7, 0x33bc, 0x4840, 0x80, 0x48, 0xe0, 0x67, 0x67, 0x86,
                                 0xf3, 0x93),
	.type = IC_SHUTDOWN,
	.versions = {{3, 2}, {3, 1}, {3, 0}, {1, 0}},
	.ready = shutdown_ready,
	.message = shutdown_message,
	.closed = shutdown_closed,
	.save = shutdown_save,
	.load = shutdown_load,
};

int ic_shutdown_request(struct vsp *vsp, bool restart, bool force, const char *text,
                        ic_shutdown_fn done, void *arg)
{
	struct shutdown *s = (struct shutdown *)(void *)vsp;
	struct ic_shutdown m;
	int err;

	if (s->ic.state != IC_READY || s->ic.paused) {
		return -ENOTCONN;
	}
	if (s->asked) {
		return -EBUSY;
	}
	memset(&m, 0, sizeof(m));
	m.reason = le32_make(SHUTDOWN_REASON_PLANNED);
	m.flags = le32_make((restart ? IC_SHUTDOWN_RESTART : 0) | (force ? IC_SHUTDOWN_FORCE : 0));
	(void)ic_utf16_encode(text, m.text, sizeof(m.text));
	err = ic_send(&s->ic, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, &m, sizeof(m));
	if (err == 0) {
		s->asked = true;
		s->done = done;
		s->arg = arg;
	}
	return err;
}

int ic_shutdown_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb)
{
	struct shutdown *s = gw_calloc(1, sizeof(*s));
	int err = s != NULL ? ic_init(&s->ic, &shutdown_service, env) : -ENOMEM;

	*out = NULL;
	if (err != 0) {
		free(s);
		return errbuf_sys(eb, err, "cannot offer the shutdown service");
	}
	*out = &s->ic.vsp;
	return 0;
}
