/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/meta/csv_meta.h"
#include "tests/lib/test.h"
#include "tests/sim/csv/sim_disk.h"

#define VOLUME_BYTES (256ull << 20)

struct volume {
	struct sim_disk *disk;
	struct csv_super super;
	struct csv_meta *meta;
	uint64_t root;
	int fail_writes; /* result of every write */
	bool write[CSV_META_IO_MAX];
};

static int emit(void *arg, uint64_t block, const void *buf)
{
	sim_disk_put(arg, block, buf);
	return 0;
}

static void make(struct volume *v)
{
	const struct csv_layout_cfg cfg = {.size_bytes = VOLUME_BYTES};

	memset(v, 0, sizeof(*v));
	v->super = (struct csv_super){.term = 1, .volume = {{7}}, .label = "unit"};
	assert_int_equal(csv_layout_make(&cfg, &v->super.layout, NULL), 0);
	v->root = csv_layout_root(&v->super.layout);
	v->disk = sim_disk_create(v->super.layout.size, 1);
	assert_int_equal(csv_meta_format(&v->super, 0, emit, v->disk), 0);
}

static void unmake(struct volume *v)
{
	csv_meta_destroy(v->meta);
	sim_disk_destroy(v->disk);
}

static bool tick(struct volume *v)
{
	struct csv_io io;

	uint32_t id;

	while (csv_meta_next_io(v->meta, &io)) {
		sim_disk_start(v->disk, &io);
		v->write[io.id] = io.op == CSV_IO_WRITE;
	}
	if (!sim_disk_step(v->disk, &id)) {
		return false;
	}
	csv_meta_io_done(v->meta, id, v->write[id] ? v->fail_writes : 0);
	return true;
}

static int open_cfg(struct volume *v, const struct csv_meta_cfg *cfg, struct errbuf *eb)
{
	int err = csv_meta_create(cfg, &v->meta, eb);

	while (err == 0 && (err = csv_meta_status(v->meta, eb)) == -EINPROGRESS) {
		(void)tick(v);
		err = 0;
	}
	return err;
}

static void open_volume(struct volume *v)
{
	const struct csv_meta_cfg cfg = {.super = &v->super, .quiet = true};
	struct errbuf eb = {0};
	int err = open_cfg(v, &cfg, &eb);

	assert_string_equal(eb.text, "");
	assert_int_equal(err, 0);
	csv_meta_reap(v->meta);
}

static void settle(struct volume *v)
{
	while (tick(v)) {
	}
	assert_true(csv_meta_idle(v->meta));
}

static void close_volume(struct volume *v)
{
	csv_meta_close(v->meta);
	while (csv_meta_status(v->meta, NULL) == -EINPROGRESS) {
		(void)tick(v);
	}
	assert_int_equal(csv_meta_status(v->meta, NULL), -ESHUTDOWN);
	csv_meta_destroy(v->meta);
	v->meta = NULL;
}

static int run(struct volume *v, struct csv_op *op)
{
	csv_meta_submit(v->meta, op);
	for (;;) {
		bool more = tick(v);

		if (csv_meta_completed(v->meta) == op) {
			return op->result;
		}
		assert_true(more);
	}
}

/* An operation on a name. */
static int named(struct volume *v, enum csv_op_type type, uint64_t dir, const char *name,
                 struct csv_attr *attr)
{
	struct csv_op op = {.type = type,
	                    .dir = dir,
	                    .name = name,
	                    .name_len = (uint32_t)strlen(name),
	                    .mode = 0644};
	int err = run(v, &op);

	if (attr != NULL && err == 0) {
		*attr = op.attr;
	}
	return err;
}

static int renamed(struct volume *v, const struct csv_op *names)
{
	struct csv_op op = *names;

	op.type = CSV_OP_RENAME;
	op.name_len = (uint32_t)strlen(op.name);
	op.name2_len = (uint32_t)strlen(op.name2);
	return run(v, &op);
}

