/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CSV_PR_FAKE_TARGET_H
#define TESTS_UNIT_CSV_PR_FAKE_TARGET_H

/* fake_target - a LUN with persistent reservations, as SPC-4 says, and some that can do less. */

#include <stdbool.h>
#include <stdint.h>

#include "csv/pr/csv_pr.h"

#define FAKE_PATHS 4u

struct fake_target {
	bool no_reservations;
	bool no_abort;
	bool no_preempt;
	bool no_all; /* no type 7 */
	bool lies_about_all;
	bool no_persist;  /* refuses APTPL although it said it can */
	bool cannot_save; /* does it, and says that it is not ready */
	bool silent;      /* no REPORT CAPABILITIES */
	bool ignores_preempt;
	bool unused_target; /* the door says: no SCSI device */
	uint32_t generation;
	uint64_t keys[FAKE_PATHS]; /* of each path; 0 = none */
	uint8_t type;
	uint32_t holder;
	uint32_t attentions[FAKE_PATHS]; /* to be told */
	uint32_t aborted;                /* tasks of preempted paths */
	uint32_t fail;                   /* the n-th command from now gets no answer; 0 = none */
};

/* One initiator's path to it: the argument of the door. */
struct fake_path {
	struct fake_target *target;
	uint32_t path;
};

extern const struct csv_pr_door fake_door;

/* fake_may_write() - what a WRITE from @path gets. */
bool fake_may_write(const struct fake_target *t, uint32_t path);

#endif
