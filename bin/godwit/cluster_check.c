/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit cluster check`, `godwit cluster upgrade`: are all nodes the same? */
#include <inttypes.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/cluster.h"

static void put_check(const struct cli_call *call, const json_t *json)
{
	const char *name;
	json_t *one;

	godwit_put(call, "%-16s %-9s %8s  %-16s  %-16s", "NODE", "STATE", "ENTRY", "LOG",
	           "OBJECTS");
	godwit_end(call);
	json_object_foreach(json_object_get(json, "nodes"), name, one)
	{
		if (json_object_get(one, "error") != NULL) {
			godwit_put(call, "%-16s %s", name, godwit_text(one, "error"));
		} else {
			godwit_put(call, "%-16s %-9s %8" PRId64 "  %-16s  %-16s", name,
			           godwit_text(one, "state"),
			           (int64_t)json_integer_value(json_object_get(one, "applied")),
			           godwit_text(one, "log_hash"), godwit_text(one, "objects_hash"));
		}
		godwit_end(call);
	}
	godwit_put(call, "%-12s %s", "Verdict", godwit_text(json, "verdict"));
	godwit_end(call);
}

int cluster_check_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = godwit_call(call, API_POST, "/v1/cluster/check", NULL, &answer, &eb);
	const char *verdict = err == 0 ? godwit_text(answer, "verdict") : "";
	int bad = strcmp(verdict, "equal") == 0       ? CLI_DONE
	          : strcmp(verdict, "different") == 0 ? CLI_FAILED
	                                              : CLI_PARTLY;
	int status = godwit_finish(call, err, answer, &eb, put_check);

	(void)arg;
	return status != CLI_DONE ? status : bad;
}

static void put_level(const struct cli_call *call, const json_t *json)
{
	godwit_note(call, "the cluster is at functional level %" JSON_INTEGER_FORMAT,
	            json_integer_value(json_object_get(json, "level")));
}

int cluster_upgrade_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = godwit_call(call, API_POST, "/v1/cluster/upgrade", NULL, &answer, &eb);

	(void)arg;
	return godwit_finish(call, err, answer, &eb, put_level);
}
