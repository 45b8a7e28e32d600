/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "hv/raw/raw.h"
#include "hv/vhdx/vhdx.h"

static int files_open(const char *path, bool read_only, struct blk **out, struct errbuf *eb,
                      void *arg)
{
	const struct raw_cfg cfg = {.path = path, .read_only = read_only};

	return raw_open(&cfg, arg, out, eb);
}

static int files_create(const char *path, uint64_t size_bytes, struct errbuf *eb, void *arg)
{
	const struct raw_create_cfg cfg = {.path = path, .size_bytes = size_bytes};

	(void)arg;
	return raw_create(&cfg, eb);
}

static int files_remove(const char *path, struct errbuf *eb, void *arg)
{
	(void)arg;
	return unlink(path) == 0 ? 0 : errbuf_sys(eb, -errno, "remove %s", path);
}

struct vhdx_files vhdx_files_raw(struct uring *ring)
{
	return (struct vhdx_files){
		.open = files_open, .create = files_create, .remove = files_remove, .arg = ring};
}
