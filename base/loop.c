/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

/*
 * One epoll set per loop. Timers are a binary heap; a timerfd is set to the earliest deadline, or
 * to an earlier one, and wakes the loop. loop_post(), loop_stop() and signal handlers write to an
 * eventfd. The three descriptors are struct loop_fd like any other, so there is one way to be
 * woken.
 *
 * Who is due already needs no waking: a delay of 0 means "after what is ready now", often, and
 * costs no timer of the kernel. Neither does a deadline that is put off again and again, as those
 * for silent peers are: the timerfd stays where it is, and finds nobody due once.
 *
 * Deleting while dispatching: epoll_wait() returned a batch of pointers to handles. loop_fd_del()
 * removes the handle from the batch that is being worked off, so a handle can be freed at once.
 *
 * Signals: an action belongs to the process, hence the static state. The handler only sets a bit
 * and writes to an eventfd that lives as long as the process: a handler that runs on another
 * thread never writes to a number that means something else by now. Rejected: signalfd, which
 * wants the signal blocked in every thread and in every program started later.
 *
 * Why not libqb's loop: docs/decisions/0002-libqb-log-own-loop.md.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/list.h"

#define LOOP_BATCH 64 /* events per epoll_wait(): timers are looked at in between */
#define LOOP_NOT_ARMED SIZE_MAX
#define LOOP_SIGNO_MAX 64 /* what Linux has; bits of the pending mask */

struct loop_fd {
	struct loop *loop; /* borrowed */
	struct list link;  /* in loop->fds */
	int fd;            /* borrowed */
	uint32_t events;   /* LOOP_* that are wanted */
	loop_fd_fn fn;
	void *arg; /* borrowed */
};

struct loop_timer {
	struct loop *loop; /* borrowed */
	struct list link;  /* in loop->timers */
	uint64_t due_ns;
	uint64_t seq; /* of two timers due at the same time, the one armed first fires first */
	size_t pos;   /* in the heap, or LOOP_NOT_ARMED */
	loop_fn fn;
	void *arg; /* borrowed */
};

struct loop_signal {
	struct loop *loop; /* borrowed */
	struct list link;  /* in loop->signals */
	int signo;
	loop_signal_fn fn;
	void *arg; /* borrowed */
};

struct loop_post {
	struct list link; /* in loop->posts */
	loop_fn fn;
	void *arg; /* borrowed */
};

struct loop {
	int epoll_fd;
	struct loop_fd *wake;     /* owned: eventfd of loop_post() and loop_stop() */
	struct loop_fd *clock;    /* owned: timerfd */
	struct loop_fd *signal;   /* owned while signals is not empty */
	struct list fds;          /* owned struct loop_fd, all but the three above too */
	struct list timers;       /* owned struct loop_timer */
	struct list signals;      /* owned struct loop_signal */
	struct loop_timer **heap; /* owned; due first is heap[0] */
	size_t heap_count;        /* armed */
	size_t heap_room;         /* >= timer_count, so that arming never allocates */
	size_t timer_count;       /* existing */
	uint64_t timer_seq;       /* armed so far */
	uint64_t clock_ns;        /* what the timerfd is set to, at the latest; 0 = nothing */
	struct epoll_event batch[LOOP_BATCH]; /* being worked off: [batch_pos, batch_count) */
	int batch_pos;
	int batch_count;
	pthread_t thread; /* while running */
	_Atomic bool running;
	_Atomic bool stop;
	pthread_mutex_t lock; /* guards posts */
	struct list posts;    /* owned struct loop_post */
};

/* Per process, like the signal actions themselves. */
static struct {
	_Atomic(struct loop *) owner; /* the loop that takes signals */
	_Atomic uint64_t pending;     /* bit signo - 1 */
	_Atomic int event_fd;         /* + 1, so that it starts from 0 = none; never closed */
} loop_signals;

static void loop_check_thread(const struct loop *loop)
{
	CHECK(!atomic_load(&loop->running) || pthread_equal(loop->thread, pthread_self()));
}

static void loop_event_write(int fd)
{
	uint64_t one = 1;

	/* Fails only with EAGAIN, when the counter is full: then it is readable anyway. */
	ssize_t n = write(fd, &one, sizeof(one));

	(void)n;
}

/* Empty an eventfd or timerfd; nothing is there after a wake-up that came twice. */
static void loop_event_read(int fd)
{
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof(count));

	(void)n;
}

/* ---- file descriptors ---- */

