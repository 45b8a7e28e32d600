/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/uring.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/vhdx/disk.h"
#include "tests/unit/hv/vhdx/workload.h"

static void a_new_disk_reads_as_zero_and_takes_no_space(void **state)
{
	struct disk d;
	struct vhdx_stat stat;
	uint8_t buf[4096];

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DYNAMIC});
	disk_open(&d);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(blk_sync_read(d.blk, 3 * DISK_MIB + 512, buf, sizeof(buf)), 0);
	for (size_t i = 0; i < sizeof(buf); i++) {
		assert_int_equal(buf[i], 0);
	}
	vhdx_stat(d.blk, &stat);
	assert_int_equal(stat.present_count, 0);
	assert_int_equal(stat.size_bytes, DISK_BYTES);
	disk_close(&d);
	assert_int_equal(fake_disk_size(d.file), 4 * DISK_MIB);
	assert_int_equal(fake_disk_count(d.file, BLK_WRITE), d.writes_before); /* reading only */
	disk_destroy(&d);
}

static void sequential_writes_allocate_in_order_with_one_commit(void **state)
{
	struct disk d;
	struct vhdx_stat stat;
	static uint8_t buf[64 << 10];

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DYNAMIC});
	disk_open(&d);
	for (uint64_t at = 0; at < 4 * DISK_MIB; at += sizeof(buf)) {
		memset(buf, (int)(at >> 16) + 1, sizeof(buf));
		assert_int_equal(blk_sync_write(d.blk, at, buf, sizeof(buf)), 0);
	}
	assert_int_equal(blk_sync_flush(d.blk), 0);
	vhdx_stat(d.blk, &stat);
	assert_int_equal(stat.present_count, 4);
	assert_int_equal(stat.commits, 1);
	/* Header, log entry, one page of the BAT: and what the data takes. */
	disk_close(&d);
	assert_int_equal(fake_disk_size(d.file), 8 * DISK_MIB);
	assert_int_equal(fake_disk_data(d.file)[4 * DISK_MIB], 1);
	assert_int_equal(fake_disk_data(d.file)[8 * DISK_MIB - 1], 64);
	disk_destroy(&d);
}

static void trimmed_blocks_give_their_space_back(void **state)
{
	struct disk d;
	struct vhdx_stat stat;
	static uint8_t buf[1 << 20];

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DYNAMIC});
	disk_open(&d);
	memset(buf, 7, sizeof(buf));
	for (uint64_t at = 0; at < 4 * DISK_MIB; at += sizeof(buf)) {
		assert_int_equal(blk_sync_write(d.blk, at, buf, sizeof(buf)), 0);
	}
	assert_int_equal(blk_sync_flush(d.blk), 0);
	assert_int_equal(blk_sync_discard(d.blk, DISK_MIB, 2 * DISK_MIB), 0);
	assert_int_equal(blk_sync_zero(d.blk, 3 * DISK_MIB, DISK_MIB), 0);
	vhdx_stat(d.blk, &stat);
	assert_int_equal(stat.present_count, 1);
	assert_int_equal(blk_sync_flush(d.blk), 0);
	assert_int_equal(blk_sync_read(d.blk, DISK_MIB, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0] | buf[sizeof(buf) - 1], 0);
	/* New blocks go where the old ones were, and the rest of them is zero. */
	memset(buf, 9, sizeof(buf));
	assert_int_equal(blk_sync_write(d.blk, 5 * DISK_MIB + 4096, buf, 512), 0);
	assert_int_equal(blk_sync_read(d.blk, 5 * DISK_MIB, buf, sizeof(buf)), 0);
	for (size_t i = 0; i < sizeof(buf); i++) {
		assert_int_equal(buf[i], i >= 4096 && i < 4608 ? 9 : 0);
	}
	disk_close(&d);
	assert_true(fake_disk_size(d.file) <= 8 * DISK_MIB);
	disk_open(&d);
	vhdx_stat(d.blk, &stat);
	assert_int_equal(stat.present_count, 2);
	disk_close(&d);
	disk_destroy(&d);
}

