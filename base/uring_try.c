/* SPDX-License-Identifier: Apache-2.0 */

/*
 * uring_try - one attempt at one operation by ordinary system calls, without waiting.
 *
 * What would block is made not to by setting O_NONBLOCK around the call (or MSG_DONTWAIT on
 * sockets). The flag belongs to the open file, so another process that shares it may see it for
 * that moment; the alternative, to poll first, races with the same process and then blocks.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/uring_int.h"

uint32_t uring_try_events(const struct uring_call *call)
{
	switch ((enum uring_code)call->code) {
	case URING_POLL:
		return call->op_flags;
	case URING_READV:
	case URING_READ:
	case URING_READ_FIXED:
	case URING_ACCEPT:
	case URING_RECV:
	case URING_RECVMSG:
		return EPOLLIN;
	case URING_WRITEV:
	case URING_WRITE:
	case URING_WRITE_FIXED:
	case URING_CONNECT:
	case URING_SEND:
	case URING_SENDMSG:
		return EPOLLOUT;
	case URING_NOP:
	case URING_FSYNC:
	case URING_FALLOCATE:
	case URING_TIMEOUT:
	case URING_CODE_COUNT:
		break;
	}
	return 0;
}

static bool uring_try_is_fixed(const struct uring_call *call)
{
	return call->code == URING_READ_FIXED || call->code == URING_WRITE_FIXED;
}

/* Set O_NONBLOCK. Returns the flags from before, which uring_try_restore() takes; -errno. */
static int uring_try_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0 && (flags & O_NONBLOCK) == 0 &&
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
		flags = -1;
	}
	return flags >= 0 ? flags : -errno;
}

static void uring_try_restore(int fd, int flags)
{
	if ((flags & O_NONBLOCK) == 0) {
		(void)fcntl(fd, F_SETFL, flags);
	}
}

static int32_t uring_try_result(ssize_t ret)
{
	return ret >= 0 ? (int32_t)ret : -errno;
}

static int32_t uring_try_rw_at(int fd, const struct uring_call *call, const struct iovec *iov,
                               int n)
{
	bool write = uring_try_events(call) == EPOLLOUT;
	ssize_t ret;

	do {
		ret = write ? pwritev2(fd, iov, n, (off_t)call->offset, (int)call->op_flags)
		            : preadv2(fd, iov, n, (off_t)call->offset, (int)call->op_flags);
	} while (ret < 0 && errno == EINTR);
	return uring_try_result(ret);
}

/* Without a position. Returns as uring_try_try(). */
static bool uring_try_rw_stream(int fd, const struct uring_call *call, const struct iovec *iov,
                                int n, int32_t *res)
{
	int flags = uring_try_nonblock(fd);
	ssize_t ret;

	if (flags < 0) {
		*res = flags;
		return true;
	}
	do {
		ret = uring_try_events(call) == EPOLLOUT ? writev(fd, iov, n) : readv(fd, iov, n);
	} while (ret < 0 && errno == EINTR);
	*res = uring_try_result(ret);
	uring_try_restore(fd, flags);
	return *res != -EAGAIN;
}

static bool uring_try_rw(int fd, const struct uring_call *call, const struct iovec *buffer,
                         int32_t *res)
{
	struct iovec one = {.iov_base = call->addr, .iov_len = call->len};
	const struct iovec *iov = &one;
	int n = 1;

	if (call->code == URING_READV || call->code == URING_WRITEV) {
		iov = call->from;
		n = (int)call->len;
	} else if (uring_try_is_fixed(call)) {
		uintptr_t start = (uintptr_t)buffer->iov_base;

		uintptr_t addr = (uintptr_t)call->addr;

		if (addr < start || addr - start > buffer->iov_len ||
		    call->len > buffer->iov_len - (addr - start)) {
			*res = -EFAULT;
			return true;
		}
	}
	if (call->offset != URING_STREAM) {
		*res = uring_try_rw_at(fd, call, iov, n);
		if (*res != -ESPIPE) {
			return true;
		}
	}
	return uring_try_rw_stream(fd, call, iov, n, res);
}

