/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "csv/check/csv_check.h"
#include "csv/meta/csv_meta.h"
#include "tests/lib/test.h"
#include "tests/sim/csv/sim_disk.h"

#define VOLUME_BYTES (64ull << 20)

struct volume {
	struct sim_disk *sim;
	struct csv_super super;
	struct csv_check_disk disk;
	struct csv_attr file;
	struct csv_attr dir;
	struct csv_attr inner;
	char said[4000];
};

static int disk_read(void *arg, uint64_t block, uint32_t count, void *buf)
{
	for (uint32_t i = 0; i < count; i++) {
		memcpy((uint8_t *)buf + (size_t)i * CSV_BLOCK_BYTES, sim_disk_at(arg, block + i),
		       CSV_BLOCK_BYTES);
	}
	return fault_io();
}

static int disk_write(void *arg, uint64_t block, uint32_t count, const void *buf)
{
	for (uint32_t i = 0; i < count; i++) {
		sim_disk_put(arg, block + i, (const uint8_t *)buf + (size_t)i * CSV_BLOCK_BYTES);
	}
	return fault_io();
}

static int disk_flush(void *arg)
{
	(void)arg;
	return fault_io();
}

static int emit(void *arg, uint64_t block, const void *buf)
{
	sim_disk_put(arg, block, buf);
	return 0;
}

static void run(struct csv_meta *m, const struct volume *v, struct csv_op *op)
{
	csv_meta_submit(m, op);
	while (csv_meta_completed(m) != op) {
		assert_int_equal(csv_check_drive(m, &v->disk, NULL), 0);
	}
	assert_int_equal(op->result, 0);
}

static struct csv_attr named(struct csv_meta *m, const struct volume *v, struct csv_op *op)
{
	op->name_len = (uint32_t)strlen(op->name);
	run(m, v, op);
	return op->attr;
}

/* web/disk.vhdx with some extents, and names enough for a tree; closed in
 * order, or not. */
static void make(struct volume *v, bool clean)
{
	const struct csv_layout_cfg cfg = {.size_bytes = VOLUME_BYTES};
	struct csv_meta_cfg meta = {.super = &v->super, .quiet = true};
	struct csv_meta *m;

	memset(v, 0, sizeof(*v));
	v->super = (struct csv_super){.term = 1, .volume = {{7}}, .label = "unit"};
	assert_int_equal(csv_layout_make(&cfg, &v->super.layout, NULL), 0);
	v->sim = sim_disk_create(v->super.layout.size, 1);
	v->disk = (struct csv_check_disk){disk_read, disk_write, disk_flush, v->sim, VOLUME_BYTES};
	assert_int_equal(csv_meta_format(&v->super, 0, emit, v->sim), 0);
	assert_int_equal(csv_meta_create(&meta, &m, NULL), 0);
	assert_int_equal(csv_check_drive(m, &v->disk, NULL), 0);

	uint64_t root = csv_layout_root(&v->super.layout);

	v->dir = named(m, v, &(struct csv_op){.type = CSV_OP_MKDIR, .dir = root, .name = "web"});
	v->file = named(
		m, v,
		&(struct csv_op){.type = CSV_OP_CREATE, .dir = v->dir.ino, .name = "disk.vhdx"});
	v->inner = named(m, v,
	                 &(struct csv_op){.type = CSV_OP_MKDIR, .dir = v->dir.ino, .name = "in"});
	run(m, v,
	    &(struct csv_op){
		    .type = CSV_OP_EXTEND, .ino = v->file.ino, .block = 300, .count = 2000});
	run(m, v,
	    &(struct csv_op){
		    .type = CSV_OP_CONVERT, .ino = v->file.ino, .block = 400, .count = 100});
	for (uint32_t i = 0; i < 40; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%u", i);
		(void)named(m, v,
		            &(struct csv_op){.type = CSV_OP_CREATE,
		                             .dir = root,
		                             .name = name,
		                             .client_node = i % 3,
		                             .client_incarnation = 5,
		                             .client_request = i + 1});
	}
	if (clean) {
		csv_meta_close(m);
		assert_int_equal(csv_check_drive(m, &v->disk, NULL), -ESHUTDOWN);
	}
	csv_meta_destroy(m);
}

