/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_MOVE_RELAY_H
#define TESTS_LIB_MOVE_RELAY_H

/*
 * move_relay - the wire between the two ends of a plain migration: counts frames, and at the n-th
 * of one connection and direction does what the test wants. One thread for all.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define MOVE_RELAY_MAX 8u

enum move_relay_deed {
	MOVE_RELAY_CUT,    /* all connections are closed, the frame does not arrive */
	MOVE_RELAY_DAMAGE, /* one bit of the frame changes, somewhere in it */
	MOVE_RELAY_SILENT, /* nothing passes any more, nothing is closed */
};

struct move_relay;

/* Way 2 * c is from the source to the destination on connection c, 2 * c + 1 the other. */
struct move_relay_cfg {
	uint32_t connections;
	enum move_relay_deed deed;
	uint32_t way;
	uint32_t frame; /* 0.. */
};

/* move_relay_create() - source_fds and target_fds pass to the caller. */
void move_relay_create(struct move_relay **out, const struct move_relay_cfg *cfg, int *source_fds,
                       int *target_fds);

/* move_relay_did() - was the deed done, and to which type of frame? */
bool move_relay_did(struct move_relay *r, uint16_t *type);

void move_relay_destroy(struct move_relay *r);

#endif
