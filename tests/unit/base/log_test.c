/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/child.h"
#include "tests/lib/test.h"

#define FILE_MAX (4u << 20)

static char text[FILE_MAX]; /* of the file read last */

static const char *read_file(const char *path)
{
	FILE *f = fopen(path, "rbe");
	size_t n = f != NULL ? fread(text, 1, sizeof(text) - 1, f) : 0;

	if (f != NULL) {
		(void)fclose(f);
	}
	for (size_t i = 0; i < n; i++) { /* so that strstr() searches binary files too */
		text[i] = text[i] == '\0' ? '\1' : text[i];
	}
	text[n] = '\0';
	return text;
}

static int count(const char *haystack, const char *needle)
{
	int n = 0;

	for (const char *p = strstr(haystack, needle); p != NULL; p = strstr(p + 1, needle)) {
		n++;
	}
	return n;
}

struct fix {
	char dir[64];
	char log[96];
	char dump[96];
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	*state = f;
	if (f == NULL) {
		return -1;
	}
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/godwit-log-XXXXXX");
	if (mkdtemp(f->dir) == NULL) {
		return -1;
	}
	(void)snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
	(void)snprintf(f->dump, sizeof(f->dump), "%s/dump", f->dir);
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	log_close();
	(void)unlink(f->log);
	(void)unlink(f->dump);

	int left = rmdir(f->dir); /* fails if something else was left there */

	free(f);
	return left;
}

static void open_file(const struct fix *f, enum log_level level, uint32_t blackbox_bytes)
{
	const struct log_cfg cfg = {.name = "log-test",
	                            .level = level,
	                            .file = f->log,
	                            .blackbox_bytes = blackbox_bytes};

	assert_int_equal(log_open(&cfg), 0);
}

static void lines_of_the_level_and_above_are_in_the_file(void **state)
{
	struct fix *f = *state;

	open_file(f, LOG_LEVEL_INFO, 0);
	log_err("vmbus", "an error chan=%u", 1u);
	log_warn("vmbus", "a warning");
	log_info("vmbus", "an info");
	log_debug("vmbus", "a debug");
	log_set_level(LOG_LEVEL_TRACE);
	log_trace("vmbus", "a trace");
	log_set_level(LOG_LEVEL_ERR);
	log_warn("vmbus", "a second warning");
	log_close();
	(void)read_file(f->log);
	assert_int_equal(count(text, "\n"), 4);
	assert_non_null(strstr(text, "Z log-test["));
	assert_non_null(strstr(text, "] err   vmbus: an error chan=1\n"));
	assert_non_null(strstr(text, "] warn  vmbus: a warning\n"));
	assert_non_null(strstr(text, "] info  vmbus: an info\n"));
	assert_non_null(strstr(text, "] trace vmbus: a trace\n"));

	struct stat st;

	assert_int_equal(stat(f->log, &st), 0);
	assert_int_equal(st.st_mode & 0777 & ~0640u, 0);
}

static void reopening_appends_and_loses_nothing(void **state)
{
	struct fix *f = *state;

	for (int i = 0; i < 5; i++) {
		open_file(f, LOG_LEVEL_INFO, i % 2 == 0 ? 0 : 64 << 10);
		log_info("test", "round=%d", i);
		if (i == 2) {
			log_close();
		}
	}
	log_close();
	(void)read_file(f->log);
	assert_int_equal(count(text, "\n"), 5);
	assert_non_null(strstr(text, "round=4"));
}

static void a_bad_configuration_is_refused_and_changes_nothing(void **state)
{
	struct fix *f = *state;
	struct log_cfg cfg = {.name = "log-test", .file = "/nonexistent/dir/log"};

	open_file(f, LOG_LEVEL_INFO, 0);
	assert_int_equal(log_open(&cfg), -ENOENT);
	cfg.file = NULL;
	cfg.blackbox_bytes = 100;
	assert_int_equal(log_open(&cfg), -EINVAL);
	cfg.blackbox_bytes = UINT32_MAX;
	assert_int_equal(log_open(&cfg), -EINVAL);
	cfg.blackbox_bytes = 0;
	cfg.name = "";
	assert_int_equal(log_open(&cfg), -EINVAL);
	cfg.name = NULL;
	assert_int_equal(log_open(&cfg), -EINVAL);
	log_info("test", "still here");
	assert_int_equal(count(read_file(f->log), "still here"), 1);
}

