/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_STORVSP_SCSI_INT_H
#define HV_VSP_STORVSP_SCSI_INT_H

/* Shared by scsi.c (commands) and scsi_pages.c (answers that describe the unit). */

#include "hv/vsp/storvsp/scsi.h"

#define SCSI_KEY_NOT_READY 0x02u
#define SCSI_KEY_MEDIUM 0x03u
#define SCSI_KEY_ILLEGAL 0x05u
#define SCSI_KEY_ATTENTION 0x06u
#define SCSI_KEY_DATA_PROTECT 0x07u
#define SCSI_KEY_ABORTED 0x0bu

#define SCSI_DVD_BLOCK_BYTES 2048u

void scsi_sense(struct scsi_answer *out, uint8_t key, uint8_t asc, uint8_t ascq);

/* out->data holds @len bytes: give the guest what fits its allocation length and its buffer. */
void scsi_data(struct scsi_answer *out, const struct scsi_command *cmd, uint32_t len,
               uint32_t allocation);

uint32_t scsi_block_bytes(const struct scsi_lun *lun);
uint64_t scsi_blocks(const struct scsi_lun *lun);

void scsi_inquiry(const struct scsi_lun *lun, const struct scsi_command *cmd,
                  struct scsi_answer *out);
void scsi_request_sense(const struct scsi_command *cmd, struct scsi_answer *out);
void scsi_mode_sense(const struct scsi_lun *lun, const struct scsi_command *cmd,
                     struct scsi_answer *out);
void scsi_read_capacity_10(const struct scsi_lun *lun, const struct scsi_command *cmd,
                           struct scsi_answer *out);
void scsi_read_capacity_16(const struct scsi_lun *lun, const struct scsi_command *cmd,
                           struct scsi_answer *out);
void scsi_read_toc(const struct scsi_lun *lun, const struct scsi_command *cmd,
                   struct scsi_answer *out);
void scsi_read_disc_info(const struct scsi_command *cmd, struct scsi_answer *out);
void scsi_get_configuration(const struct scsi_lun *lun, const struct scsi_command *cmd,
                            struct scsi_answer *out);
void scsi_get_event_status(const struct scsi_lun *lun, const struct scsi_command *cmd,
                           struct scsi_answer *out);
void scsi_mechanism_status(const struct scsi_command *cmd, struct scsi_answer *out);

#endif
