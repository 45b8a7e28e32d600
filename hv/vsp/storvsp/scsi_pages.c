/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/wire.h"
#include "hv/vsp/storvsp/scsi_int.h"

#define SCSI_TYPE_DISK 0x00u
#define SCSI_TYPE_DVD 0x05u
#define SCSI_TYPE_NOTHING 0x7fu
#define SCSI_SPC4 0x06u
#define SCSI_UNMAP_LBAS_MAX UINT32_MAX

static void put16(uint8_t *p, uint16_t v)
{
	be16 w = be16_make(v);

	memcpy(p, &w, sizeof(w));
}

static void put32(uint8_t *p, uint32_t v)
{
	be32 w = be32_make(v);

	memcpy(p, &w, sizeof(w));
}

static void put64(uint8_t *p, uint64_t v)
{
	be64 w = be64_make(v);

	memcpy(p, &w, sizeof(w));
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* ---- INQUIRY ---- */

static uint32_t scsi_inquiry_standard(const struct scsi_lun *lun, uint8_t *d)
{
	d[0] = SCSI_TYPE_NOTHING;
	if (lun != NULL) {
		d[0] = lun->kind == SCSI_DVD ? SCSI_TYPE_DVD : SCSI_TYPE_DISK;
		d[1] = lun->kind == SCSI_DVD ? 0x80 : 0x00; /* removable */
	}
	d[2] = SCSI_SPC4;
	d[3] = 0x02; /* response data format */
	d[4] = 36 - 5;
	d[7] = 0x02; /* command queueing */
	/* What guests know: for "Msft" Linux trusts VPD pages B0 and B2 and scans past LUN 0. */
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): padded */
	memcpy(d + 8, "Msft    ", 8);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): padded */
	memcpy(d + 16,
	       lun != NULL && lun->kind == SCSI_DVD ? "Virtual DVD-ROM " : "Virtual Disk    ", 16);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): padded */
	memcpy(d + 32, "1.0 ", 4);
	return 36;
}

static uint32_t scsi_vpd_serial(const struct scsi_lun *lun, uint8_t *d)
{
	char text[33];

	for (size_t i = 0; i < 16; i++) {
		(void)snprintf(text + 2 * i, 3, "%02x", lun->id.b[i]);
	}
	memcpy(d + 4, text, 32);
	return 4 + 32;
}

static uint32_t scsi_vpd_identification(const struct scsi_lun *lun, uint8_t *d)
{
	uint8_t *p = d + 4;

	/* NAA 3h, locally assigned: 60 bits of the unit's GUID. */
	p[0] = 0x01; /* binary */
	p[1] = 0x03; /* NAA */
	p[3] = 8;
	memcpy(p + 4, lun->id.b + 8, 8);
	p[4] = (uint8_t)(0x30 | (p[4] & 0x0f));
	p += 12;
	/* T10 vendor id with the whole GUID. */
	p[0] = 0x02; /* ASCII */
	p[1] = 0x01;
	p[3] = 8 + 32;
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): padded */
	memcpy(p + 4, "Msft    ", 8);
	for (size_t i = 0; i < 16; i++) {
		char two[3];

		(void)snprintf(two, sizeof(two), "%02x", lun->id.b[i]);
		memcpy(p + 12 + 2 * i, two, 2);
	}
	return 4 + 12 + 44;
}

static uint32_t scsi_vpd_limits(const struct scsi_lun *lun, uint8_t *d)
{
	uint32_t unit = scsi_block_bytes(lun);
	uint32_t granularity = lun->info.discard_bytes / unit;

	put32(d + 8, lun->transfer_max / unit);
	put32(d + 12, lun->transfer_max / unit);
	if (lun->info.discard_bytes != 0 && !lun->info.read_only) {
		put32(d + 20, SCSI_UNMAP_LBAS_MAX);
		put32(d + 24, SCSI_UNMAP_MAX);
		put32(d + 28, granularity != 0 ? granularity : 1);
		put32(d + 32, 0x80000000u); /* alignment 0 is valid */
	}
	if (!lun->info.read_only) {
		put64(d + 36, UINT32_MAX); /* WRITE SAME */
	}
	return 64;
}

