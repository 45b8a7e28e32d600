/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_STOR_GUEST_H
#define TESTS_LIB_STOR_GUEST_H

/*
 * stor_guest - the SCSI driver of the simulated guest: initialises the controller as Linux does,
 * sends commands and checks what every answer has in common. On top of vmbus_guest and fake_disk.
 *
 *	struct stor s;
 *
 *	stor_create(NULL, &s);                  // a disk at LUN 0
 *	stor_boot(&s);                          // contact, open, initialise
 *	stor_fill(&s, (struct stor_span){0, 4096}, 7);              // the data buffer
 *	srb = stor_run(&s, &(struct stor_cmd){STOR_WRITE10(0, 8), .len_bytes = 4096});
 *	stor_destroy(&s);
 *
 * Aborts when the simulated machine breaks, as vmbus_guest does. One thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "hv/vsp/storvsp/storvsp.h"
#include "hv/vsp/storvsp/storvsp_wire.h"
#include "tests/lib/fake_disk.h"
#include "tests/lib/vmbus_guest.h"

#define STOR_DISK_BYTES (4u << 20)
#define STOR_BUFFER_PAGES 258u /* the largest transfer, and not from a page's start */
#define STOR_LUN_DISK 0u
#define STOR_LUN_DVD 1u
#define STOR_LUN_SECOND 5u

extern const struct guid stor_interface;

struct stor_cfg {
	struct guest_cfg guest;
	struct fake_disk_cfg disk; /* LUN 0; size_bytes 0 = STOR_DISK_BYTES */
	bool second;               /* another disk, at LUN 5 */
	bool dvd;                  /* a drive at LUN 1 */
	bool dvd_empty;            /* without a medium */
	uint32_t sub_channels_max;
	uint32_t ring_pages; /* of each ring, with its control page; 0 = 32, as Linux */
};

struct stor {
	struct stor_cfg cfg;
	struct guest *g;
	struct vsp *vsp;
	struct fake_disk *disk;
	struct fake_disk *second;
	struct fake_disk *dvd;
	struct guest_chan *chans[1 + STORVSP_SUB_CHANNELS_MAX]; /* [0] the primary */
	uint64_t pfns[STOR_BUFFER_PAGES];                       /* the data buffer */
	bool later; /* stor_vsp_create() makes the disk at LUN 0 without its image */
	uint64_t id_next;
	uint32_t properties_channels;
	uint32_t properties_flags;
	uint32_t properties_transfer_bytes;
};

/* CDBs as members of struct stor_cmd. */
#define STOR_BE16(v) (uint8_t)((uint32_t)(v) >> 8), (uint8_t)(v)
#define STOR_BE32(v) STOR_BE16((uint32_t)(v) >> 16), STOR_BE16(v)
#define STOR_READ10(lba, count)                                                    \
	.cdb = {0x28, 0, STOR_BE32(lba), 0, STOR_BE16(count), 0}, .cdb_bytes = 10, \
	.direction = STORVSP_READ
#define STOR_WRITE10(lba, count)                                                   \
	.cdb = {0x2a, 0, STOR_BE32(lba), 0, STOR_BE16(count), 0}, .cdb_bytes = 10, \
	.direction = STORVSP_WRITE
#define STOR_FLUSH .cdb = {0x35}, .cdb_bytes = 10, .direction = STORVSP_NO_DATA
#define STOR_READY .cdb = {0x00}, .cdb_bytes = 6, .direction = STORVSP_NO_DATA

struct stor_cmd {
	uint8_t cdb[20];
	uint8_t cdb_bytes;
	uint8_t direction;
	uint8_t path, target, lun;
	uint32_t chan;           /* index in stor.chans */
	uint32_t len_bytes;      /* of the data buffer used; 0 = an in-band packet */
	uint32_t offset;         /* in its first page */
	uint32_t first_page;     /* of the data buffer */
	uint32_t transfer_bytes; /* 0 = len_bytes */
};

/* stor_create() - guest, disks and controller; NULL = defaults. */
void stor_create(const struct stor_cfg *cfg, struct stor *out);
/* stor_destroy() - unload, check that the device let go of everything, free. */
void stor_destroy(struct stor *s);

/* stor_boot() - contact, offers, open the primary, initialise with 6.2. */
void stor_boot(struct stor *s);
/* stor_open() - open the primary only. */
void stor_open(struct stor *s);
/* stor_control() - one packet of the initialisation on the primary; returns the answer's status. */
uint32_t stor_control(struct stor *s, uint32_t op, struct storvsp_packet *packet);
/* stor_init() - Linux's sequence, all versions from the newest down. */
void stor_init(struct stor *s);
/* stor_sub_channels() - ask for @count, take the offers, open them. */
void stor_sub_channels(struct stor *s, uint32_t count);
/* stor_close() - sub-channels first, as Linux; releases their offers. */
void stor_close(struct stor *s);

/* stor_try_submit() - send a command. Returns 0; -EAGAIN the ring is full. */
MUST_USE int stor_try_submit(struct stor *s, const struct stor_cmd *cmd, uint64_t id);
/* stor_submit() - send it, waiting for room; returns its number. */
uint64_t stor_submit(struct stor *s, const struct stor_cmd *cmd);
/* stor_take() - an answer that is there. Returns false if there is none. */
bool stor_take(struct stor *s, uint32_t chan, uint64_t *id, struct storvsp_packet *answer);
/* stor_wait() - the next answer on @chan; returns its number. */
uint64_t stor_wait(struct stor *s, uint32_t chan, struct storvsp_packet *answer);
/* stor_run() - send, wait for its answer (no other is out). */
struct storvsp_srb stor_run(struct stor *s, const struct stor_cmd *cmd);

/* The data buffer: a pattern, and whether @at still has it. */
struct stor_span {
	uint32_t offset;
	uint32_t len_bytes;
};

void stor_fill(struct stor *s, struct stor_span at, uint32_t seed);
bool stor_has(struct stor *s, struct stor_span at, uint32_t seed);
uint8_t stor_pattern(uint32_t seed, uint32_t at);
void stor_read(struct stor *s, uint32_t offset, void *buf, uint32_t len_bytes);

/* stor_pump() - run a little; of a FAKE_DISK_MANUAL disk one request completes. */
void stor_pump(struct stor *s);

/* stor_pause() - bus and device; FAKE_DISK_MANUAL disks are stepped. stor_resume(): go on. */
void stor_pause(struct stor *s);
void stor_resume(struct stor *s);

/*
 * stor_move() - pause, save, destroy, create again over the same memory with copies of the disks,
 * load, go on. @bus_first: the bus is loaded before the device.
 */
void stor_move(struct stor *s, bool bus_first);

/* stor_vsp_create() - a controller on the disks that @s has. Returns as storvsp_create(). */
MUST_USE int stor_vsp_create(struct stor *s, struct vsp **out);

#endif
