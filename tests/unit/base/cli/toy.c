/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/base/cli/toy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/lib/test.h"

#define WORDS_MAX 2000

static int show_call(const struct cli_call *call, void *arg)
{
	char path[128];

	(void)arg;
	(void)fprintf(call->out, "%s", cli_path(call, path, sizeof(path)));
	for (uint32_t i = 0; cli_arg_at(call, i) != NULL; i++) {
		(void)fprintf(call->out, " %s", cli_arg_at(call, i));
	}
	(void)fprintf(call->out, "\n");
	return CLI_DONE;
}

static int refuse(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	int err = errbuf_set(&eb, *(const int *)arg, "the vm is busy");

	errbuf_hint(&eb, "try later");
	return cli_fail(call, err, &eb);
}

static const struct cli_opt create_opts[] = {
	{.name = "memory",
         .letter = 'm',
         .kind = CLI_SIZE,
         .required = true,
         .value = "SIZE",
         .summary = "Memory of the VM."},
	{.name = "cpus", .kind = CLI_UINT, .value = "N", .preset = "1", .summary = "Processors."},
	{.name = "disk",
         .kind = CLI_TEXT,
         .repeat = true,
         .value = "PATH",
         .source = "file",
         .summary = "A disk."},
	{.name = "ha", .kind = CLI_TOGGLE, .summary = "Restart it elsewhere."},
	{.name = "priority",
         .kind = CLI_CHOICE,
         .value = "high|medium|low",
         .preset = "medium",
         .summary = "Who goes first."},
	{.name = "grace",
         .kind = CLI_DURATION,
         .value = "TIME",
         .preset = "30s",
         .summary = "How long to wait."},
	{0},
};

static const struct cli_cmd vm_cmds[] = {
	{.verb = "create",
         .summary = "Create a VM",
         .details = "First paragraph with a fairly long line of text that has to be wrapped "
                    "somewhere.\n\n\tkept  as is\n\tand this\n\nLast - one.",
         .examples = "toy vm create web1 --memory 1G\n.leading dot 'n' \\ backslash",
         .args = (const struct cli_arg[]){{.name = "NAME", .summary = "Name of the VM."}, {0}},
         .opts = create_opts,
         .run = show_call},
	{.verb = "start",
         .summary = "Start VMs",
         .args =
                 (const struct cli_arg[]){
			 {.name = "NAME", .summary = "Which.", .source = "vm", .repeat = true},
			 {0}},
         .run = show_call},
	{.verb = "list", .summary = "List the VMs", .run = show_call},
	{.verb = "remove",
         .summary = "Remove a VM",
         .args =
                 (const struct cli_arg[]){
			 {.name = "NAME", .summary = "Which.", .source = "vm"},
			 {.name = "WHY", .summary = "For the log.", .optional = true},
			 {0}},
         .run = refuse},
	{0},
};

static const struct cli_noun noun_vm = {
	.name = "vm", .summary = "Virtual machines", .cmds = vm_cmds};

static const struct cli_cmd node_cmds[] = {
	{.verb = "list", .summary = "List the nodes", .run = show_call},
	{.verb = "drain", .summary = "Empty a node", .run = show_call},
	{0},
};

static const struct cli_noun noun_node = {.name = "node",
                                          .summary = "Members of the cluster",
                                          .details = "Text about nodes.",
                                          .cmds = node_cmds};

static const struct cli_noun *const nouns[] = {&noun_vm, &noun_node, &cli_noun_help,
                                               &cli_noun_completion, NULL};

static const struct cli_opt global_opts[] = {
	{.name = "json", .kind = CLI_FLAG, .summary = "Answer in JSON."},
	{.name = "quiet", .letter = 'q', .kind = CLI_FLAG, .summary = "Say nothing."},
	{.name = "host", .kind = CLI_TEXT, .value = "URL", .summary = "Whom to ask."},
	{0},
};

static void names(const char *kind, FILE *out, void *arg)
{
	(void)arg;
	if (strcmp(kind, "vm") == 0) {
		(void)fprintf(out, "web1\nweb2\ndb:1\n");
	}
}

const struct cli_app toy_app = {
	.name = "toy",
	.version = "1.2.3",
	.summary = "Play with words",
	.details = "It plays.",
	.man_section = 1,
	.nouns = nouns,
	.opts = global_opts,
	.see_also = "toyd(8)",
	.complete = names,
};

static const struct cli_opt toyd_opts[] = {
	{.name = "state-dir",
         .kind = CLI_TEXT,
         .value = "DIR",
         .preset = "/var/lib/toy",
         .source = "dir",
         .summary = "Where things are kept."},
	{.name = "log-level",
         .kind = CLI_CHOICE,
         .value = "err|warn|info",
         .preset = "info",
         .summary = "How much to say."},
	{0},
};

static const struct cli_cmd toyd_cmd = {.summary = "Serve", .opts = toyd_opts, .run = show_call};

static const struct cli_section toyd_sections[] = {
	{.title = "FILES", .items = (const struct cli_item[]){{"/var/lib/toy", "Toys."}, {0}}},
	{.title = "NOTES", .text = "'Quoted' first.\n\n.dot first."},
	{0},
};

const struct cli_app toyd_app = {
	.name = "toyd",
	.version = "1.2.3",
	.summary = "Serve words",
	.details = "It serves.",
	.man_section = 8,
	.root = &toyd_cmd,
	.sections = toyd_sections,
	.see_also = "toy(1)",
};

static char words_text[65536];
static const char *words[WORDS_MAX];

static int split(const struct cli_app *app, const char *line)
{
	int count = 0;
	char *at = words_text;

	words[count++] = app->name;
	CHECK(strlen(line) < sizeof(words_text));
	memcpy(words_text, line, strlen(line) + 1);
	while (at != NULL && line[0] != '\0') {
		CHECK(count < WORDS_MAX);
		words[count++] = strsep(&at, " ");
	}
	return count;
}

int toy_parse(const struct cli_app *app, const char *line, struct cli_call *call, struct errbuf *eb)
{
	return cli_parse(app, split(app, line), words, call, eb);
}

struct toy_result toy_run(const struct cli_app *app, const char *line)
{
	struct toy_result result = {0};
	size_t out_len;
	size_t err_len;
	FILE *out = open_memstream(&result.out, &out_len);
	FILE *err = open_memstream(&result.err, &err_len);
	int why = -EBUSY;

	assert_non_null(out);
	assert_non_null(err);
	if (strstr(line, "slowly") != NULL) {
		why = -ETIMEDOUT;
	}
	result.status = cli_run(app, split(app, line), words, out, err, &why);
	(void)fclose(out);
	(void)fclose(err);
	return result;
}

void toy_result_fini(struct toy_result *result)
{
	free(result->out);
	free(result->err);
}

char *toy_complete(const struct cli_app *app, const char *line)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int count = split(app, line);
	size_t to = 0;
	bool skip = false;

	assert_non_null(out);
	if (count == 1) {
		words[count++] = "";
	}
	cli_complete(app, count, words, count - 1, out, NULL);
	(void)fclose(out);
	for (size_t from = 0; from < len; from++) {
		skip = text[from] == '\t' || (skip && text[from] != '\n');
		if (!skip) {
			text[to++] = (char)(text[from] == '\n' ? ' ' : text[from]);
		}
	}
	text[to > 0 ? to - 1 : 0] = '\0';
	return text;
}
