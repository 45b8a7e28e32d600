/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/errbuf.h"
#include "hv/machine/boot_int.h"
#include "hv/machine/boot_wire.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"

#define HEADER_AT 0x1f1u
#define SECTOR_BYTES 512u
#define VERSION_MIN 0x20cu /* the first with xloadflags */
#define XLF_64 1u
#define LOADED_HIGH 1u
#define LOADER_UNKNOWN 0xffu
#define ENTRY_64_OFFSET 0x200u
#define PTE_PRESENT_WRITE 3ull
#define PTE_LARGE 0x80ull
#define LARGE_PAGE_BYTES (2ull << 20)

struct bzimage {
	struct boot_setup_header header;
	uint64_t code_offset; /* protected-mode part in the file */
	uint64_t code_bytes;
	uint64_t load_gpa;
	uint64_t init_bytes; /* what it needs from load_gpa on, unpacked */
};

static int bzimage_decode(const struct boot_file *kernel, struct bzimage *out, struct errbuf *eb)
{
	struct boot_setup_header *h = &out->header;
	int err = boot_file_read(kernel, HEADER_AT, h, sizeof(*h));

	if (err == -ENODATA || le16_get(h->boot_flag) != 0xaa55 ||
	    memcmp(h->magic, "HdrS", 4) != 0) {
		err = errbuf_set(eb, -ENOEXEC, "the kernel is neither a bzImage nor an ELF file");
		errbuf_hint(eb, "use the distribution's vmlinuz, or a vmlinux with a PVH note");
		return err;
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot read the kernel");
	}
	if (le16_get(h->version) < VERSION_MIN || (le16_get(h->xloadflags) & XLF_64) == 0) {
		return errbuf_set(eb, -ENOEXEC,
		                  "the kernel (boot protocol %x) has no 64-bit entry point",
		                  le16_get(h->version));
	}

	uint32_t sectors = h->setup_sects != 0 ? h->setup_sects : 4;

	out->code_offset = (uint64_t)(sectors + 1) * SECTOR_BYTES;
	if (out->code_offset >= kernel->len_bytes) {
		return errbuf_set(eb, -ENOEXEC, "the kernel file is cut short");
	}
	out->code_bytes = kernel->len_bytes - out->code_offset;
	out->load_gpa = le64_get(h->pref_address);
	out->init_bytes = le32_get(h->init_size);
	if (out->init_bytes < out->code_bytes) {
		out->init_bytes = out->code_bytes;
	}
	return 0;
}

static int bzimage_place(const struct gmem *mem, struct bzimage *z, struct errbuf *eb)
{
	struct gmem_slot low;

	gmem_slot(mem, 0, &low);
	if (z->load_gpa < LAYOUT_KERNEL_GPA || z->load_gpa > low.len_bytes ||
	    z->init_bytes > low.len_bytes - z->load_gpa) {
		int err =
			errbuf_set(eb, -ENOMEM,
		                   "the kernel needs %llu MiB at %llu MiB, more than the guest has",
		                   (unsigned long long)(z->init_bytes >> 20),
		                   (unsigned long long)(z->load_gpa >> 20));

		errbuf_hint(eb, "give the VM more memory");
		return err;
	}
	return 0;
}

static int bzimage_page_tables(struct gmem *mem)
{
	le64 table[512];
	int err;

	memset(table, 0, sizeof(table));
	table[0] = le64_make(BOOT_PDPT_GPA | PTE_PRESENT_WRITE);
	err = gmem_write(mem, BOOT_PML4_GPA, table, sizeof(table));
	for (uint64_t i = 0; i < 4; i++) {
		table[i] = le64_make((BOOT_PD_GPA + i * GMEM_PAGE_BYTES) | PTE_PRESENT_WRITE);
	}
	if (err == 0) {
		err = gmem_write(mem, BOOT_PDPT_GPA, table, sizeof(table));
	}
	for (uint64_t pd = 0; pd < 4 && err == 0; pd++) {
		for (uint64_t i = 0; i < 512; i++) {
			table[i] = le64_make((pd * 512 + i) * LARGE_PAGE_BYTES | PTE_PRESENT_WRITE |
			                     PTE_LARGE);
		}
		err = gmem_write(mem, BOOT_PD_GPA + pd * GMEM_PAGE_BYTES, table, sizeof(table));
	}
	return err;
}

static void bzimage_e820(const struct gmem *mem, struct boot_params *params)
{
	struct boot_map map[BOOT_MAP_MAX];
	uint32_t count = boot_map_make(mem, map);

	for (uint32_t i = 0; i < count; i++) {
		params->e820[i] = (struct boot_e820){
			.gpa = le64_make(map[i].gpa),
			.len_bytes = le64_make(map[i].len_bytes),
			.type = le32_make(map[i].type),
		};
	}
	params->e820_entries = (uint8_t)count;
}

int boot_bzimage_load(struct gmem *mem, const struct boot_cfg *cfg, const struct boot_file *kernel,
                      struct boot_entry *out, struct errbuf *eb)
{
	struct boot_params params;
	struct bzimage z;
	struct boot_file initrd = {.fd = -1};
	uint64_t initrd_gpa = 0;
	int err = bzimage_decode(kernel, &z, eb);

	if (err == 0) {
		err = bzimage_place(mem, &z, eb);
	}
	if (err != 0) {
		return err;
	}
	err = boot_file_copy(kernel, z.code_offset, mem, z.load_gpa, z.code_bytes);
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot read the kernel");
	}
	if (cfg->initrd_fd >= 0) {
		err = boot_file_open(cfg->initrd_fd, &initrd);
		if (err != 0) {
			return errbuf_sys(eb, err, "cannot read the initrd");
		}
		err = boot_initrd_load(mem, &initrd, z.load_gpa + z.init_bytes,
		                       (uint64_t)le32_get(z.header.initrd_addr_max) + 1,
		                       &initrd_gpa, eb);
		if (err != 0) {
			return err;
		}
	}

	memset(&params, 0, sizeof(params));
	params.header = z.header;
	params.header.type_of_loader = LOADER_UNKNOWN;
	params.header.loadflags |= LOADED_HIGH;
	params.header.ramdisk_image = le32_make((uint32_t)initrd_gpa);
	params.header.ramdisk_size = le32_make((uint32_t)initrd.len_bytes);
	params.header.cmd_line_ptr = le32_make((uint32_t)LAYOUT_CMDLINE_GPA);
	params.header.setup_data = le64_make(0);
	params.acpi_rsdp_addr = le64_make(LAYOUT_ACPI_GPA);
	bzimage_e820(mem, &params);
	err = gmem_write(mem, BOOT_PARAMS_GPA, &params, sizeof(params));
	if (err == 0) {
		err = bzimage_page_tables(mem);
	}
	*out = (struct boot_entry){
		.long_mode = true,
		.rip = z.load_gpa + ENTRY_64_OFFSET,
		.rsi = BOOT_PARAMS_GPA,
		.cr3 = BOOT_PML4_GPA,
	};
	return err;
}
