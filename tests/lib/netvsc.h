/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_NETVSC_H
#define TESTS_LIB_NETVSC_H

/*
 * netvsc - the guest's network driver in the test process: it brings an adapter up in the order of
 * messages that Linux uses, and sends and receives frames. Over tests/lib/vmbus_guest.
 *
 *	netvsc_create(&cfg, &v);        // guest, taps (socket pairs), adapter
 *	netvsc_probe(v);                // as Linux does: up to "carrier on"
 *	netvsc_filter(v, 0xd);          // ip link set up
 *	netvsc_send(v, 0, &tx);         // and wait for the completion
 *	netvsc_tap_read(v, 0, &frame);  // what the host's network got
 *	netvsc_tap_write(v, 0, &vnet, frame, len);
 *	netvsc_recv(v, 0, &rx);         // waits
 *	netvsc_give_back(v, &rx);
 *	netvsc_destroy(v);
 *
 * Aborts the test on what Linux would not take. One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/netvsp/netvsp.h"
#include "hv/vsp/netvsp/netvsp_wire.h"
#include "hv/vsp/netvsp/rndis_wire.h"
#include "tests/lib/vmbus_guest.h"

struct vsp;

#define NETVSC_CHANNELS_MAX 16u
#define NETVSC_FRAME_MAX 66000u
#define NETVSC_QUEUE 4096u /* things that came and were not looked at */

struct netvsc_cfg {
	struct guest_cfg guest;
	uint32_t queues; /* 0 = 1 */
	uint32_t mtu;    /* 0 = 1500 */
	uint16_t vlan;
	bool spoofing;
	bool link_down;
	const char *name;
	uint32_t recv_pages;  /* 0 = 256: 512 slots */
	uint32_t ring_pages;  /* 0 = 16, each way */
	uint32_t version_max; /* newest NVSP to try; 0 = 6.1 */
	bool no_rsc;          /* the guest does not say that it can coalesce */
	const int *taps;      /* [queues] real ones; NULL = socket pairs */
};

struct netvsc_ppi {
	uint32_t type;
	uint32_t value;
};

struct netvsc_tx {
	const uint8_t *frame;
	uint32_t len;
	struct netvsc_ppi ppi[4];
	uint32_t ppi_count;
	bool section; /* through the send buffer; else in guest pages */
};

struct netvsc_rx {
	uint64_t transaction_id; /* 0 = given back with an earlier one of the same transfer */
	uint32_t channel;
	uint32_t parts; /* slots that the frame came in */
	uint32_t len;
	uint32_t checksum; /* RNDIS_CSUM_RX_* */
	bool has_vlan;
	uint32_t vlan;
	uint8_t frame[NETVSC_FRAME_MAX];
};

struct netvsc_tap_frame {
	struct netvsp_vnet_wire vnet;
	uint32_t len;
	uint8_t frame[NETVSC_FRAME_MAX];
};

/* A transfer from the host that the test has not looked at. */
struct netvsc_transfer {
	uint64_t transaction_id;
	uint32_t channel;
	uint32_t next; /* range to look at */
	uint32_t count;
	struct {
		uint32_t bytes;
		uint32_t offset;
	} range[562];
};

/* What the fake tap was told. */
struct netvsc_tap_state {
	bool checksum, tso4, tso6;
	bool filtered;
	uint8_t mac[6];
};

/* Readable by tests. */
struct netvsc {
	struct netvsc_cfg cfg;
	struct guest *guest;
	struct vsp *vsp;
	struct guest_chan *chan[NETVSC_CHANNELS_MAX];
	struct guest_offer *offer[NETVSC_CHANNELS_MAX]; /* of sub-channels */
	uint32_t channels;
	int tap[NETVSC_CHANNELS_MAX]; /* our ends; -1 = real taps */
	uint32_t version;
	uint64_t *recv_pfns; /* owned, as the next */
	uint64_t *send_pfns;
	uint64_t *tx_pfns;
	uint32_t recv_gpadl, send_gpadl;
	uint32_t slot_bytes, slots;
	uint32_t section_bytes, sections;
	uint64_t next_id;
	uint32_t next_request;
	uint32_t next_section;
	bool hold; /* do not give back control transfers, either */
	bool has_table;
	uint32_t table[16];
	uint32_t link_events; /* status indications that came */
	uint32_t link_status; /* the last one's */
	bool has_reply;
	uint32_t reply_bytes;
	uint8_t reply[4096];
	uint32_t done_count; /* completions that came */
	struct {
		uint64_t id;
		struct netvsp_message m;
	} done[NETVSC_QUEUE];
	uint32_t transfer_count;
	struct netvsc_transfer *transfers; /* owned: [NETVSC_QUEUE] */
};

