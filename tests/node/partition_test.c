/* SPDX-License-Identifier: Apache-2.0 */
/*
 * partition on the machine's /dev/kvm, with guests of a few bytes: 32-bit code that a PVH note
 * starts. Without the Hyper-V interface, so that any KVM will do; skipped where there is none.
 */
#include "hv/partition/partition.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/uring.h"
#include "hv/machine/boot_wire.h"
#include "hv/mem/gmem.h"
#include "hv/save/save.h"
#include "tests/lib/test.h"

#define MEMORY_BYTES (8ull << 20)
#define CODE_GPA 0x200000ull
#define COUNTER_GPA 0x300000ull
#define ELF_CODE_AT 0x1000u
#define DEADLINE_NS (60 * NS_PER_S)

struct box {
	struct uring *ring;
	struct partition *p;
	int kernel_fd;
	char out[8192];
	size_t out_bytes;
	unsigned ended, resets, resets_allowed;
	enum partition_end end;
	unsigned done;
};

static void on_console(void *arg, const uint8_t *buf, size_t len)
{
	struct box *b = arg;

	for (size_t i = 0; i < len && b->out_bytes < sizeof(b->out) - 1; i++) {
		b->out[b->out_bytes++] = (char)buf[i];
	}
}

static void on_state(void *arg, enum partition_state from, enum partition_state to)
{
	(void)arg;
	(void)from;
	(void)to;
}

static void on_ended(void *arg, enum partition_end end, const char *text)
{
	struct box *b = arg;

	(void)text;
	b->ended++;
	b->end = end;
}

static void on_crash(void *arg, const uint64_t param[5], const char *text)
{
	(void)arg;
	(void)param;
	(void)text;
}

static bool on_reset(void *arg, uint32_t count)
{
	struct box *b = arg;

	b->resets = count;
	return count <= b->resets_allowed;
}

static const struct partition_events events = {
	.console = on_console,
	.state = on_state,
	.ended = on_ended,
	.crash = on_crash,
	.reset = on_reset,
};

static void on_done(void *arg)
{
	struct box *b = arg;

	b->done++;
}

static int kernel_of(const uint8_t *code, size_t len)
{
	const struct boot_elf_header h = {
		.ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
		.type = le16_make(2),
		.machine = le16_make(62),
		.phoff = le64_make(64),
		.phentsize = le16_make(56),
		.phnum = le16_make(2),
	};
	const struct boot_elf_segment segs[2] = {
		{.type = le32_make(1),
	         .offset = le64_make(ELF_CODE_AT),
	         .paddr = le64_make(CODE_GPA),
	         .filesz = le64_make(len),
	         .memsz = le64_make(len)},
		{.type = le32_make(4), .offset = le64_make(0x200), .filesz = le64_make(20)},
	};
	const struct boot_elf_note note = {
		.name_bytes = le32_make(4), .desc_bytes = le32_make(4), .type = le32_make(18)};
	const le32 entry = le32_make((uint32_t)CODE_GPA);
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	assert_int_equal(pwrite(fd, segs, sizeof(segs), 64), sizeof(segs));
	assert_int_equal(pwrite(fd, &note, sizeof(note), 0x200), sizeof(note));
	assert_int_equal(pwrite(fd, "Xen", 4, 0x20c), 4);
	assert_int_equal(pwrite(fd, &entry, 4, 0x210), 4);
	assert_int_equal(pwrite(fd, code, len, ELF_CODE_AT), len);
	return fd;
}

static struct box *box_new(const uint8_t *code, size_t len, uint32_t vp_count)
{
	struct box *b = calloc(1, sizeof(*b));
	struct errbuf eb = {0};

	assert_non_null(b);
	b->kernel_fd = kernel_of(code, len);
	assert_int_equal(uring_create(&(struct uring_cfg){.entries = 64}, &b->ring, NULL), 0);

	const struct partition_cfg cfg = {
		.vm_name = "tiny",
		.memory_bytes = MEMORY_BYTES,
		.vp_count = vp_count,
		.kvm_fd = -1,
		.kernel_fd = b->kernel_fd,
		.initrd_fd = -1,
		.ring = b->ring,
		.events = &events,
		.events_arg = b,
	};
	int err = partition_create(&cfg, &b->p, &eb);

