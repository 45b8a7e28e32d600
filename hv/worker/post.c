/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/post.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/uring.h"

struct post {
	struct uring *ring; /* borrowed */
	int event_fd;       /* owned */
	struct uring_op poll;
	bool polled;
	bool dying;
	pthread_mutex_t lock; /* guards what waits, and the items in it */
	struct list waiting;
};

static void post_lock(struct post *p)
{
	CHECK(pthread_mutex_lock(&p->lock) == 0);
}

static void post_unlock(struct post *p)
{
	CHECK(pthread_mutex_unlock(&p->lock) == 0);
}

/* The oldest that waits, and take it out; false = none. */
static bool post_next(struct post *p, post_fn *fn, void **arg)
{
	struct list *link;

	post_lock(p);
	link = list_first(&p->waiting);
	if (link != NULL) {
		struct post_item *item = list_entry(link, struct post_item, link);

		list_del(link);
		item->queued = false;
		*fn = item->fn;
		*arg = item->arg;
	}
	post_unlock(p);
	return link != NULL;
}

static void post_due(struct uring_op *op, int32_t res, bool more)
{
	struct post *p = op->arg;
	uint64_t ignored;
	post_fn fn;
	void *arg;

	p->polled = more;
	if (p->dying || res < 0) {
		return;
	}
	(void)!read(p->event_fd, &ignored, sizeof(ignored)); /* before: later posts ring again */
	while (post_next(p, &fn, &arg)) {
		fn(arg);
	}
	if (!more) {
		p->polled = uring_prep_poll(p->ring, &p->poll, p->event_fd, POLLIN, true) == 0;
		CHECK(p->polled); /* its slot was just given back */
	}
}

int post_create(struct uring *ring, struct post **out)
{
	struct post *p = gw_calloc(1, sizeof(*p));
	int err;

	*out = NULL;
	if (p == NULL) {
		return -ENOMEM;
	}
	p->ring = ring;
	list_init(&p->waiting);
	p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->event_fd < 0) {
		err = -errno;
		goto free_post;
	}
	p->poll = (struct uring_op){.fn = post_due, .arg = p};
	err = uring_prep_poll(ring, &p->poll, p->event_fd, POLLIN, true);
	if (err != 0) {
		goto close_event;
	}
	p->polled = true;
	CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
	*out = p;
	return 0;

close_event:
	(void)close(p->event_fd);
free_post:
	free(p);
	return err;
}

void post_destroy(struct post *p)
{
	if (p == NULL) {
		return;
	}
	p->dying = true;
	if (p->polled) {
		CHECK(uring_cancel(p->ring, &p->poll) == 0);
	}
	while (p->polled) {
		CHECK(uring_wait(p->ring, UINT64_MAX) >= 0);
	}
	(void)close(p->event_fd);
	CHECK(pthread_mutex_destroy(&p->lock) == 0);
	free(p);
}

void post_call(struct post *p, struct post_item *item, post_fn fn, void *arg)
{
	post_lock(p);
	if (!item->queued) {
		item->queued = true;
		item->fn = fn;
		item->arg = arg;
		list_add_tail(&p->waiting, &item->link);
	}
	post_unlock(p);
	CHECK(eventfd_write(p->event_fd, 1) == 0 || errno == EAGAIN);
}
