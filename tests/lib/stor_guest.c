/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/stor_guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "hv/save/save.h"
#include "hv/vsp/vsp.h"

#define STOR_RING_PAGES 32u
#define STOR_PAGE 4096u

const struct guid stor_interface =
	GUID_INIT(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f);

static const struct guid stor_instance =
	GUID_INIT(0xf8b3781a, 0x1e82, 0x4818, 0xa1, 0xc3, 0x63, 0xd8, 0x06, 0xec, 0x15, 0xbb);

static void stor_must(bool ok, const char *what)
{
	if (!ok) {
		(void)fprintf(stderr, "stor_guest: %s\n", what);
		abort();
	}
}

int stor_vsp_create(struct stor *s, struct vsp **out)
{
	struct errbuf eb = {0};
	struct storvsp_lun_cfg luns[3] = {
		{.lun = STOR_LUN_DISK,
	         .id.b = {1, 2, 3},
	         .blk = s->later ? NULL : fake_disk_blk(s->disk),
	         .later = s->later},
	};
	uint32_t n = 1;

	if (s->second != NULL) {
		luns[n++] = (struct storvsp_lun_cfg){
			.lun = STOR_LUN_SECOND, .id.b = {4, 5}, .blk = fake_disk_blk(s->second)};
	}
	if (s->cfg.dvd) {
		luns[n++] = (struct storvsp_lun_cfg){
			.lun = STOR_LUN_DVD,
			.kind = SCSI_DVD,
			.id.b = {6},
			.blk = s->dvd != NULL ? fake_disk_blk(s->dvd) : NULL,
		};
	}

	const struct storvsp_cfg cfg = {
		.instance_id = stor_instance,
		.sub_channels_max = s->cfg.sub_channels_max,
		.luns = luns,
		.lun_count = n,
	};

	return storvsp_create(guest_env(s->g), &cfg, out, &eb);
}

void stor_create(const struct stor_cfg *cfg, struct stor *out)
{
	struct stor *s = out;

	*s = (struct stor){.id_next = 1};
	if (cfg != NULL) {
		s->cfg = *cfg;
	}
	if (s->cfg.guest.ram_bytes == 0) {
		s->cfg.guest.ram_bytes = 16u << 20;
	}
	if (s->cfg.disk.size_bytes == 0) {
		s->cfg.disk.size_bytes = STOR_DISK_BYTES;
	}
	if (s->cfg.ring_pages == 0) {
		s->cfg.ring_pages = STOR_RING_PAGES;
	}
	guest_create(&s->cfg.guest, &s->g);
	guest_alloc(s->g, STOR_BUFFER_PAGES, s->pfns);
	s->disk = fake_disk_create(&s->cfg.disk, guest_uring(s->g));
	if (s->cfg.second) {
		s->second = fake_disk_create(&s->cfg.disk, guest_uring(s->g));
	}
	if (s->cfg.dvd && !s->cfg.dvd_empty) {
		const struct fake_disk_cfg dvd = {.size_bytes = 1u << 20, .read_only = true};

		s->dvd = fake_disk_create(&dvd, guest_uring(s->g));
	}
	stor_must(stor_vsp_create(s, &s->vsp) == 0, "storvsp_create");
}

void stor_destroy(struct stor *s)
{
	guest_unload(s->g);
	s->vsp->ops->destroy(s->vsp);
	stor_must(fake_disk_is_closed(s->disk), "the disk was not closed");
	fake_disk_destroy(s->disk);
	fake_disk_destroy(s->second);
	fake_disk_destroy(s->dvd);
	guest_destroy(s->g);
}

/* ---- initialisation ---- */

void stor_open(struct stor *s)
{
	struct guest_offer *o = guest_offer_find(s->g, &stor_interface, 0);

	stor_must(o != NULL, "the controller is not offered");
	stor_must(guest_open(s->g, o, s->cfg.ring_pages, s->cfg.ring_pages, &s->chans[0]) == 0,
	          "open refused");
}

uint32_t stor_control(struct stor *s, uint32_t op, struct storvsp_packet *packet)
{
	uint64_t id = UINT64_MAX - 2; /* Linux's number for these */

	packet->op = le32_make(op);
	packet->flags = le32_make(1);
	guest_send_wait(s->chans[0], VMBUS_PACKET_INBAND, VMBUS_PACKET_WANTS_COMPLETION, id, packet,
	                sizeof(*packet));
	stor_must(stor_wait(s, 0, packet) == id, "answer to another packet");
	return le32_get(packet->status);
}

