/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/raw/raw_direct.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/shared_direct.h"
#include "hv/raw/raw_int.h"

#define TAG "raw-direct"
#define EXTENTS 1024u               /* remembered; more are asked for again */
#define HANG_NS (2 * NS_PER_S)      /* a transfer that takes longer has lost its path */
#define LOST_NS (5 * NS_PER_S)      /* then it is left alone for so long */
#define NOTHING_NS (50 * NS_PER_MS) /* the service knew nothing: not asked again sooner */
#define RELEASE_MS 2000
#define BATCH 16u /* messages of one turn */

struct raw_direct {
	struct raw *raw;
	int sock;                              /* owned; -1 = closed */
	int device_fd;                         /* owned; -1 = not welcome (yet), or over */
	int lock_fd;                           /* owned; the same */
	const struct shared_direct_page *page; /* owned; NULL = the same */
	uint32_t align_bytes;
	bool over;     /* nothing more is submitted */
	bool draining; /* until the service was told that all is given back */
	struct uring_op poll;
	bool polling;

	struct shared_direct_extent at[EXTENTS]; /* ascending, disjoint */
	uint32_t count;
	uint32_t flushing; /* flushes of the device, prepared or in flight */

	struct list flying;  /* struct raw_req.track: on the device, oldest first */
	struct list partial; /* struct raw_req.track: by the file, parts of blocks */
	struct list
		waiting;  /* struct raw_req.link: partial, or resize: until the device is quiet */
	uint64_t lost_ns; /* the path was; 0 = is not */

	bool asking;
	uint32_t seq; /* of MAP and RELEASE */
	uint64_t nothing_ns;
	bool revoking;
	uint32_t revoke_seq;
	uint64_t revoke_from;
	uint64_t revoke_to;
	bool releasing;
};

/* ---- what is known ---- */

static uint64_t ext_end(const struct shared_direct_extent *e)
{
	return e->file_bytes + e->len_bytes;
}

