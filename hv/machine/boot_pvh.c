/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/errbuf.h"
#include "hv/machine/boot_int.h"
#include "hv/machine/boot_wire.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"

#define ELF_CLASS_64 2u
#define ELF_LITTLE 1u
#define ELF_X86_64 62u
#define ELF_SEGMENTS_MAX 32u
#define ELF_NOTES_BYTES_MAX 65536u
#define ELF_LOAD 1u
#define ELF_NOTE 4u
#define NOTE_PHYS32_ENTRY 18u
#define PVH_MAGIC 0x336ec578u

static uint64_t pvh_align4(uint32_t v)
{
	return ((uint64_t)v + 3) & ~3ull;
}

/* Find the entry point among the notes of one segment. Returns true if it is there. */
static bool pvh_note_find(const uint8_t *notes, uint64_t len, uint64_t *entry)
{
	struct boot_elf_note note;
	uint64_t at = 0;

	while (len - at >= sizeof(note)) {
		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);

		uint64_t name = pvh_align4(le32_get(note.name_bytes));
		uint64_t desc = pvh_align4(le32_get(note.desc_bytes));

		if (name > len - at || desc > len - at - name) {
			return false;
		}
		if (le32_get(note.type) == NOTE_PHYS32_ENTRY && le32_get(note.name_bytes) == 4 &&
		    memcmp(notes + at, "Xen", 4) == 0 && le32_get(note.desc_bytes) >= 4) {
			le32 value;

			memcpy(&value, notes + at + name, sizeof(value));
			*entry = le32_get(value);
			return true;
		}
		at += name + desc;
	}
	return false;
}

static int pvh_note_read(const struct boot_file *kernel, const struct boot_elf_segment *seg,
                         uint64_t *entry)
{
	static const uint64_t max = ELF_NOTES_BYTES_MAX;
	uint8_t notes[ELF_NOTES_BYTES_MAX];
	uint64_t len = le64_get(seg->filesz) < max ? le64_get(seg->filesz) : max;
	int err = boot_file_read(kernel, le64_get(seg->offset), notes, len);

	if (err != 0) {
		return err;
	}
	return pvh_note_find(notes, len, entry) ? 1 : 0;
}

static int pvh_segment_load(struct gmem *mem, const struct boot_file *kernel,
                            const struct boot_elf_segment *seg, uint64_t *end, struct errbuf *eb)
{
	uint64_t gpa = le64_get(seg->paddr);
	uint64_t in_file = le64_get(seg->filesz);
	uint64_t in_memory = le64_get(seg->memsz);
	int err;

	if (in_file > in_memory || in_memory > BOOT_FILE_BYTES_MAX) {
		return errbuf_set(eb, -ENOEXEC, "the kernel has a damaged program header");
	}
	if (in_memory == 0) {
		return 0;
	}
	if (gpa < LAYOUT_KERNEL_GPA || gmem_range(mem, gpa, in_memory) == NULL) {
		err = errbuf_set(
			eb, -ENOMEM,
			"the kernel wants %llu KiB at 0x%llx, where the guest has no memory",
			(unsigned long long)(in_memory >> 10), (unsigned long long)gpa);
		errbuf_hint(eb, "give the VM more memory");
		return err;
	}
	err = boot_file_copy(kernel, le64_get(seg->offset), mem, gpa, in_file);
	if (err == 0) {
		err = gmem_zero(mem, gpa + in_file, in_memory - in_file);
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot load the kernel");
	}
	if (gpa + in_memory > *end) {
		*end = gpa + in_memory;
	}
	return 0;
}