static uint32_t loop_fd_mask(uint32_t events)
{
	/* epoll reports hang-ups even with an empty mask; one-shot silences it after the first. */
	return ((events & LOOP_READ) != 0 ? (uint32_t)EPOLLIN : 0u) |
	       ((events & LOOP_WRITE) != 0 ? (uint32_t)EPOLLOUT : 0u) |
	       (events == 0 ? (uint32_t)EPOLLONESHOT : 0u);
}

int loop_fd_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *arg,
                struct loop_fd **out)
{
	CHECK((events & ~(LOOP_READ | LOOP_WRITE)) == 0 && fn != NULL);
	loop_check_thread(loop);
	*out = NULL;

	struct loop_fd *h = gw_malloc(sizeof(*h));

	if (h == NULL) {
		return -ENOMEM;
	}
	*h = (struct loop_fd){.loop = loop, .fd = fd, .events = events, .fn = fn, .arg = arg};

	struct epoll_event ev = {.events = loop_fd_mask(events), .data.ptr = h};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
		int err = -errno;

		free(h);
		return err;
	}
	list_add_tail(&loop->fds, &h->link);
	*out = h;
	return 0;
}

int loop_fd_mod(struct loop_fd *handle, uint32_t events)
{
	CHECK((events & ~(LOOP_READ | LOOP_WRITE)) == 0);
	loop_check_thread(handle->loop);
	if (handle->events == events) {
		return 0;
	}

	struct epoll_event ev = {.events = loop_fd_mask(events), .data.ptr = handle};

	if (epoll_ctl(handle->loop->epoll_fd, EPOLL_CTL_MOD, handle->fd, &ev) != 0) {
		return -errno;
	}
	handle->events = events;
	return 0;
}

void loop_fd_del(struct loop_fd *handle)
{
	if (handle == NULL) {
		return;
	}

	struct loop *loop = handle->loop;

	loop_check_thread(loop);
	/* Fails if the caller closed the descriptor first: then it left the set by itself. */
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, handle->fd, NULL);
	for (int i = loop->batch_pos; i < loop->batch_count; i++) {
		if (loop->batch[i].data.ptr == handle) {
			loop->batch[i].data.ptr = NULL;
		}
	}
	list_del(&handle->link);
	free(handle);
}

static void loop_fd_dispatch(struct loop_fd *h, uint32_t epoll_events)
{
	const uint32_t broken = (uint32_t)EPOLLHUP | (uint32_t)EPOLLERR;
	uint32_t events = 0;

	if ((epoll_events & ((uint32_t)EPOLLIN | broken)) != 0) {
		events |= LOOP_READ;
	}
	if ((epoll_events & ((uint32_t)EPOLLOUT | broken)) != 0) {
		events |= LOOP_WRITE;
	}
	events &= h->events; /* an earlier callback may have changed what is wanted */
	if (events != 0) {
		h->fn(h->fd, events, h->arg);
	}
}

/* ---- timers ---- */

static bool loop_timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->seq < b->seq);
}

static void loop_heap_put(struct loop *loop, size_t pos, struct loop_timer *timer)
{
	loop->heap[pos] = timer;
	timer->pos = pos;
}

static void loop_heap_up(struct loop *loop, struct loop_timer *timer)
{
	size_t pos = timer->pos;

	while (pos != 0 && loop_timer_before(timer, loop->heap[(pos - 1) / 2])) {
		loop_heap_put(loop, pos, loop->heap[(pos - 1) / 2]);
		pos = (pos - 1) / 2;
	}
	loop_heap_put(loop, pos, timer);
}

static void loop_heap_down(struct loop *loop, struct loop_timer *timer)
{
	size_t pos = timer->pos;

	for (;;) {
		size_t child = 2 * pos + 1;

		if (child >= loop->heap_count) {
			break;
		}
		if (child + 1 < loop->heap_count &&
		    loop_timer_before(loop->heap[child + 1], loop->heap[child])) {
			child++;
		}
		if (!loop_timer_before(loop->heap[child], timer)) {
			break;
		}
		loop_heap_put(loop, pos, loop->heap[child]);
		pos = child;
	}
	loop_heap_put(loop, pos, timer);
}

void loop_timer_disarm(struct loop_timer *timer)
{
	struct loop *loop = timer->loop;

	loop_check_thread(loop);
	if (timer->pos == LOOP_NOT_ARMED) {
		return;
	}

	struct loop_timer *last = loop->heap[--loop->heap_count];

	if (last != timer) {
		last->pos = timer->pos;
		loop_heap_up(loop, last);
		loop_heap_down(loop, last);
	}
	timer->pos = LOOP_NOT_ARMED;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ns)
{
	struct loop *loop = timer->loop;

	loop_timer_disarm(timer);
	if (__builtin_add_overflow(clock_now_ns(), delay_ns, &timer->due_ns)) {
		timer->due_ns = UINT64_MAX;
	}
	timer->seq = loop->timer_seq++;
	timer->pos = loop->heap_count++;
	loop_heap_up(loop, timer);
}

