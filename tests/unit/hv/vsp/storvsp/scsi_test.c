/* SPDX-License-Identifier: Apache-2.0 */

/* What units answer to the commands that move or change data; results of disks as sense. */

#include "hv/vsp/storvsp/scsi.h"

#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "base/wire.h"
#include "tests/lib/test.h"

#define BLOCKS 8192u
#define TRANSFER_MAX (512u << 10)

static struct scsi_lun disk_of(uint32_t logical_bytes)
{
	return (struct scsi_lun){
		.kind = SCSI_DISK,
		.info = {.size_bytes = (uint64_t)BLOCKS * logical_bytes,
	                 .logical_bytes = logical_bytes,
	                 .physical_bytes = 4096,
	                 .discard_bytes = 4096},
		.medium = true,
		.transfer_max = TRANSFER_MAX,
	};
}

static struct scsi_lun dvd(void)
{
	return (struct scsi_lun){
		.kind = SCSI_DVD,
		.info = {.size_bytes = 1000 * 2048,
	                 .logical_bytes = 512,
	                 .physical_bytes = 512,
	                 .read_only = true},
		.medium = true,
		.transfer_max = TRANSFER_MAX,
	};
}

static struct scsi_answer run(struct scsi_lun *lun, struct scsi_command cmd)
{
	static struct scsi_answer out;

	memset(&out, 0xa5, sizeof(out)); /* what an earlier command left */
	scsi_execute(lun, &cmd, &out);
	return out;
}

static void assert_sense(const struct scsi_answer *out, uint8_t key, uint8_t asc, uint8_t ascq)
{
	assert_int_equal(out->next, SCSI_DONE);
	assert_int_equal(out->status, SCSI_CHECK_CONDITION);
	assert_int_equal(out->data_bytes, 0);
	assert_int_equal(out->sense[0], 0x70);
	assert_int_equal(out->sense[7], SCSI_SENSE_BYTES - 8);
	assert_int_equal(out->sense[2], key);
	assert_int_equal(out->sense[12], asc);
	assert_int_equal(out->sense[13], ascq);
}

static void assert_good(const struct scsi_answer *out)
{
	assert_int_equal(out->next, SCSI_DONE);
	assert_int_equal(out->status, SCSI_GOOD);
}

static void assert_io(const struct scsi_answer *out, enum blk_op op, uint64_t offset, uint64_t len)
{
	assert_int_equal(out->next, SCSI_IO);
	assert_int_equal(out->status, SCSI_GOOD);
	assert_int_equal(out->op, op);
	assert_int_equal(out->extent_count, 1);
	assert_int_equal(out->extents[0].offset_bytes, offset);
	assert_int_equal(out->extents[0].len_bytes, len);
}

/* ---- reads and writes ---- */

static const struct {
	uint8_t read, write;
	uint8_t lba_at, lba_bytes, count_at, count_bytes;
	bool fua;
} family[] = {
	{0x08, 0x0a, 1, 3, 4, 1, false},
	{0x28, 0x2a, 2, 4, 7, 2, true},
	{0xa8, 0xaa, 2, 4, 6, 4, true},
	{0x88, 0x8a, 2, 8, 10, 4, true},
};

static void put(uint8_t *cdb, uint8_t at, uint8_t bytes, uint64_t v)
{
	for (uint8_t i = 0; i < bytes; i++) {
		cdb[at + i] = (uint8_t)(v >> (8u * (bytes - 1u - i)));
	}
}

static struct scsi_command rw(size_t i, bool write, uint64_t lba, uint32_t count, uint32_t room)
{
	struct scsi_command cmd = {.cdb = {write ? family[i].write : family[i].read}};

	put(cmd.cdb, family[i].lba_at, family[i].lba_bytes, lba);
	put(cmd.cdb, family[i].count_at, family[i].count_bytes, count);
	*(write ? &cmd.data_out_bytes : &cmd.data_in_bytes) = room;
	return cmd;
}

static void reads_and_writes_of_each_length_name_their_range(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(family); i++) {
		for (uint32_t unit = 512; unit <= 4096; unit *= 8) {
			struct scsi_lun lun = disk_of(unit);
			struct scsi_answer out = run(&lun, rw(i, false, 17, 8, 8 * unit));

			assert_io(&out, BLK_READ, 17ull * unit, 8ull * unit);
			out = run(&lun, rw(i, true, BLOCKS - 8, 8, 9 * unit));
			assert_io(&out, BLK_WRITE, (BLOCKS - 8ull) * unit, 8ull * unit);
			assert_int_equal(out.blk_flags, 0);
		}
	}
}

