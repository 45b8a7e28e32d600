/* SPDX-License-Identifier: Apache-2.0 */

/* raw_direct_test - a disk of a shared volume whose service is this test: the direct way. With a
 * real service: tests/unit/csv/mount/direct_test.c and tests/node/csv_direct_test.py. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/clock.h"
#include "base/shared_direct.h"
#include "tests/unit/hv/raw/raw_fixture.h"

#define BLOCK 4096u
#define DEVICE_AT (1ull << 20) /* where the file's first block lies */

/* The service's side of one disk. */
struct service {
	int sock;
	int device; /* the "device": a file of its own */
	struct shared_direct_page *page;
	struct blk *blk;
};

/* How many descriptors of the same file this process has, beside @fd. */
static uint32_t others_of(int fd)
{
	struct stat its;
	uint32_t count = 0;

	assert_int_equal(fstat(fd, &its), 0);
	for (int i = 3; i < 256; i++) {
		struct stat st;

		count += i != fd && fstat(i, &st) == 0 && st.st_dev == its.st_dev &&
		         st.st_ino == its.st_ino;
	}
	return count;
}

static void hear(struct raw_fixture *f, struct service *s, enum shared_direct_type type,
                 struct shared_direct_msg *msg)
{
	int fds[SHARED_DIRECT_FDS];
	int err = -EAGAIN;

	while (err == -EAGAIN) {
		assert_true(uring_wait(f->ring, NS_PER_MS) >= 0);
		err = shared_direct_recv(s->sock, msg, fds);
	}
	assert_int_equal(err, 0);
	assert_int_equal(msg->type, type);
}

static void say(const struct service *s, const struct shared_direct_msg *msg)
{
	assert_int_equal(shared_direct_send(s->sock, msg, NULL, 0), 0);
}

