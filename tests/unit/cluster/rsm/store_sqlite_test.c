/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/rsm/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/loop.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

struct fixture {
	struct tree tree;
	char path[96];
	struct loop *loop;
	struct rsm_store *store;
	uint64_t token;
	uint64_t synced;
	int err;
	uint32_t pairs;
	char value[16];
};

static void on_synced(void *arg, uint64_t token, int err)
{
	struct fixture *f = arg;

	f->synced = token;
	f->err = err;
	loop_stop(f->loop);
}

static int reopen(struct fixture *f, struct errbuf *eb)
{
	struct rsm_mark mark = {.level = 1};
	struct rsm_sqlite_cfg cfg = {
		.path = f->path, .loop = f->loop, .synced = on_synced, .arg = f, .mark = &mark};

	mark.config.count = 1;
	mark.config.nodes[0] = (struct view_node){.nodeid = 1, .votes = 1};
	cfg.uuid.b[0] = 0xaa;
	cfg.cluster.b[0] = 0xcc;
	rsm_sqlite_close(f->store);
	f->store = NULL;
	return rsm_sqlite_open(&cfg, &f->store, eb);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	tree_init(&f->tree);
	(void)snprintf(f->path, sizeof(f->path), "%s/cluster.db", f->tree.root);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(reopen(f, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rsm_sqlite_close(f->store);
	loop_destroy(f->loop);
	tree_fini(&f->tree);
	free(f);
	return 0;
}

static void sync_now(struct fixture *f)
{
	f->token++;
	assert_int_equal(f->store->ops->sync(f->store, f->token), 0);
	loop_run(f->loop);
	assert_int_equal(f->synced, f->token);
	assert_int_equal(f->err, 0);
}

static void append(struct fixture *f, uint64_t index)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "entry %llu", (unsigned long long)index);
	struct rsm_entry e = {.index = index,
	                      .epoch = 3,
	                      .type = RSM_COMMAND,
	                      .payload = (const uint8_t *)text,
	                      .len = (uint32_t)len};

	assert_int_equal(f->store->ops->append(f->store, &e, index * 1000), 0);
}

static void holds(struct fixture *f, uint64_t index)
{
	uint8_t buf[RSM_PAYLOAD_MAX];
	char text[16];
	struct rsm_entry e;
	struct rsm_pos pos;

	(void)snprintf(text, sizeof(text), "entry %llu", (unsigned long long)index);
	assert_int_equal(f->store->ops->read(f->store, index, &e, buf), 0);
	assert_int_equal(e.len, strlen(text));
	assert_memory_equal(e.payload, text, e.len);
	assert_int_equal(f->store->ops->pos(f->store, index, &pos), 0);
	assert_int_equal(pos.hash, index * 1000);
	assert_int_equal(pos.epoch, 3);
}

static void lacks(struct fixture *f, uint64_t index)
{
	uint8_t buf[RSM_PAYLOAD_MAX];
	struct rsm_entry e;

	assert_int_equal(f->store->ops->read(f->store, index, &e, buf), -ENOENT);
}

static int count_pair(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                      size_t value_len)
{
	struct fixture *f = arg;

	f->pairs++;
	if (key_len == 1 && key[0] == 'k' && value_len < sizeof(f->value)) {
		memcpy(f->value, value, value_len);
		f->value[value_len] = '\0';
	}
	return 0;
}

static uint32_t pairs(struct fixture *f)
{
	f->pairs = 0;
	assert_int_equal(f->store->ops->each(f->store, count_pair, f), 0);
	return f->pairs;
}

static void a_new_file_has_what_it_was_given(void **state)
{
	struct fixture *f = *state;
	struct rsm_boot boot;
	struct guid cluster;
	struct guid uuid;

	for (int i = 0; i < 2; i++) {
		f->store->ops->boot(f->store, &boot);
		assert_int_equal(boot.last.index, 0);
		assert_int_equal(boot.mark.level, 1);
		assert_int_equal(boot.mark.config.count, 1);
		rsm_sqlite_identity(f->store, &cluster, &uuid);
		assert_int_equal(uuid.b[0], 0xaa);
		assert_int_equal(cluster.b[0], 0xcc);
		assert_int_equal(reopen(f, NULL), 0);
	}
}