	if (err != 0) {
		fail_msg("%s", eb.text);
	}
	return b;
}

static void box_start(struct box *b)
{
	struct errbuf eb = {0};

	if (partition_start(b->p, &eb) != 0) {
		fail_msg("%s", eb.text);
	}
}

/* Turn the ring until @cond. */
#define BOX_UNTIL(b, cond)                                                  \
	do {                                                                \
		uint64_t end_ = clock_now_ns() + DEADLINE_NS;               \
		while (!(cond)) {                                           \
			assert_true(clock_now_ns() < end_);                 \
			assert_true(uring_wait((b)->ring, NS_PER_MS) >= 0); \
		}                                                           \
	} while (0)

static void box_free(struct box *b)
{
	if (partition_state_get(b->p) != PARTITION_OFF) {
		unsigned before = b->done;

		partition_stop(b->p, on_done, b);
		BOX_UNTIL(b, b->done != before);
	}
	partition_destroy(b->p);
	uring_destroy(b->ring);
	(void)close(b->kernel_fd);
	free(b);
}

static uint32_t counter(struct box *b)
{
	const volatile uint32_t *at = gmem_range(partition_mem(b->p), COUNTER_GPA, 4);

	return *at;
}

/* ---- guests ---- */

/* mov dx, 3f8; "ok" out; mov dx, 404; mov ax, 3400; out dx, ax; hlt */
static const uint8_t guest_off[] = {0x66, 0xba, 0xf8, 0x03, 0xb0, 'o',  0xee, 0xb0,
                                    'k',  0xee, 0x66, 0xba, 0x04, 0x04, 0x66, 0xb8,
                                    0x00, 0x34, 0x66, 0xef, 0xf4, 0xeb, 0xfd};
/* lock inc dword [300000]; in al, 3fd; jmp */
static const uint8_t guest_count[] = {0xff, 0x05, 0x00, 0x00, 0x30, 0x00, 0x66,
                                      0xba, 0xfd, 0x03, 0xec, 0xeb, 0xf3};
/* add dword [300000], '0'; out it; add dword [300000], 7; mov dx, 433; mov al, 1; out; hlt */
static const uint8_t guest_reset[] = {0x80, 0x05, 0x00, 0x00, 0x30, 0x00, '0',  0xa0, 0x00,
                                      0x00, 0x30, 0x00, 0x66, 0xba, 0xf8, 0x03, 0xee, 0x66,
                                      0xba, 0x33, 0x04, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd};
/* ud2 without an interrupt table */
static const uint8_t guest_fault[] = {0x0f, 0x0b};
/* wait for input on COM1, send it back */
static const uint8_t guest_echo[] = {0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb,
                                     0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef};
/*
 * Put "lock inc byte [9000]; hlt; jmp" (real mode) at 8000, INIT and SIPI to all others through
 * the LAPIC, wait until three have counted, S5.
 */
static const uint8_t guest_smp[] = {
	0xc7, 0x05, 0x00, 0x80, 0x00, 0x00, 0xf0, 0xfe, 0x06, 0x00, /* mov [8000], 0006fef0 */
	0xc7, 0x05, 0x04, 0x80, 0x00, 0x00, 0x90, 0xf4, 0xeb, 0xfd, /* mov [8004], fdebf490 */
	0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x0c, 0x00, /* mov [fee00300], 000c4500 */
	0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x08, 0x46, 0x0c, 0x00, /* mov [fee00300], 000c4608 */
	0x80, 0x3d, 0x00, 0x90, 0x00, 0x00, 0x03,                   /* cmp byte [9000], 3 */
	0x75, 0xf7,                                                 /* jne */
	0x66, 0xba, 0x04, 0x04, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, 0xf4, 0xeb, 0xfd,
};

