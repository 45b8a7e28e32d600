/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/manager/store.h"
#include "tests/lib/test.h"

struct fixture {
	char dir[64];
	char path[96];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		return -1;
	}
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/gw-store-XXXXXX");
	*state = f;
	if (mkdtemp(f->dir) == NULL) {
		return -1;
	}
	(void)snprintf(f->path, sizeof(f->path), "%s/godwit.db", f->dir);
	return 0;
}

static int teardown(void **state)
{
	static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
	struct fixture *f = *state;
	char path[128];

	for (size_t i = 0; i < 4; i++) {
		(void)snprintf(path, sizeof(path), "%s%s", f->path, tails[i]);
		(void)unlink(path);
	}
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

static struct vm_store *opened(const struct fixture *f)
{
	struct vm_store *s;
	struct errbuf eb = {0};

	assert_int_equal(store_sqlite_open(f->path, &s, &eb), 0);
	return s;
}

static void put(struct vm_store *s, const char *kind, const char *key, int n)
{
	json_t *v = json_pack("{s:i}", "n", n);

	assert_int_equal(s->ops->put(s, kind, key, v, NULL), 0);
	json_decref(v);
}

struct seen {
	char text[256];
	int stop_after;
};

static int see(void *arg, const char *key, json_t *value)
{
	struct seen *seen = arg;
	size_t used = strlen(seen->text);

	(void)snprintf(seen->text + used, sizeof(seen->text) - used, "%s=%d ", key,
	               (int)json_integer_value(json_object_get(value, "n")));
	return seen->stop_after != 0 && --seen->stop_after == 0 ? -ECANCELED : 0;
}

static void all_is(struct vm_store *s, const char *kind, const char *want)
{
	struct seen seen = {0};

	assert_int_equal(s->ops->each(s, kind, see, &seen, NULL), 0);
	assert_string_equal(seen.text, want);
}

static void values_are_kept_by_kind_and_key(void **state)
{
	struct vm_store *s = opened(*state);
	struct seen seen = {.stop_after = 2};

	put(s, "vm", "b", 2);
	put(s, "vm", "a", 1);
	put(s, "vm", "c", 3);
	put(s, "switch", "a", 9);
	put(s, "vm", "b", 22);
	all_is(s, "vm", "a=1 b=22 c=3 ");
	all_is(s, "switch", "a=9 ");
	all_is(s, "nothing", "");
	assert_int_equal(s->ops->remove(s, "vm", "a", NULL), 0);
	assert_int_equal(s->ops->remove(s, "vm", "never there", NULL), 0);
	all_is(s, "vm", "b=22 c=3 ");
	assert_int_equal(s->ops->each(s, "vm", see, &seen, NULL), -ECANCELED);
	/* Text is text, whatever it looks like. */
	put(s, "vm", "x'; DROP TABLE object; --", 5);
	all_is(s, "vm", "b=22 c=3 x'; DROP TABLE object; --=5 ");
	s->ops->close(s);
	s = opened(*state);
	all_is(s, "vm", "b=22 c=3 x'; DROP TABLE object; --=5 ");
	s->ops->close(s);
}

/* The process dies without a word after a put that returned. */
static void a_put_that_returned_survives_the_process(void **state)
{
	const struct fixture *f = *state;
	struct vm_store *s;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		s = opened(f);
		put(s, "vm", "kept", 7);
		_exit(3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 3);
	s = opened(f);
	all_is(s, "vm", "kept=7 ");
	s->ops->close(s);
}

static void a_damaged_file_is_refused(void **state)
{
	const struct fixture *f = *state;
	char junk[8192];
	struct vm_store *s = (struct vm_store *)(uintptr_t)1;
	struct errbuf eb = {0};
	int fd = open(f->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	memset(junk, 'j', sizeof(junk));
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	(void)close(fd);
	assert_int_equal(store_sqlite_open(f->path, &s, &eb), -EBADMSG);
	assert_null(s);
	assert_memory_equal(eb.text, "database: ", 10);
}

static void a_damaged_page_is_found_when_it_is_read(void **state)
{
	const struct fixture *f = *state;
	struct vm_store *s = opened(f);
	char junk[4096];
	struct errbuf eb = {0};
	struct seen seen = {0};
	int fd;
	int err;

	for (int i = 0; i < 300; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%05d", i);
		put(s, "vm", key, i);
	}
	s->ops->close(s); /* the log goes into the file */
	fd = open(f->path, O_WRONLY | O_CLOEXEC);
	memset(junk, 0x55, sizeof(junk));
	assert_int_equal(pwrite(fd, junk, sizeof(junk), 4096), sizeof(junk));
	(void)close(fd);
	err = store_sqlite_open(f->path, &s, &eb);
	if (err == 0) {
		err = s->ops->each(s, "vm", see, &seen, &eb);
		s->ops->close(s);
	}
	assert_int_equal(err, -EBADMSG);
}

static void a_newer_version_is_left_alone(void **state)
{
	const struct fixture *f = *state;
	struct vm_store *s = opened(f);
	struct errbuf eb = {0};
	const uint8_t newer[4] = {0, 0, 0, 2};
	int fd;

	s->ops->close(s);
	fd = open(f->path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, newer, 4, 60), 4); /* user_version, big-endian, at 60 */
	(void)close(fd);
	assert_int_equal(store_sqlite_open(f->path, &s, &eb), -EBADMSG);
	assert_non_null(strstr(eb.text, "newer"));
	assert_true(eb.hint[0] != '\0');
}

static void a_place_that_is_not_there_is_named(void **state)
{
	struct vm_store *s;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(store_sqlite_open("/nonexistent/x.db", &s, &eb), -ENOENT);
	assert_non_null(strstr(eb.text, "/nonexistent/x.db"));
	assert_null(s);
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(store_sqlite_open("/nonexistent/x.db", &s, &eb), -ENOMEM);
	fault_arm(FAULT_ALLOC, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(values_are_kept_by_kind_and_key),
		TEST(a_put_that_returned_survives_the_process),
		TEST(a_damaged_file_is_refused),
		TEST(a_damaged_page_is_found_when_it_is_read),
		TEST(a_newer_version_is_left_alone),
		TEST(a_place_that_is_not_there_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
