/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_ACPI_WIRE_H
#define HV_MACHINE_ACPI_WIRE_H

/* acpi_wire - the fixed ACPI tables as a guest finds them. Source: ACPI 6.4, chapter 5. */

#include <stdint.h>

#include "base/wire.h"

/* 5.2.5.3 */
struct acpi_rsdp {
	uint8_t signature[8]; /* "RSD PTR " */
	uint8_t checksum;     /* of bytes 0..19 */
	uint8_t oem_id[6];
	uint8_t revision; /* 2 */
	le32 rsdt;        /* 16: 0, the XSDT counts */
	le32 length;      /* 20 */
	le64 xsdt;        /* 24 */
	uint8_t extended_checksum;
	uint8_t reserved[3];
};
WIRE_SIZE(struct acpi_rsdp, 36);

/* 5.2.6 */
struct acpi_header {
	uint8_t signature[4];
	le32 length;
	uint8_t revision;
	uint8_t checksum;
	uint8_t oem_id[6];
	uint8_t oem_table_id[8];
	le32 oem_revision;
	uint8_t creator_id[4];
	le32 creator_revision;
};
WIRE_SIZE(struct acpi_header, 36);

/* 5.2.3.2 generic address */
struct acpi_gas {
	uint8_t space; /* 1 = system I/O */
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size; /* 1 byte, 2 word, 3 dword */
	le64 address;
};
WIRE_SIZE(struct acpi_gas, 12);

/* 5.2.9 */
struct acpi_fadt {
	struct acpi_header header;
	le32 facs;
	le32 dsdt;
	uint8_t reserved0;
	uint8_t preferred_profile; /* 45 */
	le16 sci_int;              /* 46 */
	le32 smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	le32 pm1a_evt_blk; /* 56 */
	le32 pm1b_evt_blk;
	le32 pm1a_cnt_blk; /* 64 */
	le32 pm1b_cnt_blk;
	le32 pm2_cnt_blk;
	le32 pm_tmr_blk; /* 76 */
	le32 gpe0_blk;   /* 80 */
	le32 gpe1_blk;
	uint8_t pm1_evt_len; /* 88 */
	uint8_t pm1_cnt_len;
	uint8_t pm2_cnt_len;
	uint8_t pm_tmr_len;
	uint8_t gpe0_blk_len;
	uint8_t gpe1_blk_len;
	uint8_t gpe1_base;
	uint8_t cst_cnt;
	le16 p_lvl2_lat; /* 96 */
	le16 p_lvl3_lat;
	le16 flush_size;
	le16 flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century; /* 104 */
	le16 iapc_boot_arch;                                              /* 109 */
	uint8_t reserved1;
	le32 flags;                /* 112 */
	struct acpi_gas reset_reg; /* 116 */
	uint8_t reset_value;       /* 128 */
	le16 arm_boot_arch;
	uint8_t minor_revision;
	le64 x_facs; /* 132 */
	le64 x_dsdt; /* 140 */
	struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr;
	struct acpi_gas x_gpe0, x_gpe1;
	struct acpi_gas sleep_control, sleep_status; /* 244 */
	uint8_t hypervisor_id[8];                    /* 268 */
};
WIRE_SIZE(struct acpi_fadt, 276);
WIRE_AT(struct acpi_fadt, pm1a_evt_blk, 56);
WIRE_AT(struct acpi_fadt, pm1_evt_len, 88);
WIRE_AT(struct acpi_fadt, iapc_boot_arch, 109);
WIRE_AT(struct acpi_fadt, flags, 112);
WIRE_AT(struct acpi_fadt, x_dsdt, 140);
WIRE_AT(struct acpi_fadt, hypervisor_id, 268);

/* 5.2.10 */
struct acpi_facs {
	uint8_t signature[4];
	le32 length;
	le32 hardware_signature;
	le32 waking_vector;
	le32 global_lock;
	le32 flags;
	le64 x_waking_vector;
	uint8_t version;
	uint8_t reserved[31];
};
WIRE_SIZE(struct acpi_facs, 64);

/* 5.2.12 */
struct acpi_madt {
	struct acpi_header header;
	le32 lapic;
	le32 flags; /* bit 0: a PIC exists */
};
WIRE_SIZE(struct acpi_madt, 44);

struct acpi_madt_lapic {
	uint8_t type; /* 0 */
	uint8_t length;
	uint8_t processor_uid;
	uint8_t apic_id;
	le32 flags; /* bit 0: enabled */
};
WIRE_SIZE(struct acpi_madt_lapic, 8);

struct acpi_madt_ioapic {
	uint8_t type; /* 1 */
	uint8_t length;
	uint8_t ioapic_id;
	uint8_t reserved;
	le32 address;
	le32 gsi_base;
};
WIRE_SIZE(struct acpi_madt_ioapic, 12);

struct acpi_madt_override {
	uint8_t type; /* 2 */
	uint8_t length;
	uint8_t bus; /* 0 = ISA */
	uint8_t source;
	le32 gsi;
	le16 flags; /* bits 1:0 polarity (1 high), 3:2 trigger (3 level) */
};
WIRE_SIZE(struct acpi_madt_override, 10);

/* What dsdt.asl reads at LAYOUT_ACPI_INFO_GPA; its field INFO. */
struct acpi_info {
	le32 low_base;
	le32 low_bytes;
	le64 high_base;
	le64 high_bytes;
	le64 generation_gpa;
};
WIRE_SIZE(struct acpi_info, 32);

#endif
