/* SPDX-License-Identifier: Apache-2.0 */

/* The SCSI controller with a guest that does what Linux does. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/stor_guest.h"
#include "tests/lib/test.h"

#define MAX_BYTES STORVSP_TRANSFER_BYTES_MAX
#define MAX_BLOCKS (MAX_BYTES / 512u)
#define SRB_GOOD STORVSP_SRB_SUCCESS
#define SRB_SENSE (STORVSP_SRB_ERROR | STORVSP_SRB_SENSE_VALID)

static void assert_srb(const struct storvsp_srb *srb, uint32_t moved)
{
	assert_int_equal(srb->srb_status, SRB_GOOD);
	assert_int_equal(srb->scsi_status, 0);
	assert_int_equal(le32_get(srb->transfer_bytes), moved);
}

static void assert_sense(const struct storvsp_srb *srb, uint8_t key, uint8_t asc, uint8_t ascq)
{
	assert_int_equal(srb->srb_status, SRB_SENSE);
	assert_int_equal(srb->scsi_status, 2);
	assert_int_equal(le32_get(srb->transfer_bytes), 0);
	assert_int_equal(srb->sense_bytes, SCSI_SENSE_BYTES);
	assert_int_equal(srb->cdb_or_sense[2], key);
	assert_int_equal(srb->cdb_or_sense[12], asc);
	assert_int_equal(srb->cdb_or_sense[13], ascq);
}

static void run_good(struct stor *s, struct stor_cmd cmd)
{
	struct storvsp_srb srb = stor_run(s, &cmd);

	assert_srb(&srb, cmd.len_bytes);
}

static void run_sense(struct stor *s, struct stor_cmd cmd, uint8_t key, uint8_t asc, uint8_t ascq)
{
	struct storvsp_srb srb = stor_run(s, &cmd);

	assert_sense(&srb, key, asc, ascq);
}

/* ---- initialisation ---- */

static void the_sequence_of_linux_brings_the_controller_up(void **state)
{
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.sub_channels_max = 3}, &s);
	stor_boot(&s);
	assert_int_equal(s.properties_channels, 3);
	assert_int_equal(s.properties_flags, 1);
	assert_int_equal(s.properties_transfer_bytes, MAX_BYTES);
	run_good(&s, (struct stor_cmd){STOR_READY});
	stor_destroy(&s);
}

static void without_sub_channels_there_is_no_multi_channel_flag(void **state)
{
	struct storvsp_packet p = {.u.sub_channels = le16_make(1)};
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	assert_int_equal(s.properties_channels, 0);
	assert_int_equal(s.properties_flags, 0);
	assert_int_equal(stor_control(&s, STORVSP_CREATE_SUB_CHANNELS, &p),
	                 STORVSP_STATUS_INVALID_PARAMETER);
	stor_destroy(&s);
}

static void versions_that_are_unknown_are_refused_and_older_ones_taken(void **state)
{
	static const struct {
		uint16_t version;
		uint32_t status;
	} tries[] = {
		{0x0700, STORVSP_STATUS_REVISION_MISMATCH},
		{0x0402, STORVSP_STATUS_REVISION_MISMATCH},
		{0x0200, STORVSP_STATUS_REVISION_MISMATCH},
		{0x0000, STORVSP_STATUS_REVISION_MISMATCH},
	};
	static const uint16_t good[] = {0x0602, 0x0600, 0x0501};
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	guest_boot(s.g);
	stor_open(&s);
	for (size_t g = 0; g < ARRAY_LEN(good); g++) {
		struct storvsp_packet p = {0};

		assert_int_equal(stor_control(&s, STORVSP_BEGIN_INIT, &p), 0);
		for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
			p = (struct storvsp_packet){.u.version.version =
			                                    le16_make(tries[i].version)};
			assert_int_equal(stor_control(&s, STORVSP_QUERY_VERSION, &p),
			                 tries[i].status);
		}
		p = (struct storvsp_packet){.u.version.version = le16_make(good[g])};
		assert_int_equal(stor_control(&s, STORVSP_QUERY_VERSION, &p), 0);
		assert_int_equal(stor_control(&s, STORVSP_QUERY_PROPERTIES, &p), 0);
		assert_int_equal(stor_control(&s, STORVSP_END_INIT, &p), 0);
		run_good(&s, (struct stor_cmd){STOR_READY});
	}
	stor_destroy(&s);
}

