/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit cluster backup`, `godwit cluster restore`. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/cluster.h"

const struct cli_opt cluster_restore_opts[] = {
	{.name = "force",
         .kind = CLI_FLAG,
         .summary = "Also from a backup of another cluster: its VMs, volumes, networks and "
                    "settings become those of this one."},
	{.name = "dry-run", .kind = CLI_FLAG, .summary = "Only say how many objects would change."},
	{0},
};

int cluster_backup_run(const struct cli_call *call, void *arg)
{
	const char *path = cli_arg_at(call, 0);
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = godwit_get(call, "/v1/cluster/backup", &answer, &eb);

	(void)arg;
	if (err == 0) {
		err = json_write_file(path, answer, 0600, &eb);
	}
	if (err == 0) {
		godwit_note(call, "%zu objects as of entry %lld%s",
		            json_array_size(json_object_get(answer, "objects")),
		            (long long)json_integer_value(json_object_get(answer, "entry")),
		            json_is_true(json_object_get(answer, "stale"))
		                    ? "; stale: there is no quorum here"
		                    : "");
	}
	json_decref(answer);
	return err < 0 ? godwit_fail(call, err, &eb) : CLI_DONE;
}

int cluster_restore_run(const struct cli_call *call, void *arg)
{
	bool dry_run = cli_flag(call, "dry-run", false);
	char path[PATH_MAX];
	struct errbuf eb = {0};
	json_t *answer = NULL;
	json_t *body = NULL;
	int err = realpath(cli_arg_at(call, 0), path) != NULL
	                  ? 0
	                  : errbuf_sys(&eb, -errno, "%s", cli_arg_at(call, 0));

	(void)arg;
	if (err == 0) {
		body = json_pack("{s:s,s:b}", "path", path, "force",
		                 cli_flag(call, "force", false));
		err = body == NULL ? -ENOMEM
		                   : godwit_call(call, API_POST,
		                                 dry_run ? "/v1/cluster/restore?dry_run"
		                                         : "/v1/cluster/restore",
		                                 body, &answer, &eb);
	}
	if (err == 0 && cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else if (err == 0) {
		godwit_note(call, dry_run ? "%lld objects would change" : "%lld objects changed",
		            (long long)json_integer_value(json_object_get(answer, "changed")));
	}
	json_decref(body);
	json_decref(answer);
	return err < 0 ? godwit_fail(call, err, &eb) : CLI_DONE;
}