int loop_timer_new(struct loop *loop, loop_fn fn, void *arg, struct loop_timer **out)
{
	CHECK(fn != NULL);
	loop_check_thread(loop);
	*out = NULL;

	struct loop_timer *timer = gw_malloc(sizeof(*timer));

	if (timer == NULL) {
		return -ENOMEM;
	}
	if (loop->timer_count == loop->heap_room) {
		size_t room = loop->heap_room == 0 ? 16 : 2 * loop->heap_room;
		struct loop_timer **heap =
			gw_realloc_array(loop->heap, room, sizeof(struct loop_timer *));

		if (heap == NULL) {
			free(timer);
			return -ENOMEM;
		}
		loop->heap = heap;
		loop->heap_room = room;
	}
	*timer = (struct loop_timer){.loop = loop, .pos = LOOP_NOT_ARMED, .fn = fn, .arg = arg};
	list_add_tail(&loop->timers, &timer->link);
	loop->timer_count++;
	*out = timer;
	return 0;
}

int loop_timer_add(struct loop *loop, uint64_t delay_ns, loop_fn fn, void *arg,
                   struct loop_timer **out)
{
	int err = loop_timer_new(loop, fn, arg, out);

	if (err == 0) {
		loop_timer_arm(*out, delay_ns);
	}
	return err;
}

void loop_timer_del(struct loop_timer *timer)
{
	if (timer == NULL) {
		return;
	}
	loop_timer_disarm(timer);
	list_del(&timer->link);
	timer->loop->timer_count--;
	free(timer);
}

/* How long to wait for events [ms]: not at all if a timer is due; else the timerfd will tell. */
static int loop_wait_ms(struct loop *loop)
{
	if (loop->heap_count == 0) {
		return -1;
	}

	uint64_t due_ns = loop->heap[0]->due_ns;

	if (due_ns <= clock_now_ns()) {
		return 0;
	}
	if (loop->clock_ns != 0 && loop->clock_ns <= due_ns) {
		return -1;
	}

	const struct itimerspec its = {.it_value = {.tv_sec = (time_t)(due_ns / NS_PER_S),
	                                            .tv_nsec = (long)(due_ns % NS_PER_S)}};

	CHECK(timerfd_settime(loop->clock->fd, TFD_TIMER_ABSTIME, &its, NULL) == 0);
	loop->clock_ns = due_ns;
	return -1;
}

/* Call what is due. */
static void loop_run_timers(struct loop *loop)
{
	uint64_t now_ns = clock_now_ns();

	/* A timer that a callback arms is due after now_ns: this ends. */
	while (loop->heap_count != 0 && loop->heap[0]->due_ns <= now_ns &&
	       !atomic_load(&loop->stop)) {
		struct loop_timer *timer = loop->heap[0];

		loop_timer_disarm(timer);
		timer->fn(timer->arg); /* may delete the timer */
	}
}

/* The timerfd is readable: it has woken the loop, which calls who is due after what is ready. */
static void loop_clock_fired(int fd, uint32_t events, void *arg)
{
	struct loop *loop = arg;

	(void)events;
	loop_event_read(fd);
	loop->clock_ns = 0;
}

/* ---- calls from other threads ---- */

int loop_post(struct loop *loop, loop_fn fn, void *arg)
{
	CHECK(fn != NULL);

	struct loop_post *post = gw_malloc(sizeof(*post));

	if (post == NULL) {
		return -ENOMEM;
	}
	post->fn = fn;
	post->arg = arg;
	CHECK(pthread_mutex_lock(&loop->lock) == 0);
	list_add_tail(&loop->posts, &post->link);
	/* Under the lock: the loop cannot run the call, and its owner destroy the loop, before. */
	loop_event_write(loop->wake->fd);
	CHECK(pthread_mutex_unlock(&loop->lock) == 0);
	return 0;
}