void stor_init(struct stor *s)
{
	static const uint16_t versions[] = {0x0602, 0x0600, 0x0501};
	struct storvsp_packet p = {0};
	uint32_t status = 1;

	stor_must(stor_control(s, STORVSP_BEGIN_INIT, &p) == 0, "BEGIN_INIT");
	for (uint32_t i = 0; i < ARRAY_LEN(versions) && status != 0; i++) {
		p = (struct storvsp_packet){.u.version.version = le16_make(versions[i])};
		status = stor_control(s, STORVSP_QUERY_VERSION, &p);
	}
	stor_must(status == 0, "QUERY_VERSION");
	p = (struct storvsp_packet){0};
	stor_must(stor_control(s, STORVSP_QUERY_PROPERTIES, &p) == 0, "QUERY_PROPERTIES");
	s->properties_channels = le16_get(p.u.properties.channels_max);
	s->properties_flags = le32_get(p.u.properties.flags);
	s->properties_transfer_bytes = le32_get(p.u.properties.transfer_bytes_max);
	p = (struct storvsp_packet){0};
	stor_must(stor_control(s, STORVSP_END_INIT, &p) == 0, "END_INIT");
}

void stor_boot(struct stor *s)
{
	guest_boot(s->g);
	stor_open(s);
	stor_init(s);
}

void stor_sub_channels(struct stor *s, uint32_t count)
{
	struct storvsp_packet p = {.u.sub_channels = le16_make((uint16_t)count)};

	stor_must(stor_control(s, STORVSP_CREATE_SUB_CHANNELS, &p) == 0, "CREATE_SUB_CHANNELS");
	for (uint32_t i = 1; i <= count; i++) {
		struct guest_offer *o;

		guest_run_until(s->g,
		                (o = guest_offer_find(s->g, &stor_interface, (uint16_t)i)) != NULL);
		stor_must(guest_open(s->g, o, s->cfg.ring_pages, s->cfg.ring_pages, &s->chans[i]) ==
		                  0,
		          "open of a sub-channel refused");
	}
}

void stor_close(struct stor *s)
{
	for (uint32_t i = STORVSP_SUB_CHANNELS_MAX; i != UINT32_MAX; i--) {
		if (s->chans[i] != NULL) {
			guest_close(s->chans[i]);
			s->chans[i] = NULL;
		}
	}
}

/* ---- commands ---- */

int stor_try_submit(struct stor *s, const struct stor_cmd *cmd, uint64_t id)
{
	struct storvsp_packet p = {
		.op = le32_make(STORVSP_EXECUTE_SRB),
		.flags = le32_make(1),
		.u.srb.length = le16_make(sizeof(p.u.srb)),
		.u.srb.path = cmd->path,
		.u.srb.target = cmd->target,
		.u.srb.lun = cmd->lun,
		.u.srb.cdb_bytes = cmd->cdb_bytes,
		.u.srb.sense_bytes = STORVSP_SENSE_BYTES,
		.u.srb.direction = cmd->direction,
		.u.srb.transfer_bytes =
			le32_make(cmd->transfer_bytes != 0 ? cmd->transfer_bytes : cmd->len_bytes),
		.u.srb.queue_tag = 0xff,
		.u.srb.queue_action = 0x20,
	};

	memcpy(p.u.srb.cdb_or_sense, cmd->cdb, sizeof(cmd->cdb));
	if (cmd->len_bytes == 0) {
		return guest_send(s->chans[cmd->chan], VMBUS_PACKET_INBAND,
		                  VMBUS_PACKET_WANTS_COMPLETION, id, &p, sizeof(p));
	}

	const struct guest_range range = {
		.pfns = s->pfns + cmd->first_page,
		.offset = cmd->offset,
		.len_bytes = cmd->len_bytes,
	};

	return guest_send_gpa(s->chans[cmd->chan], VMBUS_PACKET_WANTS_COMPLETION, id, &range, 1, &p,
	                      sizeof(p));
}

uint64_t stor_submit(struct stor *s, const struct stor_cmd *cmd)
{
	uint64_t id = s->id_next++;
	int err;

	guest_run_until(s->g, (err = stor_try_submit(s, cmd, id)) != -EAGAIN);
	stor_must(err == 0, "send");
	return id;
}

bool stor_take(struct stor *s, uint32_t chan, uint64_t *id, struct storvsp_packet *answer)
{
	uint8_t buf[80]; /* what Linux has room for */
	struct vmbus_packet pkt;
	int err = guest_recv(s->chans[chan], buf, sizeof(buf), &pkt);

	if (err == -EAGAIN) {
		return false;
	}
	stor_must(err == 0 && pkt.type == VMBUS_PACKET_COMPLETION &&
	                  pkt.payload_bytes == sizeof(*answer),
	          "no proper answer");
	memcpy(answer, pkt.payload, sizeof(*answer));
	stor_must(le32_get(answer->op) == STORVSP_COMPLETE_IO, "answer with another operation");
	*id = pkt.transaction_id;
	return true;
}

uint64_t stor_wait(struct stor *s, uint32_t chan, struct storvsp_packet *answer)
{
	uint64_t id;

	guest_run_until(s->g, stor_take(s, chan, &id, answer));
	return id;
}

