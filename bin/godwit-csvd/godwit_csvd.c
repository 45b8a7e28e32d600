/* SPDX-License-Identifier: Apache-2.0 */
/* The shell of the shared-volume service. */
#include "bin/godwit-csvd/godwit_csvd.h"

#include <stdint.h>

#include "base/errbuf.h"
#include "base/log.h"
#include "base/loop.h"
#include "bin/common/service.h"
#include "bin/common/version.h"
#include "bin/godwit-csvd/csvd_api.h"

#define TAG "godwit-csvd"

static void stopped(void *arg)
{
	loop_stop(arg);
}

static int serve(const struct cli_call *call, const struct service_cfg *cfg,
                 struct service *service, struct errbuf *eb)
{
	struct loop *loop = service_loop(service);
	const struct csvd_api_cfg api_cfg = {
		.loop = loop,
		.run_dir = cfg->run_dir,
		.state_dir = cfg->state_dir,
		.listen_addr = cli_text(call, "listen"),
		.port = (uint16_t)cli_number(call, "port", 0),
	};
	struct csvd_api *api;
	int err = csvd_api_create(&api_cfg, &api, eb);

	if (err != 0) {
		return err;
	}
	service_run(service, "serving shared volumes");
	csvd_api_stop(api, stopped, loop);
	loop_run(loop);
	csvd_api_destroy(api);
	return 0;
}

static int run(const struct cli_call *call, void *arg)
{
	struct service_cfg cfg;
	struct service *service;
	struct errbuf eb = {0};

	(void)arg;
	service_cfg_from(call, TAG, &cfg);

	int err = service_create(&cfg, &service, &eb);

	if (err < 0) {
		return cli_fail(call, err, &eb);
	}
	err = serve(call, &cfg, service, &eb);
	if (err < 0) {
		log_err(TAG, "cannot start text=\"%s\" hint=\"%s\"", errbuf_text(&eb, err),
		        eb.hint);
	}
	service_destroy(service);
	return err < 0 ? cli_fail(call, err, &eb) : CLI_DONE;
}

static const struct cli_opt opts[] = {
	SERVICE_OPTS,
	{.name = "listen",
         .kind = CLI_TEXT,
         .value = "ADDR",
         .preset = "::",
         .summary = "Numeric address for other nodes, once this one has a certificate "
                    "(godwit cert)."},
	{.name = "port",
         .kind = CLI_UINT,
         .value = "PORT",
         .preset = "7445",
         .summary = "TCP port for other nodes."},
	{0},
};

static const struct cli_cmd cmd = {
	.summary = "Run the shared-volume service of this node",
	.examples = "godwit-csvd --foreground --log-level debug\n"
		    "godwit-csvd --foreground --state-dir /tmp/g/state --run-dir /tmp/g/run",
	.opts = opts,
	.run = run,
};

static const struct cli_section sections[] = {
	{.title = "SIGNALS",
         .items = (const struct cli_item[]){{"SIGTERM, SIGINT",
                                             "Leave all volumes in order, ten seconds long at "
                                             "most, and stop."},
                                            {"SIGUSR1", "Write the flight recorder to "
                                                        "godwit-csvd.blackbox in the state "
                                                        "directory; qb-blackbox(8) reads it."},
                                            {0}}},
	{.title = "FILES",
         .items = (const struct cli_item[]){{"/run/godwit/csvd.sock", "The control interface, for "
                                                                      "root: godwit csv, and "
                                                                      "who says who is in the "
                                                                      "cluster."},
                                            {"/var/lib/godwit/csvd.json",
                                             "Which volumes a host that is in no cluster uses."},
                                            {"/var/lib/godwit/cert", "This node's key and "
                                                                     "certificate, and whom it "
                                                                     "trusts."},
                                            {0}}},
	{0},
};

const struct cli_app godwit_csvd_app = {
	.name = "godwit-csvd",
	.version = godwit_version,
	.summary = "Shared-volume service of a Godwit node",
	.details = "godwit-csvd has the shared volumes of this node: it keeps the node's liveness "
		   "slot "
		   "on each, coordinates those that it is told to, and connects to the "
		   "coordinators of "
		   "the others. One runs per host.\n\nWithout a cluster a host has its volumes for "
		   "itself; godwit csv add says which.\n\nIt stays in the foreground; systemd(1) "
		   "starts it as godwit-csvd.service.",
	.man_section = 8,
	.root = &cmd,
	.sections = sections,
	.see_also = "godwitd(8), godwit(1)",
};
