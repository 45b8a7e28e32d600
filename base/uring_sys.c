/* SPDX-License-Identifier: Apache-2.0 */

/*
 * uring_sys - the backend of ordinary system calls, for kernels and sandboxes without io_uring.
 *
 * An operation is tried (uring_try.c) when it is submitted. If it would have to wait it joins the
 * list of its descriptor, which is in an epoll set (edge-triggered) for what the list waits for;
 * when epoll reports the descriptor, all of the list that fits is tried again. Timeouts are a
 * sorted list behind one timerfd. Results go to the queue of uring_op.c; only multishot operations
 * call their owner directly from reap().
 *
 * It is made to be right, not fast: file operations block the thread in uring_submit().
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/uring_int.h"

#define SRING_EVENTS_MAX 64      /* descriptors reported per reap */
#define SRING_FDS_MAX (1u << 20) /* the usual hard limit of descriptors */
#define SRING_ANY (EPOLLERR | EPOLLHUP)

enum sring_state {
	SRING_PREPARED, /* in sring.prepared */
	SRING_CHAINED,  /* behind another one; in no list */
	SRING_RUNNING,  /* being tried, or its owner is being called (multishot) */
	SRING_WAITING,  /* in the list of its descriptor, or in sring.timeouts */
	SRING_READY,    /* in sring.ready: to be tried again */
	SRING_DONE,     /* in the queue of results */
};

/* What uring_op.priv holds until the result is queued. */
struct sring_op {
	struct uring_call call;
	struct uring_op *prev;
	struct uring_op *next;
	struct uring_op *chain; /* runs after this one; NULL = none */
	uint32_t done_bytes;    /* MSG_WAITALL */
	uint8_t state;          /* enum sring_state */
	bool cancelled;         /* while PREPARED or RUNNING */
} MAY_ALIAS;
_Static_assert(sizeof(struct sring_op) <= sizeof(((struct uring_op *)0)->priv), "uring_op.priv");

struct sring_list {
	struct uring_op *head;
	struct uring_op *tail;
};

struct sring_fd {
	struct sring_list waiting;
	uint32_t armed; /* events in the epoll set; 0 = not in it */
};

struct sring {
	struct uring base;
	int epoll_fd; /* owned */
	int timer_fd; /* owned: rings at the head of timeouts */
	struct sring_list prepared;
	struct sring_list ready;
	struct sring_list timeouts; /* by deadline, which is call.offset [ns] */
	struct uring_op *last;      /* prepared last */
	uint32_t prepared_count;
	struct sring_fd *fds; /* owned: by descriptor */
	uint32_t fds_count;
	int *files;            /* owned, and duplicates of the files: fixed slots; -1 = none */
	struct iovec *buffers; /* owned: fixed slots */
};

static struct sring *sring_of(struct uring *ring)
{
	return container_of(ring, struct sring, base);
}

static struct sring_op *sring_op(struct uring_op *op)
{
	return (struct sring_op *)op->priv;
}

/* ---- lists ---- */

/* Put @op before @next (NULL: at the end). */
static void sring_insert(struct sring_list *list, struct uring_op *op, struct uring_op *next)
{
	struct uring_op *prev = next != NULL ? sring_op(next)->prev : list->tail;

	sring_op(op)->prev = prev;
	sring_op(op)->next = next;
	*(prev != NULL ? &sring_op(prev)->next : &list->head) = op;
	*(next != NULL ? &sring_op(next)->prev : &list->tail) = op;
}

static void sring_unlink(struct sring_list *list, struct uring_op *op)
{
	struct uring_op *prev = sring_op(op)->prev;
	struct uring_op *next = sring_op(op)->next;

	*(prev != NULL ? &sring_op(prev)->next : &list->head) = next;
	*(next != NULL ? &sring_op(next)->prev : &list->tail) = prev;
}

/* ---- one operation ---- */

/* The descriptor of a call; -1 = an empty fixed slot. */
static int sring_fd(const struct sring *s, const struct uring_call *call)
{
	if (call->fd > URING_FIXED(0)) {
		return call->fd;
	}

	uint32_t slot = (uint32_t)(URING_FIXED(0) - call->fd);

	return slot < s->base.cfg.files_max ? s->files[slot] : -1;
}

static bool sring_try(struct sring *s, struct uring_op *op, bool again, int32_t *res)
{
	struct sring_op *o = sring_op(op);

	return uring_try(&o->call, &s->buffers[o->call.buffer], again, &o->done_bytes, res);
}

/* ---- waiting ---- */

/*
 * Make the epoll set say what waits for @fd. An operation that was just tried needs no new look
 * (@look) at a descriptor that is armed for it: what happened since is an edge to come.
 */
