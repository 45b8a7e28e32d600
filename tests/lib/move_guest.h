/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_MOVE_GUEST_H
#define TESTS_LIB_MOVE_GUEST_H

/*
 * move_guest - guests for migrations without a hypervisor: memory, a thread that writes to it
 * and logs what it wrote, a device state, and faults on demand; and a place that gets it.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/source/source.h"
#include "migrate/target/target.h"

#define MOVE_GUEST_LOW_BYTES (1u << 20) /* the first range; the second begins at 4 GiB */

struct move_guest_cfg {
	uint64_t bytes;         /* of memory, more than MOVE_GUEST_LOW_BYTES */
	uint32_t random_share;  /* of 8 pages so many hold noise, the others zeros */
	uint32_t dirty_mb_s;    /* written by the guest; 0 = it stands still */
	uint64_t working_bytes; /* what it writes to, from the start of the second range */
	uint32_t state_bytes;
	bool incompressible; /* else noise of 16 values */
};

/* What can go wrong. */
struct move_guest_faults {
	bool pause_hangs; /* until resume */
	bool save_fails;
	bool blocker;
	bool prepare_fails;
	bool load_fails;
	bool run_fails;
	uint32_t load_us; /* takes so long */
};

struct move_guest {
	struct move_guest_cfg cfg;
	struct move_guest_faults faults;
	struct move_range ranges[2];
	int fds[2];
	uint64_t *dirty[2]; /* owned; atomic */
	uint8_t *state;     /* owned */
	pthread_t writer;
	bool writes; /* there is a writer */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool logging; /* lock guards from here */
	bool stop;    /* the writer shall stand */
	bool stands;
	bool quit;
	bool running; /* vCPUs would run */
	uint32_t throttle;
	uint32_t throttle_max; /* seen */
	uint32_t pauses;
	move_done_fn pause_done; /* of a pause that hangs */
	void *pause_arg;
	uint32_t runs;
	uint32_t announces;
	bool loaded;
	const struct move_guest *origin; /* a destination compares the state with this one's */
};

extern const struct source_guest_ops move_guest_source_ops;
extern const struct target_guest_ops move_guest_target_ops;

/* move_guest_create() - a guest that runs (@cfg.dirty_mb_s). Aborts without memory. */
void move_guest_create(struct move_guest *g, const struct move_guest_cfg *cfg);

/* move_guest_place() - empty memory for @origin, not running. */
void move_guest_place(struct move_guest *g, const struct move_guest *origin);

void move_guest_destroy(struct move_guest *g);

bool move_guest_running(struct move_guest *g);

/* move_guest_equal() - do both have the same memory? Neither may be writing. */
bool move_guest_equal(const struct move_guest *a, const struct move_guest *b);

#endif
