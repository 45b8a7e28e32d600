/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_STORVSP_SCSI_H
#define HV_VSP_STORVSP_SCSI_H

/*
 * scsi - what a disk or DVD drive answers to a command: pure, no I/O, no guest memory.
 *
 * scsi_execute() either has the whole answer (status, sense, data) or names block operations that
 * the caller carries out and turns into a status with scsi_io_result().
 * Sources: SPC-4 (r36), SBC-3 (r36), MMC-6; what guests send: docs/spec/storvsp.md.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/blk.h"
#include "base/guid.h"

#define SCSI_CDB_MAX 16u
#define SCSI_SENSE_BYTES 18u
#define SCSI_DATA_MAX 4096u       /* longest answer that is not disk content */
#define SCSI_PARAMETERS_MAX 4096u /* longest we take from a guest: a block of WRITE SAME */
#define SCSI_UNMAP_MAX 32u        /* descriptors in one UNMAP, told in VPD B0 */

enum scsi_kind { SCSI_DISK, SCSI_DVD };

enum scsi_status { SCSI_GOOD = 0x00, SCSI_CHECK_CONDITION = 0x02 };

/* One logical unit. The owner keeps info up to date. */
struct scsi_lun {
	enum scsi_kind kind;
	struct guid id;       /* names the unit for ever: serial number, NAA identifier */
	struct blk_info info; /* size_bytes 0 with a DVD: no medium */
	bool medium;          /* false: empty drive, or the guest ejected it */
	bool locked;          /* PREVENT MEDIUM REMOVAL */
	uint8_t attention_asc, attention_ascq; /* unit attention to report once; 0 = none */
	uint32_t transfer_max;                 /* bytes of one command, told in VPD B0 */
};

struct scsi_command {
	uint8_t cdb[SCSI_CDB_MAX];
	uint32_t data_in_bytes;  /* room of the guest's buffer, if it reads */
	uint32_t data_out_bytes; /* what it sends, if it writes */
	/* With scsi_parameters() != 0: the first bytes of what it sends. */
	const uint8_t *parameters;
	uint32_t parameter_bytes;
};

struct scsi_extent {
	uint64_t offset_bytes;
	uint64_t len_bytes;
};

enum scsi_next {
	SCSI_DONE, /* status, sense and data are final */
	SCSI_IO,   /* carry out op (one READ or WRITE of io_bytes, or extents one after another) */
};

struct scsi_answer {
	enum scsi_next next;
	enum scsi_status status;
	uint8_t sense[SCSI_SENSE_BYTES];
	uint32_t data_bytes; /* of data, already cut to data_in_bytes */
	enum blk_op op;
	uint32_t blk_flags;
	uint32_t extent_count; /* READ and WRITE: 1; FLUSH: 0 */
	struct scsi_extent extents[SCSI_UNMAP_MAX];
	/* Not set at all by READ and WRITE, which are many and need none. */
	uint8_t data[SCSI_DATA_MAX];
};

/* scsi_parameters() - how many bytes the command sends that scsi_execute() must see; 0 = none. */
uint32_t scsi_parameters(const struct scsi_command *cmd);

/* scsi_execute() - what @lun does with @cmd. @lun NULL: nothing is connected there. */
void scsi_execute(struct scsi_lun *lun, const struct scsi_command *cmd, struct scsi_answer *out);

/* scsi_io_result() - status and sense for the block layer's @result (0 or -errno). */
void scsi_io_result(enum blk_op op, int result, struct scsi_answer *out);

/* scsi_report_luns() - the answer of REPORT LUNS: @present[n] = LUN n exists, n < @count <= 256. */
void scsi_report_luns(const struct scsi_command *cmd, const bool *present, uint32_t count,
                      struct scsi_answer *out);

#endif
