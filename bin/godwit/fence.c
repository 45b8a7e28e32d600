/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit fence ...`: what switches nodes off. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/errbuf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "base/ui/ui.h"
#include "bin/godwit/godwit.h"

#define SECRETS_MAX 2048u /* as much as an agent is given */
#define OPTIONS_MAX 512   /* in one cell */

static bool is_true(const json_t *json, const char *key)
{
	return json_is_true(json_object_get(json, key));
}

static void when_text(const json_t *last, char *buf, size_t size)
{
	time_t seconds =
		(time_t)(json_integer_value(json_object_get(last, "time_ns")) / 1000000000);
	struct tm tm;

	buf[0] = '\0';
	if (json_is_object(last) && gmtime_r(&seconds, &tm) != NULL) {
		(void)strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
	}
}

/* ---- list, show ---- */

static const struct ui_column columns[] = {
	{.title = "NAME"},   {.title = "NODE"},   {.title = "LEVEL", .right = true},
	{.title = "AGENT"},  {.title = "COUNTS"}, {.title = "LAST USED"},
	{.title = "RESULT"},
};

static void list_row(struct ui_table *table, const json_t *f)
{
	const json_t *last = json_object_get(f, "last");
	bool counts = is_true(f, "counts");
	char when[32];

	when_text(last, when, sizeof(when));
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(f, "name"));
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(f, "node"));
	ui_table_cell(table, UI_PLAIN, "%" JSON_INTEGER_FORMAT,
	              json_integer_value(json_object_get(f, "level")));
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(f, "agent"));
	ui_table_cell(table, counts ? UI_GOOD : UI_BAD, "%s%s",
	              counts ? "yes" : "no: ", counts ? "" : godwit_text(f, "why"));
	ui_table_cell(table, UI_PLAIN, "%s", when);
	ui_table_cell(table, is_true(last, "ok") ? UI_GOOD : UI_WARN, "%s",
	              json_is_object(last) ? godwit_text(last, "text") : "");
}

static int print_list(const struct cli_call *call, const json_t *fences)
{
	struct ui_style style;
	struct ui_buf buf = {0};
	struct ui_table *table;
	struct errbuf eb = {0};
	size_t i;
	json_t *f;
	int err = ui_table_create(columns, ARRAY_LEN(columns), &table);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	json_array_foreach(fences, i, f)
	{
		list_row(table, f);
	}
	ui_style_get(fileno(call->out), &style);
	ui_table_render(table, &style, &buf);
	ui_table_destroy(table);
	return godwit_print(call, &buf);
}

static int fence_list_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer;
	const json_t *fences;
	int status = CLI_DONE;
	int err = godwit_get(call, "/v1/fences", &answer, &eb);

	(void)arg;
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	fences = json_object_get(answer, "fences");
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else if (json_array_size(fences) == 0) {
		godwit_note(call, "no fence devices yet; godwit help fence add says how to add "
		                  "one");
	} else {
		status = print_list(call, fences);
	}
	json_decref(answer);
	return status;
}

/* "ip=192.0.2.7 lanplus=1 passwd=(secret)" */
static const char *options_text(const json_t *f, char *buf, size_t size)
{
	json_t *options = json_object_get(f, "options");
	const char *key;
	struct text t;
	json_t *value;
	size_t i;

	text_init(&t, buf, size);
	json_object_foreach(options, key, value)
	{
		text_add(&t, "%s%s=%s", t.len > 0 ? " " : "", key, json_string_value(value));
	}
	json_array_foreach(json_object_get(f, "secrets"), i, value)
	{
		text_add(&t, "%s%s=(secret)", t.len > 0 ? " " : "", json_string_value(value));
	}
	return buf;
}

static int print_show(const struct cli_call *call, const json_t *f)
{
	const json_t *last = json_object_get(f, "last");
	bool counts = is_true(f, "counts");
	struct ui_style style;
	struct ui_buf buf = {0};
	struct ui_details *d;
	struct errbuf eb = {0};
	char options[OPTIONS_MAX];
	char when[32];
	int err = ui_details_create(&d);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	when_text(last, when, sizeof(when));
	ui_details_add(d, "Name", UI_PLAIN, "%s", godwit_text(f, "name"));
	ui_details_add(d, "Node", UI_PLAIN, "%s", godwit_text(f, "node"));
	ui_details_add(d, "Level", UI_PLAIN, "%" JSON_INTEGER_FORMAT,
	               json_integer_value(json_object_get(f, "level")));
	ui_details_add(d, "Agent", UI_PLAIN, "%s", godwit_text(f, "agent"));
	ui_details_add(d, "Options", UI_PLAIN, "%s", options_text(f, options, sizeof(options)));
	ui_details_add(d, "Counts", counts ? UI_GOOD : UI_BAD, "%s%s",
	               counts ? "yes" : "no: ", counts ? "" : godwit_text(f, "why"));
	if (json_is_object(last)) {
		ui_details_add(d, "Last used", is_true(last, "ok") ? UI_GOOD : UI_BAD, "%s  %s",
		               when, godwit_text(last, "text"));
	}
	ui_style_get(fileno(call->out), &style);
	ui_details_render(d, &style, &buf);
	ui_details_destroy(d);
	return godwit_print(call, &buf);
}

static int fence_show_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *f = NULL;
	int status = CLI_DONE;
	char *path = api_path("/v1/fences/{name}", cli_arg_at(call, 0));
	int err = path != NULL ? godwit_get(call, path, &f, &eb) : -ENOMEM;

	(void)arg;
	free(path);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, f);
	} else {
		status = print_show(call, f);
	}
	json_decref(f);
	return status;
}

/* ---- add ---- */

/* "key=value" into @out. The value is not told: it may be a secret. */
static int pair_add(json_t *out, const char *pair, size_t len, const char *what, struct errbuf *eb)
{
	const char *eq = memchr(pair, '=', len);
	char key[80];

	if (eq == NULL || eq == pair || (size_t)(eq - pair) >= sizeof(key)) {
		return errbuf_set(eb, -EINVAL, "%s: not key=value", what);
	}
	memcpy(key, pair, (size_t)(eq - pair));
	key[eq - pair] = '\0';
	if (json_object_get(out, key) != NULL) {
		return errbuf_set(eb, -EINVAL, "%s: %s is there twice", what, key);
	}
	return json_object_set_new(out, key, json_stringn(eq + 1, len - (size_t)(eq + 1 - pair))) ==
	                       0
	               ? 0
	               : errbuf_set(eb, -EINVAL, "%s: %s: not text", what, key);
}

static int options_read(const struct cli_call *call, json_t *out, struct errbuf *eb)
{
	const char *text;
	int err = 0;

	for (uint32_t i = 0; err == 0 && (text = cli_text_at(call, "option", i)) != NULL; i++) {
		err = pair_add(out, text, strlen(text), "--option", eb);
	}
	return err;
}

/* @buf[SECRETS_MAX + 1]. Returns bytes; -errno. */
static ssize_t secrets_read(const char *path, char *buf, struct errbuf *eb)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	size_t len;

	if (file == NULL) {
		return errbuf_sys(eb, -errno, "%s", path);
	}
	len = fread(buf, 1, SECRETS_MAX + 1, file);

	bool bad = ferror(file) != 0;

	if (file != stdin) {
		(void)fclose(file);
	}
	if (bad) {
		return errbuf_set(eb, -EIO, "%s: cannot be read", path);
	}
	return len > SECRETS_MAX
	               ? errbuf_set(eb, -EFBIG, "%s: more than %u bytes", path, SECRETS_MAX)
	               : (ssize_t)len;
}

static int secrets_add(const struct cli_call *call, json_t *out, struct errbuf *eb)
{
	const char *path = cli_text(call, "secrets");
	char buf[SECRETS_MAX + 1];
	ssize_t len = path != NULL ? secrets_read(path, buf, eb) : 0;
	int err = len < 0 ? (int)len : 0;

	for (size_t at = 0; err == 0 && at < (size_t)len;) {
		const char *end = memchr(buf + at, '\n', (size_t)len - at);
		size_t line = end != NULL ? (size_t)(end - buf) - at : (size_t)len - at;

		if (line > 0) {
			err = pair_add(out, buf + at, line, "--secrets", eb);
		}
		at += line + 1;
	}
	hash_wipe(buf, sizeof(buf));
	return err;
}

static int body_make(const struct cli_call *call, json_t **out, struct errbuf *eb)
{
	json_t *options = json_object();
	json_t *secrets = json_object();
	int err = options != NULL && secrets != NULL ? options_read(call, options, eb) : -ENOMEM;

	*out = NULL;
	if (err == 0) {
		err = secrets_add(call, secrets, eb);
	}
	if (err == 0) {
		*out = json_pack("{s:s,s:s,s:s,s:I,s:O,s:O}", "name", cli_arg_at(call, 0), "node",
		                 cli_text(call, "node"), "agent", cli_text(call, "agent"), "level",
		                 (json_int_t)cli_number(call, "level", 1), "options", options,
		                 "secrets", secrets);
		err = *out != NULL ? 0 : -ENOMEM;
	}
	json_decref(options);
	json_decref(secrets);
	return err;
}

static int fence_add_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *body = NULL;
	json_t *answer = NULL;
	int err = body_make(call, &body, &eb);

	(void)arg;
	if (err == 0) {
		err = godwit_call(call, API_POST, "/v1/fences", body, &answer, &eb);
	}
	json_decref(body);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		godwit_note(call,
		            "%s is to switch %s off; whether it can: godwit fence test %s asks "
		            "it whether %s is on",
		            cli_arg_at(call, 0), cli_text(call, "node"), cli_arg_at(call, 0),
		            cli_text(call, "node"));
	}
	json_decref(answer);
	return CLI_DONE;
}

/* ---- test, remove ---- */

static int fence_test_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	char *path = api_path("/v1/fences/{name}/test", cli_arg_at(call, 0));
	int err = path != NULL ? godwit_call(call, API_POST, path, NULL, &answer, &eb) : -ENOMEM;

	(void)arg;
	free(path);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		godwit_put(call, "%s says that %s is %s", cli_arg_at(call, 0),
		           godwit_text(answer, "node"), godwit_text(answer, "power"));
		godwit_end(call);
	}
	json_decref(answer);
	return CLI_DONE;
}

static int fence_remove_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	char *path = api_path("/v1/fences/{name}", cli_arg_at(call, 0));
	int err = path != NULL ? godwit_call(call, API_DELETE, path, NULL, &answer, &eb) : -ENOMEM;

	(void)arg;
	free(path);
	json_decref(answer);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	godwit_note(call, "%s is removed", cli_arg_at(call, 0));
	return CLI_DONE;
}

static const struct cli_arg one[] = {
	{.name = "NAME", .summary = "The fence device.", .source = "fence"},
	{0},
};

static const struct cli_opt add_opts[] = {
	{.name = "node",
         .kind = CLI_TEXT,
         .value = "NODE",
         .required = true,
         .source = "node",
         .summary = "The node that it switches off."},
	{.name = "agent",
         .kind = CLI_TEXT,
         .value = "AGENT",
         .required = true,
         .summary = "A program fence_... as the package fence-agents has them; it must be on every "
                    "node, as each may lead the cluster."},
	{.name = "option",
         .kind = CLI_TEXT,
         .value = "KEY=VALUE",
         .repeat = true,
         .summary = "What the agent is told; its own manual page lists them. Everybody who may "
                    "look at the cluster sees these."},
	{.name = "secrets",
         .kind = CLI_TEXT,
         .value = "FILE",
         .source = "file",
         .summary = "File with more of them, one a line, that nobody is shown: passwords. -: from "
                    "standard input."},
	{.name = "level",
         .kind = CLI_UINT,
         .value = "1|2|3",
         .preset = "1",
         .summary = "Devices of level 2 are tried when one of level 1 fails or hangs. A level "
                    "counts when all its devices say off: two power supplies are two devices of "
                    "one level."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "add",
         .summary = "Add a device that switches a node off",
         .details = "When the node is lost, the node that leads the cluster has it switched off "
                    "and asks until it says off; that is a proof that its VMs have stopped, also "
                    "without a watchdog. Try it before it is needed: a device that switches "
                    "something else off would let VMs run twice.",
         .examples = "godwit fence add ipmi-n2 --node n2 --agent fence_ipmilan --option "
                     "ip=192.0.2.12 --option lanplus=1 --option username=admin --secrets "
                     "/root/ipmi-n2",
         .args = one,
         .opts = add_opts,
         .run = fence_add_run},
	{.verb = "list", .summary = "List the fence devices", .run = fence_list_run},
	{.verb = "show",
         .summary = "Show one: options without secrets, what it said last",
         .args = one,
         .run = fence_show_run},
	{.verb = "test",
         .summary = "Ask a device whether its node is on",
         .details = "From this node; another one may lead the cluster, so try it on all. Nothing "
                    "is switched.",
         .args = one,
         .run = fence_test_run},
	{.verb = "remove",
         .summary = "Remove a fence device",
         .args = one,
         .run = fence_remove_run},
	{0},
};

const struct cli_noun noun_fence = {
	.name = "fence",
	.summary = "Fence devices: what switches nodes off",
	.details =
		"Power switches and management controllers of the nodes, through the programs of "
		"the package fence-agents.",
	.cmds = cmds,
};
