/* SPDX-License-Identifier: Apache-2.0 */

/* What units tell of themselves: INQUIRY, MODE SENSE, capacities, LUNs, the DVD's pages. */

#include <string.h>

#include "base/attr.h"
#include "hv/vsp/storvsp/scsi.h"
#include "tests/lib/test.h"

#define TRANSFER_MAX (512u << 10)

static struct scsi_lun disk(void)
{
	return (struct scsi_lun){
		.kind = SCSI_DISK,
		.id.b = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		.info = {.size_bytes = 1ull << 40,
	                 .logical_bytes = 512,
	                 .physical_bytes = 4096,
	                 .discard_bytes = 1u << 20},
		.medium = true,
		.transfer_max = TRANSFER_MAX,
	};
}

static struct scsi_lun dvd(void)
{
	return (struct scsi_lun){
		.kind = SCSI_DVD,
		.info = {.size_bytes = 1000 * 2048, .logical_bytes = 512, .read_only = true},
		.medium = true,
		.transfer_max = TRANSFER_MAX,
	};
}

static struct scsi_answer run(struct scsi_lun *lun, struct scsi_command cmd)
{
	static struct scsi_answer out;

	memset(&out, 0xa5, sizeof(out));
	if (cmd.data_in_bytes == 0) {
		cmd.data_in_bytes = 4096;
	}
	scsi_execute(lun, &cmd, &out);
	return out;
}

static struct scsi_answer vpd(struct scsi_lun *lun, uint8_t page)
{
	return run(lun, (struct scsi_command){.cdb = {0x12, 1, page, 0x10, 0}});
}

static uint32_t be32_at(const struct scsi_answer *out, uint32_t at)
{
	const uint8_t *p = out->data + at;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void assert_data(const struct scsi_answer *out, uint32_t len)
{
	assert_int_equal(out->next, SCSI_DONE);
	assert_int_equal(out->status, SCSI_GOOD);
	assert_int_equal(out->data_bytes, len);
}

static void assert_refused(const struct scsi_answer *out, uint8_t asc)
{
	assert_int_equal(out->status, SCSI_CHECK_CONDITION);
	assert_int_equal(out->sense[2], 0x05);
	assert_int_equal(out->sense[12], asc);
}

static void inquiry_names_what_linux_expects(void **state)
{
	struct scsi_lun lun = disk();
	struct scsi_lun drive = dvd();
	struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {0x12, [4] = 36}});

	(void)state;
	assert_data(&out, 36);
	assert_int_equal(out.data[0], 0x00);
	assert_int_equal(out.data[2], 0x06);
	assert_int_equal(out.data[3], 0x02);
	assert_int_equal(out.data[4], 31);
	assert_memory_equal(out.data + 8, "Msft    Virtual Disk    1.0 ", 28);
	out = run(&drive, (struct scsi_command){.cdb = {0x12, [4] = 96}});
	assert_data(&out, 36);
	assert_int_equal(out.data[0], 0x05);
	assert_int_equal(out.data[1], 0x80);
	assert_memory_equal(out.data + 16, "Virtual DVD-ROM ", 16);
}

static void inquiry_of_an_absent_unit_says_that_nothing_is_there(void **state)
{
	struct scsi_answer out = run(NULL, (struct scsi_command){.cdb = {0x12, [4] = 36}});

	(void)state;
	assert_data(&out, 36);
	assert_int_equal(out.data[0], 0x7f);
	out = vpd(NULL, 0x00);
	assert_refused(&out, 0x24);
}

static void answers_are_cut_to_the_allocation_and_to_the_buffer(void **state)
{
	struct scsi_lun lun = disk();

	(void)state;
	for (uint8_t n = 0; n < 60; n++) {
		uint32_t want = n < 36 ? n : 36;
		struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {0x12, [4] = n}});

		assert_data(&out, want);
		if (n != 0) {
			out = run(&lun, (struct scsi_command){.cdb = {0x12, [4] = 255},
			                                      .data_in_bytes = n});
			assert_data(&out, want);
		}
	}
}

