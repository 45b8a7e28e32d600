/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_URING_H
#define BASE_URING_H

/*
 * uring - one io_uring per thread: all disk and network I/O of the data paths.
 *
 * Operations are structs that the caller owns and embeds (no allocation per operation): fill the
 * completion, call one uring_prep_*(), and it starts at the next uring_submit() or uring_wait().
 * The completion runs from uring_wait() or uring_dispatch() on the ring's thread, and may prepare
 * new operations, also with the same struct. A ring belongs to the thread that submits, waits or
 * dispatches first (another thread may create it and set files and buffers before that); only
 * uring_wake() may be called by others. Completions are not called from inside one another.
 *
 * Short transfers are not hidden: res may be less than asked for on files (end of file, a full
 * disk, a signal) as on sockets (there MSG_WAITALL asks for all); the owner continues. Keep a
 * descriptor open until its operations completed. What can wait (sockets, pipes, taps) waits,
 * whether the descriptor has O_NONBLOCK or not; on sockets MSG_DONTWAIT answers -EAGAIN instead.
 *
 * On a kernel without io_uring, or older than 5.13, or where a policy forbids it, the same
 * interface works through ordinary system calls: file operations run inside uring_submit(), what
 * has to wait waits in epoll. uring_backend() says which one it is. Record: docs/decisions/0004.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/attr.h"

struct errbuf;
struct uring;
struct uring_op;

#define URING_ENTRIES_MAX 4096u /* the kernel's limit is 32768; more than this only adds latency */
#define URING_SLOTS_MAX 4096u   /* fixed files, fixed buffers: a worker's disks and queues, ample */
#define URING_STREAM UINT64_MAX /* offset_bytes of pipes, taps, eventfds: no position */
#define URING_LEN_MAX 0x7ffff000u /* the kernel's limit for one transfer [bytes] */

/*
 * @res:  bytes or 0; -errno; -ECANCELED after uring_cancel().
 * @more: true if this operation (multishot poll, accept) will complete again.
 */
typedef void (*uring_fn)(struct uring_op *op, int32_t res, bool more);

/* Embed it. Must stay where it is from uring_prep_*() to its last completion. */
struct uring_op {
	uring_fn fn;
	void *arg;        /* for the owner */
	uint64_t priv[8]; /* for the ring */
};

struct uring_cfg {
	uint32_t entries;     /* power of two, 1..URING_ENTRIES_MAX: operations per submit */
	uint32_t files_max;   /* slots for fixed files, ..URING_SLOTS_MAX; 0 = none */
	uint32_t buffers_max; /* slots for fixed buffers, ..URING_SLOTS_MAX; 0 = none */
	bool in_loop; /* the owner sleeps in base/loop.h: completions wake who polls uring_fd() */
	bool apart;   /* files are read and written by threads of the kernel, never inside
	                        uring_submit(): see fs_may_wait() */
	bool force_fallback; /* do not use io_uring (tests) */
};

/* Fixed files: pass URING_FIXED(slot) as fd to any uring_prep_*(). */
#define URING_FIXED(slot) (-2 - (int)(slot))

/*
 * uring_create() - a ring for the calling thread.
 * Tries the modern flags first (single issuer, deferred task work) and drops what the kernel
 * does not know.
 * Returns 0; -EINVAL cfg; -ENOMEM; -errno.
 */
MUST_USE int uring_create(const struct uring_cfg *cfg, struct uring **out, struct errbuf *eb);

/* uring_destroy() - free an idle ring (CHECKs that no operation is in flight). NULL is fine. */
void uring_destroy(struct uring *ring);

/* uring_backend() - "io_uring" or "syscalls". */
const char *uring_backend(const struct uring *ring);

/* uring_in_flight() - operations prepared, deferred or running. */
uint32_t uring_in_flight(const struct uring *ring);

/*
 * uring_fd() - a descriptor that is readable while completions wait: for an owner whose thread
 * sleeps in base/loop.h (needs uring_cfg.in_loop: the fastest kind of ring does not wake epoll);
 * call uring_dispatch() then, and uring_submit() before sleeping. Valid until uring_destroy().
 */
int uring_fd(struct uring *ring);

/* uring_submit() - start what was prepared.
 * Returns how many, or -errno (then they stay prepared). */
MUST_USE int uring_submit(struct uring *ring);

/* uring_dispatch() - run the completions that are there; does not block. Returns how many. */
int uring_dispatch(struct uring *ring);

/*
 * uring_wait() - submit, sleep until a completion, uring_wake() or the timeout; run completions.
 * @timeout_ns: UINT64_MAX = none; 0 = do not sleep.
 * Returns the number of completions run, 0 also after a wake or for no reason; -errno.
 */
MUST_USE int uring_wait(struct uring *ring, uint64_t timeout_ns);

/* uring_wake() - make the current or next uring_wait() return. Any thread, async-signal-safe. */
void uring_wake(struct uring *ring);

/*
 * uring_defer() - complete @op with @res from the next dispatch, not from here. Cannot fail, needs
 * no system call: for a result that is known at once but must not be told from inside the call
 * that asked for it.
 */
void uring_defer(struct uring *ring, struct uring_op *op, int32_t res);

/*
 * uring_reserve() - make room so that the next @count (1..entries) uring_prep_*() cannot fail.
 * Needed before a chain, see uring_link().
 * Returns 0; -EAGAIN the kernel takes nothing now (wait for completions).
 */
