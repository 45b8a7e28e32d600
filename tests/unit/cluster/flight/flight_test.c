/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/flight/flight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "cluster/flight/flight_wire.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

#define RECORD sizeof(struct flight_record_wire)
#define SMALL (FLIGHT_HEAD_BYTES + 4 * RECORD)

struct fixture {
	struct tree tree;
	char path[160];
	struct flight_cfg cfg;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	tree_init(&f->tree);
	(void)snprintf(f->path, sizeof(f->path), "%s/flight", f->tree.root);
	f->cfg = (struct flight_cfg){.path = f->path, .cluster = {{1}}, .boot = {{2}}, .nodeid = 3};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	tree_fini(&f->tree);
	free(f);
	return 0;
}

static void add(struct flight *f, enum flight_kind kind, uint32_t node, uint32_t value)
{
	flight_add(f,
	           &(struct flight_record){
			   .boot_ns = clock_boot_ns(), .kind = kind, .node = node, .value = value});
}

static void record_put(uint8_t *at, uint64_t seq, uint16_t kind, uint16_t node, uint32_t value)
{
	struct flight_record_wire w = {.seq = le64_make(seq),
	                               .boot_ns = le64_make(1000 * seq),
	                               .kind = le16_make(kind),
	                               .node = le16_make(node),
	                               .value = le32_make(value)};

	w.crc = le32_make(crc32c(&w, sizeof(w) - sizeof(w.crc)));
	memcpy(at, &w, sizeof(w));
}

/* A file with room for four, of which the ring has gone round: 3, 4, 5, 6. */
static void small(uint8_t buf[SMALL])
{
	struct flight_head_wire h = {
		.magic = le64_make(FLIGHT_MAGIC),
		.version = le32_make(FLIGHT_VERSION),
		.records = le32_make(4),
		.cluster = {{1}},
		.boot = {{2}},
		.nodeid = le32_make(3),
		.begin_boot_ns = le64_make(5),
		.begin_wall_ns = le64_make(6),
	};

	memset(buf, 0, SMALL);
	h.crc = le32_make(crc32c(&h, sizeof(h) - sizeof(h.crc)));
	memcpy(buf, &h, sizeof(h));
	record_put(buf + FLIGHT_HEAD_BYTES, 5, FLIGHT_HEARD, 1, 900);
	record_put(buf + FLIGHT_HEAD_BYTES + RECORD, 6, FLIGHT_LATE, 0, 7);
	record_put(buf + FLIGHT_HEAD_BYTES + 2 * RECORD, 3, FLIGHT_HEARD, 1, 2000000);
	record_put(buf + FLIGHT_HEAD_BYTES + 3 * RECORD, 4, FLIGHT_RENEWED, 3, 40);
}

static void a_file_from_the_books_is_read_in_order(void **state)
{
	/* The first bytes of the head and of a record, as docs/formats/flight.md has them. */
	static const uint8_t head[] = {0x21, 0x47, 0x57, 0x46, 0x4c, 0x47, 0x48, 0x31,
	                               1,    0,    0,    0,    4,    0,    0,    0};
	static const uint8_t record[] = {5, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x13, 0, 0,
	                                 0, 0, 0, 0, 4, 0, 1, 0, 0x84, 0x03, 0, 0};
	uint8_t buf[SMALL];
	struct flight_log *log;
	struct flight_summary s;

	(void)state;
	small(buf);
	assert_memory_equal(buf, head, sizeof(head));
	assert_memory_equal(buf + FLIGHT_HEAD_BYTES, record, sizeof(record));
	assert_int_equal(flight_decode(buf, sizeof(buf), &log, NULL), 0);
	assert_int_equal(log->nodeid, 3);
	assert_int_equal(log->begin_wall_ns, 6);
	assert_int_equal(log->last_seq, 6);
	assert_int_equal(log->count, 4);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(log->records[i].boot_ns, 1000 * (3 + i));
	}
	flight_summarise(log, &s);
	assert_int_equal(s.span_ns, 3000);
	assert_int_equal(s.nodes[0].heard, 2);
	assert_int_equal(s.nodes[0].worst, 2000000);
	assert_int_equal(s.nodes[0].worst_ns, 3000);
	assert_int_equal(s.renewed_worst, 40);
	assert_int_equal(s.late_worst, 7);

	json_t *json = flight_json(log);
	const json_t *sum = json_object_get(json, "summary");

	assert_int_equal(json_array_size(json_object_get(json, "records")), 4);
	assert_int_equal(json_integer_value(json_object_get(sum, "late_worst_ns")), 7000);
	json_decref(json);
	free(log);
}