struct storvsp_srb stor_run(struct stor *s, const struct stor_cmd *cmd)
{
	struct storvsp_packet answer;
	uint64_t id = stor_submit(s, cmd);

	stor_must(stor_wait(s, cmd->chan, &answer) == id, "answer to another command");
	stor_must(le32_get(answer.status) == 0, "command refused as a packet");
	return answer.u.srb;
}

/* ---- the data buffer ---- */

uint8_t stor_pattern(uint32_t seed, uint32_t at)
{
	uint32_t v = (seed + 1) * 2654435761u ^ (at / 512 + 1) * 40503u ^ at * 31u;

	return (uint8_t)(v >> 8 | 1); /* never zero */
}

void stor_fill(struct stor *s, struct stor_span at, uint32_t seed)
{
	for (uint32_t i = 0; i < at.len_bytes; i++) {
		uint8_t b = stor_pattern(seed, i);

		guest_pages_write(s->g, s->pfns, at.offset + i, &b, 1);
	}
}

bool stor_has(struct stor *s, struct stor_span at, uint32_t seed)
{
	for (uint32_t i = 0; i < at.len_bytes; i++) {
		uint8_t b;

		guest_pages_read(s->g, s->pfns, at.offset + i, &b, 1);
		if (b != stor_pattern(seed, i)) {
			return false;
		}
	}
	return true;
}

void stor_read(struct stor *s, uint32_t offset, void *buf, uint32_t len_bytes)
{
	guest_pages_read(s->g, s->pfns, offset, buf, len_bytes);
}

/* ---- pause and move ---- */

static void stor_paused(void *arg)
{
	*(bool *)arg = true;
}

void stor_pump(struct stor *s)
{
	if (s->cfg.disk.order == FAKE_DISK_MANUAL) {
		(void)fake_disk_step(s->disk);
		guest_settle(s->g);
	} else {
		guest_step(s->g, 1000 * 1000);
	}
}

void stor_pause(struct stor *s)
{
	uint64_t deadline_ns = guest_deadline();
	bool done = false;

	guest_host_begin(s->g);
	vmbus_pause(guest_bus(s->g));
	s->vsp->ops->pause(s->vsp, stor_paused, &done);
	guest_host_end(s->g);
	while (!done) {
		stor_must(clock_now_ns() < deadline_ns, "pause is never done");
		stor_pump(s);
	}
	stor_must(fake_disk_in_flight(s->disk) == 0, "drained, with I/O in flight");
}

void stor_resume(struct stor *s)
{
	guest_host_begin(s->g);
	s->vsp->ops->resume(s->vsp);
	vmbus_resume(guest_bus(s->g));
	guest_host_end(s->g);
}

/* The same disk, opened by another host. */
static struct fake_disk *stor_disk_again(struct stor *s, struct fake_disk *old, bool read_only)
{
	struct fake_disk_cfg cfg = s->cfg.disk;
	struct fake_disk *d;

	if (old == NULL) {
		return NULL;
	}
	cfg.size_bytes = fake_disk_size(old);
	cfg.image = fake_disk_data(old);
	cfg.read_only = read_only;
	d = fake_disk_create(&cfg, guest_uring(s->g));
	fake_disk_destroy(old);
	return d;
}

void stor_move(struct stor *s, bool bus_first)
{
	struct errbuf eb = {0};
	struct save out;
	struct load in;
	uint8_t *blob;
	size_t len;
	int err;

	stor_pause(s);
	save_init(&out);
	vmbus_save(guest_bus(s->g), &out);
	s->vsp->ops->save(s->vsp, &out);
	stor_must(save_finish(&out, &blob, &len) == 0, "save");
	s->vsp->ops->destroy(s->vsp);
	s->disk = stor_disk_again(s, s->disk, s->cfg.disk.read_only);
	s->second = stor_disk_again(s, s->second, s->cfg.disk.read_only);
	s->dvd = stor_disk_again(s, s->dvd, true);
	guest_bus_replace(s->g);
	stor_must(load_init(&in, blob, len, &eb) == 0, "load_init");
	err = bus_first ? vmbus_load(guest_bus(s->g), &in) : 0;
	/* As in a move: the disk comes when the state is loaded. */
	s->later = true;
	if (err == 0) {
		err = stor_vsp_create(s, &s->vsp);
	}
	s->later = false;
	if (err == 0) {
		err = s->vsp->ops->load(s->vsp, &in);
	}
	if (err == 0 && !bus_first) {
		err = vmbus_load(guest_bus(s->g), &in);
	}
	stor_must(err == 0, errbuf_text(&eb, err));
	storvsp_attach(s->vsp, STOR_LUN_DISK, fake_disk_blk(s->disk));
	stor_resume(s);
	free(blob);
}
