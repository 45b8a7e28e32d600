/* SPDX-License-Identifier: Apache-2.0 */
#include "base/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/json.h"

#define FOUND_MAX 512 /* a line of a terminal, or a few */

struct line {
	const struct report_check *check; /* borrowed forever */
	char *found;                      /* owned */
	enum report_verdict verdict;
};

struct report {
	struct line *lines; /* owned */
	uint32_t line_count;
	uint32_t room;
	int error;
};

int report_create(struct report **out)
{
	*out = gw_calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void report_destroy(struct report *report)
{
	if (report == NULL) {
		return;
	}
	for (uint32_t i = 0; i < report->line_count; i++) {
		free(report->lines[i].found);
	}
	free(report->lines);
	free(report);
}

static int make_room(struct report *report)
{
	if (report->line_count < report->room) {
		return 0;
	}
	if (report->room == REPORT_LINES_MAX) {
		return -E2BIG;
	}

	uint32_t room = report->room == 0 ? 64 : report->room * 2;
	struct line *lines = gw_realloc_array(report->lines, room, sizeof(*lines));

	if (lines == NULL) {
		return -ENOMEM;
	}
	report->lines = lines;
	report->room = room;
	return 0;
}

/* Firmware and drivers may say anything: what is not printable ASCII becomes a question mark. */
static void clean(char *text)
{
	for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
		if (*at < 0x20 || *at >= 0x7f) {
			*at = '?';
		}
	}
}

void report_add(struct report *report, const struct report_check *check,
                enum report_verdict verdict, const char *fmt, ...)
{
	char text[FOUND_MAX];
	va_list ap;
	int err = make_room(report);

	CHECK(verdict < REPORT_VERDICT_COUNT);
	if (err < 0) {
		report->error = err;
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	clean(text);

	struct line line = {.check = check, .found = gw_strdup(text), .verdict = verdict};

	if (line.found == NULL) {
		report->error = -ENOMEM;
		return;
	}
	report->lines[report->line_count++] = line;
}

int report_error(const struct report *report)
{
	return report->error;
}

uint32_t report_count(const struct report *report, enum report_verdict verdict)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < report->line_count; i++) {
		count += report->lines[i].verdict == verdict;
	}
	return count;
}

enum report_verdict report_worst(const struct report *report)
{
	if (report_count(report, REPORT_FAIL) > 0) {
		return REPORT_FAIL;
	}
	return report_count(report, REPORT_WARN) > 0 ? REPORT_WARN : REPORT_OK;
}

const char *report_verdict_name(enum report_verdict verdict)
{
	static const char *const names[] = {
		[REPORT_INFO] = "info",
		[REPORT_OK] = "ok",
		[REPORT_WARN] = "warn",
		[REPORT_FAIL] = "fail",
	};

	CHECK(verdict < REPORT_VERDICT_COUNT);
	return names[verdict];
}

static json_t *line_json(const struct line *line)
{
	const struct report_check *check = line->check;
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", check->id, "what", check->what,
	                         "found", line->found, "needed", check->needed, "verdict",
	                         report_verdict_name(line->verdict));

	if (json != NULL && line->verdict >= REPORT_WARN &&
	    json_object_set_new(json, "mend", json_string(check->mend)) < 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

json_t *report_json(const struct report *report)
{
	json_t *json = json_pack("{s:s, s:{s:I, s:I, s:I, s:I}, s:[]}", "verdict",
	                         report_verdict_name(report_worst(report)), "counts", "ok",
	                         (json_int_t)report_count(report, REPORT_OK), "warn",
	                         (json_int_t)report_count(report, REPORT_WARN), "fail",
	                         (json_int_t)report_count(report, REPORT_FAIL), "info",
	                         (json_int_t)report_count(report, REPORT_INFO), "checks");
	json_t *checks = json_object_get(json, "checks");

	for (uint32_t i = 0; json != NULL && i < report->line_count; i++) {
		/* Takes the line; a NULL line makes it fail. */
		if (json_array_append_new(checks, line_json(&report->lines[i])) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}
