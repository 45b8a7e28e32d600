/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's shell. It looks whether it has what every partition needs and then refuses, because
 * nothing builds a partition from a definition yet.
 */
#include "bin/godwit-vm/godwit_vm.h"

#include <errno.h>
#include <stdlib.h>

#include "base/errbuf.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "bin/common/version.h"
#include "hv/kvm/kvm_probe.h"

#define TAG "godwit-vm"
#define CONFIG_BYTES_MAX (1u << 20) /* as a request to the API that carries one */

static int check_config(const char *path, struct errbuf *eb)
{
	char *text;
	size_t len;
	json_t *json;
	int err = fs_read(path, CONFIG_BYTES_MAX, &text, &len, eb);

	if (err < 0) {
		return err;
	}
	err = json_parse(text, len, NULL, &json, eb);
	free(text);
	if (err < 0) {
		errbuf_prepend(eb, "%s", path);
		return err;
	}
	json_decref(json);
	return 0;
}

static int check_kvm(struct errbuf *eb)
{
	struct kvm_probe probe;
	int err;

	kvm_probe_run(KVM_PROBE_DEVICE, &probe);
	err = probe.open_err != 0 ? probe.open_err : probe.vm_err;
	if (err < 0) {
		(void)errbuf_sys(eb, err, "%s", KVM_PROBE_DEVICE);
		errbuf_hint(eb, "'godwit host check' says what this machine lacks");
		return err;
	}
	if (kvm_probe_cap_value(&probe, "kvm.hyperv") == 0) {
		(void)errbuf_set(eb, -ENOTSUP, "KVM of this kernel has no Hyper-V interface");
		errbuf_hint(eb, "'godwit host check' says what this machine lacks");
		return -ENOTSUP;
	}
	return 0;
}

static int run(const struct cli_call *call, void *arg)
{
	struct log_cfg log = {.name = TAG, .to_stderr = true};
	struct errbuf eb = {0};
	int err = log_level_parse(cli_text(call, "log-level"), &log.level);

	(void)arg;
	if (err == 0) {
		err = log_open(&log);
	}
	if (err == 0) {
		err = check_config(cli_text(call, "config"), &eb);
	}
	if (err == 0) {
		err = check_kvm(&eb);
	}
	if (err == 0) {
		err = errbuf_set(&eb, -ENOTSUP, "this version cannot start VMs yet");
	}
	log_close();
	return cli_fail(call, err, &eb);
}

static const struct cli_opt opts[] = {
	{.name = "config",
         .kind = CLI_TEXT,
         .required = true,
         .value = "FILE",
         .source = "file",
         .summary = "Definition of the VM, in JSON."},
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
		   "starts "
		   "it; nobody else needs to.\n\nThis version checks its definition and the "
		   "machine, and "
		   "then refuses: it cannot start VMs yet.",
	.man_section = 8,
	.root = &cmd,
	.see_also = "godwitd(8), godwit(1)",
};
