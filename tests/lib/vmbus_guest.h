/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_VMBUS_GUEST_H
#define TESTS_LIB_VMBUS_GUEST_H

/*
 * vmbus_guest - a guest in the test process: it has memory, message slots, event flags and
 * doorbells, and speaks VMBus to the bus under test the way Linux does.
 *
 *	struct guest *g;
 *	struct guest_chan *c;
 *
 *	guest_create(NULL, &g);
 *	... create the VSP on guest_env(g) ...
 *	guest_boot(g);                                  // contact, offers
 *	guest_open(g, guest_offer_find(g, &interface, 0), 4, 4, &c);
 *	guest_send(c, VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, 7, msg, sizeof(msg));
 *	guest_recv_wait(c, buf, sizeof(buf), &pkt);     // runs the VSP until the answer is there
 *	guest_close(c);
 *	... destroy the VSP ...
 *	guest_destroy(g);
 *
 * It is strict: it reads a ring again after it was empty only when the host has signalled, and it
 * waits for space only with pending_send_sz; so a lost wake-up makes the test fail. What waits
 * runs the ring (uring) and aborts the test, saying for what it waited, after GUEST_WAIT_NS.
 * One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/guid.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_wire.h"

struct gmem;
struct guest;
struct guest_chan;
struct uring;
struct vsp_env;

#define GUEST_WAIT_NS (20ull * 1000 * 1000 * 1000)
#define GUEST_OFFERS_MAX 1024u

struct guest_cfg {
	uint64_t ram_bytes;   /* 0 = 64 MiB: 1 MiB of it low, the rest above 4 GiB */
	uint32_t vp_count;    /* 0 = 2 */
	uint32_t version_max; /* of the bus; 0 = newest */
	bool scatter;         /* no two pages of an allocation are neighbours */
	bool fallback;        /* uring without io_uring */
	/* After each turn of the host: what changed in memory is in gmem's dirty log, or the test
	 * aborts. Each turn costs two copies of RAM: make it small. */
	bool watch;
	bool wary; /* drops messages that are too short: the bus was loaded from just anything */
};

/* guest_create() - memory, ring and bus; NULL = defaults. Aborts on failure, as all below. */
void guest_create(const struct guest_cfg *cfg, struct guest **out);
void guest_destroy(struct guest *g);

struct vmbus *guest_bus(struct guest *g);
struct gmem *guest_mem(struct guest *g);
struct uring *guest_uring(struct guest *g);
const struct vsp_env *guest_env(const struct guest *g);

/* ---- running ---- */

/* guest_step() - run what is ready, at most wait @timeout_ns; then take messages and events. */
void guest_step(struct guest *g, uint64_t timeout_ns);
/* guest_settle() - run until nothing is left to run (no timers, no I/O under way). */
void guest_settle(struct guest *g);
/* guest_host_begin() / guest_host_end() - around calls into the host that are no running: pause,
 * resume, load. For cfg.watch. */
