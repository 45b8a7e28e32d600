/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CPU_MODEL_H
#define HV_CPU_MODEL_H

/*
 * model - the processor a VM is defined with: a baseline computed once from a host, kept with the
 * VM, and never exceeded, so that the guest sees the same CPU wherever it runs.
 *
 * Pure. Source: AMD APM volume 3 appendix E; Intel SDM volume 2A, CPUID.
 */

#include <stdint.h>

#include "base/attr.h"

struct cpuid_table;
struct errbuf;

/*
 * model_baseline() - from what this host's KVM supports (@host) to what a VM may be given: known
 * leaves only, no nested virtualization, no PMU, nothing that depends on where a thread runs.
 * @out is the definition to keep. Returns 0; -ENOTSUP the host lacks what every x86-64 guest needs.
 */
MUST_USE int model_baseline(const struct cpuid_table *host, struct cpuid_table *out,
                            struct errbuf *eb);

/* model_drop_xsave() - take XSAVE, AVX and all that needs them out of @model. */
void model_drop_xsave(struct cpuid_table *model);

/*
 * model_check() - can a host that supports @host run a VM defined with @model?
 * Returns 0; -ENOTSUP with every missing feature word named.
 */
MUST_USE int model_check(const struct cpuid_table *model, const struct cpuid_table *host,
                         struct errbuf *eb);

/*
 * model_vp() - the table of one VP: ids and topology (one package of @vp_count cores) filled in.
 * Returns 0; -E2BIG.
 */
MUST_USE int model_vp(const struct cpuid_table *model, uint32_t vp_index, uint32_t vp_count,
                      struct cpuid_table *out);

#endif