/* Many requests at a time in random order, every result compared with the model. */
static void random_requests(const struct disk_cfg *cfg, uint64_t seed)
{
	struct disk d;
	struct workload w;

	disk_create(&d, cfg);
	workload_init(&w, DISK_BYTES, d.cfg.logical_bytes, DISK_MIB, seed);
	if (cfg->kind == VHDX_DIFFERENCING) {
		workload_inherit(&w, &d.parent_model);
	}
	for (int round = 0; round < 2; round++) {
		disk_open(&d);
		assert_int_equal(workload_run(&w, d.blk, 500, WORKLOAD_DEPTH), 0);
		disk_close(&d);
		workload_settle(&w);
		disk_open_read_only(&d);
		workload_verify(&w, d.blk);
		disk_close(&d);
	}
	workload_fini(&w);
	disk_destroy(&d);
}

static void random_requests_agree_with_the_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		for (enum vhdx_kind kind = VHDX_FIXED; kind <= VHDX_DIFFERENCING; kind++) {
			random_requests(&(struct disk_cfg){.kind = kind,
			                                   .order = FAKE_DISK_SHUFFLE,
			                                   .discard = FAKE_DISK_DISCARD_GARBAGE,
			                                   .seed = seed},
			                seed);
			random_requests(&(struct disk_cfg){.kind = kind,
			                                   .logical_bytes = 4096,
			                                   .order = FAKE_DISK_SHUFFLE,
			                                   .seed = seed},
			                seed + 100);
		}
	}
}

static void a_full_file_system_fails_writes_and_nothing_else(void **state)
{
	struct disk d;
	static uint8_t buf[1 << 20];

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DYNAMIC});
	disk_open(&d);
	memset(buf, 7, sizeof(buf));
	assert_int_equal(blk_sync_write(d.blk, 0, buf, sizeof(buf)), 0);
	fake_disk_fail(d.file,
	               &(struct fake_disk_failure){1u << BLK_RESIZE, 1, UINT32_MAX, -ENOSPC});
	for (uint64_t at = DISK_MIB; at < DISK_BYTES - DISK_MIB; at += DISK_MIB) {
		int err = blk_sync_write(d.blk, at, buf, sizeof(buf));

		assert_true(err == 0 || err == -ENOSPC); /* there is some room grown ahead */
	}
	assert_int_equal(blk_sync_flush(d.blk), 0);
	assert_int_equal(blk_sync_read(d.blk, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[77], 7);
	fake_disk_fail(d.file, NULL);
	assert_int_equal(blk_sync_write(d.blk, 5 * DISK_MIB, buf, sizeof(buf)), 0);
	disk_close(&d);
	disk_destroy(&d);
}

static void failed_metadata_stops_writing_but_not_reading(void **state)
{
	struct disk d;
	struct vhdx_stat stat;
	struct errbuf eb = {.text = ""};
	uint8_t buf[4096];

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DYNAMIC});
	disk_open(&d);
	memset(buf, 7, sizeof(buf));
	assert_int_equal(blk_sync_write(d.blk, 0, buf, sizeof(buf)), 0);
	fake_disk_fail(d.file, &(struct fake_disk_failure){1u << BLK_FLUSH, 1, 1, -EIO});
	assert_int_equal(blk_sync_flush(d.blk), -EIO);
	assert_int_equal(blk_sync_write(d.blk, 0, buf, sizeof(buf)), -EIO);
	assert_int_equal(blk_sync_flush(d.blk), -EIO);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(blk_sync_read(d.blk, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 7);
	vhdx_stat(d.blk, &stat);
	assert_int_equal(stat.failed, -EIO);
	assert_int_equal(blk_close(d.blk, &eb), -EIO);
	assert_non_null(strstr(eb.text, "metadata could not be written"));
	disk_destroy(&d);
}

