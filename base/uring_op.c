/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/uring.h"
#include "base/uring_int.h"

static struct uring_known *uring_known(struct uring_op *op)
{
	return (struct uring_known *)op->priv;
}

void uring_result(struct uring *ring, struct uring_op *op, int32_t res)
{
	*uring_known(op) = (struct uring_known){.res = res};
	if (ring->results_head == NULL) {
		ring->results_head = op;
	} else {
		uring_known(ring->results_tail)->next = op;
	}
	ring->results_tail = op;
}

/* Only what was there at the start: a completion that defers itself again must not spin here. */
static int uring_run_results(struct uring *ring)
{
	struct uring_op *op = ring->results_head;
	int count = 0;

	ring->results_head = NULL;
	while (op != NULL) {
		struct uring_op *next = uring_known(op)->next;
		int32_t res = uring_known(op)->res;

		ring->in_flight--;
		op->fn(op, res, false); /* may free or reuse op */
		op = next;
		count++;
	}
	return count;
}

/* Who sleeps on uring_fd() sees only the kernel's completions: let it see ours too. */
static void uring_show_results(struct uring *ring)
{
	if (ring->fd_used && ring->results_head != NULL) {
		uring_wake(ring);
	}
}

void uring_destroy(struct uring *ring)
{
	if (ring == NULL) {
		return;
	}
	CHECK(ring->in_flight == 0);
	CHECK(!ring->dispatching);
	ring->backend->destroy(ring);
}

const char *uring_backend(const struct uring *ring)
{
	return ring->backend->name;
}

uint32_t uring_in_flight(const struct uring *ring)
{
	return ring->in_flight;
}

int uring_fd(struct uring *ring)
{
	ring->fd_used = true;
	uring_show_results(ring);
	return ring->backend->fd(ring);
}

int uring_submit(struct uring *ring)
{
	CHECK(!ring->chain_open);
	ring->linkable = false;

	int ret = ring->backend->submit(ring);

	if (ret == 0) {
		ret = (int)ring->prepared;
		ring->prepared = 0;
	}
	uring_show_results(ring);
	return ret;
}

int uring_dispatch(struct uring *ring)
{
	CHECK(!ring->dispatching);
	ring->dispatching = true;

	int count = ring->backend->reap(ring);

	count += uring_run_results(ring);
	ring->dispatching = false;
	uring_show_results(ring);
	return count;
}

int uring_wait(struct uring *ring, uint64_t timeout_ns)
{
	CHECK(!ring->chain_open && !ring->dispatching);
	ring->linkable = false;

	ring->prepared = 0;

	int err = ring->backend->wait(ring, ring->results_head != NULL ? 0 : timeout_ns);
	int count = uring_dispatch(ring);

	return count == 0 && err < 0 ? err : count;
}

void uring_wake(struct uring *ring)
{
	static const uint64_t one = 1;
	int saved = errno;

	/* Fails only with EAGAIN, when 2^64 - 2 wakes wait already. */
	ssize_t n = write(ring->wake_fd, &one, sizeof(one));

	(void)n;
	errno = saved;
}

void uring_wake_clear(struct uring *ring)
{
	uint64_t wakes;
	ssize_t n = read(ring->wake_fd, &wakes, sizeof(wakes));

	(void)n; /* EAGAIN: cleared already */
}

void uring_defer(struct uring *ring, struct uring_op *op, int32_t res)
{
	ring->in_flight++;
	uring_result(ring, op, res);
}

int uring_reserve(struct uring *ring, uint32_t count)
{
	CHECK(count >= 1 && count <= ring->cfg.entries);
	if (ring->backend->space(ring) >= count) {
		return 0;
	}
	CHECK(!ring->chain_open); /* submitting would cut the chain in two */

	int ret = uring_submit(ring);

	if (ring->backend->space(ring) >= count) {
		return 0;
	}
	return ret < 0 && ret != -EBUSY ? ret : -EAGAIN;
}

static int uring_prep(struct uring *ring, struct uring_op *op, const struct uring_call *call)
{
	int err = uring_reserve(ring, 1);

	if (err != 0) {
		return err;
	}
	ring->backend->prep(ring, op, call);
	ring->in_flight++;
	ring->prepared++;
	ring->chain_open = false;
	ring->linkable = true;
	return 0;
}