static bool uring_try_accept(int fd, const struct uring_call *call, int32_t *res)
{
	int flags = uring_try_nonblock(fd);

	if (flags < 0) {
		*res = flags;
		return true;
	}
	*res = uring_try_result(accept4(fd, NULL, NULL, (int)call->op_flags));
	uring_try_restore(fd, flags);
	return *res != -EAGAIN;
}

/* @again: it was started and the socket became writable. */
static bool uring_try_connect(int fd, const struct uring_call *call, bool again, int32_t *res)
{
	const struct sockaddr *addr = call->from;
	socklen_t len = sizeof(int);
	int err = 0;

	if (again) {
		*res = getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 ? -errno : -err;
		return true;
	}

	int flags = uring_try_nonblock(fd);

	if (flags < 0) {
		*res = flags;
		return true;
	}
	*res = uring_try_result(connect(fd, addr, (socklen_t)call->offset));
	uring_try_restore(fd, flags);
	return *res != -EINPROGRESS;
}

/* What is left of a message after @skip bytes, as a vector on the caller's stack. */
static size_t uring_try_iov_rest(const struct msghdr *msg, size_t skip, struct iovec rest[IOV_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < msg->msg_iovlen && n < IOV_MAX; i++) {
		struct iovec v = msg->msg_iov[i];
		size_t cut = skip < v.iov_len ? skip : v.iov_len;

		skip -= cut;
		v.iov_base = (char *)v.iov_base + cut;
		v.iov_len -= cut;
		if (v.iov_len != 0) {
			rest[n++] = v;
		}
	}
	return n;
}

static size_t uring_try_iov_bytes(const struct iovec *iov, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++) {
		bytes += iov[i].iov_len;
	}
	return bytes;
}

/* How much a transfer is to move in all [bytes]. */
static size_t uring_try_total(const struct uring_call *call)
{
	const struct msghdr *msg = call->from;

	switch ((enum uring_code)call->code) {
	case URING_READV:
	case URING_WRITEV:
		return uring_try_iov_bytes(call->from, call->len);
	case URING_SENDMSG:
	case URING_RECVMSG:
		return uring_try_iov_bytes(msg->msg_iov, msg->msg_iovlen);
	case URING_READ:
	case URING_WRITE:
	case URING_READ_FIXED:
	case URING_WRITE_FIXED:
	case URING_SEND:
	case URING_RECV:
		return call->len;
	case URING_NOP:
	case URING_FSYNC:
	case URING_FALLOCATE:
	case URING_POLL:
	case URING_ACCEPT:
	case URING_CONNECT:
	case URING_TIMEOUT:
	case URING_CODE_COUNT:
		break;
	}
	return 0;
}

static ssize_t uring_try_socket_once(int fd, const struct uring_call *call, size_t skip)
{
	bool out = uring_try_events(call) == EPOLLOUT;
	int flags = (int)call->op_flags | MSG_DONTWAIT;
	struct iovec rest[IOV_MAX];
	struct msghdr part = {.msg_iov = rest};

	if (call->code == URING_SEND || call->code == URING_RECV) {
		char *buf = (char *)call->addr + skip;

		return out ? send(fd, buf, call->len - skip, flags)
		           : recv(fd, buf, call->len - skip, flags);
	}
	if (skip == 0) {
		struct msghdr *msg = call->addr;

		return out ? sendmsg(fd, msg, flags) : recvmsg(fd, msg, flags);
	}
	part.msg_iovlen = uring_try_iov_rest(call->from, skip, rest);
	return out ? sendmsg(fd, &part, flags) : recvmsg(fd, &part, flags);
}

