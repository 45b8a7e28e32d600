/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/acpi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/check.h"
#include "hv/machine/acpi_wire.h"
#include "hv/machine/dsdt.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"

#define ACPI_TABLES_BYTES (LAYOUT_ACPI_INFO_GPA - LAYOUT_ACPI_GPA)
#define ACPI_LAPICS_MAX 255u /* ids 0..254; 255 is the broadcast */
#define ACPI_SPACE_IO 1u

#define FADT_WBINVD 0x1u
#define FADT_PROC_C1 0x4u
#define FADT_SLP_BUTTON 0x20u /* set: there is no fixed one */
#define FADT_TMR_32BIT 0x100u
#define FADT_RESET_REG 0x400u
#define FADT_BOOT_NO_VGA 0x4u
#define RTC_CENTURY_INDEX 0x32u

/* Tables grow upwards in a scratch buffer that is written to the guest in one go. */
struct acpi_builder {
	uint8_t buf[ACPI_TABLES_BYTES];
	size_t used;
};

static uint64_t acpi_gpa(const struct acpi_builder *b, const void *table)
{
	return LAYOUT_ACPI_GPA + (uint64_t)((const uint8_t *)table - b->buf);
}

/* Room for @len_bytes, 16 aligned, zero; NULL = full. */
static void *acpi_room(struct acpi_builder *b, size_t len_bytes)
{
	void *at = b->buf + b->used;

	if (len_bytes > sizeof(b->buf) - b->used) {
		return NULL;
	}
	b->used += (len_bytes + 15) & ~(size_t)15;
	if (b->used > sizeof(b->buf)) {
		b->used = sizeof(b->buf);
	}
	return at;
}

static uint8_t acpi_sum(const void *buf, size_t len_bytes)
{
	const uint8_t *p = buf;
	uint8_t sum = 0;

	for (size_t i = 0; i < len_bytes; i++) {
		sum = (uint8_t)(sum + p[i]);
	}
	return (uint8_t)-sum;
}

static void acpi_header_set(struct acpi_header *h, const char *signature, uint8_t revision,
                            size_t len_bytes)
{
	memcpy(h->signature, signature, 4);
	h->length = le32_make((uint32_t)len_bytes);
	h->revision = revision;
	memcpy(h->oem_id, "GODWIT", 6);
	memcpy(h->oem_table_id, "GODWITVM", 8);
	h->oem_revision = le32_make(1);
	memcpy(h->creator_id, "GDWT", 4);
	h->creator_revision = le32_make(1);
	h->checksum = 0;
	h->checksum = acpi_sum(h, len_bytes);
}

static struct acpi_gas acpi_io(uint64_t port, uint8_t bits, uint8_t access)
{
	return (struct acpi_gas){
		.space = ACPI_SPACE_IO,
		.bit_width = bits,
		.access_size = access,
		.address = le64_make(port),
	};
}

static struct acpi_fadt *acpi_fadt_add(struct acpi_builder *b, uint64_t dsdt, uint64_t facs)
{
	struct acpi_fadt *f = acpi_room(b, sizeof(*f));

	if (f == NULL) {
		return NULL;
	}
	f->facs = le32_make((uint32_t)facs);
	f->x_facs = le64_make(0); /* one of the two, never both [ACPI 5.2.9] */
	f->dsdt = le32_make((uint32_t)dsdt);
	f->x_dsdt = le64_make(dsdt);
	f->sci_int = le16_make(LAYOUT_SCI_IRQ);
	f->pm1a_evt_blk = le32_make(LAYOUT_PM1_EVT_PORT);
	f->pm1a_cnt_blk = le32_make(LAYOUT_PM1_CNT_PORT);
	f->pm_tmr_blk = le32_make(LAYOUT_PM_TMR_PORT);
	f->gpe0_blk = le32_make(LAYOUT_GPE0_PORT);
	f->pm1_evt_len = 4;
	f->pm1_cnt_len = 2;
	f->pm_tmr_len = 4;
	f->gpe0_blk_len = 4;
	f->x_pm1a_evt = acpi_io(LAYOUT_PM1_EVT_PORT, 32, 2);
	f->x_pm1a_cnt = acpi_io(LAYOUT_PM1_CNT_PORT, 16, 2);
	f->x_pm_tmr = acpi_io(LAYOUT_PM_TMR_PORT, 32, 3);
	f->x_gpe0 = acpi_io(LAYOUT_GPE0_PORT, 32, 1);
	f->p_lvl2_lat = le16_make(101);  /* > 100: no C2 */
	f->p_lvl3_lat = le16_make(1001); /* > 1000: no C3 */
	f->century = RTC_CENTURY_INDEX;
	f->iapc_boot_arch = le16_make(FADT_BOOT_NO_VGA);
	f->flags = le32_make(FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_TMR_32BIT |
	                     FADT_RESET_REG);
	f->reset_reg = acpi_io(LAYOUT_RESET_PORT, 8, 1);
	f->reset_value = LAYOUT_RESET_VALUE;
	f->minor_revision = 0;
	acpi_header_set(&f->header, "FACP", 6, sizeof(*f));
	return f;
}

static struct acpi_madt *acpi_madt_add(struct acpi_builder *b, uint32_t vp_count)
{
	size_t len = sizeof(struct acpi_madt) + vp_count * sizeof(struct acpi_madt_lapic) +
	             sizeof(struct acpi_madt_ioapic) + sizeof(struct acpi_madt_override);
	struct acpi_madt *m = acpi_room(b, len);
	uint8_t *at;