static int sring_arm(struct sring *s, int fd, bool look)
{
	struct sring_fd *f = &s->fds[fd];
	struct epoll_event ev = {.data.fd = fd};

	for (struct uring_op *op = f->waiting.head; op != NULL; op = sring_op(op)->next) {
		ev.events |= EPOLLET | uring_try_events(&sring_op(op)->call);
	}
	if (ev.events == f->armed && !look) {
		return 0;
	}

	int how = f->armed != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (ev.events == 0) {
		how = EPOLL_CTL_DEL;
	}
	f->armed = ev.events;
	if (epoll_ctl(s->epoll_fd, how, fd, &ev) != 0 && how != EPOLL_CTL_DEL) {
		f->armed = 0;
		return -errno;
	}
	return 0;
}

static void sring_timer_arm(struct sring *s)
{
	struct itimerspec at = {0};

	if (s->timeouts.head != NULL) {
		uint64_t deadline = sring_op(s->timeouts.head)->call.offset;

		at.it_value.tv_sec = (time_t)(deadline / NS_PER_S);
		at.it_value.tv_nsec = (long)(deadline % NS_PER_S);
	}
	CHECK(timerfd_settime(s->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) == 0);
}

static void sring_timeout_add(struct sring *s, struct uring_op *op)
{
	struct uring_call *call = &sring_op(op)->call;
	uint64_t now = clock_now_ns();
	struct uring_op *next = s->timeouts.head;

	/* A century is forever; and 0 would disarm the timer. */
	call->offset = now + (call->offset < UINT64_MAX / 4 ? call->offset : UINT64_MAX / 4);
	while (next != NULL && sring_op(next)->call.offset <= call->offset) {
		next = sring_op(next)->next;
	}
	sring_insert(&s->timeouts, op, next);
	if (s->timeouts.head == op) {
		sring_timer_arm(s);
	}
}

static int sring_fds_grow(struct sring *s, int fd)
{
	uint32_t count = s->fds_count != 0 ? s->fds_count : 64;

	while (count <= (uint32_t)fd) {
		count *= 2;
	}
	if (count > SRING_FDS_MAX) {
		return -EMFILE;
	}

	struct sring_fd *fds = gw_realloc_array(s->fds, count, sizeof(*fds));

	if (fds == NULL) {
		return -ENOMEM;
	}
	memset(fds + s->fds_count, 0, (count - s->fds_count) * sizeof(*fds));
	s->fds = fds;
	s->fds_count = count;
	return 0;
}

/* @again: it waited before. Returns 0; a result that ends the operation after all. */
static int32_t sring_wait_for(struct sring *s, struct uring_op *op, bool again)
{
	struct sring_op *o = sring_op(op);
	int fd = o->call.fd;

	o->state = SRING_WAITING;
	if (o->call.code == URING_TIMEOUT) {
		sring_timeout_add(s, op);
		return 0;
	}

	int err = (uint32_t)fd < s->fds_count ? 0 : sring_fds_grow(s, fd);

	if (err != 0) {
		return err;
	}
	sring_insert(&s->fds[fd].waiting, op, NULL);
	/* Accept takes one of several connections per edge; a multishot poll was not tried yet. */
	err = sring_arm(s, fd, o->call.multishot && (!again || o->call.code == URING_ACCEPT));
	if (err == 0) {
		return 0;
	}
	sring_unlink(&s->fds[fd].waiting, op);
	if (err == -EPERM && o->call.code == URING_POLL) {
		/* A file that epoll does not take is always ready. */
		int32_t ready = (int32_t)o->call.op_flags & (POLLIN | POLLOUT);

		return ready != 0 ? ready : err;
	}
	return err;
}

/* ---- running ---- */

/* @op is in no list: queue its result, cancel or return what is chained to it. */
static struct uring_op *sring_finish(struct sring *s, struct uring_op *op, int32_t res)
{
	struct uring_op *chain = sring_op(op)->chain;
	bool go_on = uring_try_succeeded(&sring_op(op)->call, res);

	sring_op(op)->state = SRING_DONE;
	uring_result(&s->base, op, res);
	while (chain != NULL && !go_on) {
		struct uring_op *next = sring_op(chain)->chain;

		sring_op(chain)->state = SRING_DONE;
		uring_result(&s->base, chain, -ECANCELED);
		chain = next;
	}
	return chain;
}

