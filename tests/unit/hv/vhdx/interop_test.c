/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Other programs read what we write, and we what they write: qemu-img, and libvhdi's vhdiinfo and
 * vhdimount. Skipped (77) without qemu-img; without libvhdi its part is left out.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/run.h"
#include "hv/raw/raw.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/vhdx/place.h"
#include "tests/unit/hv/vhdx/workload.h"

#define MIB (1ull << 20)
#define QEMU_IMG "/usr/bin/qemu-img"
#define QEMU_IO "/usr/bin/qemu-io"
#define VHDIINFO "/usr/bin/vhdiinfo"
#define VHDIMOUNT "/usr/bin/vhdimount"
#define DEADLINE_NS (120 * NS_PER_S)
#define SAID_MAX 8192

static char said[SAID_MAX];

static int run(const char *const argv[])
{
	return run_capture(argv, DEADLINE_NS, said, sizeof(said));
}

/* Run a program that must succeed. */
static void must(const char *const argv[])
{
	int status = run(argv);

	if (status != 0) {
		print_error("%s %s: status %d: %s\n", argv[0], argv[1], status, said);
		fail();
	}
}

static void qemu_check(struct place *p, const char *name)
{
	const char *check[] = {QEMU_IMG, "check", "-f", "vhdx", place_path(p, name), NULL};
	const char *info[] = {QEMU_IMG, "info", "-f", "vhdx", place_path(p, name), NULL};

	must(check);
	assert_non_null(strstr(said, "No errors were found"));
	must(info);
}

static void qemu_same(struct place *p, const char *vhdx, const char *raw)
{
	const char *compare[] = {
		QEMU_IMG,           "compare", "-f", "vhdx", "-F", "raw", place_path(p, vhdx),
		place_path(p, raw), NULL};

	must(compare);
	assert_non_null(strstr(said, "Images are identical"));
}

static void to_raw(struct place *p, const char *from, const char *to)
{
	const struct vhdx_convert_cfg cfg = {.to = VHDX_FORMAT_RAW};
	struct errbuf eb = {.text = ""};

	if (vhdx_convert(&p->files, place_path(p, from), place_path(p, to), &cfg, &eb) != 0) {
		print_error("%s\n", eb.text);
		fail();
	}
}

/* Random requests on an open disk, as a guest would make them. */
static void use(struct blk *blk, uint32_t block_bytes, uint64_t seed)
{
	static struct workload w;
	struct blk_info info;

	blk_get_info(blk, &info);
	workload_init(&w, info.size_bytes, info.logical_bytes,
	              block_bytes > 2 * MIB ? (uint32_t)(2 * MIB) : block_bytes, seed);
	w.no_reads = true; /* what is there at first, the model does not know */
	assert_int_equal(workload_run(&w, blk, 150, 16), 0);
	workload_fini(&w);
}

static const struct vhdx_create_cfg ours[] = {
	{.kind = VHDX_DYNAMIC, .size_bytes = 40 * MIB, .block_bytes = 1 << 20},
	{.kind = VHDX_DYNAMIC, .size_bytes = 40 * MIB + 512, .block_bytes = 2 << 20},
	{.kind = VHDX_DYNAMIC, .size_bytes = 100 * MIB}, /* 32 MiB */
	{.kind = VHDX_DYNAMIC, .size_bytes = 300 * MIB, .block_bytes = 256 << 20},
	{.kind = VHDX_DYNAMIC,
         .size_bytes = 40 * MIB,
         .block_bytes = 1 << 20,
         .logical_bytes = 4096},
	{.kind = VHDX_DYNAMIC,
         .size_bytes = 40 * MIB,
         .block_bytes = 1 << 20,
         .log_bytes = 3 << 20},
	{.kind = VHDX_FIXED, .size_bytes = 40 * MIB, .block_bytes = 1 << 20},
	{.kind = VHDX_FIXED, .size_bytes = 50 * MIB + 512},
};

