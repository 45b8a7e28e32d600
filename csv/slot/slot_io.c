/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/loop.h"
#include "base/uring.h"
#include "csv/slot/csv_slot_io.h"

#define SILENT_NS 5000000000ull /* of one round: the device does not answer */
#define RING_ENTRIES 32u        /* a round has 4 operations, a job one */

enum job_kind { JOB_FREE, JOB_SENTENCE, JOB_MESSAGE };
enum job_step { JOB_READ, JOB_WRITE, JOB_READ_BACK };

/* One block about another node: read what is there, write, read back. */
struct job {
	struct uring_op op;
	struct csv_slot_io *io;
	enum job_kind kind;
	enum job_step step;
	uint32_t node;
	uint64_t incarnation;
	enum csv_command command;
	uint64_t argument;
	csv_slot_done_fn fn;
	void *arg;
	uint8_t *block; /* in the driver's memory */
	uint8_t *back;
	struct iovec iov;
};

enum { READ_SLOTS, READ_VERDICT, READ_MAIL, READ_COUNT };

struct csv_slot_io {
	struct csv_slot slot;
	struct csv_slot_io_cfg cfg;
	struct loop *loop;  /* borrowed */
	struct uring *ring; /* owned */
	int fd;             /* owned */
	struct loop_fd *watch;
	struct loop_timer *timer;
	uint8_t *memory; /* owned: all blocks */
	uint8_t *own;
	uint8_t *blocks[READ_COUNT];
	struct uring_op write_op;
	struct uring_op read_ops[READ_COUNT];
	uint32_t under_way; /* operations of the round */
	bool in_round;
	bool leaving;
	bool left;
	csv_slot_done_fn leave_fn;
	void *leave_arg;
	uint64_t write_ns;
	uint64_t lost_ns; /* when the first of the rounds that failed in a row began; 0 = none */
	struct csv_slot_round round;
	struct job jobs[CSV_SLOT_IO_JOBS_MAX];
	struct csv_slot_io_stats stats;
};

static void round_read(struct csv_slot_io *io);
static void start_leaving(struct csv_slot_io *io);

static void tell(struct csv_slot_io *io, uint32_t did)
{
	if (did != 0) {
		io->cfg.event(io->cfg.arg, did);
	}
}

/* What an operation of @want bytes came to. */
static int outcome(struct csv_slot_io *io, int32_t res, size_t want)
{
	int err = res < 0 ? res : (size_t)res == want ? fault_io() : -EIO;

	io->stats.errors += err != 0;
	return err;
}

/* The queue has room for all that we ever have in it, unless the kernel lacks memory. */
static void submit(struct csv_slot_io *io)
{
	if (uring_submit(io->ring) < 0) {
		io->stats.errors++; /* they stay prepared, the timer tries again */
	}
}

/* ---- a round ---- */

static size_t read_bytes(const struct csv_slot_io *io, int what)
{
	return what == READ_SLOTS ? (size_t)io->slot.cfg.nodes * CSV_BLOCK_BYTES : CSV_BLOCK_BYTES;
}

static void round_over(struct csv_slot_io *io)
{
	const struct csv_slot_round *r = &io->round;
	bool bad =
		r->write_err != 0 || r->slots_err != 0 || r->verdict_err != 0 || r->mail_err != 0;
	uint32_t did = csv_slot_end(&io->slot, &io->round, clock_boot_ns());

	io->lost_ns = !bad ? 0 : io->lost_ns != 0 ? io->lost_ns : io->write_ns;
	io->in_round = false;
	io->stats.rounds++;
	tell(io, did);
	if (io->leaving && !io->left) {
		start_leaving(io);
	}
}

static void read_done(struct uring_op *op, int32_t res, bool more)
{
	struct csv_slot_io *io = op->arg;
	int what = (int)(op - io->read_ops);
	int err = outcome(io, res, read_bytes(io, what));

	(void)more;
	if (what == READ_SLOTS) {
		io->round.slots_err = err;
	} else if (what == READ_VERDICT) {
		io->round.verdict_err = err;
	} else {
		io->round.mail_err = err;
	}
	if (--io->under_way == 0) {
		round_over(io);
	}
}

