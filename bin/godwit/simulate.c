/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit cluster simulate`: what if. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "base/text.h"
#include "base/ui/ui.h"
#include "bin/godwit/cluster.h"
#include "bin/godwit/godwit.h"

#define NAMES_MAX 1024
#define SPAN_MAX (2 * FMT_MAX + 8)

static uint64_t at(const json_t *span, size_t index)
{
	json_int_t v = json_integer_value(json_array_get(span, index));

	return v > 0 ? (uint64_t)v : 0;
}

/* "11.2 s to 12.1 s"; "-". */
static const char *span_text(const json_t *span, char buf[SPAN_MAX])
{
	char from[FMT_MAX];
	char to[FMT_MAX];

	if (!json_is_array(span)) {
		return "-";
	}
	(void)snprintf(buf, SPAN_MAX, "%s to %s", fmt_duration(at(span, 0), from),
	               fmt_duration(at(span, 1), to));
	return buf;
}

static enum ui_tone tone_of(const char *fate)
{
	static const char *const good[] = {"starts", "moves", "moves-quickly", "shut-down"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (strcmp(fate, good[i]) == 0) {
			return UI_GOOD;
		}
	}
	return strcmp(fate, "off") == 0 ? UI_PLAIN : UI_BAD;
}

static const struct ui_column columns[] = {
	{.title = "VM"},
	{.title = "NODE"},
	{.title = "FATE"},
	{.title = "TO"},
	{.title = "WAVE", .right = true},
	{.title = "NOT BEFORE"},
	{.title = "WHY"},
};

static int print_vms(const struct cli_call *call, const json_t *vms)
{
	struct ui_table *table;
	struct errbuf eb = {0};
	size_t i;
	json_t *vm;
	int err = ui_table_create(columns, ARRAY_LEN(columns), &table);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	json_array_foreach(vms, i, vm)
	{
		const char *fate = godwit_text(vm, "fate");
		char span[SPAN_MAX];

		ui_table_cell(table, UI_PLAIN, "%s", godwit_text(vm, "vm"));
		ui_table_cell(table, UI_PLAIN, "%s", godwit_text(vm, "node"));
		ui_table_cell(table, tone_of(fate), "%s", fate);
		ui_table_cell(table, UI_PLAIN, "%s", godwit_text(vm, "to"));
		ui_table_cell(table, UI_PLAIN, "%" JSON_INTEGER_FORMAT,
		              json_integer_value(json_object_get(vm, "wave")));
		ui_table_cell(table, UI_PLAIN, "%s",
		              span_text(json_object_get(vm, "after_ns"), span));
		ui_table_cell(table, UI_PLAIN, "%s", godwit_text(vm, "text"));
	}
	return godwit_table(call, table);
}

static void print_nodes(const struct cli_call *call, const json_t *answer)
{
	size_t i;
	json_t *n;

	json_array_foreach(json_object_get(answer, "nodes"), i, n)
	{
		const char *proof = godwit_text(n, "proof");
		char span[SPAN_MAX];

		godwit_put(call, "%s: lost after %s", godwit_text(n, "node"),
		           span_text(json_object_get(n, "detected_ns"), span));
		if (json_is_array(json_object_get(n, "proven_ns"))) {
			godwit_put(call, ", proven stopped by %s after %s%s", proof,
			           span_text(json_object_get(n, "proven_ns"), span),
			           strcmp(proof, "power") == 0 ? " and what its device takes" : "");
		} else {
			godwit_put(call, "; nothing proves that it has stopped but a person, or "
			                 "its return");
		}
		godwit_end(call);
	}
	if (!json_is_true(json_object_get(answer, "majority"))) {
		godwit_put(call,
		           "those who are left have %" JSON_INTEGER_FORMAT
		           " of %" JSON_INTEGER_FORMAT
		           " votes that are needed: nothing starts until one comes back",
		           json_integer_value(json_object_get(answer, "votes_left")),
		           json_integer_value(json_object_get(answer, "votes_needed")));
		godwit_end(call);
	}
}

static int ask(const struct cli_call *call, json_t **out, struct errbuf *eb)
{
	const char *drain = cli_text(call, "drain");
	char names[NAMES_MAX];
	struct text t;
	char *path;
	int err;

	text_init(&t, names, sizeof(names));
	for (uint32_t i = 0; cli_text_at(call, "dies", i) != NULL; i++) {
		text_add(&t, "%s%s", i > 0 ? "," : "", cli_text_at(call, "dies", i));
	}
	if ((t.len > 0) == (drain != NULL)) {
		return errbuf_set(eb, -EINVAL, "what if? --dies NODE or --drain NODE");
	}
	path = drain != NULL ? api_path("/v1/cluster/simulate?drain={node}", drain)
	                     : api_path("/v1/cluster/simulate?dies={nodes}", names);
	err = path != NULL ? godwit_get(call, path, out, eb) : -ENOMEM;
	free(path);
	return err;
}

/* Of all VMs concerned none is left behind. */
static bool all_well(const json_t *answer)
{
	static const char *const bad[] = {"nowhere", "given-up", "waits", "blocked"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (json_integer_value(json_object_get(answer, bad[i])) != 0) {
			return false;
		}
	}
	return true;
}

int cluster_simulate_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int status = CLI_DONE;
	int err = ask(call, &answer, &eb);

	(void)arg;
	if (err < 0) {
		status = godwit_fail(call, err, &eb);
		return err == -EINVAL && answer == NULL ? CLI_USAGE : status;
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		print_nodes(call, answer);
		if (json_array_size(json_object_get(answer, "vms")) == 0) {
			godwit_note(call, "no VM of the cluster would notice");
		} else {
			status = print_vms(call, json_object_get(answer, "vms"));
		}
	}
	if (status == CLI_DONE && !all_well(answer)) {
		status = CLI_PARTLY;
	}
	json_decref(answer);
	return status;
}

const struct cli_opt cluster_simulate_opts[] = {
	{.name = "dies",
         .kind = CLI_TEXT,
         .value = "NODE[,NODE]",
         .source = "node",
         .repeat = true,
         .summary = "These nodes lose power now."},
	{.name = "drain",
         .kind = CLI_TEXT,
         .value = "NODE",
         .source = "node",
         .summary = "This node is emptied for maintenance."},
	{0},
};