static void every_truncation_and_flipped_bit_is_survived(void **state)
{
	uint8_t buf[SMALL];
	struct flight_log *log;

	(void)state;
	small(buf);
	for (size_t len = 0; len < SMALL; len += len < 100 || len >= FLIGHT_HEAD_BYTES ? 1 : 97) {
		uint8_t *cut = malloc(len + 1); /* its end is guarded */

		assert_non_null(cut);
		memcpy(cut, buf, len);
		int err = flight_decode(cut, len, &log, NULL);

		assert_int_equal(err, len < FLIGHT_HEAD_BYTES ? -EBADMSG : 0);
		if (err == 0) {
			/* Places that are not there are records that are not there. */
			assert_int_equal(log->count, (len - FLIGHT_HEAD_BYTES) / RECORD);
		}
		free(log);
		free(cut);
	}
	for (size_t bit = 0; bit < (size_t)SMALL * 8; bit++) {
		size_t at = bit / 8;

		if (at >= sizeof(struct flight_head_wire) && at < FLIGHT_HEAD_BYTES) {
			continue; /* nobody looks there */
		}
		buf[at] ^= (uint8_t)(1u << bit % 8);
		int err = flight_decode(buf, sizeof(buf), &log, NULL);

		if (at < FLIGHT_HEAD_BYTES) {
			assert_int_equal(err, -EBADMSG);
		} else {
			assert_int_equal(err, 0);
			assert_int_equal(log->count, 3);
			assert_int_equal(log->damaged, 1);
		}
		free(log);
		buf[at] ^= (uint8_t)(1u << bit % 8);
	}
}

static void records_that_cannot_be_are_not_believed(void **state)
{
	uint8_t buf[SMALL];
	struct flight_log *log;

	(void)state;
	small(buf);
	record_put(buf + FLIGHT_HEAD_BYTES, 6, FLIGHT_HEARD, 1, 1);         /* 6 is elsewhere */
	record_put(buf + FLIGHT_HEAD_BYTES + RECORD, 2, FLIGHT_LATE, 0, 1); /* fine, and old */
	record_put(buf + FLIGHT_HEAD_BYTES + 2 * RECORD, 3, FLIGHT_KIND_COUNT, 0, 1);
	record_put(buf + FLIGHT_HEAD_BYTES + 3 * RECORD, 4, FLIGHT_HEARD, 65, 1);
	assert_int_equal(flight_decode(buf, sizeof(buf), &log, NULL), 0);
	assert_int_equal(log->count, 1);
	assert_int_equal(log->damaged, 3);
	free(log);
	/* One from a round long gone lies between new ones. */
	small(buf);
	record_put(buf + FLIGHT_HEAD_BYTES + RECORD, 2, FLIGHT_LATE, 0, 1);
	record_put(buf + FLIGHT_HEAD_BYTES, 9, FLIGHT_LATE, 0, 1);
	assert_int_equal(flight_decode(buf, sizeof(buf), &log, NULL), 0);
	assert_int_equal(log->count, 1); /* 9; what is below 6 is of another round */
	free(log);
}