static void qemu_reads_what_we_write(void **state)
{
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		struct blk *blk;

		if (ours[i].logical_bytes == 4096) {
			continue; /* qemu's driver knows 512 only */
		}

		uint32_t block =
			ours[i].block_bytes != 0 ? ours[i].block_bytes : VHDX_BLOCK_BYTES_DEFAULT;

		place_create(p, "a.vhdx", NULL, &ours[i]);
		qemu_check(p, "a.vhdx"); /* empty */
		blk = place_open(p, "a.vhdx", false);
		use(blk, block, i + 1);
		place_close(blk);
		to_raw(p, "a.vhdx", "a.raw");
		qemu_check(p, "a.vhdx");
		qemu_same(p, "a.vhdx", "a.raw");
		tree_remove(&p->tree, "/a.vhdx");
		tree_remove(&p->tree, "/a.raw");
	}
}

static void libvhdi_knows_our_disks(void **state)
{
	struct place *p = *state;

	if (access(VHDIINFO, X_OK) != 0) {
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		const char *info[] = {VHDIINFO, place_path(p, "a.vhdx"), NULL};
		char size[64];

		place_create(p, "a.vhdx", NULL, &ours[i]);
		must(info);
		(void)snprintf(size, sizeof(size), "(%llu bytes)",
		               (unsigned long long)ours[i].size_bytes);
		assert_non_null(strstr(said, "VHDX (version 2)"));
		assert_non_null(strstr(said, size));
		assert_non_null(strstr(said, ours[i].kind == VHDX_FIXED ? "Fixed" : "Dynamic"));
		tree_remove(&p->tree, "/a.vhdx");
	}
}

/* Is disk @which (the last parent is vhdi1) of those that libvhdi shows through FUSE the same as
 * @raw? False: it cannot be mounted here. */
static bool libvhdi_same(struct place *p, const char *vhdx, const char *which, const char *raw)
{
	char shown[PLACE_PATH_MAX];
	const char *mount[] = {VHDIMOUNT, place_path(p, vhdx), place_path(p, "mnt"), NULL};
	const char *compare[] = {QEMU_IMG, "compare",          "-f", "raw", "-F", "raw",
	                         shown,    place_path(p, raw), NULL};
	const char *umount[] = {"/usr/bin/umount", place_path(p, "mnt"), NULL};
	int status;

	tree_dir(&p->tree, "/mnt");
	if (access(VHDIMOUNT, X_OK) != 0 || access("/dev/fuse", R_OK | W_OK) != 0 ||
	    run(mount) != 0) {
		return false;
	}
	(void)snprintf(shown, sizeof(shown), "%s", place_path(p, which));
	status = run(compare);
	if (status != 0) {
		print_error("%s\n", said);
	}
	must(umount);
	assert_int_equal(status, 0);
	return true;
}

static void libvhdi_reads_what_we_write(void **state)
{
	struct place *p = *state;
	const struct vhdx_create_cfg *cfgs[] = {&ours[0], &ours[6]};

	for (size_t i = 0; i < ARRAY_LEN(cfgs); i++) {
		struct blk *blk;
		bool mounted;

		place_create(p, "a.vhdx", NULL, cfgs[i]);
		blk = place_open(p, "a.vhdx", false);
		use(blk, cfgs[i]->block_bytes, i + 50);
		place_close(blk);
		to_raw(p, "a.vhdx", "a.raw");
		mounted = libvhdi_same(p, "a.vhdx", "mnt/vhdi1", "a.raw");
		tree_remove(&p->tree, "/a.vhdx");
		tree_remove(&p->tree, "/a.raw");
		if (!mounted) {
			print_message("vhdimount does not work here: %s\n", said);
			return;
		}
	}
}

/* libvhdi looks for the parent by its name, in the child's folder. No zeroed blocks: it shows the
 * parent's data in them (20210425). */
static void libvhdi_finds_our_parents(void **state)
{
	struct place *p = *state;
	const struct vhdx_create_cfg child = {.kind = VHDX_DIFFERENCING};
	struct blk *blk;

	place_create(p, "p.vhdx", NULL, &ours[0]);
	blk = place_open(p, "p.vhdx", false);
	place_pattern(blk, 0, 4 * MIB, 3);
	place_close(blk);
	place_create(p, "c.avhdx", "p.vhdx", &child);
	blk = place_open(p, "c.avhdx", false);
	place_pattern(blk, MIB + 512, 4096, 4);
	place_pattern(blk, 10 * MIB, MIB, 5);
	place_close(blk);
	to_raw(p, "c.avhdx", "c.raw");
	if (!libvhdi_same(p, "c.avhdx", "mnt/vhdi2", "c.raw")) {
		print_message("vhdimount does not work here: %s\n", said);
	}
}

