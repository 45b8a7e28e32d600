/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A hostile guest against VMBus. Each test is one class of attack; all of them end in the same
 * way: the bus still serves an honest channel, nothing outside guest memory was touched
 * (AddressSanitizer), and what the guest could make us keep is within the limits of vmbus.h.
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmbus/vmbus_shm.h"
#include "tests/lib/test.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

#define PAGE 4096u
#define OUT_PAGES 5u
#define IN_PAGES 5u

/* An attacked device and an honest one, both open. */
struct field {
	struct guest *g;
	struct echo *victim;
	struct echo *honest;
	struct guest_chan *c;
	struct guest_chan *d;
	struct guest_offer *offer;
	uint32_t seed;
};

static uint32_t next_random(struct field *f)
{
	f->seed = f->seed * 1664525u + 1013904223u;
	return f->seed >> 8;
}

static uint64_t next_random64(struct field *f)
{
	return (uint64_t)next_random(f) << 40 ^ (uint64_t)next_random(f) << 20 ^ next_random(f);
}

static void field_open(struct field *f)
{
	struct guest_offer *o = guest_offer_find(f->g, &echo_interface, 0);

	if (f->victim == NULL || o->wire.instance_id.b[0] != 1) {
		fail_msg("offers in another order");
	}
	f->offer = o;
	assert_int_equal(guest_open(f->g, o, OUT_PAGES, IN_PAGES, &f->c), 0);
	o = guest_offer_next(f->g, &echo_interface, 0, o);
	assert_int_equal(guest_open(f->g, o, 3, 3, &f->d), 0);
	guest_settle(f->g);
}

static void field_init(struct field *f, const struct echo_cfg *victim)
{
	struct echo_cfg cfg = victim != NULL ? *victim : (struct echo_cfg){0};

	*f = (struct field){.seed = 4711};
	guest_create(&(struct guest_cfg){.ram_bytes = 16u << 20}, &f->g);
	cfg.instance = 0;
	assert_int_equal(echo_create(guest_env(f->g), &cfg, &f->victim), 0);
	assert_int_equal(
		echo_create(guest_env(f->g), &(struct echo_cfg){.instance = 1}, &f->honest), 0);
	guest_boot(f->g);
	field_open(f);
}

static void ping(struct field *f, struct guest_chan *c)
{
	struct vmbus_packet pkt;
	uint8_t buf[64];
	uint64_t id = next_random(f);

	assert_int_equal(guest_send(c, VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, id,
	                            "ping....", 8),
	                 0);
	guest_recv_wait(c, buf, sizeof(buf), &pkt);
	assert_int_equal(pkt.transaction_id, id);
	assert_memory_equal(pkt.payload, "ping....", 8);
}

/* The honest channel works, and after a new contact everything does. */
static void field_fini(struct field *f, bool still_connected)
{
	guest_settle(f->g);
	if (still_connected) {
		ping(f, f->d);
	}
	guest_boot(f->g);
	guest_abandon(f->c);
	guest_abandon(f->d);
	field_open(f);
	ping(f, f->c);
	ping(f, f->d);
	guest_unload(f->g);
	assert_false(f->victim->open);
	assert_false(f->honest->open);
	guest_destroy(f->g);
	echo_destroy(f->victim);
	echo_destroy(f->honest);
}

/* Post from an exact copy: AddressSanitizer sees a byte too many. */
static void post_exact(struct field *f, const void *msg, uint32_t len)
{
	uint8_t *exact = malloc(len != 0 ? len : 1);
	int err;

	assert_non_null(exact);
	memcpy(exact, msg, len);
	err = guest_post(f->g, 4, exact, len);
	assert_true(err == 0 || err == -EAGAIN);
	free(exact);
}

/* A packet that may or may not fit. */
static void try_send(struct field *f, uint32_t id)
{
	int err = guest_send(f->c, VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, id,
	                     "12345678", 8);

	assert_true(err == 0 || err == -EAGAIN);
}

/* A channel's control page, wherever it is. */
static struct vmbus_ring_shm *ctrl_out(struct field *f)
{
	return guest_chan_page(f->c, 0);
}

