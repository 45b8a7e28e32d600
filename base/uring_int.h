/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_URING_INT_H
#define BASE_URING_INT_H

/*
 * uring_int - what the two backends of base/uring.h share. uring_op.c is the public interface, the
 * accounting and the queue of results that are known already; uring.c is io_uring, uring_sys.c and
 * uring_try.c are ordinary system calls.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/uring.h"

struct errbuf;

enum uring_code {
	URING_NOP,
	URING_READV,
	URING_WRITEV,
	URING_READ,
	URING_WRITE,
	URING_READ_FIXED,
	URING_WRITE_FIXED,
	URING_FSYNC,
	URING_FALLOCATE,
	URING_POLL,
	URING_ACCEPT,
	URING_CONNECT,
	URING_SEND,
	URING_RECV,
	URING_SENDMSG,
	URING_RECVMSG,
	URING_TIMEOUT,
	URING_CODE_COUNT
};

/* One operation, in the fields of the kernel's submission entry. */
struct uring_call {
	uint8_t code;    /* enum uring_code */
	bool multishot;  /* POLL, ACCEPT */
	uint16_t buffer; /* READ_FIXED, WRITE_FIXED: slot */
	int32_t fd;      /* or URING_FIXED(slot) */
	uint64_t offset; /* position; CONNECT: address length; TIMEOUT: delay [ns] */
	union {
		void *addr;       /* buffer, iovec, msghdr, sockaddr */
		const void *from; /* the same, when it is only read */
		uint64_t length;  /* FALLOCATE */
	};
	uint32_t len;      /* of the buffer, of the iovec; FALLOCATE: mode */
	uint32_t op_flags; /* rw, fsync, poll, accept, msg flags */
};

_Static_assert(sizeof(void *) == sizeof(uint64_t), "addresses and lengths share a field");

struct uring_backend {
	const char *name;
	void (*destroy)(struct uring *ring);
	int (*fd)(struct uring *ring);
	/* How many prep() and cancel() there is room for. */
	uint32_t (*space)(struct uring *ring);
	void (*prep)(struct uring *ring, struct uring_op *op, const struct uring_call *call);
	void (*link)(struct uring *ring);  /* the op prepared last with the next */
	void (*apart)(struct uring *ring); /* the op prepared last; NULL = cannot */
	int (*submit)(struct uring *ring); /* all of it: 0; -errno */
	/* Submit; sleep until there is something to reap, a wake or the timeout. 0 or -errno. */
	int (*wait)(struct uring *ring, uint64_t timeout_ns);
	/* Call or queue completions. Returns how many were called. */
	int (*reap)(struct uring *ring);
	void (*cancel)(struct uring *ring, struct uring_op *target);
	int (*file_set)(struct uring *ring, uint32_t slot, int fd);
	int (*buffer_set)(struct uring *ring, uint32_t slot, void *buf, size_t len_bytes);
};

/* What uring_op.priv holds while its result waits to be told. */
struct uring_known {
	struct uring_op *next;
	int32_t res;
} MAY_ALIAS;

/* Embedded as the first member by a backend. Owner's thread, but for wake_fd (never changes). */
struct uring {
	const struct uring_backend *backend;
	struct uring_cfg cfg;
	uint32_t in_flight;
	uint32_t prepared;             /* by the owner since the last submit */
	int wake_fd;                   /* owned: eventfd, non-blocking */
	bool fd_used;                  /* somebody polls uring_fd() */
	bool linkable;                 /* an op was prepared and not submitted yet */
	bool chain_open;               /* uring_link() waits for its second op */
	bool dispatching;              /* inside a completion */
	struct uring_op *results_head; /* known results, linked by struct uring_known */
	struct uring_op *results_tail;
};

/* uring_result() - queue the last completion of @op, which is in flight, for the next dispatch. */
void uring_result(struct uring *ring, struct uring_op *op, int32_t res);

/* uring_wake_clear() - forget wakes. */
void uring_wake_clear(struct uring *ring);

/* uring_try_events() - what epoll must report before @call is worth a new attempt; 0 = nothing. */
uint32_t uring_try_events(const struct uring_call *call);

/*
 * uring_try() - one attempt, without waiting, at @call, whose fd is a real one.
 * @buffer:     the fixed buffer slot of the call; not used by the others.
 * @again:      not the first attempt.
 * @done_bytes: progress of a transfer with MSG_WAITALL between attempts; starts at 0.
 * Returns true with the result in @res; false if it has to wait.
 */
bool uring_try(const struct uring_call *call, const struct iovec *buffer, bool again,
               uint32_t *done_bytes, int32_t *res);

/* uring_try_succeeded() - did it do all that was asked, so that its chain goes on? */
bool uring_try_succeeded(const struct uring_call *call, int32_t res);

/* uring_sys_create() - the backend of system calls. @cfg is valid. Returns as uring_create(). */
MUST_USE int uring_sys_create(const struct uring_cfg *cfg, struct uring **out, struct errbuf *eb);

#endif