static void every_page_that_is_listed_is_there(void **state)
{
	struct scsi_lun units[] = {disk(), dvd()};

	(void)state;
	for (size_t u = 0; u < ARRAY_LEN(units); u++) {
		struct scsi_answer list = vpd(&units[u], 0x00);
		uint8_t listed[256] = {0};

		assert_int_equal(list.data_bytes, 4 + list.data[3]);
		for (uint32_t i = 4; i < list.data_bytes; i++) {
			listed[list.data[i]] = 1;
		}
		assert_true(listed[0x00] && listed[0x80] && listed[0x83]);
		for (uint32_t page = 0; page < 256; page++) {
			struct scsi_answer out = vpd(&units[u], (uint8_t)page);

			if (listed[page] == 0) {
				assert_refused(&out, 0x24);
				continue;
			}
			assert_int_equal(out.data[0], u == 0 ? 0x00 : 0x05);
			assert_int_equal(out.data[1], page);
			assert_int_equal(out.data_bytes, 4 + (out.data[2] << 8 | out.data[3]));
		}
	}
}

static void a_unit_is_known_by_its_id(void **state)
{
	struct scsi_lun lun = disk();
	struct scsi_answer out = vpd(&lun, 0x80);

	(void)state;
	assert_memory_equal(out.data + 4, "000102030405060708090a0b0c0d0e0f", 32);
	out = vpd(&lun, 0x83);
	assert_int_equal(out.data_bytes, 4 + 12 + 44);
	assert_memory_equal(out.data + 4, "\x01\x03\x00\x08\x38\x09\x0a\x0b\x0c\x0d\x0e\x0f", 12);
	assert_memory_equal(out.data + 16,
	                    "\x02\x01\x00\x28Msft    000102030405060708090a0b0c0d0e0f", 44);
}

static void block_limits_agree_with_what_is_accepted(void **state)
{
	struct scsi_lun lun = disk();
	struct scsi_answer out = vpd(&lun, 0xb0);

	(void)state;
	assert_data(&out, 64);
	assert_int_equal(be32_at(&out, 8), TRANSFER_MAX / 512);
	assert_int_equal(be32_at(&out, 12), TRANSFER_MAX / 512);
	assert_int_equal(be32_at(&out, 20), UINT32_MAX);
	assert_int_equal(be32_at(&out, 24), SCSI_UNMAP_MAX);
	assert_int_equal(be32_at(&out, 28), (1u << 20) / 512);
	assert_int_equal(be32_at(&out, 32), 0x80000000u);
	assert_int_equal(be32_at(&out, 36), 0);
	assert_int_equal(be32_at(&out, 40), UINT32_MAX);

	uint32_t most = be32_at(&out, 8);
	struct scsi_command cmd = {.cdb = {0x88, [10] = 0, 0, (uint8_t)(most >> 8), (uint8_t)most},
	                           .data_in_bytes = UINT32_MAX};

	out = run(&lun, cmd);
	assert_int_equal(out.next, SCSI_IO);
	cmd.cdb[13]++;
	out = run(&lun, cmd);
	assert_refused(&out, 0x24);

	lun.info.logical_bytes = 4096;
	out = vpd(&lun, 0xb0);
	assert_int_equal(be32_at(&out, 8), TRANSFER_MAX / 4096);
	assert_int_equal(be32_at(&out, 28), (1u << 20) / 4096);
}

static void discard_is_offered_only_if_the_disk_can(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		struct scsi_lun lun = disk();
		struct scsi_answer out;
		bool can = i == 0;

		lun.info.discard_bytes = i == 1 ? 0 : lun.info.discard_bytes;
		lun.info.read_only = i == 2;
		out = vpd(&lun, 0xb2);
		assert_data(&out, 8);
		assert_int_equal(out.data[5], can ? 0x80 : 0);
		assert_int_equal(out.data[6], can ? 0x02 : 0);
		out = vpd(&lun, 0xb0);
		assert_int_equal(be32_at(&out, 20) != 0, can);
		out = run(&lun, (struct scsi_command){.cdb = {0x9e, 0x10, [13] = 32}});
		assert_data(&out, 32);
		assert_int_equal(out.data[14], can ? 0x80 : 0);
	}
	(void)state;
}

static void rotation_is_told(void **state)
{
	struct scsi_lun lun = disk();
	struct scsi_answer out = vpd(&lun, 0xb1);

	(void)state;
	assert_data(&out, 64);
	assert_int_equal(out.data[4] << 8 | out.data[5], 1);
	lun.info.rotational = true;
	out = vpd(&lun, 0xb1);
	assert_int_equal(out.data[4] << 8 | out.data[5], 7200);
}

