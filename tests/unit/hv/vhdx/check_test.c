/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/uring.h"
#include "hv/vhdx/vhdx_wire.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/vhdx/disk.h"
#include "tests/unit/hv/vhdx/place.h"

#define MIB (1ull << 20)
#define BAT_OFFSET (3 * MIB) /* where we put it */
#define METADATA_OFFSET (2 * MIB)

static const struct vhdx_create_cfg cfg = {
	.kind = VHDX_DYNAMIC, .size_bytes = 20 * MIB, .block_bytes = 1 << 20};

struct findings {
	char text[8][ERRBUF_TEXT_MAX];
	enum vhdx_finding kind[8];
	uint32_t count;
};

static void found(enum vhdx_finding kind, const char *text, void *arg)
{
	struct findings *f = arg;

	if (f->count < 8) {
		f->kind[f->count] = kind;
		memcpy(f->text[f->count], text, strlen(text) + 1);
	}
	f->count++;
}

static struct vhdx_check_result check(struct place *p, const char *name, bool repair,
                                      struct findings *f)
{
	const struct vhdx_check_cfg how = {.repair = repair, .found = found, .arg = f};
	struct vhdx_check_result result;
	struct errbuf eb = {.text = ""};

	*f = (struct findings){.count = 0};
	if (vhdx_check(&p->files, place_path(p, name), &how, &result, &eb) != 0) {
		print_error("%s\n", eb.text);
		fail();
	}
	return result;
}

static void make_disk(struct place *p, const char *name)
{
	struct blk *blk;

	place_create(p, name, NULL, &cfg);
	blk = place_open(p, name, false);
	place_pattern(blk, 2 * MIB, 3 * MIB, 9); /* blocks 2, 3, 4 at 4, 5, 6 MiB */
	place_close(blk);
}

static void show_tells_what_a_disk_is(void **state)
{
	struct place *p = *state;
	struct vhdx_show *show = calloc(1, sizeof(*show));
	struct vhdx_show *child = calloc(1, sizeof(*child));

	if (show == NULL || child == NULL) {
		abort();
	}

	assert_true(show != NULL && child != NULL);
	make_disk(p, "d.vhdx");
	place_create(p, "c.vhdx", "d.vhdx",
	             &(struct vhdx_create_cfg){.kind = VHDX_DIFFERENCING, .size_bytes = 30 * MIB});
	assert_int_equal(vhdx_show(&p->files, place_path(p, "d.vhdx"), show, NULL), 0);
	assert_int_equal(show->stat.kind, VHDX_DYNAMIC);
	assert_int_equal(show->stat.size_bytes, 20 * MIB);
	assert_int_equal(show->stat.present_count, 3);
	assert_int_equal(show->stat.file_bytes, 7 * MIB);
	assert_int_equal(show->stat.physical_bytes, 4096);
	assert_string_equal(show->creator, "Godwit");
	assert_string_equal(show->parent_path, "");
	assert_false(show->log_dirty);
	assert_int_equal(vhdx_show(&p->files, place_path(p, "c.vhdx"), child, NULL), 0);
	assert_int_equal(child->stat.kind, VHDX_DIFFERENCING);
	assert_int_equal(child->stat.size_bytes, 30 * MIB);
	assert_int_equal(child->stat.block_bytes, VHDX_BLOCK_BYTES_DIFFERENCING);
	assert_string_equal(child->parent_path, place_path(p, "d.vhdx"));
	assert_true(guid_equal(&child->parent_linkage, &show->stat.data_write));
	assert_true(guid_equal(&child->stat.disk_id, &show->stat.disk_id));
	free(show);
	free(child);
}

static void a_good_disk_has_no_findings(void **state)
{
	struct place *p = *state;
	struct findings f;
	struct vhdx_check_result r;

	make_disk(p, "d.vhdx");
	r = check(p, "d.vhdx", false, &f);
	assert_int_equal(f.count, 0);
	assert_int_equal(r.unused_bytes, 0);
}

