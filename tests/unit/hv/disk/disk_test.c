/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/raw/raw.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

#define MIB (1024ll * 1024)
#define ROUNDS_MAX 5000u /* allocations of one operation; far fewer are expected */

struct place {
	struct tree tree;
	char path[256];
	char other[256];
	struct errbuf eb;
};

static int place_setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	tree_init(&p->tree);
	*state = p;
	return 0;
}

static int place_teardown(void **state)
{
	struct place *p = *state;

	tree_fini(&p->tree);
	free(p);
	return 0;
}

static const char *at(struct place *p, const char *name)
{
	(void)snprintf(p->path, sizeof(p->path), "%s/%s", p->tree.root, name);
	return p->path;
}

static const char *other(struct place *p, const char *name)
{
	(void)snprintf(p->other, sizeof(p->other), "%s/%s", p->tree.root, name);
	return p->other;
}

/* Run with @request, which is taken. *out NULL: only whether it works. */
static int run(struct place *p, enum disk_op op, json_t *request, json_t **out)
{
	json_t *result = NULL;
	int err;

	p->eb = (struct errbuf){.text = ""};
	assert_non_null(request);
	err = disk_run(op, request, NULL, NULL, &result, &p->eb);
	assert_true((err == 0) == (result != NULL));
	assert_true((err == 0) == (p->eb.text[0] == '\0'));
	json_decref(request);
	if (out != NULL) {
		*out = result;
	} else {
		json_decref(result);
	}
	return err;
}

static void make(struct place *p, const char *name, int64_t size)
{
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I}", "path", at(p, name), "size_bytes", size), NULL),
	                 0);
}

static void make_child(struct place *p, const char *name, const char *parent)
{
	assert_int_equal(
		run(p, DISK_CREATE,
	            json_pack("{s:s,s:s}", "path", at(p, name), "parent", other(p, parent)), NULL),
		0);
}

static void expect(struct place *p, const char *name, const char *key, const char *text)
{
	json_t *disk;

	assert_int_equal(run(p, DISK_SHOW, json_pack("{s:s}", "path", at(p, name)), &disk), 0);
	assert_string_equal(json_string_value(json_object_get(disk, key)), text);
	json_decref(disk);
}

static void expect_number(struct place *p, const char *name, const char *key, int64_t number)
{
	json_t *disk;

	assert_int_equal(run(p, DISK_SHOW, json_pack("{s:s}", "path", at(p, name)), &disk), 0);
	assert_int_equal(json_integer_value(json_object_get(disk, key)), number);
	json_decref(disk);
}

static bool exists(struct place *p, const char *name)
{
	return access(at(p, name), F_OK) == 0;
}

/* ---- create and show ---- */

static void the_name_decides_over_the_format(void **state)
{
	struct place *p = *state;

	make(p, "a.vhdx", 64 * MIB);
	make(p, "a.img", 64 * MIB);
	expect(p, "a.vhdx", "format", "vhdx");
	expect(p, "a.vhdx", "kind", "dynamic");
	expect(p, "a.img", "format", "raw");
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I,s:s}", "path", at(p, "b.vhdx"), "size_bytes", MIB,
	                               "format", "raw"),
	                     NULL),
	                 -EINVAL);
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I,s:s}", "path", at(p, "b.img"), "size_bytes", MIB,
	                               "format", "vhdx-fixed"),
	                     NULL),
	                 -EINVAL);
	assert_false(exists(p, "b.vhdx") || exists(p, "b.img"));
}

static void sectors_and_blocks_are_as_asked(void **state)
{
	static const struct {
		const char *word;
		int64_t logical, physical;
	} cases[] = {{"512", 512, 512}, {"512e", 512, 4096}, {"4kn", 4096, 4096}};
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "%s.vhdx", cases[i].word);
		assert_int_equal(run(p, DISK_CREATE,
		                     json_pack("{s:s,s:I,s:s,s:I,s:s}", "path", at(p, name),
		                               "size_bytes", 64 * MIB, "sectors", cases[i].word,
		                               "block_bytes", MIB, "format", "vhdx-fixed"),
		                     NULL),
		                 0);
		expect_number(p, name, "logical_sector_bytes", cases[i].logical);
		expect_number(p, name, "physical_sector_bytes", cases[i].physical);
		expect_number(p, name, "block_bytes", MIB);
		expect_number(p, name, "blocks_present", 64);
		expect(p, name, "kind", "fixed");
	}
	/* A raw image cannot remember any. */
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I,s:s}", "path", at(p, "a.img"), "size_bytes",
	                               64 * MIB, "sectors", "4kn"),
	                     NULL),
	                 -EINVAL);
}

