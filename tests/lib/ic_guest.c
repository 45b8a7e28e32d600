/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/ic_guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "hv/save/save.h"

#define ICG_RING_PAGES 4u

/* Of the services there are; one of them is offered. */
static const struct guid icg_interfaces[] = {
	GUID_INIT(0x57164f39, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d),
	GUID_INIT(0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb),
	GUID_INIT(0x9527e630, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf),
	GUID_INIT(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03, 0xe6),
};

static void icg_must(bool ok, const char *what)
{
	if (!ok) {
		(void)fprintf(stderr, "ic_guest: %s\n", what);
		abort();
	}
}

static uint64_t icg_reference_time(void *arg)
{
	return ++*(uint64_t *)arg;
}

int icg_vsp_create(struct icg *i, struct vsp **out)
{
	struct errbuf eb = {0};

	i->env = *guest_env(i->g);
	i->env.reference_time = icg_reference_time;
	i->env.reference_arg = &i->reference_time;
	return i->create(&i->env, out, &eb);
}

void icg_create(icg_create_fn create, struct icg *out)
{
	*out = (struct icg){.create = create};
	guest_create(&(struct guest_cfg){.ram_bytes = 4u << 20}, &out->g);
	icg_must(icg_vsp_create(out, &out->vsp) == 0, "create");
	guest_boot(out->g);
}

void icg_destroy(struct icg *i)
{
	guest_unload(i->g);
	icg_must(ic_state(i->vsp) == IC_CLOSED, "not closed by an unload");
	i->vsp->ops->destroy(i->vsp);
	guest_destroy(i->g);
}

void icg_open(struct icg *i)
{
	struct guest_offer *o = NULL;

	for (size_t n = 0; n < ARRAY_LEN(icg_interfaces) && o == NULL; n++) {
		o = guest_offer_find(i->g, &icg_interfaces[n], 0);
	}
	icg_must(o != NULL, "the service is not offered");
	icg_must(guest_open(i->g, o, ICG_RING_PAGES, ICG_RING_PAGES, &i->chan) == 0,
	         "open refused");
}

void icg_close(struct icg *i)
{
	guest_close(i->chan);
	i->chan = NULL;
}

bool icg_take(struct icg *i, struct icg_message *m)
{
	uint8_t buf[4096];
	struct vmbus_packet pkt;
	int err = guest_recv(i->chan, buf, sizeof(buf), &pkt);

	if (err == -EAGAIN) {
		return false;
	}
	icg_must(err == 0 && pkt.type == VMBUS_PACKET_INBAND && pkt.flags == 0 &&
	                 pkt.payload_bytes >= sizeof(m->h),
	         "no proper message");
	memcpy(&m->h, pkt.payload, sizeof(m->h));
	m->bytes = le16_get(m->h.payload_bytes);
	icg_must(le32_get(m->h.pipe_type) == IC_PIPE_DATA &&
	                 le32_get(m->h.pipe_bytes) ==
	                         sizeof(m->h) - IC_PIPE_HEADER_BYTES + m->bytes &&
	                 m->bytes <= pkt.payload_bytes - sizeof(m->h) &&
	                 m->bytes <= sizeof(m->payload) && le32_get(m->h.status) == 0,
	         "bad header");
	memcpy(m->payload, pkt.payload + sizeof(m->h), m->bytes);
	return true;
}

void icg_wait(struct icg *i, struct icg_message *m)
{
	guest_run_until(i->g, icg_take(i, m));
}

void icg_send(struct icg *i, const struct icg_message *m)
{
	uint8_t buf[sizeof(*m)];

	memcpy(buf, &m->h, sizeof(m->h));
	memcpy(buf + sizeof(m->h), m->payload, m->bytes);
	guest_send_wait(i->chan, VMBUS_PACKET_INBAND, 0, 0, buf, (uint32_t)sizeof(m->h) + m->bytes);
}

void icg_answer(struct icg *i, const struct icg_message *m, uint32_t status)
{
	struct icg_message a = *m;

	a.h.status = le32_make(status);
	a.h.flags = IC_FLAG_TRANSACTION | IC_FLAG_RESPONSE;
	icg_send(i, &a);
}

static struct ic_version icg_version(const struct icg_message *m, uint32_t index)
{
	struct ic_version v;

	memcpy(&v, m->payload + sizeof(struct ic_negotiate) + index * sizeof(v), sizeof(v));
	return v;
}

bool icg_offered(const struct icg_message *m, uint16_t major, uint16_t minor)
{
	struct ic_negotiate n;

	memcpy(&n, m->payload, sizeof(n));
	for (uint32_t i = 0; i < le16_get(n.service_count); i++) {
		struct ic_version v = icg_version(m, le16_get(n.framework_count) + i);

		if (le16_get(v.major) == major && le16_get(v.minor) == minor) {
			return true;
		}
	}
	return false;
}

void icg_choose(struct icg *i, const struct icg_message *m, uint16_t major, uint16_t minor)
{
	const struct ic_version versions[2] = {{le16_make(3), le16_make(0)},
	                                       {le16_make(major), le16_make(minor)}};
	struct ic_negotiate n = {.framework_count = le16_make(1), .service_count = le16_make(1)};
	struct icg_message a = *m;

	memcpy(a.payload, &n, sizeof(n));
	memcpy(a.payload + sizeof(n), versions, sizeof(versions));
	icg_answer(i, &a, IC_STATUS_OK);
}

void icg_negotiate(struct icg *i, uint16_t major, uint16_t minor)
{
	struct icg_message m;

	icg_wait(i, &m);
	icg_must(le16_get(m.h.type) == IC_NEGOTIATE && icg_offered(&m, major, minor),
	         "version not offered");
	icg_choose(i, &m, major, minor);
	guest_run_until(i->g, ic_state(i->vsp) == IC_READY);
}

static void icg_paused(void *arg)
{
	*(bool *)arg = true;
}

void icg_pause(struct icg *i)
{
	bool done = false;

	vmbus_pause(guest_bus(i->g));
	i->vsp->ops->pause(i->vsp, icg_paused, &done);
	icg_must(done, "a pause that waits");
}

void icg_resume(struct icg *i)
{
	i->vsp->ops->resume(i->vsp);
	vmbus_resume(guest_bus(i->g));
}

void icg_move(struct icg *i, bool bus_first)
{
	struct errbuf eb = {0};
	struct save out;
	struct load in;
	uint8_t *blob;
	size_t len;
	int err;

	icg_pause(i);
	save_init(&out);
	vmbus_save(guest_bus(i->g), &out);
	i->vsp->ops->save(i->vsp, &out);
	icg_must(save_finish(&out, &blob, &len) == 0, "save");
	i->vsp->ops->destroy(i->vsp);
	guest_bus_replace(i->g);
	icg_must(load_init(&in, blob, len, &eb) == 0, "load_init");
	err = bus_first ? vmbus_load(guest_bus(i->g), &in) : 0;
	if (err == 0) {
		err = icg_vsp_create(i, &i->vsp);
	}
	if (err == 0) {
		err = i->vsp->ops->load(i->vsp, &in);
	}
	if (err == 0 && !bus_first) {
		err = vmbus_load(guest_bus(i->g), &in);
	}
	icg_must(err == 0, errbuf_text(&eb, err));
	icg_resume(i);
	free(blob);
}
