/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_PR_CSV_PR_SG_H
#define CSV_PR_CSV_PR_SG_H

/* csv_pr_sg - the door to the kernel: SCSI commands on a block device by SG_IO. */

#include <stdint.h>

#include "csv/pr/csv_pr.h"

struct csv_pr_sg {
	int fd; /* borrowed: of the device, open for writing */
	uint32_t timeout_ms;
};

/* The table for csv_pr_init(), with a struct csv_pr_sg as its argument. */
extern const struct csv_pr_door csv_pr_sg_door;

#endif