static void forced_unit_access_is_a_flag_of_writes(void **state)
{
	struct scsi_lun lun = disk_of(512);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(family); i++) {
		struct scsi_command cmd = rw(i, true, 0, 1, 512);
		struct scsi_answer out;

		if (!family[i].fua) {
			continue; /* bit 3 belongs to the LBA */
		}
		cmd.cdb[1] |= 0x08;
		out = run(&lun, cmd);
		assert_int_equal(out.blk_flags, BLK_FUA);
		cmd = rw(i, false, 0, 1, 512);
		cmd.cdb[1] |= 0x08;
		out = run(&lun, cmd);
		assert_io(&out, BLK_READ, 0, 512);
		assert_int_equal(out.blk_flags, 0);
	}
}

static void a_range_that_is_not_all_on_the_disk_is_refused(void **state)
{
	static const struct {
		uint64_t lba;
		uint32_t count;
	} bad[] = {{BLOCKS, 1}, {BLOCKS - 1, 2}, {BLOCKS + 1, 0}, {UINT32_MAX, 1}, {1, BLOCKS}};
	struct scsi_lun lun = disk_of(512);
	struct scsi_answer out;

	(void)state;
	for (size_t i = 1; i < ARRAY_LEN(family); i++) {
		for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
			if (family[i].count_bytes == 2 && bad[k].count > UINT16_MAX) {
				continue;
			}
			out = run(&lun, rw(i, false, bad[k].lba, bad[k].count, UINT32_MAX));
			assert_sense(&out, 0x05, 0x21, 0x00);
			out = run(&lun, rw(i, true, bad[k].lba, bad[k].count, UINT32_MAX));
			assert_sense(&out, 0x05, 0x21, 0x00);
		}
	}
	out = run(&lun, rw(3, false, UINT64_MAX, 1, 512));
	assert_sense(&out, 0x05, 0x21, 0x00);
	out = run(&lun, rw(3, false, UINT64_MAX - 3, UINT32_MAX, 512));
	assert_sense(&out, 0x05, 0x21, 0x00);
	out = run(&lun, rw(1, false, BLOCKS, 0, 0)); /* nothing at the end is legal */
	assert_good(&out);
}

static void a_transfer_is_no_longer_than_the_buffer_or_the_limit(void **state)
{
	struct scsi_lun lun = disk_of(512);
	struct scsi_answer out = run(&lun, rw(1, false, 0, 8, 4095));

	(void)state;
	assert_sense(&out, 0x05, 0x24, 0x00);
	out = run(&lun, rw(1, true, 0, 8, 4095));
	assert_sense(&out, 0x05, 0x24, 0x00);
	/* The buffer of the wrong direction does not count. */
	out = run(&lun, (struct scsi_command){.cdb = {0x28, [8] = 1}, .data_out_bytes = 512});
	assert_sense(&out, 0x05, 0x24, 0x00);
	out = run(&lun, rw(1, false, 0, TRANSFER_MAX / 512, TRANSFER_MAX));
	assert_io(&out, BLK_READ, 0, TRANSFER_MAX);
	out = run(&lun, rw(1, false, 0, TRANSFER_MAX / 512 + 1, UINT32_MAX));
	assert_sense(&out, 0x05, 0x24, 0x00);
	out = run(&lun, rw(0, false, 0, 0, UINT32_MAX)); /* 0 means 256 in the short form only */
	assert_io(&out, BLK_READ, 0, 256 * 512);
	out = run(&lun, rw(1, false, 0, 0, 0));
	assert_good(&out);
}

static void a_write_to_what_is_read_only_is_refused(void **state)
{
	struct scsi_lun lun = disk_of(512);
	struct scsi_lun drive = dvd();
	struct scsi_answer out;

	(void)state;
	lun.info.read_only = true;
	for (size_t i = 0; i < ARRAY_LEN(family); i++) {
		out = run(&lun, rw(i, true, 0, 1, 512));
		assert_sense(&out, 0x07, 0x27, 0x00);
		out = run(&drive, rw(i, true, 0, 1, 2048));
		assert_sense(&out, 0x07, 0x27, 0x00);
	}
	out = run(&lun, (struct scsi_command){.cdb = {0x42}});
	assert_sense(&out, 0x07, 0x27, 0x00);
	out = run(&lun, (struct scsi_command){.cdb = {0x93, 1, [13] = 1}});
	assert_sense(&out, 0x07, 0x27, 0x00);
}