MUST_USE int uring_reserve(struct uring *ring, uint32_t count);

/*
 * Preparing. All return 0; -EAGAIN the submission queue is full even after submitting it (wait
 * for completions). @iov, buffers and addresses are borrowed until the completion. A send to a
 * socket that is gone answers -EPIPE and raises no signal.
 */
MUST_USE int uring_prep_nop(struct uring *ring, struct uring_op *op);
MUST_USE int uring_prep_readv(struct uring *ring, struct uring_op *op, int fd,
                              const struct iovec *iov, uint32_t iov_count, uint64_t offset_bytes);
MUST_USE int uring_prep_writev(struct uring *ring, struct uring_op *op, int fd,
                               const struct iovec *iov, uint32_t iov_count, uint64_t offset_bytes);
MUST_USE int uring_prep_read(struct uring *ring, struct uring_op *op, int fd, void *buf,
                             uint32_t len_bytes, uint64_t offset_bytes);
MUST_USE int uring_prep_write(struct uring *ring, struct uring_op *op, int fd, const void *buf,
                              uint32_t len_bytes, uint64_t offset_bytes);
MUST_USE int uring_prep_read_fixed(struct uring *ring, struct uring_op *op, int fd, void *buf,
                                   uint32_t len_bytes, uint64_t offset_bytes, uint32_t buffer);
MUST_USE int uring_prep_write_fixed(struct uring *ring, struct uring_op *op, int fd,
                                    const void *buf, uint32_t len_bytes, uint64_t offset_bytes,
                                    uint32_t buffer);
/* As uring_prep_writev(), and durable when it completes (RWF_DSYNC). */
MUST_USE int uring_prep_writev_dsync(struct uring *ring, struct uring_op *op, int fd,
                                     const struct iovec *iov, uint32_t iov_count,
                                     uint64_t offset_bytes);
MUST_USE int uring_prep_fsync(struct uring *ring, struct uring_op *op, int fd, bool data_only);
MUST_USE int uring_prep_fallocate(struct uring *ring, struct uring_op *op, int fd, int mode,
                                  uint64_t offset_bytes, uint64_t len_bytes);
/*
 * @events: POLLIN, POLLOUT, ...; res = the events that came. A multishot poll reports changes
 * (edges): read until -EAGAIN. It may end by itself (@more false): prepare it again.
 */
MUST_USE int uring_prep_poll(struct uring *ring, struct uring_op *op, int fd, uint32_t events,
                             bool multishot);
/* res = the new socket (close-on-exec). Multishot may end by itself, as above. */
MUST_USE int uring_prep_accept(struct uring *ring, struct uring_op *op, int fd, bool multishot);
MUST_USE int uring_prep_connect(struct uring *ring, struct uring_op *op, int fd,
                                const struct sockaddr *addr, socklen_t addr_len);
MUST_USE int uring_prep_send(struct uring *ring, struct uring_op *op, int fd, const void *buf,
                             size_t len_bytes, int flags);
MUST_USE int uring_prep_recv(struct uring *ring, struct uring_op *op, int fd, void *buf,
                             size_t len_bytes, int flags);
MUST_USE int uring_prep_sendmsg(struct uring *ring, struct uring_op *op, int fd,
                                const struct msghdr *msg, int flags);
MUST_USE int uring_prep_recvmsg(struct uring *ring, struct uring_op *op, int fd, struct msghdr *msg,
                                int flags);
/* Completes with -ETIME after @delay_ns; so what is linked behind it never runs. */
MUST_USE int uring_prep_timeout(struct uring *ring, struct uring_op *op, uint64_t delay_ns);

/*
 * uring_link() - the operation prepared last and the one prepared next form a chain: the next
 * starts when the last succeeded in full (files: not short; sockets: with MSG_WAITALL not short),
 * and completes with -ECANCELED if it did not. Call uring_reserve() for the whole chain first;
 * nothing may come between uring_link() and the next uring_prep_*() (CHECK).
 */
void uring_link(struct uring *ring);

/*
 * uring_apart() - the operation prepared last is executed by a thread of the kernel, and never
 * inside uring_submit(): for files on which that may wait for this thread. Right after
 * uring_prep_*().
 * Returns false if this backend executes everything there.
 */
bool uring_apart(struct uring *ring);

/*
 * uring_cancel() - ask that @target end early; its completion comes as always, with -ECANCELED
 * or with its result if that was faster. Fire and forget: there is no completion for the request
 * to cancel. A member of a chain whose turn has not come is not found: cancel the first. The
 * target must not have completed; not for uring_defer().
 * Returns 0; -EAGAIN as above.
 */
MUST_USE int uring_cancel(struct uring *ring, struct uring_op *target);

/* uring_file_set() - put @fd (or -1 for none) into a fixed file slot; the slot keeps the file open
 * even if @fd is closed. Not while operations use the slot.
 * Returns 0; -EINVAL slot; -EBADF; -errno. */
MUST_USE int uring_file_set(struct uring *ring, uint32_t slot, int fd);

/* uring_buffer_set() - pin @buf[len_bytes] in a fixed buffer slot; NULL, 0 = unpin. Operations on
 * a slot that does not hold their buffer complete with -EFAULT.
 * Returns 0; -EINVAL slot; -ENOMEM (RLIMIT_MEMLOCK: go on without fixed buffers); -errno. */
MUST_USE int uring_buffer_set(struct uring *ring, uint32_t slot, void *buf, size_t len_bytes);

#endif