static uint32_t scsi_vpd(const struct scsi_lun *lun, uint8_t page, uint8_t *d)
{
	static const uint8_t disk_pages[] = {0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};
	static const uint8_t dvd_pages[] = {0x00, 0x80, 0x83};
	bool disk = lun->kind == SCSI_DISK;
	uint32_t len = 0;

	switch (page) {
	case 0x00:
		len = disk ? sizeof(disk_pages) : sizeof(dvd_pages);
		memcpy(d + 4, disk ? disk_pages : dvd_pages, len);
		len += 4;
		break;
	case 0x80:
		len = scsi_vpd_serial(lun, d);
		break;
	case 0x83:
		len = scsi_vpd_identification(lun, d);
		break;
	case 0xb0:
		len = disk ? scsi_vpd_limits(lun, d) : 0;
		break;
	case 0xb1:
		if (disk) {
			put16(d + 4, lun->info.rotational ? 7200 : 1);
			len = 64;
		}
		break;
	case 0xb2:
		if (disk) {
			bool unmap = lun->info.discard_bytes != 0 && !lun->info.read_only;

			d[5] = unmap ? 0x80 : 0x00; /* LBPU; what is read afterwards is not told */
			d[6] = unmap ? 0x02 : 0x00; /* thin */
			len = 8;
		}
		break;
	default: /* a page code */
		break;
	}
	if (len != 0) {
		d[0] = disk ? SCSI_TYPE_DISK : SCSI_TYPE_DVD;
		d[1] = page;
		put16(d + 2, (uint16_t)(len - 4));
	}
	return len;
}

void scsi_inquiry(const struct scsi_lun *lun, const struct scsi_command *cmd,
                  struct scsi_answer *out)
{
	bool vital = (cmd->cdb[1] & 0x01u) != 0;
	uint32_t len;

	if (!vital && cmd->cdb[2] != 0) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
		return;
	}
	len = !vital ? scsi_inquiry_standard(lun, out->data)
	             : (lun != NULL ? scsi_vpd(lun, cmd->cdb[2], out->data) : 0);
	if (len == 0) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
		return;
	}
	scsi_data(out, cmd, len, get16(cmd->cdb + 3));
}

void scsi_request_sense(const struct scsi_command *cmd, struct scsi_answer *out)
{
	/* Sense goes with each command (autosense): there is never any left. */
	out->data[0] = 0x70;
	out->data[7] = SCSI_SENSE_BYTES - 8;
	scsi_data(out, cmd, SCSI_SENSE_BYTES, cmd->cdb[4]);
}

/* ---- MODE SENSE ---- */

static uint32_t scsi_mode_pages(const struct scsi_lun *lun, uint8_t page, bool changeable,
                                uint8_t *d)
{
	uint32_t len = 0;

	if (page == 0x08 || page == 0x3f) { /* caching */
		d[len] = 0x08;
		d[len + 1] = 0x12;
		/* WCE: a write is durable after a flush or with FUA, not before. */
		d[len + 2] = !changeable && lun->kind == SCSI_DISK ? 0x04 : 0x00;
		len += 20;
	}
	if (page == 0x0a || page == 0x3f) { /* control */
		d[len] = 0x0a;
		d[len + 1] = 0x0a;
		len += 12;
	}
	if ((page == 0x2a || page == 0x3f) && lun->kind == SCSI_DVD) { /* capabilities */
		d[len] = 0x2a;
		d[len + 1] = 0x12;
		if (!changeable) {
			d[len + 2] = 0x3b; /* reads CD-R, CD-RW, DVD-ROM, DVD-R */
			d[len + 6] = 0x28; /* tray, eject */
		}
		len += 20;
	}
	return len;
}

void scsi_mode_sense(const struct scsi_lun *lun, const struct scsi_command *cmd,
                     struct scsi_answer *out)
{
	bool ten = cmd->cdb[0] == 0x5a;
	uint8_t page = cmd->cdb[2] & 0x3fu;
	uint8_t control = cmd->cdb[2] >> 6;
	uint32_t head = ten ? 8 : 4;
	uint8_t *d = out->data;
	uint32_t len;
	uint8_t flags = 0;

	if (control == 3) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x39, 0x00); /* saving is not supported */
		return;
	}
	len = scsi_mode_pages(lun, page, control == 1, d + head);
	if (len == 0) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
		return;
	}
	len += head;
	if (lun->kind == SCSI_DISK) {
		flags = (uint8_t)((lun->info.read_only ? 0x80 : 0) | 0x10); /* WP; DPO and FUA */
	}
	if (ten) {
		put16(d, (uint16_t)(len - 2));
		d[3] = flags;
	} else {
		d[0] = (uint8_t)(len - 1);
		d[2] = flags;
	}
	scsi_data(out, cmd, len, ten ? get16(cmd->cdb + 7) : cmd->cdb[4]);
}

/* ---- capacity ---- */

void scsi_read_capacity_10(const struct scsi_lun *lun, const struct scsi_command *cmd,
                           struct scsi_answer *out)
{
	uint64_t blocks = scsi_blocks(lun);
	uint64_t last = blocks != 0 ? blocks - 1 : 0;

	put32(out->data, last < UINT32_MAX ? (uint32_t)last : UINT32_MAX);
	put32(out->data + 4, scsi_block_bytes(lun));
	scsi_data(out, cmd, 8, 8);
}

