/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/hostinfo.h"

#include <errno.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "base/report.h"
#include "bin/common/version.h"
#include "cluster/preflight/preflight.h"
#include "hv/host/host.h"

static int no_memory(struct errbuf *eb)
{
	return errbuf_set(eb, -ENOMEM, "out of memory");
}

/* Takes @json. */
static int finish(json_t *json, const char *source, json_t **out, struct errbuf *eb)
{
	*out = NULL;
	if (json == NULL || json_object_set_new(json, "source", json_string(source)) < 0) {
		json_decref(json);
		return no_memory(eb);
	}
	*out = json;
	return 0;
}

int hostinfo_check(const char *state_dir, const char *source, json_t **out, struct errbuf *eb)
{
	struct host_probe host;
	struct preflight_probe cluster;
	struct report *report;
	json_t *json;
	int err = report_create(&report);

	*out = NULL;
	if (err < 0) {
		return no_memory(eb);
	}
	host_probe_run(state_dir, &host);
	preflight_probe_run(&cluster);
	host_check(&host, report);
	preflight_check(&cluster, report);
	err = report_error(report);
	if (err < 0) {
		report_destroy(report);
		return errbuf_sys(eb, err, "the report is incomplete");
	}
	json = report_json(report);
	report_destroy(report);
	return finish(json, source, out, eb);
}

int hostinfo_show(const char *state_dir, const char *source, json_t **out, struct errbuf *eb)
{
	struct host_probe host;
	struct preflight_probe cluster;
	json_t *versions;
	json_t *json;

	host_probe_run(state_dir, &host);
	preflight_probe_run(&cluster);
	json = host_show(&host);
	versions = json_pack("{s:s, s:s?}", "godwit", godwit_version, "corosync",
	                     cluster.corosync_version[0] != '\0' ? cluster.corosync_version : NULL);
	if (json_object_set_new(json, "versions", versions) < 0) {
		json_decref(json);
		json = NULL;
	}
	return finish(json, source, out, eb);
}
