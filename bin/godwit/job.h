/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_JOB_H
#define BIN_GODWIT_JOB_H

/* job - `godwit job ...`, and the wait for a job that another command started. */

#include "bin/godwit/godwit.h"

/*
 * job_wait() - follow @job (as the API answered) to its end, with a progress bar on a terminal and
 * a line per event with --json. With --no-wait only its number is printed. *last: the job at its
 * end, a new reference, NULL if it was not followed.
 * Returns the exit status; says itself what went wrong.
 */
MUST_USE int job_wait(const struct cli_call *call, const struct json_t *job, struct json_t **last);

/* Of commands that start a job. */
extern const struct cli_opt job_wait_opt;

#endif