static void flushes_of_any_range_flush_everything(void **state)
{
	struct scsi_lun lun = disk_of(512);

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct scsi_answer out = run(
			&lun, (struct scsi_command){.cdb = {i == 0 ? 0x35 : 0x91, 0, 0xff, 0xff}});

		assert_int_equal(out.next, SCSI_IO);
		assert_int_equal(out.op, BLK_FLUSH);
		assert_int_equal(out.extent_count, 0);
	}
}

static void verify_without_data_succeeds_and_with_data_does_not(void **state)
{
	struct scsi_lun lun = disk_of(512);
	struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {0x2f}});

	(void)state;
	assert_good(&out);
	out = run(&lun, (struct scsi_command){.cdb = {0x8f, 0x02}});
	assert_sense(&out, 0x05, 0x24, 0x00);
}

/* ---- UNMAP ---- */

struct unmap {
	uint8_t bytes[8 + 16 * 40];
	uint32_t len;
};

static void unmap_add(struct unmap *u, uint64_t lba, uint32_t count)
{
	if (u->len == 0) {
		u->len = 8;
	}
	for (unsigned i = 0; i < 8; i++) {
		u->bytes[u->len + i] = (uint8_t)(lba >> (56 - 8 * i));
	}
	for (unsigned i = 0; i < 4; i++) {
		u->bytes[u->len + 8 + i] = (uint8_t)(count >> (24 - 8 * i));
	}
	u->len += 16;
	put(u->bytes, 0, 2, u->len - 2);
	put(u->bytes, 2, 2, u->len - 8);
}

static struct scsi_answer unmap_run(struct scsi_lun *lun, const struct unmap *u, uint32_t bytes)
{
	struct scsi_command cmd = {
		.cdb = {0x42, [7] = (uint8_t)(bytes >> 8), [8] = (uint8_t)bytes},
		.data_out_bytes = bytes,
		.parameters = u->bytes,
	};

	assert_int_equal(scsi_parameters(&cmd), bytes);
	cmd.parameter_bytes = bytes;
	return run(lun, cmd);
}

static void unmap_discards_each_range_it_lists(void **state)
{
	struct scsi_lun lun = disk_of(512);
	struct unmap u = {.len = 0};
	struct scsi_answer out;

	(void)state;
	unmap_add(&u, 8, 16);
	unmap_add(&u, 100, 0); /* of nothing */
	unmap_add(&u, BLOCKS - 1, 1);
	out = unmap_run(&lun, &u, u.len);
	assert_int_equal(out.next, SCSI_IO);
	assert_int_equal(out.op, BLK_DISCARD);
	assert_int_equal(out.extent_count, 2);
	assert_int_equal(out.extents[0].offset_bytes, 8 * 512);
	assert_int_equal(out.extents[0].len_bytes, 16 * 512);
	assert_int_equal(out.extents[1].offset_bytes, (BLOCKS - 1ull) * 512);
}

static void unmap_takes_as_many_ranges_as_it_says(void **state)
{
	struct scsi_lun lun = disk_of(512);
	struct unmap u = {.len = 0};
	struct scsi_answer out;

	(void)state;
	for (uint32_t i = 0; i < SCSI_UNMAP_MAX; i++) {
		unmap_add(&u, i, 1);
	}
	out = unmap_run(&lun, &u, u.len);
	assert_int_equal(out.extent_count, SCSI_UNMAP_MAX);
	unmap_add(&u, SCSI_UNMAP_MAX, 1);
	out = unmap_run(&lun, &u, u.len);
	assert_sense(&out, 0x05, 0x26, 0x00);
}

