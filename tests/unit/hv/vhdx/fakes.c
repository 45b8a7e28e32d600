/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/vhdx/fakes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/uring.h"

/* An open file: its requests go to the disk, closing it does not close the disk. */
struct proxy {
	struct blk blk;
	struct fakes *fakes;
	struct blk *disk;
	bool read_only;
};

struct proxy_req {
	struct blk_req lower;
	struct proxy *proxy;
	struct blk_req *req;
};

static void proxy_done(struct blk_req *lower, int result)
{
	struct proxy_req *r = lower->arg;
	struct proxy *proxy = r->proxy;
	struct blk_req *req = r->req;

	free(r);
	blk_complete(&proxy->blk, req, result);
}

static void proxy_submit(struct blk *blk, struct blk_req *req)
{
	struct proxy *proxy = container_of(blk, struct proxy, blk);
	struct fakes *f = proxy->fakes;
	struct proxy_req *r = malloc(sizeof(*r));

	CHECK(r != NULL);
	if (f->cut_at != 0 && --f->cut_at == 0) {
		f->cut = true;
		for (uint32_t i = 0; i < FAKES_MAX; i++) {
			if (f->file[i].disk != NULL) {
				fake_disk_cut(f->file[i].disk);
			}
		}
	}
	*r = (struct proxy_req){.proxy = proxy, .req = req};
	r->lower = (struct blk_req){.op = req->op,
	                            .flags = req->flags,
	                            .offset_bytes = req->offset_bytes,
	                            .len_bytes = req->len_bytes,
	                            .iov = req->iov,
	                            .iov_count = req->iov_count,
	                            .done = proxy_done,
	                            .arg = r};
	blk_submit(proxy->disk, &r->lower);
}

static void proxy_info(const struct blk *blk, struct blk_info *out)
{
	const struct proxy *proxy = (const struct proxy *)(const void *)blk;

	blk_get_info(proxy->disk, out);
	out->read_only = proxy->read_only;
}

static int proxy_close(struct blk *blk, struct errbuf *eb)
{
	(void)eb;
	free(container_of(blk, struct proxy, blk));
	return 0;
}

static const struct blk_ops proxy_ops = {
	.name = "proxy", .submit = proxy_submit, .info = proxy_info, .close = proxy_close};

static struct fakes_file *fakes_find(struct fakes *f, const char *name)
{
	for (uint32_t i = 0; i < FAKES_MAX; i++) {
		if (strcmp(f->file[i].name, name) == 0) {
			return &f->file[i];
		}
	}
	return NULL;
}

static int fakes_open(const char *path, bool read_only, struct blk **out, struct errbuf *eb,
                      void *arg)
{
	const struct fakes_file *file = fakes_find(arg, path);
	struct proxy *proxy;

	*out = NULL;
	if (file == NULL) {
		return errbuf_sys(eb, -ENOENT, "open");
	}
	proxy = calloc(1, sizeof(*proxy));
	CHECK(proxy != NULL);
	proxy->fakes = arg;
	proxy->disk = fake_disk_blk(file->disk);
	proxy->read_only = read_only;
	blk_init(&proxy->blk, &proxy_ops, ((struct fakes *)arg)->ring);
	*out = &proxy->blk;
	return 0;
}

static void fakes_make(struct fakes *f, const char *name, const void *image, uint64_t size)
{
	struct fakes_file *file = fakes_find(f, "");
	const struct fake_disk_cfg cfg = {
		.size_bytes = size, .can_resize = true, .seed = 1, .image = image};

	CHECK(file != NULL && strlen(name) < sizeof(file->name));
	memcpy(file->name, name, strlen(name) + 1);
	file->disk = fake_disk_create(&cfg, f->ring);
}

static int fakes_create(const char *path, uint64_t size_bytes, struct errbuf *eb, void *arg)
{
	if (fakes_find(arg, path) != NULL) {
		return errbuf_sys(eb, -EEXIST, "create");
	}
	fakes_make(arg, path, NULL, size_bytes);
	return 0;
}

static int fakes_remove(const char *path, struct errbuf *eb, void *arg)
{
	(void)path;
	(void)eb;
	/* It is called after a failure, and these fail with the power: the file stays. */
	CHECK(((struct fakes *)arg)->cut);
	return -EIO;
}

void fakes_init(struct fakes *f)
{
	*f = (struct fakes){.cut = false};
	CHECK(uring_create(&(struct uring_cfg){.entries = 16, .force_fallback = true}, &f->ring,
	                   NULL) == 0);
	f->files = (struct vhdx_files){
		.open = fakes_open, .create = fakes_create, .remove = fakes_remove, .arg = f};
}

void fakes_fini(struct fakes *f)
{
	for (uint32_t i = 0; i < FAKES_MAX; i++) {
		fake_disk_destroy(f->file[i].disk);
	}
	uring_destroy(f->ring);
}

void fakes_settle(struct fakes *f)
{
	for (uint32_t i = 0; i < FAKES_MAX; i++) {
		if (f->file[i].disk != NULL) {
			fake_disk_settle(f->file[i].disk);
		}
	}
}

void fakes_crash(const struct fakes *from, struct fakes *to, uint64_t seed)
{
	fakes_init(to);
	for (uint32_t i = 0; i < FAKES_MAX; i++) {
		if (from->file[i].disk != NULL) {
			struct fake_disk_image image =
				fake_disk_crash_image(from->file[i].disk, seed);

			fakes_make(to, from->file[i].name, image.data, image.size_bytes);
			free(image.data);
		}
	}
}