/* An operation on a range of a file; all of it must be done. */
static int ranged(struct volume *v, enum csv_op_type type, const struct csv_attr *file,
                  uint64_t block, uint64_t count)
{
	uint64_t end = block + count;

	while (block < end) {
		struct csv_op op = {.type = type,
		                    .ino = file->ino,
		                    .generation = file->generation,
		                    .block = block,
		                    .count = end - block};
		int err = run(v, &op);

		if (err != 0) {
			return err;
		}
		assert_true(op.count != 0 && op.count <= end - block);
		block += op.count;
	}
	return 0;
}

static struct csv_stat stat_of(struct volume *v)
{
	struct csv_op op = {.type = CSV_OP_STATFS};

	settle(v);
	assert_int_equal(run(v, &op), 0);
	return op.stat;
}

static void same_stat(const struct csv_stat *a, const struct csv_stat *b)
{
	assert_int_equal(a->free_units, b->free_units);
	assert_int_equal(a->reserved_units, b->reserved_units);
	assert_int_equal(a->pool_free, b->pool_free);
	assert_int_equal(a->files, b->files);
	assert_int_equal(a->directories, b->directories);
	assert_int_equal(a->pending, b->pending);
}

static void names_behave_as_on_any_file_system(void **state)
{
	struct volume v;
	struct csv_attr a = {0};
	struct csv_attr d = {0};
	struct csv_attr e = {0};
	char longest[300];

	(void)state;
	make(&v);
	open_volume(&v);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "disk.vhdx", &a), 0);
	assert_int_equal(a.kind, CSV_KIND_FILE);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "disk.vhdx", NULL), -EEXIST);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "Disk.vhdx", NULL), 0);
	assert_int_equal(named(&v, CSV_OP_MKDIR, v.root, "web", &d), 0);
	assert_int_equal(named(&v, CSV_OP_MKDIR, d.ino, "deep", &e), 0);
	assert_int_equal(named(&v, CSV_OP_CREATE, a.ino, "x", NULL), -ENOTDIR);
	assert_int_equal(named(&v, CSV_OP_LOOKUP, v.root, "nobody", NULL), -ENOENT);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "a/b", NULL), -EINVAL);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "..", NULL), -EINVAL);
	memset(longest, 'n', sizeof(longest));
	longest[299] = '\0';
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, longest, NULL), -ENAMETOOLONG);
	longest[255] = '\0';
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, longest, NULL), 0);
	assert_int_equal(named(&v, CSV_OP_UNLINK, v.root, "web", NULL), -EISDIR);
	assert_int_equal(named(&v, CSV_OP_RMDIR, v.root, "disk.vhdx", NULL), -ENOTDIR);
	assert_int_equal(named(&v, CSV_OP_RMDIR, v.root, "web", NULL), -ENOTEMPTY);

	assert_int_equal(renamed(&v, &(struct csv_op){.dir = v.root,
	                                              .name = "web",
	                                              .dir2 = e.ino,
	                                              .name2 = "loop"}),
	                 -EINVAL);
	assert_int_equal(renamed(&v, &(struct csv_op){.dir = v.root,
	                                              .name = "disk.vhdx",
	                                              .dir2 = v.root,
	                                              .name2 = "Disk.vhdx",
	                                              .no_replace = true}),
	                 -EEXIST);
	assert_int_equal(renamed(&v, &(struct csv_op){.dir = v.root,
	                                              .name = "disk.vhdx",
	                                              .dir2 = v.root,
	                                              .name2 = "web"}),
	                 -EISDIR);
	assert_int_equal(renamed(&v, &(struct csv_op){.dir = v.root,
	                                              .name = "web",
	                                              .dir2 = v.root,
	                                              .name2 = "disk.vhdx"}),
	                 -ENOTDIR);
	assert_int_equal(renamed(&v, &(struct csv_op){.dir = v.root,
	                                              .name = "disk.vhdx",
	                                              .dir2 = e.ino,
	                                              .name2 = "moved"}),
	                 0);
	assert_int_equal(named(&v, CSV_OP_LOOKUP, v.root, "disk.vhdx", NULL), -ENOENT);
	assert_int_equal(named(&v, CSV_OP_LOOKUP, e.ino, "moved", &d), 0);
	assert_int_equal(d.ino, a.ino);
	assert_int_equal(d.parent, e.ino);
	unmake(&v);
}

