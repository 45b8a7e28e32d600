/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/cpu/cpuid.h"

#include <errno.h>
#include <stddef.h>

struct cpuid_leaf *cpuid_find(struct cpuid_table *t, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < t->count; i++) {
		struct cpuid_leaf *l = &t->leaves[i];

		if (l->function == function && (!l->has_index || l->index == index)) {
			return l;
		}
	}
	return NULL;
}

int cpuid_set(struct cpuid_table *t, const struct cpuid_leaf *leaf)
{
	struct cpuid_leaf *old = cpuid_find(t, leaf->function, leaf->index);

	if (old == NULL) {
		if (t->count == CPUID_LEAVES_MAX) {
			return -E2BIG;
		}
		old = &t->leaves[t->count++];
	}
	*old = *leaf;
	return 0;
}

void cpuid_drop(struct cpuid_table *t, uint32_t first, uint32_t last)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		if (t->leaves[i].function < first || t->leaves[i].function > last) {
			t->leaves[kept++] = t->leaves[i];
		}
	}
	t->count = kept;
}
