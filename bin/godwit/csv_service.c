/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit csv list, show, move, add, evict`: what godwit-csvd of this host knows and does. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/guid.h"
#include "base/json.h"
#include "base/ui/ui.h"
#include "bin/godwit/csv.h"
#include "bin/godwit/godwit.h"

#define CSVD_URL "unix:///run/godwit/csvd.sock"
#define CALL_MS 120000u

int csvd_call(const struct cli_call *call, enum api_method method, const char *path,
              const json_t *body, json_t **out, struct errbuf *eb)
{
	const char *host = godwit_host(call);
	const struct api_client_cfg cfg = {.url = host != NULL ? host : CSVD_URL};
	const struct api_call request = {
		.method = method,
		.path = path,
		.body = body,
		.timeout_ms = CALL_MS,
	};
	struct api_result result = {0};
	struct api_client *client;
	int err;

	*out = NULL;
	if (path == NULL) {
		return errbuf_sys(eb, -ENOMEM, "path");
	}
	err = api_client_create(&cfg, &client, eb);
	if (err != 0) {
		return err;
	}
	err = api_client_call(client, &request, &result, eb);
	if (err == 0) {
		*out = result.body != NULL ? json_incref(result.body) : json_object();
	} else if (err == -ENOENT && result.status == 0) {
		errbuf_hint(eb, "Is godwit-csvd running? systemctl status godwit-csvd");
	}
	api_result_fini(&result);
	api_client_destroy(client);
	return err;
}

static bool is_id(const json_t *row, const struct guid *id)
{
	struct guid other;

	return guid_parse(godwit_text(row, "id"), &other) == 0 && guid_equal(&other, id);
}

static int refuse_rows(const json_t *answer, const struct guid *id, struct errbuf *eb)
{
	json_t *row;
	size_t i;

	json_array_foreach(json_object_get(answer, "volumes"), i, row)
	{
		if (is_id(row, id)) {
			(void)errbuf_set(eb, -EBUSY, "the cluster uses it as volume %s",
			                 godwit_text(row, "name"));
			errbuf_hint(eb, "godwit csv evict %s ends that", godwit_text(row, "name"));
			return -EBUSY;
		}
	}
	json_array_foreach(json_object_get(answer, "left"), i, row)
	{
		json_int_t node = json_integer_value(json_object_get(row, "open_on"));

		if (is_id(row, id) && node != 0) {
			(void)errbuf_set(eb, -EBUSY,
			                 "it was evicted, and node %lld may still have it open",
			                 (long long)node);
			errbuf_hint(eb, "A node that answers has closed it within seconds: ask "
			                "again. One that does not must come back or be fenced.");
			return -EBUSY;
		}
	}
	return 0;
}

int csv_refuse_cluster(const struct cli_call *call, const struct guid *id, struct errbuf *eb)
{
	json_t *answer = NULL;
	int err = godwit_get(call, "/v1/volumes", &answer, NULL) == 0 ? refuse_rows(answer, id, eb)
	                                                              : 0;

	json_decref(answer);
	return err;
}

bool csv_in_cluster(const struct cli_call *call)
{
	json_t *answer = NULL;
	bool in = godwit_get(call, "/v1/volumes", &answer, NULL) == 0 &&
	          json_is_true(json_object_get(answer, "cluster"));

	json_decref(answer);
	return in;
}

int csv_use_call(const struct cli_call *call, enum api_method method, const char *path,
                 const json_t *body, json_t **out, struct errbuf *eb)
{
	if (path == NULL) {
		*out = NULL;
		return errbuf_sys(eb, -ENOMEM, "path");
	}
	return csv_in_cluster(call) ? godwit_call(call, method, path, body, out, eb)
	                            : csvd_call(call, method, path, body, out, eb);
}

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

static enum ui_tone tone_of(const char *state)
{
	return strcmp(state, "direct") == 0 ? UI_GOOD
	       : strcmp(state, "dead") == 0 ? UI_BAD
	                                    : UI_WARN;
}

/* ---- list ---- */

static const struct ui_column columns[] = {
	{.title = "NAME"},
	{.title = "STATE"},
	{.title = "REASON"},
	{.title = "COORDINATOR"},
	{.title = "FENCING"},
	{.title = "SIZE", .right = true},
	{.title = "FREE", .right = true},
	{.title = "FILES", .right = true},
	{.title = "META P99", .right = true},
};

/* Its LUN is reserved by keys; else leases and slots alone keep a fenced node from writing. */
static bool has_keys(const json_t *v)
{
	const char *level = godwit_text(json_object_get(v, "reservations"), "level");

	return level[0] != '\0' && strcmp(level, "none") != 0;
}

static void list_row(struct ui_table *table, const json_t *v)
{
	const char *state = godwit_text(v, "state");
	const json_t *space = json_object_get(v, "space");
	char size[FMT_MAX] = "-";
	char left[FMT_MAX] = "-";

	if (json_is_object(space)) {
		(void)fmt_size(number_of(space, "size_bytes"), size);
		(void)fmt_size(number_of(space, "free_bytes"), left);
	}
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(v, "name"));
	ui_table_cell(table, tone_of(state), "%s", state);
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(v, "reason"));
	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(v, "coordinator"));
	ui_table_cell(table, UI_PLAIN, "%s",
	              has_keys(v) ? godwit_text(json_object_get(v, "reservations"), "level")
	                          : "leases");
	ui_table_cell(table, UI_PLAIN, "%s", size);
	ui_table_cell(table, UI_PLAIN, "%s", left);
	ui_table_cell(table, UI_PLAIN, "%" PRIu64, number_of(space, "files"));
	ui_table_cell(table, UI_PLAIN, "%" PRIu64 " us",
	              number_of(json_object_get(v, "meta"), "p99_us"));
}

static int print_list(const struct cli_call *call, const json_t *volumes)
{
	struct ui_table *table;
	struct errbuf eb = {0};
	size_t i;
	json_t *v;
	int err = ui_table_create(columns, ARRAY_LEN(columns), &table);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	json_array_foreach(volumes, i, v)
	{
		list_row(table, v);
	}
	return godwit_table(call, table);
}

int csv_list_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer;
	int status = CLI_DONE;
	int err = csvd_call(call, API_GET, "/v1/volumes", NULL, &answer, &eb);

	(void)arg;
	if (err != 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else if (json_array_size(json_object_get(answer, "volumes")) == 0) {
		godwit_note(call, "this node uses no volumes; godwit help csv add says how to");
	} else {
		status = print_list(call, json_object_get(answer, "volumes"));
	}
	json_decref(answer);
	return status;
}

/* ---- show ---- */

static void add_reservations(struct ui_details *d, const json_t *v)
{
	const json_t *r = json_object_get(v, "reservations");
	const char *why = godwit_text(r, "why");

	if (has_keys(v)) {
		ui_details_add(d, "Reservations", UI_GOOD, "%s, key %s%s%s",
		               godwit_text(r, "level"), godwit_text(r, "key"),
		               why[0] != '\0' ? ": " : "", why);
	} else {
		ui_details_add(d, "Reservations", UI_PLAIN, "none, leases and slots only: %s", why);
	}
}

static void add_latency(struct ui_details *d, const char *title, const json_t *l)
{
	if (number_of(l, "count") != 0) {
		ui_details_add(d, title, UI_PLAIN,
		               "%" PRIu64 " us p50, %" PRIu64 " us p99, %" PRIu64
		               " us at most, of %" PRIu64,
		               number_of(l, "p50_us"), number_of(l, "p99_us"),
		               number_of(l, "max_us"), number_of(l, "count"));
	}
}

static void add_space(struct ui_details *d, const json_t *space)
{
	char size[FMT_MAX];
	char left[FMT_MAX];

	if (json_is_object(space)) {
		ui_details_add(d, "Space", UI_PLAIN, "%s free of %s",
		               fmt_size(number_of(space, "free_bytes"), left),
		               fmt_size(number_of(space, "size_bytes"), size));
		ui_details_add(d, "Files", UI_PLAIN, "%" PRIu64 ", %" PRIu64 " directories",
		               number_of(space, "files"), number_of(space, "directories"));
	}
}

/* What the coordinator says, if it is on the node that was asked. */
static void add_moved(struct ui_details *d, const char *title, const json_t *moved)
{
	char size[FMT_MAX];

	if (number_of(moved, "requests") != 0) {
		ui_details_add(d, title, UI_PLAIN, "%s, %" PRIu64 " requests",
		               fmt_size(number_of(moved, "bytes"), size),
		               number_of(moved, "requests"));
	}
}

static void add_here(struct ui_details *d, const json_t *here)
{
	size_t i;
	json_t *run;

	if (!json_is_object(here)) {
		return;
	}
	ui_details_section(d, "Coordinator");
	ui_details_add(d, "State", UI_PLAIN, "%s", godwit_text(here, "state"));
	if (godwit_text(here, "why")[0] != '\0') {
		ui_details_add(d, "Why", UI_BAD, "%s", godwit_text(here, "why"));
	}
	ui_details_add(
		d, "Held", UI_PLAIN, "%" PRIu64 " handles, %" PRIu64 " leases, %" PRIu64 " locks",
		number_of(here, "handles"), number_of(here, "leases"), number_of(here, "locks"));
	ui_details_add(d, "Lock waits", UI_PLAIN, "%" PRIu64 " now", number_of(here, "waiting"));
	add_latency(d, "", json_object_get(here, "lock_waits"));
	add_moved(d, "Done for others", json_object_get(here, "gate"));
	json_array_foreach(json_object_get(here, "fence"), i, run)
	{
		ui_details_add(d, "Must be fenced", UI_BAD, "node %" PRIu64 ", run %" PRIu64,
		               number_of(run, "id"), number_of(run, "run"));
	}
}

static void add_nodes(struct ui_details *d, const json_t *nodes)
{
	size_t i;
	json_t *n;

	ui_details_section(d, "Nodes");
	json_array_foreach(nodes, i, n)
	{
		const char *slot = godwit_text(n, "slot");
		bool well = strcmp(slot, "held") == 0 || strcmp(slot, "alive") == 0;

		ui_details_add(d, godwit_text(n, "name"), well ? UI_GOOD : UI_WARN, "slot %s%s%s",
		               slot,
		               json_is_true(json_object_get(n, "connected")) ? ", connected" : "",
		               json_is_true(json_object_get(n, "self")) ? ", this node" : "");
	}
}

static int print_show(const struct cli_call *call, const json_t *v)
{
	const char *state = godwit_text(v, "state");
	const char *reason = godwit_text(v, "reason");
	char since[FMT_MAX];
	struct ui_style style;
	struct ui_buf buf = {0};
	struct ui_details *d;
	struct errbuf eb = {0};
	int err = ui_details_create(&d);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	ui_details_add(d, "Name", UI_PLAIN, "%s", godwit_text(v, "name"));
	ui_details_add(d, "Id", UI_PLAIN, "%s", godwit_text(v, "id"));
	ui_details_add(d, "Device", UI_PLAIN, "%s", godwit_text(v, "device"));
	ui_details_add(d, "State", tone_of(state), "%s%s%s%s, for %s", state,
	               reason[0] != '\0' ? " (" : "", reason, reason[0] != '\0' ? ")" : "",
	               fmt_duration(number_of(v, "since_s") * 1000000000u, since));
	if (godwit_text(v, "detail")[0] != '\0') {
		ui_details_add(d, "", UI_PLAIN, "%s", godwit_text(v, "detail"));
	}
	ui_details_add(d, "Coordinator", UI_PLAIN, "%s, term %" PRIu64,
	               godwit_text(v, "coordinator"), number_of(v, "term"));
	if (godwit_text(v, "mount_error")[0] != '\0') {
		ui_details_add(d, "Mounted", UI_BAD, "no: %s", godwit_text(v, "mount_error"));
	} else {
		ui_details_add(d, "Mounted", UI_PLAIN, "%s", godwit_text(v, "path"));
	}
	add_reservations(d, v);
	add_space(d, json_object_get(v, "space"));
	add_moved(d, "Redirected", json_object_get(v, "redirected"));
	add_latency(d, "Metadata", json_object_get(v, "meta"));
	add_nodes(d, json_object_get(v, "nodes"));
	add_here(d, json_object_get(v, "here"));
	ui_style_get(fileno(call->out), &style);
	ui_details_render(d, &style, &buf);
	ui_details_destroy(d);
	return godwit_print(call, &buf);
}

int csv_show_run(const struct cli_call *call, void *arg)
{
	char *path = api_path("/v1/volumes/{name}", cli_arg_at(call, 0));
	struct errbuf eb = {0};
	json_t *answer;
	int status = CLI_DONE;
	int err = csvd_call(call, API_GET, path, NULL, &answer, &eb);

	(void)arg;
	free(path);
	if (err != 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, json_object_get(answer, "volume"));
	} else {
		status = print_show(call, json_object_get(answer, "volume"));
	}
	json_decref(answer);
	return status;
}

/* ---- move, evict ---- */

static int change(const struct cli_call *call, enum api_method method, char *path,
                  const json_t *body)
{
	struct errbuf eb = {0};
	json_t *answer;
	int err = method == API_DELETE ? csv_use_call(call, method, path, body, &answer, &eb)
	                               : csvd_call(call, method, path, body, &answer, &eb);

	free(path);
	if (err != 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	}
	json_decref(answer);
	return CLI_DONE;
}

int csv_move_run(const struct cli_call *call, void *arg)
{
	json_t *body = json_pack("{s:s}", "to", cli_text(call, "to"));
	int status = change(call, API_POST,
	                    api_path("/v1/volumes/{name}/move", cli_arg_at(call, 0)), body);

	(void)arg;
	json_decref(body);
	return status;
}

int csv_evict_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return change(call, API_DELETE, api_path("/v1/volumes/{name}", cli_arg_at(call, 0)), NULL);
}
