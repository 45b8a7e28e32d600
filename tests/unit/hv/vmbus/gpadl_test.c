/* SPDX-License-Identifier: Apache-2.0 */

/* Buffers that the guest shares: making, using, taking back. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "hv/mem/gmem.h"
#include "hv/vmbus/vmbus.h"
#include "tests/lib/test.h"
#include "tests/lib/vmbus_echo.h"
#include "tests/lib/vmbus_guest.h"

struct fixture {
	struct guest *g;
	struct echo *e;
	uint32_t relid;
};

static struct fixture fixture(bool scatter)
{
	struct fixture f;

	guest_create(&(struct guest_cfg){.scatter = scatter}, &f.g);
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){0}, &f.e), 0);
	guest_boot(f.g);
	f.relid = guest_offer_find(f.g, &echo_interface, 0)->relid;
	return f;
}

static void fixture_fini(struct fixture *f)
{
	guest_destroy(f->g);
	echo_destroy(f->e);
}

/* A header with what a test wants to be wrong. */
struct raw {
	struct vmbus_gpadl_header_wire w;
	struct vmbus_range_wire range;
	le64 pfns[26];
};

static struct raw raw_header(const struct fixture *f, uint32_t id, uint32_t pages,
                             const uint64_t *pfns)
{
	struct raw r = {
		.w.header.type = le32_make(VMBUS_MESSAGE_GPADL_HEADER),
		.w.relid = le32_make(f->relid),
		.w.gpadl = le32_make(id),
		.w.range_bytes = le16_make((uint16_t)(8 + 8 * pages)),
		.w.range_count = le16_make(1),
		.range.byte_count = le32_make(pages * 4096),
	};

	for (uint32_t i = 0; i < pages && i < 26; i++) {
		r.pfns[i] = le64_make(pfns[i]);
	}
	return r;
}

static uint32_t post_and_status(struct fixture *f, const void *msg, uint32_t len)
{
	struct vmbus_gpadl_created_wire r;

	assert_int_equal(guest_post(f->g, 4, msg, len), 0);
	guest_message_wait(f->g, VMBUS_MESSAGE_GPADL_CREATED, &r, sizeof(r));
	return le32_get(r.status);
}

static void lists_of_any_length_arrive_whole(void **state)
{
	const uint32_t lengths[] = {1, 2, 25, 26, 27, 53, 54, 55, 4096, 8190};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct fixture f = fixture(i % 2 == 0 && lengths[i] < 4096);
		uint32_t n = lengths[i];
		uint64_t *pfns = calloc(n, sizeof(*pfns));
		uint64_t value = 0x1122334455667788;
		struct vmbus_gpadl *gpadl;
		uint32_t id;

		assert_non_null(pfns);
		guest_alloc(f.g, n, pfns);
		assert_int_equal(guest_gpadl_create(f.g, f.relid, pfns, n, n * 4096, &id), 0);
		assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &gpadl), 0);
		assert_int_equal(vmbus_gpadl_bytes(gpadl), (uint64_t)n * 4096);
		/* Each page is the right one. */
		for (uint32_t p = 0; p < n; p++) {
			value += p;
			assert_int_equal(vmbus_gpadl_write(gpadl, p * 4096ull + 8, &value, 8), 0);
			assert_memory_equal(guest_ptr(f.g, pfns[p] * 4096 + 8, 8), &value, 8);
		}
		vmbus_gpadl_put(gpadl);
		guest_gpadl_teardown(f.g, f.relid, id);
		assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &gpadl), -ENOENT);
		free(pfns);
		fixture_fini(&f);
	}
}