static struct vmbus_ring_shm *ctrl_in(struct field *f)
{
	return guest_chan_page(f->c, guest_chan_out_pages(f->c));
}

/* Ring the victim's doorbell and let it look. */
static void poke(struct field *f)
{
	(void)guest_signal(f->g, f->offer->connection_id);
	guest_settle(f->g);
}

/* Open the victim again if the attack closed it. */
static void revive(struct field *f)
{
	if (!vmbus_channel_is_open(f->victim->chan)) {
		guest_settle(f->g);
		assert_false(f->victim->open);
	}
	guest_close(f->c);
	assert_int_equal(guest_open(f->g, f->offer, OUT_PAGES, IN_PAGES, &f->c), 0);
	guest_settle(f->g);
}

/* ---- messages ---- */

static void messages_of_every_type_and_length(void **state)
{
	static const uint8_t fills[] = {0x00, 0xff, 0x01, 0x80, 0x7f};
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t type = 0; type < 32; type++) {
		if (type == VMBUS_MESSAGE_UNLOAD) {
			continue;
		}
		for (size_t i = 0; i < sizeof(fills); i++) {
			for (uint32_t len = 0; len <= 240; len++) {
				uint8_t msg[240];

				if (type == VMBUS_MESSAGE_CONTACT && len >= 40) {
					continue;
				}
				memset(msg, fills[i], sizeof(msg));
				memset(msg, 0, 8);
				msg[0] = (uint8_t)type;
				post_exact(&f, msg, len);
				guest_settle(f.g);
			}
		}
	}
	field_fini(&f, true);
}

static void random_messages_about_real_things(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t i = 0; i < 60000; i++) {
		uint8_t msg[240];
		uint32_t words[60];
		uint32_t len = 8 + next_random(&f) % 232;

		for (uint32_t w = 0; w < 60; w++) {
			switch (next_random(&f) % 6) {
			case 0:
				words[w] = f.offer->relid;
				break;
			case 1:
				words[w] = next_random(&f) % 8;
				break;
			case 2:
				words[w] = guest_chan_gpadl(f.c) - 2 + next_random(&f) % 6;
				break;
			case 3:
				words[w] = 0x100000 + next_random(&f) % 4096; /* a page */
				break;
			case 4:
				words[w] = next_random(&f) << 16 | next_random(&f);
				break;
			default:
				words[w] = 1u << next_random(&f) % 32;
				break;
			}
		}
		words[0] = next_random(&f) % 25;
		words[1] = 0;
		if (words[0] == VMBUS_MESSAGE_CONTACT && i % 64 != 0) {
			words[0] = VMBUS_MESSAGE_GPADL_HEADER;
		}
		if (words[0] == VMBUS_MESSAGE_UNLOAD && i % 256 != 0) {
			words[0] = VMBUS_MESSAGE_OPEN;
		}
		if (words[0] == VMBUS_MESSAGE_GPADL_HEADER) {
			words[4] = (next_random(&f) % 40 * 8 + 8) | 1u << 16;
		}
		memcpy(msg, words, sizeof(msg));
		post_exact(&f, msg, len);
		if (i % 7 == 0) {
			guest_settle(f.g);
		}
	}
	/* It may have closed anything, and connected with any version. */
	field_fini(&f, false);
}

static void a_flood_of_posts_with_the_slot_held(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, NULL);
	guest_hold(f.g, true);
	for (uint32_t i = 0; i < 20000; i++) {
		struct vmbus_modify_wire w = {
			.header.type = le32_make(VMBUS_MESSAGE_MODIFY),
			.relid = le32_make(f.offer->relid),
			.target_vp = le32_make(i % 2),
		};

		post_exact(&f, &w, sizeof(w));
	}
	guest_hold(f.g, false);
	guest_settle(f.g);
	assert_true(guest_message_count(f.g) < 4000);
	field_fini(&f, true);
}

/* ---- GPADLs ---- */