static void round_read(struct csv_slot_io *io)
{
	const uint32_t node = io->slot.cfg.node;
	const uint64_t at[READ_COUNT] = {
		CSV_LIVENESS_AT,
		csv_slot_verdict_block(node),
		csv_slot_mail_block(node),
	};

	io->round.read_ns = clock_boot_ns();
	io->under_way = READ_COUNT;
	for (int i = 0; i < READ_COUNT; i++) {
		struct uring_op *op = &io->read_ops[i];
		int err = uring_prep_read(io->ring, op, io->fd, io->blocks[i],
		                          (uint32_t)read_bytes(io, i), at[i] * CSV_BLOCK_BYTES);

		if (err != 0) {
			uring_defer(io->ring, op, err);
		}
	}
}

static void write_done(struct uring_op *op, int32_t res, bool more)
{
	struct csv_slot_io *io = op->arg;
	uint64_t took = clock_boot_ns() - io->write_ns;

	(void)more;
	io->round.write_err = outcome(io, res, CSV_BLOCK_BYTES);
	if (took > io->stats.write_max_ns) {
		io->stats.write_max_ns = took;
	}
	if (io->left) { /* it was the last one */
		if (io->leave_fn != NULL) {
			io->leave_fn(io->leave_arg, io->round.write_err);
		}
		return;
	}
	/* Only now: a sentence that is written later than this renewal must be found by it. */
	round_read(io);
}

static void write_own(struct csv_slot_io *io)
{
	int err = uring_prep_write(io->ring, &io->write_op, io->fd, io->own, CSV_BLOCK_BYTES,
	                           csv_slot_block(io->slot.cfg.node) * CSV_BLOCK_BYTES);

	if (err != 0) {
		uring_defer(io->ring, &io->write_op, err);
	}
}

static void round_start(struct csv_slot_io *io)
{
	uint32_t did;
	uint64_t now = clock_boot_ns();
	bool write = csv_slot_begin(&io->slot, now, io->own, &did);

	io->in_round = true;
	io->write_ns = now;
	io->round = (struct csv_slot_round){
		.slots = io->blocks[READ_SLOTS],
		.verdict = io->blocks[READ_VERDICT],
		.mail = io->blocks[READ_MAIL],
	};
	if (write) {
		write_own(io);
	} else {
		round_read(io);
	}
	submit(io);
	tell(io, did);
}

static void tick(void *arg)
{
	struct csv_slot_io *io = arg;

	loop_timer_arm(io->timer, io->slot.cfg.timing.slot_ns);
	if (io->left) {
		return;
	}
	if (io->in_round) {
		io->stats.left_out++;
		submit(io);
		tell(io, csv_slot_check(&io->slot, clock_boot_ns()));
		return;
	}
	round_start(io);
}

static void ready(int fd, uint32_t events, void *arg)
{
	struct csv_slot_io *io = arg;

	(void)fd;
	(void)events;
	(void)uring_dispatch(io->ring);
	submit(io);
}

uint64_t csv_slot_io_lost_ns(const struct csv_slot_io *io, uint64_t now_ns)
{
	if (io->lost_ns != 0) {
		return io->lost_ns;
	}
	return io->in_round && now_ns - io->write_ns >= SILENT_NS ? io->write_ns : 0;
}

/* ---- leaving ---- */

static void leave_now(struct uring_op *op, int32_t res, bool more)
{
	struct csv_slot_io *io = op->arg;

	(void)res;
	(void)more;
	if (io->leave_fn != NULL) {
		io->leave_fn(io->leave_arg, 0);
	}
}

static void start_leaving(struct csv_slot_io *io)
{
	io->left = true;
	io->write_ns = clock_boot_ns();
	if (csv_slot_leave(&io->slot, io->write_ns, io->own)) {
		write_own(io);
	} else {
		io->read_ops[READ_SLOTS].fn = leave_now;
		uring_defer(io->ring, &io->read_ops[READ_SLOTS], 0);
	}
	submit(io);
}

void csv_slot_io_leave(struct csv_slot_io *io, csv_slot_done_fn fn, void *arg)
{
	CHECK(!io->leaving);
	io->leaving = true;
	io->leave_fn = fn;
	io->leave_arg = arg;
	if (!io->in_round) {
		start_leaving(io);
	}
}

/* ---- jobs ---- */

static uint64_t job_at(const struct job *j)
{
	uint64_t block = j->kind == JOB_SENTENCE ? csv_slot_verdict_block(j->node)
	                                         : csv_slot_mail_block(j->node);

	return block * CSV_BLOCK_BYTES;
}

