/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_LAYOUT_H
#define HV_MACHINE_LAYOUT_H

/*
 * layout - where things lie in a partition's address spaces. docs/spec/machine.md has the picture.
 *
 * Like a generation 2 machine: RAM, the interrupt controllers, one serial port, ACPI registers,
 * a clock, the VMBus. No PCI, no VGA, no i8042, no PIT.
 */

/* Guest physical memory. */
#define LAYOUT_LOW_RAM_MAX 0xc0000000ull /* RAM from 0 to at most here; the rest from 4 GiB */
#define LAYOUT_BOOT_GPA 0x1000ull        /* GDT, boot parameters, page tables: up to 0xffff */
#define LAYOUT_CMDLINE_GPA 0x20000ull
#define LAYOUT_CMDLINE_MAX 4096u           /* with the NUL; Linux's own limit is 2048 */
#define LAYOUT_EBDA_GPA 0x9fc00ull         /* RAM below 640 KiB ends here */
#define LAYOUT_ACPI_GPA 0xe0000ull         /* RSDP first: one of the places a kernel looks at */
#define LAYOUT_ACPI_INFO_GPA 0xf0000ull    /* what the AML reads: struct acpi_info */
#define LAYOUT_GENERATION_GPA 0xf1000ull   /* 16 bytes: the VM generation id, a page of its own */
#define LAYOUT_KERNEL_GPA 0x100000ull      /* RAM above 1 MiB */
#define LAYOUT_VMBUS_LOW_GPA 0xe0000000ull /* MMIO for VMBus devices below 4 GiB */
#define LAYOUT_VMBUS_LOW_BYTES 0x1ec00000ull
#define LAYOUT_VMBUS_HIGH_BYTES (64ull << 30) /* above RAM */
#define LAYOUT_IOAPIC_GPA 0xfec00000ull
#define LAYOUT_LAPIC_GPA 0xfee00000ull

/* Ports. */
#define LAYOUT_COM1_PORT 0x3f8u
#define LAYOUT_COM1_IRQ 4u
#define LAYOUT_RTC_PORT 0x70u
#define LAYOUT_PM1_EVT_PORT 0x400u
#define LAYOUT_PM1_CNT_PORT 0x404u
#define LAYOUT_PM_TMR_PORT 0x408u
#define LAYOUT_GPE0_PORT 0x40cu
#define LAYOUT_RESET_PORT 0x433u
#define LAYOUT_SCI_IRQ 9u

#define LAYOUT_RESET_VALUE 1u
#define LAYOUT_S5_TYPE 5u        /* SLP_TYP of \_S5 in dsdt.asl */
#define LAYOUT_GPE_GENERATION 0u /* GPE number of "the generation id changed" */

#endif