static void a_service_that_comes_back_goes_on(void **state)
{
	struct fixture *f = *state;
	struct flight_log *log;
	struct flight *flight;

	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	assert_null(flight_before(flight));
	add(flight, FLIGHT_HEARD, 1, 11);
	flight_close(flight);
	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	assert_null(flight_before(flight));
	add(flight, FLIGHT_HEARD, 2, 22);
	assert_int_equal(flight_now(flight, &log), 0);
	assert_int_equal(log->count, 4);
	assert_int_equal(log->records[0].kind, FLIGHT_BEGIN);
	assert_int_equal(log->records[0].value, getpid());
	assert_int_equal(log->records[1].value, 11);
	assert_int_equal(log->records[2].kind, FLIGHT_BEGIN);
	assert_int_equal(log->records[3].value, 22);
	free(log);
	flight_close(flight);
}

static void what_was_before_a_reset_is_kept(void **state)
{
	struct fixture *f = *state;
	struct flight *flight;

	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	add(flight, FLIGHT_HEARD, 1, 11);
	flight_close(flight);
	f->cfg.boot.b[0]++;
	for (uint32_t i = 0; i < 2; i++) { /* also for a service that comes back after it */
		assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
		assert_non_null(flight_before(flight));
		assert_int_equal(flight_before(flight)->count, 2);
		assert_int_equal(flight_before(flight)->records[1].value, 11);
		flight_close(flight);
	}
	/* What is no such file is put aside. */
	tree_file(&f->tree, "/flight", "rubbish");
	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	assert_null(flight_before(flight));
	flight_close(flight);
}

static void the_file_has_it_while_it_goes_on(void **state)
{
	struct fixture *f = *state;
	uint64_t deadline_ns = clock_now_ns() + 60 * NS_PER_S;
	struct flight *flight;
	uint32_t found = 0;

	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	add(flight, FLIGHT_HEARD, 1, 11);
	while (found < 2) {
		struct flight_log *log = NULL;
		char *buf = NULL;
		size_t len = 0;

		assert_true(clock_now_ns() < deadline_ns);
		assert_int_equal(fs_read(f->path, 1 << 22, &buf, &len, NULL), 0);
		assert_int_equal(flight_decode(buf, len, &log, NULL), 0);
		found = log->count;
		free(log);
		free(buf);
		(void)usleep(20000);
	}
	flight_close(flight);
}

static void the_ring_goes_round(void **state)
{
	struct fixture *f = *state;
	struct flight_log *log;
	struct flight *flight;

	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	for (uint32_t i = 0; i < FLIGHT_RECORDS + 10; i++) {
		add(flight, FLIGHT_SENT, 0, i);
	}
	flight_close(flight);
	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	assert_int_equal(flight_now(flight, &log), 0);
	assert_int_equal(log->count, FLIGHT_RECORDS);
	assert_int_equal(log->last_seq, FLIGHT_RECORDS + 12);
	assert_int_equal(log->records[0].value, 11);
	assert_int_equal(log->records[FLIGHT_RECORDS - 2].value, FLIGHT_RECORDS + 9);
	free(log);
	flight_close(flight);
}

static void opening_survives_each_failed_allocation(void **state)
{
	struct fixture *f = *state;
	struct flight *flight;
	int err = -ENOMEM;

	assert_int_equal(flight_open(&f->cfg, &flight, NULL), 0);
	flight_close(flight);
	for (uint32_t k = 1; err != 0; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = flight_open(&f->cfg, &flight, NULL);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
		if (err == 0) {
			flight_close(flight);
		}
	}
}

static void spans_are_clamped(void **state)
{
	(void)state;
	assert_int_equal(flight_us(1999), 1);
	assert_int_equal(flight_us(UINT64_MAX), UINT32_MAX);
	flight_add(NULL, NULL);
	flight_close(NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_file_from_the_books_is_read_in_order),
		T(every_truncation_and_flipped_bit_is_survived),
		T(records_that_cannot_be_are_not_believed),
		T(a_service_that_comes_back_goes_on),
		T(what_was_before_a_reset_is_kept),
		T(the_file_has_it_while_it_goes_on),
		T(the_ring_goes_round),
		T(opening_survives_each_failed_allocation),
		T(spans_are_clamped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
