/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_BOOT_WIRE_H
#define HV_MACHINE_BOOT_WIRE_H

/*
 * boot_wire - what kernels and loaders tell each other.
 * Sources: Linux Documentation/arch/x86/boot.rst (header 2.15) and zero-page.rst; ELF-64; the PVH
 * boot ABI (hvm_start_info version 1).
 */

#include <stdint.h>

#include "base/wire.h"

/* The real-mode setup header: file offset 0x1f1, the same offset in boot_params. */
struct boot_setup_header {
	uint8_t setup_sects; /* 1f1; 0 means 4 */
	le16 root_flags;
	le32 syssize;
	le16 ram_size;
	le16 vid_mode;
	le16 root_dev;
	le16 boot_flag;   /* 1fe: 0xaa55 */
	uint8_t jump[2];  /* 200: jump[1] + 0x202 = end of the header */
	uint8_t magic[4]; /* 202: "HdrS" */
	le16 version;     /* 206 */
	le32 realmode_swtch;
	le16 start_sys_seg;
	le16 kernel_version;
	uint8_t type_of_loader; /* 210 */
	uint8_t loadflags;      /* 211: bit 0 loaded high */
	le16 setup_move_size;
	le32 code32_start;
	le32 ramdisk_image; /* 218 */
	le32 ramdisk_size;  /* 21c */
	le32 bootsect_kludge;
	le16 heap_end_ptr;
	uint8_t ext_loader_ver, ext_loader_type;
	le32 cmd_line_ptr;     /* 228 */
	le32 initrd_addr_max;  /* 22c */
	le32 kernel_alignment; /* 230 */
	uint8_t relocatable_kernel;
	uint8_t min_alignment;
	le16 xloadflags;   /* 236: bit 0 = 64-bit entry point */
	le32 cmdline_size; /* 238 */
	le32 hardware_subarch;
	le64 hardware_subarch_data;
	le32 payload_offset;
	le32 payload_length;
	le64 setup_data;
	le64 pref_address; /* 258 */
	le32 init_size;    /* 260 */
	le32 handover_offset;
	le32 kernel_info_offset;
};
WIRE_SIZE(struct boot_setup_header, 0x26c - 0x1f1);
WIRE_AT(struct boot_setup_header, boot_flag, 0x1fe - 0x1f1);
WIRE_AT(struct boot_setup_header, ramdisk_image, 0x218 - 0x1f1);
WIRE_AT(struct boot_setup_header, xloadflags, 0x236 - 0x1f1);
WIRE_AT(struct boot_setup_header, init_size, 0x260 - 0x1f1);

struct boot_e820 {
	le64 gpa;
	le64 len_bytes;
	le32 type;
};
WIRE_SIZE(struct boot_e820, 20);

#define BOOT_E820_MAX 128u

/* The zero page. */
struct boot_params {
	uint8_t screen_info[0x40];
	uint8_t pad0[0x30];
	le64 acpi_rsdp_addr; /* 070 */
	uint8_t pad1[0x48];
	le32 ext_ramdisk_image; /* 0c0 */
	le32 ext_ramdisk_size;
	le32 ext_cmd_line_ptr;
	uint8_t pad2[0x1e8 - 0xcc];
	uint8_t e820_entries; /* 1e8 */
	uint8_t pad3[8];
	struct boot_setup_header header; /* 1f1 */
	uint8_t pad4[0x2d0 - 0x26c];
	struct boot_e820 e820[BOOT_E820_MAX]; /* 2d0 */
	uint8_t pad5[4096 - 0x2d0 - BOOT_E820_MAX * 20];
};
WIRE_SIZE(struct boot_params, 4096);
WIRE_AT(struct boot_params, acpi_rsdp_addr, 0x70);
WIRE_AT(struct boot_params, header, 0x1f1);
WIRE_AT(struct boot_params, e820, 0x2d0);

struct boot_elf_header {
	uint8_t ident[16];
	le16 type;
	le16 machine;
	le32 version;
	le64 entry;
	le64 phoff;
	le64 shoff;
	le32 flags;
	le16 ehsize;
	le16 phentsize;
	le16 phnum;
	le16 shentsize;
	le16 shnum;
	le16 shstrndx;
};
WIRE_SIZE(struct boot_elf_header, 64);

struct boot_elf_segment {
	le32 type; /* 1 load, 4 note */
	le32 flags;
	le64 offset;
	le64 vaddr;
	le64 paddr;
	le64 filesz;
	le64 memsz;
	le64 align;
};
WIRE_SIZE(struct boot_elf_segment, 56);

struct boot_elf_note {
	le32 name_bytes;
	le32 desc_bytes;
	le32 type; /* 18 = 32-bit physical entry of PVH, name "Xen" */
};
WIRE_SIZE(struct boot_elf_note, 12);

struct boot_pvh_info {
	le32 magic; /* 0x336ec578 */
	le32 version;
	le32 flags;
	le32 modules;
	le64 module_list;
	le64 cmdline;
	le64 rsdp;
	le64 map;
	le32 map_entries;
	le32 reserved;
};
WIRE_SIZE(struct boot_pvh_info, 56);

struct boot_pvh_module {
	le64 gpa;
	le64 len_bytes;
	le64 cmdline;
	le64 reserved;
};
WIRE_SIZE(struct boot_pvh_module, 32);

struct boot_pvh_map {
	le64 gpa;
	le64 len_bytes;
	le32 type;
	le32 reserved;
};
WIRE_SIZE(struct boot_pvh_map, 24);

#endif
