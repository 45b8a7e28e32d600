/* SPDX-License-Identifier: Apache-2.0 */

/* shared_direct - messages as bytes (docs/formats/csvd-direct.md), and the two ends of a socket. */
#include "base/shared_direct.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/wire.h"

#define MAGIC 0x31445747u /* "GWD1" */
#define GUARDED 1u

struct direct_head {
	le32 magic;
	le32 type;
	le32 seq;
	le32 count; /* EXTENTS_ARE; HELLO: flags; WELCOME: align_bytes */
};
WIRE_SIZE(struct direct_head, 16);

struct direct_range {
	le64 from;
	le64 to;
};
WIRE_SIZE(struct direct_range, 16);

struct direct_extent {
	le64 file;
	le64 device;
	le64 len;
};
WIRE_SIZE(struct direct_extent, 24);

_Static_assert(sizeof(struct direct_head) + SHARED_DIRECT_EXTENTS * sizeof(struct direct_extent) <=
                       SHARED_DIRECT_BYTES,
               "SHARED_DIRECT_BYTES");

/* ---- bytes ---- */

static bool has_range(enum shared_direct_type type)
{
	return type == SHARED_DIRECT_MAP || type == SHARED_DIRECT_REVOKE;
}

static uint32_t head_count(const struct shared_direct_msg *msg)
{
	switch (msg->type) {
	case SHARED_DIRECT_HELLO:
		return msg->guarded ? GUARDED : 0;
	case SHARED_DIRECT_WELCOME:
		return msg->align_bytes;
	case SHARED_DIRECT_EXTENTS_ARE:
		return msg->count;
	case SHARED_DIRECT_MAP:
	case SHARED_DIRECT_REVOKE:
	case SHARED_DIRECT_REVOKED:
	case SHARED_DIRECT_RELEASE:
	case SHARED_DIRECT_RELEASED:
		break;
	}
	return 0;
}

size_t shared_direct_encode(const struct shared_direct_msg *msg, void *buf)
{
	uint8_t *at = buf;
	struct direct_head head;

	head.magic = le32_make(MAGIC);
	head.type = le32_make((uint32_t)msg->type);
	head.seq = le32_make(msg->seq);
	head.count = le32_make(head_count(msg));
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	if (msg->type == SHARED_DIRECT_HELLO) {
		memcpy(at, msg->key, sizeof(msg->key));
		return sizeof(head) + sizeof(msg->key);
	}
	if (has_range(msg->type)) {
		struct direct_range r;

		r.from = le64_make(msg->from_bytes);
		r.to = le64_make(msg->to_bytes);
		memcpy(at, &r, sizeof(r));
		return sizeof(head) + sizeof(r);
	}
	for (uint32_t i = 0; i < msg->count; i++) {
		struct direct_extent e;

		e.file = le64_make(msg->extents[i].file_bytes);
		e.device = le64_make(msg->extents[i].device_bytes);
		e.len = le64_make(msg->extents[i].len_bytes);
		memcpy(at, &e, sizeof(e));
		at += sizeof(e);
	}
	return sizeof(head) + msg->count * sizeof(struct direct_extent);
}

static bool is_block(uint64_t v)
{
	return v % SHARED_DIRECT_BLOCK == 0;
}

static bool fits(uint64_t at, uint64_t len)
{
	return is_block(at) && is_block(len) && at <= INT64_MAX && len <= INT64_MAX - at;
}

static int decode_extents(const uint8_t *at, size_t len, struct shared_direct_msg *m)
{
	uint64_t end = 0;

	if (m->count > SHARED_DIRECT_EXTENTS || len != m->count * sizeof(struct direct_extent)) {
		return -EPROTO;
	}
	for (uint32_t i = 0; i < m->count; i++) {
		struct shared_direct_extent *x = &m->extents[i];
		struct direct_extent e;

		memcpy(&e, at + i * sizeof(e), sizeof(e));
		x->file_bytes = le64_get(e.file);
		x->device_bytes = le64_get(e.device);
		x->len_bytes = le64_get(e.len);
		if (x->len_bytes == 0 || !fits(x->file_bytes, x->len_bytes) ||
		    !fits(x->device_bytes, x->len_bytes) || x->file_bytes < end) {
			return -EPROTO;
		}
		end = x->file_bytes + x->len_bytes;
	}
	return 0;
}

static int decode_range(const uint8_t *at, size_t len, struct shared_direct_msg *m)
{
	struct direct_range r;

	if (m->count != 0 || len != sizeof(r)) {
		return -EPROTO;
	}
	memcpy(&r, at, sizeof(r));
	m->from_bytes = le64_get(r.from);
	m->to_bytes = le64_get(r.to);
	return is_block(m->from_bytes) && is_block(m->to_bytes) && m->from_bytes < m->to_bytes &&
	                       m->to_bytes <= INT64_MAX
	               ? 0
	               : -EPROTO;
}

static int decode_hello(const uint8_t *at, size_t len, struct shared_direct_msg *m)
{
	if (m->count > GUARDED || len != sizeof(m->key)) {
		return -EPROTO;
	}
	m->guarded = m->count == GUARDED;
	m->count = 0;
	memcpy(m->key, at, sizeof(m->key));
	return 0;
}