extern const struct guid netvsc_interface;
extern const uint8_t netvsc_mac[6];

void netvsc_create(const struct netvsc_cfg *cfg, struct netvsc **out);
void netvsc_destroy(struct netvsc *v);
/* netvsc_adapter_create() - the adapter (again), on the present bus. Returns netvsp_create()'s. */
MUST_USE int netvsc_adapter_create(struct netvsc *v);
const struct netvsc_tap_state *netvsc_tap_state(const struct netvsc *v);

/* netvsc_open() - connect if needed, open the primary channel. netvsc_close() - as rmmod. */
void netvsc_open(struct netvsc *v);
void netvsc_close(struct netvsc *v);
/* netvsc_probe() - open, versions, buffers, RNDIS, OIDs, offloads; sub-channels if there are. */
void netvsc_probe(struct netvsc *v);
/* Parts of it. */
void netvsc_negotiate(struct netvsc *v);
void netvsc_buffers(struct netvsc *v);
void netvsc_rndis_init(struct netvsc *v);
void netvsc_offloads(struct netvsc *v, bool rsc);
void netvsc_sub_channels(struct netvsc *v, uint32_t count);

/* netvsc_request() - an NVSP message with completion; the answer. */
void netvsc_request(struct netvsc *v, const struct netvsp_message *m,
                    struct netvsp_message *answer);
/* netvsc_query() / netvsc_set() - returns the RNDIS status. */
uint32_t netvsc_query(struct netvsc *v, uint32_t oid, const void *in, uint32_t in_bytes, void *out,
                      uint32_t room_bytes, uint32_t *out_bytes);
uint32_t netvsc_query_u32(struct netvsc *v, uint32_t oid);
uint32_t netvsc_set(struct netvsc *v, uint32_t oid, const void *in, uint32_t in_bytes);
void netvsc_filter(struct netvsc *v, uint32_t filter);
/* netvsc_control() - send these bytes as a control message; returns the NVSP status. */
uint32_t netvsc_control(struct netvsc *v, const void *message, uint32_t len_bytes);
/* netvsc_reply_wait() - until a control answer came into v->reply. */
void netvsc_reply_wait(struct netvsc *v);

/* netvsc_message() - the RNDIS message for @tx into @buf[4096 + NETVSC_FRAME_MAX]; its length. */
uint32_t netvsc_message(const struct netvsc_tx *tx, uint8_t *buf);
/* netvsc_send_raw() - @buf[len] as a data transfer; returns the id. netvsc_done_wait() - its
 * status. */
uint64_t netvsc_send_raw(struct netvsc *v, uint32_t channel, const uint8_t *buf, uint32_t len,
                         bool section);
uint32_t netvsc_done_wait(struct netvsc *v, uint64_t id);
/* netvsc_send() - a frame; waits for the completion and returns its status. */
uint32_t netvsc_send(struct netvsc *v, uint32_t channel, const struct netvsc_tx *tx);

/* netvsc_pump() - take what is in the rings. */
void netvsc_pump(struct netvsc *v);
/* netvsc_recv() - the next frame on @channel, or on any (NETVSC_CHANNELS_MAX); waits. */
void netvsc_recv(struct netvsc *v, uint32_t channel, struct netvsc_rx *out);
/* netvsc_recv_now() - the same; false = none came though nothing is left to run. */
bool netvsc_recv_now(struct netvsc *v, uint32_t channel, struct netvsc_rx *out);
void netvsc_give_back(struct netvsc *v, const struct netvsc_rx *rx);
void netvsc_give_back_id(struct netvsc *v, uint32_t channel, uint64_t transaction_id);

/* netvsc_tap_write() - a frame from the host's network. @vnet NULL: plain. */
void netvsc_tap_write(struct netvsc *v, uint32_t queue, const struct netvsp_vnet_wire *vnet,
                      const uint8_t *frame, uint32_t len);
/* netvsc_tap_read() - the next frame the guest sent, which is there already; false = none. */
bool netvsc_tap_read(struct netvsc *v, uint32_t queue, struct netvsc_tap_frame *out);

/* netvsc_frame() - an Ethernet frame of @len bytes with a pattern of @seed, from @from to @to. */
void netvsc_frame(uint8_t *frame, uint32_t len, const uint8_t to[6], const uint8_t from[6],
                  uint32_t seed);

/* netvsc_move() - save the bus and the adapter, destroy both, load them into new ones over the
 * same memory, go on. */
void netvsc_move(struct netvsc *v);

#endif
