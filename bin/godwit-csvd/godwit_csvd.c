/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shell of the shared-volume service. It takes its lock, looks whether it has what it needs
 * and then refuses, because nothing mounts a volume yet.
 */
#include "bin/godwit-csvd/godwit_csvd.h"

#include <errno.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/log.h"
#include "bin/common/service.h"
#include "bin/common/version.h"

#define TAG "godwit-csvd"
#define FUSE_DEVICE "/dev/fuse"

static int check_needs(struct errbuf *eb)
{
	if (access(FUSE_DEVICE, R_OK | W_OK) < 0) {
		int err = errbuf_sys(eb, -errno, "%s", FUSE_DEVICE);

		errbuf_hint(eb, "run it as root; 'modprobe fuse' if there is no such device");
		return err;
	}
	return errbuf_set(eb, -ENOTSUP, "this version has no shared volumes yet");
}

static int run(const struct cli_call *call, void *arg)
{
	struct service_cfg cfg;
	struct service *service;
	struct errbuf eb = {0};

	(void)arg;
	service_cfg_from(call, TAG, &cfg);

	int err = service_create(&cfg, &service, &eb);

	if (err == 0) {
		err = check_needs(&eb);
		log_err(TAG, "cannot start text=\"%s\"", errbuf_text(&eb, err));
		service_destroy(service);
	}
	return cli_fail(call, err, &eb);
}

static const struct cli_opt opts[] = {
	SERVICE_OPTS,
	{0},
};

static const struct cli_cmd cmd = {
	.summary = "Run the shared-volume service of this node",
	.opts = opts,
	.run = run,
};

const struct cli_app godwit_csvd_app = {
	.name = "godwit-csvd",
	.version = godwit_version,
	.summary = "Shared-volume service of a Godwit node",
	.details =
		"godwit-csvd coordinates and mounts the cluster's shared volumes on this node.\n\n"
		"This version refuses to start: it has no shared volumes yet.",
	.man_section = 8,
	.root = &cmd,
	.see_also = "godwitd(8), godwit(1)",
};
