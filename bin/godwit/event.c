/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit event list`: what happened. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"

struct event_print {
	const struct cli_call *call;
};

/* What it is about, beside a node. */
static const char *subject(const json_t *event)
{
	static const char *const keys[] = {"vm", "switch", "volume", "device", "witness"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (godwit_text(event, keys[i])[0] != '\0') {
			return godwit_text(event, keys[i]);
		}
	}
	return "-";
}

static int print_event(const json_t *event, void *arg)
{
	const struct cli_call *call = ((const struct event_print *)arg)->call;
	json_int_t ns = json_integer_value(json_object_get(event, "time_ns"));
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	char when[32] = "";
	if (cli_flag(call, "json", false)) {
		godwit_json(call, event);
		return 0;
	}
	if (gmtime_r(&seconds, &tm) != NULL) {
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	}
	godwit_put(call, "%s  %-18s  %-12s  %-8s  %s", when, godwit_text(event, "event"),
	           subject(event), godwit_text(event, "node"), godwit_text(event, "text"));
	godwit_end(call);
	(void)fflush(call->out);
	return 0;
}

/* "/v1/events?vm=web1&..." NULL = no memory. */
static char *path_of(const struct cli_call *call, bool follow)
{
	const char *vm = cli_text(call, "vm");
	const char *node = cli_text(call, "node");
	uint64_t span_ns = cli_number(call, "since", 0);
	uint64_t now_ns = clock_wall_ns();
	char since[32];

	(void)snprintf(since, sizeof(since), "%" PRIu64,
	               span_ns != 0 && span_ns < now_ns ? now_ns - span_ns : 0);
	/* An empty word chooses nothing. */
	return api_path(follow ? "/v1/events?follow&vm={vm}&node={node}&since={ns}"
	                       : "/v1/events?vm={vm}&node={node}&since={ns}",
	                vm != NULL ? vm : "", node != NULL ? node : "", since);
}

static int event_list_run(const struct cli_call *call, void *arg)
{
	struct event_print print = {.call = call};
	struct errbuf eb = {0};
	char *path = path_of(call, false);
	char *follow = path_of(call, true);
	json_t *answer = NULL;
	size_t i;
	json_t *event;
	int err = path != NULL && follow != NULL ? godwit_get(call, path, &answer, &eb) : -ENOMEM;

	(void)arg;
	if (err == 0) {
		json_array_foreach(json_object_get(answer, "events"), i, event)
		{
			(void)print_event(event, &print);
		}
		if (json_array_size(json_object_get(answer, "events")) == 0 &&
		    !cli_flag(call, "follow", false) && !cli_flag(call, "json", false)) {
			godwit_note(call, "no events of that kind");
		}
		json_decref(answer);
		if (cli_flag(call, "follow", false)) {
			err = godwit_events(call, follow, print_event, &print, &eb);
		}
	}
	free(path);
	free(follow);
	return err < 0 ? godwit_fail(call, err, &eb) : CLI_DONE;
}

static const struct cli_opt opts[] = {
	{.name = "vm", .kind = CLI_TEXT, .value = "NAME", .source = "vm", .summary = "Of this VM."},
	{.name = "node",
         .kind = CLI_TEXT,
         .value = "NAME",
         .source = "node",
         .summary = "Of this node: about it, or about a VM there."},
	{.name = "since",
         .kind = CLI_DURATION,
         .value = "TIME",
         .summary = "Not older than that: 10m, 2h."},
	{.name = "follow", .kind = CLI_FLAG, .summary = "Go on with what happens from now on."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "list",
         .summary = "Print what happened",
         .details =
                 "In a cluster: what its database knows, from all nodes, in the order in which it "
                 "came to pass, the last 10,000; and beside it what happened on this host since "
                 "its service started. The times are those of the nodes' clocks; the order does "
                 "not depend on them.",
         .examples = "godwit event list --since 1h --vm web1\ngodwit event list --follow",
         .opts = opts,
         .run = event_list_run},
	{0},
};

const struct cli_noun noun_event = {
	.name = "event",
	.summary = "What happened",
	.details = "Events are changes that a person would tell another: a VM started, crashed, "
		   "was saved.",
	.cmds = cmds,
};
