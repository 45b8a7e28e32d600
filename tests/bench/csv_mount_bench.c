/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_mount_bench [SECONDS [DEVICE]] - a mounted volume beside the device that it is on. Data:
 * reads and writes at the depth of a line's name, by io_uring past the page cache, on a file of the
 * volume (mount) and on a part of the device of the same length (device); they take turns in short
 * slices, so that what else the machine does hits them alike. "ratio" lines are mount / device.
 * Names: operations by one process, per second, each durable when it returns.
 *
 * Needs root and /dev/fuse. The content of DEVICE is overwritten; without a name it is a file of
 * 1 GiB in /var/tmp. The process that mounts is another one: figures are what programs see.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/guid.h"
#include "base/uring.h"
#include "csv/format/csv_format.h"
#include "csv/meta/csv_meta.h"
#include "tests/bench/bench.h"
#include "tests/lib/csv_mounter.h"

#define VOLUME_BYTES (1ull << 30)
#define FILE_BYTES (256ull << 20)
#define DEPTH_MAX 32u
#define SLICES 10u
#define NAMES 200u

struct load {
	const char *name;
	uint32_t block_bytes;
	bool random;
	bool write;
	uint32_t depth;
};

struct slot {
	struct uring_op op;
	struct side *side;
	void *buf;
};

struct side {
	const struct load *load;
	struct uring *ring;
	int fd;
	uint64_t base;
	uint64_t rng;
	uint64_t next;
	uint64_t count;
	uint64_t spent_ns;
	uint32_t flying;
	bool stopping;
	struct slot slots[DEPTH_MAX];
};

/* ---- a volume ---- */

static int emit(void *arg, uint64_t block, const void *buf)
{
	const int *fd = arg;

	return pwrite(*fd, buf, CSV_BLOCK_BYTES, (off_t)(block * CSV_BLOCK_BYTES)) ==
	                       (ssize_t)CSV_BLOCK_BYTES
	               ? 0
	               : -errno;
}

static void make_volume(const char *device, uint64_t bytes)
{
	const struct csv_layout_cfg cfg = {.size_bytes = bytes};
	struct csv_super super = {.term = 1, .created_ns = clock_wall_ns(), .label = "bench"};
	int fd = open(device, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	guid_random(&super.volume);
	CHECK(csv_layout_make(&cfg, &super.layout, NULL) == 0);
	CHECK(csv_meta_format(&super, super.created_ns, emit, &fd) == 0);
	CHECK(fsync(fd) == 0 && close(fd) == 0);
}

static pid_t mount_volume(const char *device, const char *path)
{
	int pipes[2];
	char word[8];
	pid_t pid;

	CHECK(pipe2(pipes, O_CLOEXEC) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		const struct csv_mounter_cfg cfg = {
			.device = device,
			.path = path,
			.ready_fd = pipes[1],
		};

		_exit(csv_mounter_run(&cfg) == 0 ? 0 : 1);
	}
	(void)close(pipes[1]);
	CHECK(read(pipes[0], word, sizeof(word)) == (ssize_t)sizeof(word));
	(void)close(pipes[0]);
	return pid;
}

/* ---- data ---- */

static void start(struct slot *slot);

static void ended(struct uring_op *op, int32_t res, bool more)
{
	struct slot *slot = op->arg;
	struct side *s = slot->side;

	(void)more;
	CHECK(res == (int32_t)s->load->block_bytes);
	s->flying--;
	s->count++;
	if (!s->stopping) {
		start(slot);
	}
}

static void start(struct slot *slot)
{
	struct side *s = slot->side;
	uint32_t len = s->load->block_bytes;
	uint64_t block = s->load->random ? bench_random(&s->rng) : s->next++;
	uint64_t at = s->base + block % (FILE_BYTES / len) * len;

	slot->op = (struct uring_op){.fn = ended, .arg = slot};
	s->flying++;
	CHECK((s->load->write
	               ? uring_prep_write(s->ring, &slot->op, s->fd, slot->buf, len, at)
	               : uring_prep_read(s->ring, &slot->op, s->fd, slot->buf, len, at)) == 0);
}

static void slice(struct side *s, uint64_t slice_ns)
{
	uint64_t begin = clock_now_ns();

	s->stopping = false;
	for (uint32_t i = 0; i < s->load->depth; i++) {
		s->slots[i].side = s;
		start(&s->slots[i]);
	}
	while (s->flying != 0) {
		CHECK(uring_wait(s->ring, UINT64_MAX) >= 0);
		s->stopping = clock_now_ns() - begin >= slice_ns;
	}
	s->spent_ns += clock_now_ns() - begin;
}

static double report(const struct side *s, const char *name)
{
	double rate = (double)s->count * (double)NS_PER_S / (double)s->spent_ns;
	bool small = s->load->block_bytes <= 4096;
	char line[96];

	(void)snprintf(line, sizeof(line), "%s.%s.depth%u", name, s->load->name, s->load->depth);
	bench_figure(line, small ? rate : rate * s->load->block_bytes / (1 << 20),
	             small ? "ops/s" : "MiB/s");
	return rate;
}

static void run(struct side *mount, struct side *device, const struct load *load, double seconds)
{
	struct side *sides[] = {mount, device};
	uint64_t slice_ns = (uint64_t)(seconds * (double)NS_PER_S / SLICES);
	char line[96];
	double ours;

	for (int i = 0; i < 2; i++) {
		sides[i]->load = load;
		sides[i]->count = 0;
		sides[i]->spent_ns = 0;
	}
	for (uint32_t i = 0; i < SLICES; i++) {
		slice(sides[i % 2], slice_ns);
		slice(sides[1 - i % 2], slice_ns);
	}
	ours = report(mount, "mount");
	(void)snprintf(line, sizeof(line), "ratio.%s.depth%u", load->name, load->depth);
	bench_figure(line, 100 * ours / report(device, "device"), "%");
}

static void bench_data(const char *dir, const char *device, double seconds)
{
	static const struct load loads[] = {
		{"read4k.random", 4096, true, false, 1},
		{"read4k.random", 4096, true, false, 32},
		{"write4k.random", 4096, true, true, 1},
		{"write4k.random", 4096, true, true, 32},
		{"read1m.sequential", 1u << 20, false, false, 4},
		{"write1m.sequential", 1u << 20, false, true, 4},
	};
	static struct side mount = {.rng = 1};
	static struct side raw = {.rng = 1, .base = VOLUME_BYTES - FILE_BYTES - (8u << 20)};
	char path[256];
	void *page = bench_pages(1u << 20);
	uint64_t begin;

	(void)snprintf(path, sizeof(path), "%s/data", dir);
	mount.fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	raw.fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	CHECK(mount.fd >= 0 && raw.fd >= 0);
	/* What was never written costs nothing to read. */
	for (uint64_t at = 0; at < FILE_BYTES; at += 1u << 20) {
		CHECK(pwrite(raw.fd, page, 1u << 20, (off_t)(raw.base + at)) == 1 << 20);
	}
	begin = clock_now_ns();
	for (uint64_t at = 0; at < FILE_BYTES; at += 1u << 20) {
		CHECK(pwrite(mount.fd, page, 1u << 20, (off_t)at) == 1 << 20);
	}
	CHECK(fsync(mount.fd) == 0);
	(void)bench_rate("mount.fill1m.new_file", (double)(FILE_BYTES >> 20), begin, "MiB/s");
	mount.ring = bench_ring(64, false);
	raw.ring = mount.ring;
	for (uint32_t i = 0; i < DEPTH_MAX; i++) {
		mount.slots[i].buf = bench_pages(1u << 20);
		raw.slots[i].buf = mount.slots[i].buf;
	}
	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		run(&mount, &raw, &loads[i], seconds);
	}
	for (uint32_t i = 0; i < DEPTH_MAX; i++) {
		free(mount.slots[i].buf);
	}
	uring_destroy(mount.ring);
	(void)close(mount.fd);
	(void)close(raw.fd);
	free(page);
}

