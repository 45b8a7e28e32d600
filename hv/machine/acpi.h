/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_ACPI_H
#define HV_MACHINE_ACPI_H

/* acpi - write the firmware tables of a partition into its memory. */

#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

struct gmem;

struct acpi_cfg {
	uint32_t vp_count;
	struct guid generation_id;
};

/*
 * acpi_build() - RSDP, XSDT, FADT, FACS, MADT, DSDT from LAYOUT_ACPI_GPA up, and what the AML
 * reads.
 * Returns 0; -EFAULT the memory is smaller than the layout; -E2BIG the tables do not fit (more
 * VPs than LAPIC entries can name).
 */
MUST_USE int acpi_build(struct gmem *mem, const struct acpi_cfg *cfg);

/* acpi_generation_set() - a new generation id; the owner then raises GPE LAYOUT_GPE_GENERATION. */
MUST_USE int acpi_generation_set(struct gmem *mem, const struct guid *id);

/* acpi_high_mmio_gpa() - where the VMBus window above RAM starts. */
uint64_t acpi_high_mmio_gpa(const struct gmem *mem);

#endif