static void no_step_of_the_initialisation_is_taken_out_of_order(void **state)
{
	static const uint32_t steps[] = {STORVSP_BEGIN_INIT, STORVSP_QUERY_VERSION,
	                                 STORVSP_QUERY_PROPERTIES, STORVSP_END_INIT,
	                                 STORVSP_CREATE_SUB_CHANNELS};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.sub_channels_max = 1}, &s);
	guest_boot(s.g);
	stor_open(&s);
	for (size_t done = 0; done <= 4; done++) {
		for (size_t wrong = 1; wrong < ARRAY_LEN(steps); wrong++) {
			struct storvsp_packet p = {0};

			if (wrong == done) {
				continue;
			}
			/* As far as @done, then the wrong one. */
			for (size_t i = 0; i < done; i++) {
				p = (struct storvsp_packet){0};
				p.u.version.version = le16_make(0x0602);
				assert_int_equal(stor_control(&s, steps[i], &p), 0);
			}
			assert_int_equal(stor_control(&s, steps[wrong], &p),
			                 STORVSP_STATUS_NOT_SUPPORTED);
			p = (struct storvsp_packet){0};
			assert_int_equal(stor_control(&s, STORVSP_BEGIN_INIT, &p), 0);
			guest_close(s.chans[0]);
			stor_open(&s);
		}
	}
	stor_destroy(&s);
}

static void commands_before_the_end_of_the_initialisation_are_refused(void **state)
{
	struct stor s;
	struct storvsp_packet answer;

	(void)state;
	stor_create(NULL, &s);
	guest_boot(s.g);
	stor_open(&s);
	(void)stor_submit(&s, &(struct stor_cmd){STOR_WRITE10(0, 8), .len_bytes = 4096});
	(void)stor_wait(&s, 0, &answer);
	assert_int_equal(le32_get(answer.status), STORVSP_STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(answer.u.srb.srb_status, STORVSP_SRB_INVALID_REQUEST);
	assert_int_equal(fake_disk_requests(s.disk), 0);
	stor_init(&s);
	run_good(&s, (struct stor_cmd){STOR_WRITE10(0, 8), .len_bytes = 4096});
	stor_destroy(&s);
}

static void resets_are_answered(void **state)
{
	static const uint32_t ops[] = {STORVSP_RESET_BUS, STORVSP_RESET_ADAPTER, STORVSP_RESET_LUN};
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		struct storvsp_packet p = {0};

		assert_int_equal(stor_control(&s, ops[i], &p), 0);
	}
	run_good(&s, (struct stor_cmd){STOR_READY});
	stor_destroy(&s);
}

/* ---- data ---- */

static void what_is_written_is_read_back_from_any_pages(void **state)
{
	static const struct {
		uint32_t offset, blocks;
	} shapes[] = {{0, 1},      {0, 8},   {512, 8},        {3584, 1},         {4088, 1},
	              {1536, 256}, {0, 255}, {0, MAX_BLOCKS}, {3584, MAX_BLOCKS}};

	(void)state;
	for (unsigned scatter = 0; scatter < 2; scatter++) {
		struct stor s;

		stor_create(&(struct stor_cfg){.guest.scatter = scatter != 0}, &s);
		stor_boot(&s);
		for (uint32_t i = 0; i < ARRAY_LEN(shapes); i++) {
			uint32_t len = shapes[i].blocks * 512;
			uint32_t at = shapes[i].offset;
			uint32_t lba = 3 + i;

			stor_fill(&s, (struct stor_span){at, len}, i);
			run_good(&s, (struct stor_cmd){STOR_WRITE10(lba, shapes[i].blocks),
			                               .len_bytes = len, .offset = at});
			for (uint32_t b = 0; b < len; b += 97) {
				assert_int_equal(fake_disk_data(s.disk)[lba * 512 + b],
				                 stor_pattern(i, b));
			}
			stor_fill(&s, (struct stor_span){0, STOR_BUFFER_PAGES * 4096},
			          99); /* the buffer is dirty */
			run_good(&s, (struct stor_cmd){STOR_READ10(lba, shapes[i].blocks),
			                               .len_bytes = len, .offset = at});
			assert_true(stor_has(&s, (struct stor_span){at, len}, i));
			if (at != 0) { /* nothing around it was touched */
				assert_true(stor_has(&s, (struct stor_span){0, at}, 99));
			}
		}
		stor_destroy(&s);
	}
}

