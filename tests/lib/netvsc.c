/* SPDX-License-Identifier: Apache-2.0 */

/* netvsc - setting up: the tests' adapter, and the driver's probe. */

#include "tests/lib/netvsc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "hv/save/save.h"
#include "hv/vsp/netvsp/tap.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/netvsc_int.h"

const struct guid netvsc_interface =
	GUID_INIT(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e);
const uint8_t netvsc_mac[6] = {0x00, 0x15, 0x5d, 0x01, 0x02, 0x03};

#define NETVSC_RECV_PAGES 256u
#define NETVSC_SEND_PAGES 64u
#define NETVSC_TX_PAGES 20u
#define NETVSC_RING_PAGES 16u

_Noreturn void netvsc_die(const char *what, int err)
{
	(void)fprintf(stderr, "netvsc: %s: %d\n", what, err);
	abort();
}

/* ---- a tap that is a socket ---- */

/* Of the adapter that was made last: the ops have no argument, and tests have one adapter. */
static struct netvsc_tap_state netvsc_fake;

static int netvsc_fake_setup(int fd, struct errbuf *eb)
{
	(void)fd;
	(void)eb;
	netvsc_fake = (struct netvsc_tap_state){0};
	return 0;
}

static int netvsc_fake_offload(int fd, bool checksum, bool tso4, bool tso6)
{
	(void)fd;
	netvsc_fake.checksum = checksum;
	netvsc_fake.tso4 = tso4;
	netvsc_fake.tso6 = tso6;
	return 0;
}

static int netvsc_fake_filter(int fd, const uint8_t *mac)
{
	(void)fd;
	netvsc_fake.filtered = mac != NULL;
	if (mac != NULL) {
		memcpy(netvsc_fake.mac, mac, sizeof(netvsc_fake.mac));
	}
	return 0;
}

static const struct tap_ops netvsc_fake_ops = {
	.setup = netvsc_fake_setup,
	.offload = netvsc_fake_offload,
	.filter = netvsc_fake_filter,
};

const struct netvsc_tap_state *netvsc_tap_state(const struct netvsc *v)
{
	(void)v;
	return &netvsc_fake;
}

static void netvsc_socket(int *ours, int *theirs)
{
	int bytes = 4 << 20;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
		netvsc_die("socketpair", -errno);
	}
	for (int i = 0; i < 2; i++) {
		(void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	}
	*ours = fds[0];
	*theirs = fds[1];
}