static int decode_welcome(size_t len, struct shared_direct_msg *m)
{
	uint32_t align = m->count;

	if (len != 0 || align == 0 || align > SHARED_DIRECT_BLOCK || (align & (align - 1)) != 0) {
		return -EPROTO;
	}
	m->align_bytes = align;
	m->count = 0;
	return 0;
}

static int decode_body(const uint8_t *at, size_t len, struct shared_direct_msg *m)
{
	switch (m->type) {
	case SHARED_DIRECT_HELLO:
		return decode_hello(at, len, m);
	case SHARED_DIRECT_WELCOME:
		return decode_welcome(len, m);
	case SHARED_DIRECT_MAP:
	case SHARED_DIRECT_REVOKE:
		return decode_range(at, len, m);
	case SHARED_DIRECT_EXTENTS_ARE:
		return decode_extents(at, len, m);
	case SHARED_DIRECT_REVOKED:
	case SHARED_DIRECT_RELEASE:
	case SHARED_DIRECT_RELEASED:
		return len == 0 && m->count == 0 ? 0 : -EPROTO;
	}
	return -EPROTO;
}

int shared_direct_decode(const void *buf, size_t len, struct shared_direct_msg *out)
{
	struct shared_direct_msg m;
	struct direct_head head;
	uint32_t type;
	int err;

	if (len < sizeof(head) || len > SHARED_DIRECT_BYTES) {
		return -EPROTO;
	}
	memcpy(&head, buf, sizeof(head));
	type = le32_get(head.type);
	if (le32_get(head.magic) != MAGIC || type < SHARED_DIRECT_HELLO ||
	    type > SHARED_DIRECT_RELEASED) {
		return -EPROTO;
	}
	memset(&m, 0, sizeof(m));
	m.type = (enum shared_direct_type)type;
	m.seq = le32_get(head.seq);
	m.count = le32_get(head.count);
	err = decode_body((const uint8_t *)buf + sizeof(head), len - sizeof(head), &m);
	if (err == 0) {
		*out = m;
	}
	return err;
}

/* ---- sockets ---- */

union control {
	struct cmsghdr head;
	uint8_t room[CMSG_SPACE(SHARED_DIRECT_FDS * sizeof(int))];
};

int shared_direct_send(int sock, const struct shared_direct_msg *msg, const int *fds,
                       uint32_t count)
{
	uint8_t buf[SHARED_DIRECT_BYTES];
	struct iovec iov = {.iov_base = buf, .iov_len = shared_direct_encode(msg, buf)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	ssize_t n;

	if (count != 0) {
		memset(&control, 0, sizeof(control));
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
	}
	do {
		n = sendmsg(sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void close_all(int fds[SHARED_DIRECT_FDS])
{
	for (uint32_t i = 0; i < SHARED_DIRECT_FDS; i++) {
		if (fds[i] >= 0) {
			(void)close(fds[i]);
			fds[i] = -1;
		}
	}
}

static void take_fds(const struct msghdr *h, const union control *control,
                     int fds[SHARED_DIRECT_FDS])
{
	size_t bytes = h->msg_controllen >= sizeof(control->head) &&
	                               control->head.cmsg_level == SOL_SOCKET &&
	                               control->head.cmsg_type == SCM_RIGHTS
	                       ? control->head.cmsg_len - CMSG_LEN(0)
	                       : 0;

	if (bytes > SHARED_DIRECT_FDS * sizeof(int)) {
		bytes = SHARED_DIRECT_FDS * sizeof(int);
	}
	if (bytes != 0) {
		memcpy(fds, CMSG_DATA(&control->head), bytes);
	}
}

int shared_direct_recv(int sock, struct shared_direct_msg *out, int fds[SHARED_DIRECT_FDS])
{
	uint8_t buf[SHARED_DIRECT_BYTES];
	struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
	union control control;
	struct msghdr h = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;
	int err;

	for (uint32_t i = 0; i < SHARED_DIRECT_FDS; i++) {
		fds[i] = -1;
	}
	memset(&control, 0, sizeof(control));
	do {
		n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return errno == ECONNRESET ? -ENOTCONN : -errno;
	}
	take_fds(&h, &control, fds);
	if (n == 0) {
		close_all(fds);
		return -ENOTCONN;
	}
	err = (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0
	              ? shared_direct_decode(buf, (size_t)n, out)
	              : -EPROTO;
	if (err != 0) {
		close_all(fds);
	}
	return err;
}

int shared_direct_connect(int fd, const char *path, bool guarded)
{
	struct shared_direct_msg hello = {.type = SHARED_DIRECT_HELLO, .guarded = guarded};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	int sock;
	int err;

	if (len >= sizeof(addr.sun_path)) {
		return -ENAMETOOLONG;
	}
	if (ioctl(fd, SHARED_FILE_IOC_KEY, hello.key) != 0) {
		/* What file systems say that know no such thing. */
		return errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP ? -ENOTTY : -errno;
	}
	memcpy(addr.sun_path, path, len + 1);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0) {
		return -errno;
	}
	err = connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) != 0
	              ? -errno
	              : shared_direct_send(sock, &hello, NULL, 0);
	if (err != 0) {
		(void)close(sock);
		return err;
	}
	return sock;
}

bool shared_direct_held(const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int err;

	if (fd < 0) {
		return errno != ENOENT; /* what cannot be looked at may be held */
	}
	err = fcntl(fd, F_OFD_GETLK, &lock);
	(void)close(fd);
	return err != 0 || lock.l_type != F_UNLCK;
}
