/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/format_int.h"
#include "tests/lib/hexfile.h"
#include "tests/lib/test.h"

#define MIB (1u << 20)
#define SECTOR VHDX_LOG_SECTOR_BYTES

static const struct guid guid_a = {{0xaa, 1}};
static const struct guid guid_b = {{0xbb, 2}};

/* A page whose bytes tell which one it is; the ends too, that the log keeps elsewhere. */
static void page_fill(uint8_t page[SECTOR], uint8_t value)
{
	memset(page, value, SECTOR);
	page[0] = (uint8_t)(value + 1);
	page[SECTOR - 1] = (uint8_t)(value + 2);
}

/* Put an entry with @pages pages at @at into the ring. Returns where the next one goes. */
static uint32_t put(uint8_t *log, uint32_t log_bytes, uint32_t at, struct guid guid,
                    uint64_t sequence, uint32_t tail, uint32_t pages)
{
	uint32_t bytes = vhdx_log_entry_bytes(pages);
	uint8_t *entry = malloc(bytes);
	uint8_t *data = malloc(((size_t)pages + 1) * SECTOR);
	struct vhdx_log_page *list = calloc((size_t)pages + 1, sizeof(*list));
	const struct vhdx_log_entry head = {
		.sequence = sequence, .tail = tail, .flushed_size = 8 * MIB, .last_size = 9 * MIB};

	assert_true(entry != NULL && data != NULL && list != NULL);
	for (uint32_t i = 0; i < pages; i++) {
		page_fill(data + (size_t)i * SECTOR, (uint8_t)(sequence * 16 + i));
		list[i].data = data + (size_t)i * SECTOR;
		list[i].offset = 2 * MIB + (uint64_t)i * SECTOR;
	}
	vhdx_log_entry_encode(&head, &guid, list, pages, entry);
	for (uint32_t i = 0; i < bytes; i += SECTOR) {
		memcpy(log + (at + i) % log_bytes, entry + i, SECTOR);
	}
	free(entry);
	free(data);
	free(list);
	return (at + bytes) % log_bytes;
}

static void entries_of_qemu_are_found_and_read(void **state)
{
	size_t len;
	uint8_t *image = hexfile_load(VECTORS "/qemu-dynamic.hex", &len);
	const uint8_t *log = image + MIB;
	struct guid guid;
	struct vhdx_log_sequence seq;
	struct vhdx_log_entry entry;
	struct vhdx_log_change change;
	uint32_t data_index = 0;

	(void)state;
	memcpy(&guid, log + 0x2000 + 32, sizeof(guid));
	assert_int_equal(vhdx_log_find(log, MIB, &guid, &seq, NULL), 0);
	assert_int_equal(seq.tail, 0x2000);
	assert_int_equal(seq.head, 0x4000);
	assert_int_equal(seq.last, 2);
	assert_int_equal(seq.last_size, len);
	assert_int_equal(vhdx_log_entry_check(log, MIB, seq.tail, &guid, &entry), 0);
	assert_int_equal(entry.desc_count, 1);
	vhdx_log_change(log, MIB, seq.tail, 0, &data_index, &change);
	assert_int_equal(change.offset, 2 * MIB);
	assert_int_equal(change.zero_bytes, 0);
	assert_memory_equal(change.page, image + 2 * MIB, SECTOR); /* qemu had applied it */
	free(image);
}

static void pages_survive_the_log_unchanged(void **state)
{
	uint8_t *log = calloc(1, MIB);
	uint8_t page[SECTOR];
	struct vhdx_log_entry entry;

	(void)state;
	assert_non_null(log);
	/* 126 descriptors fill the first sector, 127 need a second; and an entry that wraps. */
	for (uint32_t pages = 0; pages <= 130; pages += pages < 125 ? 25 : 1) {
		uint32_t at = MIB - 3 * SECTOR;
		uint32_t data_index = 0;

		memset(log, 0, MIB);
		(void)put(log, MIB, at, guid_a, 7, at, pages);
		assert_int_equal(vhdx_log_entry_check(log, MIB, at, &guid_a, &entry), 0);
		assert_int_equal(entry.bytes, vhdx_log_entry_bytes(pages));
		assert_int_equal(entry.bytes / SECTOR, pages + (pages <= 126 ? 1 : 2));
		for (uint32_t i = 0; i < pages; i++) {
			struct vhdx_log_change change;

			vhdx_log_change(log, MIB, at, i, &data_index, &change);
			page_fill(page, (uint8_t)(7 * 16 + i));
			assert_int_equal(change.offset, 2 * MIB + i * SECTOR);
			assert_memory_equal(change.page, page, SECTOR);
		}
	}
	free(log);
}