static void a_guest_prints_and_powers_off(void **state)
{
	struct box *b = box_new(guest_off, sizeof(guest_off), 1);

	(void)state;
	for (unsigned round = 1; round <= 3; round++) { /* it can be started again */
		unsigned before = b->done;

		box_start(b);
		BOX_UNTIL(b, b->ended == round);
		assert_int_equal(b->end, PARTITION_POWERED_OFF);
		partition_stop(b->p, on_done, b);
		BOX_UNTIL(b, b->done != before);
		assert_int_equal(partition_state_get(b->p), PARTITION_OFF);
	}
	assert_string_equal(b->out, "okokok");
	box_free(b);
}

static void a_reset_clears_memory_and_starts_anew(void **state)
{
	struct box *b = box_new(guest_reset, sizeof(guest_reset), 1);

	(void)state;
	b->resets_allowed = 3;
	box_start(b);
	BOX_UNTIL(b, b->ended == 1);
	assert_int_equal(b->resets, 4);
	assert_string_equal(b->out, "0000"); /* never what the boot before had left */
	box_free(b);
}

static void a_triple_fault_is_a_reset(void **state)
{
	struct box *b = box_new(guest_fault, sizeof(guest_fault), 1);

	(void)state;
	b->resets_allowed = 2;
	box_start(b);
	BOX_UNTIL(b, b->ended == 1);
	if (b->end == PARTITION_FAILED) { /* a KVM that interprets such code and no faults in it */
		box_free(b);
		skip();
	}
	assert_int_equal(b->resets, 3);
	box_free(b);
}

static void the_reset_button_works_while_it_runs(void **state)
{
	struct box *b = box_new(guest_count, sizeof(guest_count), 1);

	(void)state;
	b->resets_allowed = 10;
	box_start(b);
	for (unsigned i = 1; i <= 5; i++) {
		BOX_UNTIL(b, counter(b) > 1000);
		assert_int_equal(partition_reset(b->p), 0);
		BOX_UNTIL(b, partition_state_get(b->p) == PARTITION_RUNNING);
		assert_int_equal(b->resets, i);
	}
	box_free(b);
}

static void a_paused_guest_stands_still_200_times(void **state)
{
	struct box *b = box_new(guest_count, sizeof(guest_count), 1);
	unsigned moved = 0;

	(void)state;
	box_start(b);
	for (unsigned i = 0; i < 200; i++) {
		unsigned before = b->done;
		uint32_t at;

		assert_int_equal(partition_pause(b->p, on_done, b), 0);
		BOX_UNTIL(b, b->done != before);
		at = counter(b);
		assert_int_equal(partition_pause(b->p, on_done, b), -EBUSY);
		assert_true(uring_wait(b->ring, 0) >= 0);
		assert_int_equal(counter(b), at);
		assert_int_equal(partition_resume(b->p), 0);
		assert_int_equal(partition_resume(b->p), -EBUSY);
		if (i % 20 == 0) {
			BOX_UNTIL(b, counter(b) != at);
			moved++;
		}
	}
	assert_int_equal(moved, 10);
	box_free(b);
}

static void a_guest_without_storage_stands_still_until_it_is_back(void **state)
{
	struct box *b = box_new(guest_count, sizeof(guest_count), 1);
	unsigned before;
	uint32_t at;

	(void)state;
	box_start(b);
	BOX_UNTIL(b, counter(b) != 0);
	assert_int_equal(partition_well(b->p), -EBUSY);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(partition_critical(b->p), 0);
		assert_int_equal(partition_state_get(b->p), PARTITION_CRITICAL);
		at = counter(b);
		assert_int_equal(partition_critical(b->p), -EBUSY);
		assert_int_equal(partition_pause(b->p, on_done, b), -EBUSY);
		assert_int_equal(partition_resume(b->p), -EBUSY);
		assert_int_equal(partition_reset(b->p), -EBUSY);
		assert_true(uring_wait(b->ring, 0) >= 0);
		assert_int_equal(counter(b), at);
		assert_int_equal(partition_well(b->p), 0);
		BOX_UNTIL(b, counter(b) != at);
	}
	/* The cord can be pulled, and one that is stopped for another reason is not touched. */
	before = b->done;
	assert_int_equal(partition_pause(b->p, on_done, b), 0);
	BOX_UNTIL(b, b->done != before);
	assert_int_equal(partition_critical(b->p), -EBUSY);
	assert_int_equal(partition_resume(b->p), 0);
	assert_int_equal(partition_critical(b->p), 0);
	box_free(b);
}