static void copies_cross_pages_and_stop_at_the_end(void **state)
{
	static uint8_t pattern[3 * 4096];
	static uint8_t got[3 * 4096];
	struct fixture f = fixture(true);
	struct vmbus_gpadl *gpadl;
	uint64_t pfns[3];
	uint32_t id;

	(void)state;
	for (size_t i = 0; i < sizeof(pattern); i++) {
		pattern[i] = (uint8_t)(i * 31 / 7);
	}
	guest_alloc(f.g, 3, pfns);
	assert_int_equal(guest_gpadl_create(f.g, f.relid, pfns, 3, sizeof(pattern), &id), 0);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &gpadl), 0);
	assert_int_equal(vmbus_gpadl_write(gpadl, 0, pattern, sizeof(pattern)), 0);
	guest_pages_read(f.g, pfns, 0, got, sizeof(got));
	assert_memory_equal(got, pattern, sizeof(got));
	memset(got, 0, sizeof(got));
	assert_int_equal(vmbus_gpadl_read(gpadl, 100, got, 8000), 0);
	assert_memory_equal(got, pattern + 100, 8000);

	const struct {
		uint64_t offset, len;
	} bad[] = {{0, sizeof(pattern) + 1}, {sizeof(pattern), 1},      {sizeof(pattern) + 1, 0},
	           {UINT64_MAX, 1},          {1, UINT64_MAX},           {UINT64_MAX, UINT64_MAX},
	           {1ull << 32, 1},          {sizeof(pattern) - 1, 0x2}};
	struct iovec iov[4];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(vmbus_gpadl_read(gpadl, bad[i].offset, got, bad[i].len), -EFAULT);
		assert_int_equal(vmbus_gpadl_write(gpadl, bad[i].offset, got, bad[i].len), -EFAULT);
		assert_int_equal(vmbus_gpadl_iov(gpadl, bad[i].offset, bad[i].len, iov, 4),
		                 -EFAULT);
	}
	assert_int_equal(vmbus_gpadl_iov(gpadl, 4000, 200, iov, 4), 2);
	assert_ptr_equal(iov[0].iov_base, guest_ptr(f.g, pfns[0] * 4096 + 4000, 96));
	assert_int_equal(iov[0].iov_len, 96);
	assert_ptr_equal(iov[1].iov_base, guest_ptr(f.g, pfns[1] * 4096, 104));
	assert_int_equal(vmbus_gpadl_iov(gpadl, 0, sizeof(pattern), iov, 2), -E2BIG);
	assert_int_equal(vmbus_gpadl_iov(gpadl, 0, 0, iov, 0), 0);

	uint64_t bits[64 * 4] = {0};

	assert_int_equal(gmem_dirty_start(guest_mem(f.g)), 0);
	vmbus_gpadl_dirty(gpadl, 4095, 2);
	gmem_dirty_take(guest_mem(f.g), 1, bits, ARRAY_LEN(bits));
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t page = pfns[i] - 0x100000;

		assert_int_equal(bits[page / 64] >> page % 64 & 1, i < 2);
	}
	vmbus_gpadl_put(gpadl);
	fixture_fini(&f);
}

static void neighbours_are_one_piece(void **state)
{
	struct fixture f = fixture(false);
	struct vmbus_gpadl *gpadl;
	struct iovec iov[1];
	uint64_t pfns[30];
	uint32_t id;

	(void)state;
	guest_alloc(f.g, 30, pfns);
	assert_int_equal(guest_gpadl_create(f.g, f.relid, pfns, 30, 30 * 4096, &id), 0);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &gpadl), 0);
	assert_int_equal(vmbus_gpadl_iov(gpadl, 5, 29 * 4096, iov, 1), 1);
	assert_int_equal(iov[0].iov_len, 29 * 4096);
	vmbus_gpadl_put(gpadl);
	fixture_fini(&f);
}