/* Try @op and, as long as they succeed at once, those chained to it. */
static void sring_run(struct sring *s, struct uring_op *op, bool again)
{
	while (op != NULL) {
		int32_t res = 0;

		sring_op(op)->state = SRING_RUNNING;
		sring_op(op)->call.fd = sring_fd(s, &sring_op(op)->call);
		if (!sring_try(s, op, again, &res)) {
			res = sring_op(op)->cancelled ? -ECANCELED : sring_wait_for(s, op, again);
			if (res == 0) {
				return;
			}
		}
		op = sring_finish(s, op, res);
		again = false;
	}
}

/* A multishot operation is ready: tell the owner, then wait on. Returns how many were told. */
static int sring_run_multishot(struct sring *s, struct uring_op *op)
{
	struct sring_op *o = sring_op(op);
	int32_t res = 0;
	int told = 0;

	o->state = SRING_RUNNING;
	if (sring_try(s, op, true, &res)) {
		if (res < 0) {
			sring_run(s, sring_finish(s, op, res), false);
			return 0;
		}
		op->fn(op, res, true);
		told = 1;
	}
	res = o->cancelled ? -ECANCELED : sring_wait_for(s, op, true);
	if (res != 0) {
		sring_run(s, sring_finish(s, op, res), false);
	}
	return told;
}

static void sring_fd_ready(struct sring *s, int fd, uint32_t events)
{
	struct uring_op *op = s->fds[fd].waiting.head;

	while (op != NULL) {
		struct uring_op *next = sring_op(op)->next;

		if (((uring_try_events(&sring_op(op)->call) | SRING_ANY) & events) != 0) {
			sring_unlink(&s->fds[fd].waiting, op);
			sring_op(op)->state = SRING_READY;
			sring_insert(&s->ready, op, NULL);
		}
		op = next;
	}
}

static void sring_expire(struct sring *s)
{
	uint64_t now = clock_now_ns();
	uint64_t rings;
	ssize_t n = read(s->timer_fd, &rings, sizeof(rings));

	(void)n; /* EAGAIN: rearmed meanwhile */
	while (s->timeouts.head != NULL && sring_op(s->timeouts.head)->call.offset <= now) {
		struct uring_op *op = s->timeouts.head;

		sring_unlink(&s->timeouts, op);
		(void)sring_finish(s, op, -ETIME); /* no success: ends its chain */
	}
	sring_timer_arm(s);
}

static int sring_reap(struct uring *ring)
{
	struct sring *s = sring_of(ring);
	struct epoll_event ev[SRING_EVENTS_MAX];
	int told = 0;
	int n = epoll_wait(s->epoll_fd, ev, SRING_EVENTS_MAX, 0);

	for (int i = 0; i < n; i++) {
		if (ev[i].data.fd == ring->wake_fd) {
			uring_wake_clear(ring);
		} else if (ev[i].data.fd == s->timer_fd) {
			sring_expire(s);
		} else {
			sring_fd_ready(s, ev[i].data.fd, ev[i].events);
		}
	}
	while (s->ready.head != NULL) {
		struct uring_op *op = s->ready.head;
		int fd = sring_op(op)->call.fd;

		sring_unlink(&s->ready, op);
		if (sring_op(op)->call.multishot) {
			told += sring_run_multishot(s, op);
		} else {
			sring_run(s, op, true);
		}
		(void)sring_arm(s, fd, false); /* for less, or nothing */
	}
	return told;
}

static uint32_t sring_space(struct uring *ring)
{
	struct sring *s = sring_of(ring);

	return ring->cfg.entries - s->prepared_count;
}

static void sring_prep(struct uring *ring, struct uring_op *op, const struct uring_call *call)
{
	struct sring *s = sring_of(ring);
	struct sring_op *o = sring_op(op);

	*o = (struct sring_op){.call = *call, .state = SRING_PREPARED};
	if (ring->chain_open) {
		o->state = SRING_CHAINED;
		sring_op(s->last)->chain = op;
	} else {
		sring_insert(&s->prepared, op, NULL);
	}
	s->last = op;
	s->prepared_count++;
}

static void sring_link(struct uring *ring)
{
	(void)ring; /* ring->chain_open says it to sring_prep() */
}

static int sring_submit(struct uring *ring)
{
	struct sring *s = sring_of(ring);

	while (s->prepared.head != NULL) {
		struct uring_op *op = s->prepared.head;

		sring_unlink(&s->prepared, op);
		sring_run(s, op, false);
	}
	s->prepared_count = 0;
	return 0;
}