static void nothing_is_overwritten(void **state)
{
	struct place *p = *state;

	make(p, "a.vhdx", 64 * MIB);
	tree_file(&p->tree, "/b.img", "precious");
	tree_link(&p->tree, "/c.img", "/nowhere");
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I}", "path", at(p, "a.vhdx"), "size_bytes", MIB),
	                     NULL),
	                 -EEXIST);
	assert_int_equal(
		run(p, DISK_CONVERT,
	            json_pack("{s:s,s:s}", "path", at(p, "a.vhdx"), "to", other(p, "b.img")), NULL),
		-EEXIST);
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I}", "path", at(p, "c.img"), "size_bytes", MIB),
	                     NULL),
	                 -EEXIST);
	expect_number(p, "a.vhdx", "size_bytes", 64 * MIB);
	assert_int_equal(access("/nowhere", F_OK), -1);
}

static void what_makes_no_sense_is_refused_and_named(void **state)
{
	static const struct {
		enum disk_op op;
		const char *request;
		const char *text;
	} cases[] = {
		{DISK_SHOW, "{}", "path"},
		{DISK_SHOW, "{\"path\": \"relative\"}", "absolute"},
		{DISK_SHOW, "{\"path\": \"/nonexistent/a\"}", "/nonexistent/a"},
		{DISK_SHOW, "{\"path\": \"/dev/null\", \"x\": 1}", "x"},
		{DISK_CREATE, "{\"path\": \"/tmp/a.img\"}", "size_bytes"},
		{DISK_CREATE, "{\"path\": \"/tmp/a.img\", \"size_bytes\": 0}", "size_bytes"},
		{DISK_CREATE, "{\"path\": \"/nonexistent/a.img\", \"size_bytes\": 512}",
	         "/nonexistent"},
		{DISK_CREATE, "{\"path\": \"/tmp/\", \"size_bytes\": 512}", "/tmp/"},
		{DISK_CREATE, "{\"path\": \"/tmp/a.img\", \"size_bytes\": 512, \"format\": \"q\"}",
	         "format"},
		{DISK_CREATE, "{\"path\": \"/tmp/a.img\", \"parent\": \"/tmp/b.vhdx\"}", "parent"},
		{DISK_CREATE, "{\"path\": \"/tmp/a.vhdx\", \"parent\": \"/nonexistent/b.vhdx\"}",
	         "/nonexistent/b.vhdx"},
		{DISK_RESIZE, "{\"path\": \"/tmp/a.img\"}", "size_bytes"},
		{DISK_CONVERT, "{\"path\": \"/tmp/a.img\"}", "to"},
		{DISK_CONVERT, "{\"path\": \"/tmp/a.img\", \"to\": \"b\"}", "to"},
		{DISK_CONVERT, "{\"path\": \"/tmp/a\", \"to\": \"/b\", \"from\": \"z\"}", "from"},
		{DISK_CHECK, "{\"path\": \"/tmp/a.vhdx\", \"repair\": 1}", "repair"},
		{DISK_MERGE, "{\"path\": \"/nonexistent/a.vhdx\"}", "/nonexistent/a.vhdx"},
	};
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int err = run(p, cases[i].op, json_loads(cases[i].request, 0, NULL), NULL);

		assert_true(err == -EINVAL || err == -ENOENT);
		if (strstr(p->eb.text, cases[i].text) == NULL) {
			fail_msg("%s: \"%s\"", cases[i].request, p->eb.text);
		}
	}
	assert_int_equal(run(p, DISK_SHOW, json_pack("[]"), NULL), -EINVAL);
}

/* ---- safety ---- */

static void a_guest_cannot_make_its_raw_disk_a_vhdx(void **state)
{
	struct place *p = *state;
	json_t *disk;

	make(p, "a.vhdx", 64 * MIB);
	(void)at(p, "a.vhdx");
	assert_int_equal(rename(p->path, other(p, "guest.img")), 0);
	for (enum disk_op op = DISK_SHOW; op < DISK_OP_COUNT; op++) {
		json_t *request = json_pack("{s:s}", "path", at(p, "guest.img"));

		if (op == DISK_CREATE) {
			json_decref(request);
			continue;
		}
		if (op == DISK_RESIZE) {
			(void)json_object_set_new(request, "size_bytes", json_integer(128 * MIB));
		} else if (op == DISK_CONVERT) {
			(void)json_object_set_new(request, "to", json_string(other(p, "b.vhdx")));
		}
		assert_int_equal(run(p, op, request, NULL), -EINVAL);
		assert_non_null(strstr(p->eb.text, "begins as a VHDX"));
	}
	/* Told what it is, it is taken byte for byte. */
	assert_int_equal(run(p, DISK_CONVERT,
	                     json_pack("{s:s,s:s,s:s}", "path", at(p, "guest.img"), "to",
	                               other(p, "b.vhdx"), "from", "raw"),
	                     &disk),
	                 0);
	assert_int_equal(json_integer_value(json_object_get(disk, "size_bytes")), 4 * MIB);
	json_decref(disk);
}