static void a_list_may_start_inside_a_page(void **state)
{
	struct fixture f = fixture(false);
	struct vmbus_gpadl *gpadl;
	uint64_t pfns[2];
	uint8_t v = 7;

	(void)state;
	guest_alloc(f.g, 2, pfns);

	struct raw r = raw_header(&f, 9, 2, pfns);

	r.range.byte_offset = le32_make(4000);
	r.range.byte_count = le32_make(200);
	assert_int_equal(post_and_status(&f, &r, 28 + 16), 0);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, 9, &gpadl), 0);
	assert_int_equal(vmbus_gpadl_bytes(gpadl), 200);
	assert_int_equal(vmbus_gpadl_write(gpadl, 96, &v, 1), 0);
	assert_int_equal(*(uint8_t *)guest_ptr(f.g, pfns[1] * 4096, 1), 7);
	vmbus_gpadl_put(gpadl);
	fixture_fini(&f);
}

static void impossible_headers_are_refused(void **state)
{
	struct fixture f = fixture(false);
	uint64_t pfns[3];

	(void)state;
	guest_alloc(f.g, 3, pfns);

	const struct raw good = raw_header(&f, 5, 3, pfns);
	const uint32_t len = 28 + 24;
	struct raw r;

	assert_int_equal(post_and_status(&f, &good, len), 0);
	assert_int_not_equal(post_and_status(&f, &good, len), 0); /* the number is taken */
	r = good;
	r.w.gpadl = le32_make(0);
	assert_int_not_equal(post_and_status(&f, &r, len), 0);
	r = good;
	r.w.gpadl = le32_make(6);
	r.w.relid = le32_make(f.relid + 1); /* no such channel */
	assert_int_not_equal(post_and_status(&f, &r, len), 0);
	r.w.relid = le32_make(UINT32_MAX);
	assert_int_not_equal(post_and_status(&f, &r, len), 0);
	for (uint16_t count = 0; count < 4; count++) {
		r = good;
		r.w.gpadl = le32_make(6);
		r.w.range_count = le16_make(count);
		if (count != 1) {
			assert_int_not_equal(post_and_status(&f, &r, len), 0);
		}
	}
	for (uint32_t bytes = 0; bytes < 0x10000; bytes += 3) { /* 32 is right and not hit */
		r = good;
		r.w.gpadl = le32_make(6);
		r.w.range_bytes = le16_make((uint16_t)bytes);
		assert_int_not_equal(post_and_status(&f, &r, len), 0);
	}
	r = good;
	r.w.gpadl = le32_make(6);
	r.range.byte_count = le32_make(0);
	assert_int_not_equal(post_and_status(&f, &r, len), 0);
	r.range.byte_count = le32_make(UINT32_MAX);
	assert_int_not_equal(post_and_status(&f, &r, len), 0);
	r.range.byte_count = good.range.byte_count;
	r.range.byte_offset = le32_make(4096);
	assert_int_not_equal(post_and_status(&f, &r, len), 0);
	r.range.byte_offset = le32_make(UINT32_MAX);
	assert_int_not_equal(post_and_status(&f, &r, len), 0);
	assert_int_not_equal(post_and_status(&f, &good, 20), 0); /* without its range */
	fixture_fini(&f);
}

static void pages_outside_ram_are_refused_and_late_bodies_dropped(void **state)
{
	const uint64_t bad[] = {256, 0xfffff, 0x100000 + (63u << 8), 1ull << 52, UINT64_MAX};
	struct fixture f = fixture(false);
	uint64_t pfns[60];

	(void)state;
	guest_alloc(f.g, 60, pfns);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		for (uint32_t at = 0; at < 60; at += 29) {
			uint64_t keep = pfns[at];
			uint32_t id;

			pfns[at] = bad[i];
			assert_int_equal(guest_gpadl_create(f.g, f.relid, pfns, 60, 60 * 4096, &id),
			                 -EREMOTEIO);
			guest_settle(f.g);
			assert_int_equal(guest_message_count(f.g), 0);
			pfns[at] = keep;
		}
	}
	fixture_fini(&f);
}