static int sring_wait(struct uring *ring, uint64_t timeout_ns)
{
	struct sring *s = sring_of(ring);
	struct pollfd p = {.fd = s->epoll_fd, .events = POLLIN};
	const struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / NS_PER_S),
		.tv_nsec = (long)(timeout_ns % NS_PER_S),
	};

	(void)sring_submit(ring);
	if (ring->results_head != NULL || timeout_ns == 0) {
		return 0;
	}
	if (ppoll(&p, 1, timeout_ns != UINT64_MAX ? &ts : NULL, NULL) < 0 && errno != EINTR) {
		return -errno;
	}
	return 0;
}

static void sring_cancel(struct uring *ring, struct uring_op *target)
{
	struct sring *s = sring_of(ring);
	struct sring_op *o = sring_op(target);

	switch ((enum sring_state)o->state) {
	case SRING_PREPARED:
	case SRING_RUNNING:
		o->cancelled = true;
		return;
	case SRING_WAITING:
		if (o->call.code == URING_TIMEOUT) {
			sring_unlink(&s->timeouts, target);
			sring_timer_arm(s);
		} else {
			sring_unlink(&s->fds[o->call.fd].waiting, target);
			(void)sring_arm(s, o->call.fd, false);
		}
		(void)sring_finish(s, target, -ECANCELED);
		return;
	case SRING_READY:
		sring_unlink(&s->ready, target);
		(void)sring_finish(s, target, -ECANCELED);
		return;
	case SRING_CHAINED:
	case SRING_DONE:
		return;
	}
}

static int sring_file_set(struct uring *ring, uint32_t slot, int fd)
{
	struct sring *s = sring_of(ring);
	int copy = -1;

	if (fd >= 0) {
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (copy < 0) {
			return -errno;
		}
	}
	if (s->files[slot] >= 0) {
		(void)close(s->files[slot]);
	}
	s->files[slot] = copy;
	return 0;
}

static int sring_buffer_set(struct uring *ring, uint32_t slot, void *buf, size_t len_bytes)
{
	sring_of(ring)->buffers[slot] = (struct iovec){.iov_base = buf, .iov_len = len_bytes};
	return 0;
}

static int sring_epoll_fd(struct uring *ring)
{
	return sring_of(ring)->epoll_fd;
}

static void sring_destroy(struct uring *ring)
{
	struct sring *s = sring_of(ring);

	for (uint32_t i = 0; s->files != NULL && i < ring->cfg.files_max; i++) {
		if (s->files[i] >= 0) {
			(void)close(s->files[i]);
		}
	}
	const int fds[] = {s->timer_fd, s->epoll_fd, ring->wake_fd};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		if (fds[i] >= 0) {
			(void)close(fds[i]);
		}
	}
	free(s->buffers);
	free(s->files);
	free(s->fds);
	free(s);
}

static const struct uring_backend sring_backend = {
	.name = "syscalls",
	.destroy = sring_destroy,
	.fd = sring_epoll_fd,
	.space = sring_space,
	.prep = sring_prep,
	.link = sring_link,
	.submit = sring_submit,
	.wait = sring_wait,
	.reap = sring_reap,
	.cancel = sring_cancel,
	.file_set = sring_file_set,
	.buffer_set = sring_buffer_set,
};

static int sring_watch(struct sring *s, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

static int sring_open(struct sring *s)
{
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0) {
		return -errno;
	}
	s->base.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->base.wake_fd < 0) {
		return -errno;
	}
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timer_fd < 0) {
		return -errno;
	}

	int err = sring_watch(s, s->base.wake_fd);

	return err != 0 ? err : sring_watch(s, s->timer_fd);
}

int uring_sys_create(const struct uring_cfg *cfg, struct uring **out, struct errbuf *eb)
{
	struct sring *s = gw_calloc(1, sizeof(*s));

	*out = NULL;
	if (s == NULL) {
		return errbuf_set(eb, -ENOMEM, "ring: out of memory");
	}
	s->base.backend = &sring_backend;
	s->base.cfg = *cfg;
	s->base.wake_fd = -1;
	s->timer_fd = -1;
	s->epoll_fd = -1;

	int err = -ENOMEM;

	s->files = gw_malloc((cfg->files_max + 1) * sizeof(*s->files));
	if (s->files == NULL) {
		goto destroy;
	}
	memset(s->files, 0xff, (cfg->files_max + 1) * sizeof(*s->files)); /* -1 = none */
	s->buffers = gw_calloc(cfg->buffers_max + 1, sizeof(*s->buffers));
	if (s->buffers == NULL) {
		goto destroy;
	}
	err = sring_open(s);
	if (err != 0) {
		goto destroy;
	}
	*out = &s->base;
	return 0;

destroy:
	sring_destroy(&s->base);
	return errbuf_sys(eb, err, "ring without io_uring");
}