static void gpadl_header(struct field *f, uint32_t id, uint32_t pages, uint64_t pfn)
{
	struct {
		struct vmbus_gpadl_header_wire w;
		struct vmbus_range_wire range;
		le64 pfn;
	} msg = {
		.w.header.type = le32_make(VMBUS_MESSAGE_GPADL_HEADER),
		.w.relid = le32_make(f->offer->relid),
		.w.gpadl = le32_make(id),
		.w.range_bytes = le16_make((uint16_t)(8 + 8 * pages)),
		.w.range_count = le16_make(1),
		.range.byte_count = le32_make(pages * PAGE),
		.pfn = le64_make(pfn),
	};

	post_exact(f, &msg, sizeof(msg));
}

static void gpadls_that_are_never_finished(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t i = 1; i < 20000; i++) {
		gpadl_header(&f, i, 2 + next_random(&f) % 8000, 0x100000);
		guest_settle(f.g);
	}
	field_fini(&f, true);
}

static void gpadls_by_the_thousand(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t i = 1; i < 10000; i++) {
		gpadl_header(&f, i, 1, 0x100000 + i % 256);
		guest_settle(f.g);
	}
	field_fini(&f, true);
}

static void bodies_without_headers_and_beyond_the_end(void **state)
{
	struct {
		struct vmbus_gpadl_body_wire w;
		le64 pfns[28];
	} body = {.w.header.type = le32_make(VMBUS_MESSAGE_GPADL_BODY)};
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t i = 0; i < 28; i++) {
		body.pfns[i] = le64_make(0x100000 + i);
	}
	gpadl_header(&f, 50, 40, 0x100000);
	for (uint32_t i = 0; i < 2000; i++) {
		body.w.gpadl = le32_make(i % 3 == 0 ? 50 : next_random(&f));
		body.w.number = le32_make(next_random(&f));
		post_exact(&f, &body, 16 + next_random(&f) % 225);
		guest_settle(f.g);
	}
	/* Of the list in use, too. */
	body.w.gpadl = le32_make(guest_chan_gpadl(f.c));
	post_exact(&f, &body, sizeof(body));
	guest_settle(f.g);
	ping(&f, f.c);
	field_fini(&f, true);
}

static void pages_outside_of_ram(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t i = 1; i < 5000; i++) {
		uint64_t pfn = next_random64(&f) >> next_random(&f) % 64;

		if (gmem_range(guest_mem(f.g), pfn << 12, PAGE) != NULL && pfn < 1ull << 52) {
			continue;
		}

		struct vmbus_gpadl_created_wire r;

		gpadl_header(&f, i, 1, pfn);
		guest_message_wait(f.g, VMBUS_MESSAGE_GPADL_CREATED, &r, sizeof(r));
		assert_int_not_equal(le32_get(r.status), 0);
	}
	field_fini(&f, true);
}

static void a_teardown_of_rings_in_use(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, &(struct echo_cfg){.delay = true});
	for (uint32_t i = 0; i < 50; i++) {
		guest_gpadl_teardown_begin(f.g, f.offer->relid, guest_chan_gpadl(f.c));
		guest_settle(f.g);
		ping(&f, f.c);
	}
	assert_int_equal(guest_message_count(f.g), 0);
	field_fini(&f, true);
}

static void both_rings_over_the_same_pages_and_the_page_lists_of_others(void **state)
{
	struct field f;
	uint64_t pfns[6];

	(void)state;
	field_init(&f, NULL);
	guest_close(f.c);
	guest_alloc(f.g, 1, pfns);
	for (uint32_t i = 1; i < 6; i++) {
		pfns[i] = pfns[0]; /* control pages and data, both ways, are one page */
	}

	struct vmbus_open_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_OPEN),
		.relid = le32_make(f.offer->relid),
		.downstream_page = le32_make(3),
	};
	struct vmbus_open_result_wire r;
	uint32_t id;

	assert_int_equal(guest_gpadl_create(f.g, f.offer->relid, pfns, 6, 6 * PAGE, &id), 0);
	w.ring_gpadl = le32_make(id);
	post_exact(&f, &w, sizeof(w));
	guest_message_wait(f.g, VMBUS_MESSAGE_OPEN_RESULT, &r, sizeof(r));
	assert_int_equal(le32_get(r.status), 0);
	for (uint32_t i = 0; i < 300; i++) {
		uint32_t *page = guest_ptr(f.g, pfns[0] * PAGE, PAGE);

		for (uint32_t n = 0; n < 64; n++) {
			page[next_random(&f) % 1024] = next_random(&f) % 512 * 8;
		}
		poke(&f);
	}
	/* A list of the honest channel is no ring of this one. */
	w.ring_gpadl = le32_make(guest_chan_gpadl(f.d));
	post_exact(&f, &w, sizeof(w));
	guest_message_wait(f.g, VMBUS_MESSAGE_OPEN_RESULT, &r, sizeof(r));
	assert_int_not_equal(le32_get(r.status), 0);
	assert_int_equal(guest_connect(f.g, VMBUS_VERSION(5, 3)), 0);
	guest_request_offers(f.g);
	guest_abandon(f.d);
	field_open(&f);
	field_fini(&f, true);
}