static void images_of_others_are_named(void **state)
{
	struct place *p = *state;
	json_t *disk;
	int fd = open(at(p, "web.img"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "QFI\xfb", 4, 0), 4);
	assert_int_equal(ftruncate(fd, MIB), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(
		run(p, DISK_CONVERT,
	            json_pack("{s:s,s:s}", "path", at(p, "web.img"), "to", other(p, "b.vhdx")),
	            NULL),
		-EINVAL);
	assert_non_null(strstr(p->eb.text, "qcow2"));
	assert_non_null(strstr(p->eb.hint, "qemu-img convert"));
	assert_int_equal(run(p, DISK_CONVERT,
	                     json_pack("{s:s,s:s,s:s}", "path", at(p, "web.img"), "to",
	                               other(p, "b.vhdx"), "from", "raw"),
	                     &disk),
	                 0);
	json_decref(disk);
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I}", "path", at(p, "new.qcow2"), "size_bytes",
	                               (json_int_t)MIB),
	                     NULL),
	                 -EINVAL);
	assert_non_null(strstr(p->eb.hint, ".vhdx"));
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I,s:s}", "path", at(p, "new.qcow2"), "size_bytes",
	                               (json_int_t)MIB, "format", "raw"),
	                     &disk),
	                 0);
	json_decref(disk);
}

static void an_image_in_use_is_refused(void **state)
{
	struct place *p = *state;
	int fd;

	make(p, "a.vhdx", 64 * MIB);
	fd = raw_open_fd(at(p, "a.vhdx"), false, NULL);
	assert_true(fd >= 0);
	assert_int_equal(run(p, DISK_SHOW, json_pack("{s:s}", "path", at(p, "a.vhdx")), NULL),
	                 -EBUSY);
	assert_int_equal(run(p, DISK_CHECK, json_pack("{s:s}", "path", at(p, "a.vhdx")), NULL),
	                 -EBUSY);
	assert_int_equal(
		run(p, DISK_RESIZE,
	            json_pack("{s:s,s:I}", "path", at(p, "a.vhdx"), "size_bytes", 128 * MIB), NULL),
		-EBUSY);
	assert_int_equal(
		run(p, DISK_CREATE,
	            json_pack("{s:s,s:s}", "path", at(p, "b.vhdx"), "parent", other(p, "a.vhdx")),
	            NULL),
		-EBUSY);
	(void)close(fd);
	expect_number(p, "a.vhdx", "size_bytes", 64 * MIB);
	assert_false(exists(p, "b.vhdx"));
}

static bool stop_at_once(uint64_t done, uint64_t total, void *arg)
{
	uint32_t *calls = arg;

	assert_true(done <= total);
	++*calls;
	return false;
}

static void what_is_interrupted_leaves_nothing(void **state)
{
	struct place *p = *state;
	json_t *request;
	json_t *out;
	uint32_t calls = 0;

	make(p, "a.img", 64 * MIB);
	request = json_pack("{s:s,s:s}", "path", at(p, "a.img"), "to", other(p, "b.vhdx"));
	assert_int_equal(disk_run(DISK_CONVERT, request, stop_at_once, &calls, &out, &p->eb),
	                 -ECANCELED);
	assert_null(out);
	assert_true(calls > 0);
	assert_null(strstr(p->eb.text, ".partial"));
	assert_false(exists(p, "b.vhdx") || exists(p, ".b.vhdx.partial"));
	json_decref(request);
}

static void what_a_crash_left_is_made_anew(void **state)
{
	struct place *p = *state;
	int fd;

	tree_file(&p->tree, "/.a.vhdx.partial", "half of something");
	make(p, "a.vhdx", 64 * MIB);
	assert_false(exists(p, ".a.vhdx.partial"));
	/* Unless it is no crash, but somebody else at work. */
	tree_file(&p->tree, "/.b.vhdx.partial", "half of something");
	fd = raw_open_fd(at(p, ".b.vhdx.partial"), false, NULL);
	assert_true(fd >= 0);
	assert_int_equal(run(p, DISK_CREATE,
	                     json_pack("{s:s,s:I}", "path", at(p, "b.vhdx"), "size_bytes", MIB),
	                     NULL),
	                 -EBUSY);
	assert_true(exists(p, ".b.vhdx.partial"));
	(void)close(fd);
}

