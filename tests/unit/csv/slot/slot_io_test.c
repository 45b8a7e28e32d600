/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "csv/slot/csv_slot_io.h"
#include "tests/lib/test.h"

static const struct guid volume = {{7}};

struct node {
	struct csv_slot_io *io;
	struct place *place;
	uint32_t did;
	int job_err;
	uint32_t jobs;
};

struct place {
	char path[64];
	struct loop *loop;
	struct timing timing;
	struct node nodes[2];
	bool (*until)(struct place *p);
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct timing_cfg cfg;
	int fd;

	timing_fast(&cfg);
	cfg.slot_ms = 50; /* as fast as it may be, so that the tests are */
	if (p == NULL || timing_init(&cfg, &p->timing, NULL) != 0 || loop_create(&p->loop) != 0) {
		return -1;
	}
	(void)snprintf(p->path, sizeof(p->path), "/var/tmp/gw-slot-XXXXXX");
	fd = mkstemp(p->path);
	if (fd < 0 || ftruncate(fd, (off_t)CSV_SIZE_MIN_BYTES) != 0) {
		return -1;
	}
	(void)close(fd);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	for (int i = 0; i < 2; i++) {
		csv_slot_io_destroy(p->nodes[i].io);
	}
	loop_destroy(p->loop);
	(void)unlink(p->path);
	free(p);
	return 0;
}

static void stop_if(struct place *p)
{
	if (p->until != NULL && p->until(p)) {
		p->until = NULL;
		loop_stop(p->loop);
	}
}

static void on_event(void *arg, uint32_t did)
{
	struct node *n = arg;

	n->did |= did;
	stop_if(n->place);
}

static void on_job(void *arg, int err)
{
	struct node *n = arg;

	n->job_err = err;
	n->jobs++;
	stop_if(n->place);
}

static int boot(struct place *p, uint32_t node, bool fallback, struct errbuf *eb)
{
	const struct csv_slot_io_cfg cfg = {
		.path = p->path,
		.slot = {.volume = volume,
	                 .node_id = {{1, (uint8_t)node}},
	                 .node = node,
	                 .nodes = 8,
	                 .incarnation = 5,
	                 .timing = p->timing},
		.event = on_event,
		.arg = &p->nodes[node],
		.force_fallback = fallback,
	};

	p->nodes[node].place = p;
	return csv_slot_io_create(&cfg, p->loop, &p->nodes[node].io, eb);
}

static void run_until(struct place *p, bool (*until)(struct place *p))
{
	p->until = until;
	loop_run(p->loop);
}

static bool sees_alive(struct place *p, uint32_t by, uint32_t of)
{
	return csv_slot_io_slot(p->nodes[by].io)->peers[of].life == CSV_SLOT_ALIVE;
}

static bool both_see_each_other(struct place *p)
{
	return sees_alive(p, 0, 1) && sees_alive(p, 1, 0);
}

static bool zero_was_told(struct place *p)
{
	return p->nodes[0].jobs != 0;
}

static bool one_got_mail(struct place *p)
{
	return (p->nodes[1].did & CSV_SLOT_DID_MAIL) != 0 && p->nodes[0].jobs != 0;
}

static bool one_is_fenced(struct place *p)
{
	return csv_slot_io_slot(p->nodes[1].io)->state == CSV_SLOT_FENCED && p->nodes[0].jobs != 0;
}

static bool one_left(struct place *p)
{
	return p->nodes[1].jobs != 0 &&
	       csv_slot_io_slot(p->nodes[0].io)->peers[1].life == CSV_SLOT_EMPTY;
}