#define MANY 1500u

static void thousands_of_names_are_found_listed_and_removed(void **state)
{
	static struct csv_name names[100];
	struct volume v;
	struct csv_stat before;
	struct csv_stat after;
	uint32_t listed = 0;
	struct csv_op list = {.type = CSV_OP_LIST, .names = names, .names_max = 100};

	(void)state;
	make(&v);
	open_volume(&v);
	before = stat_of(&v);
	for (uint32_t pass = 0; pass < 3; pass++) {
		for (uint32_t i = 0; i < MANY / 2; i++) {
			char name[32];
			enum csv_op_type type = pass == 0   ? CSV_OP_CREATE
			                        : pass == 1 ? CSV_OP_LOOKUP
			                                    : CSV_OP_UNLINK;

			(void)snprintf(name, sizeof(name), "machine-%u.vhdx", i * 7919 % MANY);
			assert_int_equal(named(&v, type, v.root, name, NULL), 0);
		}
		if (pass == 1) {
			list.dir = v.root;
			do {
				assert_int_equal(run(&v, &list), 0);
				listed += list.names_count;
			} while (list.names_count != 0);
			assert_int_equal(listed, MANY / 2);
			close_volume(&v); /* and all of it is there again */
			open_volume(&v);
		}
	}
	after = stat_of(&v);
	same_stat(&before, &after);
	unmake(&v);
}

static void a_file_without_a_name_lives_until_it_is_closed(void **state)
{
	struct volume v;
	struct csv_attr a = {0};
	struct csv_stat before;
	struct csv_stat with;
	struct csv_stat after;
	struct csv_op op = {.type = CSV_OP_OPEN};

	(void)state;
	make(&v);
	open_volume(&v);
	before = stat_of(&v);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "f", &a), 0);
	assert_int_equal(ranged(&v, CSV_OP_EXTEND, &a, 0, 3000), 0);
	op.ino = a.ino;
	op.generation = a.generation;
	assert_int_equal(run(&v, &op), 0);
	assert_int_equal(named(&v, CSV_OP_UNLINK, v.root, "f", NULL), 0);
	with = stat_of(&v);
	assert_int_equal(with.free_units, before.free_units - 12);
	assert_int_equal(with.pending, 1);
	assert_int_equal(ranged(&v, CSV_OP_CONVERT, &a, 5, 10), 0);
	op.type = CSV_OP_CLOSE;
	assert_int_equal(run(&v, &op), 0);
	after = stat_of(&v);
	same_stat(&before, &after);
	op.type = CSV_OP_GETATTR;
	assert_int_equal(run(&v, &op), -ESTALE);

	/* The same across a failover: nobody reclaims it, so it is freed. */
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "g", &a), 0);
	assert_int_equal(ranged(&v, CSV_OP_EXTEND, &a, 0, 3000), 0);
	op = (struct csv_op){.type = CSV_OP_OPEN, .ino = a.ino};
	assert_int_equal(run(&v, &op), 0);
	assert_int_equal(named(&v, CSV_OP_UNLINK, v.root, "g", NULL), 0);
	sim_disk_crash(v.disk, false);
	csv_meta_destroy(v.meta);
	open_volume(&v);
	after = stat_of(&v);
	same_stat(&before, &after);
	unmake(&v);
}

