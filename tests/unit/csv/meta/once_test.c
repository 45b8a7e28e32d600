/* SPDX-License-Identifier: Apache-2.0 */

/* Requests that are repeated: to the same coordinator, and to the next one after a crash. */
#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "csv/meta/csv_meta.h"
#include "tests/lib/test.h"
#include "tests/sim/csv/sim_disk.h"

#define VOLUME_BYTES (64ull << 20)

struct volume {
	struct sim_disk *disk;
	struct csv_super super;
	struct csv_meta *meta;
	uint64_t root;
};

static int emit(void *arg, uint64_t block, const void *buf)
{
	sim_disk_put(arg, block, buf);
	return 0;
}

static bool tick(struct volume *v)
{
	struct csv_io io;
	uint32_t id;

	while (csv_meta_next_io(v->meta, &io)) {
		sim_disk_start(v->disk, &io);
	}
	if (!sim_disk_step(v->disk, &id)) {
		return false;
	}
	csv_meta_io_done(v->meta, id, 0);
	return true;
}

static void open_volume(struct volume *v)
{
	const struct csv_meta_cfg cfg = {.super = &v->super, .quiet = true};

	assert_int_equal(csv_meta_create(&cfg, &v->meta, NULL), 0);
	while (csv_meta_status(v->meta, NULL) == -EINPROGRESS) {
		(void)tick(v);
	}
	assert_int_equal(csv_meta_status(v->meta, NULL), 0);
	csv_meta_reap(v->meta);
}

static void crash(struct volume *v)
{
	sim_disk_crash(v->disk, false);
	csv_meta_destroy(v->meta);
	v->meta = NULL;
}

static void make(struct volume *v, uint64_t seed)
{
	const struct csv_layout_cfg cfg = {.size_bytes = VOLUME_BYTES};

	memset(v, 0, sizeof(*v));
	v->super = (struct csv_super){.term = 1, .volume = {{9}}, .label = "once"};
	assert_int_equal(csv_layout_make(&cfg, &v->super.layout, NULL), 0);
	v->root = csv_layout_root(&v->super.layout);
	v->disk = sim_disk_create(v->super.layout.size, seed);
	assert_int_equal(csv_meta_format(&v->super, 0, emit, v->disk), 0);
	open_volume(v);
}

static void unmake(struct volume *v)
{
	csv_meta_destroy(v->meta);
	sim_disk_destroy(v->disk);
}

/* Until it is answered, or @budget requests to the disk were done. Returns true if it was. */
static bool run(struct volume *v, struct csv_op *op, uint32_t budget)
{
	csv_meta_submit(v->meta, op);
	while (budget-- != 0) {
		bool more = tick(v);

		if (csv_meta_completed(v->meta) == op) {
			return true;
		}
		if (!more) {
			return false;
		}
	}
	return false;
}

static struct csv_op create(struct volume *v, const char *name, uint64_t request)
{
	return (struct csv_op){
		.type = CSV_OP_CREATE,
		.dir = v->root,
		.name = name,
		.name_len = (uint32_t)strlen(name),
		.mode = 0600,
		.now_ns = 1,
		.client_node = 3,
		.client_incarnation = 7,
		.client_request = request,
	};
}

static int ask(struct volume *v, struct csv_op *op)
{
	assert_true(run(v, op, UINT32_MAX));
	return op->result;
}

static void a_repeated_request_does_nothing_and_succeeds(void **state)
{
	struct volume v;

	(void)state;
	make(&v, 1);

	struct csv_op op = create(&v, "a", 1);

	assert_int_equal(ask(&v, &op), 0);
	assert_false(op.repeated);

	uint64_t ino = op.attr.ino;

	op = create(&v, "a", 1);
	assert_int_equal(ask(&v, &op), 0);
	assert_true(op.repeated);
	assert_true(op.attr.ino == ino);
	op = create(&v, "a", 2); /* a new one fails, and is not done */
	assert_int_equal(ask(&v, &op), -EEXIST);
	op = create(&v, "b", 2);
	assert_int_equal(ask(&v, &op), 0);
	assert_false(op.repeated);

	/* After the next opening. */
	crash(&v);
	open_volume(&v);
	op = create(&v, "a", 1);
	assert_int_equal(ask(&v, &op), 0);
	assert_true(op.repeated && op.attr.ino == ino);
	op.type = CSV_OP_UNLINK;
	op.client_request = 3;
	assert_int_equal(ask(&v, &op), 0);
	assert_int_equal(ask(&v, &op), 0);
	assert_true(op.repeated);
	op = create(&v, "a", 1); /* it was made, and is gone */
	assert_int_equal(ask(&v, &op), -ESTALE);
	unmake(&v);
}

static void numbers_may_be_out_of_order_within_a_window(void **state)
{
	struct volume v;
	struct csv_op op;

	(void)state;
	make(&v, 1);
	op = create(&v, "a", 100);
	assert_int_equal(ask(&v, &op), 0);
	op = create(&v, "b", 37);
	assert_int_equal(ask(&v, &op), 0);
	assert_false(op.repeated);
	op = create(&v, "b", 37);
	assert_int_equal(ask(&v, &op), 0);
	assert_true(op.repeated);
	op = create(&v, "c", 36);
	assert_int_equal(ask(&v, &op), -ESTALE);
	op = create(&v, "c", 164); /* the whole window moves */
	assert_int_equal(ask(&v, &op), 0);
	op = create(&v, "a", 100);
	assert_int_equal(ask(&v, &op), -ESTALE);
	op = create(&v, "d", 163);
	assert_int_equal(ask(&v, &op), 0);
	assert_false(op.repeated);

	/* The next run of the node starts anew; the one before is over. */
	op = create(&v, "e", 1);
	op.client_incarnation = 8;
	assert_int_equal(ask(&v, &op), 0);
	assert_false(op.repeated);
	op = create(&v, "f", 165);
	assert_int_equal(ask(&v, &op), -ESTALE);
	op = create(&v, "f", 1);
	op.client_node = 64;
	assert_int_equal(ask(&v, &op), -EINVAL);
	op.client_node = 4; /* another node's numbers are its own */
	assert_int_equal(ask(&v, &op), 0);
	assert_false(op.repeated);
	unmake(&v);
}

/* Renaming forth and back: done twice it would show. */
static void after_every_crash_it_is_done_once(void **state)
{
	struct volume v;
	uint32_t before = 0;
	uint32_t after = 0;

	(void)state;
	make(&v, 5);

	struct csv_op op = create(&v, "0", 1);

	assert_int_equal(ask(&v, &op), 0);
	for (uint64_t i = 0; i < 60; i++) {
		const char *from = i % 2 == 0 ? "0" : "1";

		op = create(&v, from, i + 2);
		op.type = CSV_OP_RENAME;
		op.dir2 = v.root;
		op.name2 = i % 2 == 0 ? "1" : "0";
		op.name2_len = 1;
		(void)run(&v, &op, (uint32_t)i % 12);
		crash(&v);
		open_volume(&v);
		assert_int_equal(ask(&v, &op), 0);
		before += op.repeated;
		after += !op.repeated;

		struct csv_op look = create(&v, from, 0);

		look.type = CSV_OP_LOOKUP;
		assert_int_equal(ask(&v, &look), -ENOENT);
		look.name = op.name2;
		assert_int_equal(ask(&v, &look), 0);
	}
	assert_true(before > 5 && after > 5); /* both happened */
	unmake(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repeated_request_does_nothing_and_succeeds),
		cmocka_unit_test(numbers_may_be_out_of_order_within_a_window),
		cmocka_unit_test(after_every_crash_it_is_done_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
