/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/statefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/mem/gmem.h"
#include "hv/worker/statefile_wire.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)
#define RAM_BYTES (12 * MIB)
#define LOW_BYTES (8 * MIB)
#define CRC_AT (STATEFILE_RAM_AT + RAM_BYTES)
#define BLOB_AT (CRC_AT + 6 * 4)
#define HIGH_GPA (4ull << 30)

static const struct guid vm_id = {.b = {1, 2, 3}};
static const char blob_text[] = "sections";

static struct gmem *memory(uint64_t bytes)
{
	const struct gmem_cfg cfg = {.size_bytes = bytes, .low_max_bytes = LOW_BYTES};
	struct gmem *mem;

	assert_int_equal(gmem_create(&cfg, &mem, NULL), 0);
	return mem;
}

/* A state with data in two places of six chunks, one of them above 4 GiB. */
static int state_make(void)
{
	struct gmem *mem = memory(RAM_BYTES);
	int fd = memfd_create("state", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(gmem_write(mem, 5 * MIB, "low", 3), 0);
	assert_int_equal(gmem_write(mem, HIGH_GPA + 4 * MIB - 4, "high", 4), 0);
	assert_int_equal(statefile_write(fd, &vm_id, mem, blob_text, sizeof(blob_text), NULL), 0);
	gmem_destroy(mem);
	return fd;
}

static int state_read(int fd, struct errbuf *eb)
{
	struct gmem *mem = memory(RAM_BYTES);
	uint8_t *blob = (uint8_t *)(uintptr_t)1;
	size_t len = 0;
	int err = statefile_read(fd, &vm_id, mem, &blob, &len, eb);

	if (err == 0) {
		assert_int_equal(len, sizeof(blob_text));
		assert_memory_equal(blob, blob_text, len);
		assert_memory_equal(gmem_range(mem, 5 * MIB, 3), "low", 3);
		assert_memory_equal(gmem_range(mem, HIGH_GPA + 4 * MIB - 4, 4), "high", 4);
		assert_int_equal(*(uint8_t *)gmem_range(mem, 0, 1), 0);
		free(blob);
	} else {
		assert_null(blob);
	}
	gmem_destroy(mem);
	return err;
}

static void memory_and_sections_come_back(void **state)
{
	int fd = state_make();
	struct stat st;

	(void)state;
	assert_int_equal(state_read(fd, NULL), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, BLOB_AT + sizeof(blob_text));
	/* Untouched chunks are holes: two chunks, the header and the tail are there. */
	assert_in_range(st.st_blocks * 512, 2 * 2 * MIB, 2 * 2 * MIB + 64 * 1024);
	(void)close(fd);
}

static void a_file_cut_anywhere_is_no_saved_state(void **state)
{
	static const uint64_t cuts[] = {0,
	                                1,
	                                4095,
	                                4096,
	                                STATEFILE_RAM_AT,
	                                STATEFILE_RAM_AT + 4 * MIB,
	                                STATEFILE_RAM_AT + 5 * MIB,
	                                STATEFILE_RAM_AT + 6 * MIB - 1,
	                                CRC_AT - 1,
	                                CRC_AT,
	                                CRC_AT + 5,
	                                BLOB_AT - 1,
	                                BLOB_AT,
	                                BLOB_AT + 1,
	                                BLOB_AT + sizeof(blob_text) - 1};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		int fd = state_make();
		struct errbuf eb = {0};

		assert_int_equal(ftruncate(fd, (off_t)cuts[i]), 0);
		assert_int_equal(state_read(fd, &eb), -EBADMSG);
		assert_memory_equal(eb.text, "saved state: ", 13);
		(void)close(fd);
	}
}

static int flipped(int fd, uint64_t at, unsigned bit, struct errbuf *eb)
{
	uint8_t byte;
	int err;

	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= (uint8_t)(1u << bit);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	err = state_read(fd, eb);
	byte ^= (uint8_t)(1u << bit);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	return err;
}