static void fragments_grow_a_tree_and_give_everything_back(void **state)
{
	struct volume v;
	struct csv_attr a = {0};
	struct csv_attr b = {0};
	struct csv_stat before;
	struct csv_stat after;
	struct csv_op op;

	(void)state;
	make(&v);
	open_volume(&v);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "a", &a), 0);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "b", &b), 0);
	before = stat_of(&v);
	for (uint64_t unit = 0; unit < 60; unit++) { /* in turn: no two units are neighbours */
		assert_int_equal(ranged(&v, CSV_OP_EXTEND, unit % 2 == 0 ? &a : &b,
		                        unit * CSV_UNIT_BLOCKS, 1),
		                 0);
	}
	for (uint64_t block = 0; block < 8 * CSV_UNIT_BLOCKS; block += 3) {
		if (block / CSV_UNIT_BLOCKS % 2 == 0) {
			assert_int_equal(ranged(&v, CSV_OP_CONVERT, &a, block, 1), 0);
		}
	}
	assert_int_equal(ranged(&v, CSV_OP_CONVERT, &a, CSV_UNIT_BLOCKS, 1), -ENXIO);
	op = (struct csv_op){.type = CSV_OP_GETATTR, .ino = a.ino};
	assert_int_equal(run(&v, &op), 0);
	assert_int_equal(op.attr.units, 30);
	assert_int_equal(ranged(&v, CSV_OP_PUNCH, &a, 100, 3 * CSV_UNIT_BLOCKS), 0);
	assert_int_equal(run(&v, &op), 0);
	assert_int_equal(op.attr.units, 29);
	for (uint32_t i = 0; i < 2; i++) {
		struct csv_op cut = {.type = CSV_OP_TRUNCATE, .ino = i == 0 ? a.ino : b.ino};

		assert_int_equal(run(&v, &cut), 0);
	}
	after = stat_of(&v);
	same_stat(&before, &after);
	unmake(&v);
}

static void a_full_volume_says_so_and_promises_are_kept(void **state)
{
	struct volume v;
	struct csv_attr a = {0};
	struct csv_attr b = {0};
	struct csv_stat s;
	struct csv_op op;

	(void)state;
	make(&v);
	open_volume(&v);
	s = stat_of(&v);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "a", &a), 0);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "b", &b), 0);
	op = (struct csv_op){.type = CSV_OP_RESERVE, .ino = b.ino, .count = s.free_units + 1};
	assert_int_equal(run(&v, &op), -ENOSPC);
	op.count = 10;
	assert_int_equal(run(&v, &op), 0);
	assert_int_equal(ranged(&v, CSV_OP_EXTEND, &a, 0, (s.free_units - 9) * CSV_UNIT_BLOCKS),
	                 -ENOSPC);
	s = stat_of(&v);
	assert_int_equal(s.free_units, 10);
	assert_int_equal(s.reserved_units, 10);
	assert_int_equal(ranged(&v, CSV_OP_EXTEND, &b, 0, 10 * CSV_UNIT_BLOCKS), 0);
	assert_int_equal(ranged(&v, CSV_OP_EXTEND, &b, 0, 11 * CSV_UNIT_BLOCKS), -ENOSPC);
	s = stat_of(&v);
	assert_int_equal(s.free_units, 0);
	assert_int_equal(s.reserved_units, 0);
	assert_int_equal(named(&v, CSV_OP_UNLINK, v.root, "a", NULL), 0);
	s = stat_of(&v);
	assert_true(s.free_units > 200);
	op = (struct csv_op){.type = CSV_OP_SET_TOKEN, .ino = b.ino, .token = 5};
	assert_int_equal(run(&v, &op), 0);
	op.token = 4;
	assert_int_equal(run(&v, &op), -ESTALE);
	unmake(&v);
}