static void what_was_synced_is_there_after_reopening(void **state)
{
	struct fixture *f = *state;
	struct rsm_boot boot;
	struct rsm_mark mark = {.applied = {.index = 2, .epoch = 3, .hash = 2000}, .level = 1};

	assert_int_equal(f->store->ops->promise(f->store, 7), 0);
	for (uint64_t i = 1; i <= 5; i++) {
		append(f, i);
	}
	assert_int_equal(f->store->ops->put(f->store, "k", 1, "v1", 2), 0);
	assert_int_equal(f->store->ops->put(f->store, "gone", 4, "x", 1), 0);
	assert_int_equal(f->store->ops->del(f->store, "gone", 4), 0);
	assert_int_equal(f->store->ops->mark(f->store, &mark), 0);
	sync_now(f);
	append(f, 6);
	holds(f, 6); /* queued ones are read, too */
	assert_int_equal(reopen(f, NULL), 0);
	f->store->ops->boot(f->store, &boot);
	assert_int_equal(boot.promised, 7);
	assert_int_equal(boot.last.index, 5); /* 6 was not synced */
	assert_int_equal(boot.last.hash, 5000);
	assert_int_equal(boot.mark.applied.index, 2);
	holds(f, 1);
	holds(f, 5);
	lacks(f, 6);
	assert_int_equal(pairs(f), 1);
	assert_string_equal(f->value, "v1");
}

static void the_end_and_the_beginning_can_be_cut_off(void **state)
{
	struct fixture *f = *state;
	struct rsm_mark mark = {.applied = {.index = 8, .epoch = 3, .hash = 8000}};
	struct rsm_boot boot;
	struct rsm_pos pos;

	for (uint64_t i = 1; i <= 10; i++) {
		append(f, i);
	}
	assert_int_equal(f->store->ops->mark(f->store, &mark), 0);
	sync_now(f);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(f->store->ops->truncate(f->store, 9), 0);
		assert_int_equal(f->store->ops->trim(f->store, 4), 0);
		lacks(f, 10);
		lacks(f, 4);
		holds(f, 5);
		holds(f, 9);
		assert_int_equal(f->store->ops->pos(f->store, 4, &pos), 0); /* the base */
		assert_int_equal(pos.hash, 4000);
		assert_int_equal(f->store->ops->pos(f->store, 3, &pos), -ENOENT);
		f->store->ops->boot(f->store, &boot);
		assert_int_equal(boot.last.index, 9);
		assert_int_equal(boot.base.index, 4);
		if (i == 0) { /* not synced: all is back */
			assert_int_equal(reopen(f, NULL), 0);
			holds(f, 10);
			holds(f, 1);
		}
	}
	sync_now(f);
	assert_int_equal(reopen(f, NULL), 0);
	lacks(f, 10);
	lacks(f, 4);
	holds(f, 5);
	append(f, 10);
	sync_now(f);
	holds(f, 10);
}

