/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit node flight`: heartbeats and leases, as the flight recorder has them. */
#include "cluster/flight/flight.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/fs.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"
#include "bin/godwit/node.h"

#define FILE_MAX (4u << 20)
#define US 1000u

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

/* "2026-01-31T12:00:00.123Z" of a moment of the recording node's boot. */
static void when_text(const json_t *log, uint64_t boot_ns, char *buf, size_t size)
{
	uint64_t ns = number_of(log, "begin_wall_ns") + boot_ns - number_of(log, "begin_boot_ns");
	time_t seconds = (time_t)(ns / 1000000000);
	char date[32] = "?";
	struct tm tm;

	if (gmtime_r(&seconds, &tm) != NULL) {
		(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	}
	(void)snprintf(buf, size, "%s.%03uZ", date, (unsigned)(ns / 1000000 % 1000));
}

static void print_summary(const struct cli_call *call, const json_t *log)
{
	static const char *const rungs[] = {"was never near its end", "was more than half over",
	                                    "stopped the VMs", "killed the VMs", "was over"};
	const json_t *s = json_object_get(log, "summary");
	uint64_t rung = number_of(s, "rung_worst");
	char span[FMT_MAX];
	char other[FMT_MAX];
	char when[48];
	size_t i;
	json_t *n;

	when_text(log, number_of(log, "begin_boot_ns"), when, sizeof(when));
	godwit_say(call,
	           "Node %" PRIu64 ", recorded since %s: %s in all, the service began %" PRIu64
	           " times.",
	           number_of(log, "nodeid"), when, fmt_duration(number_of(s, "span_ns"), span),
	           number_of(s, "begins"));
	godwit_say(call,
	           "Its lease: %" PRIu64
	           " renewals sent, at most %s apart; answered after %s at most. It %s.",
	           number_of(s, "sent"), fmt_duration(number_of(s, "sent_worst_ns"), span),
	           fmt_duration(number_of(s, "renewed_worst_ns"), other),
	           rung < ARRAY_LEN(rungs) ? rungs[rung] : "?");
	godwit_say(call,
	           "Its service came late %" PRIu64 " times, by %s at most; it saw %" PRIu64
	           " views.",
	           number_of(s, "lates"), fmt_duration(number_of(s, "late_worst_ns"), span),
	           number_of(s, "views"));
	json_array_foreach(json_object_get(s, "nodes"), i, n)
	{
		when_text(log, number_of(n, "worst_at_ns"), when, sizeof(when));
		godwit_say(call,
		           "It heard of node %" PRIu64 " %" PRIu64
		           " times; the longest silence was %s, until %s.",
		           number_of(n, "nodeid"), number_of(n, "heard"),
		           fmt_duration(number_of(n, "worst_ns"), span), when);
	}
	if (number_of(log, "damaged") != 0) {
		godwit_say(call, "%" PRIu64 " records are damaged.", number_of(log, "damaged"));
	}
}

static bool is_span(const char *kind)
{
	return strcmp(kind, "sent") == 0 || strcmp(kind, "renewed") == 0 ||
	       strcmp(kind, "heard") == 0 || strcmp(kind, "late") == 0;
}

/* Which proof it was, and how long it took. */
static void fenced_text(const json_t *record, char *buf, size_t size)
{
	static const char *const proofs[] = {"nothing", "storage",  "its lease",
	                                     "power",   "a person", "its own word"};
	json_int_t proof = json_integer_value(json_array_get(record, 3));
	json_int_t after = json_integer_value(json_array_get(record, 4));
	char span[FMT_MAX];

	(void)snprintf(buf, size, "by %s%s%s",
	               proof >= 0 && proof < (json_int_t)ARRAY_LEN(proofs) ? proofs[proof] : "?",
	               after > 0 ? ", after " : "",
	               after > 0 ? fmt_duration((uint64_t)after * US, span) : "");
}

static void print_records(const struct cli_call *call, const json_t *log)
{
	size_t i;
	json_t *r;

	json_array_foreach(json_object_get(log, "records"), i, r)
	{
		const char *kind = json_string_value(json_array_get(r, 1));
		json_int_t value = json_integer_value(json_array_get(r, 3));
		char span[FMT_MAX + 64];
		char when[48];

		when_text(log, (uint64_t)json_integer_value(json_array_get(r, 0)), when,
		          sizeof(when));
		if (kind != NULL && strcmp(kind, "fenced") == 0) {
			fenced_text(r, span, sizeof(span));
		} else if (kind != NULL && is_span(kind)) {
			(void)fmt_duration((uint64_t)value * US, span);
		} else {
			(void)snprintf(span, sizeof(span), "%" JSON_INTEGER_FORMAT, value);
		}
		godwit_say(call, "%s  %-8s  node %-3" JSON_INTEGER_FORMAT "  %s", when,
		           kind != NULL ? kind : "?", json_integer_value(json_array_get(r, 2)),
		           span);
	}
}

/* A file of a node that does not run any more. */
static int read_file(const char *path, json_t **out, struct errbuf *eb)
{
	struct flight_log *log = NULL;
	char *buf = NULL;
	size_t len = 0;
	int err = fs_read(path, FILE_MAX, &buf, &len, eb);

	*out = NULL;
	if (err == 0) {
		err = flight_decode(buf, len, &log, eb);
	}
	if (err == 0) {
		*out = flight_json(log);
		err = *out != NULL ? 0 : -ENOMEM;
	}
	free(buf);
	free(log);
	return err;
}

int node_flight_run(const struct cli_call *call, void *arg)
{
	const char *path = cli_text(call, "file");
	struct errbuf eb = {0};
	json_t *log = NULL;
	int err;

	(void)arg;
	if (path != NULL) {
		err = read_file(path, &log, &eb);
	} else {
		err = godwit_get(call,
		                 cli_flag(call, "previous", false) ? "/v1/flight?previous"
		                                                   : "/v1/flight",
		                 &log, &eb);
	}
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, log);
	} else {
		if (cli_flag(call, "all", false)) {
			print_records(call, log);
		}
		print_summary(call, log);
	}
	json_decref(log);
	return CLI_DONE;
}

const struct cli_opt node_flight_opts[] = {
	{.name = "previous",
         .kind = CLI_FLAG,
         .summary = "Of the boot before this one: what was before a reset."},
	{.name = "all", .kind = CLI_FLAG, .summary = "Every record, not the summary only."},
	{.name = "file",
         .kind = CLI_TEXT,
         .value = "FILE",
         .source = "file",
         .summary = "Read this file instead: cluster/flight or flight.1 of a node's state "
                    "directory."},
	{0},
};
