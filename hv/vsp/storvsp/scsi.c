/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/storvsp/scsi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/check.h"
#include "base/wire.h"
#include "hv/vsp/storvsp/scsi_int.h"

/* The big-endian fields of CDBs and parameter lists. */
static uint16_t scsi_be16(const uint8_t *p)
{
	return be16_get((be16){{p[0], p[1]}});
}

static uint32_t scsi_be32(const uint8_t *p)
{
	be32 v;

	memcpy(&v, p, sizeof(v));
	return be32_get(v);
}

static uint64_t scsi_be64(const uint8_t *p)
{
	be64 v;

	memcpy(&v, p, sizeof(v));
	return be64_get(v);
}

void scsi_sense(struct scsi_answer *out, uint8_t key, uint8_t asc, uint8_t ascq)
{
	out->next = SCSI_DONE;
	out->status = SCSI_CHECK_CONDITION;
	out->data_bytes = 0;
	memset(out->sense, 0, sizeof(out->sense));
	out->sense[0] = 0x70; /* current error, fixed format */
	out->sense[2] = key;
	out->sense[7] = SCSI_SENSE_BYTES - 8;
	out->sense[12] = asc;
	out->sense[13] = ascq;
}

void scsi_data(struct scsi_answer *out, const struct scsi_command *cmd, uint32_t len,
               uint32_t allocation)
{
	CHECK(len <= sizeof(out->data));
	if (len > allocation) {
		len = allocation;
	}
	out->data_bytes = len < cmd->data_in_bytes ? len : cmd->data_in_bytes;
}

uint32_t scsi_block_bytes(const struct scsi_lun *lun)
{
	return lun->kind == SCSI_DVD ? SCSI_DVD_BLOCK_BYTES : lun->info.logical_bytes;
}

uint64_t scsi_blocks(const struct scsi_lun *lun)
{
	uint32_t unit = scsi_block_bytes(lun);

	return lun->medium && unit != 0 ? lun->info.size_bytes / unit : 0;
}

void scsi_io_result(enum blk_op op, int result, struct scsi_answer *out)
{
	bool write = op != BLK_READ;

	out->next = SCSI_DONE;
	out->data_bytes = 0;
	switch (result) {
	case 0:
		out->status = SCSI_GOOD;
		return;
	case -ENOSPC:
		scsi_sense(out, SCSI_KEY_DATA_PROTECT, 0x27, 0x07); /* space allocation failed */
		return;
	case -EROFS:
		scsi_sense(out, SCSI_KEY_DATA_PROTECT, 0x27, 0x00); /* write protected */
		return;
	case -ESTALE:
	case -ECANCELED:
		scsi_sense(out, SCSI_KEY_ABORTED, 0x00, 0x00);
		return;
	case -EINVAL:
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x21, 0x00); /* the size changed under it */
		return;
	default: /* an errno: everything else is a medium error */
		scsi_sense(out, SCSI_KEY_MEDIUM, write ? 0x0c : 0x11, 0x00);
		return;
	}
}

/* Is [lba, lba+count) on the medium? If not, the sense is set. */
static bool scsi_range(const struct scsi_lun *lun, uint64_t lba, uint64_t count,
                       struct scsi_answer *out)
{
	uint64_t blocks = scsi_blocks(lun);

	if (lba > blocks || count > blocks - lba) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x21, 0x00); /* LBA out of range */
		return false;
	}
	return true;
}

static void scsi_extent_set(const struct scsi_lun *lun, uint64_t lba, uint64_t count,
                            enum blk_op op, struct scsi_answer *out)
{
	uint32_t unit = scsi_block_bytes(lun);

	out->next = SCSI_IO;
	out->op = op;
	out->extents[out->extent_count++] =
		(struct scsi_extent){.offset_bytes = lba * unit, .len_bytes = count * unit};
}

/* LBA, length and FUA of the READ and WRITE family. Returns false for another opcode. */
static bool scsi_rw_decode(const uint8_t *cdb, uint64_t *lba, uint32_t *count, bool *write,
                           bool *fua)
{
	*fua = (cdb[1] & 0x08u) != 0;
	switch (cdb[0]) {
	case 0x08:
	case 0x0a:
		*write = cdb[0] == 0x0a;
		*fua = false;
		*lba = (uint64_t)(cdb[1] & 0x1fu) << 16 | scsi_be16(cdb + 2);
		*count = cdb[4] != 0 ? cdb[4] : 256;
		return true;
	case 0x28:
	case 0x2a:
		*write = cdb[0] == 0x2a;
		*lba = scsi_be32(cdb + 2);
		*count = scsi_be16(cdb + 7);
		return true;
	case 0xa8:
	case 0xaa:
		*write = cdb[0] == 0xaa;
		*lba = scsi_be32(cdb + 2);
		*count = scsi_be32(cdb + 6);
		return true;
	case 0x88:
	case 0x8a:
		*write = cdb[0] == 0x8a;
		*lba = scsi_be64(cdb + 2);
		*count = scsi_be32(cdb + 10);
		return true;
	default: /* an opcode */
		return false;
	}
}