static void a_staged_state_replaces_everything_at_once(void **state)
{
	struct fixture *f = *state;
	struct rsm_mark mark = {.applied = {.index = 100, .epoch = 9, .hash = 5}, .level = 1};
	struct rsm_boot boot;

	append(f, 1);
	assert_int_equal(f->store->ops->put(f->store, "k", 1, "old", 3), 0);
	assert_int_equal(f->store->ops->put(f->store, "o", 1, "x", 1), 0);
	assert_int_equal(f->store->ops->stage_begin(f->store), 0);
	assert_int_equal(f->store->ops->stage_put(f->store, "half", 4, "x", 1), 0);
	sync_now(f);
	assert_int_equal(reopen(f, NULL), 0); /* a crash in the middle */
	assert_int_equal(pairs(f), 2);
	holds(f, 1);
	assert_int_equal(f->store->ops->stage_begin(f->store), 0);
	assert_int_equal(f->store->ops->stage_put(f->store, "k", 1, "new", 3), 0);
	assert_int_equal(f->store->ops->stage_commit(f->store, &mark), 0);
	sync_now(f);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pairs(f), 1);
		assert_string_equal(f->value, "new");
		f->store->ops->boot(f->store, &boot);
		assert_int_equal(boot.last.index, 100);
		assert_int_equal(boot.base.index, 100);
		lacks(f, 1);
		assert_int_equal(reopen(f, NULL), 0);
	}
	append(f, 101);
	sync_now(f);
	holds(f, 101);
}

static void a_snapshot_does_not_see_later_changes(void **state)
{
	struct fixture *f = *state;
	struct rsm_mark mark;
	const uint8_t *key;
	const uint8_t *value;
	size_t key_len;
	size_t value_len;
	void *snap;

	assert_int_equal(f->store->ops->put(f->store, "k", 1, "v1", 2), 0);
	sync_now(f);
	assert_int_equal(f->store->ops->snap_open(f->store, &snap, &mark), 0);
	assert_int_equal(mark.level, 1);
	assert_int_equal(f->store->ops->put(f->store, "k", 1, "v2", 2), 0);
	assert_int_equal(f->store->ops->put(f->store, "l", 1, "v2", 2), 0);
	sync_now(f);
	assert_int_equal(
		f->store->ops->snap_next(f->store, snap, &key, &key_len, &value, &value_len), 1);
	assert_memory_equal(value, "v1", 2);
	assert_int_equal(
		f->store->ops->snap_next(f->store, snap, &key, &key_len, &value, &value_len), 0);
	f->store->ops->snap_close(f->store, snap);
	assert_int_equal(pairs(f), 2);
}

static void a_second_process_is_kept_out(void **state)
{
	struct fixture *f = *state;
	struct rsm_store *first = f->store;
	struct errbuf eb = {{0}, {0}};

	f->store = NULL;
	assert_int_equal(reopen(f, &eb), -EBUSY);
	assert_non_null(strstr(eb.text, "another process"));
	f->store = first;
}

static void rubbish_is_refused(void **state)
{
	struct fixture *f = *state;
	struct errbuf eb = {{0}, {0}};
	char page[4096];
	int fd;

	rsm_sqlite_close(f->store);
	f->store = NULL;
	memset(page, 'x', sizeof(page));
	fd = open(f->path, O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, page, sizeof(page)), (ssize_t)sizeof(page));
	assert_int_equal(close(fd), 0);
	assert_int_equal(reopen(f, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, f->path));
}

static off_t size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

/* A page of a table in the middle: nobody has read it yet, and it is seen all the same. */
static void a_damaged_page_is_refused_and_put_aside(void **state)
{
	struct fixture *f = *state;
	struct errbuf eb = {{0}, {0}};
	char value[2000];
	char aside[136];
	char key[8];
	int fd;

	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 100; i++) {
		int len = snprintf(key, sizeof(key), "k%d", i);

		assert_int_equal(
			f->store->ops->put(f->store, key, (size_t)len, value, sizeof(value)), 0);
	}
	sync_now(f);
	assert_int_equal(reopen(f, NULL), 0);
	assert_int_equal(pairs(f), 100);
	rsm_sqlite_close(f->store); /* the last one writes the log back */
	f->store = NULL;
	assert_true(size_of(f->path) > 30 * 4096);
	fd = open(f->path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, value, 64, (off_t)20 * 4096), 64);
	assert_int_equal(close(fd), 0);
	assert_int_equal(reopen(f, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, f->path));
	assert_int_equal(rsm_sqlite_aside(f->path, 7, NULL), 0);
	(void)snprintf(aside, sizeof(aside), "%s.damaged-7", f->path);
	assert_true(size_of(aside) > 30 * 4096);
	assert_int_equal(reopen(f, NULL), 0);
	assert_int_equal(pairs(f), 0);
}

