/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <scsi/sg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "csv/pr/csv_pr_sg.h"

/* What the host's side says if the command did not get through (the kernel's DID_...). */
#define HOST_TIME_OUT 3
#define HOST_RESET 8

static int host_error(const struct sg_io_hdr *h)
{
	if (h->host_status == HOST_TIME_OUT) {
		return -ETIMEDOUT;
	}
	return h->host_status == HOST_RESET ? -EAGAIN : -EIO;
}

static int sg_run(void *arg, const uint8_t *cdb, bool out, void *data, size_t len, size_t *got,
                  struct csv_pr_status *status)
{
	const struct csv_pr_sg *sg = arg;
	uint8_t command[CSV_PR_CDB_BYTES];
	struct sg_io_hdr h = {
		.interface_id = 'S',
		.dxfer_direction = out ? SG_DXFER_TO_DEV : SG_DXFER_FROM_DEV,
		.cmd_len = sizeof(command),
		.mx_sb_len = sizeof(status->sense),
		.dxfer_len = (unsigned int)len,
		.dxferp = data,
		.cmdp = command,
		.sbp = status->sense,
		.timeout = sg->timeout_ms,
	};

	memcpy(command, cdb, sizeof(command));
	memset(status, 0, sizeof(*status));
	if (ioctl(sg->fd, SG_IO, &h) != 0) {
		return errno == EINVAL || errno == EOPNOTSUPP ? -ENOTTY : -errno;
	}
	status->status = h.status;
	status->sense_len = h.sb_len_wr <= sizeof(status->sense) ? h.sb_len_wr : 0;
	*got = h.resid > 0 && (size_t)h.resid <= len ? len - (size_t)h.resid : len;
	/* A status of the target counts more than what the host adds to it. */
	return h.host_status != 0 && h.status == 0 ? host_error(&h) : 0;
}

const struct csv_pr_door csv_pr_sg_door = {.run = sg_run};
