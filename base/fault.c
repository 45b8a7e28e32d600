/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The exception to "no static mutable state": a test hook that must reach every allocation. */
static _Thread_local struct {
	uint32_t left; /* events until the failure; 0 = disarmed */
	int hit;
} fault_state[FAULT_KIND_COUNT];

void fault_arm(enum fault_kind kind, uint32_t k)
{
	fault_state[kind].left = k;
	fault_state[kind].hit = 0;
}

int fault_hit(enum fault_kind kind)
{
	return fault_state[kind].hit;
}

static int fault_now(enum fault_kind kind)
{
	if (fault_state[kind].left == 0 || --fault_state[kind].left != 0) {
		return 0;
	}
	fault_state[kind].hit = 1;
	return 1;
}

int fault_io(void)
{
	return fault_now(FAULT_IO) ? -EIO : 0;
}

void *gw_malloc(size_t bytes)
{
	return fault_now(FAULT_ALLOC) ? NULL : malloc(bytes);
}

void *gw_calloc(size_t count, size_t bytes)
{
	return fault_now(FAULT_ALLOC) ? NULL : calloc(count, bytes);
}

void *gw_calloc_sparse(size_t count, size_t bytes)
{
	const uintptr_t page = 4096;
	void *ptr = gw_calloc(count, bytes); /* a mapping of its own, zero without being touched */

	if (ptr != NULL) {
		uintptr_t first = ((uintptr_t)ptr + page - 1) / page * page;
		uintptr_t end = ((uintptr_t)ptr + count * bytes) / page * page;

		if (first < end) {
			/* Fails where the kernel has no huge pages. */
			(void)madvise((uint8_t *)ptr + (first - (uintptr_t)ptr), end - first,
			              MADV_NOHUGEPAGE);
		}
	}
	return ptr;
}

void *gw_realloc_array(void *ptr, size_t count, size_t bytes)
{
	return fault_now(FAULT_ALLOC) ? NULL : reallocarray(ptr, count, bytes);
}

char *gw_strdup(const char *text)
{
	return fault_now(FAULT_ALLOC) ? NULL : strdup(text);
}

char *gw_asprintf(const char *fmt, ...)
{
	char *out = NULL;
	va_list ap;

	if (fault_now(FAULT_ALLOC)) {
		return NULL;
	}
	va_start(ap, fmt);
	if (vasprintf(&out, fmt, ap) < 0) {
		out = NULL;
	}
	va_end(ap);
	return out;
}
