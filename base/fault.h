/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

/*
 * fault - memory for the control path, and failure on demand.
 *
 * Godwit allocates through gw_malloc() and friends. A test makes the k-th allocation (or I/O, at
 * the sites that call fault_io()) fail, for k = 1, 2, ... until the code under test succeeds:
 *
 *	for (uint32_t k = 1; fault_arm(FAULT_ALLOC, k), run() == -ENOMEM; k++) {}
 *
 * Not armed (always, in production) the cost is one thread-local load. The state is per thread, so
 * that tests may run in parallel and a background thread is not hit by accident.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum fault_kind { FAULT_ALLOC, FAULT_IO, FAULT_KIND_COUNT };

/* fault_arm() - on this thread, let the @k-th (1..) event of @kind from now fail; 0 = disarm. */
void fault_arm(enum fault_kind kind, uint32_t k);

/* fault_hit() - did the armed failure happen (since fault_arm())? */
int fault_hit(enum fault_kind kind);

/* fault_io() - called at an I/O site: 0, or the -EIO that the test asked for. */
MUST_USE int fault_io(void);

/* As malloc, calloc, reallocarray, strdup; NULL = no memory (or the armed failure). Free with
 * free(). */
void *gw_malloc(size_t bytes);
void *gw_calloc(size_t count, size_t bytes);
void *gw_realloc_array(void *ptr, size_t count, size_t bytes);
/*
 * gw_calloc_sparse() - as gw_calloc(), for a large table of which little is used: only the pages
 * that were touched cost memory, also where the kernel makes huge pages unasked.
 */
void *gw_calloc_sparse(size_t count, size_t bytes);
char *gw_strdup(const char *text);
char *gw_asprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
