/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit cert ...`: who this node is, for other nodes. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/errbuf.h"
#include "base/fs.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"

#define BUNDLE_BYTES_MAX (256u << 10)

static void print_time(const struct cli_call *call, const char *key, const json_t *cert,
                       const char *member)
{
	time_t seconds = (time_t)json_integer_value(json_object_get(cert, member));
	struct tm tm;
	char when[32] = "";

	if (gmtime_r(&seconds, &tm) != NULL) {
		(void)strftime(when, sizeof(when), "%Y-%m-%d", &tm);
	}
	godwit_put(call, "%-12s %s", key, when);
	godwit_end(call);
}

static int print_cert(const struct cli_call *call, const json_t *cert)
{
	if (cli_flag(call, "json", false)) {
		godwit_json(call, cert);
		return CLI_DONE;
	}
	if (!json_is_true(json_object_get(cert, "present"))) {
		godwit_note(call,
		            "this node has no certificate yet; godwit help cert init says how");
		return CLI_DONE;
	}
	godwit_put(call, "%-12s %s", "Node", godwit_text(cert, "node"));
	godwit_end(call);
	godwit_put(call, "%-12s %s", "Serial", godwit_text(cert, "serial"));
	godwit_end(call);
	print_time(call, "Valid from", cert, "not_before");
	print_time(call, "Valid until", cert, "not_after");
	godwit_put(call, "%-12s %s", "Holds the CA",
	           json_is_true(json_object_get(cert, "authority")) ? "yes" : "no");
	godwit_end(call);
	godwit_put(call, "%-12s %s", "Files", godwit_text(cert, "directory"));
	godwit_end(call);
	return CLI_DONE;
}

static int cert_show_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *cert = NULL;
	int err = godwit_get(call, "/v1/certs", &cert, &eb);
	int status = err < 0 ? godwit_fail(call, err, &eb) : print_cert(call, cert);

	(void)arg;
	json_decref(cert);
	return status;
}

static int cert_init_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *body =
		json_pack("{s:s,s:s}", "name", cli_text(call, "name"), "node", cli_arg_at(call, 0));
	json_t *cert = NULL;
	int err = body != NULL ? godwit_call(call, API_POST, "/v1/certs/init", body, &cert, &eb)
	                       : -ENOMEM;
	int status = err < 0 ? godwit_fail(call, err, &eb) : print_cert(call, cert);

	(void)arg;
	json_decref(body);
	json_decref(cert);
	return status;
}

/* The bundle has a private key: into a file that only its owner can read, or to where the user
 * directs the output. */
static int cert_issue_run(const struct cli_call *call, void *arg)
{
	const char *path = cli_text(call, "out");
	struct errbuf eb = {0};
	json_t *body = json_pack("{s:s}", "node", cli_arg_at(call, 0));
	json_t *bundle = NULL;
	int err = body != NULL ? godwit_call(call, API_POST, "/v1/certs/issue", body, &bundle, &eb)
	                       : -ENOMEM;

	(void)arg;
	json_decref(body);
	if (err == 0 && path != NULL) {
		err = json_write_file(path, bundle, 0600, &eb);
	} else if (err == 0) {
		godwit_json(call, bundle);
	}
	json_decref(bundle);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	godwit_note(call,
	            "on %s: godwit cert install FILE; then delete the file, it has a private key",
	            cli_arg_at(call, 0));
	return CLI_DONE;
}

static int cert_install_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *bundle = NULL;
	json_t *cert = NULL;
	char *text = NULL;
	size_t len = 0;
	int err = fs_read(cli_arg_at(call, 0), BUNDLE_BYTES_MAX, &text, &len, &eb);
	int status;

	(void)arg;
	if (err == 0) {
		err = json_parse(text, len, NULL, &bundle, &eb);
		if (err != 0) {
			errbuf_prepend(&eb, "%s is not what godwit cert issue wrote",
			               cli_arg_at(call, 0));
		}
	}
	if (err == 0) {
		err = godwit_call(call, API_POST, "/v1/certs/install", bundle, &cert, &eb);
	}
	status = err < 0 ? godwit_fail(call, err, &eb) : print_cert(call, cert);
	free(text);
	json_decref(bundle);
	json_decref(cert);
	return status;
}

static int cert_renew_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *answer = NULL;
	int err = godwit_call(call, API_POST, "/v1/certs/renew", NULL, &answer, &eb);

	json_decref(answer);
	return err < 0 ? godwit_fail(call, err, &eb) : cert_show_run(call, arg);
}

static const struct cli_arg arg_node[] = {
	{.name = "NODE", .summary = "Name of the node: what other nodes will call it."},
	{0},
};

static const struct cli_arg arg_file[] = {
	{.name = "FILE", .summary = "What cert issue wrote.", .source = "file"},
	{0},
};

static const struct cli_opt init_opts[] = {
	{.name = "name",
         .kind = CLI_TEXT,
         .value = "NAME",
         .preset = "godwit",
         .summary = "Name of the CA, for people."},
	{0},
};

static const struct cli_opt issue_opts[] = {
	{.name = "out",
         .kind = CLI_TEXT,
         .value = "FILE",
         .source = "file",
         .summary = "Write it there, readable by nobody else; else to the standard output."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "init",
         .summary = "Make a CA and this node's own certificate",
         .details = "Nodes trust each other if their certificates are of the same CA. Run this on "
                    "one node, cert issue there for each of the others, and cert install on them.",
         .examples = "godwit cert init n1\n"
                     "godwit cert issue n2 --out n2.cert",
         .args = arg_node,
         .opts = init_opts,
         .run = cert_init_run},
	{.verb = "issue",
         .summary = "Make the certificate of another node, with its key",
         .args = arg_node,
         .opts = issue_opts,
         .run = cert_issue_run},
	{.verb = "install",
         .summary = "Take over what cert issue made on the CA's node",
         .args = arg_file,
         .run = cert_install_run},
	{.verb = "renew",
         .summary = "Give this node of a cluster a new key and certificate now",
         .details = "That happens by itself when two thirds of the certificate's time are over. By "
                    "hand when others may have seen the key: the old one is not accepted any more.",
         .run = cert_renew_run},
	{.verb = "show", .summary = "Show who this node is", .run = cert_show_run},
	{0},
};

const struct cli_noun noun_cert = {
	.name = "cert",
	.summary = "Certificates",
	.details =
		"Nodes talk to each other over TLS and know each other by certificates of one CA.",
	.cmds = cmds,
};
