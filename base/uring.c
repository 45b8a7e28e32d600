/* SPDX-License-Identifier: Apache-2.0 */

/*
 * uring - the io_uring backend, and the choice between the two. The only file that knows liburing.
 *
 * The ring starts disabled: then the kernel takes as the single issuer the thread that uses it
 * first, and it accepts restrictions: the ring can do what this file does and nothing else (open
 * no file, make no socket), because io_uring passes by the seccomp filter of a sandboxed worker.
 *
 * user_data is the address of the caller's uring_op, or one of the two values below.
 */
#include "base/uring.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/uring_int.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "poll32_events is halfword-swapped");

#define KRING_UDATA_IGNORE 0u /* result of a cancel */
#define KRING_UDATA_WAKE 1u   /* the poll on wake_fd */

struct kring {
	struct uring base;
	struct io_uring ring;
	struct io_uring_sqe *last; /* prepared last; valid while base.linkable */
	bool enabled;              /* the first user came; the ring is its thread's */
	bool wake_armed;           /* the multishot poll on wake_fd is in the queue or running */
	bool has_skip;             /* kernel 5.17: a cancel that worked posts no completion */
	bool has_multishot_accept; /* kernel 5.19 */
};

static const uint8_t kring_opcodes[URING_CODE_COUNT] = {
	[URING_NOP] = IORING_OP_NOP,
	[URING_READV] = IORING_OP_READV,
	[URING_WRITEV] = IORING_OP_WRITEV,
	[URING_READ] = IORING_OP_READ,
	[URING_WRITE] = IORING_OP_WRITE,
	[URING_READ_FIXED] = IORING_OP_READ_FIXED,
	[URING_WRITE_FIXED] = IORING_OP_WRITE_FIXED,
	[URING_FSYNC] = IORING_OP_FSYNC,
	[URING_FALLOCATE] = IORING_OP_FALLOCATE,
	[URING_POLL] = IORING_OP_POLL_ADD,
	[URING_ACCEPT] = IORING_OP_ACCEPT,
	[URING_CONNECT] = IORING_OP_CONNECT,
	[URING_SEND] = IORING_OP_SEND,
	[URING_RECV] = IORING_OP_RECV,
	[URING_SENDMSG] = IORING_OP_SENDMSG,
	[URING_RECVMSG] = IORING_OP_RECVMSG,
	[URING_TIMEOUT] = IORING_OP_TIMEOUT,
};

static struct kring *kring_of(struct uring *ring)
{
	return container_of(ring, struct kring, base);
}

/* The caller made sure of room. */
static struct io_uring_sqe *kring_sqe(struct kring *k)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&k->ring);

	CHECK(sqe != NULL);
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

static void kring_arm_wake(struct kring *k)
{
	if (k->wake_armed || io_uring_sq_space_left(&k->ring) == 0) {
		return; /* with a full queue: at the next submit */
	}

	struct io_uring_sqe *sqe = kring_sqe(k);

	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = k->base.wake_fd;
	sqe->poll32_events = POLLIN;
	sqe->len = IORING_POLL_ADD_MULTI;
	sqe->user_data = KRING_UDATA_WAKE;
	k->wake_armed = true;
}

/* liburing 2.3 declares its wrappers of these two and does not export them. */
static int kring_register_op(struct kring *k, unsigned int opcode, void *arg, unsigned int count)
{
	return io_uring_register((unsigned int)k->ring.ring_fd, opcode, arg, count);
}

