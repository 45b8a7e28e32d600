/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/raw/raw_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"

int raw_fixture_setup(void **state)
{
	static const struct raw_place usual = {.parent = "/var/tmp", .entries = 64};
	const struct raw_place *place = *state != NULL ? *state : &usual;
	const struct uring_cfg cfg = {
		.entries = place->entries,
		.force_fallback = place->fallback,
		.in_loop = place->in_loop,
	};
	struct raw_fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || uring_create(&cfg, &f->ring, NULL) != 0) {
		free(f);
		return -1;
	}
	(void)snprintf(f->dir, sizeof(f->dir), "%s/gw-raw-XXXXXX", place->parent);
	if (mkdtemp(f->dir) == NULL) {
		uring_destroy(f->ring);
		free(f);
		return -1;
	}
	(void)snprintf(f->path, sizeof(f->path), "%s/disk.raw", f->dir);

	int fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int err = fd < 0 || ftruncate(fd, (off_t)RAW_FIXTURE_BYTES) != 0 ? -1 : 0;

	if (fd >= 0) {
		(void)close(fd);
	}
	*state = f;
	return err;
}

int raw_fixture_teardown(void **state)
{
	struct raw_fixture *f = *state;
	int err = uring_in_flight(f->ring) != 0 ? -1 : 0;

	(void)unlink(f->path);
	err |= rmdir(f->dir);
	if (err == 0) {
		uring_destroy(f->ring);
	}
	free(f);
	return err;
}

struct blk *raw_fixture_open(struct raw_fixture *f, const struct raw_cfg *how)
{
	struct raw_cfg cfg = *how;
	struct errbuf eb = {0};
	struct blk *blk = NULL;

	if (cfg.path == NULL) {
		cfg.path = f->path;
	}

	int err = raw_open(&cfg, f->ring, &blk, &eb);

	if (err != 0) {
		print_error("%s\n", errbuf_text(&eb, err));
	}
	assert_int_equal(err, 0);
	return blk;
}

static void raw_probe_done(struct blk_req *req, int result)
{
	struct raw_probe *p = req->arg;

	p->calls++;
	p->result = result;
}

void raw_probe_start(struct blk *blk, struct raw_probe *p)
{
	p->calls = 0;
	p->req.done = raw_probe_done;
	p->req.arg = p;
	blk_submit(blk, &p->req);
	assert_int_equal(p->calls, 0);
}

int raw_probe_wait(struct blk *blk, struct raw_probe *p)
{
	while (p->calls == 0) {
		assert_true(uring_wait(blk->ring, UINT64_MAX) >= 0);
	}
	assert_int_equal(p->calls, 1);
	return p->result;
}
