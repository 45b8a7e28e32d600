/* SPDX-License-Identifier: Apache-2.0 */

/* srb - one SCSI request: from the packet to the block layer and back. */

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "hv/vsp/storvsp/storvsp_int.h"

static void storvsp_srb_fill(struct storvsp_request *r, uint8_t srb_status, uint32_t moved)
{
	struct storvsp_srb *srb = &r->reply.u.srb;

	srb->srb_status = srb_status;
	srb->scsi_status = (uint8_t)r->answer.status;
	srb->transfer_bytes = le32_make(moved);
	srb->sense_bytes = 0;
	memset(srb->cdb_or_sense, 0, sizeof(srb->cdb_or_sense));
	if (r->answer.status == SCSI_CHECK_CONDITION) {
		srb->srb_status = STORVSP_SRB_ERROR | STORVSP_SRB_SENSE_VALID;
		srb->sense_bytes = SCSI_SENSE_BYTES;
		memcpy(srb->cdb_or_sense, r->answer.sense, SCSI_SENSE_BYTES);
	}
}

/* Copy an answer's data into the guest's pages. */
static void storvsp_data_in(struct storvsp_request *r)
{
	struct gmem *mem = r->channel->s->env.mem;
	uint32_t left = r->answer.data_bytes;
	const uint8_t *from = r->answer.data;

	for (uint32_t i = 0; i < r->piece_count && left != 0; i++) {
		uint32_t n = r->pieces[i].len_bytes < left ? r->pieces[i].len_bytes : left;

		CHECK(gmem_write(mem, r->pieces[i].gpa, from, n) == 0); /* decoded inside RAM */
		from += n;
		left -= n;
	}
}

static void storvsp_srb_finish(struct storvsp_request *r, uint32_t moved)
{
	struct storvsp *s = r->channel->s;

	if (r->answer.status == SCSI_CHECK_CONDITION) {
		s->stats.errors++;
	}
	storvsp_srb_fill(r, STORVSP_SRB_SUCCESS, moved);
	storvsp_answer(r);
}

static void storvsp_io_done(struct blk_req *req, int result);

static void storvsp_io_submit(struct storvsp_request *r)
{
	const struct scsi_extent *e = &r->answer.extents[r->extent_next];
	bool data = r->answer.op == BLK_READ || r->answer.op == BLK_WRITE;
	bool range = r->answer.op != BLK_FLUSH;

	r->extent_next++;
	r->blk = (struct blk_req){
		.op = r->answer.op,
		.flags = r->answer.blk_flags,
		.offset_bytes = range ? e->offset_bytes : 0,
		.len_bytes = range ? e->len_bytes : 0,
		.iov = data ? r->iov : NULL,
		.iov_count = data ? r->piece_count : 0,
		.done = storvsp_io_done,
		.arg = r,
	};
	blk_submit(r->unit->blk, &r->blk);
}

static void storvsp_io_count(struct storvsp *s, const struct storvsp_request *r)
{
	uint64_t bytes = r->blk.len_bytes;

	switch (r->answer.op) {
	case BLK_READ:
		s->stats.reads++;
		s->stats.read_bytes += bytes;
		return;
	case BLK_WRITE:
		s->stats.writes++;
		s->stats.write_bytes += bytes;
		return;
	case BLK_FLUSH:
		s->stats.flushes++;
		return;
	case BLK_DISCARD:
	case BLK_ZERO:
	case BLK_RESIZE:
	case BLK_OP_COUNT:
		s->stats.others++;
		return;
	}
}

static void storvsp_io_done(struct blk_req *req, int result)
{
	struct storvsp_request *r = req->arg;
	struct storvsp *s = r->channel->s;
	enum blk_op op = r->answer.op;
	uint32_t moved = 0;

	storvsp_io_count(s, r);
	if (op == BLK_READ) {
		for (uint32_t i = 0; i < r->piece_count; i++) {
			gmem_dirty(s->env.mem, r->pieces[i].gpa, r->pieces[i].len_bytes);
		}
	}
	if (result == 0 && r->extent_next < r->answer.extent_count) {
		storvsp_io_submit(r);
		return;
	}
	if (result == 0 && (op == BLK_READ || op == BLK_WRITE)) {
		moved = (uint32_t)r->blk.len_bytes;
	}
	scsi_io_result(op, result, &r->answer);
	r->unit->in_flight--;
	storvsp_srb_finish(r, moved);
}

/* The transfer may be shorter than the buffer the guest gave: cut the iov to it. */
static void storvsp_iov(struct storvsp_request *r, uint64_t bytes)
{
	struct gmem *mem = r->channel->s->env.mem;
	uint32_t n = 0;

	for (; n < r->piece_count && bytes != 0; n++) {
		if (r->pieces[n].len_bytes > bytes) {
			r->pieces[n].len_bytes = (uint32_t)bytes;
		}
		r->iov[n].iov_base = gmem_range(mem, r->pieces[n].gpa, r->pieces[n].len_bytes);
		r->iov[n].iov_len = r->pieces[n].len_bytes;
		CHECK(r->iov[n].iov_base != NULL);
		bytes -= r->pieces[n].len_bytes;
	}
	CHECK(bytes == 0); /* scsi_execute() bounds a transfer by the buffer */
	r->piece_count = n;
}

