/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/cpu/model.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "hv/cpu/cpuid.h"

/* State behind the features below: x87, SSE, AVX, AVX-512 (three), PKRU. Not: MPX, AMX. */
#define MODEL_XCR0 0x2e7u
#define MODEL_XSAVE_LEGACY_BYTES 576u /* x87, SSE and the header: there whatever XCR0 says */

enum model_register { MODEL_EAX, MODEL_EBX, MODEL_ECX, MODEL_EDX };

/* The feature words: what model_baseline() keeps of them and model_check() compares. */
static const struct {
	uint32_t function, index;
	enum model_register reg;
	uint32_t mask; /* bits a VM may have */
	const char *name;
} model_words[] = {
	/* SSE3, PCLMUL, SSSE3, FMA, CX16, PCID, SSE4, x2APIC, MOVBE, POPCNT, TSC deadline, AES,
	 * XSAVE, AVX, F16C, RDRAND. Not: MONITOR, VMX, SMX, thermal, PDCM; OSXSAVE is dynamic. */
	{1, 0, MODEL_ECX, 0x77fa3203u, "1.ecx"},
	/* All of the classics but DS, ACPI thermal, HTT (model_vp() says it), TM, PBE, serial
	 * number. */
	{1, 0, MODEL_EDX, 0x0f8bfbffu, "1.edx"},
	/* FSGSBASE, TSC_ADJUST, BMI, AVX2, SMEP, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT,
	 * CLWB,
	 * SHA, AVX-512. Not: SGX, HLE, RTM, MPX, resource monitoring, PT. */
	{7, 0, MODEL_EBX, 0xf1bf07abu, "7.ebx"},
	/* UMIP, PKU, VBMI, GFNI, VAES, VPCLMUL, VNNI, BITALG, VPOPCNTDQ, RDPID. Not: WAITPKG,
	 * LA57. */
	{7, 0, MODEL_ECX, 0x00405f4eu, "7.ecx"},
	/* FSRM, MD_CLEAR, SERIALIZE, SPEC_CTRL, STIBP, ARCH_CAPABILITIES, SSBD. */
	{7, 0, MODEL_EDX, 0xac004410u, "7.edx"},
	{7, 1, MODEL_EAX, 0x00000030u, "7.1.eax"}, /* AVX-VNNI, BF16 */
	{0xd, 0, MODEL_EAX, MODEL_XCR0, "xcr0"},
	{0xd, 1, MODEL_EAX, 0x00000007u, "xsave"}, /* XSAVEOPT, XSAVEC, XGETBV1. Not: XSAVES */
	/* LAHF, CR8, ABM, SSE4A, MISALIGNSSE, PREFETCHW, XOP, FMA4, TBM. Not: SVM, IBS, TopoExt. */
	{0x80000001u, 0, MODEL_ECX, 0x002109f3u, "80000001.ecx"},
	{0x80000001u, 0, MODEL_EDX, 0x2fd3fbffu, "80000001.edx"},
	/* Invariant TSC would tie the VM to hosts of one frequency: guests use the reference
	 * TSC. */
	{0x80000007u, 0, MODEL_EDX, 0x00000000u, "80000007.edx"},
	/* CLZERO, XSAVEERPTR, WBNOINVD, IBPB, IBRS, STIBP, SSBD. */
	{0x80000008u, 0, MODEL_EBX, 0x0700d205u, "80000008.ebx"},
};

/* Leaves that a VM may see at all. The topology (0xb) and the Hyper-V ones are added later. */
static const uint32_t model_leaves[] = {
	0,           1,           2,           4,           6,           7,
	0xd,         0x80000000u, 0x80000001u, 0x80000002u, 0x80000003u, 0x80000004u,
	0x80000005u, 0x80000006u, 0x80000007u, 0x80000008u,
};

#define MODEL_LONG_MODE (1u << 29) /* 80000001.edx */
#define MODEL_BASIC_MAX 0xdu
#define MODEL_EXTENDED_MAX 0x80000008u

static uint32_t *model_word(struct cpuid_leaf *l, enum model_register reg)
{
	switch (reg) {
	case MODEL_EAX:
		return &l->eax;
	case MODEL_EBX:
		return &l->ebx;
	case MODEL_ECX:
		return &l->ecx;
	case MODEL_EDX:
		return &l->edx;
	}
	return &l->eax;
}

static bool model_leaf_known(uint32_t function)
{
	for (size_t i = 0; i < ARRAY_LEN(model_leaves); i++) {
		if (model_leaves[i] == function) {
			return true;
		}
	}
	return false;
}