static void a_flipped_bit_anywhere_makes_an_entry_invalid(void **state)
{
	uint8_t *log = calloc(1, MIB);
	struct vhdx_log_entry entry = {.bytes = 42};

	(void)state;
	assert_non_null(log);
	(void)put(log, MIB, 0, guid_a, 5, 0, 2);
	for (size_t bit = 0; bit < 3ull * SECTOR * 8; bit += bit < 2048 ? 1 : 37) {
		log[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(vhdx_log_entry_check(log, MIB, 0, &guid_a, &entry), -EBADMSG);
		log[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(entry.bytes, 42);
	assert_int_equal(vhdx_log_entry_check(log, MIB, 0, &guid_b, &entry), -EBADMSG);
	assert_int_equal(vhdx_log_entry_check(log, MIB, 0, &guid_a, &entry), 0);
	free(log);
}

static void the_newest_whole_sequence_is_replayed(void **state)
{
	uint8_t *log = calloc(1, MIB);
	struct vhdx_log_sequence seq;

	(void)state;
	assert_non_null(log);
	assert_int_equal(vhdx_log_find(log, MIB, &guid_a, &seq, NULL), -EBADMSG);

	uint32_t first = MIB - 5 * SECTOR;
	uint32_t second = put(log, MIB, first, guid_a, 10, first, 2);  /* 3 sectors */
	uint32_t third = put(log, MIB, second, guid_a, 11, first, 3);  /* 4: wraps */
	uint32_t fourth = put(log, MIB, third, guid_a, 12, second, 1); /* 2 */

	(void)put(log, MIB, 100 * SECTOR, guid_a, 9, 100 * SECTOR, 1);  /* older, elsewhere */
	(void)put(log, MIB, 150 * SECTOR, guid_b, 99, 150 * SECTOR, 1); /* of another life */
	assert_int_equal(vhdx_log_find(log, MIB, &guid_a, &seq, NULL), 0);
	assert_int_equal(seq.tail, second);
	assert_int_equal(seq.head, fourth);
	assert_int_equal(seq.last, 12);
	assert_int_equal(seq.flushed_size, 8 * MIB);
	assert_int_equal(seq.last_size, 9 * MIB);

	/* The newest is torn: the one before it is the newest, with its own tail. */
	log[third + SECTOR + 100] ^= 1;
	assert_int_equal(vhdx_log_find(log, MIB, &guid_a, &seq, NULL), 0);
	assert_int_equal(seq.tail, first);
	assert_int_equal(seq.head, third);
	assert_int_equal(seq.last, 11);

	/* Its tail was overwritten: no sequence; the older one elsewhere is whole. */
	log[first + 4] ^= 1;
	assert_int_equal(vhdx_log_find(log, MIB, &guid_a, &seq, NULL), 0);
	assert_int_equal(seq.last, 9);
	free(log);
}

static void a_gap_in_the_numbers_ends_a_sequence(void **state)
{
	uint8_t *log = calloc(1, MIB);
	struct vhdx_log_sequence seq;

	(void)state;
	assert_non_null(log);

	uint32_t second = put(log, MIB, 0, guid_a, 5, 0, 0);
	uint32_t third = put(log, MIB, second, guid_a, 6, 0, 0);

	(void)put(log, MIB, third, guid_a, 4, third,
	          0); /* left over from before the ring wrapped */
	assert_int_equal(vhdx_log_find(log, MIB, &guid_a, &seq, NULL), 0);
	assert_int_equal(seq.tail, 0);
	assert_int_equal(seq.head, third);
	assert_int_equal(seq.last, 6);
	free(log);
}

static void a_ring_full_of_entries_is_one_sequence(void **state)
{
	uint8_t *log = calloc(1, MIB);
	uint32_t at = 10 * SECTOR;
	struct vhdx_log_sequence seq;

	(void)state;
	assert_non_null(log);
	for (uint32_t i = 0; i < MIB / SECTOR; i++) {
		at = put(log, MIB, at, guid_a, 1000 + i, 10 * SECTOR, 0);
	}
	assert_int_equal(vhdx_log_find(log, MIB, &guid_a, &seq, NULL), 0);
	assert_int_equal(seq.tail, 10 * SECTOR);
	assert_int_equal(seq.head, 10 * SECTOR);
	assert_int_equal(seq.last, 1000 + MIB / SECTOR - 1);
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(vhdx_log_find(log, MIB, &guid_a, &seq, NULL), -ENOMEM);
	fault_arm(FAULT_ALLOC, 0);
	free(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_of_qemu_are_found_and_read),
		cmocka_unit_test(pages_survive_the_log_unchanged),
		cmocka_unit_test(a_flipped_bit_anywhere_makes_an_entry_invalid),
		cmocka_unit_test(the_newest_whole_sequence_is_replayed),
		cmocka_unit_test(a_gap_in_the_numbers_ends_a_sequence),
		cmocka_unit_test(a_ring_full_of_entries_is_one_sequence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
