/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/csv/sim_disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define SECTOR 512u
#define BLOCK_SECTORS (CSV_BLOCK_BYTES / SECTOR)
#define WRITES_MAX 4096u

/* One block's write. */
struct write {
	uint64_t block;
	uint64_t number; /* in the order of execution; 0 = not executed */
	uint8_t data[CSV_BLOCK_BYTES];
};

struct request {
	struct csv_io io;
	uint64_t after; /* flush: covers writes up to this number */
};

struct sim_disk {
	uint64_t blocks;
	uint64_t random;
	uint8_t *current;      /* owned: what reads see */
	uint8_t *durable;      /* owned */
	struct write **writes; /* owned: executed, not flushed */
	uint32_t writes_count;
	struct write **ghosts; /* owned: of dead nodes */
	uint32_t ghosts_count;
	uint64_t number;
	struct request requests[CSV_META_IO_MAX];
	uint32_t requests_count;
	uint32_t lies;
};

static void *must(void *p)
{
	CHECK(p != NULL);
	return p;
}

struct sim_disk *sim_disk_create(uint64_t blocks, uint64_t seed)
{
	struct sim_disk *d = must(calloc(1, sizeof(*d)));

	d->blocks = blocks;
	d->random = seed * 2 + 1;
	d->current = must(calloc(blocks, CSV_BLOCK_BYTES));
	d->durable = must(calloc(blocks, CSV_BLOCK_BYTES));
	d->writes = must(calloc(WRITES_MAX, sizeof(struct write *)));
	d->ghosts = must(calloc(WRITES_MAX, sizeof(struct write *)));
	return d;
}

void sim_disk_destroy(struct sim_disk *d)
{
	if (d == NULL) {
		return;
	}
	for (uint32_t i = 0; i < d->writes_count; i++) {
		free(d->writes[i]);
	}
	for (uint32_t i = 0; i < d->ghosts_count; i++) {
		free(d->ghosts[i]);
	}
	free(d->current);
	free(d->durable);
	free(d->writes);
	free(d->ghosts);
	free(d);
}

uint32_t sim_disk_random(struct sim_disk *d, uint32_t below)
{
	d->random = d->random * 6364136223846793005u + 1442695040888963407u;

	uint64_t x = d->random ^ d->random >> 33;

	return (uint32_t)((x * 0xff51afd7ed558ccdu >> 32) % below);
}

const uint8_t *sim_disk_at(const struct sim_disk *d, uint64_t block)
{
	CHECK(block < d->blocks);
	return d->current + block * CSV_BLOCK_BYTES;
}

void sim_disk_put(struct sim_disk *d, uint64_t block, const void *buf)
{
	CHECK(block < d->blocks);
	memcpy(d->current + block * CSV_BLOCK_BYTES, buf, CSV_BLOCK_BYTES);
	memcpy(d->durable + block * CSV_BLOCK_BYTES, buf, CSV_BLOCK_BYTES);
}

void sim_disk_lie(struct sim_disk *d, uint32_t ids)
{
	d->lies = ids;
}

void sim_disk_start(struct sim_disk *d, const struct csv_io *io)
{
	CHECK(d->requests_count < CSV_META_IO_MAX);
	CHECK(io->op == CSV_IO_FLUSH || (io->count != 0 && io->block + io->count <= d->blocks));
	d->requests[d->requests_count++] = (struct request){*io, d->number};
}

static void execute_write(struct sim_disk *d, const struct csv_io *io)
{
	for (uint32_t i = 0; i < io->count; i++) {
		struct write *w = must(malloc(sizeof(*w)));

		CHECK(d->writes_count < WRITES_MAX);
		w->block = io->block + i;
		w->number = d->number;
		memcpy(w->data, (const uint8_t *)io->buf + (size_t)i * CSV_BLOCK_BYTES,
		       CSV_BLOCK_BYTES);
		memcpy(d->current + w->block * CSV_BLOCK_BYTES, w->data, CSV_BLOCK_BYTES);
		d->writes[d->writes_count++] = w;
	}
}