/* ---- rings ---- */

static void ring_indices_out_of_range(void **state)
{
	static const uint32_t bad[] = {1,          2,          3,          4,    7,
	                               0x3ffc,     0x4000,     0x4001,     8192, 0x7fffffff,
	                               0x80000000, 0xfffffff8, 0xffffffff, 16,   0x3ff8};
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (uint32_t which = 0; which < 4; which++) {
			struct vmbus_ring_shm *ctrl = which < 2 ? ctrl_out(&f) : ctrl_in(&f);

			atomic_store(which % 2 == 0 ? &ctrl->in : &ctrl->out, bad[i]);
			atomic_store(&ctrl->pending, bad[i]);
			poke(&f);
			try_send(&f, 1);
			poke(&f);
			revive(&f);
		}
	}
	ping(&f, f.c);
	field_fini(&f, true);
}

static void descriptors_with_impossible_lengths(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t i = 0; i < 3000; i++) {
		uint16_t *data = guest_chan_page(f.c, 1);
		uint32_t where = (OUT_PAGES - 1) * PAGE;

		data[0] = (uint16_t)(next_random(&f) % 12);
		data[1] = (uint16_t)((next_random(&f) & 0xffff) >> next_random(&f) % 16);
		data[2] = (uint16_t)((next_random(&f) & 0xffff) >> next_random(&f) % 16);
		data[3] = (uint16_t)next_random(&f);
		atomic_store(&ctrl_out(&f)->out, 0);
		atomic_store(&ctrl_out(&f)->in, next_random(&f) % where / 8 * 8);
		if (i % 3 == 0) {
			guest_close(f.c);
			assert_int_equal(guest_open(f.g, f.offer, OUT_PAGES, IN_PAGES, &f.c), 0);
		}
		poke(&f);
	}
	revive(&f);
	ping(&f, f.c);
	field_fini(&f, true);
}

#ifndef __SANITIZE_THREAD__
struct mover {
	struct vmbus_ring_shm *out;
	struct vmbus_ring_shm *in;
	_Atomic uint32_t *data;
	_Atomic bool stop;
};

/* Another processor of the guest writes everything the host reads, while it reads. */
static void *mover_main(void *arg)
{
	struct mover *m = arg;

	for (uint32_t i = 0; !atomic_load(&m->stop); i++) {
		atomic_store(&m->out->in, i * 8 % 0x4100);
		atomic_store(&m->out->pending, i % 0x5000);
		atomic_store(&m->in->out, i * 24 % 0x4010);
		atomic_store(&m->in->in, i * 8);
		atomic_store(&m->in->mask, i & 1);
		/* descriptors: header words 2, total words of all sizes */
		atomic_store(&m->data[(i * 2) % 1024], 6u | 2u << 16);
		atomic_store(&m->data[(i * 2 + 1) % 1024], i % 0x900);
	}
	return NULL;
}

#endif

