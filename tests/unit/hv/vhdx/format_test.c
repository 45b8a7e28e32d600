/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "hv/vhdx/format_int.h"
#include "tests/lib/hexfile.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)

static void ignore(int err)
{
	(void)err;
}

struct image {
	uint8_t *p;
	size_t len;
};

static int load(void **state)
{
	static struct image image;

	image.p = hexfile_load(VECTORS "/qemu-dynamic.hex", &image.len);
	*state = &image;
	return 0;
}

static int unload(void **state)
{
	free(((struct image *)*state)->p);
	return 0;
}

static void a_file_of_qemu_img_is_understood(void **state)
{
	const struct image *image = *state;
	struct errbuf eb = {0};
	struct vhdx_header h1;
	struct vhdx_header h2;
	struct vhdx_regions r;
	struct vhdx_regions r2;
	struct vhdx_metadata_table t;
	struct vhdx_metadata m = {0};
	struct vhdx_geometry g;

	assert_int_equal(vhdx_file_id_check(image->p, image->len, &eb), 0);
	assert_int_equal(vhdx_header_decode(image->p + VHDX_HEADER_1_OFFSET, 4096, &h1, &eb), 0);
	assert_int_equal(vhdx_header_decode(image->p + VHDX_HEADER_2_OFFSET, 4096, &h2, &eb), 0);
	assert_int_equal(h1.sequence, 0x6478a2ca);
	assert_int_equal(h2.sequence, 0x6478a2cb);
	assert_int_equal(h2.log_offset, MIB);
	assert_int_equal(h2.log_bytes, MIB);
	assert_true(guid_is_nil(&h2.log));
	assert_int_equal(
		vhdx_regions_decode(image->p + VHDX_REGION_1_OFFSET, VHDX_REGION_BYTES, &r, &eb),
		0);
	assert_int_equal(
		vhdx_regions_decode(image->p + VHDX_REGION_2_OFFSET, VHDX_REGION_BYTES, &r2, &eb),
		0);
	assert_int_equal(r.bat.offset, 2 * MIB);
	assert_int_equal(r.metadata.offset, 3 * MIB);
	assert_int_equal(r.other_count, 0);
	assert_int_equal(vhdx_metadata_table_decode(image->p + r.metadata.offset, 65536,
	                                            r.metadata.bytes, &t, &eb),
	                 0);
	for (enum vhdx_item i = 0; i < VHDX_ITEM_LOCATOR; i++) {
		assert_int_equal(vhdx_metadata_item_decode(
					 i, image->p + r.metadata.offset + t.item[i].offset,
					 t.item[i].bytes, &m, &eb),
		                 0);
	}
	assert_int_equal(vhdx_metadata_check(&m, &eb), 0);
	assert_int_equal(m.size_bytes, 8 * MIB);
	assert_int_equal(m.block_bytes, MIB);
	assert_int_equal(m.logical_bytes, 512);
	assert_int_equal(m.physical_bytes, 512);
	assert_false(m.fixed || m.has_parent);
	vhdx_geometry_init(&m, &g);
	assert_int_equal(g.entry_count, 8);

	le64 entry;

	memcpy(&entry, image->p + r.bat.offset + 8, sizeof(entry));
	assert_int_equal(vhdx_bat_state(le64_get(entry)), VHDX_PRESENT);
	assert_int_equal(vhdx_bat_offset(le64_get(entry)), 8 * MIB);
	assert_int_equal(vhdx_bat_entry_check(&g, 1, le64_get(entry), image->len, &eb), 0);
}