/* A driver that keeps one request back, on its way to the file. */
struct gate {
	struct blk blk;
	struct blk *file;
	bool closed; /* the next request of this kind stays here */
	enum blk_op kind;
	struct blk_req *held;
	struct blk_req lower;
};

static void gate_done(struct blk_req *lower, int result)
{
	struct blk_req *req = lower->arg;
	struct gate *g = (struct gate *)(uintptr_t)req->priv[0];

	free(lower);
	blk_complete(&g->blk, req, result);
}

static void gate_pass(struct gate *g, struct blk_req *req)
{
	struct blk_req *lower = malloc(sizeof(*lower));

	assert_non_null(lower);
	req->priv[0] = (uintptr_t)g;
	*lower = (struct blk_req){.op = req->op,
	                          .flags = req->flags,
	                          .offset_bytes = req->offset_bytes,
	                          .len_bytes = req->len_bytes,
	                          .iov = req->iov,
	                          .iov_count = req->iov_count,
	                          .done = gate_done,
	                          .arg = req};
	blk_submit(g->file, lower);
}

static void gate_submit(struct blk *blk, struct blk_req *req)
{
	struct gate *g = container_of(blk, struct gate, blk);

	if (g->closed && req->op == g->kind) {
		g->closed = false;
		g->held = req;
		return;
	}
	gate_pass(g, req);
}

static void gate_info(const struct blk *blk, struct blk_info *out)
{
	blk_get_info(((const struct gate *)(const void *)blk)->file, out);
}

static int gate_close(struct blk *blk, struct errbuf *eb)
{
	return blk_close(container_of(blk, struct gate, blk)->file, eb);
}

static const struct blk_ops gate_ops = {
	.name = "gate", .submit = gate_submit, .info = gate_info, .close = gate_close};

static void late_done(struct blk_req *req, int result)
{
	*(int *)req->arg = result;
}

static void storage_is_not_reused_while_a_request_is_on_its_way_there(void **state)
{
	struct disk d;
	struct gate g = {.kind = BLK_WRITE};
	struct vhdx_cfg cfg;
	static uint8_t old[4096];
	static uint8_t new[1 << 20];
	static uint8_t back[1 << 20];
	const struct iovec iov = {.iov_base = old, .iov_len = sizeof(old)};
	int result = 1;
	struct blk_req late = {.op = BLK_WRITE,
	                       .len_bytes = sizeof(old),
	                       .iov = &iov,
	                       .iov_count = 1,
	                       .done = late_done,
	                       .arg = &result};

	(void)state;
	memset(old, 0x11, sizeof(old));
	memset(new, 0x22, sizeof(new));
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DYNAMIC});
	g.file = fake_disk_blk(d.file);
	blk_init(&g.blk, &gate_ops, d.ring);
	cfg = (struct vhdx_cfg){.file = &g.blk};
	assert_int_equal(vhdx_open(&cfg, &d.blk, NULL), 0);
	assert_int_equal(blk_sync_write(d.blk, 0, old, sizeof(old)), 0);
	assert_int_equal(blk_sync_flush(d.blk), 0);
	g.closed = true;
	blk_submit(d.blk, &late); /* on its way to the storage of block 0, and stays there */
	assert_non_null(g.held);
	assert_int_equal(blk_sync_discard(d.blk, 0, DISK_MIB), 0);
	assert_int_equal(blk_sync_flush(d.blk), 0);
	assert_int_equal(blk_sync_flush(d.blk), 0);
	assert_int_equal(blk_sync_write(d.blk, DISK_MIB, new, sizeof(new)), 0);
	gate_pass(&g, g.held);
	while (result == 1) {
		assert_true(uring_wait(d.ring, UINT64_MAX) >= 0);
	}
	assert_int_equal(result, 0);
	assert_int_equal(blk_sync_read(d.blk, DISK_MIB, back, sizeof(back)), 0);
	assert_memory_equal(back, new, sizeof(back));
	/* Once it is over, the storage can be had again. */
	assert_int_equal(blk_sync_flush(d.blk), 0);
	assert_int_equal(blk_sync_write(d.blk, 2 * DISK_MIB, new, sizeof(new)), 0);
	disk_close(&d);
	assert_int_equal(fake_disk_size(d.file), 6 * DISK_MIB);
	disk_destroy(&d);
}

