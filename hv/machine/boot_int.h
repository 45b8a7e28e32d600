/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_BOOT_INT_H
#define HV_MACHINE_BOOT_INT_H

/* Shared by the two loaders. */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/machine/boot.h"

/* The first 64 KiB of RAM, as the loaders use it. */
#define BOOT_GDT_GPA 0x1000ull
#define BOOT_PARAMS_GPA 0x2000ull /* boot_params or hvm_start_info */
#define BOOT_PVH_MODULE_GPA 0x2100ull
#define BOOT_PVH_MAP_GPA 0x2200ull
#define BOOT_PML4_GPA 0x5000ull
#define BOOT_PDPT_GPA 0x6000ull
#define BOOT_PD_GPA 0x7000ull /* four pages: 4 GiB in 2 MiB pages */

#define BOOT_GDT_LIMIT 31u

#define BOOT_MAP_MAX 8u

enum boot_map_type { BOOT_MAP_RAM = 1, BOOT_MAP_RESERVED = 2, BOOT_MAP_ACPI = 3 };

/* One row of the memory map (e820 types). */
struct boot_map {
	uint64_t gpa;
	uint64_t len_bytes;
	enum boot_map_type type;
};

/* A file and its size, known to be at most BOOT_FILE_BYTES_MAX. */
struct boot_file {
	int fd;
	uint64_t len_bytes;
};

/* boot_file_open() - Returns 0; -EFBIG; -EINVAL not a regular file; -errno. */
MUST_USE int boot_file_open(int fd, struct boot_file *out);

/* boot_file_read() - exactly @len_bytes at @offset. Returns 0; -ENODATA the file ends; -errno. */
MUST_USE int boot_file_read(const struct boot_file *f, uint64_t offset, void *buf,
                            size_t len_bytes);

/* boot_file_copy() - file bytes straight into the guest. Returns 0; -EFAULT no RAM; as above. */
MUST_USE int boot_file_copy(const struct boot_file *f, uint64_t offset, struct gmem *mem,
                            uint64_t gpa, uint64_t len_bytes);

/* boot_map_make() - the memory map: rows to @map, their number returned. */
uint32_t boot_map_make(const struct gmem *mem, struct boot_map map[BOOT_MAP_MAX]);

/*
 * boot_initrd_load() - as high as possible in low RAM, ending at or below @max_gpa and not
 * below @floor_gpa. Returns 0; -ENOMEM; -errno.
 */
MUST_USE int boot_initrd_load(struct gmem *mem, const struct boot_file *f, uint64_t floor_gpa,
                              uint64_t max_gpa, uint64_t *gpa, struct errbuf *eb);

MUST_USE int boot_bzimage_load(struct gmem *mem, const struct boot_cfg *cfg,
                               const struct boot_file *kernel, struct boot_entry *out,
                               struct errbuf *eb);
MUST_USE int boot_pvh_load(struct gmem *mem, const struct boot_cfg *cfg,
                           const struct boot_file *kernel, struct boot_entry *out,
                           struct errbuf *eb);

#endif