static void a_read_shorter_than_its_buffer_leaves_the_rest_alone(void **state)
{
	struct stor_cmd cmd = {STOR_READ10(0, 2), .len_bytes = 8192, .offset = 100};
	struct storvsp_srb srb;
	struct stor s;
	uint8_t b;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	stor_fill(&s, (struct stor_span){0, 12288}, 5);
	srb = stor_run(&s, &cmd);
	assert_srb(&srb, 1024); /* the guest computes the rest */
	stor_read(&s, 100, &b, 1);
	assert_int_equal(b, 0);
	stor_read(&s, 100 + 1024, &b, 1);
	assert_int_equal(b, stor_pattern(5, 100 + 1024));
	stor_destroy(&s);
}

static void writes_flushes_and_fua_reach_the_disk_as_such(void **state)
{
	struct stor_cmd fua = {STOR_WRITE10(8, 8), .len_bytes = 4096};
	struct fake_disk_image image;
	struct storvsp_stats stats;
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	stor_fill(&s, (struct stor_span){0, 4096}, 1);
	run_good(&s, (struct stor_cmd){STOR_WRITE10(0, 8), .len_bytes = 4096});
	fua.cdb[1] = 0x08;
	run_good(&s, fua);
	image = fake_disk_crash_image(s.disk, 0); /* nothing unsynced survives */
	assert_int_equal(image.data[0], 0);
	assert_int_equal(image.data[4096], stor_pattern(1, 0));
	free(image.data);
	run_good(&s, (struct stor_cmd){STOR_FLUSH});
	image = fake_disk_crash_image(s.disk, 0);
	assert_int_equal(image.data[0], stor_pattern(1, 0));
	free(image.data);
	storvsp_stats(s.vsp, &stats);
	assert_int_equal(stats.writes, 2);
	assert_int_equal(stats.write_bytes, 8192);
	assert_int_equal(stats.flushes, 1);
	assert_int_equal(stats.errors, 0);
	stor_destroy(&s);
}

static void unmap_discards_all_its_ranges(void **state)
{
	uint8_t list[8 + 3 * 16] = {0, 54, 0, 48};
	static const uint32_t lbas[] = {8, 64, 512};
	struct stor_cmd unmap = {
		.cdb = {0x42, [8] = sizeof(list)},
		.cdb_bytes = 10,
		.direction = STORVSP_WRITE,
		.len_bytes = sizeof(list),
		.offset = 4096 - 13, /* over a page's end */
	};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.guest.scatter = true,
	                               .disk.discard = FAKE_DISK_DISCARD_GARBAGE},
	            &s);
	stor_boot(&s);
	for (uint32_t i = 0; i < 3; i++) {
		list[8 + i * 16 + 6] = (uint8_t)(lbas[i] >> 8);
		list[8 + i * 16 + 7] = (uint8_t)lbas[i];
		list[8 + i * 16 + 11] = (uint8_t)(8 * (i + 1));
	}
	guest_pages_write(s.g, s.pfns, unmap.offset, list, sizeof(list));
	{
		struct storvsp_srb srb = stor_run(&s, &unmap);

		assert_srb(&srb, 0);
	}
	assert_int_equal(fake_disk_count(s.disk, BLK_DISCARD), 3);
	for (uint32_t i = 0; i < 3; i++) {
		const uint8_t *data = fake_disk_data(s.disk) + lbas[i] * 512;

		assert_int_equal(data[-1], 0);
		assert_int_equal(data[0], 0xdb);
		assert_int_equal(data[8 * (i + 1) * 512 - 1], 0xdb);
		assert_int_equal(data[8 * (i + 1) * 512], 0);
	}
	/* The second fails: the third is not tried, and the guest hears of it. */
	fake_disk_fail(s.disk,
	               &(struct fake_disk_failure){
			       .ops = 1u << BLK_DISCARD, .nth = 2, .count = 1, .err = -EIO});
	run_sense(&s, unmap, 0x03, 0x0c, 0x00);
	assert_int_equal(fake_disk_count(s.disk, BLK_DISCARD), 5);
	stor_destroy(&s);
}