	if (m == NULL) {
		return NULL;
	}
	at = (uint8_t *)(m + 1);
	m->lapic = le32_make((uint32_t)LAYOUT_LAPIC_GPA);
	m->flags = le32_make(1);
	for (uint32_t i = 0; i < vp_count; i++) {
		struct acpi_madt_lapic lapic = {
			.type = 0,
			.length = sizeof(lapic),
			.processor_uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = le32_make(1),
		};

		memcpy(at, &lapic, sizeof(lapic));
		at += sizeof(lapic);
	}

	struct acpi_madt_ioapic ioapic = {
		.type = 1,
		.length = sizeof(ioapic),
		.ioapic_id = 0,
		.address = le32_make((uint32_t)LAYOUT_IOAPIC_GPA),
	};
	struct acpi_madt_override sci = {
		.type = 2,
		.length = sizeof(sci),
		.source = LAYOUT_SCI_IRQ,
		.gsi = le32_make(LAYOUT_SCI_IRQ),
		.flags = le16_make(0xd), /* active high, level */
	};

	memcpy(at, &ioapic, sizeof(ioapic));
	memcpy(at + sizeof(ioapic), &sci, sizeof(sci));
	acpi_header_set(&m->header, "APIC", 4, len);
	return m;
}

static int acpi_xsdt_add(struct acpi_builder *b, const void *fadt, const void *madt,
                         struct acpi_rsdp *rsdp)
{
	struct {
		struct acpi_header header;
		le64 tables[2];
	} *x = acpi_room(b, sizeof(*x));

	if (x == NULL) {
		return -E2BIG;
	}
	x->tables[0] = le64_make(acpi_gpa(b, fadt));
	x->tables[1] = le64_make(acpi_gpa(b, madt));
	acpi_header_set(&x->header, "XSDT", 1, sizeof(*x));

	memcpy(rsdp->signature, "RSD PTR ", 8);
	memcpy(rsdp->oem_id, "GODWIT", 6);
	rsdp->revision = 2;
	rsdp->length = le32_make(sizeof(*rsdp));
	rsdp->xsdt = le64_make(acpi_gpa(b, x));
	rsdp->checksum = acpi_sum(rsdp, 20);
	rsdp->extended_checksum = acpi_sum(rsdp, sizeof(*rsdp));
	return 0;
}

uint64_t acpi_high_mmio_gpa(const struct gmem *mem)
{
	const uint64_t unit = 1ull << 30;
	uint64_t end = 4ull << 30;

	for (uint32_t i = 0; i < gmem_slots(mem); i++) {
		struct gmem_slot slot;

		gmem_slot(mem, i, &slot);
		if (slot.gpa + slot.len_bytes > end) {
			end = slot.gpa + slot.len_bytes;
		}
	}
	return (end + unit - 1) & ~(unit - 1);
}

static int acpi_info_write(struct gmem *mem, const struct acpi_cfg *cfg)
{
	struct acpi_info info = {
		.low_base = le32_make((uint32_t)LAYOUT_VMBUS_LOW_GPA),
		.low_bytes = le32_make((uint32_t)LAYOUT_VMBUS_LOW_BYTES),
		.high_base = le64_make(acpi_high_mmio_gpa(mem)),
		.high_bytes = le64_make(LAYOUT_VMBUS_HIGH_BYTES),
		.generation_gpa = le64_make(LAYOUT_GENERATION_GPA),
	};
	int err = gmem_write(mem, LAYOUT_ACPI_INFO_GPA, &info, sizeof(info));

	return err != 0 ? err : acpi_generation_set(mem, &cfg->generation_id);
}

int acpi_generation_set(struct gmem *mem, const struct guid *id)
{
	return gmem_write(mem, LAYOUT_GENERATION_GPA, id->b, sizeof(id->b));
}

static int acpi_tables(struct acpi_builder *b, uint32_t vp_count)
{
	struct acpi_rsdp *rsdp = acpi_room(b, sizeof(*rsdp));
	/* The FACS wants 64 byte alignment: it comes while everything before it is a multiple. */
	void *gap = acpi_room(b, 64 - 48);
	struct acpi_facs *facs = acpi_room(b, sizeof(*facs));
	uint8_t *dsdt = acpi_room(b, sizeof(dsdt_aml));

	if (rsdp == NULL || gap == NULL || facs == NULL || dsdt == NULL) {
		return -E2BIG;
	}
	CHECK(acpi_gpa(b, facs) % 64 == 0);
	memcpy(facs->signature, "FACS", 4);
	facs->length = le32_make(sizeof(*facs));
	facs->version = 2;
	memcpy(dsdt, dsdt_aml, sizeof(dsdt_aml));

	struct acpi_fadt *fadt = acpi_fadt_add(b, acpi_gpa(b, dsdt), acpi_gpa(b, facs));
	struct acpi_madt *madt = acpi_madt_add(b, vp_count);

	if (fadt == NULL || madt == NULL) {
		return -E2BIG;
	}
	return acpi_xsdt_add(b, fadt, madt, rsdp);
}

int acpi_build(struct gmem *mem, const struct acpi_cfg *cfg)
{
	struct acpi_builder b = {.used = 0}; /* 64 KiB of stack, once, at start */
	int err;

	if (cfg->vp_count > ACPI_LAPICS_MAX) {
		return -E2BIG;
	}
	err = acpi_tables(&b, cfg->vp_count);
	if (err == 0) {
		err = gmem_write(mem, LAYOUT_ACPI_GPA, b.buf, b.used);
	}
	return err != 0 ? err : acpi_info_write(mem, cfg);
}