/* A disk with the file's first 256 KiB on the device, known and written there. */
static void begin(struct raw_fixture *f, const char *path, struct service *s)
{
	const struct shared_direct_msg welcome = {.type = SHARED_DIRECT_WELCOME, .align_bytes = 1};
	static _Alignas(BLOCK) uint8_t block[BLOCK];
	struct shared_direct_msg msg;
	int page = memfd_create("page", MFD_CLOEXEC);
	int pair[2];

	s->device = memfd_create("device", MFD_CLOEXEC);
	assert_true(page >= 0 && s->device >= 0);
	assert_int_equal(ftruncate(page, SHARED_DIRECT_PAGE_BYTES), 0);
	assert_int_equal(ftruncate(s->device, 2 * DEVICE_AT), 0);
	s->page = mmap(NULL, SHARED_DIRECT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
	assert_ptr_not_equal(s->page, MAP_FAILED);
	atomic_store(&s->page->until_ns, UINT64_MAX);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	s->sock = pair[0];
	s->blk = raw_fixture_open(f, &(struct raw_cfg){.path = path, .direct_fd = pair[1]});

	int lock = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const int fds[SHARED_DIRECT_FDS] = {s->device, page, lock};

	assert_int_equal(shared_direct_send(s->sock, &welcome, fds, SHARED_DIRECT_FDS), 0);
	assert_int_equal(close(lock), 0);
	assert_int_equal(close(page), 0);
	while (others_of(s->device) == 0) {
		assert_true(uring_wait(f->ring, NS_PER_MS) >= 0);
	}
	assert_int_equal(blk_sync_write(s->blk, 0, block, BLOCK), 0); /* by the file */
	hear(f, s, SHARED_DIRECT_MAP, &msg);
	say(s, &(struct shared_direct_msg){
		       .type = SHARED_DIRECT_EXTENTS_ARE,
		       .seq = msg.seq,
		       .count = 1,
		       .extents = {{.device_bytes = DEVICE_AT, .len_bytes = 64 * BLOCK}},
	       });
	assert_int_equal(blk_sync_flush(s->blk), 0);
}

static uint64_t on_device(const struct service *s)
{
	struct raw_stats stats;

	raw_get_stats(s->blk, &stats);
	return stats.on_device;
}

/* Until the extents have arrived: a write goes to the device. */
static void write_there(struct raw_fixture *f, struct service *s, uint8_t value)
{
	_Alignas(BLOCK) uint8_t block[BLOCK];
	uint64_t before = on_device(s);

	memset(block, value, sizeof(block));
	while (on_device(s) == before) {
		assert_int_equal(blk_sync_write(s->blk, BLOCK, block, BLOCK), 0);
		assert_true(uring_wait(f->ring, NS_PER_MS) >= 0);
	}
	assert_int_equal(blk_sync_flush(s->blk), 0); /* what went by the file before that */
}

static void end(struct service *s)
{
	assert_int_equal(blk_close(s->blk, NULL), 0);
	assert_int_equal(others_of(s->device), 0);
	assert_int_equal(munmap(s->page, SHARED_DIRECT_PAGE_BYTES), 0);
	assert_int_equal(close(s->device), 0);
	if (s->sock >= 0) {
		assert_int_equal(close(s->sock), 0);
	}
}

static uint8_t device_byte(const struct service *s, uint64_t at)
{
	uint8_t byte = 0;

	assert_int_equal(pread(s->device, &byte, 1, (off_t)at), 1);
	return byte;
}

static void what_is_known_is_written_and_read_there(void **state)
{
	struct raw_fixture *f = *state;
	struct service s = {0};
	_Alignas(BLOCK) uint8_t block[BLOCK];

	begin(f, f->path, &s);
	write_there(f, &s, 0x5a);
	assert_int_equal(device_byte(&s, DEVICE_AT + BLOCK), 0x5a);
	assert_int_equal(device_byte(&s, DEVICE_AT + 2ull * BLOCK), 0);
	assert_int_equal(pwrite(s.device, "G", 1, (off_t)(DEVICE_AT + 3ull * BLOCK)), 1);
	assert_int_equal(blk_sync_read(s.blk, 3ull * BLOCK, block, BLOCK), 0);
	assert_int_equal(block[0], 'G');
	end(&s);
}

static void nothing_is_begun_when_the_time_is_over(void **state)
{
	struct raw_fixture *f = *state;
	struct service s = {0};
	_Alignas(BLOCK) uint8_t block[BLOCK] = {0x77};
	uint64_t before;

	begin(f, f->path, &s);
	write_there(f, &s, 0x5a);
	atomic_store(&s.page->until_ns, 0);
	before = on_device(&s);
	assert_int_equal(blk_sync_write(s.blk, BLOCK, block, BLOCK), 0);
	assert_int_equal(on_device(&s), before);
	assert_int_equal(device_byte(&s, DEVICE_AT + BLOCK), 0x5a); /* it went by the file */
	end(&s);
}

/* Its number may be another file's by the time it is submitted, which would be flushed instead. */
static void a_flush_that_is_prepared_keeps_the_device_open(void **state)
{
	struct raw_fixture *f = *state;
	struct service s = {0};
	struct raw_probe flush = {.req = {.op = BLK_FLUSH}};

	begin(f, f->path, &s);
	write_there(f, &s, 1);
	assert_int_equal(others_of(s.device), 1);
	assert_true(uring_submit(f->ring) >= 0); /* it listens */
	raw_probe_start(s.blk, &flush);
	assert_int_equal(close(s.sock), 0);
	s.sock = -1;
	while (uring_dispatch(f->ring) == 0) {
		(void)sched_yield();
	}
	/* It knows that the service is gone, but the flush is not submitted yet. */
	assert_int_equal(flush.calls, 0);
	assert_int_equal(others_of(s.device), 1);
	assert_int_equal(raw_probe_wait(s.blk, &flush), 0);
	assert_int_equal(others_of(s.device), 0);
	end(&s);
}

/* The service of the disk that is resized: answers when the other disk's write has arrived. */
struct witness {
	const struct service *its;
	const struct service *other;
	atomic_bool seen;
};

static void *watch(void *arg)
{
	struct witness *w = arg;
	struct shared_direct_msg msg = {0};
	int fds[SHARED_DIRECT_FDS];
	uint8_t byte = 0;
	char none;
	int err;

	do {
		err = shared_direct_recv(w->its->sock, &msg, fds);
	} while (err == -EAGAIN || (err == 0 && msg.type != SHARED_DIRECT_RELEASE));
	while (err != -ENOTCONN && byte != 0xee) {
		if (pread(w->other->device, &byte, 1, (off_t)(DEVICE_AT + BLOCK)) != 1) {
			break;
		}
		err = recv(w->its->sock, &none, 1, MSG_DONTWAIT | MSG_PEEK) == 0 ? -ENOTCONN : 0;
	}
	atomic_store(&w->seen, byte == 0xee);
	msg = (struct shared_direct_msg){.type = SHARED_DIRECT_RELEASED, .seq = msg.seq};
	err = shared_direct_send(w->its->sock, &msg, NULL, 0);
	return err == 0 ? w : NULL;
}

static void prepare_write(struct service *s, struct raw_probe *write, uint8_t *block)
{
	memset(block, 0xee, BLOCK);
	write->iov = (struct iovec){.iov_base = block, .iov_len = BLOCK};
	write->req = (struct blk_req){
		.op = BLK_WRITE,
		.offset_bytes = BLOCK,
		.len_bytes = BLOCK,
		.iov = &write->iov,
		.iov_count = 1,
	};
	raw_probe_start(s->blk, write);
}

static void make_other(const struct raw_fixture *f, char path[80])
{
	int fd;

	(void)snprintf(path, 80, "%s/other.raw", f->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, RAW_FIXTURE_BYTES), 0);
	assert_int_equal(close(fd), 0);
}