static void terms_go_up_and_readers_do_not_write(void **state)
{
	struct volume v;
	struct errbuf eb = {0};
	struct csv_attr a = {0};
	struct csv_meta_stats stats;

	(void)state;
	make(&v);
	open_volume(&v);
	assert_int_equal(csv_meta_term(v.meta), 2);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "a", &a), 0);
	sim_disk_crash(v.disk, false);
	csv_meta_destroy(v.meta);

	struct csv_meta_cfg cfg = {.super = &v.super, .term = 2};

	assert_int_equal(open_cfg(&v, &cfg, &eb), -ESTALE);
	csv_meta_destroy(v.meta);
	cfg = (struct csv_meta_cfg){.super = &v.super, .read_only = true};
	assert_int_equal(open_cfg(&v, &cfg, &eb), 0);
	assert_int_equal(named(&v, CSV_OP_LOOKUP, v.root, "a", NULL), 0);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "b", NULL), -EROFS);
	csv_meta_get_stats(v.meta, &stats);
	assert_int_equal(stats.replayed_txns, 1);
	close_volume(&v);
	open_volume(&v);
	close_volume(&v);
	open_volume(&v);
	csv_meta_get_stats(v.meta, &stats);
	assert_int_equal(stats.replayed_txns, 0); /* it was closed in order */
	assert_int_equal(named(&v, CSV_OP_LOOKUP, v.root, "a", NULL), 0);
	unmake(&v);
}

static void a_failed_write_ends_everything(void **state)
{
	struct volume v;
	struct errbuf eb = {0};

	(void)state;
	make(&v);
	open_volume(&v);
	v.fail_writes = -EIO;
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "a", NULL), -EIO);
	assert_int_equal(csv_meta_status(v.meta, &eb), -EIO);
	assert_non_null(strstr(eb.text, "write of the journal"));
	unmake(&v);
}

static void damage_is_named_and_harms_only_who_needs_the_block(void **state)
{
	struct volume v;
	struct csv_attr a = {0};
	struct csv_attr b = {0};
	uint8_t buf[CSV_BLOCK_BYTES];

	(void)state;
	make(&v);
	open_volume(&v);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "a", &a), 0);
	assert_int_equal(named(&v, CSV_OP_CREATE, v.root, "b", &b), 0);
	close_volume(&v);
	memcpy(buf, sim_disk_at(v.disk, a.ino), sizeof(buf));
	buf[100] ^= 1;
	sim_disk_put(v.disk, a.ino, buf);
	open_volume(&v);
	assert_int_equal(named(&v, CSV_OP_LOOKUP, v.root, "a", NULL), -EUCLEAN);
	assert_int_equal(named(&v, CSV_OP_LOOKUP, v.root, "b", NULL), 0);
	close_volume(&v);

	/* Without the root there is no volume to work with; without the state not even that. */
	memset(buf, 0, sizeof(buf));
	sim_disk_put(v.disk, v.super.layout.state_at, buf);

	const struct csv_meta_cfg cfg = {.super = &v.super, .quiet = true};
	struct errbuf eb = {0};
	char block[32];

	assert_int_equal(open_cfg(&v, &cfg, &eb), -EUCLEAN);
	(void)snprintf(block, sizeof(block), "block %llu",
	               (unsigned long long)v.super.layout.state_at);
	assert_non_null(strstr(eb.text, block));
	unmake(&v);
}

static void creating_survives_every_failed_allocation(void **state)
{
	struct volume v;
	int err = -ENOMEM;

	(void)state;
	make(&v);
	for (uint32_t k = 1; err == -ENOMEM; k++) {
		const struct csv_meta_cfg cfg = {.super = &v.super};
		struct errbuf eb = {0};

		fault_arm(FAULT_ALLOC, k);
		err = csv_meta_create(&cfg, &v.meta, &eb);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || v.meta == NULL);
	}
	assert_int_equal(err, 0);
	assert_true(csv_meta_memory(v.meta) < 8u << 20);
	unmake(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_behave_as_on_any_file_system),
		cmocka_unit_test(thousands_of_names_are_found_listed_and_removed),
		cmocka_unit_test(a_file_without_a_name_lives_until_it_is_closed),
		cmocka_unit_test(fragments_grow_a_tree_and_give_everything_back),
		cmocka_unit_test(a_full_volume_says_so_and_promises_are_kept),
		cmocka_unit_test(terms_go_up_and_readers_do_not_write),
		cmocka_unit_test(a_failed_write_ends_everything),
		cmocka_unit_test(damage_is_named_and_harms_only_who_needs_the_block),
		cmocka_unit_test(creating_survives_every_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
