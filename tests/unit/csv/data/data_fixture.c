/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csv/data/data_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"

/* The clock of the device under test: one test at a time. */
static struct fix *the_fix;

static uint64_t fix_now(void)
{
	return the_fix->now_ns != 0 ? the_fix->now_ns : clock_boot_ns();
}

uint64_t fix_random(struct fix *f)
{
	f->rng = f->rng * 6364136223846793005ull + 1442695040888963407ull;
	return f->rng >> 33;
}

uint64_t fix_device(uint64_t block)
{
	uint64_t run = block / FIX_RUN;
	uint64_t runs = FIX_LUN_BYTES / 4096 / FIX_RUN;

	/* 37 is odd, so that every run has a place of its own. */
	return (run * 37 + 5) % runs * FIX_RUN * 4096 + block % FIX_RUN * 4096;
}

/* ---- provider ---- */

static int fix_layout(struct fix *f, const struct csv_data_ask *ask, struct csv_layout_lease *out)
{
	uint64_t first = ask->file_bytes / 4096;
	uint64_t last = first;

	if (f->layout_err != 0) {
		return f->layout_err;
	}
	*out = (struct csv_layout_lease){
		.number = 1,
		.expires_ns = UINT64_MAX,
		.from_bytes = first * 4096,
		.write = true,
	};
	while (last < FIX_BLOCKS && last * 4096 < ask->file_bytes + ask->len_bytes &&
	       out->extents_count < CSV_LAYOUT_EXTENTS_MAX) {
		if (f->blocks[last] == FIX_HOLE && ask->hole) {
			f->blocks[last] = FIX_UNWRITTEN;
		}
		if (f->blocks[last] != FIX_HOLE) {
			out->extents[out->extents_count++] = (struct csv_layout_extent){
				.file_bytes = last * 4096,
				.device_bytes = fix_device(last),
				.length_bytes = 4096,
				.unwritten = f->blocks[last] == FIX_UNWRITTEN,
			};
		}
		last++;
	}
	out->to_bytes = last * 4096;
	return 0;
}

/* What needs no room is looked up at once, and answered later: it may have changed since. */
static void fix_ask(void *arg, struct csv_data_ask *ask)
{
	struct fix *f = arg;
	struct csv_layout_lease *said = NULL;

	CHECK(f->asks_count < FIX_ASKS);
	if (ask->what == CSV_DATA_LAYOUT && !ask->hole && f->layout_err == 0) {
		said = calloc(1, sizeof(*said));
		CHECK(said != NULL && fix_layout(f, ask, said) == 0);
	}
	f->said[f->asks_count] = said;
	f->asks[f->asks_count++] = ask;
	if (f->closing && !f->deferred) {
		f->deferred = true;
		uring_defer(f->ring, &f->op, 0);
	}
}

static void fix_rights(void *arg, struct csv_data_rights *out)
{
	const struct fix *f = arg;

	*out = f->rights;
}

static void fix_event(void *arg, enum csv_data_state state, enum csv_data_reason reason)
{
	struct fix *f = arg;

	f->state = state;
	f->reason = reason;
	f->events++;
}

static const struct csv_data_ops fix_ops = {
	.redirects = true,
	.ask = fix_ask,
	.rights = fix_rights,
	.event = fix_event,
};

static int fix_convert(struct fix *f, const struct csv_data_ask *ask)
{
	for (uint64_t b = ask->file_bytes / 4096; b < (ask->file_bytes + ask->len_bytes) / 4096;
	     b++) {
		if (b >= FIX_BLOCKS || f->blocks[b] == FIX_HOLE) {
			return -ENXIO;
		}
		f->blocks[b] = FIX_WRITTEN;
	}
	return 0;
}