static int speak_unopened(void *arg)
{
	(void)arg;
	log_info("test", "too quiet");
	log_warn("test", "before n=%d", 1);
	log_err("test", "\"\x1b[2J\r\n\x7f\" is no terminal");
	return 0;
}

static void before_opening_warnings_go_to_stderr(void **state)
{
	struct child c;

	(void)state;
	assert_int_equal(child_run(speak_unopened, NULL, &c), 0);
	assert_int_equal(count(c.text, "\n"), 2);
	assert_non_null(strstr(c.text, "] warn  test: before n=1\n"));
	assert_non_null(strstr(c.text, "] err   test: \"?[2J???\" is no terminal\n"));
}

static int speak_to_journal(void *arg)
{
	const struct log_cfg cfg = {.name = "log-test", .level = LOG_LEVEL_INFO, .to_stderr = true};
	struct stat st;
	char stream[64];

	(void)arg;
	if (fstat(STDERR_FILENO, &st) != 0) {
		return 1;
	}
	(void)snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
	               (uintmax_t)st.st_ino);
	if (setenv("JOURNAL_STREAM", stream, 1) != 0 || log_open(&cfg) != 0) {
		return 1;
	}
	log_info("test", "for the journal");
	log_err("test", "act");
	return 0;
}

static void the_journal_gets_priorities_and_no_second_time_stamp(void **state)
{
	struct child c;

	(void)state;
	assert_int_equal(child_run(speak_to_journal, NULL, &c), 0);
	assert_int_equal(c.exit_status, 0);
	assert_string_equal(c.text, "<6>test: for the journal\n<3>test: act\n");
}

static void long_messages_continue_on_the_next_line(void **state)
{
	struct fix *f = *state;
	char words[3001];
	char *save = NULL;
	int lines = 0;

	for (int i = 0; i < 300; i++) {
		(void)snprintf(words + 10 * (size_t)i, 11, "word=%04d ", i);
	}
	open_file(f, LOG_LEVEL_INFO, 64 << 10);
	log_info("test", "%s", words);
	assert_true(log_blackbox_dump(f->dump) > 0);

	const char *paths[] = {f->log, f->dump};

	for (size_t i = 0; i < 2; i++) {
		(void)read_file(paths[i]);
		assert_non_null(strstr(text, "test: word=0000 word=0001"));
		assert_non_null(strstr(text, "..."));
		assert_non_null(strstr(text, "word=0180")); /* 1.8 KiB got through, in order */
		assert_true(strstr(text, "word=0100") < strstr(text, "word=0180"));
		assert_null(strstr(text, "too long"));
	}
	(void)read_file(f->log);
	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		assert_in_range(strlen(line), 60, 520);
		lines++;
	}
	assert_in_range(lines, 5, 6);
}

static void the_blackbox_remembers_what_the_file_does_not(void **state)
{
	struct fix *f = *state;
	struct stat st;

	assert_int_equal(log_blackbox_dump(f->dump), -ENODATA);
	open_file(f, LOG_LEVEL_ERR, 64 << 10);
	log_debug("test", "a detail n=%d", 1);
	log_trace("test", "a trifle");

	int bytes = log_blackbox_dump(f->dump);

	assert_true(bytes > 64 << 10);
	assert_int_equal(stat(f->dump, &st), 0);
	assert_int_equal(st.st_size, bytes);
	assert_int_equal(st.st_mode & 0777, 0600);
	(void)read_file(f->dump);
	assert_int_equal(count(text, "a detail n=1"), 1);
	assert_null(strstr(text, "a trifle"));
	assert_string_equal(read_file(f->log), "");
	assert_int_equal(log_blackbox_dump("/nonexistent/dir/dump"), -ENOENT);
	/* The ring wraps: it always holds the newest. */
	for (int i = 0; i < 5000; i++) {
		log_debug("test", "many n=%d", i);
	}
	assert_true(log_blackbox_dump(f->dump) > 0);
	(void)read_file(f->dump);
	assert_null(strstr(text, "a detail n=1"));
	assert_int_equal(count(text, "many n=4999"), 1);
}

/* Our own mappings tell which files they were: others may come and go in that folder meanwhile. */
static void the_blackbox_leaves_no_files_in_shared_memory(void **state)
{
	struct fix *f = *state;
	char *save = NULL;
	int files = 0;

	open_file(f, LOG_LEVEL_ERR, 64 << 10);
	(void)read_file("/proc/self/maps");
	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		char *path = strchr(line, '/');
		char *end = path != NULL ? strstr(path, "/ring-") : NULL;

		if (end != NULL && strstr(end, "-blackbox-") != NULL) {
			assert_non_null(strstr(end, " (deleted)"));
			*end = '\0';
			assert_int_equal(access(path, F_OK), -1); /* the folder is gone, too */
			files++;
		}
	}
	assert_true(files >= 2); /* header and data */
}