static void job_end(struct job *j, int err)
{
	csv_slot_done_fn fn = j->fn;

	j->kind = JOB_FREE;
	if (fn != NULL) {
		fn(j->arg, err);
	}
}

static void job_next(struct job *j, enum job_step step)
{
	struct csv_slot_io *io = j->io;
	int err;

	j->step = step;
	if (step == JOB_WRITE) {
		/* Durable: a proof may rest on it. */
		j->iov = (struct iovec){j->block, CSV_BLOCK_BYTES};
		err = uring_prep_writev_dsync(io->ring, &j->op, io->fd, &j->iov, 1, job_at(j));
	} else {
		err = uring_prep_read(io->ring, &j->op, io->fd, j->back, CSV_BLOCK_BYTES,
		                      job_at(j));
	}
	if (err != 0) {
		uring_defer(io->ring, &j->op, err);
	}
}

/* @j->back holds what is there now. */
static int job_encode(struct job *j)
{
	const struct csv_slot *s = &j->io->slot;

	if (j->kind == JOB_SENTENCE) {
		return csv_slot_sentence(s, j->node, j->incarnation, clock_wall_ns(), j->back,
		                         j->block);
	}
	return csv_slot_message(s, j->node, j->incarnation, j->command, j->argument, j->back,
	                        j->block);
}

static void job_done(struct uring_op *op, int32_t res, bool more)
{
	struct job *j = op->arg;
	int err = outcome(j->io, res, CSV_BLOCK_BYTES);

	(void)more;
	if (err != 0) {
		job_end(j, err);
		return;
	}
	switch (j->step) {
	case JOB_READ:
		err = job_encode(j);
		if (err != 0) {
			job_end(j, err == -EALREADY ? 0 : err);
			return;
		}
		job_next(j, JOB_WRITE);
		return;
	case JOB_WRITE:
		job_next(j, JOB_READ_BACK);
		return;
	case JOB_READ_BACK:
		err = memcmp(j->block, j->back, CSV_BLOCK_BYTES) == 0 ? 0 : -EBUSY;
		job_end(j, err);
		return;
	}
}

static int job_start(struct csv_slot_io *io, const struct job *what)
{
	for (uint32_t i = 0; i < CSV_SLOT_IO_JOBS_MAX; i++) {
		struct job *j = &io->jobs[i];

		if (j->kind == JOB_FREE) {
			uint8_t *block = j->block;
			uint8_t *back = j->back;

			*j = *what;
			j->io = io;
			j->block = block;
			j->back = back;
			j->op.fn = job_done;
			j->op.arg = j;
			job_next(j, JOB_READ);
			submit(io);
			return 0;
		}
	}
	return -EAGAIN;
}

int csv_slot_io_sentence(struct csv_slot_io *io, uint32_t about, uint64_t incarnation,
                         csv_slot_done_fn fn, void *arg)
{
	const struct job what = {
		.kind = JOB_SENTENCE,
		.node = about,
		.incarnation = incarnation,
		.fn = fn,
		.arg = arg,
	};

	CHECK(about < CSV_NODES_MAX);
	return job_start(io, &what);
}

int csv_slot_io_message(struct csv_slot_io *io, uint32_t to, uint64_t incarnation,
                        enum csv_command command, uint64_t argument, csv_slot_done_fn fn, void *arg)
{
	const struct job what = {
		.kind = JOB_MESSAGE,
		.node = to,
		.incarnation = incarnation,
		.command = command,
		.argument = argument,
		.fn = fn,
		.arg = arg,
	};

	CHECK(to < CSV_NODES_MAX);
	return job_start(io, &what);
}

/* ---- open, close ---- */

