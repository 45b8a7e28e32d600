/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/acpi.h"

#include <errno.h>
#include <string.h>

#include "hv/machine/acpi_wire.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"
#include "tests/lib/test.h"

#define MIB (1ull << 20)

static struct gmem *memory(uint64_t size_bytes)
{
	const struct gmem_cfg cfg = {.size_bytes = size_bytes, .low_max_bytes = LAYOUT_LOW_RAM_MAX};
	struct gmem *mem;

	assert_int_equal(gmem_create(&cfg, &mem, NULL), 0);
	return mem;
}

static const void *at(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	const void *p = gmem_range(mem, gpa, len);

	assert_non_null(p);
	return p;
}

static void sums_to_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum = (uint8_t)(sum + p[i]);
	}
	assert_int_equal(sum, 0);
}

/* A table in the region the memory map calls ACPI, whole and with a good checksum. */
static const struct acpi_header *table(struct gmem *mem, uint64_t gpa, const char *signature)
{
	const struct acpi_header *h = at(mem, gpa, sizeof(*h));

	assert_memory_equal(h->signature, signature, 4);
	assert_in_range(gpa, LAYOUT_ACPI_GPA, LAYOUT_ACPI_INFO_GPA - 1);
	assert_in_range(gpa + le32_get(h->length), LAYOUT_ACPI_GPA, LAYOUT_ACPI_INFO_GPA);
	sums_to_zero(at(mem, gpa, le32_get(h->length)), le32_get(h->length));
	return h;
}

static void madt_check(const struct acpi_header *h, uint32_t vp_count)
{
	const uint8_t *p = (const uint8_t *)h;
	size_t end = le32_get(h->length);
	uint32_t lapics = 0;
	uint32_t others = 0;

	for (size_t i = sizeof(struct acpi_madt); i < end; i += p[i + 1]) {
		assert_in_range(p[i + 1], 8, end - i);
		if (p[i] == 0) {
			assert_int_equal(p[i + 2], lapics);
			assert_int_equal(p[i + 3], lapics); /* APIC id = VP index */
			assert_int_equal(p[i + 4], 1);
			lapics++;
		} else {
			others++;
		}
	}
	assert_int_equal(lapics, vp_count);
	assert_int_equal(others, 2); /* IOAPIC, the SCI's override */
}

static void a_kernel_finds_every_table_for_1_to_64_vps(void **state)
{
	(void)state;
	for (uint32_t vps = 1; vps <= 64; vps++) {
		struct gmem *mem = memory(4 * MIB);
		const struct acpi_cfg cfg = {.vp_count = vps, .generation_id = {.b = {7, 8, 9}}};
		const struct acpi_rsdp *rsdp;
		const struct acpi_fadt *fadt;
		const struct acpi_facs *facs;
		const struct acpi_header *xsdt;
		const le64 *tables;

		assert_int_equal(acpi_build(mem, &cfg), 0);
		rsdp = at(mem, LAYOUT_ACPI_GPA, sizeof(*rsdp));
		assert_memory_equal(rsdp->signature, "RSD PTR ", 8);
		sums_to_zero(rsdp, 20);
		sums_to_zero(rsdp, sizeof(*rsdp));
		xsdt = table(mem, le64_get(rsdp->xsdt), "XSDT");
		assert_int_equal(le32_get(xsdt->length), sizeof(*xsdt) + 16);
		tables = (const le64 *)(const void *)(xsdt + 1);
		fadt = (const void *)table(mem, le64_get(tables[0]), "FACP");
		assert_int_equal(le32_get(fadt->header.length), sizeof(*fadt));
		assert_int_equal(le32_get(fadt->pm1a_evt_blk), LAYOUT_PM1_EVT_PORT);
		assert_int_equal(le64_get(fadt->x_pm1a_cnt.address), LAYOUT_PM1_CNT_PORT);
		assert_int_equal(le64_get(fadt->reset_reg.address), LAYOUT_RESET_PORT);
		assert_int_equal(fadt->reset_value, LAYOUT_RESET_VALUE);
		assert_int_equal(le32_get(fadt->smi_cmd), 0); /* ACPI mode from the start */
		(void)table(mem, le64_get(fadt->x_dsdt), "DSDT");
		assert_int_equal(le32_get(fadt->dsdt), le64_get(fadt->x_dsdt));
		assert_int_equal(le32_get(fadt->facs) % 64, 0);
		facs = at(mem, le32_get(fadt->facs), sizeof(*facs));
		assert_memory_equal(facs->signature, "FACS", 4);
		madt_check(table(mem, le64_get(tables[1]), "APIC"), vps);
		assert_memory_equal(at(mem, LAYOUT_GENERATION_GPA, 16), cfg.generation_id.b, 16);
		gmem_destroy(mem);
	}
}

