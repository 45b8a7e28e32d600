/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CPU_CPUID_H
#define HV_CPU_CPUID_H

/* cpuid - a CPUID table: what a processor, or a guest's view of one, answers. Value types. */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define CPUID_LEAVES_MAX 256u

/* One row. */
struct cpuid_leaf {
	uint32_t function;
	uint32_t index;
	bool has_index; /* the row is for this index only */
	uint32_t eax, ebx, ecx, edx;
};

struct cpuid_table {
	uint32_t count;
	struct cpuid_leaf leaves[CPUID_LEAVES_MAX];
};

/* cpuid_find() - the row of @function (and @index, if the row has one); NULL = none. */
struct cpuid_leaf *cpuid_find(struct cpuid_table *t, uint32_t function, uint32_t index);

/* cpuid_set() - put a row, replacing the one with its function and index. Returns 0; -E2BIG. */
MUST_USE int cpuid_set(struct cpuid_table *t, const struct cpuid_leaf *leaf);

/* cpuid_drop() - remove all rows of functions @first..@last. */
void cpuid_drop(struct cpuid_table *t, uint32_t first, uint32_t last);

#endif
