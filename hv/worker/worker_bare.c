/* SPDX-License-Identifier: Apache-2.0 */

/*
 * worker_bare - what stands for the guest's disk requests in a bare worker, whose guest has no
 * devices: the command "disk" reads or writes like a guest's driver would, through the same images.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/worker/worker_int.h"

#define BARE_BYTES_MAX (1u << 20)
#define BARE_REQUESTS_MAX 8u

struct bare_io {
	struct worker *w;
	struct control_request asked;
	struct blk_req req;
	struct iovec iov;
	uint8_t *buf; /* owned */
	uint8_t want; /* READ: every byte; else it ends with -EILSEQ */
};

static void bare_done(struct blk_req *req, int result)
{
	struct bare_io *io = req->arg;
	struct errbuf eb = {0};

	for (size_t i = 0; result == 0 && req->op == BLK_READ && i < io->iov.iov_len; i++) {
		result = io->buf[i] == io->want ? 0 : -EILSEQ;
	}
	if (result != 0) {
		control_error(&io->asked, result, &eb);
	} else {
		control_reply(&io->asked, NULL);
	}
	io->w->bare_ios--;
	free(io->buf);
	free(io);
}

static int bare_decode(struct worker *w, const json_t *json, struct bare_io *io, uint64_t *disk,
                       struct errbuf *eb)
{
	static const char *const ops[] = {
		[BLK_READ] = "read", [BLK_WRITE] = "write", [BLK_FLUSH] = "flush"};
	const char *op = json_string_value(json_object_get(json, "op"));
	uint64_t bytes = (uint64_t)json_integer_value(json_object_get(json, "bytes"));

	*disk = (uint64_t)json_integer_value(json_object_get(json, "disk"));
	if (*disk >= w->vm.disk_count || w->disks[*disk].blk == NULL || bytes > BARE_BYTES_MAX ||
	    op == NULL || w->bare_ios == BARE_REQUESTS_MAX) {
		return errbuf_set(eb, -EINVAL, "no such request of a disk");
	}
	while (io->req.op < ARRAY_LEN(ops) && strcmp(ops[io->req.op], op) != 0) {
		io->req.op++;
	}
	if (io->req.op == ARRAY_LEN(ops)) {
		return errbuf_set(eb, -EINVAL, "\"%.16s\" is no operation of a disk", op);
	}
	io->want = (uint8_t)json_integer_value(json_object_get(json, "byte"));
	if (io->req.op == BLK_FLUSH) {
		return 0;
	}
	io->req.offset_bytes = (uint64_t)json_integer_value(json_object_get(json, "offset"));
	io->req.len_bytes = bytes;
	io->buf = gw_malloc(bytes + 1);
	if (io->buf == NULL) {
		return -ENOMEM;
	}
	memset(io->buf, io->req.op == BLK_WRITE ? io->want : (uint8_t)~io->want, bytes);
	io->iov = (struct iovec){.iov_base = io->buf, .iov_len = bytes};
	io->req.iov = &io->iov;
	io->req.iov_count = 1;
	return 0;
}

void worker_bare_disk(struct worker *w, struct control_request *req)
{
	struct bare_io *io = gw_calloc(1, sizeof(*io));
	struct errbuf eb = {0};
	uint64_t disk = 0;
	int err = io == NULL ? -ENOMEM : bare_decode(w, req->json, io, &disk, &eb);

	if (err != 0) {
		control_error(req, err, &eb);
		free(io);
		return;
	}
	io->w = w;
	io->asked = *req;
	io->asked.json = NULL;
	io->asked.cmd = NULL;
	io->req.done = bare_done;
	io->req.arg = io;
	w->bare_ios++;
	blk_submit(w->disks[disk].blk, &io->req);
}