static void bodies_of_several_lists_may_interleave(void **state)
{
	struct fixture f = fixture(true);
	struct raw r;
	struct {
		struct vmbus_gpadl_body_wire w;
		le64 pfns[2];
	} body = {.w.header.type = le32_make(VMBUS_MESSAGE_GPADL_BODY)};
	struct vmbus_gpadl_created_wire created;
	struct vmbus_gpadl *gpadl;
	uint64_t pfns[3][32];

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		guest_alloc(f.g, 32, pfns[i]);
		r = raw_header(&f, 10 + i, 32, pfns[i]);
		assert_int_equal(guest_post(f.g, 4, &r, sizeof(r)), 0);
	}
	for (uint32_t part = 0; part < 3; part++) {
		for (uint32_t i = 3; i-- > 0;) {
			guest_settle(f.g);
			assert_int_equal(guest_message_count(f.g), 0);
			body.w.gpadl = le32_make(10 + i);
			body.pfns[0] = le64_make(pfns[i][26 + 2 * part]);
			body.pfns[1] = le64_make(pfns[i][27 + 2 * part]);
			assert_int_equal(guest_post(f.g, 4, &body, sizeof(body)), 0);
			if (part == 2) {
				guest_message_wait(f.g, VMBUS_MESSAGE_GPADL_CREATED, &created,
				                   sizeof(created));
				assert_int_equal(le32_get(created.gpadl), 10 + i);
				assert_int_equal(le32_get(created.status), 0);
			}
		}
	}
	for (uint32_t i = 0; i < 3; i++) {
		uint8_t v = (uint8_t)i;

		assert_int_equal(vmbus_gpadl_get(f.e->chan, 10 + i, &gpadl), 0);
		assert_int_equal(vmbus_gpadl_write(gpadl, 31 * 4096, &v, 1), 0);
		assert_int_equal(*(uint8_t *)guest_ptr(f.g, pfns[i][31] * 4096, 1), i);
		vmbus_gpadl_put(gpadl);
	}
	fixture_fini(&f);
}

static void a_teardown_waits_for_the_last_user(void **state)
{
	struct fixture f = fixture(false);
	struct vmbus_gpadl_torndown_wire r;
	struct vmbus_gpadl *first;
	struct vmbus_gpadl *second;
	uint64_t pfn;
	uint32_t id;

	(void)state;
	guest_alloc(f.g, 1, &pfn);
	assert_int_equal(guest_gpadl_create(f.g, f.relid, &pfn, 1, 4096, &id), 0);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &first), 0);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &second), 0);
	guest_gpadl_teardown_begin(f.g, f.relid, id);
	guest_gpadl_teardown_begin(f.g, f.relid, id); /* again: one answer all the same */
	guest_settle(f.g);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &second), -ENOENT);
	vmbus_gpadl_put(first);
	guest_settle(f.g);
	assert_int_equal(guest_message_count(f.g), 0);
	vmbus_gpadl_put(first);
	guest_message_wait(f.g, VMBUS_MESSAGE_GPADL_TORNDOWN, &r, sizeof(r));
	guest_settle(f.g);
	assert_int_equal(guest_message_count(f.g), 0);
	fixture_fini(&f);
}

static void a_list_outlives_its_connection_while_it_is_used(void **state)
{
	struct fixture f = fixture(false);
	struct vmbus_gpadl *gpadl;
	uint64_t pfn;
	uint32_t id;

	(void)state;
	guest_alloc(f.g, 1, &pfn);
	assert_int_equal(guest_gpadl_create(f.g, f.relid, &pfn, 1, 4096, &id), 0);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &gpadl), 0);
	guest_unload(f.g);
	assert_int_equal(vmbus_gpadl_write(gpadl, 0, "x", 1), 0);
	vmbus_gpadl_put(gpadl);
	fixture_fini(&f);
}

static void an_unknown_list_is_torn_down_at_once(void **state)
{
	struct fixture f = fixture(false);

	(void)state;
	guest_gpadl_teardown(f.g, f.relid, 4711);
	fixture_fini(&f);
}