/* ---- names ---- */

static void name_of(char *out, size_t len, const char *dir, uint32_t i, const char *suffix)
{
	(void)snprintf(out, len, "%s/name %u%s", dir, i, suffix);
}

static void bench_names(const char *dir)
{
	char a[256];
	char b[256];
	uint64_t begin = clock_now_ns();
	struct stat st;
	uint32_t listed = 0;
	DIR *names;

	for (uint32_t i = 0; i < NAMES; i++) {
		int fd;

		name_of(a, sizeof(a), dir, i, "");
		fd = open(a, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		CHECK(fd >= 0 && close(fd) == 0);
	}
	(void)bench_rate("mount.create", NAMES, begin, "ops/s");
	begin = clock_now_ns();
	for (uint32_t i = 0; i < 10 * NAMES; i++) {
		name_of(a, sizeof(a), dir, i % NAMES, "");
		CHECK(stat(a, &st) == 0);
	}
	(void)bench_rate("mount.stat", 10.0 * NAMES, begin, "ops/s");
	begin = clock_now_ns();
	names = opendir(dir);
	CHECK(names != NULL);
	while (readdir(names) != NULL) {
		listed++;
	}
	(void)closedir(names);
	CHECK(listed >= NAMES);
	(void)bench_rate("mount.list", listed, begin, "names/s");
	begin = clock_now_ns();
	for (uint32_t i = 0; i < NAMES; i++) {
		name_of(a, sizeof(a), dir, i, "");
		name_of(b, sizeof(b), dir, i, " new");
		CHECK(rename(a, b) == 0);
	}
	(void)bench_rate("mount.rename", NAMES, begin, "ops/s");
	begin = clock_now_ns();
	for (uint32_t i = 0; i < NAMES; i++) {
		int fd;

		name_of(a, sizeof(a), dir, i, " new");
		fd = open(a, O_WRONLY | O_CLOEXEC);
		CHECK(fd >= 0 && write(fd, a, sizeof(a)) == (ssize_t)sizeof(a) && close(fd) == 0);
	}
	(void)bench_rate("mount.write256_and_close", NAMES, begin, "ops/s");
	begin = clock_now_ns();
	for (uint32_t i = 0; i < NAMES; i++) {
		name_of(a, sizeof(a), dir, i, " new");
		CHECK(unlink(a) == 0);
	}
	(void)bench_rate("mount.unlink", NAMES, begin, "ops/s");
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1.0;
	char file[] = "/var/tmp/gw-csv-bench-XXXXXX";
	char dir[] = "/var/tmp/gw-csv-mount-XXXXXX";
	const char *device = argc > 2 ? argv[2] : file;
	int status;
	pid_t pid;

	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
		(void)fprintf(stderr, "needs root and /dev/fuse\n");
		return 77;
	}
	if (argc <= 2) {
		int fd = mkstemp(file);

		CHECK(fd >= 0 && posix_fallocate(fd, 0, (off_t)VOLUME_BYTES) == 0);
		(void)close(fd);
	}
	CHECK(mkdtemp(dir) != NULL);
	make_volume(device, VOLUME_BYTES);
	pid = mount_volume(device, dir);
	bench_names(dir);
	bench_data(dir, device, seconds);
	CHECK(kill(pid, SIGTERM) == 0 && waitpid(pid, &status, 0) == pid);
	(void)rmdir(dir);
	if (argc <= 2) {
		(void)unlink(file);
	}
	return status == 0 ? 0 : 1;
}