static void loop_wake_fired(int fd, uint32_t events, void *arg)
{
	struct loop *loop = arg;
	struct list todo;

	(void)events;
	list_init(&todo);
	loop_event_read(fd);
	CHECK(pthread_mutex_lock(&loop->lock) == 0);
	list_splice_tail(&todo, &loop->posts);
	CHECK(pthread_mutex_unlock(&loop->lock) == 0);

	while (!list_empty(&todo) && !atomic_load(&loop->stop)) {
		struct loop_post *post = list_entry(list_pop(&todo), struct loop_post, link);
		loop_fn fn = post->fn;
		void *fn_arg = post->arg;

		free(post);
		fn(fn_arg);
	}
	if (!list_empty(&todo)) { /* stopped: the rest waits, before what came meanwhile */
		CHECK(pthread_mutex_lock(&loop->lock) == 0);
		list_splice_tail(&todo, &loop->posts);
		list_splice_tail(&loop->posts, &todo);
		CHECK(pthread_mutex_unlock(&loop->lock) == 0);
		loop_event_write(fd);
	}
}

/* ---- signals ---- */

static uint64_t loop_signal_bit(int signo)
{
	return 1ull << (unsigned)(signo - 1);
}

static void loop_signal_handler(int signo)
{
	int saved = errno;

	atomic_fetch_or(&loop_signals.pending, loop_signal_bit(signo));
	loop_event_write(atomic_load(&loop_signals.event_fd) - 1);
	errno = saved;
}

static struct loop_signal *loop_signal_find(struct loop *loop, int signo)
{
	list_for_each(link, &loop->signals)
	{
		struct loop_signal *h = list_entry(link, struct loop_signal, link);

		if (h->signo == signo) {
			return h;
		}
	}
	return NULL;
}

static void loop_signal_fired(int fd, uint32_t events, void *arg)
{
	struct loop *loop = arg;

	(void)events;
	loop_event_read(fd);

	uint64_t pending = atomic_exchange(&loop_signals.pending, 0);

	for (int signo = 1; signo <= LOOP_SIGNO_MAX && pending != 0; signo++) {
		if ((pending & loop_signal_bit(signo)) == 0) {
			continue;
		}
		if (atomic_load(&loop->stop)) { /* the rest waits for the next run */
			atomic_fetch_or(&loop_signals.pending, pending);
			loop_event_write(fd);
			return;
		}
		pending &= ~loop_signal_bit(signo);

		struct loop_signal *h = loop_signal_find(loop, signo);

		if (h != NULL) {
			h->fn(signo, h->arg);
		}
	}
}

static bool loop_signal_allowed(int signo)
{
	switch (signo) {
	case SIGKILL:
	case SIGSTOP:
	case SIGSEGV: /* raised by the instruction that would run again */
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGABRT:
		return false;
	default:
		return signo >= 1 && signo <= LOOP_SIGNO_MAX;
	}
}

/* Become the loop that takes the signals of this process. */
static int loop_signal_claim(struct loop *loop)
{
	struct loop *owner = NULL;

	if (loop->signal != NULL) {
		return 0;
	}
	if (!atomic_compare_exchange_strong(&loop_signals.owner, &owner, loop)) {
		return -EBUSY;
	}

	int fd = atomic_load(&loop_signals.event_fd) - 1;

	if (fd < 0) {
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0) {
			int err = -errno;

			atomic_store(&loop_signals.owner, NULL);
			return err;
		}
		atomic_store(&loop_signals.event_fd, fd + 1);
	}

	int err = loop_fd_add(loop, fd, LOOP_READ, loop_signal_fired, loop, &loop->signal);

	if (err != 0) {
		atomic_store(&loop_signals.owner, NULL);
	}
	return err;
}

static void loop_signal_release(struct loop *loop)
{
	loop_fd_del(loop->signal);
	loop->signal = NULL;
	atomic_store(&loop_signals.owner, NULL);
}

int loop_signal_add(struct loop *loop, int signo, loop_signal_fn fn, void *arg,
                    struct loop_signal **out)
{
	const struct sigaction action = {.sa_handler = loop_signal_handler, .sa_flags = SA_RESTART};
	struct loop_signal *h = NULL;
	sigset_t set;

	CHECK(fn != NULL);
	loop_check_thread(loop);
	*out = NULL;
	if (!loop_signal_allowed(signo)) {
		return -EINVAL;
	}
	if (loop_signal_find(loop, signo) != NULL) {
		return -EEXIST;
	}

	int err = loop_signal_claim(loop);

