/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_direct - a disk on a mounted shared volume as a VM's worker has it: random requests, several
 * at a time, checked against memory; on the volume's device where that is possible.
 *
 *	csv_direct PATH SOCKET SEED MIB [END]     until the file END exists (without: 3000 requests)
 *
 * Says "N requests, M on the device, D differences" at the end. Exit code 0: no error, D = 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blk.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/shared_direct.h"
#include "base/uring.h"
#include "hv/raw/raw.h"

#define DEPTH 12u
#define PIECE_MAX (256u << 10)
#define COUNT 3000u

struct one {
	struct blk_req req;
	struct iovec iov[3];
	uint8_t *buf;
	bool busy;
};

struct trial {
	struct blk *blk;
	struct uring *ring;
	uint64_t size;
	uint8_t *image;
	struct one at[DEPTH];
	uint64_t rand;
	uint64_t requests;
	uint64_t differences;
	int failed;
};

static uint64_t draw(struct trial *t, uint64_t below)
{
	t->rand ^= t->rand << 13;
	t->rand ^= t->rand >> 7;
	t->rand ^= t->rand << 17;
	return t->rand % below;
}

static void done(struct blk_req *req, int result)
{
	struct trial *t = req->arg;
	struct one *o = container_of(req, struct one, req);

	o->busy = false;
	if (result != 0) {
		(void)fprintf(stderr, "op=%d offset=%llu len=%llu: %s\n", req->op,
		              (unsigned long long)req->offset_bytes,
		              (unsigned long long)req->len_bytes, strerror(-result));
		t->failed = result;
	} else if (req->op == BLK_READ &&
	           memcmp(o->buf, t->image + req->offset_bytes, req->len_bytes) != 0) {
		uint64_t i = 0;

		while (o->buf[i] == t->image[req->offset_bytes + i]) {
			i++;
		}
		(void)fprintf(stderr, "difference at %llu: %02x, not %02x (read %llu + %llu)\n",
		              (unsigned long long)req->offset_bytes + i, o->buf[i],
		              t->image[req->offset_bytes + i],
		              (unsigned long long)req->offset_bytes,
		              (unsigned long long)req->len_bytes);
		t->differences++;
	}
}

static bool in_the_way(const struct trial *t, uint64_t from, uint64_t len)
{
	for (uint32_t i = 0; i < DEPTH; i++) {
		const struct blk_req *r = &t->at[i].req;

		/* By sectors, not by blocks: those are raw's business. */
		if (t->at[i].busy && r->op != BLK_FLUSH && r->offset_bytes < from + len &&
		    from < r->offset_bytes + r->len_bytes) {
			return true;
		}
	}
	return false;
}

static void choose(struct trial *t, struct one *o)
{
	uint64_t unit = draw(t, 4) == 0 ? 512 : 4096;
	uint64_t dice = draw(t, 1000);
	uint64_t len = (1 + draw(t, draw(t, 4) == 0 ? PIECE_MAX / unit : 8)) * unit;
	uint64_t at = draw(t, t->size / unit) * unit;

	len = len < t->size - at ? len : t->size - at;
	o->req = (struct blk_req){.done = done, .arg = t, .offset_bytes = at, .len_bytes = len};
	o->req.op = dice < 400   ? BLK_READ
	            : dice < 930 ? BLK_WRITE
	            : dice < 997 ? BLK_FLUSH
	                         : BLK_ZERO; /* takes all leases of the file away */
	if (o->req.op == BLK_FLUSH) {
		o->req.offset_bytes = 0;
		o->req.len_bytes = 0;
	}
	o->req.flags = o->req.op == BLK_WRITE && draw(t, 20) == 0 ? BLK_FUA : 0;
}

static void begin(struct trial *t, struct one *o)
{
	struct blk_req *r = &o->req;
	uint64_t first = r->len_bytes / 512 > 2 ? (r->len_bytes / 1024) * 512 : r->len_bytes;

	if (r->op == BLK_WRITE) {
		uint8_t fill = (uint8_t)draw(t, 256);

		for (uint64_t i = 0; i < r->len_bytes; i++) {
			o->buf[i] = (uint8_t)(fill + (i >> 9) * 7 + i);
		}
		memcpy(t->image + r->offset_bytes, o->buf, r->len_bytes);
	} else if (r->op == BLK_ZERO) {
		memset(t->image + r->offset_bytes, 0, r->len_bytes);
	}
	if (r->op == BLK_READ || r->op == BLK_WRITE) {
		o->iov[0] = (struct iovec){o->buf, first};
		o->iov[1] = (struct iovec){o->buf + first, r->len_bytes - first};
		r->iov = o->iov;
		r->iov_count = first < r->len_bytes ? 2 : 1;
	}
	o->busy = true;
	t->requests++;
	blk_submit(t->blk, r);
}