static int kring_enable(struct kring *k)
{
	if (!k->enabled) {
		int err = kring_register_op(k, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

		if (err < 0) {
			return err;
		}
		k->enabled = true;
	}
	return 0;
}

static int kring_submit(struct uring *ring)
{
	struct kring *k = kring_of(ring);
	int err = kring_enable(k);

	if (err != 0) {
		return err;
	}
	kring_arm_wake(k);
	/* Kernels before 5.18 stop at an entry they refuse; its completion says so. */
	while (io_uring_sq_ready(&k->ring) != 0) {
		int ret = io_uring_submit(&k->ring);

		if (ret <= 0) {
			return ret < 0 ? ret : -EAGAIN;
		}
	}
	return 0;
}

static int kring_wait(struct uring *ring, uint64_t timeout_ns)
{
	struct kring *k = kring_of(ring);
	struct io_uring_cqe *cqe;
	int err = kring_enable(k);

	if (err != 0) {
		return err;
	}
	kring_arm_wake(k);
	if (!k->wake_armed) { /* the queue was full: never sleep deaf */
		err = io_uring_submit(&k->ring);
		kring_arm_wake(k);
		if (!k->wake_armed) {
			return err < 0 ? err : -EAGAIN;
		}
	}
	if (io_uring_cq_ready(&k->ring) != 0 && io_uring_sq_ready(&k->ring) == 0) {
		return 0; /* no need to ask the kernel */
	}
	if (timeout_ns == 0) {
		err = io_uring_submit_and_get_events(&k->ring);
	} else if (timeout_ns == UINT64_MAX) {
		err = io_uring_submit_and_wait(&k->ring, 1);
	} else {
		struct __kernel_timespec ts = {
			.tv_sec = (int64_t)(timeout_ns / NS_PER_S),
			.tv_nsec = (long long)(timeout_ns % NS_PER_S),
		};

		err = io_uring_submit_and_wait_timeout(&k->ring, &cqe, 1, &ts, NULL);
	}
	return err >= 0 || err == -ETIME || err == -EINTR ? 0 : err;
}

static void kring_complete(struct kring *k, struct uring_op *op, int32_t res, bool more)
{
	if (!more) {
		k->base.in_flight--;
	}
	op->fn(op, res, more); /* may free or reuse op, and prepare others */
}

static int kring_reap(struct uring *ring)
{
	struct kring *k = kring_of(ring);
	struct io_uring_cqe *cqe;
	int count = 0;

	if (kring_enable(k) != 0 || io_uring_peek_cqe(&k->ring, &cqe) != 0) {
		return 0;
	}
	/* Not more than there are now: operations that complete at once must not keep us here. */
	for (uint32_t left = io_uring_cq_ready(&k->ring); left > 0; left--) {
		if (io_uring_peek_cqe(&k->ring, &cqe) != 0) {
			break;
		}

		uint64_t user_data = cqe->user_data;
		struct uring_op *op = io_uring_cqe_get_data(cqe);
		int32_t res = cqe->res;
		bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;

		io_uring_cqe_seen(&k->ring, cqe);
		if (user_data == KRING_UDATA_WAKE) {
			uring_wake_clear(ring);
			k->wake_armed = more;
		} else if (user_data != KRING_UDATA_IGNORE) {
			kring_complete(k, op, res, more);
			count++;
		}
	}
	return count;
}

static uint32_t kring_space(struct uring *ring)
{
	return io_uring_sq_space_left(&kring_of(ring)->ring);
}

static void kring_prep(struct uring *ring, struct uring_op *op, const struct uring_call *call)
{
	struct kring *k = kring_of(ring);
	struct io_uring_sqe *sqe = kring_sqe(k);

	sqe->opcode = kring_opcodes[call->code];
	sqe->fd = call->fd;
	if (call->fd <= URING_FIXED(0)) {
		sqe->fd = URING_FIXED(0) - call->fd;
		sqe->flags = IOSQE_FIXED_FILE;
	}
	sqe->off = call->offset;
	sqe->addr = call->length; /* or the address */
	sqe->len = call->len;
	sqe->rw_flags = (__kernel_rwf_t)call->op_flags; /* a union with the other flags */
	sqe->buf_index = call->buffer;
	sqe->user_data = (uintptr_t)op;
	if (call->code == URING_TIMEOUT) {
		/* A struct __kernel_timespec; the kernel reads it when it takes the entry. */
		op->priv[0] = call->offset / NS_PER_S;
		op->priv[1] = call->offset % NS_PER_S;
		sqe->addr = (uintptr_t)op->priv;
		sqe->len = 1;
		sqe->off = 0; /* do not count completions */
	} else if (call->multishot && call->code == URING_POLL) {
		sqe->len = IORING_POLL_ADD_MULTI;
	} else if (call->multishot && k->has_multishot_accept) {
		sqe->ioprio = IORING_ACCEPT_MULTISHOT;
	}
	if (k->base.cfg.apart && call->code >= URING_READV && call->code <= URING_FALLOCATE) {
		sqe->flags |= IOSQE_ASYNC;
	}
	k->last = sqe;
}

static void kring_apart(struct uring *ring)
{
	kring_of(ring)->last->flags |= IOSQE_ASYNC;
}

static void kring_link(struct uring *ring)
{
	kring_of(ring)->last->flags |= IOSQE_IO_LINK;
}

static void kring_cancel(struct uring *ring, struct uring_op *target)
{
	struct kring *k = kring_of(ring);
	struct io_uring_sqe *sqe = kring_sqe(k);

	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->fd = -1;
	sqe->addr = (uintptr_t)target;
	sqe->user_data = KRING_UDATA_IGNORE;
	if (k->has_skip) {
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	}
}

static int kring_file_set(struct uring *ring, uint32_t slot, int fd)
{
	int ret = io_uring_register_files_update(&kring_of(ring)->ring, slot, &fd, 1);

	return ret < 0 ? ret : 0;
}

static int kring_buffer_set(struct uring *ring, uint32_t slot, void *buf, size_t len_bytes)
{
	const struct iovec iov = {.iov_base = buf, .iov_len = len_bytes};
	const __u64 tag = 0;
	int ret = io_uring_register_buffers_update_tag(&kring_of(ring)->ring, slot, &iov, &tag, 1);

	return ret < 0 ? ret : 0;
}

static int kring_fd(struct uring *ring)
{
	return kring_of(ring)->ring.ring_fd;
}

static void kring_destroy(struct uring *ring)
{
	struct kring *k = kring_of(ring);

	io_uring_queue_exit(&k->ring);
	(void)close(k->base.wake_fd);
	free(k);
}

static const struct uring_backend kring_backend = {
	.name = "io_uring",
	.destroy = kring_destroy,
	.fd = kring_fd,
	.space = kring_space,
	.prep = kring_prep,
	.link = kring_link,
	.apart = kring_apart,
	.submit = kring_submit,
	.wait = kring_wait,
	.reap = kring_reap,
	.cancel = kring_cancel,
	.file_set = kring_file_set,
	.buffer_set = kring_buffer_set,
};

/* The newest flags that this kernel takes. Returns 0; -EINVAL it knows none; -errno. */
static int kring_setup(struct kring *k)
{
	static const unsigned int flags[] = {
		/* 6.1: completions are prepared when the owner asks, in its context. */
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		/* 5.19 */
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int err = -EINVAL;

	/* With deferred work only the owner's own wait notices it: epoll is not told (6.18). */
	for (size_t i = k->base.cfg.in_loop ? 1 : 0; i < ARRAY_LEN(flags) && err == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
			/* Multishot polls and long waits hold no submission entry. */
			.cq_entries = 4 * k->base.cfg.entries,
		};

		err = io_uring_queue_init_params(k->base.cfg.entries, &k->ring, &params);
	}
	return err;
}

/* 5.13 is the oldest kernel with everything that has no substitute below. */
static bool kring_able(const struct kring *k)
{
	const uint32_t needed = IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG |
	                        IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RSRC_TAGS;

	return (k->ring.features & needed) == needed;
}

static int kring_restrict(struct kring *k)
{
	struct io_uring_restriction r[URING_CODE_COUNT + 4] = {0};
	unsigned int n = 0;

	for (; n < URING_CODE_COUNT; n++) {
		r[n].opcode = IORING_RESTRICTION_SQE_OP;
		r[n].sqe_op = kring_opcodes[n];
	}
	r[n].opcode = IORING_RESTRICTION_SQE_OP;
	r[n++].sqe_op = IORING_OP_ASYNC_CANCEL;
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[n++].sqe_flags = IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS | IOSQE_ASYNC;
	r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	r[n++].register_op = IORING_REGISTER_FILES_UPDATE;
	r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	r[n++].register_op = IORING_REGISTER_BUFFERS_UPDATE;
	return kring_register_op(k, IORING_REGISTER_RESTRICTIONS, r, n);
}

/* Empty tables of the wanted size. */
static int kring_register(struct kring *k)
{
	const struct uring_cfg *cfg = &k->base.cfg;
	struct iovec *buffers = NULL;
	int *files = NULL;
	int err = -ENOMEM;

	if (cfg->files_max != 0) {
		files = gw_malloc(cfg->files_max * sizeof(*files));
		if (files == NULL) {
			goto out;
		}
		memset(files, 0xff, cfg->files_max * sizeof(*files)); /* -1 = none */
		err = io_uring_register_files(&k->ring, files, cfg->files_max);
		if (err < 0) {
			goto out;
		}
	}
	if (cfg->buffers_max != 0) {
		err = -ENOMEM;
		buffers = gw_calloc(cfg->buffers_max, sizeof(*buffers));
		if (buffers == NULL) {
			goto out;
		}
		err = io_uring_register_buffers(&k->ring, buffers, cfg->buffers_max);
		if (err < 0) {
			goto out;
		}
	}
	err = kring_restrict(k);
out:
	free(buffers);
	free(files);
	return err;
}

static void kring_probe(struct kring *k)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&k->ring);

	/* The newest opcode of the kernel that brought multishot accept (5.19). */
	k->has_multishot_accept =
		probe != NULL && io_uring_opcode_supported(probe, IORING_OP_SOCKET) != 0;
	io_uring_free_probe(probe);
	k->has_skip = (k->ring.features & IORING_FEAT_CQE_SKIP) != 0;
}

