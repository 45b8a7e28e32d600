/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit switch ...`: virtual switches. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "base/text.h"
#include "base/ui/ui.h"
#include "bin/godwit/godwit.h"

#define LIST_MAX 512 /* names of uplinks, in one cell */

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

static bool is_true(const json_t *json, const char *key)
{
	return json_is_true(json_object_get(json, key));
}

static enum ui_tone state_tone(const char *state)
{
	if (strcmp(state, "ok") == 0) {
		return UI_GOOD;
	}
	return strcmp(state, "failed") == 0 ? UI_BAD : UI_WARN;
}

/* Where the switch leads: its uplinks, or the network it has. */
static const char *leads_to(const json_t *sw, char *buf, size_t room)
{
	struct text t;
	size_t i;
	json_t *uplink;

	text_init(&t, buf, room);
	json_array_foreach(json_object_get(sw, "uplinks"), i, uplink)
	{
		text_add(&t, "%s%s%s", i != 0 ? "," : "", godwit_text(uplink, "name"),
		         is_true(uplink, "carrier") ? "" : " (no link)");
	}
	if (t.len == 0) {
		text_add(&t, "%s", godwit_text(sw, "subnet"));
	}
	return buf;
}

/* ---- list ---- */

static const struct ui_column columns[] = {
	{.title = "NAME"},
	{.title = "TYPE"},
	{.title = "STATE"},
	{.title = "NETWORK"},
	{.title = "VLAN", .right = true},
	{.title = "ADAPTERS", .right = true},
};

static int print_list(const struct cli_call *call, const json_t *switches)
{
	struct ui_style style;
	struct ui_buf buf = {0};
	struct ui_table *table;
	struct errbuf eb = {0};
	size_t i;
	json_t *sw;
	int err = ui_table_create(columns, ARRAY_LEN(columns), &table);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	json_array_foreach(switches, i, sw)
	{
		const char *state = godwit_text(sw, "state");
		char network[LIST_MAX];

		ui_table_cell(table, UI_PLAIN, "%s", godwit_text(sw, "name"));
		ui_table_cell(table, UI_PLAIN, "%s", godwit_text(sw, "type"));
		ui_table_cell(table, state_tone(state), "%s", state);
		ui_table_cell(table, UI_PLAIN, "%s", leads_to(sw, network, sizeof(network)));
		ui_table_cell(table, UI_PLAIN, "%" PRIu64, number_of(sw, "vlan"));
		ui_table_cell(table, UI_PLAIN, "%zu",
		              json_array_size(json_object_get(sw, "ports")));
	}
	ui_style_get(fileno(call->out), &style);
	ui_table_render(table, &style, &buf);
	ui_table_destroy(table);
	return godwit_print(call, &buf);
}

static int switch_list_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer;
	const json_t *switches;
	int status = CLI_DONE;
	int err = godwit_get(call, "/v1/switches", &answer, &eb);

	(void)arg;
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	switches = json_object_get(answer, "switches");
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else if (json_array_size(switches) == 0) {
		godwit_note(call, "no switches yet; godwit help switch create says how to make "
		                  "one");
	} else {
		status = print_list(call, switches);
	}
	json_decref(answer);
	return status;
}

/* ---- show ---- */

static void add_ports(struct ui_details *d, const json_t *ports)
{
	size_t i;
	json_t *port;

	if (json_array_size(ports) != 0) {
		ui_details_section(d, "Adapters");
	}
	json_array_foreach(ports, i, port)
	{
		const char *vm = godwit_text(port, "vm");

		ui_details_add(d, vm[0] != '\0' ? vm : godwit_text(port, "nic"), UI_PLAIN,
		               "%s  VLAN %" PRIu64 "  %s%s", godwit_text(port, "mac"),
		               number_of(port, "vlan"), godwit_text(port, "tap"),
		               is_true(port, "plugged") ? "" : "  not plugged in");
	}
}

static void add_dhcp(struct ui_details *d, const json_t *dhcp)
{
	if (dhcp == NULL) {
		return;
	}
	if (number_of(dhcp, "pid") != 0) {
		ui_details_add(d, "DHCP, DNS", UI_GOOD, "dnsmasq, process %" PRIu64,
		               number_of(dhcp, "pid"));
	} else {
		ui_details_add(d, "DHCP, DNS", UI_BAD, "ended %" PRIu64 " times: %s",
		               number_of(dhcp, "restarts"), godwit_text(dhcp, "error"));
	}
}

static int print_show(const struct cli_call *call, const json_t *sw)
{
	struct ui_style style;
	struct ui_buf buf = {0};
	struct ui_details *d;
	struct errbuf eb = {0};
	const char *state = godwit_text(sw, "state");
	char network[LIST_MAX];
	int err = ui_details_create(&d);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	ui_details_add(d, "Name", UI_PLAIN, "%s", godwit_text(sw, "name"));
	ui_details_add(d, "Id", UI_PLAIN, "%s", godwit_text(sw, "id"));
	ui_details_add(d, "Type", UI_PLAIN, "%s", godwit_text(sw, "type"));
	ui_details_add(d, "State", state_tone(state), "%s", state);
	if (godwit_text(sw, "error")[0] != '\0') {
		ui_details_add(d, "Error", UI_BAD, "%s", godwit_text(sw, "error"));
		ui_details_add(d, "What to do", UI_PLAIN, "%s", godwit_text(sw, "hint"));
	}
	if (json_array_size(json_object_get(sw, "uplinks")) != 0) {
		ui_details_add(d, "Uplinks", UI_PLAIN, "%s",
		               leads_to(sw, network, sizeof(network)));
	}
	if (godwit_text(sw, "team")[0] != '\0') {
		ui_details_add(d, "Team", UI_PLAIN, "%s", godwit_text(sw, "team"));
	}
	if (godwit_text(sw, "subnet")[0] != '\0') {
		ui_details_add(d, "Subnet", UI_PLAIN, "%s", godwit_text(sw, "subnet"));
	}
	add_dhcp(d, json_object_get(sw, "dhcp"));
	ui_details_add(d, "VLAN", UI_PLAIN, "%" PRIu64 "%s", number_of(sw, "vlan"),
	               is_true(sw, "vlans") ? "" : " (this kernel's bridges know no VLANs)");
	ui_details_add(d, "MTU", UI_PLAIN, "%" PRIu64 " bytes", number_of(sw, "mtu_bytes"));
	ui_details_add(d, "Host", UI_PLAIN, "%s%s",
	               is_true(sw, "host") ? "takes part " : "takes no part",
	               is_true(sw, "host") ? godwit_text(sw, "address") : "");
	ui_details_add(d, "Bridge", UI_PLAIN, "%s", godwit_text(sw, "bridge"));
	add_ports(d, json_object_get(sw, "ports"));
	ui_style_get(fileno(call->out), &style);
	ui_details_render(d, &style, &buf);
	ui_details_destroy(d);
	return godwit_print(call, &buf);
}

static int switch_show_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *sw = NULL;
	int status = CLI_DONE;
	char *path = api_path("/v1/switches/{name}", cli_arg_at(call, 0));
	int err = path != NULL ? godwit_get(call, path, &sw, &eb) : -ENOMEM;

	(void)arg;
	free(path);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, sw);
	} else {
		status = print_show(call, sw);
	}
	json_decref(sw);
	return status;
}

/* ---- create, remove ---- */

/* "eth1,eth2", perhaps several times. */
static void uplinks_add(const struct cli_call *call, struct json_build *body)
{
	struct json_build list;
	const char *text;
	uint32_t count = 0;

	json_build_array(&list);
	for (uint32_t i = 0; (text = cli_text_at(call, "uplink", i)) != NULL; i++) {
		while (text[0] != '\0') {
			size_t len = strcspn(text, ",");

			json_add_strn(&list, NULL, text, len);
			count++;
			text += len;
			text += text[0] == ',';
		}
	}
	if (count != 0) {
		json_add_build(body, "uplinks", &list);
	} else {
		json_decref(list.value);
	}
}

/* What the options say, as members of a definition. */
static void options_add(const struct cli_call *call, struct json_build *body)
{
	uplinks_add(call, body);
	if (cli_given(call, "team")) {
		json_add_str(body, "team", cli_text(call, "team"));
	}
	if (cli_given(call, "vlan")) {
		json_add_u64(body, "vlan", cli_number(call, "vlan", 0));
	}
	if (cli_given(call, "subnet")) {
		json_add_str(body, "subnet", cli_text(call, "subnet"));
	}
	if (cli_given(call, "mtu")) {
		json_add_u64(body, "mtu_bytes", cli_number(call, "mtu", 0));
	}
	if (cli_given(call, "share")) {
		json_add_bool(body, "host", cli_flag(call, "share", false));
	}
}

static int body_make(const struct cli_call *call, json_t **out)
{
	struct json_build body;

	json_build_object(&body);
	json_add_str(&body, "name", cli_arg_at(call, 0));
	json_add_str(&body, "type", cli_text(call, "type"));
	options_add(call, &body);
	return json_build_end(&body, out);
}

static int switch_create_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	bool dry_run = cli_flag(call, "dry-run", false);
	json_t *body = NULL;
	json_t *sw = NULL;
	int err = body_make(call, &body);

	(void)arg;
	if (err == 0) {
		err = godwit_call(call, API_POST, dry_run ? "/v1/switches?dry_run" : "/v1/switches",
		                  body, &sw, &eb);
	}
	json_decref(body);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, sw);
	} else if (dry_run) {
		godwit_note(call, "%s could be created", cli_arg_at(call, 0));
	} else {
		char network[LIST_MAX];

		(void)leads_to(sw, network, sizeof(network));
		godwit_note(call, "%s is there%s%s", cli_arg_at(call, 0),
		            network[0] != '\0' ? ": " : "", network);
	}
	json_decref(sw);
	return CLI_DONE;
}

static int switch_set_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	struct json_build body;
	json_t *patch = NULL;
	json_t *sw = NULL;
	char *path = api_path("/v1/switches/{name}", cli_arg_at(call, 0));
	int err;

	(void)arg;
	json_build_object(&body);
	options_add(call, &body);
	err = json_build_end(&body, &patch);
	if (err == 0) {
		err = path != NULL ? godwit_call(call, API_PATCH, path, patch, &sw, &eb) : -ENOMEM;
	}
	free(path);
	json_decref(patch);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, sw);
	} else {
		godwit_note(call, "%s is changed", cli_arg_at(call, 0));
	}
	json_decref(sw);
	return CLI_DONE;
}

static int switch_remove_run(const struct cli_call *call, void *arg)
{
	uint32_t failed = 0;
	uint32_t count = 0;
	int status = CLI_DONE;

	(void)arg;
	for (; cli_arg_at(call, count) != NULL; count++) {
		const char *name = cli_arg_at(call, count);
		struct errbuf eb = {0};
		json_t *answer = NULL;
		char *path = api_path("/v1/switches/{name}", name);
		int err = path != NULL ? godwit_call(call, API_DELETE, path, NULL, &answer, &eb)
		                       : -ENOMEM;

		free(path);
		json_decref(answer);
		if (err < 0) {
			status = godwit_fail(call, err, &eb);
			failed++;
		} else {
			godwit_note(call, "%s is removed", name);
		}
	}
	return failed != 0 && failed < count ? CLI_PARTLY : status;
}

static const struct cli_arg one_switch[] = {
	{.name = "NAME", .summary = "The switch.", .source = "switch"},
	{0},
};

static const struct cli_arg some_switches[] = {
	{.name = "NAME",
         .summary = "The switch; several may be named.",
         .source = "switch",
         .repeat = true},
	{0},
};

#define SWITCH_OPTS                                                                               \
	{.name = "uplink",                                                                        \
	 .kind = CLI_TEXT,                                                                        \
	 .value = "NIC[,NIC]",                                                                    \
	 .source = "uplink",                                                                      \
	 .repeat = true,                                                                          \
	 .summary = "Of external switches: the host's network interface; several are a team."},   \
		{.name = "team",                                                                  \
	         .kind = CLI_CHOICE,                                                              \
	         .value = "active-backup|lacp",                                                   \
	         .summary = "How several uplinks work together: one at a time (if not told), or " \
	                    "all, "                                                               \
	                    "agreed with the physical switch by LACP (802.3ad)."},                \
		{.name = "share",                                                                 \
	         .kind = CLI_TOGGLE,                                                              \
	         .summary = "Of external switches: the host goes on using the uplink. Its "       \
	                    "addresses and "                                                      \
	                    "routes become the switch's, and the uplink's again when it is "      \
	                    "removed."},                                                          \
		{.name = "vlan",                                                                  \
	         .kind = CLI_UINT,                                                                \
	         .value = "VLAN",                                                                 \
	         .summary = "VLAN of adapters that name none, and of the host: 1 to 4094; 1, if " \
	                    "not told, "                                                          \
	                    "has no tags on the uplink."},                                        \
		{.name = "subnet",                                                                \
	         .kind = CLI_TEXT,                                                                \
	         .value = "NETWORK/LENGTH",                                                       \
	         .summary = "Of nat and internal switches: IPv4 network, of which the host gets " \
	                    "the first "                                                          \
	                    "address. nat takes a free one of 10.77.0.0/16 if not told."},        \
	{                                                                                         \
		.name = "mtu", .kind = CLI_UINT, .value = "BYTES",                                \
		.summary = "Largest packet, 576 to 9216; 1500 if not told."                       \
	}

static const struct cli_opt create_opts[] = {
	{.name = "type",
         .kind = CLI_CHOICE,
         .value = "external|internal|private|nat",
         .required = true,
         .summary = "external: VMs are in the network of an uplink. nat: they reach what the host "
                    "reaches, and nobody reaches them; addresses and names come from the host. "
                    "internal: VMs and the host. private: VMs only."},
	SWITCH_OPTS,
	{.name = "dry-run", .kind = CLI_FLAG, .summary = "Only say whether it would work."},
	{0},
};

static const struct cli_opt set_opts[] = {
	SWITCH_OPTS,
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "create",
         .summary = "Make a virtual switch",
         .details = "It works at once and again after each start of the host. VMs are plugged in "
                    "with godwit vm create --nic switch=NAME.",
         .examples = "godwit switch create inet --type nat\n"
                     "godwit switch create lan --type external --uplink eth1\n"
                     "godwit switch create lan --type external --uplink eth1,eth2 --team lacp "
                     "--share",
         .args = one_switch,
         .opts = create_opts,
         .run = switch_create_run},
	{.verb = "list", .summary = "List the switches of this host", .run = switch_list_run},
	{.verb = "show",
         .summary = "Show one switch: state, networks, adapters",
         .args = one_switch,
         .run = switch_show_run},
	{.verb = "set",
         .summary = "Change a switch",
         .details = "Uplinks, their team and whether the host shares them change under VMs that "
                    "run, with an interruption of a moment; uplinks that are given replace those "
                    "there were. VLAN, subnet and MTU change only while no adapter is plugged in. "
                    "If a change cannot be made the switch stays as it was.",
         .examples = "godwit switch set lan --uplink eth2\n"
                     "godwit switch set lan --no-share",
         .args = one_switch,
         .opts = set_opts,
         .run = switch_set_run},
	{.verb = "remove",
         .summary = "Remove switches that no VM uses",
         .args = some_switches,
         .run = switch_remove_run},
	{0},
};

const struct cli_noun noun_switch = {
	.name = "switch",
	.summary = "Virtual switches: the networks of VMs",
	.details = "The networks that adapters of VMs are plugged into.",
	.cmds = cmds,
};