int netvsc_adapter_create(struct netvsc *v)
{
	int fds[NETVSC_CHANNELS_MAX];
	struct errbuf eb = {0};
	struct netvsp_cfg cfg = {
		.instance_id = GUID_INIT(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
		.mtu = v->cfg.mtu,
		.vlan = v->cfg.vlan,
		.spoofing = v->cfg.spoofing,
		.link_up = !v->cfg.link_down,
		.name = v->cfg.name,
		.tap_fds = fds,
		.tap_count = v->cfg.queues,
		.tap = v->cfg.taps == NULL ? &netvsc_fake_ops : NULL,
	};
	int err;

	memcpy(cfg.mac, netvsc_mac, sizeof(cfg.mac));
	for (uint32_t i = 0; i < v->cfg.queues; i++) {
		if (v->cfg.taps != NULL) {
			fds[i] = dup(v->cfg.taps[i]);
			continue;
		}
		if (v->tap[i] >= 0) {
			(void)close(v->tap[i]);
		}
		netvsc_socket(&v->tap[i], &fds[i]);
	}
	err = netvsp_create(guest_env(v->guest), &cfg, &v->vsp, &eb);
	for (uint32_t i = 0; i < v->cfg.queues && err != 0; i++) {
		(void)close(fds[i]);
	}
	return err;
}

void netvsc_create(const struct netvsc_cfg *cfg, struct netvsc **out)
{
	struct netvsc *v = calloc(1, sizeof(*v));
	int err;

	if (v == NULL) {
		netvsc_die("netvsc_create", -ENOMEM);
	}
	if (cfg != NULL) {
		v->cfg = *cfg;
	}
	v->cfg.queues = v->cfg.queues != 0 ? v->cfg.queues : 1;
	v->cfg.recv_pages = v->cfg.recv_pages != 0 ? v->cfg.recv_pages : NETVSC_RECV_PAGES;
	v->cfg.ring_pages = v->cfg.ring_pages != 0 ? v->cfg.ring_pages : NETVSC_RING_PAGES;
	v->cfg.version_max = v->cfg.version_max != 0 ? v->cfg.version_max : NETVSP_VERSION_61;
	v->recv_pfns = calloc(v->cfg.recv_pages, sizeof(*v->recv_pfns));
	v->send_pfns = calloc(NETVSC_SEND_PAGES, sizeof(*v->send_pfns));
	v->tx_pfns = calloc(NETVSC_TX_PAGES, sizeof(*v->tx_pfns));
	v->transfers = calloc(NETVSC_QUEUE, sizeof(*v->transfers));
	if (v->recv_pfns == NULL || v->send_pfns == NULL || v->tx_pfns == NULL ||
	    v->transfers == NULL) {
		netvsc_die("netvsc_create", -ENOMEM);
	}
	for (uint32_t i = 0; i < NETVSC_CHANNELS_MAX; i++) {
		v->tap[i] = -1;
	}
	v->next_id = 0x1000;
	guest_create(&v->cfg.guest, &v->guest);
	guest_alloc(v->guest, v->cfg.recv_pages, v->recv_pfns);
	guest_alloc(v->guest, NETVSC_SEND_PAGES, v->send_pfns);
	guest_alloc(v->guest, NETVSC_TX_PAGES, v->tx_pfns);
	err = netvsc_adapter_create(v);
	if (err != 0) {
		netvsc_die("netvsp_create", err);
	}
	guest_boot(v->guest);
	*out = v;
}

void netvsc_destroy(struct netvsc *v)
{
	if (v->chan[0] != NULL) {
		netvsc_close(v);
	}
	guest_unload(v->guest);
	v->vsp->ops->destroy(v->vsp);
	for (uint32_t i = 0; i < NETVSC_CHANNELS_MAX; i++) {
		if (v->tap[i] >= 0) {
			(void)close(v->tap[i]);
		}
	}
	guest_destroy(v->guest);
	free(v->recv_pfns);
	free(v->send_pfns);
	free(v->tx_pfns);
	free(v->transfers);
	free(v);
}

/* ---- the probe ---- */

void netvsc_open(struct netvsc *v)
{
	struct guest_offer *offer = guest_offer_find(v->guest, &netvsc_interface, 0);

	if (offer == NULL ||
	    guest_open(v->guest, offer, v->cfg.ring_pages, v->cfg.ring_pages, &v->chan[0]) != 0) {
		netvsc_die("cannot open the channel", 0);
	}
	v->channels = 1;
	v->version = 0;
	v->done_count = 0;
	v->transfer_count = 0;
	v->has_reply = false;
	v->has_table = false;
}

void netvsc_negotiate(struct netvsc *v)
{
	static const uint32_t versions[] = {NETVSP_VERSION_61, NETVSP_VERSION_6, NETVSP_VERSION_5,
	                                    NETVSP_VERSION_4,  NETVSP_VERSION_2, NETVSP_VERSION_1};
	struct netvsp_message m = {.type = le32_make(NETVSP_INIT)};
	struct netvsp_message answer;

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]) && v->version == 0; i++) {
		if (versions[i] > v->cfg.version_max) {
			continue;
		}
		m.u.init.version_min = le32_make(versions[i]);
		m.u.init.version_max = le32_make(versions[i]);
		netvsc_request(v, &m, &answer);
		if (le32_get(answer.type) != NETVSP_INIT_COMPLETE) {
			netvsc_die("no answer to INIT", 0);
		}
		if (le32_get(answer.u.init_complete.status) == NETVSP_STATUS_SUCCESS) {
			v->version = versions[i];
		}
	}
	if (v->version >= NETVSP_VERSION_2) {
		m = (struct netvsp_message){.type = le32_make(NETVSP_SEND_NDIS_CONFIG)};
		m.u.ndis_config.frame_max = le32_make(1514);
		m.u.ndis_config.capabilities = le64_make(
			NETVSP_CAP_8021Q |
			(v->version >= NETVSP_VERSION_61 && !v->cfg.no_rsc ? NETVSP_CAP_RSC : 0));
		netvsc_post(v, &m);
	}
	m = (struct netvsp_message){.type = le32_make(NETVSP_SEND_NDIS_VERSION)};
	m.u.ndis_version.major = le32_make(6);
	m.u.ndis_version.minor = le32_make(v->version >= NETVSP_VERSION_5 ? 30 : 1);
	netvsc_post(v, &m);
}

