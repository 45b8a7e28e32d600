/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/cpu/enlighten.h"

#include <errno.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "hv/cpu/cpuid.h"

#define LEAF_FEATURES 0x40000003u

/* 0x40000003 EAX: privileges, low half. */
#define FEATURE_VP_RUNTIME (1u << 0)
#define FEATURE_TIME_REF_COUNT (1u << 1)
#define FEATURE_SYNIC (1u << 2)
#define FEATURE_STIMER (1u << 3)
#define FEATURE_APIC_ACCESS (1u << 4) /* with it the VP assist page, which Linux always sets */
#define FEATURE_HYPERCALL (1u << 5)
#define FEATURE_VP_INDEX (1u << 6)
#define FEATURE_RESET (1u << 7)
#define FEATURE_REFERENCE_TSC (1u << 9)
#define FEATURE_FREQUENCIES (1u << 11)
/* 0x40000003 EBX: privileges, high half. Never create partitions or CPU management: root only. */
#define PRIVILEGE_POST_MESSAGES (1u << 4)
#define PRIVILEGE_SIGNAL_EVENTS (1u << 5)
/* 0x40000003 EDX: misc. */
#define MISC_FREQUENCIES (1u << 8)
#define MISC_CRASH (1u << 10)
#define MISC_STIMER_DIRECT (1u << 19)
/* 0x40000004 EAX: recommendations. */
#define HINT_APIC_MSRS (1u << 3) /* with x2APIC: of the VP assist page's word before an EOI */
#define HINT_RELAXED_TIMING (1u << 5)
/* Without it guests program SINTs with AutoEOI, which costs APIC virtualization. */
#define HINT_NO_AUTO_EOI (1u << 9)

#define ENLIGHTEN_BUILD 20348u
#define ENLIGHTEN_VERSION 0x000a0000u

/* All needed, but for the ones the table marks optional. */
static const struct {
	const char *name;
	uint32_t bit;
	bool optional;
} enlighten_features[] = {
	{"VP runtime", FEATURE_VP_RUNTIME, true},
	{"reference counter", FEATURE_TIME_REF_COUNT, false},
	{"SynIC", FEATURE_SYNIC, false},
	{"synthetic timers", FEATURE_STIMER, false},
	{"VP assist page", FEATURE_APIC_ACCESS, false},
	{"hypercalls", FEATURE_HYPERCALL, false},
	{"VP index", FEATURE_VP_INDEX, false},
	{"reset", FEATURE_RESET, true},
	{"reference TSC page", FEATURE_REFERENCE_TSC, false},
	{"frequency registers", FEATURE_FREQUENCIES, true},
};

static int enlighten_features_pick(uint32_t have, uint32_t *out, struct errbuf *eb)
{
	*out = 0;
	for (size_t i = 0; i < ARRAY_LEN(enlighten_features); i++) {
		if ((have & enlighten_features[i].bit) != 0) {
			*out |= enlighten_features[i].bit;
		} else if (!enlighten_features[i].optional) {
			return errbuf_set(eb, -ENOTSUP, "this kernel's KVM has no Hyper-V %s",
			                  enlighten_features[i].name);
		}
	}
	return 0;
}

int enlighten_leaves(struct cpuid_table *table, struct cpuid_table *kvm,
                     const struct enlighten_cfg *cfg, struct errbuf *eb)
{
	const struct cpuid_leaf *have = cpuid_find(kvm, LEAF_FEATURES, 0);
	struct cpuid_leaf *basic = cpuid_find(table, 1, 0);
	uint32_t features = 0;
	int err;

	if (have == NULL || basic == NULL) {
		return errbuf_set(eb, -ENOTSUP, "this kernel's KVM has no Hyper-V feature leaf");
	}
	err = enlighten_features_pick(have->eax, &features, eb);
	if (err != 0) {
		return err;
	}
	basic->ecx |= 1u << 31;

	uint32_t hints =
		HINT_RELAXED_TIMING | HINT_NO_AUTO_EOI | (cfg->eoi_assist ? HINT_APIC_MSRS : 0);
	uint32_t misc = have->edx & (MISC_FREQUENCIES | MISC_CRASH | MISC_STIMER_DIRECT);
	const struct cpuid_leaf leaves[] = {
		/* "Microsoft Hv": what unmodified guests look for. */
		{.function = 0x40000000u,
	         .eax = 0x40000006u,
	         .ebx = 0x7263694du,
	         .ecx = 0x666f736fu,
	         .edx = 0x76482074u},
		{.function = 0x40000001u, .eax = 0x31237648u}, /* "Hv#1" */
		{.function = 0x40000002u, .eax = ENLIGHTEN_BUILD, .ebx = ENLIGHTEN_VERSION},
		{.function = LEAF_FEATURES,
	         .eax = features,
	         .ebx = PRIVILEGE_POST_MESSAGES | PRIVILEGE_SIGNAL_EVENTS,
	         .edx = misc},
		/* EBX: never call us for a long spin wait. */
		{.function = 0x40000004u, .eax = hints, .ebx = UINT32_MAX},
		{.function = 0x40000005u, .eax = cfg->vp_count_max, .ebx = cfg->vp_count_max},
		{.function = 0x40000006u},
	};

	cpuid_drop(table, 0x40000000u, 0x4fffffffu);
	for (size_t i = 0; i < ARRAY_LEN(leaves) && err == 0; i++) {
		err = cpuid_set(table, &leaves[i]);
	}
	return err;
}
