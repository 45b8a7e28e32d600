/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/cpu/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/cpu/hosts.h"

typedef void (*host_fn)(struct cpuid_table *out);

static const host_fn hosts[] = {host_intel, host_amd};

/* Words whose every bit is a feature; the rest are sizes, names, addresses. */
static const struct {
	uint32_t function, index;
	int reg; /* 0 eax .. 3 edx */
} feature_words[] = {
	{1, 0, 2},           {1, 0, 3},           {7, 0, 1},           {7, 0, 2},
	{7, 0, 3},           {7, 1, 0},           {7, 1, 1},           {7, 1, 2},
	{7, 1, 3},           {0xd, 0, 0},         {0xd, 0, 3},         {0xd, 1, 0},
	{0xd, 1, 2},         {0xd, 1, 3},         {0x80000001u, 0, 2}, {0x80000001u, 0, 3},
	{0x80000007u, 0, 3}, {0x80000008u, 0, 1},
};

static uint32_t word(struct cpuid_table *t, uint32_t function, uint32_t index, int reg)
{
	const struct cpuid_leaf *l = cpuid_find(t, function, index);

	if (l == NULL) {
		return 0;
	}
	return (const uint32_t[]){l->eax, l->ebx, l->ecx, l->edx}[reg];
}

static struct cpuid_table baseline(host_fn host)
{
	struct cpuid_table h;
	struct cpuid_table m;

	host(&h);
	assert_int_equal(model_baseline(&h, &m, NULL), 0);
	return m;
}

static void a_baseline_never_exceeds_its_host(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct cpuid_table host;
		struct cpuid_table model = baseline(hosts[i]);

		hosts[i](&host);
		for (size_t w = 0; w < ARRAY_LEN(feature_words); w++) {
			uint32_t f = feature_words[w].function;
			uint32_t x = feature_words[w].index;
			int reg = feature_words[w].reg;

			assert_int_equal(word(&model, f, x, reg) & ~word(&host, f, x, reg), 0);
		}
		for (uint32_t l = 0; l < model.count; l++) {
			assert_non_null(
				cpuid_find(&host, model.leaves[l].function, model.leaves[l].index));
		}
		assert_int_equal(model_check(&model, &host, NULL), 0);
	}
}

static void what_a_vm_must_not_have_is_left_out(void **state)
{
	struct cpuid_table intel = baseline(host_intel);
	struct cpuid_table amd = baseline(host_amd);

	(void)state;
	/* MONITOR, DS-CPL, VMX, SMX, thermal, TM2, PDCM, OSXSAVE, hypervisor */
	assert_int_equal(word(&intel, 1, 0, 2) & 0x880081f8u, 0);
	assert_int_equal(word(&intel, 1, 0, 3) & 0xf0640000u, 0); /* DS, TM, PBE, HTT, PSN */
	/* SGX, HLE, RTM, MPX, RDT, PT */
	assert_int_equal(word(&intel, 7, 0, 1) & 0x0200d814u, 0);
	assert_int_equal(word(&intel, 7, 0, 2) & 0x00010020u, 0); /* LA57, WAITPKG */
	assert_int_equal(word(&intel, 7, 0, 3) & 0x03400000u, 0); /* AMX */
	assert_int_equal(word(&intel, 7, 0, 0), 1);               /* sub-leaves 0 and 1 */
	assert_null(cpuid_find(&intel, 7, 2));
	assert_int_equal(word(&intel, 7, 1, 1) | word(&intel, 7, 1, 2) | word(&intel, 7, 1, 3), 0);
	assert_null(cpuid_find(&intel, 5, 0));
	assert_null(cpuid_find(&intel, 0xa, 0)); /* PMU */
	assert_null(cpuid_find(&intel, 0x12, 0));
	assert_null(cpuid_find(&intel, 0x14, 0));
	assert_int_equal(word(&intel, 6, 0, 0), 4);
	assert_int_equal(word(&intel, 0x80000007u, 0, 3), 0);
	assert_int_equal(word(&intel, 0, 0, 0), 0xd);
	/* SVM, IBS, TopoExt */
	assert_int_equal(word(&amd, 0x80000001u, 0, 2) & 0x00400404u, 0);
	assert_null(cpuid_find(&amd, 0x8000000au, 0));
	assert_null(cpuid_find(&amd, 0x8000001eu, 0));
	assert_int_equal(word(&amd, 0x80000000u, 0, 0), 0x80000008u);
	assert_int_equal(word(&amd, 0x80000007u, 0, 1), 0);
	/* What guests need stays. */
	assert_int_equal(word(&amd, 1, 0, 2) & 0x02000001u, 0x02000001u); /* AES, SSE3 */
	assert_int_equal(word(&amd, 0x80000001u, 0, 3), 0x2fd3fbff);
	assert_true((word(&intel, 7, 0, 1) & 0x00010020u) == 0x00010020u); /* AVX2, AVX-512 */
}