static void write_same_zeroes_the_disk(void **state)
{
	struct stor_cmd same = {
		.cdb = {0x93, [9] = 4, [13] = 16},
		.cdb_bytes = 16,
		.direction = STORVSP_WRITE,
		.len_bytes = 512,
		.first_page = 100,
	};
	struct stor s;
	struct storvsp_srb srb;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	stor_fill(&s, (struct stor_span){0, 65536}, 3);
	run_good(&s, (struct stor_cmd){STOR_WRITE10(0, 128), .len_bytes = 65536});
	srb = stor_run(&s, &same);
	assert_int_equal(srb.srb_status, SRB_GOOD);
	for (uint32_t i = 0; i < 65536; i++) {
		bool zeroed = i >= 4 * 512 && i < 20 * 512;

		assert_int_equal(fake_disk_data(s.disk)[i], zeroed ? 0 : stor_pattern(3, i));
	}
	stor_destroy(&s);
}

static void errors_of_the_disk_are_told_and_do_not_stay(void **state)
{
	static const struct {
		int err;
		uint8_t key, asc, ascq;
	} errors[] = {{-EIO, 0x03, 0x0c, 0x00},
	              {-ENOSPC, 0x07, 0x27, 0x07},
	              {-EROFS, 0x07, 0x27, 0x00},
	              {-ESTALE, 0x0b, 0x00, 0x00}};
	const struct stor_cmd write = {STOR_WRITE10(0, 8), .len_bytes = 4096};
	struct storvsp_stats stats;
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		fake_disk_fail(s.disk, &(struct fake_disk_failure){.ops = FAKE_DISK_ALL_OPS,
		                                                   .nth = 1,
		                                                   .count = 1,
		                                                   .err = errors[i].err});
		run_sense(&s, write, errors[i].key, errors[i].asc, errors[i].ascq);
		run_good(&s, write);
	}
	storvsp_stats(s.vsp, &stats);
	assert_int_equal(stats.errors, ARRAY_LEN(errors));
	stor_destroy(&s);
}

/* ---- units ---- */

static void units_are_found_where_they_are_and_nowhere_else(void **state)
{
	const struct stor_cmd inquiry = {.cdb = {0x12, [4] = 36},
	                                 .cdb_bytes = 6,
	                                 .direction = STORVSP_READ,
	                                 .len_bytes = 36};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.second = true, .dvd = true}, &s);
	stor_boot(&s);
	for (uint32_t where = 0; where < 4; where++) {
		for (uint32_t lun = 0; lun < 256; lun++) {
			struct stor_cmd cmd = inquiry;
			bool here = where == 0 && (lun == STOR_LUN_DISK || lun == STOR_LUN_SECOND ||
			                           lun == STOR_LUN_DVD);
			uint8_t type;
			struct storvsp_srb srb;

			cmd.lun = (uint8_t)lun;
			cmd.path = (uint8_t)(where & 1);
			cmd.target = (uint8_t)(where >> 1);
			srb = stor_run(&s, &cmd);
			assert_srb(&srb, 36);
			stor_read(&s, 0, &type, 1);
			assert_int_equal(type, !here ? 0x7f : lun == STOR_LUN_DVD ? 0x05 : 0x00);
			cmd = (struct stor_cmd){STOR_READY, .lun = cmd.lun, .path = cmd.path,
			                        .target = cmd.target};
			srb = stor_run(&s, &cmd);
			assert_int_equal(srb.srb_status, here ? SRB_GOOD : STORVSP_SRB_INVALID_LUN);
		}
	}
	stor_destroy(&s);
}