void netvsc_buffers(struct netvsc *v)
{
	uint32_t relid = guest_chan_relid(v->chan[0]);
	uint32_t recv_bytes = v->cfg.recv_pages * 4096;
	struct netvsp_message m = {.type = le32_make(NETVSP_SEND_RECV_BUFFER)};
	struct netvsp_message answer;

	if (guest_gpadl_create(v->guest, relid, v->recv_pfns, v->cfg.recv_pages, recv_bytes,
	                       &v->recv_gpadl) != 0 ||
	    guest_gpadl_create(v->guest, relid, v->send_pfns, NETVSC_SEND_PAGES,
	                       NETVSC_SEND_PAGES * 4096, &v->send_gpadl) != 0) {
		netvsc_die("cannot share buffers", 0);
	}
	m.u.buffer.gpadl = le32_make(v->recv_gpadl);
	m.u.buffer.id = le16_make(0xcafe);
	netvsc_request(v, &m, &answer);
	v->slot_bytes = le32_get(answer.u.recv_complete.slot_bytes);
	v->slots = le32_get(answer.u.recv_complete.slots);
	/* What Linux asks of the answer. */
	if (le32_get(answer.type) != NETVSP_SEND_RECV_BUFFER_COMPLETE ||
	    le32_get(answer.u.recv_complete.status) != NETVSP_STATUS_SUCCESS ||
	    le32_get(answer.u.recv_complete.sections) != 1 ||
	    le32_get(answer.u.recv_complete.offset) != 0 || v->slot_bytes < 68 ||
	    (uint64_t)v->slot_bytes * v->slots > recv_bytes) {
		netvsc_die("bad answer to the receive buffer",
		           (int)le32_get(answer.u.recv_complete.status));
	}
	m = (struct netvsp_message){.type = le32_make(NETVSP_SEND_SEND_BUFFER)};
	m.u.buffer.gpadl = le32_make(v->send_gpadl);
	netvsc_request(v, &m, &answer);
	v->section_bytes = le32_get(answer.u.send_complete.section_bytes);
	if (le32_get(answer.type) != NETVSP_SEND_SEND_BUFFER_COMPLETE ||
	    le32_get(answer.u.send_complete.status) != NETVSP_STATUS_SUCCESS ||
	    v->section_bytes < 68) {
		netvsc_die("bad answer to the send buffer", 0);
	}
	v->sections = NETVSC_SEND_PAGES * 4096 / v->section_bytes;
}

void netvsc_rndis_init(struct netvsc *v)
{
	struct rndis_initialize_wire w = {
		.header = {.type = le32_make(RNDIS_INITIALIZE), .bytes = le32_make(sizeof(w))},
		.id = le32_make(++v->next_request),
		.major = le32_make(1),
		.transfer_bytes_max = le32_make(0x4000),
	};
	struct rndis_initialize_complete_wire r;

	if (netvsc_control(v, &w, sizeof(w)) != NETVSP_STATUS_SUCCESS) {
		netvsc_die("INITIALIZE refused", 0);
	}
	netvsc_reply_wait(v);
	memcpy(&r, v->reply, sizeof(r));
	if (v->reply_bytes != sizeof(r) || le32_get(r.header.type) != 0x80000002u ||
	    le32_get(r.id) != v->next_request || le32_get(r.status) != 0 ||
	    le32_get(r.packets_max) != 8 || le32_get(r.alignment) != 3) {
		netvsc_die("bad answer to INITIALIZE", 0);
	}
}

void netvsc_offloads(struct netvsc *v, bool rsc)
{
	uint8_t rsc_value = rsc ? NDIS_PARAMETER_TX : NDIS_PARAMETER_OFF;
	struct ndis_offload_parameters_wire w = {
		.object = {.type = NDIS_OBJECT_DEFAULT,
	                   .revision = 3,
	                   .bytes = le16_make(sizeof(w))},
		.ip4_checksum = NDIS_PARAMETER_OFF,
		.tcp4_checksum = NDIS_PARAMETER_BOTH,
		.udp4_checksum = NDIS_PARAMETER_BOTH,
		.tcp6_checksum = NDIS_PARAMETER_BOTH,
		.udp6_checksum = NDIS_PARAMETER_BOTH,
		.lso4 = NDIS_PARAMETER_TX,
		.lso6 = NDIS_PARAMETER_TX,
		.rsc4 = rsc_value,
		.rsc6 = rsc_value,
	};
	uint32_t bytes = v->version >= NETVSP_VERSION_5 ? sizeof(w) : 22;

	if (netvsc_set(v, RNDIS_OID_OFFLOAD_PARAMETERS, &w, bytes) != RNDIS_STATUS_SUCCESS) {
		netvsc_die("offload parameters refused", 0);
	}
}