static void rings_that_move_while_they_are_read(void **state)
{
#ifdef __SANITIZE_THREAD__
	/* The host copies guest memory as plain bytes; the race is the attack. */
	(void)state;
	skip();
#else
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t round = 0; round < 20; round++) {
		struct mover m = {
			.out = ctrl_out(&f),
			.in = ctrl_in(&f),
			.data = guest_chan_page(f.c, 1),
		};
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, mover_main, &m), 0);
		for (uint32_t i = 0; i < 300; i++) {
			(void)guest_signal(f.g, f.offer->connection_id);
			guest_step(f.g, 0);
		}
		atomic_store(&m.stop, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		revive(&f);
	}
	field_fini(&f, true);
#endif
}

static void a_guest_that_never_reads_its_ring(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, &(struct echo_cfg){.delay = true});
	for (uint32_t i = 0; i < 2000; i++) {
		try_send(&f, i);
		guest_step(f.g, 0);
	}
	assert_true(f.victim->in_flight <= ECHO_IN_FLIGHT_MAX);
	guest_close(f.c); /* with answers that wait for room */
	assert_int_equal(guest_open(f.g, f.offer, OUT_PAGES, IN_PAGES, &f.c), 0);
	ping(&f, f.c);
	field_fini(&f, true);
}

static void doorbells_without_end(void **state)
{
	struct field f;
	uint32_t readies;

	(void)state;
	field_init(&f, NULL);
	readies = f.victim->readies;
	for (uint32_t i = 0; i < 100000; i++) {
		(void)guest_signal(f.g, f.offer->connection_id);
	}
	guest_settle(f.g);
	assert_true(f.victim->readies - readies < 1000); /* they are one */
	for (uint32_t id = 0; id < 0x3000; id += 7) {
		(void)guest_signal(f.g, id);
	}
	field_fini(&f, true);
}

/* ---- life cycles ---- */

static void close_and_reopen_storms(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, &(struct echo_cfg){.delay = true});
	for (uint32_t i = 0; i < 2000; i++) {
		uint32_t n = next_random(&f) % 8;

		for (uint32_t k = 0; k < n; k++) {
			try_send(&f, k);
		}
		f.victim->cfg.close_later = next_random(&f) % 2 == 0;
		guest_close(f.c);
		assert_int_equal(guest_open(f.g, f.offer, OUT_PAGES, IN_PAGES, &f.c), 0);
	}
	ping(&f, f.c);
	field_fini(&f, true);
}

static void opens_and_closes_that_do_not_wait(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, &(struct echo_cfg){.delay = true, .close_later = true});

	struct vmbus_open_wire open = {
		.header.type = le32_make(VMBUS_MESSAGE_OPEN),
		.relid = le32_make(f.offer->relid),
		.ring_gpadl = le32_make(guest_chan_gpadl(f.c)),
		.downstream_page = le32_make(OUT_PAGES),
	};
	struct vmbus_relid_wire close = {
		.header.type = le32_make(VMBUS_MESSAGE_CLOSE),
		.relid = le32_make(f.offer->relid),
	};

	for (uint32_t i = 0; i < 20000; i++) {
		switch (next_random(&f) % 4) {
		case 0:
			post_exact(&f, &open, sizeof(open));
			break;
		case 1:
			post_exact(&f, &close, sizeof(close));
			break;
		case 2:
			try_send(&f, i);
			break;
		default:
			guest_step(f.g, 0);
			break;
		}
	}
	field_fini(&f, false);
}

static void unload_and_contact_while_io_is_in_flight(void **state)
{
	struct vmbus_header_wire unload = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};
	struct field f;

	(void)state;
	field_init(&f, &(struct echo_cfg){.delay = true, .close_later = true});
	for (uint32_t i = 0; i < 300; i++) {
		for (uint32_t k = 0; k < 6; k++) {
			try_send(&f, k);
		}
		guest_step(f.g, 0);
		for (uint32_t k = next_random(&f) % 4; k != 0; k--) {
			post_exact(&f, &unload, sizeof(unload));
		}
		guest_boot(f.g);
		assert_int_equal(f.victim->in_flight, 0);
		guest_abandon(f.c);
		guest_abandon(f.d);
		field_open(&f);
	}
	field_fini(&f, true);
}