void guest_host_begin(struct guest *g);
void guest_host_end(struct guest *g);
/* guest_turns() - how many there were. */
uint64_t guest_turns(const struct guest *g);
/* guest_run_until() - run until the condition holds. */
#define guest_run_until(g, condition)                                                           \
	do {                                                                                    \
		uint64_t guest_deadline_ = guest_deadline();                                    \
		while (!(condition)) {                                                          \
			guest_step_until((g), guest_deadline_, #condition, __FILE__, __LINE__); \
		}                                                                               \
	} while (0)
uint64_t guest_deadline(void);
void guest_step_until(struct guest *g, uint64_t deadline_ns, const char *what, const char *file,
                      int line);

/* ---- memory ---- */

/* guest_alloc() - @pages of RAM: their numbers into @pfns, all zero. guest_free() gives back. */
void guest_alloc(struct guest *g, uint32_t pages, uint64_t *pfns);
void guest_free(struct guest *g, uint32_t pages, const uint64_t *pfns);
/* guest_alloc_contiguous() - the GPA of @pages neighbours, whatever cfg.scatter says. */
uint64_t guest_alloc_contiguous(struct guest *g, uint32_t pages);
/* guest_ptr() - host address of [gpa, gpa+len). */
void *guest_ptr(struct guest *g, uint64_t gpa, uint64_t len_bytes);
/* Copy into / out of pages, from byte @offset of the first. */
void guest_pages_write(struct guest *g, const uint64_t *pfns, uint64_t offset, const void *buf,
                       size_t len_bytes);
void guest_pages_read(struct guest *g, const uint64_t *pfns, uint64_t offset, void *buf,
                      size_t len_bytes);

/* ---- connection ---- */

struct guest_offer {
	struct vmbus_offer_wire wire;
	uint32_t relid;
	uint32_t connection_id;
	uint16_t subchannel_index;
	bool rescinded;
	bool released; /* guest_release() was called: not valid any more */
};

/* guest_connect() - contact with one version. Returns 0; -EPROTONOSUPPORT refused. */
MUST_USE int guest_connect(struct guest *g, uint32_t version);
/* guest_request_offers() - and wait for all of them. */
void guest_request_offers(struct guest *g);
/* guest_boot() - contact with 5.3 and request offers. */
void guest_boot(struct guest *g);
/* guest_unload() - and wait for the answer; forgets offers. Channels of this guest are dead. */
void guest_unload(struct guest *g);

/* guest_offer_find() - the offer with @interface_id and sub-channel index that is not rescinded or
 * released; NULL = none. guest_offer_next(): the one after @from (NULL: the first). */
struct guest_offer *guest_offer_find(struct guest *g, const struct guid *interface_id,
                                     uint16_t subchannel_index);
struct guest_offer *guest_offer_next(struct guest *g, const struct guid *interface_id,
                                     uint16_t subchannel_index, const struct guest_offer *from);
uint32_t guest_offer_count(const struct guest *g); /* received since the contact */
/* guest_release() - tell the host that a rescinded offer is not used any more. */
void guest_release(struct guest *g, struct guest_offer *offer);

/* ---- raw ---- */

/* guest_post() - HvPostMessage. Returns what vmbus_message() returned. */
MUST_USE int guest_post(struct guest *g, uint32_t connection_id, const void *msg,
                        uint32_t len_bytes);
/* guest_message_take() - take the oldest message of @type out of those that came; false = none.
 * Offers and rescinds are taken by guest_step(). */
bool guest_message_take(struct guest *g, uint32_t type, void *buf, uint32_t len_bytes);
/* guest_message_wait() - the same, and wait for it. */
void guest_message_wait(struct guest *g, uint32_t type, void *buf, uint32_t len_bytes);
uint32_t guest_message_count(const struct guest *g); /* in the inbox */
/* guest_hold() - do (not) take messages out of the slots, like a guest with interrupts off. */
void guest_hold(struct guest *g, bool hold);
/* guest_signal() - HvSignalEvent. Returns 0; -ENOENT no such connection. */
int guest_signal(struct guest *g, uint32_t connection_id);
/* guest_interrupts() - how often the host interrupted @vp_index for an event. */
uint64_t guest_interrupts(const struct guest *g, uint32_t vp_index);
/* guest_flag_take() - was event flag @flag set on @vp_index? Clears it. */
bool guest_flag_take(struct guest *g, uint32_t vp_index, uint32_t flag);

/* ---- GPADLs ---- */

/* guest_gpadl_create() - share @pages; header and bodies as Linux sends them.
 * Returns 0 and the number in @id; -EREMOTEIO the host refused. */
MUST_USE int guest_gpadl_create(struct guest *g, uint32_t relid, const uint64_t *pfns,
                                uint32_t pages, uint32_t byte_count, uint32_t *id);
/* guest_gpadl_teardown() - ask for it back and wait for the answer. */
void guest_gpadl_teardown(struct guest *g, uint32_t relid, uint32_t id);
/* guest_gpadl_teardown_begin() - only ask. */
void guest_gpadl_teardown_begin(struct guest *g, uint32_t relid, uint32_t id);

/* ---- channels ---- */

/*
 * guest_open() - allocate rings of @out_pages (to the host) and @in_pages, each with its control
 * page, share them, open. Target VP: relid modulo VPs.
 * Returns 0; -EREMOTEIO the host refused (nothing is left).
 */
MUST_USE int guest_open(struct guest *g, const struct guest_offer *offer, uint32_t out_pages,
                        uint32_t in_pages, struct guest_chan **out);
/* guest_close() - close, take the GPADL back, free everything. */
void guest_close(struct guest_chan *c);
/* guest_abandon() - forget the channel without a word, as a kernel does that kexec replaced. */
void guest_abandon(struct guest_chan *c);

uint32_t guest_chan_relid(const struct guest_chan *c);
uint32_t guest_chan_gpadl(const struct guest_chan *c);
uint32_t guest_chan_vp(const struct guest_chan *c);
/* guest_chan_page() - host address of a page of the ring GPADL: [0] and [out_pages] are the
 * control pages (struct vmbus_ring_shm). For tests that damage rings. */
void *guest_chan_page(struct guest_chan *c, uint32_t index);
uint32_t guest_chan_out_pages(const struct guest_chan *c);

/*
 * guest_send() - one packet. The guest is Linux: it signals if the host asks for it.
 * Returns 0; -EAGAIN no room: pending_send_sz is set, and guest_chan_signalled() will tell.
 */
MUST_USE int guest_send(struct guest_chan *c, uint16_t type, uint16_t flags,
                        uint64_t transaction_id, const void *payload, uint32_t len_bytes);
/* guest_send_full() - with a type-specific header, multiple of 8 bytes. */
MUST_USE int guest_send_full(struct guest_chan *c, uint16_t type, uint16_t flags,
                             uint64_t transaction_id, const void *header, uint32_t header_bytes,
                             const void *payload, uint32_t len_bytes);

/* One range of a GPA-direct packet: len_bytes from byte offset of the first page on. */
struct guest_range {
	const uint64_t *pfns;
	uint32_t offset;
	uint32_t len_bytes;
};

/* guest_send_gpa() - a GPA-direct packet with ranges: storvsc sends one, netvsc one per page. */
MUST_USE int guest_send_gpa(struct guest_chan *c, uint16_t flags, uint64_t transaction_id,
                            const struct guest_range *ranges, uint32_t count, const void *payload,
                            uint32_t len_bytes);
/* guest_send_wait() - guest_send(), waiting for room. */
void guest_send_wait(struct guest_chan *c, uint16_t type, uint16_t flags, uint64_t transaction_id,
                     const void *payload, uint32_t len_bytes);

/*
 * guest_recv() - take the next packet into @buf.
 * Returns 0; -EAGAIN none: the host was asked for a signal, and until it comes every further call
 * says -EAGAIN without a look; -EMSGSIZE; -EBADMSG the host wrote nonsense.
 */
MUST_USE int guest_recv(struct guest_chan *c, void *buf, uint32_t room_bytes,
                        struct vmbus_packet *out);
/* guest_recv_wait() - the same, running the host until there is one. */
void guest_recv_wait(struct guest_chan *c, void *buf, uint32_t room_bytes,
                     struct vmbus_packet *out);

/* ---- save and load ---- */

/*
 * guest_bus_replace() - destroy the bus and make a new, paused one over the same memory, as on the
 * host that a VM moves to. VSPs are destroyed before, created again after, then vmbus_load(),
 * their loads, vmbus_resume().
 */
void guest_bus_replace(struct guest *g);

#endif
