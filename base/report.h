/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_REPORT_H
#define BASE_REPORT_H

/*
 * report - a list of findings: what was looked at, what was found, what is needed, the verdict and
 * how to mend it. What `host check` and every other pre-flight prints and sends.
 *
 * The parts of the system that know something add their lines to one report; nobody needs to know
 * the others. What is constant about a check is a static struct report_check, what was found is
 * text. Allocation failures are remembered and told at the end, so that adding needs no checks.
 * One owner, no lock.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct json_t;
struct report;

enum report_verdict { REPORT_INFO, REPORT_OK, REPORT_WARN, REPORT_FAIL, REPORT_VERDICT_COUNT };

/* All strings are borrowed forever. */
struct report_check {
	const char *id;     /* stable, for programs: "cpu.nx" */
	const char *what;   /* for people: "No-execute pages" */
	const char *needed; /* what is needed, or good to have */
	const char *mend;   /* what to do if the verdict is WARN or FAIL; a sentence */
};

#define REPORT_LINES_MAX 512u /* some 60 checks, and a line per device */

/* report_create() - an empty report. Returns 0; -ENOMEM. */
MUST_USE int report_create(struct report **out);

/* report_destroy() - NULL is fine. */
void report_destroy(struct report *report);

/*
 * report_add() - one finding; the text says what was found. The group is the id up to its first
 * dot. Line REPORT_LINES_MAX + 1 and what follows is dropped, and report_error() tells.
 */
void report_add(struct report *report, const struct report_check *check,
                enum report_verdict verdict, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* report_error() - 0; -ENOMEM or -E2BIG: lines are missing, so the report must not be used. */
MUST_USE int report_error(const struct report *report);

/* report_count() - lines with @verdict. */
uint32_t report_count(const struct report *report, enum report_verdict verdict);

/* report_worst() - REPORT_FAIL, else REPORT_WARN, else REPORT_OK. */
enum report_verdict report_worst(const struct report *report);

/* report_verdict_name() - "info", "ok", "warn", "fail"; static. */
const char *report_verdict_name(enum report_verdict verdict);

/*
 * report_json() - {"verdict", "counts": {"ok", "warn", "fail", "info"}, "checks": [{"id", "what",
 * "found", "needed", "verdict", "mend"}]}; "mend" only with warn and fail. docs/spec/cli-json.md.
 * What is not printable ASCII in what was found has become a question mark.
 * Returns a new reference; NULL = no memory.
 */
struct json_t *report_json(const struct report *report);

#endif