/* MSG_WAITALL means something only without message boundaries. */
static bool uring_try_is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static bool uring_try_socket(int fd, const struct uring_call *call, uint32_t *done_bytes,
                             int32_t *res)
{
	bool all = (call->op_flags & MSG_WAITALL) != 0 && uring_try_is_stream(fd);
	size_t total = all ? uring_try_total(call) : 0;

	for (;;) {
		ssize_t ret = uring_try_socket_once(fd, call, *done_bytes);

		if (ret < 0 && errno == EINTR) {
			continue;
		}
		if (ret < 0 && errno == EAGAIN && (call->op_flags & MSG_DONTWAIT) == 0) {
			return false;
		}
		if (ret > 0) {
			*done_bytes += (uint32_t)ret;
		}
		if (ret <= 0 || !all || *done_bytes >= total) {
			*res = *done_bytes != 0 ? (int32_t)*done_bytes : uring_try_result(ret);
			return true;
		}
	}
}

static bool uring_try_poll(int fd, const struct uring_call *call, int32_t *res)
{
	struct pollfd p = {.fd = fd, .events = (short)call->op_flags};
	int ret = poll(&p, 1, 0);

	if (ret <= 0) {
		*res = uring_try_result(ret);
		return ret < 0 && errno != EINTR;
	}
	*res = (p.revents & POLLNVAL) != 0 ? -EBADF : (uint16_t)p.revents;
	return true;
}

bool uring_try(const struct uring_call *call, const struct iovec *buffer, bool again,
               uint32_t *done_bytes, int32_t *res)
{
	int fd = call->fd;
	/* Joining the epoll set reports what is there already. */
	bool wait_first = call->multishot && !again;

	if (fd < 0 && call->code != URING_NOP && call->code != URING_TIMEOUT) {
		*res = -EBADF;
		return true;
	}
	switch ((enum uring_code)call->code) {
	case URING_READV:
	case URING_WRITEV:
	case URING_READ:
	case URING_WRITE:
	case URING_READ_FIXED:
	case URING_WRITE_FIXED:
		return uring_try_rw(fd, call, buffer, res);
	case URING_FSYNC:
		*res = uring_try_result(call->op_flags != 0 ? fdatasync(fd) : fsync(fd));
		return true;
	case URING_FALLOCATE:
		*res = uring_try_result(
			fallocate(fd, (int)call->len, (off_t)call->offset, (off_t)call->length));
		return true;
	case URING_POLL:
		return !wait_first && uring_try_poll(fd, call, res);
	case URING_ACCEPT:
		return !wait_first && uring_try_accept(fd, call, res);
	case URING_CONNECT:
		return uring_try_connect(fd, call, again, res);
	case URING_SEND:
	case URING_RECV:
	case URING_SENDMSG:
	case URING_RECVMSG:
		return uring_try_socket(fd, call, done_bytes, res);
	case URING_TIMEOUT:
		return false;
	case URING_NOP:
	case URING_CODE_COUNT:
		break;
	}
	*res = 0;
	return true;
}

bool uring_try_succeeded(const struct uring_call *call, int32_t res)
{
	switch ((enum uring_code)call->code) {
	case URING_READV:
	case URING_WRITEV:
	case URING_READ:
	case URING_WRITE:
	case URING_READ_FIXED:
	case URING_WRITE_FIXED:
		return res >= 0 && (size_t)res == uring_try_total(call);
	case URING_SEND:
	case URING_RECV:
	case URING_SENDMSG:
	case URING_RECVMSG:
		return res >= 0 && ((call->op_flags & MSG_WAITALL) == 0 ||
		                    (size_t)res == uring_try_total(call));
	case URING_NOP:
	case URING_FSYNC:
	case URING_FALLOCATE:
	case URING_POLL:
	case URING_ACCEPT:
	case URING_CONNECT:
	case URING_TIMEOUT:
	case URING_CODE_COUNT:
		break;
	}
	return res >= 0;
}
