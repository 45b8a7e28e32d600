/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_BOOT_H
#define HV_MACHINE_BOOT_H

/*
 * boot - put a kernel into guest memory and say where its first instruction is.
 *
 * Two formats: Linux bzImage (64-bit entry) and ELF with a PVH note. Files are hostile: headers
 * are copied once and every offset is checked. Sources: Documentation/arch/x86/boot.rst and
 * Documentation/arch/x86/boot64 of Linux, the PVH boot ABI of Xen (docs/misc/pvh.pandoc).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;
struct gmem;

#define BOOT_FILE_BYTES_MAX (1ull << 30)

struct boot_cfg {
	int kernel_fd;       /* regular file, borrowed */
	int initrd_fd;       /* the same; -1 = none */
	const char *cmdline; /* "" = none; shorter than LAYOUT_CMDLINE_MAX */
};

/* How the boot VP starts. */
struct boot_entry {
	bool long_mode; /* 64-bit with paging, or flat 32-bit */
	uint64_t rip;
	uint64_t rsi;     /* boot parameters (bzImage) */
	uint64_t rbx;     /* start info (PVH) */
	uint64_t cr3;     /* identity map of the first 4 GiB (bzImage) */
	uint64_t gdt_gpa; /* selectors 0x10 code, 0x18 data */
	uint16_t gdt_limit;
};

/*
 * boot_load() - load kernel, initrd and command line, write the memory map and page tables.
 * The ACPI tables are at LAYOUT_ACPI_GPA already or will be.
 * Returns 0; -ENOEXEC no kernel we know, or a damaged one; -ENOMEM it does not fit into the
 * guest's memory; -EINVAL command line too long; -errno of reading.
 */
MUST_USE int boot_load(struct gmem *mem, const struct boot_cfg *cfg, struct boot_entry *out,
                       struct errbuf *eb);

#endif