/* ---- threads ---- */

#define TALKERS 4
#define TALKS 2000

static void *talk(void *arg)
{
	const int *id = arg;

	for (int i = 0; i < TALKS; i++) {
		log_info("test", "talker=%d n=%d.", *id, i);
		log_debug("test", "talker=%d whispers", *id);
	}
	return NULL;
}

static void lines_of_many_threads_are_all_there_and_whole(void **state)
{
	struct fix *f = *state;
	pthread_t threads[TALKERS];
	int ids[TALKERS];
	int next[TALKERS] = {0};
	char *save = NULL;

	open_file(f, LOG_LEVEL_INFO, 64 << 10);
	for (int i = 0; i < TALKERS; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, talk, &ids[i]), 0);
	}
	for (int i = 0; i < 100; i++) {
		log_set_level(i % 2 == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG);
		(void)sched_yield();
	}
	for (int i = 0; i < TALKERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	(void)read_file(f->log);
	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		int id;
		int n;
		const char *body = strstr(line, "] info  test: talker=");

		if (body == NULL) {
			assert_non_null(strstr(line, "whispers"));
			continue;
		}
		/* NOLINTNEXTLINE(cert-err34-c): our own output */
		assert_int_equal(sscanf(body, "] info  test: talker=%d n=%d.", &id, &n), 2);
		assert_in_range(id, 0, TALKERS - 1);
		assert_int_equal(n, next[id]++);
	}
	for (int i = 0; i < TALKERS; i++) {
		assert_int_equal(next[i], TALKS);
	}
}

/* ---- rate limit ---- */

static void a_limited_site_writes_a_few_lines_and_counts_the_rest(void **state)
{
	struct fix *f = *state;
	struct log_limit limit = {0};
	uint32_t suppressed;

	open_file(f, LOG_LEVEL_INFO, 0);
	for (int i = 0; i < 100; i++) {
		log_limited(&limit, LOG_LEVEL_WARN, "test", "a guest cries n=%d", i);
	}
	assert_int_equal(count(read_file(f->log), "a guest cries"), LOG_LIMIT_PER_WINDOW);
	/* The window has passed. */
	limit.window -= LOG_LIMIT_WINDOW_NS / 1000000 << LOG_LIMIT_COUNT_BITS;
	log_limited(&limit, LOG_LEVEL_WARN, "test", "a guest cries n=%d", 100);
	(void)read_file(f->log);
	assert_int_equal(count(text, "a guest cries"), LOG_LIMIT_PER_WINDOW + 1);
	assert_int_equal(count(text, "warn  test: suppressed similar lines n=95\n"), 1);
	assert_true(log_limit_pass(&limit, &suppressed));
	assert_int_equal(suppressed, 0);
}

static _Atomic uint32_t passed;

static void *hammer(void *arg)
{
	uint32_t suppressed;

	for (int i = 0; i < 10000; i++) {
		passed += log_limit_pass(arg, &suppressed) ? 1 : 0;
	}
	return NULL;
}

static void the_limit_holds_for_any_number_of_threads(void **state)
{
	struct log_limit limit = {0};
	pthread_t threads[TALKERS];

	(void)state;
	for (int i = 0; i < TALKERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, &limit), 0);
	}
	for (int i = 0; i < TALKERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	/* 40000 calls are done within one window, or two on a machine that is asleep. */
	assert_true(passed == LOG_LIMIT_PER_WINDOW || passed == 2 * LOG_LIMIT_PER_WINDOW);
	assert_int_equal(limit.suppressed + passed >= 40000, 1);
}

/* ---- outputs that misbehave ---- */