/* A raw file with data here and there. */
static void make_raw(struct place *p, const char *name, uint64_t size)
{
	const struct raw_create_cfg create = {.path = place_path(p, name), .size_bytes = size};
	const struct raw_cfg cfg = {.path = create.path};
	struct blk *blk;

	assert_int_equal(raw_create(&create, NULL), 0);
	assert_int_equal(raw_open(&cfg, p->ring, &blk, NULL), 0);
	for (uint32_t i = 0; i < 12; i++) {
		place_pattern(blk, (size / 12 * i) & ~4095ull, 64 << 10, i + 1);
	}
	place_close(blk);
}

/* The same changes to our disk and to the raw file. */
static void change_both(struct place *p, const char *vhdx, const char *raw, uint64_t size)
{
	const struct raw_cfg cfg = {.path = place_path(p, raw)};
	struct blk *both[2] = {place_open(p, vhdx, false), NULL};

	assert_int_equal(raw_open(&cfg, p->ring, &both[1], NULL), 0);
	for (int i = 0; i < 2; i++) {
		place_pattern(both[i], 512, 3 * MIB, 77);
		place_pattern(both[i], size / 2 & ~4095ull, 4096, 78);
		place_pattern(both[i], size - 512, 512, 79);
		assert_int_equal(blk_sync_zero(both[i], 4 * MIB, 4 * MIB), 0);
		place_pattern(both[i], 5 * MIB, 4096, 80);
		assert_int_equal(blk_sync_flush(both[i]), 0);
		place_close(both[i]);
	}
}

static void we_read_and_change_what_qemu_writes(void **state)
{
	struct place *p = *state;
	const char *options[] = {
		"subformat=dynamic,block_size=1M",
		"subformat=dynamic,block_size=8M",
		"subformat=dynamic,block_size=32M",
		"subformat=dynamic,block_size=256M",
		"subformat=dynamic,log_size=4M",
		"subformat=fixed,block_size=1M",
		"subformat=fixed",
	};
	const uint64_t sizes[] = {40 * MIB, 33 * MIB + 512};

	for (size_t i = 0; i < ARRAY_LEN(options) * ARRAY_LEN(sizes); i++) {
		uint64_t size = sizes[i / ARRAY_LEN(options)];
		const char *convert[] = {QEMU_IMG,
		                         "convert",
		                         "-f",
		                         "raw",
		                         "-O",
		                         "vhdx",
		                         "-o",
		                         options[i % ARRAY_LEN(options)],
		                         place_path(p, "a.raw"),
		                         place_path(p, "a.vhdx"),
		                         NULL};
		const struct vhdx_check_cfg check_cfg = {.repair = false};
		struct vhdx_check_result r;

		make_raw(p, "a.raw", size);
		must(convert);
		assert_int_equal(
			vhdx_check(&p->files, place_path(p, "a.vhdx"), &check_cfg, &r, NULL), 0);
		assert_int_equal(r.damaged, 0);
		to_raw(p, "a.vhdx", "b.raw");
		qemu_same(p, "a.vhdx", "b.raw");
		change_both(p, "a.vhdx", "a.raw", size);
		qemu_check(p, "a.vhdx");
		qemu_same(p, "a.vhdx", "a.raw");
		tree_remove(&p->tree, "/a.raw");
		tree_remove(&p->tree, "/b.raw");
		tree_remove(&p->tree, "/a.vhdx");
	}
}