static void say(void *arg, bool fault, const char *text)
{
	struct volume *v = arg;
	size_t len = strlen(v->said);

	(void)snprintf(v->said + len, sizeof(v->said) - len, "%s%s\n", fault ? "! " : "", text);
}

static int check(struct volume *v, bool repair, struct csv_check_result *out)
{
	const struct csv_check_cfg cfg = {.repair = repair, .say = say, .arg = v};

	v->said[0] = '\0';
	memset(out, 0, sizeof(*out));
	return csv_check_run(&v->disk, &cfg, out, NULL);
}

static void a_good_volume_is_good(void **state)
{
	struct csv_check_result r;
	struct volume v;

	(void)state;
	for (uint32_t clean = 0; clean < 2; clean++) {
		make(&v, clean == 1);
		assert_int_equal(check(&v, false, &r), 0);
		assert_string_equal(v.said, "");
		assert_int_equal(r.faults, 0);
		assert_int_equal(r.files, 41);
		assert_int_equal(r.directories, 3);
		assert_int_equal(r.replayed != 0, clean == 0);
		assert_int_equal(check(&v, true, &r), 0);
		assert_int_equal(r.faults, 0);
		assert_int_equal(check(&v, false, &r), 0);
		assert_int_equal(r.replayed, 0); /* in place now */
		sim_disk_destroy(v.sim);
	}
}

/* Damage @block, see that it is found and what is said of it, and that repair
 * leaves nothing. */
static void damage(uint64_t (*place)(const struct volume *v), const char *said)
{
	struct csv_check_result r;
	uint8_t buf[CSV_BLOCK_BYTES];
	struct volume v;

	make(&v, true);

	uint64_t block = place(&v);

	memcpy(buf, sim_disk_at(v.sim, block), sizeof(buf));
	buf[200] ^= 0x10;
	sim_disk_put(v.sim, block, buf);
	assert_int_equal(check(&v, false, &r), 0);
	assert_true(r.faults != 0);

	char name[40];

	(void)snprintf(name, sizeof(name), "block %llu", (unsigned long long)block);
	assert_non_null(strstr(v.said, name));
	assert_int_equal(check(&v, true, &r), 0);
	assert_true(r.faults != 0);
	assert_int_equal(r.remain, 0);
	assert_non_null(strstr(v.said, said));
	assert_int_equal(check(&v, false, &r), 0);
	assert_int_equal(r.faults, 0);
	sim_disk_destroy(v.sim);
}

static uint64_t place_super(const struct volume *v)
{
	return v->super.layout.copies[1];
}

static uint64_t place_state(const struct volume *v)
{
	return v->super.layout.state_at;
}

static uint64_t place_units(const struct volume *v)
{
	return v->super.layout.unit_map_at;
}

static uint64_t place_pool(const struct volume *v)
{
	return v->super.layout.pool_map_at;
}

static uint64_t place_file(const struct volume *v)
{
	return v->file.ino;
}

static uint64_t place_dir(const struct volume *v)
{
	return v->dir.ino;
}

static void what_is_damaged_is_named_and_repaired(void **state)
{
	(void)state;
	damage(place_super, "superblock written anew");
	damage(place_state, "counts of the volume written anew");
	damage(place_units, "map written anew");
	damage(place_pool, "map written anew");
	damage(place_file, "records removed");
	damage(place_dir, "is lost+found/");
}

static void forge(struct volume *v, uint64_t block, enum csv_block_type type, uint8_t *buf)
{
	const struct csv_block_wire *w = (const void *)buf;
	const struct csv_block_id id = {type, block, le64_get(w->owner), &v->super.volume};

	csv_block_seal(buf, &id, 2, 1);
	sim_disk_put(v->sim, block, buf);
}

static void a_unit_that_two_files_have_is_found(void **state)
{
	struct csv_check_result r;
	struct volume v;
	uint8_t buf[CSV_BLOCK_BYTES] = {0};
	uint8_t other[CSV_BLOCK_BYTES] = {0};

	(void)state;
	make(&v, true);

	/* Another file of the root gets the same extents. */
	uint64_t block = v.inner.ino + 1;

	memcpy(buf, sim_disk_at(v.sim, v.file.ino), sizeof(buf));
	memcpy(other, sim_disk_at(v.sim, block), sizeof(other));

	struct csv_inode_wire *w = (void *)other;
	const struct csv_inode_wire *from = (const void *)buf;

	assert_int_equal(le32_get(w->kind), CSV_KIND_FILE);
	memcpy(w->records, from->records, sizeof(w->records));
	w->count = from->count;
	w->units = from->units;
	forge(&v, block, CSV_INODE, other);
	assert_int_equal(check(&v, false, &r), 0);
	assert_true(r.faults != 0);
	assert_non_null(strstr(v.said, "belongs to another file as well"));
	assert_int_equal(check(&v, true, &r), 0);
	assert_int_equal(r.remain, 0);
	sim_disk_destroy(v.sim);
}