static int pvh_elf_load(struct gmem *mem, const struct boot_file *kernel, uint64_t *entry,
                        uint64_t *end, struct errbuf *eb)
{
	struct boot_elf_header elf;
	struct boot_elf_segment segs[ELF_SEGMENTS_MAX];
	int err = boot_file_read(kernel, 0, &elf, sizeof(elf));
	uint32_t count = err == 0 ? le16_get(elf.phnum) : 0;
	int found = 0;

	if (err != 0 || elf.ident[4] != ELF_CLASS_64 || elf.ident[5] != ELF_LITTLE ||
	    le16_get(elf.machine) != ELF_X86_64 || le16_get(elf.phentsize) != sizeof(segs[0]) ||
	    count == 0 || count > ELF_SEGMENTS_MAX) {
		return errbuf_set(eb, -ENOEXEC, "the kernel is not an x86-64 ELF file we can load");
	}
	err = boot_file_read(kernel, le64_get(elf.phoff), segs, count * sizeof(segs[0]));
	if (err != 0) {
		return errbuf_set(eb, -ENOEXEC, "the kernel's program headers are cut short");
	}
	for (uint32_t i = 0; i < count && err == 0; i++) {
		if (le32_get(segs[i].type) == ELF_LOAD) {
			err = pvh_segment_load(mem, kernel, &segs[i], end, eb);
		} else if (le32_get(segs[i].type) == ELF_NOTE && found == 0) {
			found = pvh_note_read(kernel, &segs[i], entry);
		}
	}
	if (err == 0 && found != 1) {
		err = errbuf_set(eb, -ENOEXEC, "the kernel has no PVH entry point");
		errbuf_hint(eb, "build it with CONFIG_PVH, or use its bzImage");
	}
	return err;
}

static int pvh_info_write(struct gmem *mem, uint64_t initrd_gpa, uint64_t initrd_bytes)
{
	struct boot_map map[BOOT_MAP_MAX];
	struct boot_pvh_map rows[BOOT_MAP_MAX];
	uint32_t count = boot_map_make(mem, map);
	struct boot_pvh_module module = {
		.gpa = le64_make(initrd_gpa),
		.len_bytes = le64_make(initrd_bytes),
	};
	struct boot_pvh_info info = {
		.magic = le32_make(PVH_MAGIC),
		.version = le32_make(1),
		.modules = le32_make(initrd_bytes != 0 ? 1 : 0),
		.module_list = le64_make(initrd_bytes != 0 ? BOOT_PVH_MODULE_GPA : 0),
		.cmdline = le64_make(LAYOUT_CMDLINE_GPA),
		.rsdp = le64_make(LAYOUT_ACPI_GPA),
		.map = le64_make(BOOT_PVH_MAP_GPA),
		.map_entries = le32_make(count),
	};
	int err;

	for (uint32_t i = 0; i < count; i++) {
		rows[i] = (struct boot_pvh_map){
			.gpa = le64_make(map[i].gpa),
			.len_bytes = le64_make(map[i].len_bytes),
			.type = le32_make(map[i].type),
		};
	}
	err = gmem_write(mem, BOOT_PARAMS_GPA, &info, sizeof(info));
	if (err == 0) {
		err = gmem_write(mem, BOOT_PVH_MODULE_GPA, &module, sizeof(module));
	}
	if (err == 0) {
		err = gmem_write(mem, BOOT_PVH_MAP_GPA, rows, count * sizeof(rows[0]));
	}
	return err;
}

int boot_pvh_load(struct gmem *mem, const struct boot_cfg *cfg, const struct boot_file *kernel,
                  struct boot_entry *out, struct errbuf *eb)
{
	struct boot_file initrd = {.fd = -1};
	uint64_t initrd_gpa = 0;
	uint64_t entry = 0;
	uint64_t end = 0;
	int err = pvh_elf_load(mem, kernel, &entry, &end, eb);

	if (err != 0) {
		return err;
	}
	if (cfg->initrd_fd >= 0) {
		err = boot_file_open(cfg->initrd_fd, &initrd);
		if (err != 0) {
			return errbuf_sys(eb, err, "cannot read the initrd");
		}
		err = boot_initrd_load(mem, &initrd, end, UINT32_MAX, &initrd_gpa, eb);
		if (err != 0) {
			return err;
		}
	}
	*out = (struct boot_entry){.rip = entry, .rbx = BOOT_PARAMS_GPA};
	return pvh_info_write(mem, initrd_gpa, initrd.len_bytes);
}