static void what_we_encode_reads_back(void **state)
{
	struct vhdx_header in = {
		.sequence = 0x0123456789abcdef,
		.file_write = {{1, 2, 3}},
		.data_write = {{4, 5, 6}},
		.log = {{7, 8, 9}},
		.log_bytes = 1 << 20,
		.log_offset = 5 << 20,
	};
	struct vhdx_header out;
	struct vhdx_header_wire w;
	struct errbuf eb = {0};
	struct vhdx_file_id_wire id = vhdx_file_id_encode("Godwit");

	(void)state;
	assert_int_equal(vhdx_file_id_check(&id, sizeof(id), &eb), 0);
	assert_int_equal(le16_get(id.creator[5]), 't');
	vhdx_header_encode(&in, &w);
	assert_int_equal(vhdx_header_decode(&w, sizeof(w), &out, &eb), 0);
	assert_int_equal(out.sequence, in.sequence);
	assert_true(guid_equal(&out.file_write, &in.file_write));
	assert_true(guid_equal(&out.data_write, &in.data_write));
	assert_true(guid_equal(&out.log, &in.log));
	assert_int_equal(out.log_bytes, in.log_bytes);
	assert_int_equal(out.log_offset, in.log_offset);

	static uint8_t table[VHDX_REGION_BYTES];
	struct vhdx_regions regions = {
		.bat = {.offset = 3 << 20, .bytes = 1 << 20, .required = true},
		.metadata = {.offset = 2 << 20, .bytes = 1 << 20, .required = true},
		.other = {{.id = {{0xaa}}, .offset = 9 << 20, .bytes = 2 << 20}},
		.other_count = 1,
	};
	struct vhdx_regions back;

	vhdx_regions_encode(&regions, table);
	assert_int_equal(vhdx_regions_decode(table, sizeof(table), &back, &eb), 0);
	assert_int_equal(back.bat.offset, 3 << 20);
	assert_int_equal(back.metadata.bytes, 1 << 20);
	assert_int_equal(back.other_count, 1);
	assert_int_equal(back.other[0].offset, 9 << 20);
}