static void the_xsave_area_is_that_of_the_components_left(void **state)
{
	struct cpuid_table intel = baseline(host_intel);
	struct cpuid_table amd = baseline(host_amd);

	(void)state;
	assert_int_equal(word(&intel, 0xd, 0, 0), 0x2e7);
	assert_int_equal(word(&intel, 0xd, 0, 2), 0xa88); /* PKRU is the last: 0xa80 + 8 */
	assert_non_null(cpuid_find(&intel, 0xd, 7));
	assert_null(cpuid_find(&intel, 0xd, 3)); /* MPX */
	assert_null(cpuid_find(&intel, 0xd, 17));
	assert_null(cpuid_find(&intel, 0xd, 18));
	assert_int_equal(word(&intel, 0xd, 1, 0), 7); /* no XSAVES, so no IA32_XSS */
	assert_int_equal(word(&amd, 0xd, 0, 0), 7);
	assert_int_equal(word(&amd, 0xd, 0, 2), 0x340);
	assert_non_null(cpuid_find(&amd, 0xd, 2));
}

static void two_threads_of_one_host_compute_the_same_model(void **state)
{
	struct cpuid_table host;
	struct cpuid_table one;
	struct cpuid_table two;

	(void)state;
	host_intel(&host);
	assert_int_equal(model_baseline(&host, &one, NULL), 0);
	cpuid_find(&host, 1, 0)->ebx ^= 0x15000000u; /* another APIC id */
	cpuid_find(&host, 0xb, 0)->edx ^= 0x15;
	cpuid_find(&host, 0xb, 1)->edx ^= 0x15;
	assert_int_equal(model_baseline(&host, &two, NULL), 0);
	assert_int_equal(one.count, two.count);
	assert_memory_equal(one.leaves, two.leaves, one.count * sizeof(one.leaves[0]));
}

static void a_host_without_64_bits_has_no_model(void **state)
{
	struct cpuid_table host;
	struct cpuid_table model;
	struct errbuf eb = {0};

	(void)state;
	host_amd(&host);
	cpuid_find(&host, 0x80000001u, 0)->edx &= ~(1u << 29);
	assert_int_equal(model_baseline(&host, &model, &eb), -ENOTSUP);
	assert_non_null(strstr(eb.text, "64-bit"));
	cpuid_drop(&host, 0x80000001u, 0x80000001u);
	assert_int_equal(model_baseline(&host, &model, NULL), -ENOTSUP);
}

static void a_host_that_lacks_something_is_told_what(void **state)
{
	struct cpuid_table model = baseline(host_intel);
	struct cpuid_table amd;
	struct errbuf eb = {0};

	(void)state;
	host_amd(&amd);
	assert_int_equal(model_check(&model, &amd, &eb), -ENOTSUP);
	assert_non_null(strstr(eb.text, " 7.ebx:"));
	assert_non_null(strstr(eb.text, " xcr0:000002e0"));
	assert_non_null(strstr(eb.text, " physical-address-bits:52"));
	assert_true(eb.hint[0] != '\0');
}

/* Take each feature bit that a model has from the host, one at a time: each is missed and named. */
static void every_single_missing_bit_is_found(void **state)
{
	static const struct {
		uint32_t function, index;
		int reg;
		const char *name;
	} words[] = {
		{1, 0, 2, "1.ecx"},
		{1, 0, 3, "1.edx"},
		{7, 0, 1, "7.ebx"},
		{7, 0, 2, "7.ecx"},
		{7, 0, 3, "7.edx"},
		{7, 1, 0, "7.1.eax"},
		{0xd, 0, 0, "xcr0"},
		{0xd, 1, 0, "xsave"},
		{0x80000001u, 0, 2, "80000001.ecx"},
		{0x80000001u, 0, 3, "80000001.edx"},
		{0x80000008u, 0, 1, "80000008.ebx"},
	};
	unsigned tried = 0;

	(void)state;
	for (size_t h = 0; h < ARRAY_LEN(hosts); h++) {
		struct cpuid_table model = baseline(hosts[h]);

		for (size_t w = 0; w < ARRAY_LEN(words); w++) {
			for (uint32_t bit = 0; bit < 32; bit++) {
				struct cpuid_table host;
				struct cpuid_leaf *l;
				struct errbuf eb = {0};
				char want[64];

				if ((word(&model, words[w].function, words[w].index, words[w].reg) &
				     1u << bit) == 0) {
					continue;
				}
				hosts[h](&host);
				l = cpuid_find(&host, words[w].function, words[w].index);
				*(uint32_t *const[]){&l->eax, &l->ebx, &l->ecx,
				                     &l->edx}[words[w].reg] &= ~(1u << bit);
				(void)snprintf(want, sizeof(want), " %s:%08x", words[w].name,
				               1u << bit);
				assert_int_equal(model_check(&model, &host, &eb), -ENOTSUP);
				assert_non_null(strstr(eb.text, want));
				tried++;
			}
		}
	}
	assert_true(tried > 150);
}