void scsi_read_capacity_16(const struct scsi_lun *lun, const struct scsi_command *cmd,
                           struct scsi_answer *out)
{
	uint64_t blocks = scsi_blocks(lun);
	uint32_t unit = scsi_block_bytes(lun);
	uint32_t ratio = lun->kind == SCSI_DISK ? lun->info.physical_bytes / unit : 1;
	uint8_t exponent = 0;

	while (ratio > 1) {
		ratio /= 2;
		exponent++;
	}
	put64(out->data, blocks != 0 ? blocks - 1 : 0);
	put32(out->data + 8, unit);
	out->data[13] = exponent & 0x0f;
	if (lun->info.discard_bytes != 0 && !lun->info.read_only) {
		out->data[14] = 0x80; /* LBPME */
	}
	uint32_t allocation = (uint32_t)get16(cmd->cdb + 10) << 16 | get16(cmd->cdb + 12);

	scsi_data(out, cmd, 32, allocation);
}

/* ---- REPORT LUNS ---- */

void scsi_report_luns(const struct scsi_command *cmd, const bool *present, uint32_t count,
                      struct scsi_answer *out)
{
	uint32_t len = 8;

	CHECK(count <= 256);
	*out = (struct scsi_answer){.next = SCSI_DONE, .status = SCSI_GOOD};
	for (uint32_t i = 0; i < count; i++) {
		if (present[i]) {
			out->data[len + 1] = (uint8_t)i; /* peripheral device addressing */
			len += 8;
		}
	}
	put32(out->data, len - 8);
	uint32_t allocation = (uint32_t)get16(cmd->cdb + 6) << 16 | get16(cmd->cdb + 8);

	scsi_data(out, cmd, len, allocation);
}

/* ---- DVD (MMC) ---- */

void scsi_read_toc(const struct scsi_lun *lun, const struct scsi_command *cmd,
                   struct scsi_answer *out)
{
	uint8_t format = cmd->cdb[2] & 0x0fu;
	bool msf = (cmd->cdb[1] & 0x02u) != 0;
	uint8_t *d = out->data;
	uint64_t end = scsi_blocks(lun);

	if (msf || format > 1) {
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
		return;
	}
	d[2] = 1; /* first track or session */
	d[3] = 1;
	d[5] = 0x14; /* data track */
	d[6] = 1;
	if (format == 0) {
		put16(d, 18);
		d[13] = 0x14;
		d[14] = 0xaa; /* lead-out */
		put32(d + 16, end < UINT32_MAX ? (uint32_t)end : UINT32_MAX);
		scsi_data(out, cmd, 20, get16(cmd->cdb + 7));
	} else {
		put16(d, 10);
		scsi_data(out, cmd, 12, get16(cmd->cdb + 7));
	}
}

void scsi_read_disc_info(const struct scsi_command *cmd, struct scsi_answer *out)
{
	uint8_t *d = out->data;

	put16(d, 32);
	d[2] = 0x0e; /* complete, last session complete */
	d[3] = 1;
	d[4] = 1;
	d[5] = 1;
	d[6] = 1;
	scsi_data(out, cmd, 34, get16(cmd->cdb + 7));
}

void scsi_get_configuration(const struct scsi_lun *lun, const struct scsi_command *cmd,
                            struct scsi_answer *out)
{
	uint8_t *d = out->data;

	put16(d + 6, lun->medium ? 0x0010 : 0x0000); /* current profile: DVD-ROM */
	/* Feature 0, profile list: DVD-ROM and CD-ROM. */
	d[10] = 0x03;
	d[11] = 8;
	put16(d + 12, 0x0010);
	d[14] = lun->medium ? 1 : 0;
	put16(d + 16, 0x0008);
	put32(d, 20 - 4);
	scsi_data(out, cmd, 20, get16(cmd->cdb + 7));
}

void scsi_get_event_status(const struct scsi_lun *lun, const struct scsi_command *cmd,
                           struct scsi_answer *out)
{
	uint8_t *d = out->data;

	if ((cmd->cdb[1] & 1u) == 0) { /* asynchronous is not supported */
		scsi_sense(out, SCSI_KEY_ILLEGAL, 0x24, 0x00);
		return;
	}
	d[3] = 0x10; /* supported: media class */
	if ((cmd->cdb[4] & 0x10u) == 0) {
		put16(d, 2);
		d[2] = 0x80; /* no event of the classes asked for */
		scsi_data(out, cmd, 4, get16(cmd->cdb + 7));
		return;
	}
	put16(d, 6);
	d[2] = 0x04; /* media */
	d[5] = lun->medium ? 0x02 : 0x00;
	scsi_data(out, cmd, 8, get16(cmd->cdb + 7));
}

void scsi_mechanism_status(const struct scsi_command *cmd, struct scsi_answer *out)
{
	scsi_data(out, cmd, 8, get16(cmd->cdb + 8));
}
