/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "csv/check/csv_check.h"
#include "csv/daemon/csv_daemon.h"
#include "tests/lib/test.h"

#define SIZE_BYTES (64ull << 20)
#define WAIT_NS (60 * NS_PER_S)
#define SELF 1u

struct world {
	char path[64];
	int fd;
	struct csv_super super;
	struct loop *loop;
	struct csv_daemon *daemon;
	struct csv_daemon_members *members; /* owned */
	struct loop_timer *tick;
	bool (*until)(const struct world *w);
	uint64_t deadline_ns;
	struct csv_volume_req req;
	uint32_t answers;
	int result;
	bool stopped;
};

static int emit(void *arg, uint64_t block, const void *buf)
{
	const struct world *w = arg;

	assert_int_equal(pwrite(w->fd, buf, CSV_BLOCK_BYTES, (off_t)(block * CSV_BLOCK_BYTES)),
	                 (ssize_t)CSV_BLOCK_BYTES);
	return 0;
}

static void say(struct world *w, uint64_t epoch, uint64_t run)
{
	struct csv_daemon_members *m = w->members;

	memset(m, 0, sizeof(*m));
	m->alone = true;
	m->epoch = epoch;
	m->self = SELF;
	timing_fast(&m->timing);
	m->timing.slot_ms = 100;
	(void)snprintf(m->peers[SELF].name, sizeof(m->peers[SELF].name), "n1");
	m->peers[SELF].run = run;
	m->volumes_count = 1;
	(void)snprintf(m->volumes[0].name, sizeof(m->volumes[0].name), "vol1");
	(void)snprintf(m->volumes[0].device, sizeof(m->volumes[0].device), "%s", w->path);
	m->volumes[0].id = w->super.volume;
	m->volumes[0].coordinator = SELF;
	m->volumes[0].quiet = true;
}

static void world_init(struct world *w)
{
	const struct csv_layout_cfg cfg = {.size_bytes = SIZE_BYTES};
	struct csv_daemon_cfg daemon = {.node_id = {{7}}};

	memset(w, 0, sizeof(*w));
	(void)signal(SIGPIPE, SIG_IGN);
	(void)snprintf(w->path, sizeof(w->path), "/var/tmp/gw-csvd-XXXXXX");
	w->fd = mkstemp(w->path);
	assert_true(w->fd >= 0);
	assert_int_equal(ftruncate(w->fd, (off_t)SIZE_BYTES), 0);
	w->super = (struct csv_super){.term = 1, .volume = {{9}}, .label = "vol1"};
	assert_int_equal(csv_layout_make(&cfg, &w->super.layout, NULL), 0);
	assert_int_equal(csv_meta_format(&w->super, 0, emit, w), 0);
	w->members = calloc(1, sizeof(*w->members));
	assert_non_null(w->members);
	assert_int_equal(loop_create(&w->loop), 0);
	daemon.loop = w->loop;
	assert_int_equal(csv_daemon_create(&daemon, &w->daemon, NULL), 0);
}

static void world_fini(struct world *w)
{
	csv_daemon_destroy(w->daemon);
	loop_destroy(w->loop);
	free(w->members);
	(void)close(w->fd);
	assert_int_equal(unlink(w->path), 0);
}

static void on_tick(void *arg)
{
	struct world *w = arg;

	if (w->until(w) || clock_now_ns() > w->deadline_ns) {
		loop_stop(w->loop);
	} else {
		loop_timer_arm(w->tick, 2 * NS_PER_MS);
	}
}

static void run_until(struct world *w, bool (*until)(const struct world *w))
{
	w->until = until;
	w->deadline_ns = clock_now_ns() + WAIT_NS;
	assert_int_equal(loop_timer_add(w->loop, 0, on_tick, w, &w->tick), 0);
	loop_run(w->loop);
	loop_timer_del(w->tick);
	assert_true(until(w));
}

static struct csv_volume_info *info(const struct world *w)
{
	static struct csv_volume_info i;
	const struct csv_volume *v = csv_daemon_volume(w->daemon, "vol1");