static void fix_execute(struct fix *f, const struct csv_data_ask *ask)
{
	bool again = ask->op == BLK_WRITE && f->done_ids[ask->id % FIX_IDS];

	if (ask->op == BLK_FLUSH) {
		CHECK(fdatasync(f->fd) == 0);
		return;
	}
	CHECK(ask->id != 0 && ask->device_bytes % 512 == 0);
	if (again) {
		f->repeated++; /* it was done: say so, and nothing else */
		return;
	}
	if (ask->op == BLK_WRITE) {
		f->done_ids[ask->id % FIX_IDS] = true;
		CHECK(pwritev(f->fd, ask->iov, (int)ask->iov_count, (off_t)ask->device_bytes) ==
		      (ssize_t)ask->len_bytes);
	} else {
		CHECK(preadv(f->fd, ask->iov, (int)ask->iov_count, (off_t)ask->device_bytes) ==
		      (ssize_t)ask->len_bytes);
	}
	f->executed++;
}

static int fix_redirect(struct fix *f, const struct csv_data_ask *ask, bool moody)
{
	if (f->redirect_down) {
		return -EHOSTUNREACH;
	}
	if (f->redirect_err != 0) {
		int err = f->redirect_err;

		f->redirect_err = 0;
		return err;
	}
	if (moody) {
		switch (fix_random(f) % 3) {
		case 0:
			return -EAGAIN; /* certainly not done */
		case 1:
			return -ENOTCONN; /* not done, but who knows */
		default:
			fix_execute(f, ask);
			return -ETIMEDOUT; /* done, but the answer is lost */
		}
	}
	fix_execute(f, ask);
	return 0;
}

static void fix_answer(struct fix *f, uint32_t index)
{
	static struct csv_layout_lease lease;
	struct csv_data_ask *ask = f->asks[index];
	struct csv_layout_lease *said = f->said[index];
	bool moody = f->moody != 0 && fix_random(f) % f->moody == 0;
	int err = 0;

	f->asks_count--;
	f->asks[index] = f->asks[f->asks_count];
	f->said[index] = f->said[f->asks_count];
	if (f->fenced) {
		err = -ESTALE;
	} else if (ask->what == CSV_DATA_REDIRECT) {
		err = fix_redirect(f, ask, moody);
	} else if (f->meta_down || moody) {
		err = -EAGAIN;
	} else if (said != NULL) {
		lease = *said;
	} else if (ask->what == CSV_DATA_LAYOUT) {
		err = fix_layout(f, ask, &lease);
	} else if (ask->what == CSV_DATA_CONVERT) {
		err = fix_convert(f, ask);
	} else {
		f->size_bytes = ask->file_bytes;
	}
	free(said);
	csv_data_answer(ask, err, ask->what == CSV_DATA_LAYOUT && err == 0 ? &lease : NULL);
}

bool fix_answer_kind(struct fix *f, enum csv_data_what what)
{
	for (uint32_t i = 0; i < f->asks_count; i++) {
		if (f->asks[i]->what == what) {
			fix_answer(f, i);
			return true;
		}
	}
	return false;
}

void fix_pump(struct fix *f)
{
	uint32_t n = f->hold ? 0 : f->asks_count;

	/* One at a time: what is answered may ask again. */
	for (; n > 0 && f->asks_count > 0; n--) {
		fix_answer(f, (uint32_t)(fix_random(f) % f->asks_count));
	}
	/* All that comes back fails, one by one: the first tells the device. */
	fault_arm(FAULT_IO, f->path_down || f->flush_fails ? 1 : 0);
	assert_true(uring_wait(f->ring, NS_PER_MS / 4) >= 0);
	f->flush_fails = f->flush_fails && fault_hit(FAULT_IO) == 0;
	fault_arm(FAULT_IO, 0);
}

static void fix_deferred(struct uring_op *op, int32_t res, bool more)
{
	struct fix *f = op->arg;

	(void)res;
	(void)more;
	f->deferred = false;
	while (f->asks_count > 0) {
		fix_answer(f, f->asks_count - 1);
	}
}

int fix_close(struct fix *f)
{
	int err;

	f->closing = true;
	f->op = (struct uring_op){.fn = fix_deferred, .arg = f};
	if (f->asks_count != 0) {
		f->deferred = true;
		uring_defer(f->ring, &f->op, 0);
	}
	err = blk_close(f->blk, NULL);
	f->blk = NULL;
	f->closing = false;
	return err;
}

