/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A hostile guest against the SCSI controller. Each test is one class of attack; all of them end in
 * the same way: the controller still serves an honest guest, nothing outside the buffers that the
 * guest named was touched (a canary, and AddressSanitizer), and every packet that asked for an
 * answer got at most one.
 */

#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "hv/mem/gmem.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/stor_guest.h"
#include "tests/lib/test.h"

#define PAGE 4096u
#define PIECES_MAX (STORVSP_TRANSFER_BYTES_MAX / PAGE + 1) /* pages of the largest transfer */
#define CANARY_PAGES 8u

struct field {
	struct stor s;
	uint64_t canary[CANARY_PAGES]; /* right behind the data buffer */
	uint32_t seed;
};

static uint32_t next_random(struct field *f)
{
	f->seed = f->seed * 1664525u + 1013904223u;
	return f->seed >> 8;
}

static void fill_random(struct field *f, void *buf, size_t len)
{
	uint8_t *b = buf;

	for (size_t i = 0; i < len; i++) {
		b[i] = (uint8_t)next_random(f);
	}
}

static void field_init(struct field *f)
{
	*f = (struct field){.seed = 815};
	stor_create(&(struct stor_cfg){.second = true, .dvd = true, .sub_channels_max = 4}, &f->s);
	guest_alloc(f->s.g, CANARY_PAGES, f->canary);
	for (uint32_t i = 0; i < CANARY_PAGES; i++) {
		memset(guest_ptr(f->s.g, f->canary[i] * PAGE, PAGE), 0x5a, PAGE);
	}
	stor_boot(&f->s);
}

static void honest_run(struct field *f)
{
	struct stor *s = &f->s;
	struct storvsp_srb srb;

	stor_fill(s, (struct stor_span){0, PAGE}, 4);
	srb = stor_run(s, &(struct stor_cmd){STOR_WRITE10(64, 8), .len_bytes = PAGE});
	if (srb.cdb_or_sense[2] == 0x06) { /* an attention that was still to be told */
		srb = stor_run(s, &(struct stor_cmd){STOR_WRITE10(64, 8), .len_bytes = PAGE});
	}
	assert_int_equal(srb.srb_status, STORVSP_SRB_SUCCESS);
	stor_fill(s, (struct stor_span){0, PAGE}, 5);
	srb = stor_run(s, &(struct stor_cmd){STOR_READ10(64, 8), .len_bytes = PAGE});
	assert_int_equal(srb.srb_status, STORVSP_SRB_SUCCESS);
	assert_true(stor_has(s, (struct stor_span){0, PAGE}, 4));
}

/* Take every answer; returns how many. */
static uint32_t drain(struct field *f)
{
	uint8_t buf[256];
	struct vmbus_packet pkt;
	uint32_t n = 0;
	int err;

	for (;;) {
		guest_settle(f->s.g);
		err = guest_recv(f->s.chans[0], buf, sizeof(buf), &pkt);
		if (err == -EAGAIN) {
			return n;
		}
		assert_int_equal(err, 0);
		assert_int_equal(pkt.type, VMBUS_PACKET_COMPLETION);
		assert_int_equal(pkt.payload_bytes, sizeof(struct storvsp_packet));
		n++;
	}
}

static void field_fini(struct field *f)
{
	(void)drain(f);
	stor_close(&f->s);
	stor_open(&f->s);
	stor_init(&f->s);
	honest_run(f);
	for (uint32_t i = 0; i < CANARY_PAGES; i++) {
		const uint8_t *page = guest_ptr(f->s.g, f->canary[i] * PAGE, PAGE);

		for (uint32_t b = 0; b < PAGE; b++) {
			assert_int_equal(page[b], 0x5a);
		}
	}
	stor_destroy(&f->s);
}

/* After a channel failed: what a guest can do is close and open. */
static void revive(struct field *f)
{
	guest_settle(f->s.g);
	stor_close(&f->s);
	stor_open(&f->s);
	stor_init(&f->s);
}

static struct storvsp_packet srb_packet(uint8_t opcode)
{
	return (struct storvsp_packet){
		.op = le32_make(STORVSP_EXECUTE_SRB),
		.flags = le32_make(1),
		.u.srb.cdb_bytes = 10,
		.u.srb.direction = STORVSP_READ,
		.u.srb.cdb_or_sense[0] = opcode,
		.u.srb.cdb_or_sense[8] = 1, /* one block */
	};
}

static void send_inband(struct field *f, const void *buf, uint32_t len)
{
	guest_send_wait(f->s.chans[0], VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, 1, buf,
	                len);
}