/* What it said last counts: a guest that has powered off is off, not paused for ever. */
static void a_power_off_is_not_lost_in_a_pause(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		struct box *b = box_new(guest_off, sizeof(guest_off), 1);
		uint64_t end;

		box_start(b);
		/* Without turning the ring: the mail is there and nobody has looked. */
		for (end = clock_now_ns() + i * NS_PER_MS / 4; clock_now_ns() < end;) {
		}

		int err = partition_pause(b->p, on_done, b);

		if (err == 0) { /* it had not got there: it will */
			BOX_UNTIL(b, b->done == 1);
			assert_int_equal(partition_resume(b->p), 0);
		} else {
			assert_int_equal(err, -EBUSY);
			refused++;
		}
		BOX_UNTIL(b, b->ended == 1);
		assert_int_equal(b->end, PARTITION_POWERED_OFF);
		box_free(b);
	}
	assert_true(refused != 0);
}

static void what_is_typed_comes_back(void **state)
{
	static const char text[] =
		"The quick brown fox jumps over the lazy dog, and then sits down to "
		"think about the number of bytes that fit into a FIFO.";
	struct box *b = box_new(guest_echo, sizeof(guest_echo), 1);
	size_t sent = 0;

	(void)state;
	assert_int_equal(partition_console_input(b->p, "x", 1), 0); /* off */
	box_start(b);
	while (sent < sizeof(text) - 1) {
		sent += partition_console_input(b->p, text + sent, sizeof(text) - 1 - sent);
		assert_true(uring_wait(b->ring, NS_PER_MS) >= 0);
	}
	BOX_UNTIL(b, b->out_bytes == sizeof(text) - 1);
	assert_string_equal(b->out, text);
	box_free(b);
}

static void all_processors_start_and_stop(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct box *b = box_new(guest_smp, sizeof(guest_smp), 4);

		box_start(b);
		BOX_UNTIL(b, b->ended == 1);
		assert_int_equal(b->end, PARTITION_POWERED_OFF);
		box_free(b);
	}
}

static void copy_ram(struct box *from, struct box *to)
{
	const void *src = gmem_range(partition_mem(from->p), 0, MEMORY_BYTES);
	void *dst = gmem_range(partition_mem(to->p), 0, MEMORY_BYTES);

	assert_non_null(src);
	memcpy(dst, src, MEMORY_BYTES);
}

static void box_save(struct box *b, uint8_t **blob, size_t *len)
{
	unsigned before = b->done;
	struct save s;

	assert_int_equal(partition_pause(b->p, on_done, b), 0);
	BOX_UNTIL(b, b->done != before);
	save_init(&s);
	assert_int_equal(partition_save(b->p, &s), 0);
	assert_int_equal(save_finish(&s, blob, len), 0);
}

static int box_load(struct box *b, const uint8_t *blob, size_t len, struct errbuf *eb)
{
	struct load l;

	if (partition_start_paused(b->p, eb) != 0) {
		fail_msg("%s", eb->text);
	}
	assert_int_equal(load_init(&l, blob, len, eb), 0);
	return partition_load(b->p, &l);
}

static void a_saved_guest_goes_on_in_another_partition(void **state)
{
	struct box *a = box_new(guest_count, sizeof(guest_count), 1);
	uint8_t *blob;
	size_t len;

	(void)state;
	box_start(a);
	for (unsigned i = 0; i < 5; i++) {
		struct box *b = box_new(guest_count, sizeof(guest_count), 1);
		struct errbuf eb = {0};
		uint32_t at;

		BOX_UNTIL(a, counter(a) > 1000 * (i + 1));
		box_save(a, &blob, &len);
		at = counter(a);
		copy_ram(a, b);
		if (box_load(b, blob, len, &eb) != 0) {
			fail_msg("%s", eb.text);
		}
		assert_int_equal(counter(b), at);
		assert_int_equal(partition_resume(b->p), 0);
		BOX_UNTIL(b, counter(b) > at + 100);
		assert_int_equal(counter(a), at); /* the other one stands */
		assert_int_equal(partition_saved(a->p), 0);
		box_free(a);
		free(blob);
		a = b;
	}
	box_free(a);
}