void netvsc_sub_channels(struct netvsc *v, uint32_t count)
{
	struct netvsp_message m = {.type = le32_make(NETVSP_SUBCHANNEL)};
	struct netvsp_message answer;

	m.u.subchannel.operation = le32_make(NETVSP_SUBCHANNEL_ALLOCATE);
	m.u.subchannel.count = le32_make(count);
	netvsc_request(v, &m, &answer);
	if (le32_get(answer.type) != NETVSP_SUBCHANNEL ||
	    le32_get(answer.u.subchannel.operation) != NETVSP_STATUS_SUCCESS) {
		netvsc_die("sub-channels refused", 0);
	}
	count = le32_get(answer.u.subchannel.count);
	for (uint32_t i = 1; i <= count; i++) {
		struct guest_offer *offer;

		guest_run_until(v->guest, (offer = guest_offer_find(v->guest, &netvsc_interface,
		                                                    (uint16_t)i)) != NULL);
		if (guest_open(v->guest, offer, v->cfg.ring_pages, v->cfg.ring_pages,
		               &v->chan[i]) != 0) {
			netvsc_die("cannot open a sub-channel", 0);
		}
		v->offer[i] = offer;
		v->channels = i + 1;
	}
}

static void netvsc_rss(struct netvsc *v)
{
	struct {
		struct ndis_rss_parameters_wire w;
		le32 table[128];
		uint8_t key[40];
	} rss = {
		.w = {.object = {.type = NDIS_OBJECT_RSS_PARAMETERS,
	                         .revision = 2,
	                         .bytes = le16_make(sizeof(rss.w))},
	              .flags = le16_make(NDIS_RSS_DISABLE),
	              .hash = le32_make(0x1701),
	              .table_bytes = le16_make(sizeof(rss.table)),
	              .table_offset = le32_make(sizeof(rss.w)),
	              .key_bytes = le16_make(sizeof(rss.key)),
	              .key_offset = le32_make(sizeof(rss.w) + sizeof(rss.table))},
	};

	for (uint32_t i = 0; i < 128; i++) {
		rss.table[i] = le32_make(i % v->channels);
	}
	for (uint32_t i = 0; i < sizeof(rss.key); i++) {
		rss.key[i] = (uint8_t)(i * 7 + 1);
	}
	if (netvsc_set(v, RNDIS_OID_RSS_PARAMETERS, &rss, sizeof(rss)) != 0) {
		netvsc_die("RSS cannot be turned off", 0);
	}
	rss.w.flags = le16_make(0);
	if (netvsc_set(v, RNDIS_OID_RSS_PARAMETERS, &rss, sizeof(rss)) != 0) {
		netvsc_die("RSS refused", 0);
	}
}

static void netvsc_query_mac(struct netvsc *v)
{
	uint8_t mac[6];
	uint32_t bytes;

	if (netvsc_query(v, RNDIS_OID_PERMANENT_ADDRESS, NULL, 0, mac, sizeof(mac), &bytes) != 0 ||
	    bytes != 6 || memcmp(mac, netvsc_mac, 6) != 0) {
		netvsc_die("another address", 0);
	}
}

static bool netvsc_query_offloads(struct netvsc *v)
{
	uint32_t size = 112;
	uint8_t revision = 1;
	struct ndis_offload_wire w = {0};
	uint32_t bytes;

	if (v->version >= NETVSP_VERSION_5) {
		size = 156;
		revision = 3;
	} else if (v->version >= NETVSP_VERSION_4) {
		size = 144;
		revision = 2;
	}
	w.object = (struct ndis_object_wire){
		.type = 0xa7, .revision = revision, .bytes = le16_make((uint16_t)size)};
	if (netvsc_query(v, RNDIS_OID_OFFLOAD_CAPABILITIES, &w, size, &w, sizeof(w), &bytes) != 0 ||
	    w.object.type != 0xa7 || w.object.revision < 1 || le16_get(w.object.bytes) > bytes ||
	    le16_get(w.object.bytes) < 112 || bytes != size) {
		netvsc_die("bad offload capabilities", (int)bytes);
	}
	/* Linux turns on what it finds like this. */
	if ((le32_get(w.ip4_tx.flags) & 0x14) != 0x14 ||
	    (le32_get(w.ip6_tx.flags) & 0x15) != 0x15 ||
	    (le32_get(w.lso4_encapsulation) & 2) == 0 || (le32_get(w.lso6_options) & 5) != 5) {
		netvsc_die("offloads are missing", 0);
	}
	return bytes >= 146 && w.rsc4 == 1 && w.rsc6 == 1;
}

