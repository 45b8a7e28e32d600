/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_PAGE_PAGE_H
#define MIGRATE_PAGE_PAGE_H

/*
 * page - looking at and copying pages of a guest that runs meanwhile. What changes under the
 * reader is dirty and comes again in the next round, so any mix of old and new is fine; these two
 * functions are the only ones that read memory in motion, and are told so to the sanitizers.
 */

#include <stdbool.h>

#define PAGE_BYTES 4096u

/* page_is_zero() - @page: aligned to 4096. Ends at the first byte that is set. */
bool page_is_zero(const void *page);

/* page_copy() - @from: aligned to 4096, may change; @to: aligned to 64. */
void page_copy(void *restrict to, const void *restrict from);

#endif
