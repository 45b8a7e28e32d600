/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

/*
 * loop - the event loop of a service: file descriptors, timers, signals, deferred calls.
 *
 * One loop belongs to the thread that runs it: every function below is for that thread, except
 * loop_post() and loop_stop(), which any thread may call; a call from the wrong thread while the
 * loop runs is caught by a CHECK. Before loop_run() and after it, the creator may call them.
 * Callbacks run on the loop's thread, one after another; they may add and delete any handle, their
 * own too. After a _del() returns, the callback of that handle does not run. A process may have
 * any number of loops. Data paths use base/uring.h instead.
 */

#include <stdint.h>

#include "base/attr.h"

struct loop;
struct loop_fd;
struct loop_timer;
struct loop_signal;

#define LOOP_READ 1u  /* readable, or the peer hung up or failed: reading will tell */
#define LOOP_WRITE 2u /* writable, or failed */

/* @events: LOOP_READ and/or LOOP_WRITE. */
typedef void (*loop_fd_fn)(int fd, uint32_t events, void *arg);
typedef void (*loop_fn)(void *arg);
typedef void (*loop_signal_fn)(int signo, void *arg);

/* loop_create() - an empty loop. Returns 0; -ENOMEM; -errno. */
MUST_USE int loop_create(struct loop **out);

/* loop_destroy() - free a loop that is not running, and all its handles. NULL is fine. */
void loop_destroy(struct loop *loop);

/* loop_run() - dispatch until loop_stop(). Blocks. Signals of loop_signal_add() arrive here. */
void loop_run(struct loop *loop);

/*
 * loop_stop() - make loop_run() return after the callback that runs now. Events and calls that were
 * not looked at wait for the next loop_run(). Before loop_run() it makes that return at once.
 * Context: any thread, also a signal handler.
 */
void loop_stop(struct loop *loop);

/*
 * loop_post() - call @fn on the loop's thread, in order of posting.
 * Returns 0; -ENOMEM. Context: any thread. What is still queued when the loop is destroyed is
 * dropped without a call.
 */
MUST_USE int loop_post(struct loop *loop, loop_fn fn, void *arg);

/*
 * loop_fd_add() - watch @fd (borrowed until loop_fd_del()).
 * Returns 0; -EEXIST fd is already watched; -EPERM a regular file; -ENOMEM; -EBADF; -ENOSPC the
 * user's limit of watches.
 */
MUST_USE int loop_fd_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *arg,
                         struct loop_fd **out);

/*
 * loop_fd_mod() - change the events; 0 = none for now, not even a hang-up.
 * Returns 0; -EBADF the descriptor was closed too early; -ENOMEM.
 */
MUST_USE int loop_fd_mod(struct loop_fd *handle, uint32_t events);

/* loop_fd_del() - stop watching; call it before close(fd). NULL is fine. */
void loop_fd_del(struct loop_fd *handle);

/*
 * loop_timer_add() - call @fn once, not before @delay_ns [ns] from now (CLOCK_MONOTONIC). The
 * handle stays valid after it fired: arm it again or delete it.
 * Returns 0; -ENOMEM.
 */
MUST_USE int loop_timer_add(struct loop *loop, uint64_t delay_ns, loop_fn fn, void *arg,
                            struct loop_timer **out);

/* loop_timer_new() - as loop_timer_add(), but not armed yet. Returns 0; -ENOMEM. */
MUST_USE int loop_timer_new(struct loop *loop, loop_fn fn, void *arg, struct loop_timer **out);

/* loop_timer_arm() - (re)start the timer; UINT64_MAX = never, 0 = after what is ready now (cheap).
 * Cannot fail: the room is reserved. */
void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ns);

/* loop_timer_disarm() - do not fire until armed again. */
void loop_timer_disarm(struct loop_timer *timer);

/* loop_timer_del() - disarm and free. NULL is fine. */
void loop_timer_del(struct loop_timer *timer);

/*
 * loop_signal_add() - call @fn on the loop's thread after each @signo; several that come close
 * together may be one call, as usual for signals. The signal is unblocked on this thread. One loop
 * of a process may take signals (SIGCHLD included). Programs started later have default actions.
 * Returns 0; -EEXIST this loop has it already; -EBUSY another loop takes signals; -ENOMEM; -EINVAL
 * not a signal that can be taken (SIGKILL, SIGSEGV...).
 */
MUST_USE int loop_signal_add(struct loop *loop, int signo, loop_signal_fn fn, void *arg,
                             struct loop_signal **out);

/* loop_signal_del() - restore the default action. NULL is fine. */
void loop_signal_del(struct loop_signal *handle);

#endif