static void releases_of_everything(void **state)
{
	struct field f;

	(void)state;
	field_init(&f, NULL);
	for (uint32_t relid = 0; relid < 5000; relid++) {
		struct vmbus_relid_wire w = {
			.header.type = le32_make(VMBUS_MESSAGE_RELID_RELEASED),
			.relid = le32_make(relid < 4000 ? relid : next_random(&f) << 12),
		};

		post_exact(&f, &w, sizeof(w));
	}
	ping(&f, f.c);
	field_fini(&f, true);
}

static void channels_that_were_not_offered(void **state)
{
	struct field f;
	struct echo *secret;

	(void)state;
	field_init(&f, NULL);
	guest_abandon(f.c);
	guest_abandon(f.d);
	assert_int_equal(guest_connect(f.g, VMBUS_VERSION(5, 3)), 0);
	/* Connected, and offers not asked for: no number means anything. */
	for (uint32_t relid = 0; relid < 2100; relid++) {
		struct vmbus_open_wire w = {
			.header.type = le32_make(VMBUS_MESSAGE_OPEN),
			.relid = le32_make(relid),
			.ring_gpadl = le32_make(1),
			.downstream_page = le32_make(2),
		};

		post_exact(&f, &w, sizeof(w));
	}
	guest_settle(f.g);
	assert_int_equal(guest_message_count(f.g), 0);
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){.instance = 9}, &secret),
	                 0);
	guest_request_offers(f.g);
	field_open(&f);
	field_fini(&f, true);
	echo_destroy(secret);
}

static void a_flood_of_nonsense_does_not_fill_the_log(void **state)
{
	char path[] = "/tmp/godwit-hostile-XXXXXX";
	const struct log_cfg cfg = {.name = "test", .level = LOG_LEVEL_TRACE, .file = path};
	struct vmbus_header_wire unload = {.type = le32_make(VMBUS_MESSAGE_UNLOAD)};
	int fd = mkstemp(path);
	struct field f;
	uint32_t lines = 0;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(log_open(&cfg), 0);
	field_init(&f, NULL);
	for (uint32_t i = 0; i < 3000; i++) {
		post_exact(&f, "????????", 8);
		gpadl_header(&f, 0, 1, 0);
		atomic_store(&ctrl_out(&f)->in, 3); /* fails the channel */
		poke(&f);
		if (i % 10 == 0) {
			post_exact(&f, &unload, sizeof(unload));
			guest_boot(f.g);
			guest_abandon(f.c);
			guest_abandon(f.d);
			field_open(&f);
		}
	}
	field_fini(&f, true);
	log_close();

	FILE *log = fdopen(fd, "r");
	char line[1024];

	assert_non_null(log);
	while (fgets(line, sizeof(line), log) != NULL) {
		lines++;
	}
	(void)fclose(log);
	(void)unlink(path);
	/* A few kinds, each LOG_LIMIT_PER_WINDOW lines in five seconds and a note of the rest. */
	assert_true(lines > 5);
	assert_true(lines < 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_of_every_type_and_length),
		cmocka_unit_test(random_messages_about_real_things),
		cmocka_unit_test(a_flood_of_posts_with_the_slot_held),
		cmocka_unit_test(gpadls_that_are_never_finished),
		cmocka_unit_test(gpadls_by_the_thousand),
		cmocka_unit_test(bodies_without_headers_and_beyond_the_end),
		cmocka_unit_test(pages_outside_of_ram),
		cmocka_unit_test(a_teardown_of_rings_in_use),
		cmocka_unit_test(both_rings_over_the_same_pages_and_the_page_lists_of_others),
		cmocka_unit_test(ring_indices_out_of_range),
		cmocka_unit_test(descriptors_with_impossible_lengths),
		cmocka_unit_test(rings_that_move_while_they_are_read),
		cmocka_unit_test(a_guest_that_never_reads_its_ring),
		cmocka_unit_test(doorbells_without_end),
		cmocka_unit_test(close_and_reopen_storms),
		cmocka_unit_test(opens_and_closes_that_do_not_wait),
		cmocka_unit_test(unload_and_contact_while_io_is_in_flight),
		cmocka_unit_test(releases_of_everything),
		cmocka_unit_test(channels_that_were_not_offered),
		cmocka_unit_test(a_flood_of_nonsense_does_not_fill_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