/* A GPA-direct packet whose header is anything. */
static void send_header(struct field *f, const void *header, uint32_t header_bytes,
                        const struct storvsp_packet *p)
{
	int err;

	guest_run_until(f->s.g, (err = guest_send_full(f->s.chans[0], VMBUS_PACKET_GPA_DIRECT,
	                                               VMBUS_PACKET_WANTS_COMPLETION, 1, header,
	                                               header_bytes, p, sizeof(*p))) != -EAGAIN);
	assert_int_equal(err, 0);
}

/* ---- packets ---- */

static void packets_of_every_length_and_operation(void **state)
{
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t op = 0; op < 20; op++) {
		for (uint32_t len = 0; len <= 72; len++) {
			struct storvsp_packet p;
			uint8_t buf[72] = {0};

			fill_random(&f, &p, sizeof(p));
			p.op = le32_make(op);
			memcpy(buf, &p, sizeof(p));
			send_inband(&f, buf, len);
			assert_int_equal(drain(&f), 1);
		}
	}
	field_fini(&f);
}

static void packets_of_every_type_and_flag(void **state)
{
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t type = 0; type < 16; type++) {
		for (uint32_t flags = 0; flags < 4; flags++) {
			struct storvsp_packet p = srb_packet(0x00);
			uint8_t header[16] = {0};
			int err = guest_send_full(f.s.chans[0], (uint16_t)type, (uint16_t)flags, 1,
			                          header, sizeof(header), &p, sizeof(p));

			assert_int_equal(err, 0);
			assert_true(drain(&f) <= (flags & 1));
		}
	}
	field_fini(&f);
}

static void nobody_answers_what_asked_for_no_answer(void **state)
{
	struct storvsp_packet p = srb_packet(0x00);
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t i = 0; i < 2000; i++) {
		guest_send_wait(f.s.chans[0], VMBUS_PACKET_INBAND, 0, i, &p, sizeof(p));
	}
	assert_int_equal(drain(&f), 0);
	field_fini(&f);
}

static void a_packet_larger_than_any_legal_one_costs_the_channel(void **state)
{
	static uint8_t big[8192];
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t len = 3900; len <= sizeof(big); len += 64) {
		guest_send_wait(f.s.chans[0], VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, 1,
		                big, len);
		(void)drain(&f);
		revive(&f);
	}
	field_fini(&f);
}

/* ---- SRBs ---- */

static void lengths_and_directions_that_lie(void **state)
{
	static const uint32_t transfers[] = {0,        1,          4095,       4096,
	                                     4097,     8192,       1u << 20,   (1u << 20) + 1,
	                                     1u << 31, UINT32_MAX, 0xfffff000u};
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t cdb = 0; cdb < 256; cdb += cdb < 20 ? 1 : 47) {
		for (uint32_t direction = 0; direction < 256; direction += direction < 4 ? 1 : 63) {
			for (size_t t = 0; t < ARRAY_LEN(transfers); t++) {
				struct storvsp_packet p = srb_packet(0x28);
				const struct guest_range range = {.pfns = f.s.pfns,
				                                  .len_bytes = PAGE};

				p.u.srb.cdb_bytes = (uint8_t)cdb;
				p.u.srb.direction = (uint8_t)direction;
				p.u.srb.transfer_bytes = le32_make(transfers[t]);
				p.u.srb.sense_bytes = (uint8_t)t;
				send_inband(&f, &p, sizeof(p));
				assert_int_equal(guest_send_gpa(f.s.chans[0],
				                                VMBUS_PACKET_WANTS_COMPLETION, 1,
				                                &range, 1, &p, sizeof(p)),
				                 0);
				assert_int_equal(drain(&f), 2);
			}
		}
	}
	field_fini(&f);
}

