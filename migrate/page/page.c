/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/page/page.h"

#include <stddef.h>
#include <stdint.h>

/* The compiler makes SSE2 of these: 32 MiB/ms here, as fast as memory. */
typedef uint64_t page_vec __attribute__((vector_size(16), may_alias));

#define PAGE_VECS (PAGE_BYTES / sizeof(page_vec))
#define PAGE_IN_MOTION __attribute__((no_sanitize("thread")))

PAGE_IN_MOTION bool page_is_zero(const void *page)
{
	const page_vec *v = page;

	for (size_t i = 0; i < PAGE_VECS; i += 8) {
		page_vec any = v[i] | v[i + 1] | v[i + 2] | v[i + 3] | v[i + 4] | v[i + 5] |
		               v[i + 6] | v[i + 7];

		if ((any[0] | any[1]) != 0) {
			return false;
		}
	}
	return true;
}

PAGE_IN_MOTION void page_copy(void *restrict to, const void *restrict from)
{
	const page_vec *in = from;
	page_vec *out = to;

	for (size_t i = 0; i < PAGE_VECS; i++) {
		out[i] = in[i];
	}
}