static void scsi_rw(const struct scsi_lun *lun, const struct scsi_command *cmd, uint64_t lba,
                    uint32_t count, bool write, bool fua, struct scsi_answer *out)
{
	uint64_t bytes = (uint64_t)count * scsi_block_bytes(lun);
	uint32_t room = write ? cmd->data_out_bytes : cmd->data_in_bytes;

	if (!scsi_range(lun, lba, count, out)) {
		return;
	}
	if (write && (lun->info.read_only || lun->kind == SCSI_DVD)) {
		scsi_sense(out, SCSI_KEY_DATA_PROTECT, 0x27, 0x00);
		return;
	}
	if (count == 0) {
		return; /* legal, moves nothing */
	}
	if (bytes > lun->transfer_max || bytes > room) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
		return;
	}
	out->blk_flags = write && fua ? BLK_FUA : 0;
	scsi_extent_set(lun, lba, count, write ? BLK_WRITE : BLK_READ, out);
}

static void scsi_unmap(const struct scsi_lun *lun, const struct scsi_command *cmd,
                       struct scsi_answer *out)
{
	const uint8_t *p = cmd->parameters;
	uint32_t list = scsi_be16(cmd->cdb + 7);
	uint32_t len;

	if (list > cmd->parameter_bytes) {
		list = cmd->parameter_bytes;
	}
	if (lun->info.read_only) {
		scsi_sense(out, SCSI_KEY_DATA_PROTECT, 0x27, 0x00);
		return;
	}
	if (list < 8) {
		if (list != 0) { /* an empty one unmaps nothing [SBC-3 5.28.1] */
			scsi_sense(out, SCSI_KEY_ILLEGAL, 0x1a, 0x00); /* list length */
		}
		return;
	}
	len = scsi_be16(p + 2);
	if (len > list - 8) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x1a, 0x00);
		return;
	}
	if (len / 16 > SCSI_UNMAP_MAX) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x26, 0x00); /* field in parameter list */
		return;
	}
	for (uint32_t i = 0; i < len / 16; i++) {
		const uint8_t *d = p + 8 + (size_t)i * 16;
		uint64_t lba = scsi_be64(d);
		uint32_t count = scsi_be32(d + 8);

		if (!scsi_range(lun, lba, count, out)) {
			return;
		}
		if (count != 0) {
			scsi_extent_set(lun, lba, count, BLK_DISCARD, out);
		}
	}
}

/* WRITE SAME(16): zeros, or unmap. Other patterns have no user among guests. */
static void scsi_write_same(const struct scsi_lun *lun, const struct scsi_command *cmd,
                            struct scsi_answer *out)
{
	static const uint8_t zero[SCSI_PARAMETERS_MAX];
	uint64_t lba = scsi_be64(cmd->cdb + 2);
	uint64_t count = scsi_be32(cmd->cdb + 10);
	bool no_data = (cmd->cdb[1] & 0x01u) != 0;

	if (lun->info.read_only) {
		scsi_sense(out, SCSI_KEY_DATA_PROTECT, 0x27, 0x00);
		return;
	}
	if (!no_data && (cmd->parameter_bytes != scsi_block_bytes(lun) ||
	                 memcmp(cmd->parameters, zero, cmd->parameter_bytes) != 0)) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x26, 0x00);
		return;
	}
	if (!scsi_range(lun, lba, count, out)) {
		return;
	}
	if (count == 0) {
		count = scsi_blocks(lun) - lba; /* "to the end" [SBC-3 5.43] */
	}
	if (count != 0) {
		/* Zero is promised (LBPRZ is not): only BLK_ZERO keeps it. */
		scsi_extent_set(lun, lba, count, BLK_ZERO, out);
	}
}

uint32_t scsi_parameters(const struct scsi_command *cmd)
{
	switch (cmd->cdb[0]) {
	case 0x42: /* UNMAP */
	case 0x93: /* WRITE SAME(16) */
		return cmd->data_out_bytes < SCSI_PARAMETERS_MAX ? cmd->data_out_bytes
		                                                 : SCSI_PARAMETERS_MAX;
	default: /* an opcode */
		return 0;
	}
}

/* Commands that need a medium. Returns false for another opcode. */
static bool scsi_medium_command(struct scsi_lun *lun, const struct scsi_command *cmd,
                                struct scsi_answer *out)
{
	const uint8_t *cdb = cmd->cdb;
	uint64_t lba;
	uint32_t count;
	bool write;
	bool fua;

