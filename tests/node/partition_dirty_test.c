/* SPDX-License-Identifier: Apache-2.0 */

/* Which memory of a running partition was written, with a real KVM: exactly that;
 * and the throttle. */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/uring.h"
#include "hv/mem/gmem.h"
#include "hv/partition/partition.h"
#include "tests/lib/test.h"
#include "tests/lib/tiny_guest.h"

#define MIB (1ull << 20)
#define MEMORY_BYTES (64 * MIB)
#define PAGES (MEMORY_BYTES / GMEM_PAGE_BYTES)
#define WORDS (PAGES / 64)
#define DEADLINE_NS (30ull * NS_PER_S)

struct fixture {
	struct uring *ring;
	struct partition *p;
	struct tiny_command *cmd;
	int kernel_fd;
	uint64_t bits[WORDS];
	uint64_t console_bytes;
	uint32_t resets;
	bool off;
};

static void on_console(void *arg, const uint8_t *buf, size_t len_bytes)
{
	struct fixture *f = arg;

	(void)buf;
	f->console_bytes += len_bytes;
}

static void on_state(void *arg, enum partition_state from, enum partition_state to)
{
	(void)arg;
	(void)from;
	(void)to;
}

static void on_ended(void *arg, enum partition_end end, const char *text)
{
	(void)arg;
	(void)end;
	fail_msg("the partition ended: %s", text);
}

static void on_crash(void *arg, const uint64_t param[5], const char *text)
{
	(void)arg;
	(void)param;
	fail_msg("the guest crashed: %s", text);
}

static bool on_reset(void *arg, uint32_t count)
{
	struct fixture *f = arg;

	f->resets = count;
	return true;
}

static const struct partition_events events = {
	.console = on_console,
	.state = on_state,
	.ended = on_ended,
	.crash = on_crash,
	.reset = on_reset,
};

static void run_until(struct fixture *f, bool (*condition)(struct fixture *f), const char *what)
{
	uint64_t deadline_ns = clock_now_ns() + DEADLINE_NS;

	while (!condition(f)) {
		assert_true(uring_wait(f->ring, NS_PER_S / 1000) >= 0);
		if (clock_now_ns() > deadline_ns) {
			fail_msg("waited too long until %s", what);
		}
	}
}

static void flag_set(void *arg)
{
	*(bool *)arg = true;
}

static bool is_off(struct fixture *f)
{
	return f->off;
}

static bool is_paused(struct fixture *f)
{
	return partition_state_get(f->p) == PARTITION_PAUSED;
}

static bool is_running(struct fixture *f)
{
	return partition_state_get(f->p) == PARTITION_RUNNING;
}

static bool is_waiting(struct fixture *f)
{
	return atomic_load(&f->cmd->op) == TINY_WAIT;
}

static void pause_partition(struct fixture *f)
{
	bool paused = false;

	assert_int_equal(partition_pause(f->p, flag_set, &paused), 0);
	run_until(f, is_paused, "it is paused");
	assert_true(paused);
}

static struct fixture *start(void)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct uring_cfg ring = {.entries = 64};
	struct errbuf eb = {0};

	assert_non_null(f);
	f->kernel_fd = tiny_guest_kernel();
	assert_int_equal(uring_create(&ring, &f->ring, &eb), 0);

	const struct partition_cfg cfg = {
		.vm_name = "tiny",
		.memory_bytes = MEMORY_BYTES,
		.vp_count = 1,
		.kvm_fd = -1,
		.kernel_fd = f->kernel_fd,
		.initrd_fd = -1,
		.ring = f->ring,
		.events = &events,
		.events_arg = f,
	};
	int err = partition_create(&cfg, &f->p, &eb);

	assert_int_equal(err, 0);
	err = partition_start(f->p, &eb);
	if (err != 0) {
		fail_msg("%s", errbuf_text(&eb, err));
	}
	f->cmd = gmem_range(partition_mem(f->p), TINY_COMMAND_GPA, sizeof(*f->cmd));
	return f;
}

static void stop(struct fixture *f)
{
	partition_stop(f->p, flag_set, &f->off);
	run_until(f, is_off, "it is off");
	partition_destroy(f->p);
	uring_destroy(f->ring);
	(void)close(f->kernel_fd);
	free(f);
}

/* A command as a device would give it: written by this process, and said. */
static void command(struct fixture *f, const struct tiny_command *cmd)
{
	f->cmd->gpa = cmd->gpa;
	f->cmd->count = cmd->count;
	f->cmd->stride_bytes = cmd->stride_bytes;
	f->cmd->serial = cmd->serial;
	atomic_store(&f->cmd->value, atomic_load(&cmd->value));
	atomic_store(&f->cmd->op, atomic_load(&cmd->op));
	gmem_dirty(partition_mem(f->p), TINY_COMMAND_GPA, sizeof(*cmd));
}