static void unmap_refuses_lists_that_lie(void **state)
{
	struct scsi_lun lun = disk_of(512);
	struct unmap u = {.len = 0};
	struct scsi_answer out;

	(void)state;
	out = unmap_run(&lun, &u, 0);
	assert_good(&out);
	unmap_add(&u, 0, 1);
	unmap_add(&u, BLOCKS, 1); /* out of range, and nothing of the first is done */
	out = unmap_run(&lun, &u, u.len);
	assert_sense(&out, 0x05, 0x21, 0x00);
	for (uint32_t len = 1; len < u.len; len++) { /* every truncation */
		out = unmap_run(&lun, &u, len);
		assert_sense(&out, 0x05, 0x1a, 0x00);
	}
	/* The CDB says less than what was sent. */
	out = run(&lun, (struct scsi_command){.cdb = {0x42, [8] = 16},
	                                      .data_out_bytes = u.len,
	                                      .parameters = u.bytes,
	                                      .parameter_bytes = u.len});
	assert_sense(&out, 0x05, 0x1a, 0x00);
}

/* ---- WRITE SAME ---- */

static struct scsi_answer write_same(struct scsi_lun *lun, uint8_t flags, uint64_t lba,
                                     uint32_t count, const uint8_t *block, uint32_t bytes)
{
	struct scsi_command cmd = {
		.cdb = {0x93, flags},
		.data_out_bytes = bytes,
		.parameters = block,
	};

	put(cmd.cdb, 2, 8, lba);
	put(cmd.cdb, 10, 4, count);
	cmd.parameter_bytes = scsi_parameters(&cmd);
	return run(lun, cmd);
}

static void write_same_of_zeroes_zeroes(void **state)
{
	static const uint8_t zero[4096];

	(void)state;
	for (uint32_t unit = 512; unit <= 4096; unit *= 8) {
		struct scsi_lun lun = disk_of(unit);
		struct scsi_answer out = write_same(&lun, 0, 5, 7, zero, unit);

		assert_io(&out, BLK_ZERO, 5ull * unit, 7ull * unit);
		out = write_same(&lun, 0x08, 5, 7, zero, unit); /* with the unmap bit */
		assert_io(&out, BLK_ZERO, 5ull * unit, 7ull * unit);
		out = write_same(&lun, 0x01, 5, 7, NULL, 0); /* no data at all */
		assert_io(&out, BLK_ZERO, 5ull * unit, 7ull * unit);
		out = write_same(&lun, 0, BLOCKS - 9, 0, zero, unit); /* to the end */
		assert_io(&out, BLK_ZERO, (BLOCKS - 9ull) * unit, 9ull * unit);
		out = write_same(&lun, 0, BLOCKS - 9, 10, zero, unit);
		assert_sense(&out, 0x05, 0x21, 0x00);
	}
}

static void write_same_looks_at_every_byte_of_the_block(void **state)
{
	(void)state;
	for (uint32_t unit = 512; unit <= 4096; unit *= 8) {
		struct scsi_lun lun = disk_of(unit);

		for (uint32_t at = 0; at < unit; at++) {
			uint8_t block[4096] = {0};
			struct scsi_answer out;

			block[at] = 1;
			out = write_same(&lun, 0, 0, 1, block, unit);
			assert_sense(&out, 0x05, 0x26, 0x00);
		}
	}
}

static void write_same_takes_one_block_no_more_and_no_less(void **state)
{
	static const uint8_t zero[SCSI_PARAMETERS_MAX];
	struct scsi_lun lun = disk_of(512);
	static const uint32_t lengths[] = {0, 1, 511, 513, 1024, 4096, 4097, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct scsi_answer out = write_same(&lun, 0, 0, 1, zero, lengths[i]);

		assert_sense(&out, 0x05, 0x26, 0x00);
	}
}

/* ---- what a unit does with commands that it cannot, or not now ---- */

static void an_unknown_command_is_named_as_such(void **state)
{
	static const uint8_t unknown[] = {0x04, 0x15, 0x41, 0x55, 0x5e, 0x5f, 0x7f, 0xa3, 0xff};
	struct scsi_lun lun = disk_of(512);

	(void)state;
	for (size_t i = 0; i < sizeof(unknown); i++) {
		struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {unknown[i]}});

		assert_sense(&out, 0x05, 0x20, 0x00);
	}
}