static void capacity_is_the_last_block_and_its_size(void **state)
{
	struct scsi_lun lun = disk();
	struct scsi_lun drive = dvd();
	struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {0x25}});

	(void)state;
	assert_data(&out, 8);
	assert_int_equal(be32_at(&out, 0), (1u << 31) - 1);
	assert_int_equal(be32_at(&out, 4), 512);
	out = run(&lun, (struct scsi_command){.cdb = {0x9e, 0x10, [12] = 1}});
	assert_data(&out, 32);
	assert_int_equal(be32_at(&out, 0), 0);
	assert_int_equal(be32_at(&out, 4), (1u << 31) - 1);
	assert_int_equal(out.data[13], 3); /* 8 blocks in a physical one */
	lun.info.size_bytes = (1ull << 41) + 512;
	out = run(&lun, (struct scsi_command){.cdb = {0x25}});
	assert_int_equal(be32_at(&out, 0), UINT32_MAX); /* ask with the long form */
	out = run(&lun, (struct scsi_command){.cdb = {0x9e, 0x10, [13] = 12}});
	assert_data(&out, 12);
	assert_int_equal(be32_at(&out, 0), 1);
	assert_int_equal(be32_at(&out, 4), 0);
	out = run(&lun, (struct scsi_command){.cdb = {0x9e, 0x11, [13] = 12}});
	assert_refused(&out, 0x24);
	out = run(&drive, (struct scsi_command){.cdb = {0x25}});
	assert_int_equal(be32_at(&out, 0), 999);
	assert_int_equal(be32_at(&out, 4), 2048);
}

static void the_write_cache_is_on_and_fua_is_honoured(void **state)
{
	struct scsi_lun lun = disk();
	struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {0x1a, 0, 0x08, 0, 255}});

	(void)state;
	assert_data(&out, 4 + 20);
	assert_int_equal(out.data[0], out.data_bytes - 1);
	assert_int_equal(out.data[2], 0x10);
	assert_int_equal(out.data[4], 0x08);
	assert_int_equal(out.data[6], 0x04);
	lun.info.read_only = true;
	out = run(&lun, (struct scsi_command){.cdb = {0x5a, 0, 0x08, [7] = 1, 0}});
	assert_data(&out, 8 + 20);
	assert_int_equal(out.data[1], out.data_bytes - 2);
	assert_int_equal(out.data[3], 0x90);
	assert_int_equal(out.data[10], 0x04);
	/* Nothing can be changed, nothing saved. */
	out = run(&lun, (struct scsi_command){.cdb = {0x1a, 0, 0x48, 0, 255}});
	assert_int_equal(out.data[6], 0x00);
	out = run(&lun, (struct scsi_command){.cdb = {0x1a, 0, 0xc8, 0, 255}});
	assert_refused(&out, 0x39);
}

static void mode_pages_are_all_in_page_3f_and_others_are_refused(void **state)
{
	struct scsi_lun units[] = {disk(), dvd()};

	(void)state;
	for (size_t u = 0; u < ARRAY_LEN(units); u++) {
		struct scsi_answer all =
			run(&units[u], (struct scsi_command){.cdb = {0x1a, 0, 0x3f, 0, 255}});
		uint32_t sum = 4;

		for (uint8_t page = 0; page < 0x3f; page++) {
			struct scsi_answer out = run(
				&units[u], (struct scsi_command){.cdb = {0x1a, 0, page, 0, 255}});

			if (out.status == SCSI_GOOD) {
				assert_int_equal(out.data[4] & 0x3f, page);
				assert_int_equal(out.data[5], out.data_bytes - 6);
				assert_memory_equal(all.data + sum, out.data + 4,
				                    out.data_bytes - 4);
				sum += out.data_bytes - 4;
			} else {
				assert_refused(&out, 0x24);
			}
		}
		assert_int_equal(all.data_bytes, sum);
	}
}