	memset(&i, 0, sizeof(i));
	i.state = CSV_VOLUME_PAUSED;
	i.reason = "";
	i.detail = "";
	if (v != NULL) {
		csv_volume_get_info(v, &i);
	}
	return &i;
}

static bool direct(const struct world *w)
{
	return info(w)->state == CSV_VOLUME_DIRECT;
}

static bool device_refused(const struct world *w)
{
	return strcmp(info(w)->reason, "device") == 0;
}

static bool answered(const struct world *w)
{
	return w->answers != 0;
}

static bool gone(const struct world *w)
{
	return csv_daemon_next(w->daemon, NULL) == NULL;
}

static bool stopped(const struct world *w)
{
	return w->stopped;
}

static void on_answer(struct csv_volume_req *r)
{
	struct world *w = r->arg;

	w->answers++;
	w->result = r->req.result;
}

static void ask_create(struct world *w, const char *name)
{
	struct csv_volume *v = csv_daemon_volume(w->daemon, "vol1");

	w->answers = 0;
	memset(&w->req, 0, sizeof(w->req));
	w->req.fn = on_answer;
	w->req.arg = w;
	w->req.req.msg.type = CSV_MSG_OP;
	w->req.req.msg.op.op = CSV_OP_CREATE;
	w->req.req.msg.op.dir = csv_layout_root(&w->super.layout);
	w->req.req.msg.op.name = name;
	w->req.req.msg.op.name_len = (uint32_t)strlen(name);
	w->req.req.msg.op.now_ns = 5;
	csv_volume_submit(v, &w->req);
}

static void ask_flush(struct world *w)
{
	w->answers = 0;
	memset(&w->req, 0, sizeof(w->req));
	w->req.fn = on_answer;
	w->req.arg = w;
	w->req.req.msg.type = CSV_MSG_FLUSH;
	csv_volume_submit(csv_daemon_volume(w->daemon, "vol1"), &w->req);
}

static void on_stopped(void *arg)
{
	struct world *w = arg;

	w->stopped = true;
}

static int disk_read(void *arg, uint64_t block, uint32_t count, void *buf)
{
	const struct world *w = arg;
	size_t len = (size_t)count * CSV_BLOCK_BYTES;

	return pread(w->fd, buf, len, (off_t)(block * CSV_BLOCK_BYTES)) == (ssize_t)len ? 0 : -EIO;
}

static void on_fault(void *arg, bool fault, const char *text)
{
	(void)arg;
	if (fault) {
		fail_msg("%s", text);
	}
}

static void check(struct world *w, uint64_t files)
{
	const struct csv_check_disk disk = {.read = disk_read, .arg = w, .size_bytes = SIZE_BYTES};
	const struct csv_check_cfg cfg = {.say = on_fault};
	struct csv_check_result result;

	assert_int_equal(csv_check_run(&disk, &cfg, &result, NULL), 0);
	assert_int_equal(result.files, files);
	assert_int_equal(result.replayed, 0);
}

static void what_is_asked_for_too_early_waits_and_is_done(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	say(&w, 0, 5);
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, NULL), 0);
	assert_int_equal(csv_volume_root(csv_daemon_volume(w.daemon, "vol1")), 0);
	ask_create(&w, "early");
	assert_int_equal(w.answers, 0);
	run_until(&w, answered);
	assert_int_equal(w.result, 0);
	run_until(&w, direct);
	assert_non_null(info(&w)->coord);
	assert_string_equal(info(&w)->coord, "active");
	assert_int_equal(info(&w)->term, 2);
	ask_create(&w, "early");
	run_until(&w, answered);
	assert_int_equal(w.result, -EEXIST);
	csv_daemon_stop(w.daemon, WAIT_NS, on_stopped, &w);
	run_until(&w, stopped);
	assert_true(gone(&w));
	check(&w, 1);
	world_fini(&w);
}

static void another_volume_on_the_device_is_left_alone(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	say(&w, 0, 5);
	w.members->volumes[0].id.b[3] = 1;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, NULL), 0);
	run_until(&w, device_refused);
	assert_non_null(info(&w)->detail);
	assert_non_null(strstr(info(&w)->detail, "another one"));
	world_fini(&w);
}

