/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "hv/machine/boot_wire.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)
#define RAM_BYTES (8 * MIB)
#define CODE_GPA (2 * MIB)
#define CODE_BYTES 4096u
#define ZIMAGE_BYTES (5 * 512 + CODE_BYTES) /* 4 setup sectors, the boot sector, the code */
#define NOTE_AT 0x200u
#define SEGMENT_AT 0x1000u
#define ELF_BYTES (SEGMENT_AT + CODE_BYTES)
#define ENTRY 0x200100u

static struct gmem *memory(void)
{
	const struct gmem_cfg cfg = {.size_bytes = RAM_BYTES, .low_max_bytes = LAYOUT_LOW_RAM_MAX};
	struct gmem *mem;

	assert_int_equal(gmem_create(&cfg, &mem, NULL), 0);
	return mem;
}

static int file_of(const void *buf, size_t len)
{
	int fd = memfd_create("boot-test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, buf, len, 0), len);
	return fd;
}

/* A bzImage whose code is a pattern. */
static void zimage_make(uint8_t buf[ZIMAGE_BYTES])
{
	struct boot_setup_header h = {
		.setup_sects = 4,
		.boot_flag = le16_make(0xaa55),
		.jump = {0xeb, 0x6a},
		.magic = {'H', 'd', 'r', 'S'},
		.version = le16_make(0x020f),
		.loadflags = 1,
		.initrd_addr_max = le32_make(0x7fffffff),
		.xloadflags = le16_make(1),
		.cmdline_size = le32_make(2047),
		.pref_address = le64_make(CODE_GPA),
		.init_size = le32_make(2 * MIB),
	};

	memset(buf, 0, ZIMAGE_BYTES);
	memcpy(buf + 0x1f1, &h, sizeof(h));
	for (size_t i = 0; i < CODE_BYTES; i++) {
		buf[5 * 512 + i] = (uint8_t)(i * 7 + 1);
	}
}

/* An ELF with a note segment and one to load. */
static void elf_make(uint8_t buf[ELF_BYTES])
{
	const struct boot_elf_header h = {
		.ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
		.type = le16_make(2),
		.machine = le16_make(62),
		.version = le32_make(1),
		.entry = le64_make(0xffffffff81000000ull),
		.phoff = le64_make(64),
		.ehsize = le16_make(64),
		.phentsize = le16_make(56),
		.phnum = le16_make(2),
	};
	const struct boot_elf_segment segs[2] = {
		{.type = le32_make(1),
	         .offset = le64_make(SEGMENT_AT),
	         .vaddr = le64_make(0xffffffff81000000ull),
	         .paddr = le64_make(CODE_GPA),
	         .filesz = le64_make(CODE_BYTES),
	         .memsz = le64_make(CODE_BYTES + 100)},
		{.type = le32_make(4), .offset = le64_make(NOTE_AT), .filesz = le64_make(40)},
	};
	const struct boot_elf_note other = {
		.name_bytes = le32_make(4), .desc_bytes = le32_make(3), .type = le32_make(6)};
	const struct boot_elf_note pvh = {
		.name_bytes = le32_make(4), .desc_bytes = le32_make(4), .type = le32_make(18)};
	const le32 entry = le32_make(ENTRY);

	memset(buf, 0, ELF_BYTES);
	memcpy(buf, &h, sizeof(h));
	memcpy(buf + 64, segs, sizeof(segs));
	memcpy(buf + NOTE_AT, &other, 12);
	memcpy(buf + NOTE_AT + 12, "GNU", 4);
	memcpy(buf + NOTE_AT + 20, &pvh, 12);
	memcpy(buf + NOTE_AT + 32, "Xen", 4);
	memcpy(buf + NOTE_AT + 36, &entry, 4);
	for (size_t i = 0; i < CODE_BYTES; i++) {
		buf[SEGMENT_AT + i] = (uint8_t)(i * 5 + 3);
	}
}

static int load(struct gmem *mem, const uint8_t *kernel, size_t kernel_bytes, const char *initrd,
                const char *cmdline, struct boot_entry *entry, struct errbuf *eb)
{
	const struct boot_cfg cfg = {
		.kernel_fd = file_of(kernel, kernel_bytes),
		.initrd_fd = initrd != NULL ? file_of(initrd, strlen(initrd)) : -1,
		.cmdline = cmdline,
	};
	int err = boot_load(mem, &cfg, entry, eb);

	(void)close(cfg.kernel_fd);
	if (cfg.initrd_fd >= 0) {
		(void)close(cfg.initrd_fd);
	}
	return err;
}

static void bytes_at(struct gmem *mem, uint64_t gpa, const void *want, size_t len)
{
	const void *p = gmem_range(mem, gpa, len);

	assert_non_null(p);
	assert_memory_equal(p, want, len);
}

/* The identity map: every 2 MiB page below 4 GiB is where it says. */
static void page_tables_check(struct gmem *mem, uint64_t cr3)
{
	const le64 *pml4 = gmem_range(mem, cr3, 4096);
	const le64 *pdpt = gmem_range(mem, le64_get(pml4[0]) & ~0xfffull, 4096);

	for (uint64_t i = 0; i < 4; i++) {
		const le64 *pd = gmem_range(mem, le64_get(pdpt[i]) & ~0xfffull, 4096);

		for (uint64_t k = 0; k < 512; k++) {
			assert_int_equal(le64_get(pd[k]), (i * 512 + k) << 21 | 0x83);
		}
	}
	assert_int_equal(le64_get(pml4[1]) | le64_get(pdpt[4]), 0);
}

static void a_bzimage_is_loaded_as_its_header_says(void **state)
{
	uint8_t kernel[ZIMAGE_BYTES];
	struct gmem *mem = memory();
	struct boot_params params;
	struct boot_entry entry;
	uint64_t ram = 0;

	(void)state;
	zimage_make(kernel);
	assert_int_equal(
		load(mem, kernel, sizeof(kernel), "initrd!", "console=ttyS0", &entry, NULL), 0);
	assert_true(entry.long_mode);
	assert_int_equal(entry.rip, CODE_GPA + 0x200);
	bytes_at(mem, CODE_GPA, kernel + 5 * 512, CODE_BYTES);
	bytes_at(mem, LAYOUT_CMDLINE_GPA, "console=ttyS0", 14);
	assert_int_equal(gmem_read(mem, entry.rsi, &params, sizeof(params)), 0);
	assert_int_equal(le32_get(params.header.cmd_line_ptr), LAYOUT_CMDLINE_GPA);
	assert_int_equal(le32_get(params.header.ramdisk_size), 7);
	assert_int_equal(le64_get(params.acpi_rsdp_addr), LAYOUT_ACPI_GPA);
	bytes_at(mem, le32_get(params.header.ramdisk_image), "initrd!", 7);
	assert_true(le32_get(params.header.ramdisk_image) >= CODE_GPA + 2 * MIB);
	for (unsigned i = 0; i < params.e820_entries; i++) {
		if (le32_get(params.e820[i].type) == 1) {
			assert_non_null(gmem_range(mem, le64_get(params.e820[i].gpa),
			                           le64_get(params.e820[i].len_bytes)));
			ram += le64_get(params.e820[i].len_bytes);
		}
	}
	assert_int_equal(ram, RAM_BYTES - MIB + LAYOUT_EBDA_GPA);
	page_tables_check(mem, entry.cr3);
	assert_int_equal(entry.gdt_limit, 31);
	assert_non_null(gmem_range(mem, entry.gdt_gpa, 32));
	gmem_destroy(mem);
}

static void an_elf_is_loaded_through_its_pvh_note(void **state)
{
	uint8_t kernel[ELF_BYTES];
	struct gmem *mem = memory();
	struct boot_pvh_info info;
	struct boot_pvh_module module;
	struct boot_entry entry;

	(void)state;
	elf_make(kernel);
	/* What is behind the file's part of the segment is zero, also after an earlier kernel. */
	memset(gmem_range(mem, CODE_GPA, 2 * CODE_BYTES), 0xff, 2 * CODE_BYTES);
	assert_int_equal(load(mem, kernel, sizeof(kernel), "ramdisk", "a b", &entry, NULL), 0);
	assert_false(entry.long_mode);
	assert_int_equal(entry.rip, ENTRY);
	bytes_at(mem, CODE_GPA, kernel + SEGMENT_AT, CODE_BYTES);
	bytes_at(mem, CODE_GPA + CODE_BYTES, (const uint8_t[100]){0}, 100);
	assert_int_equal(gmem_read(mem, entry.rbx, &info, sizeof(info)), 0);
	assert_int_equal(le32_get(info.magic), 0x336ec578);
	assert_int_equal(le32_get(info.modules), 1);
	bytes_at(mem, le64_get(info.cmdline), "a b", 4);
	assert_int_equal(le64_get(info.rsdp), LAYOUT_ACPI_GPA);
	assert_int_equal(gmem_read(mem, le64_get(info.module_list), &module, sizeof(module)), 0);
	assert_int_equal(le64_get(module.len_bytes), 7);
	bytes_at(mem, le64_get(module.gpa), "ramdisk", 7);
	gmem_destroy(mem);
}

static void what_cannot_boot_is_refused_with_a_reason(void **state)
{
	uint8_t z[ZIMAGE_BYTES];
	uint8_t e[ELF_BYTES];
	char *longest = malloc(LAYOUT_CMDLINE_MAX + 1);
	struct gmem *mem = memory();
	struct boot_entry entry;
	struct errbuf eb = {0};
	struct boot_setup_header *h = (struct boot_setup_header *)(void *)(z + 0x1f1);

	(void)state;
	assert_non_null(longest);
	zimage_make(z);
	memset(longest, 'x', LAYOUT_CMDLINE_MAX);
	longest[LAYOUT_CMDLINE_MAX] = '\0';
	assert_int_equal(load(mem, z, sizeof(z), NULL, longest, &entry, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "4095"));
	longest[LAYOUT_CMDLINE_MAX - 1] = '\0';
	assert_int_equal(load(mem, z, sizeof(z), NULL, longest, &entry, NULL), 0);
	free(longest);

	assert_int_equal(load(mem, (const uint8_t *)"#!/bin/sh\n", 10, NULL, "", &entry, &eb),
	                 -ENOEXEC);
	assert_true(eb.hint[0] != '\0');
	assert_int_not_equal(load(mem, (const uint8_t *)"", 0, NULL, "", &entry, &eb), 0);
	h->xloadflags = le16_make(0);
	assert_int_equal(load(mem, z, sizeof(z), NULL, "", &entry, &eb), -ENOEXEC);
	assert_non_null(strstr(eb.text, "64-bit"));
	zimage_make(z);
	h->init_size = le32_make(7 * MIB);
	assert_int_equal(load(mem, z, sizeof(z), NULL, "", &entry, &eb), -ENOMEM);
	assert_non_null(strstr(eb.hint, "memory"));
	h->init_size = le32_make(6 * MIB); /* fits, but leaves no room for an initrd */
	assert_int_equal(load(mem, z, sizeof(z), NULL, "", &entry, &eb), 0);
	assert_int_equal(load(mem, z, sizeof(z), "i", "", &entry, &eb), -ENOMEM);

	elf_make(e);
	e[NOTE_AT + 20 + 8] = 17; /* no PVH note any more */
	assert_int_equal(load(mem, e, sizeof(e), NULL, "", &entry, &eb), -ENOEXEC);
	assert_non_null(strstr(eb.text, "PVH"));

	const struct boot_cfg dir = {.kernel_fd = 0, .initrd_fd = -1, .cmdline = ""};
	int pipe_fds[2];

	assert_int_equal(pipe(pipe_fds), 0);
	struct boot_cfg no_file = dir;

	no_file.kernel_fd = pipe_fds[0];
	assert_int_equal(boot_load(mem, &no_file, &entry, &eb), -EINVAL);
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
	gmem_destroy(mem);
}

/* Refused, or loaded into memory: gmem's checks and the sanitizers see to the rest. */
static void damaged(const uint8_t *good, size_t len, size_t header_bytes)
{
	struct gmem *mem = memory();
	uint8_t *buf = malloc(len);
	struct boot_entry entry;
	unsigned refused = 0;

	assert_non_null(buf);
	for (size_t cut = 0; cut < header_bytes; cut++) {
		refused += load(mem, good, cut, "i", "", &entry, NULL) != 0;
	}
	assert_int_equal(refused, header_bytes);
	refused = 0;
	for (size_t bit = 0; bit < header_bytes * 8; bit++) {
		struct errbuf eb = {0};

		if (good[bit / 8] == 0 && bit / 8 < 0x1f1 && bit / 8 >= 0x100) {
			continue; /* padding */
		}
		memcpy(buf, good, len);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);

		int err = load(mem, buf, len, "i", "", &entry, &eb);

		if (err != 0) {
			assert_true(eb.text[0] != '\0');
			refused++;
		}
	}
	assert_true(refused > 50);
	free(buf);
	gmem_destroy(mem);
}

static void every_damage_to_a_bzimage_is_survived(void **state)
{
	uint8_t kernel[ZIMAGE_BYTES];

	(void)state;
	zimage_make(kernel);
	damaged(kernel, sizeof(kernel), 0x26c);
}

static void every_damage_to_an_elf_is_survived(void **state)
{
	uint8_t kernel[ELF_BYTES];

	(void)state;
	elf_make(kernel);
	damaged(kernel, sizeof(kernel), NOTE_AT + 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bzimage_is_loaded_as_its_header_says),
		cmocka_unit_test(an_elf_is_loaded_through_its_pvh_note),
		cmocka_unit_test(what_cannot_boot_is_refused_with_a_reason),
		cmocka_unit_test(every_damage_to_a_bzimage_is_survived),
		cmocka_unit_test(every_damage_to_an_elf_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