static void the_list_of_another_channel_is_out_of_reach(void **state)
{
	struct fixture f = fixture(false);
	struct echo *other;
	struct vmbus_gpadl *gpadl;
	uint64_t pfn;
	uint32_t id;

	(void)state;
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){.instance = 1}, &other), 0);
	guest_settle(f.g);
	guest_alloc(f.g, 1, &pfn);
	assert_int_equal(guest_gpadl_create(f.g, f.relid, &pfn, 1, 4096, &id), 0);
	assert_int_equal(vmbus_gpadl_get(other->chan, id, &gpadl), -ENOENT);
	guest_gpadl_teardown_begin(f.g, vmbus_channel_relid(other->chan), id);
	guest_settle(f.g);
	assert_int_equal(vmbus_gpadl_get(f.e->chan, id, &gpadl), 0);
	vmbus_gpadl_put(gpadl);
	fixture_fini(&f);
	echo_destroy(other);
}

static void lists_and_pages_are_bounded(void **state)
{
	struct fixture f = fixture(false);
	struct echo *other;
	uint64_t pfns[26] = {0x100000};
	uint32_t made = 0;
	uint32_t id = 1;

	(void)state;
	assert_int_equal(echo_create(guest_env(f.g), &(struct echo_cfg){.instance = 1}, &other), 0);
	guest_settle(f.g);
	/* Headers that promise 8000 pages and never send them: 8 fit into a channel. */
	for (;; id++) {
		struct raw r = raw_header(&f, id, 8000, pfns);

		r.pfns[0] = le64_make(pfns[0]);
		assert_int_equal(guest_post(f.g, 4, &r, 28 + 8), 0);
		guest_settle(f.g);
		if (guest_message_count(f.g) != 0) {
			break;
		}
		made++;
	}
	assert_int_equal(made, VMBUS_GPADL_PAGES_MAX / 8000);

	struct vmbus_gpadl_created_wire created;

	guest_message_wait(f.g, VMBUS_MESSAGE_GPADL_CREATED, &created, sizeof(created));
	assert_int_not_equal(le32_get(created.status), 0);
	/* Small ones on another channel, until the number is the limit. */
	f.relid = vmbus_channel_relid(other->chan);
	for (;; made++, id++) {
		struct raw r = raw_header(&f, id, 1, pfns);

		if (post_and_status(&f, &r, 28 + 8) != 0) {
			break;
		}
	}
	assert_int_equal(made, VMBUS_GPADLS_MAX);
	guest_unload(f.g);
	fixture_fini(&f);
	echo_destroy(other);
}

static void lost_memory_is_a_refusal(void **state)
{
	struct fixture f = fixture(false);
	uint64_t pfn;
	uint32_t id;

	(void)state;
	guest_alloc(f.g, 1, &pfn);
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(guest_gpadl_create(f.g, f.relid, &pfn, 1, 4096, &id), -EREMOTEIO);
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(guest_gpadl_create(f.g, f.relid, &pfn, 1, 4096, &id), 0);
	fixture_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_any_length_arrive_whole),
		cmocka_unit_test(copies_cross_pages_and_stop_at_the_end),
		cmocka_unit_test(neighbours_are_one_piece),
		cmocka_unit_test(a_list_may_start_inside_a_page),
		cmocka_unit_test(impossible_headers_are_refused),
		cmocka_unit_test(pages_outside_ram_are_refused_and_late_bodies_dropped),
		cmocka_unit_test(bodies_of_several_lists_may_interleave),
		cmocka_unit_test(a_teardown_waits_for_the_last_user),
		cmocka_unit_test(a_list_outlives_its_connection_while_it_is_used),
		cmocka_unit_test(an_unknown_list_is_torn_down_at_once),
		cmocka_unit_test(the_list_of_another_channel_is_out_of_reach),
		cmocka_unit_test(lists_and_pages_are_bounded),
		cmocka_unit_test(lost_memory_is_a_refusal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
