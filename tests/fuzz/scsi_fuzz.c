/* SPDX-License-Identifier: Apache-2.0 */

/* scsi_fuzz - byte 0: the unit; 16 bytes of CDB; 2 of lengths; the rest are parameters. */

#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "hv/vsp/storvsp/scsi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct scsi_answer out;
	uint8_t head[19] = {0};
	uint8_t parameters[SCSI_PARAMETERS_MAX] = {0};
	struct scsi_command cmd = {.parameters = parameters};

	memcpy(head, data, len < sizeof(head) ? len : sizeof(head));
	if (len > sizeof(head)) {
		size_t n = len - sizeof(head);

		memcpy(parameters, data + sizeof(head),
		       n < sizeof(parameters) ? n : sizeof(parameters));
	}

	struct scsi_lun lun = {
		.kind = (head[0] & 1) != 0 ? SCSI_DVD : SCSI_DISK,
		.info = {.size_bytes = 1ull << (20 + head[0] % 40),
	                 .logical_bytes = (head[0] & 2) != 0 ? 4096 : 512,
	                 .physical_bytes = 4096,
	                 .discard_bytes = (head[0] & 4) != 0 ? 1u << 20 : 0,
	                 .read_only = (head[0] & 8) != 0},
		.medium = (head[0] & 16) == 0,
		.attention_asc = (head[0] & 32) != 0 ? 0x29 : 0,
		.transfer_max = 512u << 10,
	};

	memcpy(cmd.cdb, head + 1, sizeof(cmd.cdb));
	cmd.data_in_bytes = head[17] * 4001u;
	cmd.data_out_bytes = head[18] * 509u;
	cmd.parameter_bytes = scsi_parameters(&cmd);
	CHECK(cmd.parameter_bytes <= sizeof(parameters));
	memset(out.data, 0x99, sizeof(out.data));
	scsi_execute((head[0] & 64) != 0 ? NULL : &lun, &cmd, &out);
	CHECK(out.data_bytes <= cmd.data_in_bytes && out.data_bytes <= sizeof(out.data));
	for (uint32_t i = 0; out.next == SCSI_IO && i < out.extent_count; i++) {
		const struct scsi_extent *e = &out.extents[i];

		CHECK(out.status == SCSI_GOOD && e->len_bytes != 0);
		CHECK(e->offset_bytes <= lun.info.size_bytes &&
		      e->len_bytes <= lun.info.size_bytes - e->offset_bytes);
		CHECK(out.op != BLK_READ || e->len_bytes <= cmd.data_in_bytes);
		CHECK(out.op != BLK_WRITE || e->len_bytes <= cmd.data_out_bytes);
	}
	return 0;
}