/* Returns 0; -ENOSYS no io_uring to be had here; -errno. */
static int kring_create(const struct uring_cfg *cfg, struct uring **out, struct errbuf *eb)
{
	struct kring *k = gw_calloc(1, sizeof(*k));

	if (k == NULL) {
		return errbuf_set(eb, -ENOMEM, "io_uring: out of memory");
	}
	k->base.cfg = *cfg;
	k->base.backend = &kring_backend;
	k->base.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	int err = k->base.wake_fd < 0 ? -errno : 0;

	if (err != 0) {
		(void)errbuf_sys(eb, err, "io_uring: eventfd");
		goto free_ring;
	}
	err = kring_setup(k);
	if (err == -EINVAL || err == -EPERM || err == -EACCES || err == -ENOSYS) {
		err = -ENOSYS; /* too old, io_uring_disabled, or a seccomp filter */
		goto close_wake;
	}
	if (err != 0) {
		(void)errbuf_sys(eb, err, "io_uring: setup of %u entries", cfg->entries);
		goto close_wake;
	}
	if (!kring_able(k)) {
		err = -ENOSYS;
		goto exit_queue;
	}
	kring_probe(k);
	err = kring_register(k);
	if (err < 0) {
		(void)errbuf_sys(eb, err, "io_uring: registering %u files, %u buffers",
		                 cfg->files_max, cfg->buffers_max);
		goto exit_queue;
	}
	*out = &k->base;
	return 0;

exit_queue:
	io_uring_queue_exit(&k->ring);
close_wake:
	(void)close(k->base.wake_fd);
free_ring:
	free(k);
	return err;
}

int uring_create(const struct uring_cfg *cfg, struct uring **out, struct errbuf *eb)
{
	*out = NULL;
	if (cfg->entries == 0 || cfg->entries > URING_ENTRIES_MAX ||
	    (cfg->entries & (cfg->entries - 1)) != 0) {
		return errbuf_set(eb, -EINVAL, "ring: %u entries: not a power of two up to %u",
		                  cfg->entries, URING_ENTRIES_MAX);
	}
	if (cfg->files_max > URING_SLOTS_MAX || cfg->buffers_max > URING_SLOTS_MAX) {
		return errbuf_set(eb, -EINVAL, "ring: more than %u slots", URING_SLOTS_MAX);
	}

	int err = cfg->force_fallback ? -ENOSYS : kring_create(cfg, out, eb);

	return err == -ENOSYS ? uring_sys_create(cfg, out, eb) : err;
}