static void no_superblock_is_no_volume(void **state)
{
	const uint8_t zero[CSV_BLOCK_BYTES] = {0};
	const struct csv_check_cfg cfg = {.say = say};
	struct csv_check_result r;
	struct errbuf eb = {0};
	struct volume v;

	(void)state;
	make(&v, true);
	for (uint32_t i = 0; i < CSV_SUPER_COPIES; i++) {
		sim_disk_put(v.sim, v.super.layout.copies[i], zero);
	}
	assert_int_equal(csv_check_run(&v.disk, &cfg, &r, &eb), -EUCLEAN);
	assert_non_null(strstr(eb.text, "superblock at block 16"));
	v.disk.size_bytes = 4096;
	assert_int_equal(csv_check_run(&v.disk, &cfg, &r, &eb), -EINVAL);
	sim_disk_destroy(v.sim);
}

/* Anything may be anywhere, with good checksums: it never crashes, and says so
 * or is right. */
static void random_lies_do_no_harm(void **state)
{
	struct volume v;

	(void)state;
	make(&v, true);
	for (uint32_t i = 0; i < 300; i++) {
		const struct csv_layout *l = &v.super.layout;
		uint64_t first = l->state_at;
		uint64_t block = first + sim_disk_random(v.sim, 3);
		struct csv_check_result r;
		uint8_t buf[CSV_BLOCK_BYTES];

		if (sim_disk_random(v.sim, 4) != 0) {
			block = l->pool_at + sim_disk_random(v.sim, 50);
		}
		memcpy(buf, sim_disk_at(v.sim, block), sizeof(buf));
		for (uint32_t n = 1 + sim_disk_random(v.sim, 4); n != 0; n--) {
			uint32_t at = 64 + sim_disk_random(v.sim, 600);

			buf[at] = (uint8_t)(buf[at] ^ 1u << sim_disk_random(v.sim, 8));
		}
		forge(&v, block,
		      (enum csv_block_type)le16_get(((struct csv_block_wire *)buf)->type), buf);
		assert_int_equal(check(&v, false, &r), 0);

		uint64_t faults = r.faults;
		int err = check(&v, true, &r);

		/* Nothing without a root; everything else comes right, perhaps in two
     * steps. */
		if (err == -EUCLEAN || i % 20 == 19) {
			sim_disk_destroy(v.sim);
			make(&v, true);
			for (uint32_t k = 0; k < i; k++) { /* or it would all come again */
				(void)sim_disk_random(v.sim, 2);
			}
			continue;
		}
		assert_int_equal(err, 0);
		assert_true(faults != 0 || r.remain == 0);
	}
	sim_disk_destroy(v.sim);
}

static void every_failed_allocation_and_read_is_said(void **state)
{
	struct csv_check_result r;
	struct volume v;
	int err;

	(void)state;
	make(&v, false);
	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = check(&v, false, &r);
		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
	}
	for (uint32_t k = 4;; k += 3) { /* the first three are copies of the superblock */
		fault_arm(FAULT_IO, k);
		err = check(&v, false, &r);
		int hit = fault_hit(FAULT_IO);

		fault_arm(FAULT_IO, 0);
		if (!hit) {
			break;
		}
		assert_int_equal(err, -EIO);
	}
	assert_int_equal(err, 0);
	sim_disk_destroy(v.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_volume_is_good),
		cmocka_unit_test(what_is_damaged_is_named_and_repaired),
		cmocka_unit_test(a_unit_that_two_files_have_is_found),
		cmocka_unit_test(no_superblock_is_no_volume),
		cmocka_unit_test(random_lies_do_no_harm),
		cmocka_unit_test(every_failed_allocation_and_read_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