static void ranges_that_are_not_there(void **state)
{
	/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the order one reads it */
	static const struct {
		uint32_t count, bytes, offset;
		uint64_t pfn;
		uint32_t pfns;
	} bad[] = {
		{1, PAGE, 0, UINT64_MAX, 1},        /* beyond any address */
		{1, PAGE, 0, UINT64_MAX / PAGE, 1}, /* the last one */
		{1, PAGE, 0, 0x100000 + 0x1000, 1}, /* behind the RAM: 16 MiB from 4 GiB on */
		{1, 2 * PAGE, 0, 0xff, 2},          /* over the end of the low RAM */
		{1, PAGE, 0, 0x200, 1},             /* the hole */
		{0, PAGE, 0, 0, 1},                 /* no range at all */
		{2, PAGE, 0, 0, 1},                 /* one less than it says */
		{UINT32_MAX, PAGE, 0, 0, 1},        /* far less */
		{1, 0, 0, 0, 1},                    /* an empty one */
		{1, UINT32_MAX, 0, 0, 1},           /* more bytes than pages */
		{1, PAGE, PAGE, 0, 1},              /* an offset behind the page */
		{1, PAGE, UINT32_MAX, 0, 1},        /* an offset that overflows */
		{1, PAGE, 1, 0, 1},                 /* a second page that is not there */
		{1, PAGE, 0, 0, 0},                 /* no page */
	};
	struct field f;

	(void)state;
	field_init(&f);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct {
			struct vmbus_ranges_wire head;
			struct vmbus_range_wire range;
			le64 pfns[2];
		} h = {
			.head.count = le32_make(bad[i].count),
			.range.byte_count = le32_make(bad[i].bytes),
			.range.byte_offset = le32_make(bad[i].offset),
		};
		struct storvsp_packet p = srb_packet(0x28);

		p.u.srb.transfer_bytes = le32_make(512);
		for (uint32_t k = 0; k < bad[i].pfns; k++) {
			h.pfns[k] = le64_make(bad[i].pfn + k);
		}
		send_header(&f, &h, (uint32_t)sizeof(h) - (2 - bad[i].pfns) * 8, &p);
		{
			struct storvsp_packet answer;

			assert_int_equal(stor_wait(&f.s, 0, &answer), 1);
			assert_int_equal(answer.u.srb.srb_status, STORVSP_SRB_INVALID_REQUEST);
		}
	}
	assert_int_equal(fake_disk_requests(f.s.disk), 0);
	field_fini(&f);
}

static void more_pieces_than_the_largest_transfer_has(void **state)
{
	struct {
		struct vmbus_ranges_wire head;
		struct {
			struct vmbus_range_wire range;
			le64 pfn;
		} ranges[PIECES_MAX + 20];
	} h;
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t n = PIECES_MAX - 10; n <= PIECES_MAX + 20; n++) {
		struct storvsp_packet p = srb_packet(0x28);
		struct storvsp_packet answer;

		memset(&h, 0, sizeof(h));
		h.head.count = le32_make(n);
		for (uint32_t i = 0; i < n; i++) { /* every other page: nothing merges */
			h.ranges[i].range.byte_count = le32_make(16);
			h.ranges[i].pfn = le64_make(f.s.pfns[i % 64 * 2]);
		}
		p.u.srb.transfer_bytes = le32_make(512);
		send_header(&f, &h, (uint32_t)sizeof(h.head) + n * (uint32_t)sizeof(h.ranges[0]),
		            &p);
		(void)stor_wait(&f.s, 0, &answer);
		assert_int_equal(answer.u.srb.srb_status, n <= PIECES_MAX
		                                                  ? STORVSP_SRB_SUCCESS
		                                                  : STORVSP_SRB_INVALID_REQUEST);
	}
	field_fini(&f);
}

static void one_page_named_over_and_over(void **state)
{
	uint64_t same[STOR_BUFFER_PAGES];
	struct field f;

	(void)state;
	field_init(&f);
	memcpy(same, f.s.pfns, sizeof(same));
	for (uint32_t i = 0; i < STOR_BUFFER_PAGES; i++) {
		f.s.pfns[i] = same[0];
	}
	for (uint32_t i = 0; i < 20; i++) {
		struct storvsp_srb srb = stor_run(
			&f.s, &(struct stor_cmd){STOR_READ10(0, 1024), .len_bytes = 1024 * 512});

		assert_int_equal(srb.srb_status, STORVSP_SRB_SUCCESS);
	}
	memcpy(f.s.pfns, same, sizeof(same));
	field_fini(&f);
}

static void random_srbs_for_random_units(void **state)
{
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t i = 0; i < 30000; i++) {
		static const uint8_t opcodes[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b,
		                                  0x1e, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x42,
		                                  0x43, 0x46, 0x4a, 0x51, 0x5a, 0x88, 0x8a,
		                                  0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xbd};
		struct stor_cmd cmd = {
			.cdb_bytes = (uint8_t)(1 + next_random(&f) % 16),
			.direction = (uint8_t)(next_random(&f) % 3),
			.lun = (uint8_t)(next_random(&f) % 7),
			.target = next_random(&f) % 16 == 0,
			.len_bytes = next_random(&f) % 20000,
			.offset = next_random(&f) % PAGE,
			.first_page = next_random(&f) % 100,
		};

		fill_random(&f, cmd.cdb, sizeof(cmd.cdb));
		for (size_t k = 1; k < sizeof(cmd.cdb); k++) {
			if (next_random(&f) % 4 != 0) {
				cmd.cdb[k] = 0;
			}
		}
		if (next_random(&f) % 8 != 0) {
			cmd.cdb[0] = opcodes[next_random(&f) % sizeof(opcodes)];
		}
		if (cmd.first_page + (cmd.offset + cmd.len_bytes + PAGE - 1) / PAGE >
		    STOR_BUFFER_PAGES) {
			continue;
		}
		(void)stor_submit(&f.s, &cmd);
		if (i % 16 == 0) {
			(void)drain(&f);
		}
	}
	field_fini(&f);
}

