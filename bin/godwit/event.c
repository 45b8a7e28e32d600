/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit event list`: what happened. */
#include <time.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"

struct event_print {
	const struct cli_call *call;
};

static int print_event(const json_t *event, void *arg)
{
	const struct cli_call *call = ((const struct event_print *)arg)->call;
	json_int_t ns = json_integer_value(json_object_get(event, "time_ns"));
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	char when[32] = "";
	const char *whose = json_object_get(event, "vm") != NULL ? "vm" : "switch";

	if (cli_flag(call, "json", false)) {
		godwit_json(call, event);
		return 0;
	}
	if (gmtime_r(&seconds, &tm) != NULL) {
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	}
	godwit_put(call, "%s  %-18s  %-12s  %s", when, godwit_text(event, "event"),
	           godwit_text(event, whose), godwit_text(event, "text"));
	godwit_end(call);
	(void)fflush(call->out);
	return 0;
}

static int event_list_run(const struct cli_call *call, void *arg)
{
	struct event_print print = {.call = call};
	struct errbuf eb = {0};
	json_t *answer = NULL;
	size_t i;
	json_t *event;
	int err = godwit_get(call, "/v1/events", &answer, &eb);

	(void)arg;
	if (err == 0) {
		json_array_foreach(json_object_get(answer, "events"), i, event)
		{
			(void)print_event(event, &print);
		}
		json_decref(answer);
		if (cli_flag(call, "follow", false)) {
			err = godwit_events(call, "/v1/events?follow", print_event, &print, &eb);
		}
	}
	return err < 0 ? godwit_fail(call, err, &eb) : CLI_DONE;
}

static const struct cli_opt opts[] = {
	{.name = "follow", .kind = CLI_FLAG, .summary = "Go on with what happens from now on."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "list",
         .summary = "Print the events since the service started",
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