	if (err != 0) {
		return err;
	}
	h = gw_malloc(sizeof(*h));
	if (h == NULL) {
		err = -ENOMEM;
		goto release;
	}
	*h = (struct loop_signal){.loop = loop, .signo = signo, .fn = fn, .arg = arg};
	atomic_fetch_and(&loop_signals.pending, ~loop_signal_bit(signo));
	if (sigaction(signo, &action, NULL) != 0) { /* 32 and 33 belong to the C library */
		err = -errno;
		goto free_handle;
	}
	/* Whoever started us may have left it blocked. */
	CHECK(sigemptyset(&set) == 0 && sigaddset(&set, signo) == 0);
	CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
	list_add_tail(&loop->signals, &h->link);
	*out = h;
	return 0;

free_handle:
	free(h);
release:
	if (list_empty(&loop->signals)) {
		loop_signal_release(loop);
	}
	return err;
}

void loop_signal_del(struct loop_signal *handle)
{
	if (handle == NULL) {
		return;
	}

	struct loop *loop = handle->loop;
	const struct sigaction action = {.sa_handler = SIG_DFL};

	loop_check_thread(loop);
	CHECK(sigaction(handle->signo, &action, NULL) == 0);
	list_del(&handle->link);
	free(handle);
	if (list_empty(&loop->signals)) {
		loop_signal_release(loop);
	}
}

/* ---- the loop ---- */

/* Watch a descriptor of the loop's own; closes it on failure. */
static int loop_own_fd(struct loop *loop, int fd, loop_fd_fn fn, struct loop_fd **out)
{
	if (fd < 0) {
		return -errno;
	}

	int err = loop_fd_add(loop, fd, LOOP_READ, fn, loop, out);

	if (err != 0) {
		(void)close(fd);
	}
	return err;
}

static void loop_own_fd_close(struct loop_fd *handle)
{
	if (handle != NULL) {
		int fd = handle->fd;

		loop_fd_del(handle);
		(void)close(fd);
	}
}

int loop_create(struct loop **out)
{
	*out = NULL;

	struct loop *loop = gw_calloc(1, sizeof(*loop));

	if (loop == NULL) {
		return -ENOMEM;
	}
	list_init(&loop->fds);
	list_init(&loop->timers);
	list_init(&loop->signals);
	list_init(&loop->posts);
	CHECK(pthread_mutex_init(&loop->lock, NULL) == 0);

	int err = 0;

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		err = -errno;
		goto destroy;
	}
	err = loop_own_fd(loop, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), loop_wake_fired,
	                  &loop->wake);
	if (err != 0) {
		goto destroy;
	}
	err = loop_own_fd(loop, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
	                  loop_clock_fired, &loop->clock);
	if (err != 0) {
		goto destroy;
	}
	*out = loop;
	return 0;

destroy:
	loop_destroy(loop); /* copes with a loop that is half made */
	return err;
}

void loop_destroy(struct loop *loop)
{
	if (loop == NULL) {
		return;
	}
	CHECK(!atomic_load(&loop->running));
	list_for_each_safe(link, &loop->signals)
	{
		loop_signal_del(list_entry(link, struct loop_signal, link));
	}
	loop_own_fd_close(loop->wake);
	loop_own_fd_close(loop->clock);
	list_for_each_safe(link, &loop->fds)
	{
		loop_fd_del(list_entry(link, struct loop_fd, link));
	}
	list_for_each_safe(link, &loop->timers)
	{
		loop_timer_del(list_entry(link, struct loop_timer, link));
	}
	list_for_each_safe(link, &loop->posts)
	{
		free(list_entry(link, struct loop_post, link));
	}
	if (loop->epoll_fd >= 0) {
		(void)close(loop->epoll_fd);
	}
	CHECK(pthread_mutex_destroy(&loop->lock) == 0);
	free(loop->heap);
	free(loop);
}

void loop_run(struct loop *loop)
{
	CHECK(!atomic_load(&loop->running));
	loop->thread = pthread_self();
	atomic_store(&loop->running, true);
	while (!atomic_load(&loop->stop)) {
		loop->batch_pos = 0;
		loop->batch_count =
			epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, loop_wait_ms(loop));
		CHECK(loop->batch_count >= 0 || errno == EINTR);
		while (loop->batch_pos < loop->batch_count && !atomic_load(&loop->stop)) {
			const struct epoll_event *ev = &loop->batch[loop->batch_pos++];

			if (ev->data.ptr != NULL) { /* not deleted by an earlier callback */
				loop_fd_dispatch(ev->data.ptr, ev->events);
			}
		}
		loop->batch_count = 0; /* what was not looked at will be reported again */
		loop_run_timers(loop);
	}
	atomic_store(&loop->running, false);
	atomic_store(&loop->stop, false);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	loop_event_write(loop->wake->fd);
}