static void without_xsave_nothing_that_needs_it_is_left(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct cpuid_table model = baseline(hosts[i]);
		struct cpuid_table host;

		model_drop_xsave(&model);
		assert_int_equal(word(&model, 1, 0, 2) & 0x34001000u, 0);
		assert_int_equal(word(&model, 7, 0, 1) & 0xd0230020u, 0);
		assert_int_equal(word(&model, 7, 0, 2) & 0x00005e4au, 0);
		assert_int_equal(word(&model, 7, 1, 0), 0);
		assert_int_equal(word(&model, 0x80000001u, 0, 2) & 0x00010800u, 0);
		assert_null(cpuid_find(&model, 0xd, 0));
		hosts[i](&host);
		assert_int_equal(model_check(&model, &host, NULL), 0);
		/* It also runs on a host that has none. */
		model_drop_xsave(&host);
		assert_int_equal(model_check(&model, &host, NULL), 0);
	}
	/* The carry-less and the AES kind without VEX stay. */
	struct cpuid_table intel = baseline(host_intel);

	model_drop_xsave(&intel);
	assert_int_equal(word(&intel, 1, 0, 2) & 0x02000002u, 0x02000002u);
}

static void every_vp_has_its_place_in_one_package(void **state)
{
	static const uint32_t counts[] = {1, 2, 3, 4, 7, 8, 33, 64};
	struct cpuid_table model = baseline(host_intel);

	(void)state;
	for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
		uint32_t count = counts[c];
		uint32_t shift = 0;

		while (1u << shift < count) {
			shift++;
		}
		for (uint32_t vp = 0; vp < count; vp++) {
			struct cpuid_table t;

			assert_int_equal(model_vp(&model, vp, count, &t), 0);
			assert_int_equal(word(&t, 1, 0, 1) >> 24, vp);
			assert_int_equal(word(&t, 1, 0, 1) >> 16 & 0xff, count);
			assert_int_equal(word(&t, 1, 0, 1) & 0xffff, 0x0800);
			assert_int_equal(word(&t, 1, 0, 3) >> 28 & 1, count > 1);
			assert_int_equal(word(&t, 0xb, 0, 3), vp);
			assert_int_equal(word(&t, 0xb, 0, 0), 0);
			assert_int_equal(word(&t, 0xb, 0, 1), 1);
			assert_int_equal(word(&t, 0xb, 0, 2), 0x100);
			assert_int_equal(word(&t, 0xb, 1, 0), shift);
			assert_int_equal(word(&t, 0xb, 1, 1), count);
			assert_int_equal(word(&t, 0xb, 1, 2), 0x201);
			assert_int_equal(word(&t, 0xb, 1, 3), vp);
			assert_int_equal(word(&t, 0xb, 2, 2), 2);
			assert_int_equal(word(&t, 0x80000008u, 0, 2), shift << 12 | (count - 1));
			assert_int_equal(word(&t, 4, 0, 0) >> 14 & 0xfff, 0); /* L1: its own */
			assert_int_equal(word(&t, 4, 3, 0) >> 14 & 0xfff, count - 1);
			assert_int_equal(word(&t, 4, 4, 0), 0); /* the end stays one */
		}
	}
	/* All VPs see the same features. */
	struct cpuid_table a;
	struct cpuid_table b;

	assert_int_equal(model_vp(&model, 0, 4, &a), 0);
	assert_int_equal(model_vp(&model, 3, 4, &b), 0);
	for (size_t w = 0; w < ARRAY_LEN(feature_words); w++) {
		assert_int_equal(word(&a, feature_words[w].function, feature_words[w].index,
		                      feature_words[w].reg),
		                 word(&b, feature_words[w].function, feature_words[w].index,
		                      feature_words[w].reg));
	}
}

static void a_model_without_room_for_topology_is_refused(void **state)
{
	struct cpuid_table full = {0};
	struct cpuid_table out;

	(void)state;
	for (uint32_t i = 0; i < CPUID_LEAVES_MAX - 2; i++) {
		assert_int_equal(cpuid_set(&full, &(struct cpuid_leaf){.function = 0x100 + i}), 0);
	}
	assert_int_equal(model_vp(&full, 0, 1, &out), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_baseline_never_exceeds_its_host),
		cmocka_unit_test(what_a_vm_must_not_have_is_left_out),
		cmocka_unit_test(the_xsave_area_is_that_of_the_components_left),
		cmocka_unit_test(two_threads_of_one_host_compute_the_same_model),
		cmocka_unit_test(a_host_without_64_bits_has_no_model),
		cmocka_unit_test(a_host_that_lacks_something_is_told_what),
		cmocka_unit_test(every_single_missing_bit_is_found),
		cmocka_unit_test(without_xsave_nothing_that_needs_it_is_left),
		cmocka_unit_test(every_vp_has_its_place_in_one_package),
		cmocka_unit_test(a_model_without_room_for_topology_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
