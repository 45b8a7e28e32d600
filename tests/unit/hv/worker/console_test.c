/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/console.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/uring.h"
#include "tests/lib/test.h"

struct fixture {
	struct uring *ring;
	struct console *console;
	int reader; /* our end of an attached stream */
	char typed[64];
	size_t typed_len;
};

static size_t on_input(const void *buf, size_t len, void *arg)
{
	struct fixture *f = arg;

	for (size_t i = 0; i < len && f->typed_len < sizeof(f->typed); i++) {
		f->typed[f->typed_len++] = ((const char *)buf)[i];
	}
	return len;
}

static void open_console(struct fixture *f, bool fallback)
{
	const struct uring_cfg cfg = {.entries = 16, .force_fallback = fallback};
	int pair[2];

	f->typed_len = 0;
	assert_int_equal(uring_create(&cfg, &f->ring, NULL), 0);
	assert_int_equal(console_create(f->ring, -1, on_input, f, &f->console), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(console_attach(f->console, pair[0]), 0);
	f->reader = pair[1];
}

static void close_console(struct fixture *f)
{
	console_destroy(f->console);
	assert_int_equal(uring_in_flight(f->ring), 0);
	uring_destroy(f->ring);
	(void)close(f->reader);
}

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 7 + at / 251);
}

/* Read all that comes while the ring runs, until @want bytes or the end. Returns how many. */
static size_t read_all(struct fixture *f, size_t want)
{
	uint64_t deadline = clock_now_ns() + 60 * NS_PER_S;
	size_t got = 0;

	while (got < want && clock_now_ns() < deadline) {
		uint8_t buf[8192];
		ssize_t n = recv(f->reader, buf, sizeof(buf), MSG_DONTWAIT);

		for (ssize_t i = 0; i < n; i++) {
			assert_int_equal(buf[i], pattern(got + (size_t)i));
		}
		if (n == 0) {
			break;
		}
		got += n > 0 ? (size_t)n : 0;
		assert_true(uring_wait(f->ring, NS_PER_MS) >= 0);
	}
	return got;
}

/* A guest that writes byte by byte: far more pieces than a socket takes. */
static void test_a_reader_may_lag_behind(void **state)
{
	(void)state;
	for (int fallback = 0; fallback < 2; fallback++) {
		struct fixture f = {0};
		const size_t bytes = 100000;

		open_console(&f, fallback != 0);
		for (size_t i = 0; i < bytes; i++) {
			uint8_t b = pattern(i);

			console_output(f.console, &b, 1);
		}
		assert_int_equal(read_all(&f, bytes), bytes);
		for (size_t i = 0; i < bytes; i++) { /* the ring has wrapped meanwhile */
			uint8_t b = pattern(i);

			console_output(f.console, &b, 1);
		}
		assert_int_equal(read_all(&f, bytes), bytes);
		close_console(&f);
	}
}

static void test_a_reader_that_never_reads_is_dropped(void **state)
{
	struct fixture f = {0};
	const size_t bytes = 1 << 20;
	size_t got;

	(void)state;
	open_console(&f, false);
	for (size_t i = 0; i < bytes; i++) {
		uint8_t b = pattern(i);

		console_output(f.console, &b, 1);
	}
	got = read_all(&f, bytes); /* a part without gaps, then the end */
	assert_true(got < bytes);
	close_console(&f);
}

static void test_what_is_typed_arrives(void **state)
{
	struct fixture f = {0};
	uint64_t deadline = clock_now_ns() + 60 * NS_PER_S;

	(void)state;
	open_console(&f, false);
	assert_int_equal(send(f.reader, "hello", 5, 0), 5);
	while (f.typed_len < 5 && clock_now_ns() < deadline) {
		assert_true(uring_wait(f.ring, NS_PER_MS) >= 0);
	}
	assert_memory_equal(f.typed, "hello", 5);
	close_console(&f);
}

static void test_the_console_may_end_while_a_reader_lags(void **state)
{
	struct fixture f = {0};

	(void)state;
	open_console(&f, false);
	for (size_t i = 0; i < 50000; i++) {
		uint8_t b = pattern(i);

		console_output(f.console, &b, 1);
	}
	assert_int_equal(uring_submit(f.ring) < 0, 0);
	close_console(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_reader_may_lag_behind),
		cmocka_unit_test(test_a_reader_that_never_reads_is_dropped),
		cmocka_unit_test(test_what_is_typed_arrives),
		cmocka_unit_test(test_the_console_may_end_while_a_reader_lags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
