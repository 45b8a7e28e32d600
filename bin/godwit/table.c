/* SPDX-License-Identifier: Apache-2.0 */
/* The command line as a whole: nouns, options that all commands know, sections of the manual. */
#include "bin/common/version.h"
#include "bin/godwit/godwit.h"

/* In the order of help and manual. */
static const struct cli_noun *const nouns[] = {
	&noun_vm,      &noun_disk,     &noun_switch,         &noun_host,
	&noun_cluster, &noun_node,     &noun_fence,          &noun_quorum,
	&noun_job,     &noun_event,    &noun_explain,        &noun_csv,
	&noun_cert,    &cli_noun_help, &cli_noun_completion, NULL,
};

static const struct cli_opt opts[] = {
	{.name = "json",
         .kind = CLI_FLAG,
         .summary = "Answer in JSON with a stable schema; errors too."},
	{.name = "quiet",
         .letter = 'q',
         .kind = CLI_FLAG,
         .summary = "No remarks, only the answer and errors."},
	{.name = "host",
         .kind = CLI_TEXT,
         .value = "URL",
         .summary = "Ask this API, unix:///PATH, instead of that of this host."},
	{.name = "timeout",
         .kind = CLI_DURATION,
         .value = "TIME",
         .preset = "1m",
         .summary = "Give up after this time; the exit status is then 4."},
	{0},
};

static const struct cli_item environment[] = {
	{"GODWIT_HOST", "Like --host, which wins."},
	{"NO_COLOR", "If set and not empty, no colours are used; nor are they if the output is no "
                     "terminal."},
	{"COLUMNS", "Width of help texts, instead of the terminal's."},
	{0},
};

static const struct cli_item files[] = {
	{"/run/godwit/api.sock", "The API of godwitd(8) on this host."},
	{"/var/lib/godwit", "State: VMs, disks, the cluster's database."},
	{0},
};

static const struct cli_section sections[] = {
	{.title = "ENVIRONMENT", .items = environment},
	{.title = "FILES", .items = files},
	{0},
};

const struct cli_app godwit_app = {
	.name = "godwit",
	.version = godwit_version,
	.summary = "Manage virtual machines, hosts and clusters of Godwit",
	.details =
		"Every command is a noun, a verb, perhaps a name, and options. A mistyped word is "
		"refused with a proposal, never guessed.",
	.man_section = 1,
	.nouns = nouns,
	.opts = opts,
	.sections = sections,
	.complete = godwit_complete,
	.see_also = "godwitd(8), godwit-vm(8), godwit-csvd(8)",
};