/* A process that writes, flushes and dies. */
static void write_and_die(struct place *p, const char *name)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct place child = {.tree = p->tree};

		if (uring_create(&(struct uring_cfg){.entries = 64}, &child.ring, NULL) != 0) {
			_exit(1);
		}
		child.files = vhdx_files_raw(child.ring);

		struct blk *blk = place_open(&child, name, false);

		place_pattern(blk, 0, 5 * MIB, 7);
		place_pattern(blk, 30 * MIB, MIB, 8);
		_exit(blk_sync_flush(blk) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void qemu_replays_our_log_as_we_do(void **state)
{
	struct place *p = *state;
	const char *copy[] = {"/usr/bin/cp", place_path(p, "a.vhdx"), place_path(p, "b.vhdx"),
	                      NULL};
	const char *repair[] = {
		QEMU_IMG, "check", "-f", "vhdx", "-r", "all", place_path(p, "b.vhdx"), NULL};
	struct vhdx_show *show = calloc(1, sizeof(*show));
	struct blk *blk;

	assert_non_null(show);
	place_create(p, "a.vhdx", NULL, &ours[0]);
	write_and_die(p, "a.vhdx");
	assert_int_equal(vhdx_show(&p->files, place_path(p, "a.vhdx"), show, NULL), 0);
	assert_true(show->log_dirty);
	must(copy);
	must(repair);
	qemu_check(p, "b.vhdx");
	blk = place_open(p, "a.vhdx", false);
	place_expect(blk, 0, 5 * MIB, 7);
	place_expect(blk, 30 * MIB, MIB, 8);
	place_close(blk);
	qemu_check(p, "a.vhdx");
	to_raw(p, "a.vhdx", "a.raw");
	qemu_same(p, "b.vhdx", "a.raw");
	free(show);
}

/* Large enough that the BAT has to move; too large to compare as a whole. */
static void resized_disks_are_accepted_by_qemu(void **state)
{
	struct place *p = *state;
	const struct vhdx_create_cfg cfgs[] = {
		{.kind = VHDX_DYNAMIC, .size_bytes = 100ull << 30, .block_bytes = 1 << 20},
		{.kind = VHDX_FIXED, .size_bytes = 20 * MIB, .block_bytes = 1 << 20},
	};
	const uint64_t sizes[] = {200ull << 30, 33 * MIB};
	static uint8_t buf[1 << 20];

	memset(buf, 0x5a, sizeof(buf));
	for (size_t i = 0; i < ARRAY_LEN(cfgs); i++) {
		const struct vhdx_resize_cfg how = {.size_bytes = sizes[i]};
		struct blk *blk;
		char last[64];
		const char *read[] = {QEMU_IO,
		                      "-r",
		                      "-f",
		                      "vhdx",
		                      "-c",
		                      "read -P 0x5a 3M 1M",
		                      "-c",
		                      "read -P 0 4M 16M",
		                      "-c",
		                      last,
		                      place_path(p, "a.vhdx"),
		                      NULL};

		(void)snprintf(last, sizeof(last), "read -P 0x5a %llu 1M",
		               (unsigned long long)(sizes[i] - MIB));
		place_create(p, "a.vhdx", NULL, &cfgs[i]);
		blk = place_open(p, "a.vhdx", false);
		assert_int_equal(blk_sync_write(blk, 3 * MIB, buf, sizeof(buf)), 0);
		place_close(blk);
		assert_int_equal(vhdx_resize(&p->files, place_path(p, "a.vhdx"), &how, NULL), 0);
		blk = place_open(p, "a.vhdx", false);
		assert_int_equal(blk_sync_write(blk, sizes[i] - MIB, buf, sizeof(buf)), 0);
		place_close(blk);
		qemu_check(p, "a.vhdx");
		must(read);
		assert_null(strstr(said, "Pattern verification failed"));
		tree_remove(&p->tree, "/a.vhdx");
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(qemu_reads_what_we_write),
		TEST(libvhdi_knows_our_disks),
		TEST(libvhdi_reads_what_we_write),
		TEST(libvhdi_finds_our_parents),
		TEST(we_read_and_change_what_qemu_writes),
		TEST(qemu_replays_our_log_as_we_do),
		TEST(resized_disks_are_accepted_by_qemu),
	};

	if (access(QEMU_IMG, X_OK) != 0) {
		print_message("skipped: no " QEMU_IMG "\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
