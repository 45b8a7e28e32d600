/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CSV_SIM_DISK_H
#define TESTS_SIM_CSV_SIM_DISK_H

/*
 * sim_disk - a shared disk for requests of csv/meta: they are done in random order; what was not
 * flushed may be lost, torn between sectors of 512 bytes, or come late: when the power of one node
 * fails its last writes may still reach the disk while the next node works on it.
 *
 * All randomness comes from the seed. Aborts when memory runs out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csv/meta/csv_meta.h"

struct sim_disk;

struct sim_disk *sim_disk_create(uint64_t blocks, uint64_t seed);
void sim_disk_destroy(struct sim_disk *d);

/* sim_disk_random() - 0..below-1. */
uint32_t sim_disk_random(struct sim_disk *d, uint32_t below);

/* sim_disk_start() - a request of the node that is alive. */
void sim_disk_start(struct sim_disk *d, const struct csv_io *io);

/* sim_disk_step() - do one of the requests. Returns false if there is none. */
bool sim_disk_step(struct sim_disk *d, uint32_t *id);

/* sim_disk_crash() - the node dies. Of its writes that are not durable each is lost, done, torn, or
 * (if @late) on its way. */
void sim_disk_crash(struct sim_disk *d, bool late);

/* sim_disk_ghost() - let one late write come, or get lost. Returns false if there is none. */
bool sim_disk_ghost(struct sim_disk *d);

/* The content that reads see. Write to it with sim_disk_put(), which is durable at once. */
const uint8_t *sim_disk_at(const struct sim_disk *d, uint64_t block);
void sim_disk_put(struct sim_disk *d, uint64_t block, const void *buf);

/* sim_disk_lie() - flushes with these ids (bit per id) do nothing. */
void sim_disk_lie(struct sim_disk *d, uint32_t ids);

#endif