static void the_state_of_another_machine_is_refused(void **state)
{
	struct box *a = box_new(guest_count, sizeof(guest_count), 2);
	struct box *b = box_new(guest_count, sizeof(guest_count), 1);
	struct errbuf eb = {0};
	uint8_t *blob;
	size_t len;

	(void)state;
	box_start(a);
	box_save(a, &blob, &len);
	assert_int_equal(box_load(b, blob, len, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, "other memory or VPs"));
	/* The one that was saved may go on after all, or stay paused. */
	assert_int_equal(partition_save_cancel(a->p), 0);
	assert_int_equal(partition_state_get(a->p), PARTITION_PAUSED);
	assert_int_equal(partition_save_cancel(a->p), -EBUSY);
	assert_int_equal(partition_resume(a->p), 0);
	BOX_UNTIL(a, counter(a) > 1000);
	free(blob);
	box_free(a);
	box_free(b);
}

/* A device that is not there is refused, unless its section says that it does not matter. */
static void a_section_that_nobody_reads_is_refused(void **state)
{
	struct box *a = box_new(guest_count, sizeof(guest_count), 1);
	uint8_t *blob;
	size_t len;

	(void)state;
	box_start(a);
	box_save(a, &blob, &len);
	for (int mandatory = 0; mandatory < 2; mandatory++) {
		struct box *b = box_new(guest_count, sizeof(guest_count), 1);
		struct errbuf eb = {0};
		struct save s;
		uint8_t *more;
		uint8_t *both;
		size_t more_len;

		save_init(&s);
		save_begin(&s, "teapot.0", 1, mandatory == 1);
		save_end(&s);
		assert_int_equal(save_finish(&s, &more, &more_len), 0);
		both = malloc(len + more_len);
		assert_non_null(both);
		memcpy(both, blob, len);
		memcpy(both + len, more, more_len);
		assert_int_equal(box_load(b, both, len + more_len, &eb),
		                 mandatory == 1 ? -EPROTONOSUPPORT : 0);
		assert_true((strstr(eb.text, "teapot.0") != NULL) == (mandatory == 1));
		free(both);
		free(more);
		box_free(b);
	}
	free(blob);
	box_free(a);
}

static void a_kernel_that_cannot_boot_leaves_it_off(void **state)
{
	struct box *b = box_new(guest_off, sizeof(guest_off), 1);
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(pwrite(b->kernel_fd, "junk", 4, 0), 4);
	assert_int_equal(partition_start(b->p, &eb), -ENOEXEC);
	assert_int_equal(partition_state_get(b->p), PARTITION_OFF);
	assert_true(eb.text[0] != '\0');
	assert_int_equal(partition_reset(b->p), -EBUSY);
	assert_int_equal(partition_power_button(b->p), -EBUSY);
	box_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_prints_and_powers_off),
		cmocka_unit_test(a_reset_clears_memory_and_starts_anew),
		cmocka_unit_test(a_triple_fault_is_a_reset),
		cmocka_unit_test(the_reset_button_works_while_it_runs),
		cmocka_unit_test(a_paused_guest_stands_still_200_times),
		cmocka_unit_test(a_guest_without_storage_stands_still_until_it_is_back),
		cmocka_unit_test(a_power_off_is_not_lost_in_a_pause),
		cmocka_unit_test(what_is_typed_comes_back),
		cmocka_unit_test(all_processors_start_and_stop),
		cmocka_unit_test(a_saved_guest_goes_on_in_another_partition),
		cmocka_unit_test(the_state_of_another_machine_is_refused),
		cmocka_unit_test(a_section_that_nobody_reads_is_refused),
		cmocka_unit_test(a_kernel_that_cannot_boot_leaves_it_off),
	};
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		(void)fprintf(stderr, "skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	(void)close(fd);
	log_set_level(LOG_LEVEL_WARN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