/* Block 0 is being allocated for a write while all of it is zeroed. */
static void a_block_on_its_way_into_the_table_is_not_passed_by(void **state)
{
	struct disk d;
	struct gate g = {.kind = BLK_RESIZE};
	struct vhdx_cfg cfg;
	static uint8_t buf[4096];
	const struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
	int written = 1;
	int zeroed = 1;
	struct blk_req write = {.op = BLK_WRITE,
	                        .len_bytes = sizeof(buf),
	                        .iov = &iov,
	                        .iov_count = 1,
	                        .done = late_done,
	                        .arg = &written};
	struct blk_req zero = {
		.op = BLK_ZERO, .len_bytes = DISK_MIB, .done = late_done, .arg = &zeroed};
	uint64_t sector = 8;

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DIFFERENCING});
	while (d.parent_model.sector[sector].version[0].stamp == 0) {
		sector++;
	}
	assert_true(sector < DISK_MIB / 512); /* the parent has something in block 0 */
	g.file = fake_disk_blk(d.file);
	blk_init(&g.blk, &gate_ops, d.ring);
	cfg = (struct vhdx_cfg){.file = &g.blk, .parent = disk_parent(&d)};
	assert_int_equal(vhdx_open(&cfg, &d.blk, NULL), 0);
	/* The file grew once, for the sector bitmap and two blocks: the next one needs more. */
	assert_int_equal(blk_sync_write(d.blk, DISK_MIB, buf, sizeof(buf)), 0);
	assert_int_equal(blk_sync_write(d.blk, 2 * DISK_MIB, buf, sizeof(buf)), 0);
	g.closed = true;
	blk_submit(d.blk, &write);
	assert_non_null(g.held);
	blk_submit(d.blk, &zero);
	assert_int_equal(blk_sync_read(d.blk, DISK_MIB, buf, sizeof(buf)), 0); /* others go on */
	gate_pass(&g, g.held);
	while (written == 1 || zeroed == 1) {
		assert_true(uring_wait(d.ring, UINT64_MAX) >= 0);
	}
	assert_int_equal(written | zeroed, 0);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(blk_sync_read(d.blk, sector * 512, buf, 512), 0);
	for (size_t i = 0; i < 512; i++) {
		assert_int_equal(buf[i], 0);
	}
	disk_close(&d);
	disk_destroy(&d);
}

static void each_failing_allocation_of_open_is_reported(void **state)
{
	struct disk d;
	uint32_t k = 1;

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DIFFERENCING});
	for (;; k++) {
		const struct vhdx_cfg cfg = {.file = fake_disk_blk(d.file),
		                             .parent = disk_parent(&d)};
		struct errbuf eb = {.text = ""};
		int err;

		fault_arm(FAULT_ALLOC, k);
		err = vhdx_open(&cfg, &d.blk, &eb);
		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_null(d.blk);
		assert_non_null(strstr(eb.text, "vhdx"));
		assert_int_equal(blk_close(cfg.parent, NULL), 0);
	}
	assert_true(k > 8);
	disk_close(&d);
	disk_destroy(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_disk_reads_as_zero_and_takes_no_space),
		cmocka_unit_test(sequential_writes_allocate_in_order_with_one_commit),
		cmocka_unit_test(trimmed_blocks_give_their_space_back),
		cmocka_unit_test(random_requests_agree_with_the_model),
		cmocka_unit_test(a_full_file_system_fails_writes_and_nothing_else),
		cmocka_unit_test(failed_metadata_stops_writing_but_not_reading),
		cmocka_unit_test(storage_is_not_reused_while_a_request_is_on_its_way_there),
		cmocka_unit_test(a_block_on_its_way_into_the_table_is_not_passed_by),
		cmocka_unit_test(each_failing_allocation_of_open_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
