/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_POST_H
#define HV_WORKER_POST_H

/*
 * post - let the device thread call a function, from any thread.
 *
 * The caller owns and embeds the item; it may be posted again once its function has begun. Nothing
 * is allocated and posting cannot fail. Functions run in the order in which they were posted, from
 * the ring's dispatch.
 */

#include <stdbool.h>

#include "base/attr.h"
#include "base/list.h"

struct post;
struct uring;

typedef void (*post_fn)(void *arg);

/* Start from {0}; fields are private. */
struct post_item {
	struct list link;
	post_fn fn;
	void *arg;
	bool queued;
};

/* post_create() - for the thread of @ring (borrowed). Returns 0; -ENOMEM; -errno. */
MUST_USE int post_create(struct uring *ring, struct post **out);

/* post_destroy() - nobody posts any more; what is queued is dropped. Not from a function that was
 * posted. NULL is fine. */
void post_destroy(struct post *p);

/* post_call() - @fn(@arg) on the device thread; nothing if @item waits already. Any thread. */
void post_call(struct post *p, struct post_item *item, post_fn fn, void *arg);

#endif