void uring_link(struct uring *ring)
{
	CHECK(ring->linkable && !ring->chain_open);
	CHECK(ring->backend->space(ring) >= 1); /* uring_reserve() the whole chain */
	ring->backend->link(ring);
	ring->chain_open = true;
}

bool uring_apart(struct uring *ring)
{
	CHECK(ring->linkable);
	if (ring->backend->apart == NULL) {
		return false;
	}
	ring->backend->apart(ring);
	return true;
}

int uring_cancel(struct uring *ring, struct uring_op *target)
{
	CHECK(!ring->chain_open);

	int err = uring_reserve(ring, 1);

	if (err != 0) {
		return err;
	}
	ring->linkable = false;
	ring->backend->cancel(ring, target);
	return 0;
}

int uring_file_set(struct uring *ring, uint32_t slot, int fd)
{
	if (slot >= ring->cfg.files_max || fd < -1) {
		return -EINVAL;
	}
	return ring->backend->file_set(ring, slot, fd);
}

int uring_buffer_set(struct uring *ring, uint32_t slot, void *buf, size_t len_bytes)
{
	if (slot >= ring->cfg.buffers_max || (buf == NULL) != (len_bytes == 0)) {
		return -EINVAL;
	}
	return ring->backend->buffer_set(ring, slot, buf, len_bytes);
}

int uring_prep_nop(struct uring *ring, struct uring_op *op)
{
	const struct uring_call call = {.code = URING_NOP, .fd = -1};

	return uring_prep(ring, op, &call);
}

static int uring_prep_vec(struct uring *ring, struct uring_op *op, const struct uring_call *call,
                          const struct iovec *iov)
{
	struct uring_call vec = *call;

	vec.from = iov;
	return uring_prep(ring, op, &vec);
}

int uring_prep_readv(struct uring *ring, struct uring_op *op, int fd, const struct iovec *iov,
                     uint32_t iov_count, uint64_t offset_bytes)
{
	const struct uring_call call = {
		.code = URING_READV,
		.fd = fd,
		.offset = offset_bytes,
		.len = iov_count,
	};

	return uring_prep_vec(ring, op, &call, iov);
}

int uring_prep_writev(struct uring *ring, struct uring_op *op, int fd, const struct iovec *iov,
                      uint32_t iov_count, uint64_t offset_bytes)
{
	const struct uring_call call = {
		.code = URING_WRITEV,
		.fd = fd,
		.offset = offset_bytes,
		.len = iov_count,
	};

	return uring_prep_vec(ring, op, &call, iov);
}

int uring_prep_writev_dsync(struct uring *ring, struct uring_op *op, int fd,
                            const struct iovec *iov, uint32_t iov_count, uint64_t offset_bytes)
{
	const struct uring_call call = {
		.code = URING_WRITEV,
		.fd = fd,
		.offset = offset_bytes,
		.len = iov_count,
		.op_flags = RWF_DSYNC,
	};

	return uring_prep_vec(ring, op, &call, iov);
}

int uring_prep_read(struct uring *ring, struct uring_op *op, int fd, void *buf, uint32_t len_bytes,
                    uint64_t offset_bytes)
{
	const struct uring_call call = {
		.code = URING_READ,
		.fd = fd,
		.offset = offset_bytes,
		.addr = buf,
		.len = len_bytes,
	};

	CHECK(len_bytes <= URING_LEN_MAX);
	return uring_prep(ring, op, &call);
}

int uring_prep_write(struct uring *ring, struct uring_op *op, int fd, const void *buf,
                     uint32_t len_bytes, uint64_t offset_bytes)
{
	const struct uring_call call = {
		.code = URING_WRITE,
		.fd = fd,
		.offset = offset_bytes,
		.from = buf,
		.len = len_bytes,
	};

	CHECK(len_bytes <= URING_LEN_MAX);
	return uring_prep(ring, op, &call);
}

static int uring_prep_fixed(struct uring *ring, struct uring_op *op, struct uring_call *call,
                            uint32_t buffer)
{
	CHECK(buffer < ring->cfg.buffers_max && call->len <= URING_LEN_MAX);
	call->buffer = (uint16_t)buffer;
	return uring_prep(ring, op, call);
}