void fix_seen(struct fix *f, uint8_t *out)
{
	memset(out, 0, FIX_FILE_BYTES);
	for (uint64_t b = 0; b < FIX_BLOCKS; b++) {
		if (f->blocks[b] == FIX_WRITTEN) {
			assert_int_equal(pread(f->fd, out + b * 4096, 4096, (off_t)fix_device(b)),
			                 4096);
		}
	}
}

/* ---- life ---- */

struct csv_data_cfg fix_cfg(struct fix *f)
{
	struct csv_data_cfg cfg = {
		.fd = open(f->path, O_RDWR | O_CLOEXEC),
		.size_bytes = FIX_FILE_BYTES,
		.token = 5,
		.ahead_bytes = 1u << 20,
		.hang_ns = 3600 * NS_PER_S,
		.patience_ns = 5 * NS_PER_MS,
		.tick_ns = NS_PER_MS,
		.now_ns = fix_now,
		.ops = &fix_ops,
		.arg = f,
	};

	return cfg;
}

void fix_open(struct fix *f, const struct csv_data_cfg *cfg)
{
	struct errbuf eb = {0};
	int err = csv_data_open(cfg, f->ring, &f->blk, &eb);

	if (err != 0) {
		print_error("%s\n", errbuf_text(&eb, err));
	}
	assert_int_equal(err, 0);
}

int fix_setup(void **state)
{
	const struct uring_cfg ring = {.entries = 64};
	struct fix *f = calloc(1, sizeof(*f));
	uint8_t *old = malloc(FIX_LUN_BYTES);

	if (f == NULL || old == NULL || uring_create(&ring, &f->ring, NULL) != 0) {
		free(f);
		free(old);
		return -1;
	}
	(void)snprintf(f->path, sizeof(f->path), "/var/tmp/gw-data-XXXXXX");
	f->fd = mkstemp(f->path);
	memset(old, 0xee, FIX_LUN_BYTES); /* what somebody else left there */
	the_fix = f;
	*state = f;

	bool good = f->fd >= 0 && pwrite(f->fd, old, FIX_LUN_BYTES, 0) == (ssize_t)FIX_LUN_BYTES;

	free(old);
	if (!good) {
		return -1;
	}
	f->rng = 42;
	f->size_bytes = FIX_FILE_BYTES;
	f->rights = (struct csv_data_rights){.until_ns = UINT64_MAX, .token = 5};
	return 0;
}

int fix_teardown(void **state)
{
	struct fix *f = *state;

	(void)unlink(f->path);
	(void)close(f->fd);
	fault_arm(FAULT_IO, 0);
	if (uring_in_flight(f->ring) != 0) {
		return -1; /* the test failed in the middle: it is all still used */
	}
	uring_destroy(f->ring);
	free(f);
	return 0;
}

static void fix_done(struct blk_req *req, int result)
{
	struct fix_req *r = req->arg;

	r->calls++;
	r->result = result;
}

void fix_start(struct fix *f, struct fix_req *r)
{
	r->calls = 0;
	r->req.done = fix_done;
	r->req.arg = r;
	blk_submit(f->blk, &r->req);
	assert_int_equal(r->calls, 0);
}

int fix_wait(struct fix *f, struct fix_req *r)
{
	uint64_t end = clock_now_ns() + 60 * NS_PER_S;

	while (r->calls == 0) {
		assert_true(clock_now_ns() < end);
		fix_pump(f);
	}
	assert_int_equal(r->calls, 1);
	return r->result;
}

int fix_io(struct fix *f, enum blk_op op, uint64_t offset, void *buf, uint64_t len)
{
	struct fix_req r = {
		.req = {.op = op, .offset_bytes = offset, .len_bytes = len},
		.iov = {buf, len},
	};

	if (op == BLK_READ || op == BLK_WRITE) {
		r.req.iov = &r.iov;
		r.req.iov_count = 1;
	}
	fix_start(f, &r);
	return fix_wait(f, &r);
}