/* The layout of the XSAVE area, for the components that are left. */
static void model_xsave_fix(struct cpuid_table *t)
{
	struct cpuid_leaf *base = cpuid_find(t, 0xd, 0);
	struct cpuid_leaf *more = cpuid_find(t, 0xd, 1);
	uint32_t end = MODEL_XSAVE_LEGACY_BYTES;
	uint32_t kept = 0;

	if (base == NULL) {
		return;
	}

	const uint32_t xcr0 = base->eax;

	base->edx = 0;
	if (more != NULL) { /* sizes for XSAVES; KVM fills in those of XSAVEC */
		more->ebx = more->ecx = more->edx = 0;
	}
	for (uint32_t i = 0; i < t->count; i++) {
		const struct cpuid_leaf *l = &t->leaves[i];

		if (l->function == 0xd && l->index >= 2) {
			if (l->index >= 32 || (xcr0 & 1u << l->index) == 0) {
				continue;
			}
			end = l->ebx + l->eax > end ? l->ebx + l->eax : end;
		}
		t->leaves[kept++] = *l;
	}
	t->count = kept;
	base = cpuid_find(t, 0xd, 0);
	base->ebx = MODEL_XSAVE_LEGACY_BYTES; /* for the XCR0 of the moment: KVM keeps it right */
	base->ecx = end;
}

/* What depends on the thread that asked, and words without a mask above. */
static void model_words_clear(struct cpuid_table *t)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		struct cpuid_leaf *l = &t->leaves[i];

		if (l->function == 7 && l->index > 1) {
			continue;
		}
		switch (l->function) {
		case 1:
			l->ebx &= 0xffffu; /* APIC id, number of threads */
			break;
		case 4:
			l->eax &= 0x3fffu; /* who shares the cache */
			break;
		case 6:
			/* ARAT: the APIC timer never stops. */
			*l = (struct cpuid_leaf){.function = 6, .eax = l->eax & 4u};
			break;
		case 7:
			if (l->index == 0) {
				l->eax = l->eax > 1 ? 1 : l->eax;
			} else {
				l->ebx = l->ecx = l->edx = 0;
			}
			break;
		case 0x80000007u:
			l->eax = l->ebx = l->ecx = 0;
			break;
		case 0x80000008u:
			l->eax &= 0xffffu; /* address bits, physical and linear */
			l->ecx = l->edx = 0;
			break;
		default: /* a number of the processor's, not an enum */
			break;
		}
		t->leaves[kept++] = *l;
	}
	t->count = kept;
}