int uring_prep_read_fixed(struct uring *ring, struct uring_op *op, int fd, void *buf,
                          uint32_t len_bytes, uint64_t offset_bytes, uint32_t buffer)
{
	struct uring_call call = {
		.code = URING_READ_FIXED,
		.fd = fd,
		.offset = offset_bytes,
		.addr = buf,
		.len = len_bytes,
	};

	return uring_prep_fixed(ring, op, &call, buffer);
}

int uring_prep_write_fixed(struct uring *ring, struct uring_op *op, int fd, const void *buf,
                           uint32_t len_bytes, uint64_t offset_bytes, uint32_t buffer)
{
	struct uring_call call = {
		.code = URING_WRITE_FIXED,
		.fd = fd,
		.offset = offset_bytes,
		.from = buf,
		.len = len_bytes,
	};

	return uring_prep_fixed(ring, op, &call, buffer);
}

int uring_prep_fsync(struct uring *ring, struct uring_op *op, int fd, bool data_only)
{
	const struct uring_call call = {.code = URING_FSYNC, .fd = fd, .op_flags = data_only};

	return uring_prep(ring, op, &call);
}

int uring_prep_fallocate(struct uring *ring, struct uring_op *op, int fd, int mode,
                         uint64_t offset_bytes, uint64_t len_bytes)
{
	const struct uring_call call = {
		.code = URING_FALLOCATE,
		.fd = fd,
		.offset = offset_bytes,
		.length = len_bytes,
		.len = (uint32_t)mode,
	};

	return uring_prep(ring, op, &call);
}

int uring_prep_poll(struct uring *ring, struct uring_op *op, int fd, uint32_t events,
                    bool multishot)
{
	const struct uring_call call = {
		.code = URING_POLL,
		.fd = fd,
		.op_flags = events,
		.multishot = multishot,
	};

	return uring_prep(ring, op, &call);
}

int uring_prep_accept(struct uring *ring, struct uring_op *op, int fd, bool multishot)
{
	const struct uring_call call = {
		.code = URING_ACCEPT,
		.fd = fd,
		.op_flags = SOCK_CLOEXEC,
		.multishot = multishot,
	};

	return uring_prep(ring, op, &call);
}

int uring_prep_connect(struct uring *ring, struct uring_op *op, int fd, const struct sockaddr *addr,
                       socklen_t addr_len)
{
	const struct uring_call call = {
		.code = URING_CONNECT,
		.fd = fd,
		.offset = addr_len,
		.from = addr,
	};

	return uring_prep(ring, op, &call);
}

int uring_prep_send(struct uring *ring, struct uring_op *op, int fd, const void *buf,
                    size_t len_bytes, int flags)
{
	const struct uring_call call = {
		.code = URING_SEND,
		.fd = fd,
		.from = buf,
		.len = (uint32_t)len_bytes,
		.op_flags = (uint32_t)flags | MSG_NOSIGNAL,
	};

	CHECK(len_bytes <= URING_LEN_MAX);
	return uring_prep(ring, op, &call);
}

int uring_prep_recv(struct uring *ring, struct uring_op *op, int fd, void *buf, size_t len_bytes,
                    int flags)
{
	const struct uring_call call = {
		.code = URING_RECV,
		.fd = fd,
		.addr = buf,
		.len = (uint32_t)len_bytes,
		.op_flags = (uint32_t)flags,
	};

	CHECK(len_bytes <= URING_LEN_MAX);
	return uring_prep(ring, op, &call);
}

int uring_prep_sendmsg(struct uring *ring, struct uring_op *op, int fd, const struct msghdr *msg,
                       int flags)
{
	const struct uring_call call = {
		.code = URING_SENDMSG,
		.fd = fd,
		.from = msg,
		.len = 1,
		.op_flags = (uint32_t)flags | MSG_NOSIGNAL,
	};

	return uring_prep(ring, op, &call);
}

int uring_prep_recvmsg(struct uring *ring, struct uring_op *op, int fd, struct msghdr *msg,
                       int flags)
{
	const struct uring_call call = {
		.code = URING_RECVMSG,
		.fd = fd,
		.addr = msg,
		.len = 1,
		.op_flags = (uint32_t)flags,
	};

	return uring_prep(ring, op, &call);
}

int uring_prep_timeout(struct uring *ring, struct uring_op *op, uint64_t delay_ns)
{
	const struct uring_call call = {.code = URING_TIMEOUT, .fd = -1, .offset = delay_ns};

	return uring_prep(ring, op, &call);
}