/* A look at the time is as old as what is waited for between it and the submission. */
static void what_others_prepared_is_submitted_before_a_size_changes(void **state)
{
	struct raw_fixture *f = *state;
	struct service a = {0};
	struct service b = {0};
	struct witness w = {.its = &b, .other = &a};
	struct raw_probe resize = {
		.req = {.op = BLK_RESIZE, .offset_bytes = RAW_FIXTURE_BYTES / 2}};
	struct raw_probe write;
	_Alignas(BLOCK) uint8_t block[BLOCK];
	char path[80];
	pthread_t thread;

	make_other(f, path);
	begin(f, f->path, &a);
	begin(f, path, &b);
	write_there(f, &a, 1);
	write_there(f, &b, 1);
	assert_int_equal(pthread_create(&thread, NULL, watch, &w), 0);
	raw_probe_start(b.blk, &resize); /* for the next dispatch */
	prepare_write(&a, &write, block);
	while (uring_dispatch(f->ring) == 0) {
		(void)sched_yield();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(atomic_load(&w.seen));
	assert_int_equal(raw_probe_wait(b.blk, &resize), 0);
	assert_int_equal(raw_probe_wait(a.blk, &write), 0);
	end(&b);
	end(&a);
	assert_int_equal(unlink(path), 0);
}

/* A file elsewhere may take as long. */
static void so_it_is_if_the_other_disk_is_on_no_volume(void **state)
{
	struct raw_fixture *f = *state;
	struct service s = {0};
	struct raw_probe resize = {
		.req = {.op = BLK_RESIZE, .offset_bytes = RAW_FIXTURE_BYTES / 2}};
	struct raw_probe write;
	_Alignas(BLOCK) uint8_t block[BLOCK];
	struct blk *other;
	char path[80];

	make_other(f, path);
	other = raw_fixture_open(f, &(struct raw_cfg){.path = path});
	begin(f, f->path, &s);
	write_there(f, &s, 1);
	assert_true(uring_submit(f->ring) >= 0);
	raw_probe_start(other, &resize);
	prepare_write(&s, &write, block);
	while (resize.calls == 0) {
		(void)uring_dispatch(f->ring);
	}
	assert_int_equal(uring_submit(f->ring), 0); /* nothing was left */
	assert_int_equal(raw_probe_wait(s.blk, &write), 0);
	assert_int_equal(device_byte(&s, DEVICE_AT + BLOCK), 0xee);
	end(&s);
	assert_int_equal(blk_close(other, NULL), 0);
	assert_int_equal(unlink(path), 0);
}

#define WITH_FILE(fn)                                                                         \
	cmocka_unit_test_prestate_setup_teardown(fn, raw_fixture_setup, raw_fixture_teardown, \
	                                         &place)

int main(void)
{
	/* One whose results are there without asking for them: uring_dispatch() alone sees them. */
	static struct raw_place place = {.parent = "/var/tmp", .entries = 64, .in_loop = true};
	const struct CMUnitTest tests[] = {
		WITH_FILE(what_is_known_is_written_and_read_there),
		WITH_FILE(nothing_is_begun_when_the_time_is_over),
		WITH_FILE(a_flush_that_is_prepared_keeps_the_device_open),
		WITH_FILE(what_others_prepared_is_submitted_before_a_size_changes),
		WITH_FILE(so_it_is_if_the_other_disk_is_on_no_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
