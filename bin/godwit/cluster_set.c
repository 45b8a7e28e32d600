/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit cluster set`: what is true of the whole cluster. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "bin/godwit/cluster.h"

#define PATH "/v1/cluster/settings"
#define FOLLOW_NS (60 * NS_PER_S)

const struct cli_opt cluster_set_opts[] = {
	{.name = "blackout-limit",
         .kind = CLI_DURATION,
         .value = "TIME",
         .summary = "A VM of the cluster that is moved must not stand still for longer, if neither "
                    "its definition nor the move says otherwise; 0: as if nobody had said."},
	{.name = "moves-per-node",
         .kind = CLI_UINT,
         .value = "N",
         .summary = "So many VMs leave a node at once when it is emptied, 1 to 8; 2 at first."},
	{.name = "detect",
         .kind = CLI_DURATION,
         .value = "TIME",
         .summary = "corosync's token, 0.5 s to 60 s: a dead node is noticed after 2.2 times that. "
                    "The leases of the nodes follow. It is changed while everything runs, in "
                    "steps; this waits for them."},
	{0},
};

static void put_token(const struct cli_call *call, const json_t *json)
{
	json_int_t token = json_integer_value(json_object_get(json, "token_ms"));
	json_int_t goal = json_integer_value(json_object_get(json, "token_goal_ms"));
	json_int_t lease = json_integer_value(json_object_get(json, "lease_ms"));
	char is[FMT_MAX];
	char will[FMT_MAX];

	if (token <= 0) {
		return;
	}
	godwit_put(call, "%-16s %s%s%s", "Detect", fmt_duration((uint64_t)token * NS_PER_MS, is),
	           goal > 0 ? ", is to be " : "",
	           goal > 0 ? fmt_duration((uint64_t)goal * NS_PER_MS, will) : "");
	godwit_end(call);
	godwit_put(call, "%-16s %s", "Lease", fmt_duration((uint64_t)lease * NS_PER_MS, is));
	godwit_end(call);
	if (goal > 0) {
		godwit_put(call, "%-16s %s", "Waits for", godwit_text(json, "token_waits"));
		godwit_end(call);
	}
}

static void put_settings(const struct cli_call *call, const json_t *json)
{
	json_int_t blackout = json_integer_value(json_object_get(json, "blackout_max_ns"));
	char text[FMT_MAX];

	put_token(call, json);
	godwit_put(call, "%-16s %s", "Blackout limit",
	           blackout > 0 ? fmt_duration((uint64_t)blackout, text) : "not set");
	godwit_end(call);
	godwit_put(call, "%-16s %" JSON_INTEGER_FORMAT, "Moves per node",
	           json_integer_value(json_object_get(json, "moves_per_node")));
	godwit_end(call);
}

static int change(const struct cli_call *call, struct errbuf *eb)
{
	json_t *body = json_object();
	json_t *answer = NULL;
	int err = body != NULL ? 0 : -ENOMEM;

	if (err == 0 && cli_given(call, "blackout-limit")) {
		uint64_t ns = cli_number(call, "blackout-limit", 0);

		err = json_object_set_new(body, "blackout_max_ns",
		                          ns != 0 ? json_integer((json_int_t)ns) : json_null());
	}
	if (err == 0 && cli_given(call, "moves-per-node")) {
		err = json_object_set_new(
			body, "moves_per_node",
			json_integer((json_int_t)cli_number(call, "moves-per-node", 0)));
	}
	if (err == 0 && cli_given(call, "detect")) {
		err = json_object_set_new(
			body, "token_ms",
			json_integer((json_int_t)(cli_number(call, "detect", 0) / NS_PER_MS)));
	}
	if (err == 0 && json_object_size(body) != 0) {
		err = godwit_call(call, API_PATCH, PATH, body, &answer, eb);
	}
	json_decref(body);
	json_decref(answer);
	return err;
}

/* Until the change of the token is over. *answer: the settings then. */
static int follow(const struct cli_call *call, json_t **answer, struct errbuf *eb)
{
	const struct timespec pause = {.tv_nsec = 200000000L};
	uint64_t end_ns = clock_now_ns() + FOLLOW_NS;
	char said[200] = "";
	int err;

	while ((err = godwit_get(call, PATH, answer, eb)) == 0 &&
	       json_object_get(*answer, "token_goal_ms") != NULL) {
		const char *waits = godwit_text(*answer, "token_waits");

		if (clock_now_ns() > end_ns) {
			(void)errbuf_set(eb, -ETIMEDOUT, "not changed everywhere yet: %s", waits);
			errbuf_hint(eb,
			            "it goes on; godwit cluster set shows how far it is, and the "
			            "former time as --detect takes it back");
			json_decref(*answer);
			*answer = NULL;
			return -ETIMEDOUT;
		}
		if (strcmp(waits, said) != 0 && strcmp(waits, "under way") != 0) {
			(void)snprintf(said, sizeof(said), "%s", waits);
			godwit_note(call, "%s", said);
		}
		json_decref(*answer);
		*answer = NULL;
		(void)nanosleep(&pause, NULL);
	}
	return err;
}

int cluster_set_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = change(call, &eb);

	(void)arg;
	if (err == 0) {
		err = cli_given(call, "detect") ? follow(call, &answer, &eb)
		                                : godwit_get(call, PATH, &answer, &eb);
	}
	return godwit_finish(call, err, answer, &eb, put_settings);
}