static void report_luns_lists_those_that_are_there(void **state)
{
	const struct scsi_command cmd = {.cdb = {0xa0, [8] = 16, 0}, .data_in_bytes = 4096};
	bool present[64] = {[0] = true, [5] = true, [63] = true};
	static struct scsi_answer out;

	(void)state;
	memset(&out, 0xa5, sizeof(out));
	scsi_report_luns(&cmd, present, 64, &out);
	assert_data(&out, 8 + 3 * 8);
	assert_int_equal(be32_at(&out, 0), 24);
	assert_int_equal(be32_at(&out, 4), 0);
	assert_memory_equal(out.data + 8, "\0\0\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0\x3f\0\0\0\0\0\0", 24);
	/* The length is that of the whole list even if it does not fit. */
	scsi_report_luns(&(struct scsi_command){.cdb = {0xa0, [9] = 12}, .data_in_bytes = 4096},
	                 present, 64, &out);
	assert_data(&out, 12);
	assert_int_equal(be32_at(&out, 0), 24);
}

static void a_dvd_has_one_data_track(void **state)
{
	struct scsi_lun drive = dvd();
	struct scsi_answer out = run(&drive, (struct scsi_command){.cdb = {0x43, [7] = 1, 0}});

	(void)state;
	assert_data(&out, 20);
	assert_memory_equal(out.data, "\0\x12\1\1\0\x14\1\0\0\0\0\0\0\x14\xaa\0\0\0\3\xe8", 20);
	out = run(&drive, (struct scsi_command){.cdb = {0x43, 0, 1, [7] = 1, 0}});
	assert_data(&out, 12);
	out = run(&drive, (struct scsi_command){.cdb = {0x43, 2, [7] = 1, 0}});
	assert_refused(&out, 0x24);
	out = run(&drive, (struct scsi_command){.cdb = {0x51, [7] = 1, 0}});
	assert_data(&out, 34);
	assert_int_equal(out.data[2], 0x0e);
}

static void a_drive_tells_whether_it_has_a_medium(void **state)
{
	struct scsi_lun drive = dvd();

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct scsi_answer out;

		drive.medium = i == 0;
		out = run(&drive, (struct scsi_command){.cdb = {0x46, [7] = 1, 0}});
		assert_data(&out, 20);
		assert_int_equal(out.data[7], i == 0 ? 0x10 : 0x00);
		out = run(&drive, (struct scsi_command){.cdb = {0x4a, 1, [4] = 0x10, [7] = 1, 0}});
		assert_data(&out, 8);
		assert_int_equal(out.data[5], i == 0 ? 0x02 : 0x00);
		out = run(&drive, (struct scsi_command){.cdb = {0xbd, [8] = 1, 0}});
		assert_data(&out, 8);
	}

	struct scsi_answer out = run(&drive, (struct scsi_command){.cdb = {0x4a, 1, [8] = 8}});

	assert_data(&out, 4); /* another class was asked for */
	assert_int_equal(out.data[2], 0x80);
	out = run(&drive, (struct scsi_command){.cdb = {0x4a, 0, [4] = 0x10, [8] = 8}});
	assert_refused(&out, 0x24);
}

static void there_is_never_sense_left(void **state)
{
	struct scsi_lun lun = disk();
	struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {0x03, [4] = 252}});

	(void)state;
	assert_data(&out, SCSI_SENSE_BYTES);
	assert_int_equal(out.data[2], 0);
	assert_int_equal(out.data[12], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inquiry_names_what_linux_expects),
		cmocka_unit_test(inquiry_of_an_absent_unit_says_that_nothing_is_there),
		cmocka_unit_test(answers_are_cut_to_the_allocation_and_to_the_buffer),
		cmocka_unit_test(every_page_that_is_listed_is_there),
		cmocka_unit_test(a_unit_is_known_by_its_id),
		cmocka_unit_test(block_limits_agree_with_what_is_accepted),
		cmocka_unit_test(discard_is_offered_only_if_the_disk_can),
		cmocka_unit_test(rotation_is_told),
		cmocka_unit_test(capacity_is_the_last_block_and_its_size),
		cmocka_unit_test(the_write_cache_is_on_and_fua_is_honoured),
		cmocka_unit_test(mode_pages_are_all_in_page_3f_and_others_are_refused),
		cmocka_unit_test(report_luns_lists_those_that_are_there),
		cmocka_unit_test(a_dvd_has_one_data_track),
		cmocka_unit_test(a_drive_tells_whether_it_has_a_medium),
		cmocka_unit_test(there_is_never_sense_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