static void write_once(struct fixture *f, const struct tiny_command *cmd)
{
	command(f, cmd);
	run_until(f, is_waiting, "the guest has written");
}

static void fetch(struct fixture *f)
{
	memset(f->bits, 0, sizeof(f->bits));
	assert_int_equal(partition_dirty_fetch(f->p, 0, f->bits, WORDS), 0);
}

static void expect(uint64_t *want, uint64_t gpa)
{
	want[gpa / GMEM_PAGE_BYTES / 64] |= 1ull << (gpa / GMEM_PAGE_BYTES % 64);
}

static void assert_bits(const struct fixture *f, const uint64_t *want)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		bool got = (f->bits[page / 64] >> (page % 64) & 1) != 0;
		bool wanted = (want[page / 64] >> (page % 64) & 1) != 0;

		if (got != wanted) {
			fail_msg("page %llx is%s reported, was%s written", (unsigned long long)page,
			         got ? "" : " not", wanted ? "" : " not");
		}
	}
}

static void exactly_the_written_pages_are_reported(void **state)
{
	static const struct tiny_command writes[] = {
		{.op = TINY_ONCE, .gpa = 0x200000, .count = 1, .stride_bytes = 4096},
		{.op = TINY_ONCE, .gpa = 0x200000, .count = 512, .stride_bytes = 4096},
		{.op = TINY_ONCE, .gpa = 0x3fff000, .count = 1, .stride_bytes = 4096},
		{.op = TINY_ONCE, .gpa = 0x400ffc, .count = 700, .stride_bytes = 5 * 4096},
		{.op = TINY_ONCE, .gpa = 0x1000000, .count = 3, .stride_bytes = 256 * 4096},
	};
	struct fixture *f = start();
	struct errbuf eb = {0};
	uint64_t want[WORDS];
	uint8_t byte = 1;

	(void)state;
	memset(want, 0, sizeof(want));
	/* What came before is not reported. */
	write_once(f, &writes[3]);
	assert_int_equal(partition_dirty_start(f->p, &eb), 0);
	assert_int_equal(partition_dirty_start(f->p, &eb), -EALREADY);
	fetch(f);
	assert_bits(f, want);
	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		const struct tiny_command *w = &writes[i];
		uint64_t device_gpa = 0x3000000 + i * 0x5000 + 0xfff;

		memset(want, 0, sizeof(want));
		expect(want, TINY_COMMAND_GPA);
		for (uint32_t k = 0; k < w->count; k++) {
			expect(want, w->gpa + k * w->stride_bytes);
		}
		/* And a device of ours, over the border of two pages. */
		assert_int_equal(gmem_write(partition_mem(f->p), device_gpa, &byte, 1), 0);
		assert_int_equal(gmem_write(partition_mem(f->p), device_gpa + 1, &byte, 1), 0);
		expect(want, device_gpa);
		expect(want, device_gpa + 1);
		write_once(f, w);
		pause_partition(f);
		fetch(f);
		assert_bits(f, want);
		memset(want, 0, sizeof(want));
		fetch(f); /* once */
		assert_bits(f, want);
		assert_int_equal(partition_resume(f->p), 0);
	}
	partition_dirty_stop(f->p);
	assert_int_equal(partition_dirty_fetch(f->p, 0, f->bits, WORDS), -EINVAL);
	write_once(f, &writes[1]);
	stop(f);
}

static void a_second_move_begins_clean(void **state)
{
	static const struct tiny_command first = {
		.op = TINY_ONCE, .gpa = 0x200000, .count = 900, .stride_bytes = 4096};
	static const struct tiny_command second = {
		.op = TINY_ONCE, .gpa = 0x900000, .count = 9, .stride_bytes = 8192};
	struct fixture *f = start();
	struct errbuf eb = {0};
	uint64_t want[WORDS] = {0};

	(void)state;
	assert_int_equal(partition_dirty_start(f->p, &eb), 0);
	write_once(f, &first); /* never fetched */
	partition_dirty_stop(f->p);
	write_once(f, &first);
	assert_int_equal(partition_dirty_start(f->p, &eb), 0);
	write_once(f, &second);
	pause_partition(f);
	fetch(f);
	expect(want, TINY_COMMAND_GPA);
	for (uint32_t k = 0; k < second.count; k++) {
		expect(want, second.gpa + k * second.stride_bytes);
	}
	assert_bits(f, want);
	stop(f);
}