static void drive_commands_are_unknown_to_disks_and_the_reverse(void **state)
{
	static const uint8_t drive_only[] = {0x43, 0x46, 0x4a, 0x51, 0xbd};
	static const uint8_t disk_only[] = {0x42, 0x93};
	struct scsi_lun lun = disk_of(512);
	struct scsi_lun drive = dvd();

	(void)state;
	for (size_t i = 0; i < sizeof(drive_only); i++) {
		struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {drive_only[i]}});

		assert_sense(&out, 0x05, 0x20, 0x00);
	}
	for (size_t i = 0; i < sizeof(disk_only); i++) {
		struct scsi_answer out = run(&drive, (struct scsi_command){.cdb = {disk_only[i]}});

		assert_sense(&out, 0x05, 0x20, 0x00);
	}
}

static void an_absent_unit_is_not_supported(void **state)
{
	struct scsi_answer out = run(NULL, (struct scsi_command){.cdb = {0x00}});

	(void)state;
	assert_sense(&out, 0x05, 0x25, 0x00);
}

static void a_unit_attention_is_reported_once_and_not_to_all(void **state)
{
	static const uint8_t exempt[] = {0x12, 0x03, 0x1a, 0x5a};
	struct scsi_lun lun = disk_of(512);
	struct scsi_answer out;

	(void)state;
	lun.attention_asc = 0x2a;
	lun.attention_ascq = 0x09;
	for (size_t i = 0; i < sizeof(exempt); i++) {
		out = run(&lun,
		          (struct scsi_command){.cdb = {exempt[i], [2] = exempt[i] != 0x12 ? 8 : 0},
		                                .data_in_bytes = 64});
		assert_good(&out);
	}
	out = run(&lun, rw(1, true, 0, 1, 512));
	assert_sense(&out, 0x06, 0x2a, 0x09);
	out = run(&lun, rw(1, true, 0, 1, 512));
	assert_io(&out, BLK_WRITE, 0, 512);
}

static void a_drive_without_a_medium_is_not_ready(void **state)
{
	static const uint8_t need[] = {0x00, 0x25, 0x28, 0x43, 0x51, 0x35};
	struct scsi_lun drive = dvd();

	(void)state;
	drive.medium = false;
	for (size_t i = 0; i < sizeof(need); i++) {
		struct scsi_answer out = run(&drive, (struct scsi_command){.cdb = {need[i]}});

		assert_sense(&out, 0x02, 0x3a, 0x00);
	}
}

static void a_guest_ejects_a_medium_unless_it_locked_it(void **state)
{
	struct scsi_lun drive = dvd();
	const struct scsi_command eject = {.cdb = {0x1b, [4] = 2}};
	struct scsi_answer out = run(&drive, (struct scsi_command){.cdb = {0x1e, [4] = 1}});

	(void)state;
	assert_good(&out);
	out = run(&drive, eject);
	assert_sense(&out, 0x05, 0x53, 0x02);
	assert_true(drive.medium);
	out = run(&drive, (struct scsi_command){.cdb = {0x1e}});
	assert_good(&out);
	out = run(&drive, (struct scsi_command){.cdb = {0x1b, [4] = 3}}); /* load */
	assert_good(&out);
	assert_true(drive.medium);
	out = run(&drive, eject);
	assert_good(&out);
	assert_false(drive.medium);
	out = run(&drive, eject); /* again */
	assert_good(&out);
}

static void a_disk_does_not_eject(void **state)
{
	struct scsi_lun lun = disk_of(512);
	struct scsi_answer out = run(&lun, (struct scsi_command){.cdb = {0x1b, [4] = 2}});

	(void)state;
	assert_good(&out);
	assert_true(lun.medium);
}

static void errors_of_the_disk_become_sense(void **state)
{
	static const struct {
		enum blk_op op;
		int result;
		uint8_t key, asc, ascq;
	} map[] = {
		{BLK_READ, -EIO, 0x03, 0x11, 0x00},     {BLK_WRITE, -EIO, 0x03, 0x0c, 0x00},
		{BLK_FLUSH, -EIO, 0x03, 0x0c, 0x00},    {BLK_WRITE, -ENOSPC, 0x07, 0x27, 0x07},
		{BLK_WRITE, -EROFS, 0x07, 0x27, 0x00},  {BLK_WRITE, -ESTALE, 0x0b, 0x00, 0x00},
		{BLK_READ, -EINVAL, 0x05, 0x21, 0x00},  {BLK_READ, -ECANCELED, 0x0b, 0x00, 0x00},
		{BLK_ZERO, -ENOTSUP, 0x03, 0x0c, 0x00},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(map); i++) {
		struct scsi_answer out = {.next = SCSI_IO, .op = map[i].op};

		scsi_io_result(map[i].op, map[i].result, &out);
		assert_sense(&out, map[i].key, map[i].asc, map[i].ascq);
	}

	struct scsi_answer out = {.next = SCSI_IO, .status = SCSI_CHECK_CONDITION};

	scsi_io_result(BLK_READ, 0, &out);
	assert_good(&out);
}