static int stall(void *arg)
{
	const struct log_cfg cfg = {.name = "log-test", .level = LOG_LEVEL_INFO, .to_stderr = true};
	static char buf[1 << 20];
	struct pollfd readable;
	int p[2];

	(void)arg;
	if (pipe2(p, O_CLOEXEC) != 0 || dup2(p[1], STDERR_FILENO) < 0 || log_open(&cfg) != 0) {
		return 1;
	}
	for (int i = 0; i < 3000; i++) { /* nobody reads: this must not block, nor take long */
		log_info("test", "line n=%d of many more than fit into a pipe", i);
	}

	ssize_t n = read(p[0], buf, sizeof(buf) - 1);

	if (n <= 0) {
		return 2;
	}
	log_info("test", "one that probes");
	log_info("test", "the reader is back");
	readable = (struct pollfd){.fd = p[0], .events = POLLIN};
	while (poll(&readable, 1, 0) == 1 && n < (ssize_t)sizeof(buf) - 1) {
		ssize_t more = read(p[0], buf + n, sizeof(buf) - 1 - (size_t)n);

		if (more <= 0) {
			break;
		}
		n += more;
	}
	buf[n] = '\0';
	return strstr(buf, "log: lines lost n=") != NULL &&
	                       strstr(buf, "the reader is back") != NULL &&
	                       strstr(buf, "line n=0 ") != NULL
	               ? 0
	               : 3;
}

static void a_reader_of_stderr_that_stalls_costs_lines_but_no_time(void **state)
{
	struct child c;

	(void)state;
	assert_int_equal(child_run(stall, NULL, &c), 0);
	assert_int_equal(c.exit_status, 0);
}

#define NO_NAMESPACES 77

/* A mount namespace of its own, in which /dev/log is ours. */
static int speak_to_syslog(void *arg)
{
	const struct log_cfg cfg = {.name = "log-test", .level = LOG_LEVEL_INFO, .to_syslog = true};
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	const char *want[] = {"<28>", "<30>"}; /* daemon.warning, daemon.info */
	char buf[512];

	(void)arg;
	if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", "/dev", "tmpfs", 0, NULL) != 0) {
		return NO_NAMESPACES;
	}

	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    log_open(&cfg) != 0) {
		return 1;
	}
	log_warn("test", "hello n=%d", 1);
	log_info("test", "hello n=%d", 1);
	log_debug("test", "not this");
	for (size_t i = 0; i < 2; i++) {
		ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

		buf[n > 0 ? n : 0] = '\0';
		if (strncmp(buf, want[i], 4) != 0 || strstr(buf, "log-test[") == NULL ||
		    strstr(buf, "]: test: hello n=1") == NULL) {
			(void)fprintf(stderr, "got: %s\n", buf);
			return 2;
		}
	}
	return recv(fd, buf, sizeof(buf), MSG_DONTWAIT) < 0 ? 0 : 3;
}

static void syslog_gets_lines_with_facility_and_priority(void **state)
{
	struct child c;

	(void)state;
	assert_int_equal(child_run(speak_to_syslog, NULL, &c), 0);
	if (c.exit_status == NO_NAMESPACES) {
		print_message("skipped: no mount namespaces here\n");
		skip();
	}
	assert_string_equal(c.text, "");
	assert_int_equal(c.exit_status, 0);
}

static void level_words_are_parsed(void **state)
{
	enum log_level level = LOG_LEVEL_ERR;

	(void)state;
	assert_int_equal(log_level_parse("trace", &level), 0);
	assert_int_equal(level, LOG_LEVEL_TRACE);
	assert_int_equal(log_level_parse("err", &level), 0);
	assert_int_equal(level, LOG_LEVEL_ERR);
	assert_int_equal(log_level_parse("loud", &level), -EINVAL);
	assert_int_equal(log_level_parse("", &level), -EINVAL);
	assert_int_equal(level, LOG_LEVEL_ERR);
}

static void errno_survives(void **state)
{
	struct fix *f = *state;

	open_file(f, LOG_LEVEL_INFO, 0);
	errno = EXDEV;
	log_info("test", "something");
	assert_int_equal(errno, EXDEV);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lines_of_the_level_and_above_are_in_the_file),
		TEST(reopening_appends_and_loses_nothing),
		TEST(a_bad_configuration_is_refused_and_changes_nothing),
		cmocka_unit_test(before_opening_warnings_go_to_stderr),
		cmocka_unit_test(the_journal_gets_priorities_and_no_second_time_stamp),
		TEST(long_messages_continue_on_the_next_line),
		TEST(the_blackbox_remembers_what_the_file_does_not),
		TEST(the_blackbox_leaves_no_files_in_shared_memory),
		TEST(lines_of_many_threads_are_all_there_and_whole),
		TEST(a_limited_site_writes_a_few_lines_and_counts_the_rest),
		cmocka_unit_test(the_limit_holds_for_any_number_of_threads),
		cmocka_unit_test(a_reader_of_stderr_that_stalls_costs_lines_but_no_time),
		cmocka_unit_test(syslog_gets_lines_with_facility_and_priority),
		cmocka_unit_test(level_words_are_parsed),
		TEST(errno_survives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