static void damaged_copies_are_restored(void **state)
{
	struct place *p = *state;
	const struct {
		uint64_t offset;
		const char *text;
	} cases[] = {
		{VHDX_HEADER_1_OFFSET + 20, "header 1: bad checksum"},
		{VHDX_HEADER_2_OFFSET, "header 2: no \"head\" signature"},
		{VHDX_REGION_1_OFFSET + 40, "region table 1: bad checksum"},
		{VHDX_REGION_2_OFFSET + 40, "region table 2: bad checksum"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct findings f;
		struct vhdx_check_result r;
		struct blk *blk;

		make_disk(p, "d.vhdx");
		place_poke(p, "d.vhdx", cases[i].offset, 0xff);
		r = check(p, "d.vhdx", false, &f);
		assert_int_equal(r.repairable, 1);
		assert_string_equal(f.text[0], cases[i].text);
		blk = place_open(p, "d.vhdx", true); /* one copy is enough */
		place_expect(blk, 2 * MIB, 3 * MIB, 9);
		place_close(blk);
		assert_int_equal(check(p, "d.vhdx", true, &f).repaired, 1);
		assert_int_equal(f.kind[0], VHDX_REPAIRED);
		(void)check(p, "d.vhdx", false, &f);
		assert_int_equal(f.count, 0);
		tree_remove(&p->tree, "/d.vhdx");
	}
}

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the order one reads it */
static const struct {
	uint64_t offset[2];
	uint8_t value;
	const char *text;
	bool checked; /* the check sees it as a finding, not as a failure */
} damages[] = {
	{{0, 0}, 'x', "d.vhdx: vhdx: file identifier: no \"vhdxfile\" signature", false},
	{{VHDX_HEADER_1_OFFSET + 9, VHDX_HEADER_2_OFFSET + 9},
         0xff,
         "vhdx: header 1: bad checksum; header 2: bad checksum",
         false},
	{{VHDX_REGION_1_OFFSET + 9, VHDX_REGION_2_OFFSET + 9},
         0xff,
         "vhdx: region table 1: bad checksum; region table 2: bad checksum",
         false},
	{{METADATA_OFFSET, 0}, 'x', "vhdx: metadata: no \"metadata\" signature", false},
	{{METADATA_OFFSET + 32 + 18, METADATA_OFFSET + 32 + 18}, /* an item's offset */
         0xff,
         "vhdx: metadata: item caa16737-fa36-4d43-b3b6-33f0aa44e76b at 0xff0000",
         false},
	{{METADATA_OFFSET + (64 << 10), METADATA_OFFSET + (64 << 10)},
         1,
         "vhdx: metadata: block size 1048577",
         false},
	{{BAT_OFFSET + 16, BAT_OFFSET + 16}, 5, "vhdx: BAT: block 2: state 5", true},
	{{BAT_OFFSET + 17, BAT_OFFSET + 17},
         1,
         "vhdx: BAT: block 2: reserved bits in 0x400106",
         true},
	{{BAT_OFFSET + 20, BAT_OFFSET + 20},
         1,
         "vhdx: BAT: block 2 at 0x100400000: outside the file of 0x700000 bytes",
         true},
	{{BAT_OFFSET + 18, BAT_OFFSET + 18},
         0x50,
         "vhdx: BAT: block 3 at 0x500000 overlaps something else",
         true},
	{{BAT_OFFSET + 18, BAT_OFFSET + 18},
         0x20,
         "vhdx: BAT: block 2 at 0x200000 overlaps something else",
         true},
};

static void damage_is_refused_with_its_place_named(void **state)
{
	struct place *p = *state;
	for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		const struct vhdx_check_cfg how = {.repair = false};
		struct vhdx_check_result r;
		struct errbuf eb = {.text = ""};
		struct blk *blk;

		make_disk(p, "d.vhdx");
		place_poke(p, "d.vhdx", damages[i].offset[0], damages[i].value);
		if (damages[i].offset[1] != 0) {
			place_poke(p, "d.vhdx", damages[i].offset[1], damages[i].value);
		}
		assert_int_equal(
			vhdx_open_path(&p->files, place_path(p, "d.vhdx"), false, &blk, &eb),
			-EBADMSG);
		if (strstr(eb.text, damages[i].text) == NULL) {
			print_error("\"%s\" does not say \"%s\"\n", eb.text, damages[i].text);
			fail();
		}
		if (damages[i].checked) {
			assert_int_equal(
				vhdx_check(&p->files, place_path(p, "d.vhdx"), &how, &r, &eb), 0);
			assert_true(r.damaged == 1);
		} else {
			assert_int_equal(
				vhdx_check(&p->files, place_path(p, "d.vhdx"), &how, &r, &eb),
				-EBADMSG);
		}
		tree_remove(&p->tree, "/d.vhdx");
	}
}

/* Any byte of the structures: no crash, and an answer (AddressSanitizer watches). */
static void no_byte_of_the_structures_can_harm_us(void **state)
{
	struct disk d;
	uint8_t *good;
	uint64_t size;
	uint64_t rng = 5;

	(void)state;
	disk_create(&d, &(struct disk_cfg){.kind = VHDX_DIFFERENCING});
	size = fake_disk_size(d.file);
	good = malloc(size);
	assert_non_null(good);
	memcpy(good, fake_disk_data(d.file), size);
	for (int i = 0; i < 400; i++) {
		static const uint64_t places[] = {
			VHDX_HEADER_1_OFFSET, VHDX_HEADER_2_OFFSET,         VHDX_REGION_1_OFFSET,
			METADATA_OFFSET,      METADATA_OFFSET + (64 << 10), BAT_OFFSET};
		uint64_t at = places[workload_random(&rng) % 6] + workload_random(&rng) % 256;
		struct fake_disk_image image = {malloc(size), size};
		struct errbuf eb = {.text = ""};

		assert_non_null(image.data);
		memcpy(image.data, good, size);
		image.data[at] = (uint8_t)workload_random(&rng);
		disk_replace(&d, image);
		if (disk_try_open(&d, false, &eb) == 0) {
			disk_close(&d);
		} else {
			assert_non_null(strstr(eb.text, "vhdx: "));
		}
	}
	free(good);
	disk_destroy(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(show_tells_what_a_disk_is, place_setup,
	                                        place_teardown),
		cmocka_unit_test_setup_teardown(a_good_disk_has_no_findings, place_setup,
	                                        place_teardown),
		cmocka_unit_test_setup_teardown(damaged_copies_are_restored, place_setup,
	                                        place_teardown),
		cmocka_unit_test_setup_teardown(damage_is_refused_with_its_place_named, place_setup,
	                                        place_teardown),
		cmocka_unit_test(no_byte_of_the_structures_can_harm_us),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