/* Every opcode with every second byte and random rest: no range leaves the unit or the buffer. */
static void no_command_reaches_outside_the_unit_or_the_buffer(void **state)
{
	uint32_t seed = 3;

	(void)state;
	for (uint32_t i = 0; i < 256 * 256 * 2; i++) {
		struct scsi_lun lun = i % 2 == 0 ? disk_of(i % 4 == 0 ? 512 : 4096) : dvd();
		uint8_t parameters[SCSI_PARAMETERS_MAX] = {0};
		struct scsi_command cmd = {
			.cdb = {(uint8_t)(i >> 1), (uint8_t)(i >> 9)},
			.data_in_bytes = i % 3 * 40000,
			.data_out_bytes = i % 5 * 20000,
			.parameters = parameters,
		};

		for (size_t k = 2; k < sizeof(cmd.cdb); k++) {
			seed = seed * 1664525u + 1013904223u;
			cmd.cdb[k] = (seed >> 28) < 12 ? 0 : (uint8_t)(seed >> 16);
		}
		for (size_t k = 0; k < 200; k++) {
			seed = seed * 1664525u + 1013904223u;
			parameters[k] = (seed >> 28) < 12 ? 0 : (uint8_t)(seed >> 16);
		}
		cmd.parameter_bytes = scsi_parameters(&cmd);
		assert_true(cmd.parameter_bytes <= sizeof(parameters));

		struct scsi_answer out = run(&lun, cmd);

		assert_true(out.data_bytes <= cmd.data_in_bytes &&
		            out.data_bytes <= sizeof(out.data));
		if (out.next == SCSI_IO) {
			assert_true(out.extent_count <= SCSI_UNMAP_MAX);
			for (uint32_t e = 0; e < out.extent_count; e++) {
				const struct scsi_extent *x = &out.extents[e];

				assert_true(x->len_bytes != 0);
				assert_true(x->offset_bytes <= lun.info.size_bytes &&
				            x->len_bytes <= lun.info.size_bytes - x->offset_bytes);
			}
			if (out.op == BLK_READ) {
				assert_true(out.extents[0].len_bytes <= cmd.data_in_bytes);
			}
			if (out.op == BLK_WRITE) {
				assert_true(out.extents[0].len_bytes <= cmd.data_out_bytes);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_of_each_length_name_their_range),
		cmocka_unit_test(forced_unit_access_is_a_flag_of_writes),
		cmocka_unit_test(a_range_that_is_not_all_on_the_disk_is_refused),
		cmocka_unit_test(a_transfer_is_no_longer_than_the_buffer_or_the_limit),
		cmocka_unit_test(a_write_to_what_is_read_only_is_refused),
		cmocka_unit_test(flushes_of_any_range_flush_everything),
		cmocka_unit_test(verify_without_data_succeeds_and_with_data_does_not),
		cmocka_unit_test(unmap_discards_each_range_it_lists),
		cmocka_unit_test(unmap_takes_as_many_ranges_as_it_says),
		cmocka_unit_test(unmap_refuses_lists_that_lie),
		cmocka_unit_test(write_same_of_zeroes_zeroes),
		cmocka_unit_test(write_same_looks_at_every_byte_of_the_block),
		cmocka_unit_test(write_same_takes_one_block_no_more_and_no_less),
		cmocka_unit_test(an_unknown_command_is_named_as_such),
		cmocka_unit_test(drive_commands_are_unknown_to_disks_and_the_reverse),
		cmocka_unit_test(an_absent_unit_is_not_supported),
		cmocka_unit_test(a_unit_attention_is_reported_once_and_not_to_all),
		cmocka_unit_test(a_drive_without_a_medium_is_not_ready),
		cmocka_unit_test(a_guest_ejects_a_medium_unless_it_locked_it),
		cmocka_unit_test(a_disk_does_not_eject),
		cmocka_unit_test(errors_of_the_disk_become_sense),
		cmocka_unit_test(no_command_reaches_outside_the_unit_or_the_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