static void every_truncation_and_bit_flip_of_a_header_is_refused(void **state)
{
	const struct image *image = *state;
	uint8_t copy[VHDX_HEADER_BYTES];
	struct vhdx_header out = {.sequence = 42};

	memcpy(copy, image->p + VHDX_HEADER_1_OFFSET, sizeof(copy));
	for (size_t len = 0; len < sizeof(copy); len++) {
		uint8_t *exact = malloc(len + 1);

		assert_non_null(exact);
		memcpy(exact, copy, len);
		assert_int_equal(vhdx_header_decode(exact, len, &out, NULL), -EBADMSG);
		free(exact);
	}
	for (size_t bit = 0; bit < sizeof(copy) * 8; bit++) {
		copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(vhdx_header_decode(copy, sizeof(copy), &out, NULL), -EBADMSG);
		copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(out.sequence, 42);
}

static void every_bit_flip_of_a_region_table_is_refused(void **state)
{
	const struct image *image = *state;
	uint8_t *table = image->p + VHDX_REGION_1_OFFSET;
	struct vhdx_regions out = {.other_count = 42};

	for (size_t len = 0; len < VHDX_REGION_BYTES; len += 509) {
		assert_int_equal(vhdx_regions_decode(table, len, &out, NULL), -EBADMSG);
	}
	for (size_t bit = 0; bit < 128 * 8; bit++) {
		table[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(vhdx_regions_decode(table, VHDX_REGION_BYTES, &out, NULL),
		                 -EBADMSG);
		table[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(out.other_count, 42);
}

/* A table that vhdx_regions_encode() would not make: the checksum is right, the content is not. */
static void region_tables_with_bad_content_are_refused_by_name(void **state)
{
	static uint8_t table[VHDX_REGION_BYTES];
	const struct vhdx_region bat = {.offset = 3 << 20, .bytes = 1 << 20, .required = true};
	const struct vhdx_region metadata = {.offset = 2 << 20, .bytes = 1 << 20};
	const struct {
		struct vhdx_region bat, metadata, other;
		int err;
		const char *text;
	} cases[] = {
		{bat, metadata, {.id = {{1}}, .offset = 9 << 20, .bytes = 1 << 20}, 0, ""},
		{bat, bat, {{{1}}, 9 << 20, 1 << 20, false}, -EBADMSG, "overlaps another"},
		{bat, metadata, {{{1}}, 3 << 20, 1 << 20, false}, -EBADMSG, "overlaps another"},
		{bat, metadata, {{{1}}, 9 << 20, 1 << 20, true}, -ENOTSUP, "is unknown"},
		{bat, metadata, {{{1}}, 9 << 20, 512, false}, -EBADMSG, "units of 1 MiB"},
		{bat, metadata, {{{1}}, 512, 1 << 20, false}, -EBADMSG, "units of 1 MiB"},
		{bat, metadata, {{{1}}, 0, 1 << 20, false}, -EBADMSG, "units of 1 MiB"},
		{bat, metadata, {{{1}}, 1ull << 60, 1 << 20, false}, -EBADMSG, "units of 1 MiB"},
		{bat, metadata, {{{1}}, 9 << 20, 0, false}, -EBADMSG, "units of 1 MiB"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vhdx_regions in = {.bat = cases[i].bat,
		                          .metadata = cases[i].metadata,
		                          .other = {cases[i].other},
		                          .other_count = 1};
		struct vhdx_regions out;
		struct errbuf eb = {0};

		vhdx_regions_encode(&in, table);
		assert_int_equal(vhdx_regions_decode(table, sizeof(table), &out, &eb),
		                 cases[i].err);
		assert_non_null(strstr(eb.text, cases[i].text));
	}
}

/* Metadata has no checksum: what is damaged is read or refused, never overrun. */
static void metadata_with_flipped_bits_never_points_outside(void **state)
{
	const struct image *image = *state;
	uint8_t *region = malloc(MIB);

	assert_non_null(region);
	memcpy(region, image->p + 3 * MIB, MIB);
	for (size_t bit = 0; bit < 256 * 8; bit++) {
		struct vhdx_metadata_table t;

		region[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (vhdx_metadata_table_decode(region, VHDX_METADATA_TABLE_BYTES, MIB, &t, NULL) ==
		    0) {
			for (enum vhdx_item i = 0; i < VHDX_ITEM_LOCATOR; i++) {
				struct vhdx_metadata m = {0};

				assert_true(t.item[i].offset + t.item[i].bytes <= MIB);
				assert_int_equal(
					vhdx_metadata_item_decode(i, region + t.item[i].offset,
				                                  t.item[i].bytes, &m, NULL),
					0);
			}
		}
		region[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	free(region);
}

static void metadata_encodes_and_reads_back_with_a_locator(void **state)
{
	static uint8_t region[VHDX_METADATA_TABLE_BYTES + VHDX_METADATA_ITEMS_BYTES];
	const struct vhdx_metadata in = {
		.size_bytes = 123 * 4096,
		.block_bytes = 32 * MIB,
		.logical_bytes = 4096,
		.physical_bytes = 4096,
		.has_parent = true,
		.disk_id = {{9, 8, 7}},
	};
	struct vhdx_metadata out = {0};
	struct vhdx_metadata_table t;

	(void)state;
	vhdx_metadata_encode(&in, "locator", 7, region);
	assert_int_equal(
		vhdx_metadata_table_decode(region, VHDX_METADATA_TABLE_BYTES, MIB, &t, NULL), 0);
	for (enum vhdx_item i = 0; i < VHDX_ITEM_LOCATOR; i++) {
		assert_int_equal(vhdx_metadata_item_decode(i, region + t.item[i].offset,
		                                           t.item[i].bytes, &out, NULL),
		                 0);
	}
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(t.item[VHDX_ITEM_LOCATOR].bytes, 7);
	assert_memory_equal(region + t.item[VHDX_ITEM_LOCATOR].offset, "locator", 7);
}

static void disks_that_cannot_be_are_refused(void **state)
{
	const struct vhdx_metadata good = {.size_bytes = MIB,
	                                   .block_bytes = 2 * MIB,
	                                   .logical_bytes = 512,
	                                   .physical_bytes = 4096};
	struct vhdx_metadata m;

	(void)state;
	assert_int_equal(vhdx_metadata_check(&good, NULL), 0);
	for (uint32_t block = 0; block < 40; block++) {
		bool legal = block >= 20 && block <= 28;

		m = good;
		m.block_bytes = block < 32 ? 1u << block : 3 * (uint32_t)MIB;
		assert_int_equal(vhdx_metadata_check(&m, NULL), legal ? 0 : -EBADMSG);
	}
	m = good;
	m.size_bytes = 513;
	assert_int_equal(vhdx_metadata_check(&m, NULL), -EBADMSG);
	m.size_bytes = (64ull << 40) + 512;
	assert_int_equal(vhdx_metadata_check(&m, NULL), -EBADMSG);
	m.size_bytes = 0;
	assert_int_equal(vhdx_metadata_check(&m, NULL), -EBADMSG);
	m = good;
	m.logical_bytes = 1024;
	assert_int_equal(vhdx_metadata_check(&m, NULL), -EBADMSG);
	m = good;
	m.fixed = true;
	m.has_parent = true;
	assert_int_equal(vhdx_metadata_check(&m, NULL), -EBADMSG);
}

static void locators_keep_every_character_of_a_path(void **state)
{
	static struct vhdx_locator in;
	static struct vhdx_locator out;
	static uint8_t buf[VHDX_LOCATOR_BYTES_MAX];

	(void)state;
	in = (struct vhdx_locator){.linkage = {{1, 2}},
	                           .linkage2 = {{3, 4}},
	                           .relative_path = "..\\Vorlagen\\Größe \xf0\x9f\x90\xa6.vhdx",
	                           .absolute_path = "/srv/\xe6\xbc\xa2/parent.vhdx"};

	int len = vhdx_locator_encode(&in, buf, sizeof(buf));

	assert_true(len > 0);
	for (int cut = 0; cut < len; cut++) {
		uint8_t *exact = malloc((size_t)cut + 1);

		assert_non_null(exact);
		memcpy(exact, buf, (size_t)cut);
		assert_int_equal(vhdx_locator_decode(exact, (size_t)cut, &out, NULL), -EBADMSG);
		free(exact);
	}
	for (int bit = 0; bit < len * 8; bit++) {
		uint8_t *exact = malloc((size_t)len);

		assert_non_null(exact);
		memcpy(exact, buf, (size_t)len);
		exact[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ignore(vhdx_locator_decode(exact, (size_t)len, &out, NULL));
		free(exact);
	}
	assert_int_equal(vhdx_locator_decode(buf, (size_t)len, &out, NULL), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	(void)memcpy(in.volume_path, "\xc0\x80", 3); /* overlong */
	assert_int_equal(vhdx_locator_encode(&in, buf, sizeof(buf)), -EINVAL);
	(void)memcpy(in.volume_path, "\xed\xa0\x80", 4); /* a surrogate */
	assert_int_equal(vhdx_locator_encode(&in, buf, sizeof(buf)), -EINVAL);
	in.volume_path[0] = '\0';
	assert_int_equal(vhdx_locator_encode(&in, buf, 100), -ENAMETOOLONG);
}

/* The numbers of [MS-VHDX] 2.4 and 2.5. */
static void geometry_follows_the_specification(void **state)
{
	const struct {
		uint64_t size;
		uint32_t block, logical;
		bool parent;
		uint64_t ratio, blocks, chunks, entries;
	} cases[] = {
		{100ull << 30, 2 << 20, 512, false, 2048, 51200, 25, 51224},
		{100ull << 30, 2 << 20, 512, true, 2048, 51200, 25, 51225},
		{64ull << 40, 1 << 20, 512, true, 4096, 1ull << 26, 16384, (1ull << 26) + 16384},
		{1ull << 40, 256 << 20, 512, false, 16, 4096, 256, 4351},
		{1ull << 40, 32 << 20, 4096, true, 1024, 32768, 32, 32800},
		{512, 1 << 20, 512, false, 4096, 1, 1, 1},
		{512, 1 << 20, 512, true, 4096, 1, 1, 4097},
		{(4ull << 30) + 512, 1 << 20, 512, false, 4096, 4097, 2, 4098},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vhdx_metadata m = {.size_bytes = cases[i].size,
		                          .block_bytes = cases[i].block,
		                          .logical_bytes = cases[i].logical,
		                          .has_parent = cases[i].parent};
		struct vhdx_geometry g;
		uint64_t number;

		vhdx_geometry_init(&m, &g);
		assert_int_equal(1ull << g.chunk_shift, cases[i].ratio);
		assert_int_equal(g.block_count, cases[i].blocks);
		assert_int_equal(g.chunk_count, cases[i].chunks);
		assert_int_equal(g.entry_count, cases[i].entries);

		uint64_t last = g.block_count - 1;

		assert_true(vhdx_bat_is_payload(&g, vhdx_bat_index(&g, last), &number));
		assert_int_equal(number, last);
		assert_false(vhdx_bat_is_payload(&g, vhdx_bat_chunk_index(&g, 0), &number));
		assert_int_equal(number, 0);
		assert_true(vhdx_bat_index(&g, last) < g.entry_count);
	}
}

static void bat_entries_are_checked_against_state_and_file(void **state)
{
	const struct vhdx_metadata m = {.size_bytes = 5 * MIB,
	                                .block_bytes = 2 * MIB,
	                                .logical_bytes = 512,
	                                .has_parent = true};
	struct vhdx_metadata plain = m;
	struct vhdx_geometry g;

	(void)state;
	vhdx_geometry_init(&m, &g);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 8 * MIB | 6, 10 * MIB, NULL), 0);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 8 * MIB | 7, 10 * MIB, NULL), 0);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 9 * MIB | 6, 10 * MIB, NULL), -EBADMSG);
	assert_int_equal(vhdx_bat_entry_check(&g, 2, 9 * MIB | 6, 10 * MIB, NULL), 0); /* 1 MiB */
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 6, 10 * MIB, NULL), -EBADMSG);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 4, 10 * MIB, NULL), -EBADMSG);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 5, 10 * MIB, NULL), -EBADMSG);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 8, 10 * MIB, NULL), -EBADMSG); /* reserved */
	assert_int_equal(vhdx_bat_entry_check(&g, 3, 8 * MIB | 6, 10 * MIB, NULL), -EBADMSG);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, VHDX_BAT_OFFSET_MASK | 6, UINT64_MAX, NULL),
	                 -EBADMSG);
	for (unsigned s = 0; s < 4; s++) {
		assert_int_equal(vhdx_bat_entry_check(&g, 0, s, 10 * MIB, NULL), 0);
	}
	/* The sector bitmap entry follows 2048 payload entries: present or not, nothing else. */
	assert_int_equal(vhdx_bat_entry_check(&g, 2048, 9 * MIB | 6, 10 * MIB, NULL), 0);
	assert_int_equal(vhdx_bat_entry_check(&g, 2048, 10 * MIB | 6, 10 * MIB, NULL), -EBADMSG);
	assert_int_equal(vhdx_bat_entry_check(&g, 2048, 9 * MIB | 7, 10 * MIB, NULL), -EBADMSG);
	assert_int_equal(vhdx_bat_entry_check(&g, 2048, VHDX_ZERO, 10 * MIB, NULL), -EBADMSG);
	plain.has_parent = false;
	vhdx_geometry_init(&plain, &g);
	assert_int_equal(vhdx_bat_entry_check(&g, 0, 8 * MIB | 7, 10 * MIB, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_of_qemu_img_is_understood),
		cmocka_unit_test(what_we_encode_reads_back),
		cmocka_unit_test(every_truncation_and_bit_flip_of_a_header_is_refused),
		cmocka_unit_test(every_bit_flip_of_a_region_table_is_refused),
		cmocka_unit_test(region_tables_with_bad_content_are_refused_by_name),
		cmocka_unit_test(metadata_with_flipped_bits_never_points_outside),
		cmocka_unit_test(metadata_encodes_and_reads_back_with_a_locator),
		cmocka_unit_test(disks_that_cannot_be_are_refused),
		cmocka_unit_test(locators_keep_every_character_of_a_path),
		cmocka_unit_test(geometry_follows_the_specification),
		cmocka_unit_test(bat_entries_are_checked_against_state_and_file),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
