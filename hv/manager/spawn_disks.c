/* SPDX-License-Identifier: Apache-2.0 */

/*
 * spawn_disks - open what the disks of a VM are. On a thread of its own: a file on a shared volume
 * that has no coordinator now opens when it has one again, and this service may be who sees to
 * that.
 */
#include "hv/manager/spawn_disks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/patience.h"
#include "base/shared_direct.h"
#include "base/uring.h"
#include "hv/raw/raw.h"
#include "hv/vhdx/vhdx.h"

#define TAG "spawn"
#define SPAWN_RING_ENTRIES 32u
#define SPAWN_SOCKET_MAX 108u /* of struct sockaddr_un */

struct opening {
	struct vm_disk disks[VM_DISKS_MAX];
	char *paths[VM_DISKS_MAX]; /* owned: of the disks */
	uint32_t disk_count;
	bool arriving;
	char direct[SPAWN_SOCKET_MAX]; /* "" = none */
	bool guarded;
	struct spawn_disks out;
	int err;
	struct errbuf eb;
};

static void opening_close(struct opening *o)
{
	while (o->out.count != 0) {
		(void)close(o->out.fds[--o->out.count]);
	}
	for (uint32_t i = 0; i < VM_DISKS_MAX; i++) {
		if (o->out.direct[i] >= 0) {
			(void)close(o->out.direct[i]);
			o->out.direct[i] = -1;
		}
	}
}

static void opening_free(void *arg)
{
	struct opening *o = arg;

	for (uint32_t i = 0; i < o->disk_count; i++) {
		free(o->paths[i]);
	}
	free(o);
}

/* Nobody waits for it any more. */
static void opening_drop(void *arg)
{
	opening_close(arg);
	opening_free(arg);
}

/* One file of a disk. Returns 0; -errno. */
static int open_file(struct opening *o, uint32_t disk, const char *path, bool read_only)
{
	int fd;

	if (o->out.count == SPAWN_DISK_FILES_MAX) {
		return errbuf_set(&o->eb, -EMFILE, "too many files for one VM");
	}
	fd = o->arriving ? raw_open_fd_unlocked(path, read_only, &o->eb)
	                 : raw_open_fd(path, read_only, &o->eb);
	if (fd < 0) {
		return fd;
	}
	o->out.fds[o->out.count++] = fd;
	o->out.files[disk]++;
	return 0;
}

/* A VHDX: its own file, then its parents, which are only read. */
static int open_vhdx(struct opening *o, uint32_t index)
{
	const struct uring_cfg cfg = {.entries = SPAWN_RING_ENTRIES};
	const struct vm_disk *disk = &o->disks[index];
	struct vhdx_chain chain = {0};
	struct uring *ring;
	int err = uring_create(&cfg, &ring, &o->eb);

	if (err != 0) {
		return err;
	}

	const struct vhdx_files source =
		o->arriving ? vhdx_files_raw_unlocked(ring) : vhdx_files_raw(ring);

	err = vhdx_chain_find(&source, disk->path, &chain, &o->eb);
	for (uint32_t i = 0; err == 0 && i < chain.count; i++) {
		err = open_file(o, index, chain.path[i], disk->read_only || i != 0);
	}
	vhdx_chain_fini(&chain);
	uring_destroy(ring);
	return err;
}

/* It works without; and a file that is on no shared volume is none of anybody's business. */
static void connect_disk(struct opening *o, uint32_t index)
{
	uint32_t first = o->out.count - o->out.files[index];
	int fd;

	if (o->direct[0] == '\0' || o->disks[index].read_only || o->out.files[index] == 0) {
		return;
	}
	fd = shared_direct_connect(o->out.fds[first], o->direct, o->guarded);
	if (fd >= 0) {
		o->out.direct[index] = fd;
	} else if (fd != -ENOTTY) {
		log_info(TAG, "disk=%u not on the device of its volume error=%s", index,
		         strerrorname_np(-fd));
	}
}

static int open_disk(struct opening *o, uint32_t index)
{
	const struct vm_disk *disk = &o->disks[index];
	int err = 0;

	if (disk->path[0] == '\0') {
		return 0; /* a drive without a medium */
	}
	switch (disk->format) {
	case VM_FORMAT_VHDX:
		err = open_vhdx(o, index);
		break;
	case VM_FORMAT_RAW:
		err = open_file(o, index, disk->path, disk->read_only);
		break;
	}
	if (err == 0) {
		connect_disk(o, index);
	}
	if (err != 0) {
		errbuf_prepend(&o->eb, "disk %u", disk->lun);
		if (err == -ENOENT && o->eb.hint[0] == '\0') {
			errbuf_hint(&o->eb,
			            "check that the file exists and that its path is right");
		}
	}
	return err;
}

static void open_all(void *arg)
{
	struct opening *o = arg;

	for (uint32_t i = 0; o->err == 0 && i < o->disk_count; i++) {
		o->err = open_disk(o, i);
	}
	if (o->err != 0) {
		opening_close(o);
	}
}

static struct opening *opening_new(const struct vm_config *c, bool arriving,
                                   const struct spawn_direct *direct)
{
	struct opening *o = gw_calloc(1, sizeof(*o));

	if (o == NULL) {
		return NULL;
	}
	o->arriving = arriving;
	o->guarded = direct->guarded;
	if (direct->socket != NULL && strlen(direct->socket) < sizeof(o->direct)) {
		memcpy(o->direct, direct->socket, strlen(direct->socket) + 1);
	}
	for (uint32_t i = 0; i < VM_DISKS_MAX; i++) {
		o->out.direct[i] = -1;
	}
	for (uint32_t i = 0; i < c->disk_count; i++) {
		o->paths[i] = gw_strdup(c->disks[i].path);
		if (o->paths[i] == NULL) {
			opening_free(o);
			return NULL;
		}
		o->disks[i] = c->disks[i];
		o->disks[i].path = o->paths[i];
		o->disk_count++;
	}
	return o;
}

int spawn_disks_open(const struct vm_config *c, bool arriving, const struct spawn_direct *direct,
                     struct spawn_disks *out, struct errbuf *eb)
{
	struct opening *o = opening_new(c, arriving, direct);
	int err = o != NULL ? patience_run(open_all, opening_drop, o, PATIENCE_NS) : -ENOMEM;

	*out = (struct spawn_disks){0};
	if (err == -ETIMEDOUT) {
		(void)errbuf_set(eb, err, "the storage of its disks does not answer");
		errbuf_hint(eb, "if it is a shared volume: godwit csv list says how that stands");
		return err;
	}
	if (err == 0) {
		err = o->err;
		*out = o->out;
		if (err != 0 && eb != NULL) {
			*eb = o->eb;
		}
	} else {
		(void)errbuf_sys(eb, err, "cannot open the disks%s",
		                 err == -EBUSY ? ": too much storage does not answer" : "");
	}
	if (o != NULL) {
		opening_free(o);
	}
	return err;
}