static int open_device(const char *path, struct errbuf *eb)
{
	struct stat st;
	off_t end;
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	/* A file system without direct I/O will do for a file: who shares it shares its cache. */
	if (fd < 0 && errno == EINVAL && stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (fd < 0) {
		return errbuf_sys(eb, -errno, "open %s", path);
	}
	end = lseek(fd, 0, SEEK_END);
	if (end < (off_t)CSV_SIZE_MIN_BYTES) {
		(void)close(fd);
		return errbuf_set(eb, -EINVAL, "%s is too small for a volume", path);
	}
	return fd;
}

static int alloc_blocks(struct csv_slot_io *io)
{
	size_t count = 1 + io->slot.cfg.nodes + 2 + 2 * CSV_SLOT_IO_JOBS_MAX;
	uint8_t *at;

	io->memory = gw_calloc(count + 1, CSV_BLOCK_BYTES);
	if (io->memory == NULL) {
		return -ENOMEM;
	}
	at = io->memory + (CSV_BLOCK_BYTES - (uintptr_t)io->memory % CSV_BLOCK_BYTES);
	io->own = at;
	at += CSV_BLOCK_BYTES;
	for (int i = 0; i < READ_COUNT; i++) {
		io->blocks[i] = at;
		at += read_bytes(io, i);
		io->read_ops[i] = (struct uring_op){.fn = read_done, .arg = io};
	}
	for (uint32_t i = 0; i < CSV_SLOT_IO_JOBS_MAX; i++) {
		io->jobs[i].block = at;
		io->jobs[i].back = at + CSV_BLOCK_BYTES;
		at += 2 * (size_t)CSV_BLOCK_BYTES;
	}
	io->write_op = (struct uring_op){.fn = write_done, .arg = io};
	return 0;
}

static int start(struct csv_slot_io *io, struct errbuf *eb)
{
	const struct uring_cfg ring = {
		.entries = RING_ENTRIES,
		.in_loop = true,
		.apart = fs_may_wait(io->fd),
		.force_fallback = io->cfg.force_fallback,
	};
	int err = alloc_blocks(io);

	if (err != 0) {
		return errbuf_set(eb, err, "out of memory");
	}
	err = uring_create(&ring, &io->ring, eb);
	if (err != 0) {
		return err;
	}
	err = loop_fd_add(io->loop, uring_fd(io->ring), LOOP_READ, ready, io, &io->watch);
	if (err == 0) {
		err = loop_timer_add(io->loop, 0, tick, io, &io->timer);
	}
	return err == 0 ? 0 : errbuf_sys(eb, err, "loop");
}

int csv_slot_io_create(const struct csv_slot_io_cfg *cfg, struct loop *loop,
                       struct csv_slot_io **out, struct errbuf *eb)
{
	struct csv_slot_io *io = gw_calloc(1, sizeof(*io));
	int err;

	*out = NULL;
	if (io == NULL) {
		return errbuf_set(eb, -ENOMEM, "out of memory");
	}
	io->cfg = *cfg;
	io->cfg.path = NULL; /* borrowed for this call only */
	io->loop = loop;
	io->fd = -1;
	err = csv_slot_init(&io->slot, &cfg->slot, eb);
	if (err == 0) {
		io->fd = open_device(cfg->path, eb);
		err = io->fd < 0 ? io->fd : start(io, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "liveness slot");
		csv_slot_io_destroy(io);
		return err;
	}
	*out = io;
	return 0;
}

/* A round or a job goes no further: its operations end here. */
static void forget(struct uring_op *op, int32_t res, bool more)
{
	(void)op;
	(void)res;
	(void)more;
}

void csv_slot_io_stop(struct csv_slot_io *io)
{
	if (io == NULL) {
		return;
	}
	loop_timer_del(io->timer);
	io->timer = NULL;
	io->write_op.fn = forget;
	for (int i = 0; i < READ_COUNT; i++) {
		io->read_ops[i].fn = forget;
	}
	for (uint32_t i = 0; i < CSV_SLOT_IO_JOBS_MAX; i++) {
		io->jobs[i].op.fn = forget;
	}
}

bool csv_slot_io_idle(const struct csv_slot_io *io)
{
	return io == NULL || io->ring == NULL || uring_in_flight(io->ring) == 0;
}

void csv_slot_io_destroy(struct csv_slot_io *io)
{
	if (io == NULL) {
		return;
	}
	csv_slot_io_stop(io);
	loop_fd_del(io->watch);
	while (io->ring != NULL && uring_in_flight(io->ring) != 0) {
		CHECK(uring_wait(io->ring, UINT64_MAX) >= 0);
	}
	uring_destroy(io->ring);
	if (io->fd >= 0) {
		(void)close(io->fd);
	}
	free(io->memory);
	free(io);
}

struct csv_slot *csv_slot_io_slot(struct csv_slot_io *io)
{
	return &io->slot;
}

void csv_slot_io_get_stats(const struct csv_slot_io *io, struct csv_slot_io_stats *out)
{
	*out = io->stats;
}
