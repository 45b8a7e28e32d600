/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/vhdx/place.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "base/check.h"
#include "base/errbuf.h"
#include "base/uring.h"
#include "tests/lib/test.h"

int place_setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	CHECK(p != NULL);
	tree_init(&p->tree);
	CHECK(uring_create(&(struct uring_cfg){.entries = 64}, &p->ring, NULL) == 0);
	p->files = vhdx_files_raw(p->ring);
	*state = p;
	return 0;
}

int place_teardown(void **state)
{
	struct place *p = *state;

	uring_destroy(p->ring);
	tree_fini(&p->tree);
	free(p);
	return 0;
}

const char *place_path(struct place *p, const char *name)
{
	char *path = p->path[p->next++ % ARRAY_LEN(p->path)];

	CHECK(snprintf(path, PLACE_PATH_MAX, "%s/%s", p->tree.root, name) < (int)PLACE_PATH_MAX);
	return path;
}

static void no_error(int err, const struct errbuf *eb)
{
	if (err != 0) {
		print_error("error %d: %s\n", err, eb->text);
		fail();
	}
}

void place_create(struct place *p, const char *name, const char *parent,
                  const struct vhdx_create_cfg *cfg)
{
	struct errbuf eb = {.text = ""};
	const char *parent_path = parent != NULL ? place_path(p, parent) : NULL;

	no_error(vhdx_create(&p->files, place_path(p, name), parent_path, cfg, NULL, &eb), &eb);
}

struct blk *place_open(struct place *p, const char *name, bool read_only)
{
	struct errbuf eb = {.text = ""};
	struct blk *blk;

	no_error(vhdx_open_path(&p->files, place_path(p, name), read_only, &blk, &eb), &eb);
	return blk;
}

void place_close(struct blk *blk)
{
	struct errbuf eb = {.text = ""};

	no_error(blk_close(blk, &eb), &eb);
}

static void pattern(uint8_t *buf, uint64_t len, uint32_t seed)
{
	for (uint64_t i = 0; i < len; i++) {
		buf[i] = seed == 0 ? 0 : (uint8_t)(seed + i / 512 + i * 7);
	}
}

void place_pattern(struct blk *blk, uint64_t offset, uint64_t len, uint32_t seed)
{
	uint8_t *buf = malloc(len);

	CHECK(buf != NULL);
	pattern(buf, len, seed);
	assert_int_equal(blk_sync_write(blk, offset, buf, len), 0);
	free(buf);
}

void place_expect(struct blk *blk, uint64_t offset, uint64_t len, uint32_t seed)
{
	uint8_t *want = malloc(len);
	uint8_t *have = malloc(len);

	CHECK(want != NULL && have != NULL);
	pattern(want, len, seed);
	assert_int_equal(blk_sync_read(blk, offset, have, len), 0);
	assert_memory_equal(have, want, len);
	free(want);
	free(have);
}

void place_poke(struct place *p, const char *name, uint64_t offset, uint8_t value)
{
	int fd = open(place_path(p, name), O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && pwrite(fd, &value, 1, (off_t)offset) == 1);
	CHECK(close(fd) == 0);
}

void place_peek(struct place *p, const char *name, uint64_t offset, void *buf, size_t len)
{
	int fd = open(place_path(p, name), O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && pread(fd, buf, len, (off_t)offset) == (ssize_t)len);
	CHECK(close(fd) == 0);
}

uint64_t place_size(struct place *p, const char *name)
{
	struct stat st;

	CHECK(stat(place_path(p, name), &st) == 0);
	return (uint64_t)st.st_size;
}
