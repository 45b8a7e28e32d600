/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_MOVE_PAIR_H
#define TESTS_LIB_MOVE_PAIR_H

/*
 * move_pair - both ends of a migration in one process, their owners, and the journal that the
 * owners would share: who was given the VM is decided there and nowhere else.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/move_guest.h"

enum move_pair_owner { MOVE_PAIR_COMMITS, MOVE_PAIR_REFUSES, MOVE_PAIR_WAITS };

struct move_pair_end {
	bool ended;
	struct move_result result;
	uint32_t progresses;
	struct move_progress last;
	uint32_t readies;
	uint32_t losts; /* source: lost; target: orphaned */
	uint32_t committeds;
	uint64_t ended_ns;
};

struct move_pair {
	/* Set before move_pair_start(). */
	enum move_pair_owner owner;
	bool confirm;
	bool gives_up; /* the destination's owner, when the source has ended without a commit */
	struct source_cfg source_cfg; /* defaults from move_pair_init() */
	struct target_cfg target_cfg;
	struct move_guest *guest;
	struct move_guest *place;

	struct source *source;
	struct target *target;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct move_pair_end at_source; /* lock guards */
	struct move_pair_end at_target; /* lock guards */
	uint64_t deadline_ns;           /* lock guards: of the source's owner */
	bool journal;                   /* lock guards: the VM belongs to the destination */
};

/* move_pair_init() - a plain live move of @guest to @place with limits no test machine misses. */
void move_pair_init(struct move_pair *p, struct move_guest *guest, struct move_guest *place);

/* move_pair_sockets() - @count connected TCP sockets each over loopback. */
void move_pair_sockets(uint32_t count, int *source_fds, int *target_fds);

/* move_pair_start() - both ends on these sockets. Returns what source_create() said. */
int move_pair_start(struct move_pair *p, uint32_t count, const int *source_fds,
                    const int *target_fds);

/* move_pair_wait() - until @done, at most a minute (CHECK). */
void move_pair_wait(struct move_pair *p, bool (*done)(const struct move_pair *p));

/* move_pair_finish() - wait for both ends, resolve what is orphaned by the journal, destroy. The
 * results stay. */
void move_pair_finish(struct move_pair *p);

bool move_pair_source_ended(const struct move_pair *p);
bool move_pair_source_asked(const struct move_pair *p);
bool move_pair_target_ended(const struct move_pair *p);

#endif