/* The way of a move: all, then rounds while the guest writes, then the rest. */
static void copying_by_rounds_copies_everything(void **state)
{
	static const struct tiny_command busy = {
		.op = TINY_FOREVER, .gpa = 0x200000, .count = 12000, .stride_bytes = 4096};
	struct fixture *f = start();
	struct gmem_slot slot;
	struct errbuf eb = {0};
	uint8_t *copy = malloc(MEMORY_BYTES);
	uint32_t rounds = 0;

	(void)state;
	assert_non_null(copy);
	gmem_slot(partition_mem(f->p), 0, &slot);
	assert_int_equal(partition_dirty_start(f->p, &eb), 0);
	memcpy(copy, slot.host, MEMORY_BYTES);
	command(f, &busy);
	for (bool last = false; !last; rounds++) {
		/* Enough passes that a ring fills up several times. */
		last = atomic_load(&f->cmd->value) >= 20 && rounds >= 10;
		if (last) {
			pause_partition(f);
		} else {
			assert_true(uring_wait(f->ring, NS_PER_S / 200) >= 0);
		}
		fetch(f);
		for (uint64_t page = 0; page < PAGES; page++) {
			if ((f->bits[page / 64] >> (page % 64) & 1) != 0) {
				memcpy(copy + page * GMEM_PAGE_BYTES,
				       slot.host + page * GMEM_PAGE_BYTES, GMEM_PAGE_BYTES);
			}
		}
	}
	assert_memory_equal(copy, slot.host, MEMORY_BYTES);
	free(copy);
	stop(f);
}

static void a_guest_that_reboots_has_written_everything(void **state)
{
	static const struct tiny_command once = {
		.op = TINY_ONCE, .gpa = 0x200000, .count = 9, .stride_bytes = 4096};
	struct fixture *f = start();
	struct errbuf eb = {0};
	uint64_t want[WORDS];

	(void)state;
	assert_int_equal(partition_dirty_start(f->p, &eb), 0);
	fetch(f);
	assert_int_equal(partition_reset(f->p), 0);
	run_until(f, is_running, "it runs again");
	assert_int_equal(f->resets, 1);
	pause_partition(f);
	fetch(f);
	memset(want, 0xff, sizeof(want));
	assert_bits(f, want);
	/* And what it writes then is seen. */
	assert_int_equal(partition_resume(f->p), 0);
	write_once(f, &once);
	pause_partition(f);
	fetch(f);
	memset(want, 0, sizeof(want));
	expect(want, TINY_COMMAND_GPA);
	for (uint32_t k = 0; k < once.count; k++) {
		expect(want, once.gpa + k * once.stride_bytes);
	}
	assert_bits(f, want);
	stop(f);
}

#define WINDOW_NS (NS_PER_S / 2)
#define WINDOWS 60

/* CPU time of the VP during a window, device thread busy with nothing. */
static uint64_t cpu_over_a_window(struct fixture *f)
{
	uint64_t end_ns = clock_now_ns() + WINDOW_NS;
	uint64_t before_ns = partition_cpu_ns(f->p);

	while (clock_now_ns() < end_ns) {
		assert_true(uring_wait(f->ring, NS_PER_S / 1000) >= 0);
	}
	return partition_cpu_ns(f->p) - before_ns;
}

/* A busy machine may give the VP nothing in a window, or end its naps late: one window tells,
 * but not which. */
static void throttled_to(struct fixture *f, uint32_t throttle_percent, uint32_t share_percent)
{
	uint64_t cpu_ns = 0;

	assert_int_equal(partition_throttle(f->p, throttle_percent), 0);
	for (uint32_t i = 0; i < WINDOWS; i++) {
		cpu_ns = cpu_over_a_window(f);
		if (cpu_ns > 0 && cpu_ns <= WINDOW_NS / 100 * share_percent) {
			return;
		}
	}
	fail_msg("throttled by %u %%, the VP used %llu ns of the last window, never up to %u %%",
	         throttle_percent, (unsigned long long)cpu_ns, share_percent);
}

static void the_throttle_takes_the_share_it_is_told(void **state)
{
	struct fixture *f = start();

	(void)state;
	assert_int_equal(partition_throttle(f->p, 100), -EINVAL);
	throttled_to(f, 90, 15);
	throttled_to(f, 99, 6);
	/* A stop does not wait for the end of a nap, nor does the end of the throttle. */
	pause_partition(f);
	assert_int_equal(partition_resume(f->p), 0);
	assert_int_equal(partition_throttle(f->p, 0), 0);
	assert_int_equal(partition_throttle(f->p, 50), 0);
	stop(f);
}

static int have_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		(void)close(fd);
	}
	return fd >= 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exactly_the_written_pages_are_reported),
		cmocka_unit_test(a_second_move_begins_clean),
		cmocka_unit_test(copying_by_rounds_copies_everything),
		cmocka_unit_test(a_guest_that_reboots_has_written_everything),
		cmocka_unit_test(the_throttle_takes_the_share_it_is_told),
	};

	if (!have_kvm()) {
		(void)fprintf(stderr, "no /dev/kvm\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