	if (scsi_rw_decode(cdb, &lba, &count, &write, &fua)) {
		scsi_rw(lun, cmd, lba, count, write, fua, out);
		return true;
	}
	switch (cdb[0]) {
	case 0x00: /* TEST UNIT READY */
		return true;
	case 0x25:
		scsi_read_capacity_10(lun, cmd, out);
		return true;
	case 0x9e:
		if ((cdb[1] & 0x1fu) != 0x10) {
			scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
			return true;
		}
		scsi_read_capacity_16(lun, cmd, out);
		return true;
	case 0x35: /* SYNCHRONIZE CACHE: all of it, whatever range */
	case 0x91:
		out->next = SCSI_IO;
		out->op = BLK_FLUSH;
		return true;
	case 0x2f: /* VERIFY without data: the medium is the file system's care */
	case 0x8f:
		if ((cdb[1] & 0x06u) != 0) {
			scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
		}
		return true;
	case 0x42:
		if (lun->kind != SCSI_DISK) {
			return false;
		}
		scsi_unmap(lun, cmd, out);
		return true;
	case 0x93:
		if (lun->kind != SCSI_DISK) {
			return false;
		}
		scsi_write_same(lun, cmd, out);
		return true;
	case 0x43:
		if (lun->kind != SCSI_DVD) {
			return false;
		}
		scsi_read_toc(lun, cmd, out);
		return true;
	case 0x51:
		if (lun->kind != SCSI_DVD) {
			return false;
		}
		scsi_read_disc_info(cmd, out);
		return true;
	default: /* an opcode */
		return false;
	}
}

static void scsi_start_stop(struct scsi_lun *lun, const struct scsi_command *cmd,
                            struct scsi_answer *out)
{
	bool load_eject = (cmd->cdb[4] & 0x02u) != 0;
	bool start = (cmd->cdb[4] & 0x01u) != 0;

	if (lun->kind != SCSI_DVD || !load_eject || start || !lun->medium) {
		return;
	}
	if (lun->locked) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x53, 0x02); /* medium removal prevented */
		return;
	}
	lun->medium = false; /* the owner still has it, until it is told otherwise */
}

/* Commands that need no medium. Returns false for another opcode. */
static bool scsi_unit_command(struct scsi_lun *lun, const struct scsi_command *cmd,
                              struct scsi_answer *out)
{
	switch (cmd->cdb[0]) {
	case 0x03:
		scsi_request_sense(cmd, out);
		return true;
	case 0x1a:
	case 0x5a:
		scsi_mode_sense(lun, cmd, out);
		return true;
	case 0x1b:
		scsi_start_stop(lun, cmd, out);
		return true;
	case 0x1e:
		lun->locked = (cmd->cdb[4] & 1u) != 0;
		return true;
	case 0x46:
		if (lun->kind != SCSI_DVD) {
			return false;
		}
		scsi_get_configuration(lun, cmd, out);
		return true;
	case 0x4a:
		if (lun->kind != SCSI_DVD) {
			return false;
		}
		scsi_get_event_status(lun, cmd, out);
		return true;
	case 0xbd:
		if (lun->kind != SCSI_DVD) {
			return false;
		}
		scsi_mechanism_status(cmd, out);
		return true;
	default: /* an opcode */
		return false;
	}
}

/* Commands that do not report a unit attention: those that the standards exempt [SPC-4 5.14,
 * MMC-6 4.1.5], and MODE SENSE, whose failure Linux takes for success on this controller, so that
 * the attention would be lost and an empty page believed. */
static bool scsi_attention_waits(uint8_t opcode)
{
	switch (opcode) {
	case 0x03: /* REQUEST SENSE */
	case 0x1a: /* MODE SENSE */
	case 0x46: /* GET CONFIGURATION */
	case 0x4a: /* GET EVENT STATUS NOTIFICATION */
	case 0x5a:
		return true;
	default: /* an opcode */
		return false;
	}
}

void scsi_execute(struct scsi_lun *lun, const struct scsi_command *cmd, struct scsi_answer *out)
{
	uint64_t lba;
	uint32_t count;
	bool write;
	bool fua;

	memset(out, 0, offsetof(struct scsi_answer, extents));
	out->next = SCSI_DONE;
	out->status = SCSI_GOOD;
	if (!scsi_rw_decode(cmd->cdb, &lba, &count, &write, &fua)) {
		memset(out->data, 0, sizeof(out->data));
	}
	if (cmd->cdb[0] == 0x12) {
		scsi_inquiry(lun, cmd, out);
		return;
	}
	if (lun == NULL) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x25, 0x00); /* logical unit not supported */
		return;
	}
	if (lun->attention_asc != 0 && !scsi_attention_waits(cmd->cdb[0])) {
		scsi_sense(out, SCSI_KEY_ATTENTION, lun->attention_asc, lun->attention_ascq);
		lun->attention_asc = 0;
		lun->attention_ascq = 0;
		return;
	}
	if (scsi_unit_command(lun, cmd, out)) {
		return;
	}
	if (!lun->medium) {
		scsi_sense(out, SCSI_KEY_NOT_READY, 0x3a, 0x00); /* medium not present */
		return;
	}
	if (!scsi_medium_command(lun, cmd, out)) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x20, 0x00); /* invalid operation code */
	}
}