/* ---- content ---- */

static void put(struct place *p, const char *name, int64_t offset, const char *text)
{
	int fd = open(at(p, name), O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, strlen(text), offset), strlen(text));
	(void)close(fd);
}

static void expect_text(struct place *p, const char *name, int64_t offset, const char *text)
{
	char buf[64] = "";
	int fd = open(at(p, name), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, strlen(text), offset), strlen(text));
	assert_string_equal(buf, text);
	(void)close(fd);
}

static void there_and_back_again_is_the_same(void **state)
{
	static const char *const formats[] = {"vhdx-dynamic", "vhdx-fixed"};
	struct place *p = *state;
	struct stat st;

	make(p, "a.img", 96 * MIB);
	put(p, "a.img", 5, "near the begin");
	put(p, "a.img", 96 * MIB - 8, "the end.");
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		assert_int_equal(run(p, DISK_CONVERT,
		                     json_pack("{s:s,s:s,s:s}", "path", at(p, "a.img"), "to",
		                               other(p, "b.vhdx"), "format", formats[i]),
		                     NULL),
		                 0);
		assert_int_equal(run(p, DISK_CONVERT,
		                     json_pack("{s:s,s:s}", "path", at(p, "b.vhdx"), "to",
		                               other(p, "c.img")),
		                     NULL),
		                 0);
		expect_text(p, "c.img", 5, "near the begin");
		expect_text(p, "c.img", 96 * MIB - 8, "the end.");
		assert_int_equal(stat(at(p, "c.img"), &st), 0);
		assert_int_equal(st.st_size, 96 * MIB);
		assert_true(st.st_blocks * 512 < 8 * MIB); /* zeros take no storage */
		tree_remove(&p->tree, "/b.vhdx");
		tree_remove(&p->tree, "/c.img");
	}
}

static void a_child_knows_its_parents_and_is_merged_into_one(void **state)
{
	struct place *p = *state;
	json_t *disk;

	make(p, "a.vhdx", 64 * MIB);
	make_child(p, "b.vhdx", "a.vhdx");
	make_child(p, "c.avhdx", "b.vhdx");
	assert_int_equal(run(p, DISK_SHOW, json_pack("{s:s}", "path", at(p, "c.avhdx")), &disk), 0);
	assert_string_equal(json_string_value(json_object_get(disk, "kind")), "differencing");
	assert_int_equal(json_array_size(json_object_get(disk, "parents")), 2);
	json_decref(disk);
	assert_int_equal(run(p, DISK_MERGE, json_pack("{s:s}", "path", at(p, "c.avhdx")), &disk),
	                 0);
	assert_string_equal(json_string_value(json_object_get(disk, "path")), at(p, "b.vhdx"));
	json_decref(disk);
	assert_int_equal(run(p, DISK_MERGE, json_pack("{s:s}", "path", at(p, "a.vhdx")), NULL),
	                 -EINVAL);
	/* Without its parent it can still be shown. */
	tree_remove(&p->tree, "/a.vhdx");
	assert_int_equal(run(p, DISK_SHOW, json_pack("{s:s}", "path", at(p, "b.vhdx")), &disk), 0);
	assert_non_null(
		strstr(json_string_value(json_object_get(disk, "parents_error")), "a.vhdx"));
	json_decref(disk);
}

static void resize_grows_and_shrinks_only_what_is_empty(void **state)
{
	static const char *const names[] = {"a.vhdx", "a.img"};
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		make(p, names[i], 64 * MIB);
		assert_int_equal(run(p, DISK_RESIZE,
		                     json_pack("{s:s,s:I}", "path", at(p, names[i]), "size_bytes",
		                               128 * MIB),
		                     NULL),
		                 0);
		expect_number(p, names[i], "size_bytes", 128 * MIB);
	}
	/* Nobody knows what is in a raw image. */
	assert_int_equal(run(p, DISK_RESIZE,
	                     json_pack("{s:s,s:I}", "path", at(p, "a.img"), "size_bytes", 64 * MIB),
	                     NULL),
	                 -ENOTEMPTY);
	assert_int_equal(run(p, DISK_RESIZE,
	                     json_pack("{s:s,s:I,s:b}", "path", at(p, "a.img"), "size_bytes",
	                               64 * MIB, "discard", 1),
	                     NULL),
	                 0);
	assert_int_equal(
		run(p, DISK_RESIZE,
	            json_pack("{s:s,s:I}", "path", at(p, "a.vhdx"), "size_bytes", 64 * MIB), NULL),
		0);
	assert_int_equal(
		run(p, DISK_RESIZE,
	            json_pack("{s:s,s:I}", "path", at(p, "a.img"), "size_bytes", 64 * MIB + 1),
	            NULL),
		-EINVAL);
}