static uint32_t under_way(const struct trial *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < DEPTH; i++) {
		n += t->at[i].busy;
	}
	return n;
}

static bool quiet(struct trial *t)
{
	while (under_way(t) != 0) {
		if (uring_wait(t->ring, 60 * NS_PER_S) < 0) {
			return false;
		}
	}
	return true;
}

/* All of it, and a flush. */
static void check(struct trial *t)
{
	for (uint64_t at = 0; at < t->size && t->failed == 0; at += PIECE_MAX) {
		struct one *o = &t->at[0];

		o->req = (struct blk_req){.op = BLK_READ,
		                          .done = done,
		                          .arg = t,
		                          .offset_bytes = at,
		                          .len_bytes = PIECE_MAX};
		begin(t, o);
		(void)quiet(t);
	}
	t->at[0].req = (struct blk_req){.op = BLK_FLUSH, .done = done, .arg = t};
	begin(t, &t->at[0]);
	(void)quiet(t);
}

static void run(struct trial *t, const char *end)
{
	while (t->failed == 0 && t->differences == 0 &&
	       (end != NULL ? access(end, F_OK) != 0 : t->requests < COUNT)) {
		for (uint32_t i = 0; i < DEPTH; i++) {
			struct one *o = &t->at[i];

			if (o->busy) {
				continue;
			}
			choose(t, o);
			if (!in_the_way(t, o->req.offset_bytes, o->req.len_bytes)) {
				begin(t, o);
			}
		}
		if (uring_wait(t->ring, NS_PER_S) < 0) {
			break;
		}
	}
	(void)quiet(t);
	check(t);
}

static int prepare(struct trial *t, const char *path, const char *socket, uint64_t seed,
                   struct errbuf *eb)
{
	const struct uring_cfg ring = {.entries = 64};
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct raw_cfg cfg = {.logical_bytes = 512};
	int err;

	if (fd < 0 || ftruncate(fd, (off_t)t->size) != 0 || close(fd) != 0) {
		return errbuf_sys(eb, -errno, "%s", path);
	}
	t->image = calloc(1, t->size);
	for (uint32_t i = 0; i < DEPTH; i++) {
		t->at[i].buf = aligned_alloc(4096, PIECE_MAX);
		if (t->at[i].buf == NULL || t->image == NULL) {
			return errbuf_sys(eb, -ENOMEM, "memory");
		}
	}
	t->rand = seed * 0x9e3779b97f4a7c15ull + 1;
	cfg.fd = raw_open_fd(path, false, eb);
	if (cfg.fd < 0) {
		return cfg.fd;
	}
	cfg.direct_fd = shared_direct_connect(cfg.fd, socket, true);
	if (cfg.direct_fd < 0) {
		return errbuf_sys(eb, cfg.direct_fd, "%s", socket);
	}
	err = uring_create(&ring, &t->ring, eb);
	return err != 0 ? err : raw_open(&cfg, t->ring, &t->blk, eb);
}

int main(int argc, char **argv)
{
	struct trial t = {.failed = 0};
	struct raw_stats stats = {0};
	struct errbuf eb = {0};
	int err;

	if (argc < 5) {
		(void)fprintf(stderr, "usage: csv_direct PATH SOCKET SEED MIB [END]\n");
		return 2;
	}
	t.size = strtoull(argv[4], NULL, 10) << 20;
	err = prepare(&t, argv[1], argv[2], strtoull(argv[3], NULL, 10), &eb);
	if (err == 0) {
		run(&t, argc > 5 ? argv[5] : NULL);
		raw_get_stats(t.blk, &stats);
		err = blk_close(t.blk, &eb);
	}
	uring_destroy(t.ring);
	free(t.image);
	for (uint32_t i = 0; i < DEPTH; i++) {
		free(t.at[i].buf);
	}
	if (err != 0) {
		(void)fprintf(stderr, "%s\n", errbuf_text(&eb, err));
		return 1;
	}
	(void)printf("%llu requests, %llu on the device, %llu differences\n",
	             (unsigned long long)t.requests, (unsigned long long)stats.on_device,
	             (unsigned long long)t.differences);
	return t.failed == 0 && t.differences == 0 ? 0 : 1;
}