static void report_luns_lists_the_units_of_the_one_target(void **state)
{
	struct stor_cmd cmd = {.cdb = {0xa0, [8] = 16},
	                       .cdb_bytes = 12,
	                       .direction = STORVSP_READ,
	                       .len_bytes = 4096};
	static const uint8_t want[32] = {[3] = 24, [17] = 1, [25] = 5};
	uint8_t got[32];
	struct storvsp_srb srb;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.second = true, .dvd = true}, &s);
	stor_boot(&s);
	srb = stor_run(&s, &cmd);
	assert_srb(&srb, sizeof(got));
	stor_read(&s, 0, got, sizeof(got));
	assert_memory_equal(got, want, sizeof(want));
	cmd.target = 1;
	srb = stor_run(&s, &cmd);
	assert_srb(&srb, 8);
	stor_read(&s, 0, got, 8);
	assert_int_equal(got[3], 0);
	stor_destroy(&s);
}

static void refused_pages_read_as_zero_because_linux_believes_them(void **state)
{
	static const uint8_t cdbs[][6] = {
		{0x12, 1, 0x89, 0, 255}, {0x1a, 0, 0x1c, 0, 255}, {0x5a, 0, 0x1c, 0, 0}};
	struct stor s;

	(void)state;
	stor_create(NULL, &s);
	stor_boot(&s);
	for (size_t i = 0; i < ARRAY_LEN(cdbs); i++) {
		struct stor_cmd cmd = {.cdb_bytes = 10,
		                       .direction = STORVSP_READ,
		                       .len_bytes = 255,
		                       .offset = 4000};
		uint8_t got[257];

		memcpy(cmd.cdb, cdbs[i], sizeof(cdbs[i]));
		stor_fill(&s, (struct stor_span){3999, sizeof(got)}, 1);
		run_sense(&s, cmd, 0x05, 0x24, 0x00);
		stor_read(&s, 3999, got, sizeof(got));
		assert_int_equal(got[0], stor_pattern(1, 0));
		for (size_t b = 1; b < 256; b++) {
			assert_int_equal(got[b], 0);
		}
		assert_int_equal(got[256], stor_pattern(1, 256));
	}
	stor_destroy(&s);
}

static void grown(struct blk_req *req, int result)
{
	*(int *)req->arg = result;
}

/* Whoever manages the disk makes it larger. */
static void grow(struct stor *s, uint64_t size_bytes)
{
	int result = 1;
	struct blk_req req = {
		.op = BLK_RESIZE, .offset_bytes = size_bytes, .done = grown, .arg = &result};

	blk_submit(fake_disk_blk(s->disk), &req);
	guest_run_until(s->g, result <= 0);
	assert_int_equal(result, 0);
}

static void a_resize_is_told_by_a_unit_attention(void **state)
{
	struct stor_cmd capacity = {
		.cdb = {0x25}, .cdb_bytes = 10, .direction = STORVSP_READ, .len_bytes = 8};
	struct stor s;
	uint8_t got[8];

	(void)state;
	stor_create(&(struct stor_cfg){.disk.can_resize = true}, &s);
	stor_boot(&s);
	run_sense(&s, (struct stor_cmd){STOR_READ10(STOR_DISK_BYTES / 512, 1), .len_bytes = 512},
	          0x05, 0x21, 0x00);
	grow(&s, 2 * STOR_DISK_BYTES);
	storvsp_resized(s.vsp, STOR_LUN_DISK);
	run_sense(&s, (struct stor_cmd){STOR_READY}, 0x06, 0x2a, 0x09);
	run_good(&s, capacity);
	stor_read(&s, 0, got, sizeof(got));
	assert_int_equal(got[2] << 8 | got[3], 2 * STOR_DISK_BYTES / 512 - 1);
	run_good(&s, (struct stor_cmd){STOR_READ10(STOR_DISK_BYTES / 512, 1), .len_bytes = 512});
	stor_destroy(&s);
}

/* ---- DVD ---- */