int model_baseline(const struct cpuid_table *host, struct cpuid_table *out, struct errbuf *eb)
{
	struct cpuid_leaf *l;

	out->count = 0;
	for (uint32_t i = 0; i < host->count; i++) {
		if (model_leaf_known(host->leaves[i].function)) {
			out->leaves[out->count++] = host->leaves[i];
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(model_words); i++) {
		l = cpuid_find(out, model_words[i].function, model_words[i].index);
		if (l != NULL) {
			*model_word(l, model_words[i].reg) &= model_words[i].mask;
		}
	}
	l = cpuid_find(out, 0, 0);
	if (l != NULL && l->eax > MODEL_BASIC_MAX) {
		l->eax = MODEL_BASIC_MAX;
	}
	l = cpuid_find(out, 0x80000000u, 0);
	if (l != NULL && l->eax > MODEL_EXTENDED_MAX) {
		l->eax = MODEL_EXTENDED_MAX;
	}
	model_words_clear(out);
	model_xsave_fix(out);
	l = cpuid_find(out, 0x80000001u, 0);
	if (l == NULL || (l->edx & MODEL_LONG_MODE) == 0) {
		return errbuf_set(eb, -ENOTSUP, "the host's processor has no 64-bit mode");
	}
	return 0;
}

void model_drop_xsave(struct cpuid_table *model)
{
	static const struct {
		uint32_t function;
		enum model_register reg;
		uint32_t bits;
	} drop[] = {
		{1, MODEL_ECX, 0x34001000u}, /* FMA, XSAVE, AVX, F16C */
		{7, MODEL_EBX, 0xd0230020u}, /* AVX2, AVX-512 F, DQ, IFMA, CD, BW, VL */
		{7, MODEL_ECX,
	         0x00005e4au}, /* VBMI, PKU, VBMI2, VAES, VPCLMUL, VNNI, BITALG, VPOPCNT */
		{0x80000001u, MODEL_ECX, 0x00010800u}, /* XOP, FMA4 */
	};

	for (size_t i = 0; i < ARRAY_LEN(drop); i++) {
		struct cpuid_leaf *l = cpuid_find(model, drop[i].function, 0);

		if (l != NULL) {
			*model_word(l, drop[i].reg) &= ~drop[i].bits;
		}
	}

	struct cpuid_leaf *more = cpuid_find(model, 7, 1);

	if (more != NULL) {
		more->eax = 0; /* AVX-VNNI, BF16 */
	}
	cpuid_drop(model, 0xd, 0xd);
}

/* A guest may put RAM and devices wherever its address bits reach. */
static void model_address_bits_check(struct cpuid_table *model, struct cpuid_table *host,
                                     char *missing, size_t room)
{
	const struct cpuid_leaf *m = cpuid_find(model, 0x80000008u, 0);
	const struct cpuid_leaf *h = cpuid_find(host, 0x80000008u, 0);
	uint32_t want = m != NULL ? m->eax & 0xffu : 0;
	uint32_t have = h != NULL ? h->eax & 0xffu : 0;
	size_t used = strlen(missing);

	if (want > have) {
		(void)snprintf(missing + used, room - used, " physical-address-bits:%u", want);
	}
}

int model_check(const struct cpuid_table *model, const struct cpuid_table *host, struct errbuf *eb)
{
	struct cpuid_table mine = *model;
	struct cpuid_table theirs = *host;
	char missing[ERRBUF_TEXT_MAX / 2] = "";

	for (size_t i = 0; i < ARRAY_LEN(model_words); i++) {
		struct cpuid_leaf *m =
			cpuid_find(&mine, model_words[i].function, model_words[i].index);
		struct cpuid_leaf *h =
			cpuid_find(&theirs, model_words[i].function, model_words[i].index);
		uint32_t want = m != NULL ? *model_word(m, model_words[i].reg) : 0;
		uint32_t have = h != NULL ? *model_word(h, model_words[i].reg) : 0;
		size_t used = strlen(missing);

		want &= model_words[i].mask;
		if ((want & ~have) != 0) {
			(void)snprintf(missing + used, sizeof(missing) - used, " %s:%08x",
			               model_words[i].name, want & ~have);
		}
	}
	model_address_bits_check(&mine, &theirs, missing, sizeof(missing));
	if (missing[0] != '\0') {
		int err = errbuf_set(eb, -ENOTSUP,
		                     "this host's processor lacks features of the VM:%s", missing);

		errbuf_hint(eb, "run the VM on a host like the one it was created on, or define it "
		                "anew with the cluster's common baseline");
		return err;
	}
	return 0;
}

static uint32_t model_log2_ceil(uint32_t n)
{
	uint32_t bits = 0;

	while ((1u << bits) < n) {
		bits++;
	}
	return bits;
}

static void model_vp_caches(struct cpuid_table *t, uint32_t vp_count)
{
	for (uint32_t i = 0; i < t->count; i++) {
		struct cpuid_leaf *l = &t->leaves[i];

		if (l->function == 4 && (l->eax & 0x1fu) != 0) {
			uint32_t level = l->eax >> 5 & 7u;
			uint32_t sharing = level >= 3 ? vp_count - 1 : 0;

			l->eax = (l->eax & 0x3fffu) | (sharing & 0xfffu) << 14 |
			         ((vp_count - 1) & 0x3fu) << 26;
		}
	}
}

int model_vp(const struct cpuid_table *model, uint32_t vp_index, uint32_t vp_count,
             struct cpuid_table *out)
{
	struct cpuid_leaf *l;
	uint32_t shift = model_log2_ceil(vp_count);
	/* Level 0: threads of a core (one); level 1: cores of the package. */
	const struct cpuid_leaf smt = {
		.function = 0xb, .has_index = true, .ebx = 1, .ecx = 1u << 8, .edx = vp_index};
	const struct cpuid_leaf core = {.function = 0xb,
	                                .index = 1,
	                                .has_index = true,
	                                .eax = shift,
	                                .ebx = vp_count,
	                                .ecx = 2u << 8 | 1u,
	                                .edx = vp_index};
	const struct cpuid_leaf end = {
		.function = 0xb, .index = 2, .has_index = true, .ecx = 2, .edx = vp_index};
	int err;

	*out = *model;
	l = cpuid_find(out, 1, 0);
	if (l != NULL) {
		l->ebx = (l->ebx & 0xffffu) | (vp_count & 0xffu) << 16 | (vp_index & 0xffu) << 24;
		l->edx = vp_count > 1 ? l->edx | 1u << 28 : l->edx & ~(1u << 28); /* HTT */
	}
	l = cpuid_find(out, 0x80000008u, 0);
	if (l != NULL) {
		l->ecx = (shift & 0xfu) << 12 | (vp_count - 1); /* cores of the package */
	}
	model_vp_caches(out, vp_count);
	cpuid_drop(out, 0xb, 0xb);
	err = cpuid_set(out, &smt);
	if (err == 0) {
		err = cpuid_set(out, &core);
	}
	return err != 0 ? err : cpuid_set(out, &end);
}