void netvsc_probe(struct netvsc *v)
{
	struct ndis_rss_capabilities_wire rss;
	uint8_t name[256];
	uint32_t bytes;
	bool rsc;

	netvsc_open(v);
	netvsc_negotiate(v);
	netvsc_buffers(v);
	netvsc_rndis_init(v);
	(void)netvsc_query_u32(v, RNDIS_OID_MAXIMUM_FRAME_SIZE);
	netvsc_query_mac(v);
	(void)netvsc_query(v, RNDIS_OID_FRIENDLY_NAME, NULL, 0, name, sizeof(name), &bytes);
	rsc = netvsc_query_offloads(v);
	netvsc_offloads(v, rsc);
	(void)netvsc_query_u32(v, RNDIS_OID_MEDIA_CONNECT_STATUS);
	(void)netvsc_query_u32(v, RNDIS_OID_LINK_SPEED);
	rss = (struct ndis_rss_capabilities_wire){
		.object = {.type = 0x88, .revision = 2, .bytes = le16_make(sizeof(rss))}};
	if (v->version >= NETVSP_VERSION_5 &&
	    netvsc_query(v, RNDIS_OID_RSS_CAPABILITIES, &rss, sizeof(rss), &rss, sizeof(rss),
	                 &bytes) == 0 &&
	    le32_get(rss.queues) >= 2) {
		netvsc_sub_channels(v, le32_get(rss.queues) - 1);
		netvsc_rss(v);
	}
}

void netvsc_close(struct netvsc *v)
{
	uint32_t relid = guest_chan_relid(v->chan[0]);
	struct netvsp_message m = {.type = le32_make(NETVSP_REVOKE_RECV_BUFFER)};

	if (v->version != 0) {
		m.u.buffer_id = le16_make(0xcafe);
		netvsc_post(v, &m);
		m.type = le32_make(NETVSP_REVOKE_SEND_BUFFER);
		m.u.buffer_id = le16_make(0);
		netvsc_post(v, &m);
	}
	for (uint32_t i = 1; i < v->channels; i++) {
		guest_close(v->chan[i]);
	}
	guest_close(v->chan[0]);
	if (v->recv_gpadl != 0) {
		guest_gpadl_teardown(v->guest, relid, v->recv_gpadl);
		guest_gpadl_teardown(v->guest, relid, v->send_gpadl);
	}
	for (uint32_t i = 1; i < v->channels; i++) {
		guest_run_until(v->guest, v->offer[i]->rescinded);
		guest_release(v->guest, v->offer[i]);
	}
	v->chan[0] = NULL;
	v->channels = 0;
	v->recv_gpadl = 0;
	v->send_gpadl = 0;
}

/* ---- moving ---- */

static void netvsc_count(void *arg)
{
	(*(uint32_t *)arg)++;
}

void netvsc_move(struct netvsc *v)
{
	struct save s;
	struct load l;
	struct errbuf eb = {0};
	uint8_t *blob;
	size_t len;
	uint32_t paused = 0;

	guest_host_begin(v->guest);
	vmbus_pause(guest_bus(v->guest));
	v->vsp->ops->pause(v->vsp, netvsc_count, &paused);
	guest_host_end(v->guest);
	guest_run_until(v->guest, paused == 1);
	save_init(&s);
	v->vsp->ops->save(v->vsp, &s);
	vmbus_save(guest_bus(v->guest), &s);
	if (save_finish(&s, &blob, &len) != 0) {
		netvsc_die("save", 0);
	}
	v->vsp->ops->destroy(v->vsp);
	guest_bus_replace(v->guest);
	if (netvsc_adapter_create(v) != 0 || load_init(&l, blob, len, &eb) != 0 ||
	    v->vsp->ops->load(v->vsp, &l) != 0 || vmbus_load(guest_bus(v->guest), &l) != 0) {
		netvsc_die(eb.text, 0);
	}
	guest_host_begin(v->guest);
	v->vsp->ops->resume(v->vsp);
	vmbus_resume(guest_bus(v->guest));
	guest_host_end(v->guest);
	free(blob);
}