static void two_nodes(struct place *p, bool fallback)
{
	struct csv_slot_io_stats stats;

	assert_int_equal(boot(p, 0, fallback, NULL), 0);
	assert_int_equal(boot(p, 1, fallback, NULL), 0);
	run_until(p, both_see_each_other);
	assert_true(csv_slot_until_ns(csv_slot_io_slot(p->nodes[0].io)) > 0);

	assert_int_equal(csv_slot_io_message(p->nodes[0].io, 1, 5, CSV_COMMAND_TEST, 9, on_job,
	                                     &p->nodes[0]),
	                 0);
	run_until(p, one_got_mail);
	assert_int_equal(p->nodes[0].job_err, 0);
	assert_int_equal(csv_slot_io_slot(p->nodes[1].io)->mail.argument, 9);

	p->nodes[0].jobs = 0;
	assert_int_equal(csv_slot_io_sentence(p->nodes[0].io, 1, 5, on_job, &p->nodes[0]), 0);
	run_until(p, one_is_fenced);
	assert_int_equal(p->nodes[0].job_err, 0);
	assert_int_equal(csv_slot_io_slot(p->nodes[1].io)->by_node, 0);
	/* Again: it is there. On an earlier run: that is outdated. */
	p->nodes[0].jobs = 0;
	assert_int_equal(csv_slot_io_sentence(p->nodes[0].io, 1, 5, on_job, &p->nodes[0]), 0);
	run_until(p, zero_was_told);
	assert_int_equal(p->nodes[0].job_err, 0);
	p->nodes[0].jobs = 0;
	assert_int_equal(csv_slot_io_sentence(p->nodes[0].io, 1, 4, on_job, &p->nodes[0]), 0);
	run_until(p, zero_was_told);
	assert_int_equal(p->nodes[0].job_err, -ESTALE);
	csv_slot_io_get_stats(p->nodes[0].io, &stats);
	assert_true(stats.rounds > 0);
	assert_int_equal(stats.errors, 0);
}

static void nodes_see_write_to_and_sentence_each_other(void **state)
{
	two_nodes(*state, false);
}

static void they_do_so_without_io_uring(void **state)
{
	two_nodes(*state, true);
}

static void a_node_leaves(void **state)
{
	struct place *p = *state;

	assert_int_equal(boot(p, 0, false, NULL), 0);
	assert_int_equal(boot(p, 1, false, NULL), 0);
	run_until(p, both_see_each_other);
	csv_slot_io_leave(p->nodes[1].io, on_job, &p->nodes[1]);
	run_until(p, one_left);
	assert_int_equal(p->nodes[1].job_err, 0);
}

static bool a_renewal_failed(struct place *p)
{
	struct csv_slot_io_stats stats;

	csv_slot_io_get_stats(p->nodes[0].io, &stats);
	return stats.errors != 0 && (p->nodes[0].did & CSV_SLOT_DID_RENEW) != 0;
}

static void an_error_of_the_disk_is_survived(void **state)
{
	struct place *p = *state;

	for (uint32_t k = 1; k <= 8; k++) {
		fault_arm(FAULT_IO, k);
		assert_int_equal(boot(p, 0, true, NULL), 0);
		run_until(p, a_renewal_failed);
		fault_arm(FAULT_IO, 0);
		csv_slot_io_destroy(p->nodes[0].io);
		p->nodes[0] = (struct node){0};
		assert_int_equal(truncate(p->path, 0), 0);
		assert_int_equal(truncate(p->path, (off_t)CSV_SIZE_MIN_BYTES), 0);
	}
}

static void too_many_jobs_wait(void **state)
{
	struct place *p = *state;
	uint32_t i;

	assert_int_equal(boot(p, 0, false, NULL), 0);
	for (i = 0; i < CSV_SLOT_IO_JOBS_MAX; i++) {
		assert_int_equal(csv_slot_io_sentence(p->nodes[0].io, i, 5, NULL, NULL), 0);
	}
	assert_int_equal(csv_slot_io_sentence(p->nodes[0].io, 1, 5, NULL, NULL), -EAGAIN);
}

static void every_allocation_may_fail(void **state)
{
	struct place *p = *state;
	int err;

	for (uint32_t k = 1;; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = boot(p, 0, false, NULL);
		if (err == 0) {
			break;
		}
		assert_true(err == -ENOMEM);
		assert_null(p->nodes[0].io);
	}
	fault_arm(FAULT_ALLOC, 0);
}

static void what_is_no_volume_is_refused(void **state)
{
	struct place *p = *state;
	struct errbuf eb = {0};

	assert_int_equal(truncate(p->path, 4096), 0);
	assert_int_equal(boot(p, 0, false, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "too small"));
	assert_int_equal(unlink(p->path), 0);
	assert_int_equal(boot(p, 0, false, &eb), -ENOENT);
	assert_non_null(strstr(eb.text, "liveness slot: open"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(nodes_see_write_to_and_sentence_each_other),
		CASE(they_do_so_without_io_uring),
		CASE(a_node_leaves),
		CASE(an_error_of_the_disk_is_survived),
		CASE(too_many_jobs_wait),
		CASE(every_allocation_may_fail),
		CASE(what_is_no_volume_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