static void every_flipped_bit_is_noticed(void **state)
{
	int fd = state_make();
	struct errbuf eb;

	(void)state;
	for (uint64_t at = 0; at < 4096; at += at < 80 || at >= 4088 ? 1 : 61) {
		assert_int_equal(flipped(fd, at, (unsigned)at % 8, &eb), -EBADMSG);
		assert_non_null(strstr(eb.text, "header"));
	}
	for (uint64_t at = CRC_AT; at < BLOB_AT; at++) {
		assert_int_equal(flipped(fd, at, 3, &eb), -EBADMSG);
		assert_non_null(strstr(eb.text, "CRC table"));
	}
	for (uint64_t at = BLOB_AT; at < BLOB_AT + sizeof(blob_text); at++) {
		assert_int_equal(flipped(fd, at, 7, &eb), -EBADMSG);
		assert_non_null(strstr(eb.text, "device state"));
	}
	assert_int_equal(flipped(fd, STATEFILE_RAM_AT + 5 * MIB + 1, 0, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, "memory at 0x400000"));
	assert_int_equal(flipped(fd, STATEFILE_RAM_AT + RAM_BYTES - 1, 0, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, "memory at 0x100200000"));
	/* What lies where memory was never touched is not looked at. */
	assert_int_equal(flipped(fd, STATEFILE_RAM_AT + 1, 0, &eb), 0);
	(void)close(fd);
}

static void the_state_of_another_vm_is_refused(void **state)
{
	const struct guid other = {.b = {9}};
	struct gmem *mem = memory(RAM_BYTES);
	struct gmem *larger = memory(RAM_BYTES + 2 * MIB);
	struct errbuf eb = {0};
	uint8_t *blob;
	size_t len;
	int fd = state_make();

	(void)state;
	assert_int_equal(statefile_read(fd, &other, mem, &blob, &len, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, "another VM"));
	assert_int_equal(statefile_read(fd, &vm_id, larger, &blob, &len, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, "sizes"));
	gmem_destroy(mem);
	gmem_destroy(larger);
	(void)close(fd);
}

/* Headers whose CRC is right but whose fields lie: a hostile file, not a damaged one. */
static void a_lying_header_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
	} lies[] = {
		{offsetof(struct statefile_header, magic), 1},
		{offsetof(struct statefile_header, version),
	         2ull | (uint64_t)STATEFILE_CHUNK_BYTES << 32},
		{offsetof(struct statefile_header, version), 1ull | 4096ull << 32},
		{offsetof(struct statefile_header, ram_bytes), UINT64_MAX},
		{offsetof(struct statefile_header, crc_at), 0},
		{offsetof(struct statefile_header, blob_at), UINT64_MAX - 3},
		{offsetof(struct statefile_header, blob_bytes), UINT64_MAX},
		{offsetof(struct statefile_header, blob_bytes), (256ull << 20) + 1},
		{offsetof(struct statefile_header, blob_bytes), 256ull << 20}, /* beyond the end */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		struct statefile_header h;
		struct errbuf eb = {0};
		int fd = state_make();

		assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
		memcpy((uint8_t *)&h + lies[i].at, &lies[i].value, 8);
		h.crc = le32_make(crc32c(&h, offsetof(struct statefile_header, crc)));
		assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
		assert_int_equal(state_read(fd, &eb), -EBADMSG);
		(void)close(fd);
	}
}

static void writing_that_fails_leaves_no_saved_state(void **state)
{
	struct gmem *mem = memory(RAM_BYTES);
	struct errbuf eb = {0};
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	int fd = memfd_create("state", MFD_CLOEXEC);

	(void)state;
	assert_true(full >= 0 && fd >= 0);
	assert_int_equal(statefile_write(full, &vm_id, mem, "x", 1, &eb), -ENOSPC);
	assert_true(eb.text[0] != '\0');
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(statefile_write(fd, &vm_id, mem, "x", 1, &eb), -ENOMEM);
	fault_arm(FAULT_ALLOC, 0);
	assert_int_equal(state_read(fd, &eb), -EBADMSG);
	(void)close(full);
	(void)close(fd);
	gmem_destroy(mem);
}

static void without_memory_reading_fails_and_leaks_nothing(void **state)
{
	int fd = state_make();
	uint32_t k;

	(void)state;
	for (k = 1;; k++) {
		struct gmem *mem = memory(RAM_BYTES);
		uint8_t *blob;
		size_t len;
		int err;

		fault_arm(FAULT_ALLOC, k);
		err = statefile_read(fd, &vm_id, mem, &blob, &len, NULL);
		fault_arm(FAULT_ALLOC, 0);
		gmem_destroy(mem);
		if (err == 0) {
			free(blob);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(blob);
	}
	assert_int_equal(k, 3);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_and_sections_come_back),
		cmocka_unit_test(a_file_cut_anywhere_is_no_saved_state),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(the_state_of_another_vm_is_refused),
		cmocka_unit_test(a_lying_header_is_refused),
		cmocka_unit_test(writing_that_fails_leaves_no_saved_state),
		cmocka_unit_test(without_memory_reading_fails_and_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