/* What UNMAP and WRITE SAME bring with them: copied once. Returns its length. */
static uint32_t storvsp_parameters(const struct storvsp_request *r, uint32_t want, uint8_t *buf)
{
	struct gmem *mem = r->channel->s->env.mem;
	uint32_t got = 0;

	for (uint32_t i = 0; i < r->piece_count && got < want; i++) {
		uint32_t n =
			r->pieces[i].len_bytes < want - got ? r->pieces[i].len_bytes : want - got;

		CHECK(gmem_read(mem, r->pieces[i].gpa, buf + got, n) == 0);
		got += n;
	}
	return got;
}

/* All units are at path 0, target 0; a guest that asks at another one is told that it is empty. */
static void storvsp_report_luns(struct storvsp *s, const struct storvsp_srb *srb,
                                const struct scsi_command *cmd, struct scsi_answer *out)
{
	bool here = srb->path == 0 && srb->target == 0;
	bool present[STORVSP_LUNS_MAX];

	for (uint32_t i = 0; i < STORVSP_LUNS_MAX; i++) {
		present[i] = here && s->units[i].present;
	}
	scsi_report_luns(cmd, present, STORVSP_LUNS_MAX, out);
}

static struct storvsp_unit *storvsp_unit_find(struct storvsp *s, const struct storvsp_srb *srb)
{
	if (srb->path != 0 || srb->target != 0 || srb->lun >= STORVSP_LUNS_MAX ||
	    !s->units[srb->lun].present) {
		return NULL;
	}
	return &s->units[srb->lun];
}

/* Linux takes any result of these for success on this controller: what it then reads is zero, not
 * what was in its memory before. */
static void storvsp_refused_data(struct storvsp_request *r, const struct scsi_command *cmd)
{
	uint8_t opcode = cmd->cdb[0];

	if (r->answer.status == SCSI_CHECK_CONDITION &&
	    (opcode == 0x12 || opcode == 0x1a || opcode == 0x5a)) {
		memset(r->answer.data, 0, sizeof(r->answer.data));
		r->answer.data_bytes = cmd->data_in_bytes < sizeof(r->answer.data)
		                               ? cmd->data_in_bytes
		                               : (uint32_t)sizeof(r->answer.data);
		storvsp_data_in(r);
		r->answer.data_bytes = 0;
	}
}

static void storvsp_execute(struct storvsp_request *r, const struct storvsp_srb *srb,
                            uint32_t buffer_bytes)
{
	struct storvsp *s = r->channel->s;
	struct storvsp_unit *unit = storvsp_unit_find(s, srb);
	uint8_t parameters[SCSI_PARAMETERS_MAX];
	struct scsi_command cmd = {
		.data_in_bytes = srb->direction == STORVSP_READ ? buffer_bytes : 0,
		.data_out_bytes = srb->direction == STORVSP_WRITE ? buffer_bytes : 0,
		.parameters = parameters,
	};

	memcpy(cmd.cdb, srb->cdb_or_sense, sizeof(cmd.cdb));
	if (srb->cdb_bytes < sizeof(cmd.cdb)) {
		memset(cmd.cdb + srb->cdb_bytes, 0, sizeof(cmd.cdb) - srb->cdb_bytes);
	}
	cmd.parameter_bytes = storvsp_parameters(r, scsi_parameters(&cmd), parameters);
	if (unit == NULL && cmd.cdb[0] != 0x12 && !(cmd.cdb[0] == 0xa0 && srb->lun == 0)) {
		storvsp_srb_fill(r, STORVSP_SRB_INVALID_LUN, 0);
		storvsp_answer(r);
		return;
	}
	if (cmd.cdb[0] == 0xa0) {
		storvsp_report_luns(s, srb, &cmd, &r->answer);
	} else {
		scsi_execute(unit != NULL ? &unit->scsi : NULL, &cmd, &r->answer);
	}
	r->unit = unit;
	if (r->answer.next == SCSI_DONE) {
		storvsp_refused_data(r, &cmd);
		storvsp_data_in(r);
		storvsp_srb_finish(r, r->answer.data_bytes);
		return;
	}
	if (r->answer.op == BLK_READ || r->answer.op == BLK_WRITE) {
		storvsp_iov(r, r->answer.extents[0].len_bytes);
	}
	unit->in_flight++;
	r->extent_next = 0;
	storvsp_io_submit(r);
}

void storvsp_srb(struct storvsp_channel *ch, const struct vmbus_packet *pkt,
                 const struct storvsp_packet *in, struct storvsp_request *r)
{
	const struct storvsp_srb *srb = &in->u.srb;
	uint64_t buffer_bytes = 0;
	int err = 0;

	r->answer.status = SCSI_GOOD;
	r->piece_count = 0;
	if (pkt->type == VMBUS_PACKET_GPA_DIRECT) {
		err = vmbus_ranges_decode(ch->s->env.mem, pkt, r->pieces, STORVSP_PIECES_MAX,
		                          &r->piece_count, &buffer_bytes);
	}
	if (err != 0 || srb->cdb_bytes == 0 || srb->cdb_bytes > SCSI_CDB_MAX ||
	    srb->direction > STORVSP_NO_DATA || le32_get(srb->transfer_bytes) > buffer_bytes) {
		log_limited(&ch->s->limit, LOG_LEVEL_WARN, "storvsp",
		            "bad request refused vm=%s error=%d", ch->s->env.vm_name, err);
		r->piece_count = 0;
		storvsp_srb_fill(r, STORVSP_SRB_INVALID_REQUEST, 0);
		storvsp_answer(r);
		return;
	}
	storvsp_execute(r, srb, le32_get(srb->transfer_bytes));
}
