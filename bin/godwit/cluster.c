/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit cluster ...`, `godwit node ...`, `godwit quorum ...`: hosts that are one cluster. */
#include "bin/godwit/cluster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "base/ui/ui.h"
#include "bin/godwit/node.h"

#define STATE_MAX 64

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

static bool flag_of(const json_t *json, const char *key)
{
	return json_is_true(json_object_get(json, key));
}

static void put_row(const struct cli_call *call, const char *key, const char *value)
{
	godwit_put(call, "%-12s %s", key, value);
	godwit_end(call);
}

/* ---- showing ---- */

static void put_stale(const struct cli_call *call, const json_t *json)
{
	if (flag_of(json, "stale")) {
		godwit_colour(call, COLOUR_WARN);
		godwit_put(call, "stale: no quorum here; what follows is what this node knew last");
		godwit_colour(call, COLOUR_NONE);
		godwit_end(call);
	}
}

/* As a member, unless it is in maintenance: "draining 2/6", so many are gone. */
static const char *state_of(const json_t *node, char buf[STATE_MAX])
{
	const json_t *ha = json_object_get(node, "ha");
	const char *drain = godwit_text(ha, "drain");
	uint64_t vms = number_of(ha, "vms");
	uint64_t total = number_of(ha, "drain_total");

	if (strcmp(drain, "active") == 0) {
		total = total > vms ? total : vms;
		(void)snprintf(buf, STATE_MAX, "draining %" PRIu64 "/%" PRIu64, total - vms, total);
		return buf;
	}
	return strcmp(drain, "done") == 0 ? "drained" : godwit_text(node, "state");
}

/* Milliseconds for people; "" = not said, or none. */
static const char *span_of(const json_t *json, const char *key, char text[FMT_MAX])
{
	uint64_t ms = number_of(json, key);

	return ms != 0 ? fmt_duration(ms * NS_PER_MS, text) : "";
}

static void node_row(struct ui_table *table, const json_t *node)
{
	const json_t *addrs = json_object_get(node, "addrs");
	const char *first = json_string_value(json_array_get(addrs, 0));
	const char *second = json_string_value(json_array_get(addrs, 1));
	const json_t *timing = json_object_get(node, "timing");
	bool up = flag_of(node, "up");
	char state[STATE_MAX];
	char span[FMT_MAX];

	ui_table_cell(table, UI_PLAIN, "%s", godwit_text(node, "name"));
	ui_table_cell(table, UI_PLAIN, "%" PRIu64, number_of(node, "nodeid"));
	ui_table_cell(table, UI_PLAIN, "%s", state_of(node, state));
	ui_table_cell(table, up ? UI_GOOD : UI_BAD, "%s", up ? "yes" : "no");
	ui_table_cell(table, UI_PLAIN, "%" PRIu64, number_of(node, "votes"));
	ui_table_cell(table, UI_PLAIN, "%" PRIu64, number_of(json_object_get(node, "ha"), "vms"));
	ui_table_cell(table, UI_PLAIN, "%s", span_of(timing, "token_ms", span));
	ui_table_cell(table, UI_PLAIN, "%s", span_of(timing, "lease_ms", span));
	ui_table_cell(table, UI_PLAIN, "%s%s%s", first != NULL ? first : "",
	              second != NULL ? "," : "", second != NULL ? second : "");
	ui_table_cell(table, UI_PLAIN, "%.8s", godwit_text(node, "incarnation"));
}

static void put_nodes(const struct cli_call *call, const json_t *json)
{
	static const struct ui_column columns[] = {{.title = "NODE", .columns_min = 8},
	                                           {.title = "ID", .right = true},
	                                           {.title = "STATE"},
	                                           {.title = "UP"},
	                                           {.title = "VOTES", .right = true},
	                                           {.title = "VMS", .right = true},
	                                           {.title = "TOKEN", .right = true},
	                                           {.title = "LEASE", .right = true},
	                                           {.title = "ADDRESSES", .columns_min = 4},
	                                           {.title = "INCARNATION", .columns_min = 4}};
	struct errbuf eb = {0};
	struct ui_table *table;
	const json_t *node;
	size_t i;
	int err = ui_table_create(columns, ARRAY_LEN(columns), &table);

	if (err < 0) {
		(void)godwit_fail(call, err, &eb);
		return;
	}
	json_array_foreach(json_object_get(json, "nodes"), i, node)
	{
		node_row(table, node);
	}
	(void)godwit_table(call, table);
}

static void put_quorum(const struct cli_call *call, const json_t *json)
{
	char text[120];

	(void)snprintf(text, sizeof(text), "%s%s%s", godwit_text(json, "state"),
	               godwit_text(json, "why")[0] != '\0' ? ": " : "", godwit_text(json, "why"));
	put_row(call, "Database", text);
	(void)snprintf(text, sizeof(text),
	               "%s, %" PRIu64 " of %" PRIu64 " votes, %" PRIu64 " needed",
	               flag_of(json, "quorate") ? "yes" : "no", number_of(json, "votes"),
	               number_of(json, "votes_total"), number_of(json, "votes_needed"));
	put_row(call, "Quorum", text);
	(void)snprintf(text, sizeof(text), "%" PRIu64, number_of(json, "epoch"));
	put_row(call, "Epoch", text);
	put_row(call, "Leader", godwit_text(json, "leader"));
	put_row(call, "Corosync", flag_of(json, "corosync") ? "connected" : "not there");
}

static void put_status(const struct cli_call *call, const json_t *json)
{
	char text[96];

	if (!flag_of(json, "present")) {
		godwit_note(call,
		            "this node is in no cluster; godwit help cluster create says how");
		return;
	}
	put_stale(call, json);
	put_row(call, "Cluster", godwit_text(json, "name"));
	put_row(call, "This node", godwit_text(json, "node"));
	if (json_object_get(json, "state") != NULL) {
		put_quorum(call, json);
		(void)snprintf(text, sizeof(text), "%" PRIu64 " of %" PRIu64 "%s",
		               number_of(json, "level"), number_of(json, "level_max"),
		               number_of(json, "level") < number_of(json, "level_max")
		                       ? "; godwit cluster upgrade raises it"
		                       : "");
		put_row(call, "Level", text);
	}
	if (godwit_text(json, "waiting_for")[0] != '\0') {
		put_row(call, "Waiting for", godwit_text(json, "waiting_for"));
	}
	if (godwit_text(json, "trouble")[0] != '\0') {
		godwit_colour(call, COLOUR_BAD);
		put_row(call, "Trouble", godwit_text(json, "trouble"));
		godwit_colour(call, COLOUR_NONE);
	}
	if (json_object_get(json, "nodes") != NULL) {
		godwit_end(call);
		put_nodes(call, json);
	}
}

typedef void (*put_fn)(const struct cli_call *call, const json_t *json);

static int show(const struct cli_call *call, const char *path, put_fn put)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = godwit_get(call, path, &answer, &eb);

	return godwit_finish(call, err, answer, &eb, put);
}

static int cluster_status_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return show(call, "/v1/cluster", put_status);
}

static void put_list(const struct cli_call *call, const json_t *json)
{
	put_stale(call, json);
	put_nodes(call, json);
}

static int node_list_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return show(call, "/v1/nodes", put_list);
}

static void put_quorum_alone(const struct cli_call *call, const json_t *json)
{
	const json_t *witness = json_object_get(json, "witness");
	char text[300];

	put_stale(call, json);
	put_quorum(call, json);
	if (!json_is_object(witness)) {
		put_row(call, "Witness", "none");
		return;
	}
	(void)snprintf(text, sizeof(text), "%s:%s, %s, %" PRIu64 " votes",
	               godwit_text(witness, "type"), godwit_text(witness, "path"),
	               godwit_text(witness, "state"), number_of(witness, "votes"));
	put_row(call, "Witness", text);
	if (godwit_text(witness, "why")[0] != '\0') {
		put_row(call, "", godwit_text(witness, "why"));
	}
}

static int quorum_show_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return show(call, "/v1/quorum", put_quorum_alone);
}

/* "A[,B]" as an array. */
static json_t *addrs_of(const char *text)
{
	json_t *out = json_array();

	for (;;) {
		size_t len = strcspn(text, ",");

		(void)json_array_append_new(out, json_stringn(text, len));
		if (text[len] == '\0') {
			return out;
		}
		text += len + 1;
	}
}

/* ---- quorum set ---- */

static int quorum_witness(const struct cli_call *call, const char *word, struct errbuf *eb)
{
	const char *colon = strchr(word, ':');

	if (strcmp(word, "none") != 0 && (colon == NULL || colon[1] == '\0')) {
		(void)errbuf_set(eb, -EINVAL, "--witness %s: a witness has a kind and a place",
		                 word);
		errbuf_hint(eb, "write disk:DEVICE, share:FOLDER or none");
		return -EINVAL;
	}

	json_t *body = colon != NULL ? json_pack("{s:s%,s:s}", "type", word, (size_t)(colon - word),
	                                         "path", colon + 1)
	                             : json_pack("{s:s}", "type", word);
	json_t *answer = NULL;
	int err = body == NULL
	                  ? -ENOMEM
	                  : godwit_call(call, API_POST, "/v1/quorum/witness", body, &answer, eb);

	json_decref(body);
	json_decref(answer);
	return err;
}

/* Whoever types this has seen that the others are off. */
static int force_confirm(const struct cli_call *call, const char *names, struct errbuf *eb)
{
	char typed[1024] = "";

	if (cli_flag(call, "yes", false)) {
		return 0;
	}
	if (isatty(STDIN_FILENO) == 0) {
		(void)errbuf_set(eb, -EINVAL, "a start by force must be confirmed");
		errbuf_hint(eb, "--yes, in a script that has made sure that %s are off", names);
		return -EINVAL;
	}
	godwit_note(call,
	            "What only %s have is lost, and if one of them runs, data on shared volumes is "
	            "destroyed.\nSee that they are off, then type their names as above:",
	            names);
	if (fgets(typed, sizeof(typed), stdin) != NULL) {
		typed[strcspn(typed, "\n")] = '\0';
	}
	return strcmp(typed, names) == 0 ? 0 : errbuf_set(eb, -ECANCELED, "not confirmed");
}

static int quorum_force(const struct cli_call *call, const char *names, struct errbuf *eb)
{
	json_t *body = json_pack("{s:o}", "off", addrs_of(names));
	json_t *answer = NULL;
	int err = force_confirm(call, names, eb);

	if (err == 0) {
		err = body == NULL
		              ? -ENOMEM
		              : godwit_call(call, API_POST, "/v1/quorum/force", body, &answer, eb);
	}
	json_decref(body);
	json_decref(answer);
	return err;
}

static int quorum_set_run(const struct cli_call *call, void *arg)
{
	const char *witness = cli_text(call, "witness");
	const char *force = cli_text(call, "force");
	struct errbuf eb = {0};
	int err = -EINVAL;

	(void)arg;
	if ((witness != NULL) == (force != NULL)) {
		(void)errbuf_set(&eb, err, "one of --witness and --force is needed");
		errbuf_hint(&eb, "'godwit quorum set --help' says what they mean");
		(void)godwit_fail(call, err, &eb);
		return CLI_USAGE;
	}
	err = witness != NULL ? quorum_witness(call, witness, &eb) : quorum_force(call, force, &eb);
	return err < 0 ? godwit_fail(call, err, &eb) : quorum_show_run(call, NULL);
}

static void put_node(const struct cli_call *call, const json_t *node)
{
	const json_t *addr;
	char state[STATE_MAX];
	char text[32];
	size_t i;

	put_stale(call, node);
	put_row(call, "Node", godwit_text(node, "name"));
	(void)snprintf(text, sizeof(text), "%" PRIu64, number_of(node, "nodeid"));
	put_row(call, "Number", text);
	put_row(call, "State", state_of(node, state));
	put_row(call, "Up", flag_of(node, "up") ? "yes" : "no");
	(void)snprintf(text, sizeof(text), "%" PRIu64, number_of(node, "votes"));
	put_row(call, "Votes", text);
	(void)snprintf(text, sizeof(text), "%" PRIu64,
	               number_of(json_object_get(node, "ha"), "vms"));
	put_row(call, "VMs", text);
	json_array_foreach(json_object_get(node, "addrs"), i, addr)
	{
		put_row(call, i == 0 ? "Addresses" : "", json_string_value(addr));
	}
	put_row(call, "Identity", godwit_text(node, "uuid"));
	put_row(call, "Incarnation", godwit_text(node, "incarnation"));
}

static int node_show_run(const struct cli_call *call, void *arg)
{
	char *path = api_path("/v1/nodes/{name}", cli_arg_at(call, 0));
	struct errbuf eb = {0};
	int status = path != NULL ? show(call, path, put_node) : godwit_fail(call, -ENOMEM, &eb);

	(void)arg;
	free(path);
	return status;
}

/* ---- cluster create ---- */

static int nodes_of(const struct cli_call *call, json_t **out, struct errbuf *eb)
{
	const char *text;

	*out = json_array();
	for (uint32_t i = 0; (text = cli_text_at(call, "node", i)) != NULL; i++) {
		const char *equals = strchr(text, '=');

		if (equals == NULL || equals == text || equals[1] == '\0') {
			json_decref(*out);
			*out = NULL;
			(void)errbuf_set(eb, -EINVAL, "--node %s: not NAME=ADDR", text);
			errbuf_hint(eb, "like --node n1=10.0.0.1 or, with two links, "
			                "--node n1=10.0.0.1,10.0.1.1");
			return -EINVAL;
		}
		(void)json_array_append_new(*out, json_pack("{s:s%,s:o}", "name", text,
		                                            (size_t)(equals - text), "addrs",
		                                            addrs_of(equals + 1)));
	}
	return 0;
}

static void put_created(const struct cli_call *call, const json_t *json)
{
	const json_t *invited = json_object_get(json, "invited");
	const json_t *one;
	size_t i;

	put_status(call, json);
	if (json_array_size(invited) == 0) {
		return;
	}
	godwit_end(call);
	godwit_put(call, "The other nodes join by a command on each of them, within an hour:");
	godwit_end(call);
	json_array_foreach(invited, i, one)
	{
		const json_t *addrs = json_object_get(one, "addrs");
		const char *second = json_string_value(json_array_get(addrs, 1));

		godwit_put(call, "    godwit node add %s --addr %s%s%s --token %s",
		           godwit_text(one, "name"), json_string_value(json_array_get(addrs, 0)),
		           second != NULL ? "," : "", second != NULL ? second : "",
		           godwit_text(one, "token"));
		godwit_end(call);
	}
}

static int cluster_create_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *nodes = NULL;
	json_t *body = NULL;
	json_t *answer = NULL;
	int err = nodes_of(call, &nodes, &eb);

	(void)arg;
	if (err == 0) {
		body = json_pack("{s:s,s:o,s:I}", "name", cli_arg_at(call, 0), "nodes", nodes,
		                 "token_ms",
		                 (json_int_t)(cli_number(call, "detect", 1000000000) / 1000000));
		err = body == NULL ? -ENOMEM
		                   : godwit_call(call, API_POST, "/v1/cluster", body, &answer, &eb);
	}
	json_decref(body);
	return godwit_finish(call, err, answer, &eb, put_created);
}

/* ---- node add, token, evict ---- */

static int node_add_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *body =
		json_pack("{s:s,s:o,s:s}", "name", cli_arg_at(call, 0), "addrs",
	                  addrs_of(cli_text(call, "addr")), "token", cli_text(call, "token"));
	json_t *answer = NULL;
	int err = body == NULL
	                  ? -ENOMEM
	                  : godwit_call(call, API_POST, "/v1/cluster/join", body, &answer, &eb);

	(void)arg;
	json_decref(body);
	return godwit_finish(call, err, answer, &eb, put_status);
}

static void put_token(const struct cli_call *call, const json_t *json)
{
	godwit_put(call, "%s", godwit_text(json, "token"));
	godwit_end(call);
	godwit_note(call, "on %s, within an hour: godwit node add %s --addr ADDR --token ...",
	            godwit_text(json, "node"), godwit_text(json, "node"));
}

static int node_token_run(const struct cli_call *call, void *arg)
{
	char *path = api_path("/v1/nodes/{name}/token", cli_arg_at(call, 0));
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = path == NULL ? -ENOMEM : godwit_call(call, API_POST, path, NULL, &answer, &eb);

	(void)arg;
	free(path);
	return godwit_finish(call, err, answer, &eb, put_token);
}

static void put_evicted(const struct cli_call *call, const json_t *json)
{
	godwit_note(call, "%s is no longer in the cluster", godwit_text(json, "name"));
}

static int node_evict_run(const struct cli_call *call, void *arg)
{
	char *path = api_path("/v1/nodes/{name}", cli_arg_at(call, 0));
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = path == NULL ? -ENOMEM : godwit_call(call, API_DELETE, path, NULL, &answer, &eb);

	(void)arg;
	free(path);
	return godwit_finish(call, err, answer, &eb, put_evicted);
}

/* ---- cluster remove ---- */

static void put_removed(const struct cli_call *call, const json_t *json)
{
	(void)json;
	godwit_note(call, "this node is in no cluster any more");
}

static int cluster_remove_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = godwit_call(call, API_DELETE,
	                      cli_flag(call, "force", false) ? "/v1/cluster?force" : "/v1/cluster",
	                      NULL, &answer, &eb);

	(void)arg;
	return godwit_finish(call, err, answer, &eb, put_removed);
}

/* ---- the commands ---- */

static const struct cli_arg arg_cluster[] = {
	{.name = "NAME", .summary = "Name of the cluster."},
	{0},
};

static const struct cli_arg arg_file[] = {
	{.name = "FILE", .summary = "The copy.", .source = "file"},
	{0},
};

static const struct cli_arg arg_node[] = {
	{.name = "NODE", .summary = "Name of the node.", .source = "node"},
	{0},
};

static const struct cli_arg arg_drain[] = {
	{.name = "NODE", .summary = "Name of the node.", .source = "node", .optional = true},
	{0},
};

static const struct cli_arg arg_new[] = {
	{.name = "NAME", .summary = "Name that the new node is to have."},
	{0},
};

static const struct cli_opt create_opts[] = {
	{.name = "node",
         .kind = CLI_TEXT,
         .value = "NAME=ADDR[,ADDR2]",
         .required = true,
         .repeat = true,
         .summary = "A node and its numeric address in the cluster's network; with a second one "
                    "for a second link. One of them is this node."},
	{.name = "detect",
         .kind = CLI_DURATION,
         .value = "TIME",
         .preset = "1s",
         .summary = "corosync's token: a dead node is noticed after 2.2 times that."},
	{0},
};

static const struct cli_opt add_opts[] = {
	{.name = "addr",
         .kind = CLI_TEXT,
         .value = "ADDR[,ADDR2]",
         .required = true,
         .summary = "Numeric address of this node in the cluster's network; as many as the other "
                    "nodes have."},
	{.name = "token",
         .kind = CLI_TEXT,
         .value = "TOKEN",
         .required = true,
         .summary = "What cluster create or node token printed for this node."},
	{0},
};

static const struct cli_opt remove_opts[] = {
	{.name = "force",
         .kind = CLI_FLAG,
         .summary = "Also if there are other nodes; they are not told. For a node that was evicted "
                    "while it was away."},
	{0},
};

static const struct cli_cmd cluster_cmds[] = {
	{.verb = "create",
         .summary = "Form a cluster, beginning with this node",
         .details = "Makes the cluster's CA if this node has none, starts corosync, and prints for "
                    "each of the other nodes the command to run there. The same command again "
                    "goes on where it was, with new tokens for the nodes that are missing.\n\n"
                    "Two nodes survive the loss of neither: a majority of two is two.",
         .examples = "godwit cluster create lab --node n1=10.0.0.1 --node n2=10.0.0.2 "
                     "--node n3=10.0.0.3",
         .args = arg_cluster,
         .opts = create_opts,
         .run = cluster_create_run},
	{.verb = "status", .summary = "Show the cluster and its nodes", .run = cluster_status_run},
	{.verb = "set",
         .summary = "Change what is true of the whole cluster",
         .details =
                 "Without an option it is shown.\n\n"
                 "--detect: a longer token comes after all nodes hold leases that go with it, "
                 "shorter leases come after all corosyncs run with the shorter token: survivors "
                 "of a failure keep their VMs at every moment. A node that is down takes it over "
                 "when it is back. corosync is not restarted. If a node does not follow, it is "
                 "named, and the former time given again takes it back.",
         .examples = "godwit cluster set --detect 3s\n"
                     "godwit cluster set --blackout-limit 300ms\n"
                     "godwit cluster set --moves-per-node 4",
         .opts = cluster_set_opts,
         .run = cluster_set_run},
	{.verb = "check",
         .summary = "Compare the nodes' copies of the cluster database",
         .details = "The exit status is 1 if two differ, 3 if a node could not be compared.",
         .run = cluster_check_run},
	{.verb = "upgrade",
         .summary = "Let the cluster use what the new version of its nodes brings",
         .details = "After the last node has the new version and is up. Nodes with an older one "
                    "cannot take part from then on, and there is no way back. Until then options "
                    "that an older version does not understand are refused. cluster status shows "
                    "the level that there is, and the one that this version knows.",
         .run = cluster_upgrade_run},
	{.verb = "simulate",
         .summary = "Say what would happen if nodes died now, or one were emptied",
         .details =
                 "By the functions that decide it then, on the cluster as it is; nothing changes. "
                 "The exit status is 3 if a VM would be left behind.",
         .examples = "godwit cluster simulate --dies n2\ngodwit cluster simulate --drain n3",
         .opts = cluster_simulate_opts,
         .run = cluster_simulate_run},
	{.verb = "backup",
         .summary = "Write a copy of the cluster database to a file",
         .details = "All of it as of one moment; readable by its owner only.",
         .args = arg_file,
         .run = cluster_backup_run},
	{.verb = "restore",
         .summary = "Give VMs, volumes, networks and settings back as a copy has them",
         .details = "Later ones are removed. Nodes, keys, witness, jobs and events stay as they "
                    "are. No VM of "
                    "the cluster may run. The same command again goes on where it was.",
         .args = arg_file,
         .opts = cluster_restore_opts,
         .run = cluster_restore_run},
	{.verb = "remove",
         .summary = "Take the last node out: the cluster is no more",
         .details = "Files of the cluster are put aside, nothing else is touched.",
         .opts = remove_opts,
         .run = cluster_remove_run},
	{0},
};

const struct cli_noun noun_cluster = {
	.name = "cluster",
	.summary = "Hosts that are one cluster",
	.cmds = cluster_cmds,
};

static const struct cli_cmd node_cmds[] = {
	{.verb = "add",
         .summary = "Make this node a member of a cluster",
         .details = "Run it on the new node. The token says where the cluster is and how to know "
                    "it. The same command again goes on where it was.",
         .examples = "godwit node add n2 --addr 10.0.0.2 --token TOKEN",
         .args = arg_new,
         .opts = add_opts,
         .run = node_add_run},
	{.verb = "token",
         .summary = "Make a token that admits a new node once",
         .details = "On any node of the cluster. An earlier token that this node made for the "
                    "same name is void.",
         .args = arg_new,
         .run = node_token_run},
	{.verb = "list", .summary = "List the nodes of the cluster", .run = node_list_run},
	{.verb = "show", .summary = "Show one node", .args = arg_node, .run = node_show_run},
	{.verb = "flight",
         .summary = "Show what this node's flight recorder has: heartbeats and leases",
         .details = "When renewals of its lease were sent and answered, when it heard of the other "
                    "nodes, and where its own service stood still: the last hours, ten minutes in "
                    "the largest clusters. It survives a reset but for the last half second.",
         .examples = "godwit node flight\ngodwit node flight --previous --all",
         .opts = node_flight_opts,
         .run = node_flight_run},
	{.verb = "evict",
         .summary = "Take a node out of the cluster",
         .details = "One that is up leaves in good order; one that is down is forgotten.",
         .args = arg_node,
         .run = node_evict_run},
	{.verb = "drain",
         .summary = "Empty a node for maintenance: its VMs of the cluster move to others, alive",
         .details =
                 "The node takes no VMs until godwit node resume. It is a job: it goes on if this "
                 "command ends, and godwit job cancel or --cancel stops it. VMs that are not "
                 "highly "
                 "available stay. The job says of each VM where it goes, how long it stood still, "
                 "or what is in its way. The exit status is 3 if VMs were left (--fallback leave).",
         .examples = "godwit node drain n3 --dry-run\ngodwit node drain n3 --deadline 10m "
                     "--fallback quick\ngodwit node drain n3 --cancel",
         .args = arg_drain,
         .opts = node_drain_opts,
         .run = node_drain_run},
	{.verb = "resume",
         .summary = "End the maintenance of a node: it takes VMs again",
         .examples = "godwit node resume n3 --failback now",
         .args = arg_node,
         .opts = node_resume_opts,
         .run = node_resume_run},
	{.verb = "confirm",
         .summary = "Say that a node that failed is off, so that its VMs start elsewhere",
         .details = "For a node of which nothing else proves that it has stopped: no watchdog, no "
                    "fencing. Its VMs are shown as fencing until then, or until it comes back.",
         .examples = "godwit node confirm n3 --off",
         .args = arg_node,
         .opts = node_confirm_opts,
         .run = node_confirm_run},
	{0},
};

const struct cli_noun noun_node = {
	.name = "node",
	.summary = "Nodes of the cluster",
	.cmds = node_cmds,
};

static const struct cli_opt quorum_opts[] = {
	{.name = "witness",
         .kind = CLI_TEXT,
         .value = "none|disk:PATH|share:PATH",
         .summary = "The witness of the cluster."},
	{.name = "force",
         .kind = CLI_TEXT,
         .value = "NODE[,NODE]...",
         .summary = "Go on without these nodes: all that are not here, and all of them off."},
	{.name = "yes", .kind = CLI_FLAG, .summary = "Do not ask to type the names again."},
	{0},
};

static const struct cli_cmd quorum_cmds[] = {
	{.verb = "show", .summary = "Show who has a majority", .run = quorum_show_run},
	{.verb = "set",
         .summary = "Choose a witness, or go on by force",
         .details =
                 "A witness decides which half goes on when nodes are parted. It is a disk (or a "
                 "file; 2 MiB are used, and must be empty) or a folder that all nodes reach under "
                 "the same path. It has a vote while the number of nodes is even.\n\n"
                 "By force the nodes that are here go on without a majority. All others must be "
                 "off: what only they have is lost. They come back as members by themselves.",
         .examples = "godwit quorum set --witness share:/mnt/witness\n"
                     "godwit quorum set --witness disk:/dev/disk/by-id/wwn-0x5000c500a1b2c3d4\n"
                     "godwit quorum set --force n2,n3",
         .opts = quorum_opts,
         .run = quorum_set_run},
	{0},
};

const struct cli_noun noun_quorum = {
	.name = "quorum",
	.summary = "Majority of the cluster",
	.cmds = quorum_cmds,
};