static void a_medium_is_changed_under_the_guest(void **state)
{
	struct stor_cmd read = {STOR_READ10(2, 1), .len_bytes = 2048, .lun = STOR_LUN_DVD};
	const struct stor_cmd ready = {STOR_READY, .lun = STOR_LUN_DVD};
	const struct fake_disk_cfg medium = {.size_bytes = 1u << 20, .read_only = true};
	struct fake_disk *next;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.dvd = true, .dvd_empty = true}, &s);
	next = fake_disk_create(&medium, guest_uring(s.g));
	memset(fake_disk_data(next), 0x42, 1u << 20);
	stor_boot(&s);
	run_sense(&s, ready, 0x02, 0x3a, 0x00);
	run_sense(&s, read, 0x02, 0x3a, 0x00);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, fake_disk_blk(next)), 0);
	run_sense(&s, ready, 0x06, 0x28, 0x00);
	run_good(&s, ready);
	run_good(&s, read);
	{
		uint8_t got;

		stor_read(&s, 2047, &got, 1);
		assert_int_equal(got, 0x42);
	}
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, NULL), 0);
	assert_true(fake_disk_is_closed(next));
	run_sense(&s, ready, 0x02, 0x3a, 0x00);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DISK, NULL), -ENODEV);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_SECOND, NULL), -ENODEV);
	assert_int_equal(storvsp_medium(s.vsp, 64, NULL), -ENODEV);
	s.dvd = next; /* to be freed with the others */
	stor_destroy(&s);
}

static void a_locked_drive_keeps_its_medium_until_the_guest_is_gone(void **state)
{
	const struct stor_cmd lock = {.cdb = {0x1e, [4] = 1},
	                              .cdb_bytes = 6,
	                              .direction = STORVSP_NO_DATA,
	                              .lun = STOR_LUN_DVD};
	const struct stor_cmd eject = {.cdb = {0x1b, [4] = 2},
	                               .cdb_bytes = 6,
	                               .direction = STORVSP_NO_DATA,
	                               .lun = STOR_LUN_DVD};
	struct storvsp_packet p = {0};
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.dvd = true}, &s);
	stor_boot(&s);
	run_good(&s, lock);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, NULL), -EBUSY);
	run_sense(&s, eject, 0x05, 0x53, 0x02);
	assert_int_equal(stor_control(&s, STORVSP_RESET_BUS, &p), 0);
	run_good(&s, eject);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, NULL), 0);
	run_good(&s, lock);
	stor_close(&s);
	stor_open(&s);
	stor_init(&s);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, NULL), 0);
	stor_destroy(&s);
}

static void a_medium_in_use_is_not_taken_out(void **state)
{
	struct storvsp_packet answer;
	struct stor s;

	(void)state;
	stor_create(&(struct stor_cfg){.dvd = true}, &s);
	stor_boot(&s);
	(void)stor_submit(
		&s, &(struct stor_cmd){STOR_READ10(0, 1), .len_bytes = 2048, .lun = STOR_LUN_DVD});
	guest_run_until(s.g, fake_disk_requests(s.dvd) == 1);
	if (fake_disk_in_flight(s.dvd) != 0) {
		assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, NULL), -EBUSY);
	}
	(void)stor_wait(&s, 0, &answer);
	assert_int_equal(storvsp_medium(s.vsp, STOR_LUN_DVD, NULL), 0);
	stor_destroy(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sequence_of_linux_brings_the_controller_up),
		cmocka_unit_test(without_sub_channels_there_is_no_multi_channel_flag),
		cmocka_unit_test(versions_that_are_unknown_are_refused_and_older_ones_taken),
		cmocka_unit_test(no_step_of_the_initialisation_is_taken_out_of_order),
		cmocka_unit_test(commands_before_the_end_of_the_initialisation_are_refused),
		cmocka_unit_test(resets_are_answered),
		cmocka_unit_test(what_is_written_is_read_back_from_any_pages),
		cmocka_unit_test(a_read_shorter_than_its_buffer_leaves_the_rest_alone),
		cmocka_unit_test(writes_flushes_and_fua_reach_the_disk_as_such),
		cmocka_unit_test(unmap_discards_all_its_ranges),
		cmocka_unit_test(write_same_zeroes_the_disk),
		cmocka_unit_test(errors_of_the_disk_are_told_and_do_not_stay),
		cmocka_unit_test(units_are_found_where_they_are_and_nowhere_else),
		cmocka_unit_test(report_luns_lists_the_units_of_the_one_target),
		cmocka_unit_test(refused_pages_read_as_zero_because_linux_believes_them),
		cmocka_unit_test(a_resize_is_told_by_a_unit_attention),
		cmocka_unit_test(a_medium_is_changed_under_the_guest),
		cmocka_unit_test(a_locked_drive_keeps_its_medium_until_the_guest_is_gone),
		cmocka_unit_test(a_medium_in_use_is_not_taken_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