static void a_run_that_is_over_loses_its_requests_and_the_next_goes_on(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	say(&w, 3, 5);
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, NULL), 0);
	run_until(&w, direct);
	ask_create(&w, "lost");
	say(&w, 4, 6);
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, NULL), 0);
	run_until(&w, answered);
	assert_true(w.result == -ESTALE || w.result == -ENOTCONN);
	run_until(&w, direct);
	ask_create(&w, "kept");
	run_until(&w, answered);
	assert_int_equal(w.result, 0);
	/* Proven gone, and no member any more. */
	say(&w, 5, 0);
	w.members->fenced[SELF] = 6;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, NULL), 0);
	run_until(&w, gone);
	world_fini(&w);
}

/* Asks for a flush that meets an I/O error; false: the error met I/O of the volume's own. */
static bool flush_fails(struct world *w)
{
	run_until(w, direct);
	fault_arm(FAULT_IO, 1);
	ask_flush(w);
	run_until(w, answered);
	assert_int_equal(fault_hit(FAULT_IO), 1);
	fault_arm(FAULT_IO, 0);
	return w->result == -EIO;
}

/* A device that lost its cache says so once. */
static void a_flush_for_another_that_fails_is_told(void **state)
{
	struct world w;
	int tries = 1;

	(void)state;
	world_init(&w);
	say(&w, 0, 5);
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, NULL), 0);
	while (!flush_fails(&w)) {
		assert_true(++tries < 10);
	}
	ask_flush(&w);
	run_until(&w, answered);
	assert_int_equal(w.result, 0);
	world_fini(&w);
}

static void members_that_make_no_sense_change_nothing(void **state)
{
	struct errbuf eb = {0};
	struct world w;

	(void)state;
	world_init(&w);
	say(&w, 7, 5);
	w.members->volumes_count = 0;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), 0);
	say(&w, 6, 5);
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), -ESTALE);
	/* Sent before, and late. */
	say(&w, 7, 5);
	w.members->volumes_count = 0;
	w.members->index = 20;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), 0);
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), 0);
	say(&w, 7, 5);
	w.members->index = 19;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), -ESTALE);
	assert_true(gone(&w));
	say(&w, 8, 5);
	w.members->volumes[1] = w.members->volumes[0];
	w.members->volumes_count = 2;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), -EINVAL);
	say(&w, 8, 5);
	w.members->alone = false; /* and no term */
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), -EINVAL);
	say(&w, 8, 5);
	w.members->timing.lease_ms = 1;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), -EINVAL);
	say(&w, 8, 5);
	w.members->self = CSV_MSG_NODES;
	assert_int_equal(csv_daemon_set_members(w.daemon, w.members, &eb), -EINVAL);
	assert_true(gone(&w));
	world_fini(&w);
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
	struct csv_daemon_cfg cfg = {.mount_dir = NULL};
	struct csv_daemon *d = NULL;
	struct world w;
	int err = -ENOMEM;

	(void)state;
	world_init(&w);
	cfg.loop = w.loop;
	for (uint32_t k = 1; err != 0; k++) {
		fault_arm(FAULT_ALLOC, k);
		err = csv_daemon_create(&cfg, &d, NULL);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
	}
	csv_daemon_destroy(d);
	err = -ENOMEM;
	for (uint32_t k = 1; err != 0; k++) {
		say(&w, k, 5);
		fault_arm(FAULT_ALLOC, k);
		err = csv_daemon_set_members(w.daemon, w.members, NULL);
		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
	}
	run_until(&w, direct);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_asked_for_too_early_waits_and_is_done),
		cmocka_unit_test(another_volume_on_the_device_is_left_alone),
		cmocka_unit_test(a_run_that_is_over_loses_its_requests_and_the_next_goes_on),
		cmocka_unit_test(a_flush_for_another_that_fails_is_told),
		cmocka_unit_test(members_that_make_no_sense_change_nothing),
		cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