static void check_finds_damage_and_repairs_what_it_can(void **state)
{
	struct place *p = *state;
	json_t *report;

	make(p, "a.vhdx", 64 * MIB);
	assert_int_equal(run(p, DISK_CHECK, json_pack("{s:s}", "path", at(p, "a.vhdx")), &report),
	                 0);
	assert_string_equal(json_string_value(json_object_get(report, "verdict")), "ok");
	json_decref(report);
	put(p, "a.vhdx", 192 * 1024 + 4, "damage"); /* the first region table */
	assert_int_equal(run(p, DISK_CHECK, json_pack("{s:s}", "path", at(p, "a.vhdx")), &report),
	                 0);
	assert_string_equal(json_string_value(json_object_get(report, "verdict")), "repairable");
	assert_int_equal(json_array_size(json_object_get(report, "findings")), 1);
	json_decref(report);
	assert_int_equal(run(p, DISK_CHECK,
	                     json_pack("{s:s,s:b}", "path", at(p, "a.vhdx"), "repair", 1), &report),
	                 0);
	assert_string_equal(json_string_value(json_object_get(report, "verdict")), "repaired");
	json_decref(report);
	put(p, "a.vhdx", 0, "damaged!");
	assert_int_equal(run(p, DISK_CHECK, json_pack("{s:s}", "path", at(p, "a.vhdx")), NULL),
	                 -EBADMSG);
	assert_int_equal(run(p, DISK_CHECK, json_pack("{s:s}", "path", at(p, "b.img")), NULL),
	                 -ENOENT);
	make(p, "b.img", MIB);
	assert_int_equal(run(p, DISK_CHECK, json_pack("{s:s}", "path", at(p, "b.img")), NULL),
	                 -EINVAL);
}

/* ---- memory ---- */

/* Every allocation of @op fails once; then it works, or found its memory elsewhere. */
static void without_memory(struct place *p, enum disk_op op, const json_t *request,
                           const char *target)
{
	for (uint32_t k = 1; k < ROUNDS_MAX; k++) {
		json_t *out = NULL;
		int err;

		fault_arm(FAULT_ALLOC, k);
		err = disk_run(op, request, NULL, NULL, &out, &p->eb);
		bool hit = fault_hit(FAULT_ALLOC) != 0;

		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || hit);
		json_decref(out);
		if (!hit) {
			return;
		}
		/* It may have failed only when it wanted to show what it had made. */
		if (target != NULL && access(target, F_OK) == 0) {
			assert_int_equal(unlink(target), 0);
		}
	}
	fail();
}

static void it_survives_without_memory(void **state)
{
	struct place *p = *state;
	json_t *request;

	make(p, "a.vhdx", 64 * MIB);
	make_child(p, "c.vhdx", "a.vhdx");
	request = json_pack("{s:s,s:s}", "path", at(p, "c.vhdx"), "to", other(p, "d.img"));
	without_memory(p, DISK_CONVERT, request, p->other);
	json_decref(request);
	request = json_pack("{s:s,s:s}", "path", at(p, "e.vhdx"), "parent", other(p, "c.vhdx"));
	without_memory(p, DISK_CREATE, request, p->path);
	json_decref(request);
	request = json_pack("{s:s}", "path", at(p, "c.vhdx"));
	without_memory(p, DISK_SHOW, request, NULL);
	without_memory(p, DISK_CHECK, request, NULL);
	without_memory(p, DISK_MERGE, request, NULL);
	(void)json_object_set_new(request, "size_bytes", json_integer(128 * MIB));
	without_memory(p, DISK_RESIZE, request, NULL);
	json_decref(request);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_name_decides_over_the_format),
		TEST(sectors_and_blocks_are_as_asked),
		TEST(nothing_is_overwritten),
		TEST(what_makes_no_sense_is_refused_and_named),
		TEST(a_guest_cannot_make_its_raw_disk_a_vhdx),
		TEST(images_of_others_are_named),
		TEST(an_image_in_use_is_refused),
		TEST(what_is_interrupted_leaves_nothing),
		TEST(what_a_crash_left_is_made_anew),
		TEST(there_and_back_again_is_the_same),
		TEST(a_child_knows_its_parents_and_is_merged_into_one),
		TEST(resize_grows_and_shrinks_only_what_is_empty),
		TEST(check_finds_damage_and_repairs_what_it_can),
		TEST(it_survives_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