static void the_mmio_windows_lie_beside_ram(void **state)
{
	static const struct {
		uint64_t bytes;
		uint64_t high;
	} cases[] = {
		{4 * MIB, 4ull << 30},    {3072 * MIB, 4ull << 30}, {3074 * MIB, 5ull << 30},
		{4096 * MIB, 5ull << 30}, {8192 * MIB, 9ull << 30},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gmem *mem = memory(cases[i].bytes);
		const struct acpi_cfg cfg = {.vp_count = 1};
		const struct acpi_info *info;

		assert_int_equal(acpi_high_mmio_gpa(mem), cases[i].high);
		assert_int_equal(acpi_build(mem, &cfg), 0);
		info = at(mem, LAYOUT_ACPI_INFO_GPA, sizeof(*info));
		assert_int_equal(le64_get(info->high_base), cases[i].high);
		assert_int_equal(le64_get(info->high_bytes), LAYOUT_VMBUS_HIGH_BYTES);
		assert_int_equal(le32_get(info->low_base), LAYOUT_VMBUS_LOW_GPA);
		assert_int_equal(le64_get(info->generation_gpa), LAYOUT_GENERATION_GPA);
		/* The low window ends where the IOAPIC begins, and holds no RAM. */
		assert_true(le32_get(info->low_base) + (uint64_t)le32_get(info->low_bytes) <=
		            LAYOUT_IOAPIC_GPA);
		assert_null(gmem_range(mem, LAYOUT_VMBUS_LOW_GPA, 1));
		assert_null(gmem_range(mem, cases[i].high, 1));
		gmem_destroy(mem);
	}
}

static void what_does_not_fit_is_refused(void **state)
{
	const struct gmem_cfg small = {.size_bytes = 4 * MIB, .low_max_bytes = 0xe1000};
	struct gmem *mem = memory(4 * MIB);

	(void)state;
	assert_int_equal(acpi_build(mem, &(struct acpi_cfg){.vp_count = 255}), 0);
	assert_int_equal(acpi_build(mem, &(struct acpi_cfg){.vp_count = 256}), -E2BIG);
	assert_int_equal(acpi_build(mem, &(struct acpi_cfg){.vp_count = UINT32_MAX}), -E2BIG);
	gmem_destroy(mem);
	/* Low memory that ends inside of the tables' region. */
	assert_int_equal(gmem_create(&small, &mem, NULL), 0);
	assert_int_equal(acpi_build(mem, &(struct acpi_cfg){.vp_count = 1}), -EFAULT);
	gmem_destroy(mem);
}

static void a_new_generation_id_is_where_the_guest_looks(void **state)
{
	struct gmem *mem = memory(4 * MIB);
	const struct guid id = {.b = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

	(void)state;
	assert_int_equal(acpi_build(mem, &(struct acpi_cfg){.vp_count = 1}), 0);
	assert_int_equal(acpi_generation_set(mem, &id), 0);
	assert_memory_equal(at(mem, LAYOUT_GENERATION_GPA, 16), id.b, 16);
	gmem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kernel_finds_every_table_for_1_to_64_vps),
		cmocka_unit_test(the_mmio_windows_lie_beside_ram),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(a_new_generation_id_is_where_the_guest_looks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