static void execute_flush(struct sim_disk *d, uint64_t after)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < d->writes_count; i++) {
		struct write *w = d->writes[i];

		if (w->number <= after) {
			memcpy(d->durable + w->block * CSV_BLOCK_BYTES, w->data, CSV_BLOCK_BYTES);
			free(w);
		} else {
			d->writes[kept++] = w;
		}
	}
	d->writes_count = kept;
}

bool sim_disk_step(struct sim_disk *d, uint32_t *id)
{
	if (d->requests_count == 0) {
		return false;
	}

	uint32_t pick = sim_disk_random(d, d->requests_count);
	struct request r = d->requests[pick];

	d->requests[pick] = d->requests[--d->requests_count];
	d->number++;
	if (r.io.op == CSV_IO_READ) {
		memcpy(r.io.buf, sim_disk_at(d, r.io.block), (size_t)r.io.count * CSV_BLOCK_BYTES);
	} else if (r.io.op == CSV_IO_WRITE) {
		execute_write(d, &r.io);
	} else if ((d->lies >> r.io.id & 1) == 0) {
		execute_flush(d, r.after);
	}
	*id = r.io.id;
	return true;
}

/* Some sectors of it, or all. */
static void land(struct sim_disk *d, const struct write *w, bool torn)
{
	for (uint32_t s = 0; s < BLOCK_SECTORS; s++) {
		if (!torn || sim_disk_random(d, 2) == 0) {
			uint64_t at = w->block * CSV_BLOCK_BYTES + (uint64_t)s * SECTOR;

			memcpy(d->durable + at, w->data + (size_t)s * SECTOR, SECTOR);
			memcpy(d->current + at, w->data + (size_t)s * SECTOR, SECTOR);
		}
	}
}

/* @fate 0 lost, 1 done, 2 torn, 3 late. Takes @w. */
static void meet(struct sim_disk *d, struct write *w, uint32_t fate)
{
	if (fate == 3 && d->ghosts_count < WRITES_MAX) {
		d->ghosts[d->ghosts_count++] = w;
		return;
	}
	if (fate != 0) {
		land(d, w, fate == 2);
	}
	free(w);
}

void sim_disk_crash(struct sim_disk *d, bool late)
{
	/* Some crashes lose all, some nothing, most a part. */
	uint32_t kind = sim_disk_random(d, 8);
	uint32_t executed = d->writes_count;

	/* What was not executed has the same fates. */
	for (uint32_t i = 0; i < d->requests_count; i++) {
		if (d->requests[i].io.op == CSV_IO_WRITE) {
			d->number++;
			execute_write(d, &d->requests[i].io);
		}
	}
	d->requests_count = 0;
	for (uint32_t i = 0; i < d->writes_count; i++) {
		uint64_t at = d->writes[i]->block * CSV_BLOCK_BYTES;

		memcpy(d->current + at, d->durable + at, CSV_BLOCK_BYTES);
	}
	for (uint32_t i = 0; i < d->writes_count; i++) {
		uint32_t fate = sim_disk_random(d, late ? 4 : 3);

		if (kind == 0) {
			fate = 0;
		} else if (kind == 1) {
			fate = i < executed ? 1 : 0;
		} else if (kind == 2 && late) {
			fate = 3;
		}
		meet(d, d->writes[i], fate);
	}
	d->writes_count = 0;
}

bool sim_disk_ghost(struct sim_disk *d)
{
	if (d->ghosts_count == 0) {
		return false;
	}

	/* In order for one block: the oldest of them. */
	uint32_t pick = sim_disk_random(d, d->ghosts_count);

	for (uint32_t i = 0; i < pick; i++) {
		if (d->ghosts[i]->block == d->ghosts[pick]->block) {
			pick = i;
		}
	}

	struct write *w = d->ghosts[pick];

	memmove(&d->ghosts[pick], &d->ghosts[pick + 1],
	        sizeof(struct write *) * (d->ghosts_count - pick - 1));
	d->ghosts_count--;
	meet(d, w, sim_disk_random(d, 3));
	return true;
}
