/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's shell: its options, its sandbox, then hv/worker. */
#include "bin/godwit-vm/godwit_vm.h"

#include <errno.h>

#include "base/errbuf.h"
#include "base/log.h"
#include "bin/common/version.h"
#include "hv/kvm/kvm.h"
#include "hv/worker/sandbox.h"
#include "hv/worker/worker.h"
#include "migrate/mover/mover.h"

#define TAG "godwit-vm"

static int run(const struct cli_call *call, void *arg)
{
	struct log_cfg log = {.name = TAG, .to_stderr = true};
	const struct sandbox_cfg sandbox = {
		.root_fd = cli_given(call, "root-fd") ? (int)cli_number(call, "root-fd", 0) : -1,
		.uid = (uint32_t)cli_number(call, "uid", 0),
		.gid = (uint32_t)cli_number(call, "gid", 0),
	};
	bool eoi_assist = kvm_eoi_assist(); /* before /sys is gone */
	struct errbuf eb = {0};
	int err = log_level_parse(cli_text(call, "log-level"), &log.level);

	(void)arg;
	if (err == 0) {
		err = log_open(&log);
	}
	if (err == 0) {
		err = sandbox_enter(&sandbox, &eb);
	}
	if (err == 0) {
		const struct worker_cfg worker = {
			.config_fd = (int)cli_number(call, "config-fd", 0),
			.listen_fd = (int)cli_number(call, "control-fd", 0),
			.seal = true,
			.eoi_assist = eoi_assist,
			.ext = &mover_ext,
		};

		err = worker_run(&worker, &eb);
	}
	log_close();
	return err == 0 ? 0 : cli_fail(call, err, &eb);
}

static const struct cli_opt opts[] = {
	{.name = "config-fd",
         .kind = CLI_UINT,
         .required = true,
         .value = "N",
         .summary = "Descriptor with the definition and the other descriptors, in JSON."},
	{.name = "control-fd",
         .kind = CLI_UINT,
         .required = true,
         .value = "N",
         .summary = "Listening socket (SOCK_SEQPACKET) on which it is commanded."},
	{.name = "root-fd",
         .kind = CLI_UINT,
         .value = "N",
         .summary = "Descriptor of an empty directory that becomes the root."},
	{.name = "uid",
         .kind = CLI_UINT,
         .value = "UID",
         .summary = "User to become; without it the process keeps its rights (tests only)."},
	{.name = "gid", .kind = CLI_UINT, .value = "GID", .summary = "Group to become."},
	{.name = "log-level",
         .kind = CLI_CHOICE,
         .value = "err|warn|info|debug|trace",
         .preset = "info",
         .summary = "How much to log."},
	{0},
};

static const struct cli_cmd cmd = {
	.summary = "Run one VM",
	.opts = opts,
	.run = run,
};

const struct cli_app godwit_vm_app = {
	.name = "godwit-vm",
	.version = godwit_version,
	.summary = "Worker process of one Godwit VM",
	.details = "One process is one VM: its processors, its memory and its devices. godwitd(8) "
		   "starts it with every descriptor it needs; nobody else has to. It gives up its "
		   "rights before it looks at anything of the guest, and ends when the VM is off.",
	.man_section = 8,
	.root = &cmd,
	.see_also = "godwitd(8), godwit(1)",
};