/* The first extent that ends behind @at. */
static uint32_t ext_find(const struct raw_direct *d, uint64_t at)
{
	uint32_t low = 0;
	uint32_t high = d->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ext_end(&d->at[mid]) <= at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

static void ext_drop(struct raw_direct *d, uint64_t from, uint64_t to)
{
	uint32_t first = ext_find(d, from);
	struct shared_direct_extent *e = &d->at[first];
	uint32_t end;

	if (first < d->count && e->file_bytes < from) {
		if (ext_end(e) > to &&
		    d->count < EXTENTS) { /* in two; what is behind is cut below */
			memmove(e + 1, e, (d->count - first) * sizeof(*e));
			d->count++;
		}
		e->len_bytes = from - e->file_bytes;
		first++;
	}
	end = first;
	while (end < d->count && ext_end(&d->at[end]) <= to) {
		end++;
	}
	if (end < d->count && d->at[end].file_bytes < to) {
		uint64_t cut = to - d->at[end].file_bytes;

		d->at[end].file_bytes += cut;
		d->at[end].device_bytes += cut;
		d->at[end].len_bytes -= cut;
	}
	if (end != first) {
		memmove(&d->at[first], &d->at[end], (d->count - end) * sizeof(d->at[0]));
		d->count -= end - first;
	}
}

static void ext_add(struct raw_direct *d, const struct shared_direct_extent *e)
{
	struct shared_direct_extent n = *e;
	uint32_t i;

	ext_drop(d, n.file_bytes, ext_end(&n));
	i = ext_find(d, n.file_bytes);
	if (i != 0 && ext_end(&d->at[i - 1]) == n.file_bytes &&
	    d->at[i - 1].device_bytes + d->at[i - 1].len_bytes == n.device_bytes) {
		d->at[i - 1].len_bytes += n.len_bytes;
		return;
	}
	if (d->count == EXTENTS) {
		d->count = 0; /* all over again */
		i = 0;
	}
	memmove(&d->at[i + 1], &d->at[i], (d->count - i) * sizeof(d->at[0]));
	d->at[i] = n;
	d->count++;
}

/* ---- the end ---- */

/* Nothing is prepared for the device or in flight there: the descriptor can go. */
static bool is_idle(const struct raw_direct *d)
{
	return list_empty(&d->flying) && d->flushing == 0;
}

/* It is idle. */
static void direct_let_go(struct raw_direct *d)
{
	if (d->page != NULL) {
		const union {
			const struct shared_direct_page *from;
			void *to;
		} u = {.from = d->page};

		(void)munmap(u.to, SHARED_DIRECT_PAGE_BYTES);
		d->page = NULL;
	}
	if (d->device_fd >= 0) {
		(void)close(d->device_fd);
		d->device_fd = -1;
	}
	if (d->lock_fd >= 0) { /* last: who looks at it believes that nothing is left */
		(void)close(d->lock_fd);
		d->lock_fd = -1;
	}
	if (d->sock >= 0 && !d->polling) {
		(void)close(d->sock);
		d->sock = -1;
	}
}

static void direct_over(struct raw_direct *d, const char *why)
{
	if (!d->over) {
		log_info(TAG, "not on the device any more why=\"%s\"", why);
		d->over = true;
		d->draining = false;
		d->count = 0;
		/* Ends the poll, and tells the service. */
		(void)shutdown(d->sock, SHUT_RDWR);
	}
	if (is_idle(d)) {
		direct_let_go(d);
	}
}

/* ---- what is said ---- */

static void direct_say(struct raw_direct *d, const struct shared_direct_msg *msg)
{
	if (!d->over && shared_direct_send(d->sock, msg, NULL, 0) != 0) {
		direct_over(d, "the service does not listen");
	}
}

static bool direct_busy_in(const struct raw_direct *d, uint64_t from, uint64_t to, bool writes)
{
	list_for_each(link, &d->flying)
	{
		const struct raw_req *r = list_entry(link, struct raw_req, track);

		if (r->direct_from < to && from < r->direct_to &&
		    (!writes || r->req->op == BLK_WRITE)) {
			return true;
		}
	}
	return false;
}

static void direct_revoke_step(struct raw_direct *d)
{
	const struct shared_direct_msg msg = {
		.type = SHARED_DIRECT_REVOKED,
		.seq = d->revoke_seq,
	};

	if (d->revoking && !direct_busy_in(d, d->revoke_from, d->revoke_to, false)) {
		d->revoking = false;
		direct_say(d, &msg);
	}
}

static void on_welcome(struct raw_direct *d, const struct shared_direct_msg *msg,
                       int fds[SHARED_DIRECT_FDS])
{
	void *page = MAP_FAILED;

	if (d->device_fd < 0 && fds[2] >= 0) {
		page = mmap(NULL, SHARED_DIRECT_PAGE_BYTES, PROT_READ, MAP_SHARED, fds[1], 0);
	}
	if (page == MAP_FAILED) {
		direct_over(d, "its welcome makes no sense");
		return;
	}
	d->page = page;
	d->device_fd = fds[0];
	d->lock_fd = fds[2];
	fds[0] = -1;
	fds[2] = -1;
	d->align_bytes = msg->align_bytes;
}

static void on_extents(struct raw_direct *d, const struct shared_direct_msg *msg)
{
	if (!d->asking || msg->seq != d->seq) {
		return;
	}
	d->asking = false;
	d->nothing_ns = msg->count == 0 ? clock_boot_ns() : 0;
	for (uint32_t i = 0; i < msg->count; i++) {
		ext_add(d, &msg->extents[i]);
	}
}

static void on_revoke(struct raw_direct *d, const struct shared_direct_msg *msg)
{
	ext_drop(d, msg->from_bytes, msg->to_bytes);
	d->revoking = true;
	d->revoke_seq = msg->seq;
	d->revoke_from = msg->from_bytes;
	d->revoke_to = msg->to_bytes;
	direct_revoke_step(d);
}

static void on_message(struct raw_direct *d, const struct shared_direct_msg *msg,
                       int fds[SHARED_DIRECT_FDS])
{
	switch (msg->type) {
	case SHARED_DIRECT_WELCOME:
		on_welcome(d, msg, fds);
		return;
	case SHARED_DIRECT_EXTENTS_ARE:
		on_extents(d, msg);
		return;
	case SHARED_DIRECT_REVOKE:
		on_revoke(d, msg);
		return;
	case SHARED_DIRECT_RELEASED:
		if (msg->seq == d->seq) {
			d->releasing = false;
		}
		return;
	case SHARED_DIRECT_HELLO:
	case SHARED_DIRECT_MAP:
	case SHARED_DIRECT_REVOKED:
	case SHARED_DIRECT_RELEASE:
		break;
	}
	direct_over(d, "the service talks nonsense");
}

/* All that there is. */
static void direct_listen(struct raw_direct *d)
{
	for (uint32_t i = 0; i < BATCH && !d->over; i++) {
		int fds[SHARED_DIRECT_FDS];
		struct shared_direct_msg msg;
		int err = shared_direct_recv(d->sock, &msg, fds);

		if (err == -EAGAIN) {
			return;
		}
		if (err != 0) {
			direct_over(d, "the service is gone");
			return;
		}
		on_message(d, &msg, fds);
		for (uint32_t k = 0; k < SHARED_DIRECT_FDS; k++) {
			if (fds[k] >= 0) {
				(void)close(fds[k]);
			}
		}
	}
}

static void direct_watch(struct raw_direct *d);

static void direct_polled(struct uring_op *op, int32_t res, bool more)
{
	struct raw_direct *d = op->arg;

	(void)res;
	(void)more;
	d->polling = false;
	if (d->over) {
		if (is_idle(d)) {
			direct_let_go(d);
		}
		return;
	}
	direct_listen(d);
	direct_watch(d);
}

static void direct_watch(struct raw_direct *d)
{
	if (d->over || d->polling) {
		return;
	}
	d->poll = (struct uring_op){.fn = direct_polled, .arg = d};
	d->polling = true;
	if (uring_prep_poll(d->raw->blk.ring, &d->poll, d->sock, POLLIN, false) != 0) {
		uring_defer(d->raw->blk.ring, &d->poll, 0); /* the ring is full: once more */
	}
}

/* ---- transfers ---- */

static uint64_t block_down(uint64_t bytes)
{
	return bytes - bytes % SHARED_DIRECT_BLOCK;
}

static uint64_t block_up(uint64_t bytes)
{
	return block_down(bytes + SHARED_DIRECT_BLOCK - 1);
}

static bool is_partial(const struct raw_req *r)
{
	const struct blk_req *req = r->req;
	uint64_t end = req->offset_bytes + req->len_bytes;

	return (req->op == BLK_WRITE || req->op == BLK_ZERO || req->op == BLK_DISCARD) &&
	       ((req->offset_bytes + r->done_bytes) % SHARED_DIRECT_BLOCK != 0 ||
	        end % SHARED_DIRECT_BLOCK != 0);
}

/* Is a part of a block of [from, to) being changed by the file? */
static bool is_torn(const struct raw_direct *d, uint64_t from, uint64_t to)
{
	list_for_each(link, &d->partial)
	{
		const struct blk_req *req = list_entry(link, struct raw_req, track)->req;

		if (block_down(req->offset_bytes) < to &&
		    from < block_up(req->offset_bytes + req->len_bytes)) {
			return true;
		}
	}
	return false;
}

static bool memory_fits(const struct raw_direct *d, const struct blk_req *req)
{
	uint64_t bad = 0;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		bad |= (uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len;
	}
	return (bad & (d->align_bytes - 1)) == 0;
}

static bool path_is_good(struct raw_direct *d, uint64_t now)
{
	struct list *first = list_first(&d->flying);

	if (first != NULL && now - list_entry(first, struct raw_req, track)->began_ns >= HANG_NS) {
		d->lost_ns = now;
	}
	if (d->lost_ns == 0) {
		return true;
	}
	if (first != NULL || now - d->lost_ns < LOST_NS) {
		return false;
	}
	d->lost_ns = 0;
	return true;
}

/* The last look: whatever comes behind it is the submission. */
static bool may(const struct raw_direct *d)
{
	return clock_boot_ns() < atomic_load_explicit(&d->page->until_ns, memory_order_acquire);
}

static bool is_ready(struct raw_direct *d)
{
	return d->page != NULL && !d->over && !d->draining && path_is_good(d, clock_boot_ns());
}

/* Elements for at most @limit bytes from done_bytes on: whole ones, or a part of one. */
static const struct iovec *limited(struct raw_req *r, uint64_t limit, uint32_t *count,
                                   uint64_t *bytes)
{
	const struct iovec *v = raw_piece(r->req, r->done_bytes, &r->part, count, bytes);
	uint64_t sum = 0;
	uint32_t n = 0;

	if (*bytes <= limit) {
		return v;
	}
	while (n < *count && v[n].iov_len <= limit - sum) {
		sum += v[n].iov_len;
		n++;
	}
	if (sum != 0) {
		*count = n;
		*bytes = sum;
		return v;
	}
	if (v != &r->part) {
		r->part = v[0];
	}
	r->part.iov_len = limit;
	*count = 1;
	*bytes = limit;
	return &r->part;
}

static int prepare(struct raw *raw, struct raw_req *r, uint64_t limit, uint64_t device)
{
	struct raw_direct *d = raw->direct;
	struct uring *ring = raw->blk.ring;
	uint64_t bytes;
	uint32_t count;
	const struct iovec *iov = limited(r, limit, &count, &bytes);
	uint64_t at = r->req->offset_bytes + r->done_bytes;

	r->ask_bytes = (uint32_t)bytes;
	r->direct_from = at;
	r->direct_to = block_up(at + bytes);
	if (r->req->op == BLK_READ) {
		return uring_prep_readv(ring, &r->op, d->device_fd, iov, count, device);
	}
	if ((r->req->flags & BLK_FUA) != 0) {
		return uring_prep_writev_dsync(ring, &r->op, d->device_fd, iov, count, device);
	}
	return uring_prep_writev(ring, &r->op, d->device_fd, iov, count, device);
}

int raw_direct_start(struct raw *raw, struct raw_req *r)
{
	struct raw_direct *d = raw->direct;
	uint64_t at = r->req->offset_bytes + r->done_bytes;
	uint64_t left = r->req->len_bytes - r->done_bytes;
	const struct shared_direct_extent *e;
	uint64_t limit;
	uint32_t i;

	if (r->by_file || r->entered || at % SHARED_DIRECT_BLOCK != 0 ||
	    left % SHARED_DIRECT_BLOCK != 0 || !is_ready(d) || !memory_fits(d, r->req)) {
		return 0;
	}
	i = ext_find(d, at);
	e = i < d->count && d->at[i].file_bytes <= at ? &d->at[i] : NULL;
	if (e == NULL || (r->req->op == BLK_WRITE && is_torn(d, at, at + left)) || !may(d)) {
		return 0;
	}
	limit = ext_end(e) - at;
	if (prepare(raw, r, limit < left ? limit : left, e->device_bytes + (at - e->file_bytes)) !=
	    0) {
		return -EAGAIN;
	}
	r->on_device = true;
	r->began_ns = clock_boot_ns();
	list_add_tail(&d->flying, &r->track);
	raw->stats.on_device++;
	return 1;
}

static void wake_waiting(struct raw *raw, struct raw_direct *d)
{
	if (!list_empty(&d->waiting)) {
		list_splice_tail(&raw->stalled, &d->waiting);
		raw_kick(raw);
	}
}

int32_t raw_direct_done(struct raw *raw, struct raw_req *r, int32_t res)
{
	struct raw_direct *d = raw->direct;

	r->on_device = false;
	list_del(&r->track);
	if (res > 0 && r->req->op == BLK_WRITE) {
		raw->direct_writes = true;
	}
	if (res <= 0) {
		d->lost_ns = res != -EINTR && res != -EAGAIN ? clock_boot_ns() : d->lost_ns;
		r->by_file = true;
		res = -EAGAIN;
	} else if ((uint32_t)res < r->ask_bytes) {
		/* The torn block again, as a whole. */
		res -= res % (int32_t)SHARED_DIRECT_BLOCK;
		r->by_file = res == 0;
		res = res == 0 ? -EAGAIN : res;
	}
	wake_waiting(raw, d);
	direct_revoke_step(d);
	if (d->over && is_idle(d)) {
		direct_let_go(d);
	}
	return res;
}

int raw_direct_sync(struct raw *raw, struct raw_req *r)
{
	struct raw_direct *d = raw->direct;

	if (r->by_file || raw->file_seq != raw->synced_seq || !is_ready(d) || !may(d)) {
		return 0;
	}
	if (uring_prep_fsync(raw->blk.ring, &r->op, d->device_fd, true) != 0) {
		return -EAGAIN;
	}
	r->on_device = true;
	d->flushing++;
	return 1;
}

void raw_direct_synced(struct raw *raw)
{
	struct raw_direct *d = raw->direct;

	CHECK(d->flushing != 0);
	d->flushing--;
	if (d->over && is_idle(d)) {
		direct_let_go(d);
	}
}

/* ---- by the file ---- */

bool raw_direct_enter(struct raw *raw, struct raw_req *r)
{
	struct raw_direct *d = raw->direct;
	const struct blk_req *req = r->req;

	if (!r->entered && !is_partial(r)) {
		return true;
	}
	/* In the list first: what comes now goes by the file, and is in order there. */
	if (!r->entered) {
		r->entered = true;
		list_add_tail(&d->partial, &r->track);
	}
	if (direct_busy_in(d, block_down(req->offset_bytes),
	                   block_up(req->offset_bytes + req->len_bytes), true)) {
		list_add_tail(&d->waiting, &r->link);
		return false;
	}
	return true;
}

void raw_direct_leave(struct raw *raw, struct raw_req *r)
{
	(void)raw;
	if (list_linked(&r->track)) {
		list_del(&r->track);
	}
}

void raw_direct_want(struct raw *raw, const struct raw_req *r)
{
	struct raw_direct *d = raw->direct;
	uint64_t at = block_down(r->req->offset_bytes);
	struct shared_direct_msg msg = {
		.type = SHARED_DIRECT_MAP,
		.from_bytes = at,
		.to_bytes = at + SHARED_DIRECT_RANGE,
	};
	uint32_t i = ext_find(d, at);

	if (d->asking || d->page == NULL || d->over || d->draining || raw->released ||
	    raw->read_only || msg.to_bytes > INT64_MAX ||
	    (i < d->count && d->at[i].file_bytes <= at) ||
	    (d->nothing_ns != 0 && clock_boot_ns() - d->nothing_ns < NOTHING_NS)) {
		return;
	}
	d->asking = true;
	msg.seq = ++d->seq;
	direct_say(d, &msg);
}

bool raw_direct_drain(struct raw *raw, struct raw_req *r)
{
	struct raw_direct *d = raw->direct;

	d->draining = !d->over;
	if (list_empty(&d->flying)) {
		return true;
	}
	list_add_tail(&d->waiting, &r->link);
	return false;
}

void raw_direct_release(struct raw *raw)
{
	struct raw_direct *d = raw->direct;
	uint64_t end = clock_now_ns() + RELEASE_MS * NS_PER_MS;
	struct shared_direct_msg msg = {.type = SHARED_DIRECT_RELEASE};

	CHECK(list_empty(&d->flying));
	d->count = 0;
	if (!d->over && d->page != NULL) {
		d->asking = false;
		msg.seq = ++d->seq;
		d->releasing = true;
		direct_say(d, &msg);
		while (!d->over && d->releasing) {
			struct pollfd p = {.fd = d->sock, .events = POLLIN};
			uint64_t now = clock_now_ns();
			int left_ms = now < end ? (int)((end - now) / NS_PER_MS) + 1 : 0;

			if (now >= end) {
				direct_over(d, "the service does not answer");
			} else if (poll(&p, 1, left_ms) > 0) {
				direct_listen(d);
			}
		}
	}
	d->releasing = false;
	d->draining = false;
}

/* ---- life ---- */

int raw_direct_open(struct raw *raw, int sock)
{
	struct raw_direct *d;

	if (strcmp(uring_backend(raw->blk.ring), "io_uring") != 0) {
		(void)close(sock); /* see raw_next(): it goes by the file */
		return 0;
	}
	d = gw_calloc(1, sizeof(*d));
	if (d == NULL) {
		return -ENOMEM;
	}
	d->raw = raw;
	d->sock = sock;
	d->device_fd = -1;
	d->lock_fd = -1;
	list_init(&d->flying);
	list_init(&d->partial);
	list_init(&d->waiting);
	raw->direct = d;
	direct_watch(d);
	return 0;
}

void raw_direct_close(struct raw_direct *d, struct uring *ring)
{
	if (d == NULL) {
		return;
	}
	CHECK(is_idle(d) && list_empty(&d->partial) && list_empty(&d->waiting));
	direct_over(d, "closed");
	while (d->polling) {
		CHECK(uring_wait(ring, UINT64_MAX) >= 0);
	}
	direct_let_go(d);
	free(d);
}