/* ---- order and floods ---- */

static void random_operations_in_any_order(void **state)
{
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t i = 0; i < 3000; i++) {
		struct storvsp_packet p;
		uint32_t op = next_random(&f) % 15;

		fill_random(&f, &p, sizeof(p));
		p.op = le32_make(op);
		if (op == STORVSP_QUERY_VERSION) {
			p.u.version.version = le16_make(0x0602);
		}
		if (op == STORVSP_CREATE_SUB_CHANNELS) {
			p.u.sub_channels = le16_make((uint16_t)(next_random(&f) % 7));
		}
		send_inband(&f, &p, sizeof(p));
		assert_int_equal(drain(&f), 1);
		if (i % 97 == 0) {
			revive(&f);
		}
	}
	field_fini(&f);
}

static void sub_channels_may_not_configure_the_controller(void **state)
{
	struct field f;

	(void)state;
	field_init(&f);
	stor_sub_channels(&f.s, 2);
	for (uint32_t op = 0; op < 16; op++) {
		struct storvsp_packet p = {.op = le32_make(op)};
		struct storvsp_packet answer;

		if (op == STORVSP_EXECUTE_SRB) {
			continue;
		}
		guest_send_wait(f.s.chans[1], VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, 1,
		                &p, sizeof(p));
		(void)stor_wait(&f.s, 1, &answer);
		assert_int_equal(le32_get(answer.status), STORVSP_STATUS_NOT_SUPPORTED);
	}
	honest_run(&f);
	field_fini(&f);
}

/* Sub-channels that are never released use up channel numbers, and no more than there are. */
static void sub_channels_again_and_again(void **state)
{
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t i = 0; i < 200; i++) {
		struct storvsp_packet p = {.u.sub_channels = le16_make(4)};

		assert_int_equal(stor_control(&f.s, STORVSP_CREATE_SUB_CHANNELS, &p), 0);
		revive(&f);
	}
	field_fini(&f);
}

static void a_flood_that_reads_no_answers(void **state)
{
	struct storvsp_packet p = srb_packet(0x00);
	struct field f;
	uint32_t sent = 0;

	(void)state;
	field_init(&f);
	for (uint32_t i = 0; i < 20000; i++) {
		int err = guest_send(f.s.chans[0], VMBUS_PACKET_INBAND,
		                     VMBUS_PACKET_WANTS_COMPLETION, i, &p, sizeof(p));

		assert_true(err == 0 || err == -EAGAIN);
		sent += err == 0;
		guest_settle(f.s.g);
	}
	assert_int_equal(drain(&f), sent);
	field_fini(&f);
}

static void signals_without_packets(void **state)
{
	struct guest_offer *o;
	struct field f;

	(void)state;
	field_init(&f);
	o = guest_offer_find(f.s.g, &stor_interface, 0);
	for (uint32_t i = 0; i < 20000; i++) {
		(void)guest_signal(f.s.g, o->connection_id);
		guest_settle(f.s.g);
	}
	assert_int_equal(drain(&f), 0);
	field_fini(&f);
}

static void opens_and_closes_without_end(void **state)
{
	struct field f;

	(void)state;
	field_init(&f);
	for (uint32_t i = 0; i < 200; i++) {
		for (uint32_t n = 0; n < i % 8; n++) {
			(void)stor_submit(
				&f.s, &(struct stor_cmd){STOR_WRITE10(0, 8), .len_bytes = PAGE});
		}
		guest_step(f.s.g, 0);
		revive(&f);
	}
	field_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_of_every_length_and_operation),
		cmocka_unit_test(packets_of_every_type_and_flag),
		cmocka_unit_test(nobody_answers_what_asked_for_no_answer),
		cmocka_unit_test(a_packet_larger_than_any_legal_one_costs_the_channel),
		cmocka_unit_test(lengths_and_directions_that_lie),
		cmocka_unit_test(ranges_that_are_not_there),
		cmocka_unit_test(more_pieces_than_the_largest_transfer_has),
		cmocka_unit_test(one_page_named_over_and_over),
		cmocka_unit_test(random_srbs_for_random_units),
		cmocka_unit_test(random_operations_in_any_order),
		cmocka_unit_test(sub_channels_may_not_configure_the_controller),
		cmocka_unit_test(sub_channels_again_and_again),
		cmocka_unit_test(a_flood_that_reads_no_answers),
		cmocka_unit_test(signals_without_packets),
		cmocka_unit_test(opens_and_closes_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