/* As they are when the power fails: the database and its log beside it. */
static void copy_file(const char *from, const char *to)
{
	FILE *in = fopen(from, "rb");
	FILE *out = fopen(to, "wb");
	char buf[4096];
	size_t n;

	assert_non_null(in);
	assert_non_null(out);
	while ((n = fread(buf, 1, sizeof(buf), in)) != 0) {
		assert_int_equal(fwrite(buf, 1, n, out), n);
	}
	assert_int_equal(fclose(in), 0);
	assert_int_equal(fclose(out), 0);
}

#define WAL_ENTRIES 6u

/* A bit of SQLite's log is wrong after a crash: what comes from there on is cut, at the end of a
 * whole transaction; never is something else there than what was written. */
static void a_flipped_bit_in_the_log_cuts_it(void **state)
{
	struct fixture *f = *state;
	off_t ends[WAL_ENTRIES + 1] = {0};
	char wal[128];
	char crashed[128];
	char crashed_wal[136];

	(void)snprintf(wal, sizeof(wal), "%s-wal", f->path);
	(void)snprintf(crashed, sizeof(crashed), "%s.crashed", f->path);
	(void)snprintf(crashed_wal, sizeof(crashed_wal), "%s-wal", crashed);
	ends[0] = size_of(wal);
	for (uint64_t i = 1; i <= WAL_ENTRIES; i++) {
		append(f, i);
		sync_now(f);
		ends[i] = size_of(wal);
		assert_true(ends[i] > ends[i - 1]);
	}
	copy_file(f->path, crashed);
	copy_file(wal, crashed_wal);
	(void)snprintf(f->path, sizeof(f->path), "%s/other.db", f->tree.root);
	for (uint64_t hit = 1; hit <= WAL_ENTRIES; hit++) {
		char path_wal[128];
		struct rsm_boot boot;
		uint8_t byte;
		int fd;

		rsm_sqlite_close(f->store);
		f->store = NULL;
		(void)snprintf(path_wal, sizeof(path_wal), "%s-wal", f->path);
		copy_file(crashed, f->path);
		copy_file(crashed_wal, path_wal);
		fd = open(path_wal, O_RDWR);
		assert_true(fd >= 0);
		off_t at = ends[hit - 1] + (ends[hit] - ends[hit - 1]) / 2;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_int_equal(close(fd), 0);
		assert_int_equal(reopen(f, NULL), 0);
		f->store->ops->boot(f->store, &boot);
		assert_int_equal(boot.last.index, hit - 1);
		for (uint64_t i = 1; i < hit; i++) {
			holds(f, i);
		}
		lacks(f, hit);
	}
}

static void opening_survives_each_failed_allocation(void **state)
{
	struct fixture *f = *state;
	uint32_t k = 1;

	for (;; k++) {
		rsm_sqlite_close(f->store);
		f->store = NULL;
		fault_arm(FAULT_ALLOC, k);

		int err = reopen(f, NULL);

		fault_arm(FAULT_ALLOC, 0);
		if (err == 0) {
			break;
		}
		assert_int_equal(err, -ENOMEM);
	}
	assert_true(k > 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_file_has_what_it_was_given),
		TEST(what_was_synced_is_there_after_reopening),
		TEST(the_end_and_the_beginning_can_be_cut_off),
		TEST(a_staged_state_replaces_everything_at_once),
		TEST(a_snapshot_does_not_see_later_changes),
		TEST(a_second_process_is_kept_out),
		TEST(rubbish_is_refused),
		TEST(a_damaged_page_is_refused_and_put_aside),
		TEST(a_flipped_bit_in_the_log_cuts_it),
		TEST(opening_survives_each_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
