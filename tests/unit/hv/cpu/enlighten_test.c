/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/cpu/enlighten.h"

#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/cpu/hosts.h"

static const struct enlighten_cfg cfg = {.vp_count_max = 64};

static void a_guest_finds_the_interface(void **state)
{
	struct cpuid_table t;
	struct cpuid_table kvm;
	const struct cpuid_leaf *l;

	(void)state;
	host_amd(&t);
	host_kvm_hyperv(&kvm);
	assert_int_equal(enlighten_leaves(&t, &kvm, &cfg, NULL), 0);
	assert_int_equal(cpuid_find(&t, 1, 0)->ecx >> 31, 1);
	l = cpuid_find(&t, 0x40000000u, 0);
	assert_int_equal(l->eax, 0x40000006u);
	assert_memory_equal(&l->ebx, "Micr", 4);
	assert_memory_equal(&l->ecx, "osof", 4);
	assert_memory_equal(&l->edx, "t Hv", 4);
	assert_memory_equal(&cpuid_find(&t, 0x40000001u, 0)->eax, "Hv#1", 4);
	l = cpuid_find(&t, 0x40000003u, 0);
	assert_int_equal(l->eax & ~0xaffu, 0); /* nothing that KVM does not do */
	assert_int_equal(l->ebx, 0x30);        /* post messages, signal events; no root rights */
	assert_int_equal(l->edx & ~0x88d9cu, 0);
	assert_int_equal(l->edx & 0x400u, 0x400);                              /* crash MSRs */
	assert_int_equal(cpuid_find(&t, 0x40000004u, 0)->eax & 0x200u, 0x200); /* no AutoEOI */
	assert_int_equal(cpuid_find(&t, 0x40000004u, 0)->eax & 0x8u, 0); /* no APIC registers */
	assert_int_equal(cpuid_find(&t, 0x40000005u, 0)->eax, 64);
	for (uint32_t f = 0x40000000u; f <= 0x40000006u; f++) {
		assert_non_null(cpuid_find(&t, f, 0));
	}
}

static void guests_are_told_of_the_assist_page_where_it_helps(void **state)
{
	const struct enlighten_cfg assist = {.vp_count_max = 64, .eoi_assist = true};
	struct cpuid_table t;
	struct cpuid_table kvm;

	(void)state;
	host_amd(&t);
	host_kvm_hyperv(&kvm);
	assert_int_equal(enlighten_leaves(&t, &kvm, &assist, NULL), 0);
	assert_int_equal(cpuid_find(&t, 0x40000004u, 0)->eax, 0x228);
}

static void old_hypervisor_leaves_are_replaced(void **state)
{
	struct cpuid_table t;
	struct cpuid_table kvm;

	(void)state;
	host_amd(&t);
	assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 0x40000080u}), 0);
	assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 0x40000100u}), 0);
	host_kvm_hyperv(&kvm);
	assert_int_equal(enlighten_leaves(&t, &kvm, &cfg, NULL), 0);
	assert_null(cpuid_find(&t, 0x40000080u, 0));
	assert_null(cpuid_find(&t, 0x40000100u, 0));
}

/* Without one of the needed bits there is an error that names it; optional ones are left out. */
static void what_kvm_lacks_is_named_or_left_out(void **state)
{
	static const struct {
		uint32_t bit;
		const char *name; /* NULL = optional */
	} bits[] = {
		{0x001, NULL},
		{0x002, "reference counter"},
		{0x004, "SynIC"},
		{0x008, "synthetic timers"},
		{0x010, "VP assist page"},
		{0x020, "hypercalls"},
		{0x040, "VP index"},
		{0x080, NULL},
		{0x200, "reference TSC page"},
		{0x800, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
		struct cpuid_table t;
		struct cpuid_table kvm;
		struct errbuf eb = {0};

		host_amd(&t);
		host_kvm_hyperv(&kvm);
		cpuid_find(&kvm, 0x40000003u, 0)->eax &= ~bits[i].bit;
		if (bits[i].name == NULL) {
			assert_int_equal(enlighten_leaves(&t, &kvm, &cfg, &eb), 0);
			assert_int_equal(cpuid_find(&t, 0x40000003u, 0)->eax & bits[i].bit, 0);
		} else {
			assert_int_equal(enlighten_leaves(&t, &kvm, &cfg, &eb), -ENOTSUP);
			assert_non_null(strstr(eb.text, bits[i].name));
		}
	}
}

static void without_a_feature_leaf_there_is_nothing_to_show(void **state)
{
	struct cpuid_table t;
	struct cpuid_table kvm = {0};
	struct errbuf eb = {0};

	(void)state;
	host_amd(&t);
	assert_int_equal(enlighten_leaves(&t, &kvm, &cfg, &eb), -ENOTSUP);
	assert_true(eb.text[0] != '\0');
}

static void a_table_without_room_is_refused(void **state)
{
	struct cpuid_table t = {0};
	struct cpuid_table kvm;

	(void)state;
	for (uint32_t i = 0; i < CPUID_LEAVES_MAX - 6; i++) {
		assert_int_equal(cpuid_set(&t, &(struct cpuid_leaf){.function = 1 + i}), 0);
	}
	host_kvm_hyperv(&kvm);
	assert_int_equal(enlighten_leaves(&t, &kvm, &cfg, NULL), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_finds_the_interface),
		cmocka_unit_test(guests_are_told_of_the_assist_page_where_it_helps),
		cmocka_unit_test(old_hypervisor_leaves_are_replaced),
		cmocka_unit_test(what_kvm_lacks_is_named_or_left_out),
		cmocka_unit_test(without_a_feature_leaf_there_is_nothing_to_show),
		cmocka_unit_test(a_table_without_room_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
