/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/coro/conf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/errbuf.h"
#include "tests/lib/test.h"

static struct coro_conf_node nodes[] = {
	{.name = "n1", .addr = {"10.0.0.1", "10.0.1.1"}, .nodeid = 1, .votes = 1},
	{.name = "n2", .addr = {"10.0.0.2", "10.0.1.2"}, .nodeid = 2, .votes = 1},
	{.name = "n3", .addr = {"10.0.0.3", "10.0.1.3"}, .nodeid = 3, .votes = 1},
};

static struct coro_conf sample(void)
{
	return (struct coro_conf){.cluster = "lab",
	                          .keyfile = "/etc/corosync/authkey",
	                          .config_version = 4,
	                          .token_ms = CORO_CONF_TOKEN_MS,
	                          .count = 3,
	                          .nodes = nodes};
}

static void the_text_with_two_links_is_fixed(void **state)
{
	static const char golden[] =
		"# Written by godwitd from the cluster database; changes here are lost.\n"
		"totem {\n"
		"\tversion: 2\n"
		"\tcluster_name: lab\n"
		"\tconfig_version: 4\n"
		"\ttransport: knet\n"
		"\tlink_mode: active\n"
		"\ttoken: 1000\n"
		"\ttoken_coefficient: 0\n"
		"\tconsensus: 1200\n"
		"\tseqno_unchanged_const: 3\n"
		"\tcrypto_model: openssl\n"
		"\tcrypto_cipher: aes256\n"
		"\tcrypto_hash: sha256\n"
		"\tkeyfile: /etc/corosync/authkey\n"
		"\tinterface {\n"
		"\t\tlinknumber: 0\n"
		"\t\tknet_ping_interval: 250\n"
		"\t\tknet_ping_timeout: 500\n"
		"\t}\n"
		"\tinterface {\n"
		"\t\tlinknumber: 1\n"
		"\t\tknet_ping_interval: 250\n"
		"\t\tknet_ping_timeout: 500\n"
		"\t}\n"
		"}\n"
		"quorum {\n"
		"\tprovider: corosync_votequorum\n"
		"}\n"
		"nodelist {\n"
		"\tnode {\n"
		"\t\tnodeid: 1\n"
		"\t\tname: n1\n"
		"\t\tquorum_votes: 1\n"
		"\t\tring0_addr: 10.0.0.1\n"
		"\t\tring1_addr: 10.0.1.1\n"
		"\t}\n"
		"\tnode {\n"
		"\t\tnodeid: 2\n"
		"\t\tname: n2\n"
		"\t\tquorum_votes: 1\n"
		"\t\tring0_addr: 10.0.0.2\n"
		"\t\tring1_addr: 10.0.1.2\n"
		"\t}\n"
		"\tnode {\n"
		"\t\tnodeid: 3\n"
		"\t\tname: n3\n"
		"\t\tquorum_votes: 1\n"
		"\t\tring0_addr: 10.0.0.3\n"
		"\t\tring1_addr: 10.0.1.3\n"
		"\t}\n"
		"}\n"
		"logging {\n"
		"\tto_stderr: no\n"
		"\tto_syslog: yes\n"
		"\ttimestamp: hires\n"
		"}\n";
	struct coro_conf conf = sample();
	char buf[CORO_CONF_TEXT_MAX];

	(void)state;
	assert_int_equal(coro_conf_text(&conf, buf, NULL), sizeof(golden) - 1);
	assert_string_equal(buf, golden);
}

static void one_link_is_passive(void **state)
{
	struct coro_conf_node one = {.name = "n1", .addr = {"fd00::1"}, .nodeid = 1, .votes = 1};
	struct coro_conf conf = sample();
	char buf[CORO_CONF_TEXT_MAX];

	(void)state;
	conf.nodes = &one;
	conf.count = 1;
	assert_true(coro_conf_text(&conf, buf, NULL) > 0);
	assert_non_null(strstr(buf, "link_mode: passive\n"));
	assert_non_null(strstr(buf, "ring0_addr: fd00::1\n"));
	assert_null(strstr(buf, "ring1_addr"));
}

static void links_come_up_soon_whatever_the_token(void **state)
{
	struct coro_conf conf = sample();
	char buf[CORO_CONF_TEXT_MAX];

	(void)state;
	conf.token_ms = 8000;
	assert_true(coro_conf_text(&conf, buf, NULL) > 0);
	assert_non_null(strstr(buf, "\t\tknet_ping_interval: 500\n\t\tknet_ping_timeout: 4000\n"));
	assert_null(strstr(buf, "knet_ping_interval: 2000"));
}

static void the_largest_cluster_fits(void **state)
{
	static const char longest[] =
		"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
	struct coro_conf_node many[CORO_CONF_NODES_MAX];
	char names[CORO_CONF_NODES_MAX][64];
	char addrs[2 * CORO_CONF_NODES_MAX][40];
	struct coro_conf conf = sample();
	char buf[CORO_CONF_TEXT_MAX];

	(void)state;
	for (uint32_t i = 0; i < CORO_CONF_NODES_MAX; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "%s%02u", longest, i);
		(void)snprintf(addrs[2 * i], sizeof(addrs[0]),
		               "1111:2222:3333:4444:5555:6666:7777:%04x", i);
		(void)snprintf(addrs[2 * i + 1], sizeof(addrs[0]),
		               "2111:2222:3333:4444:5555:6666:7777:%04x", i);
		many[i] = (struct coro_conf_node){.name = names[i],
		                                  .addr = {addrs[2 * i], addrs[2 * i + 1]},
		                                  .nodeid = 1000000000u + i,
		                                  .votes = 255};
	}
	conf.nodes = many;
	conf.count = CORO_CONF_NODES_MAX;
	assert_true(coro_conf_text(&conf, buf, NULL) > 5000);
}

static void refused(struct coro_conf conf, const char *why)
{
	struct errbuf eb = {{0}, {0}};
	char buf[CORO_CONF_TEXT_MAX];

	assert_int_equal(coro_conf_text(&conf, buf, &eb), -EINVAL);
	if (strstr(eb.text, why) == NULL) {
		fail_msg("'%s' does not say '%s'", eb.text, why);
	}
}

static void what_could_not_work_is_refused(void **state)
{
	struct coro_conf_node bad[3];
	struct coro_conf conf = sample();

	(void)state;
	conf.token_ms = 100;
	refused(conf, "token 100 ms");
	conf = sample();
	conf.cluster = "a}\nb";
	refused(conf, "characters not allowed");
	conf = sample();
	conf.config_version = 0;
	refused(conf, "no version");
	conf = sample();
	conf.nodes = bad;
	memcpy(bad, nodes, sizeof(bad));
	bad[1].nodeid = 1;
	refused(conf, "the same name or number");
	memcpy(bad, nodes, sizeof(bad));
	bad[2].addr[0] = "10.0.1.1";
	refused(conf, "both have 10.0.1.1");
	memcpy(bad, nodes, sizeof(bad));
	bad[2].addr[0] = "host3";
	refused(conf, "no numeric address");
	memcpy(bad, nodes, sizeof(bad));
	bad[2].addr[0] = "fd00::3";
	refused(conf, "IPv4 and IPv6 mixed");
	memcpy(bad, nodes, sizeof(bad));
	bad[2].addr[1] = NULL;
	refused(conf, "one address for each link");
	memcpy(bad, nodes, sizeof(bad));
	bad[0].name = "n 1";
	refused(conf, "bad name");
}

static void a_witness_is_a_device_of_ours(void **state)
{
	struct coro_conf conf = sample();
	char buf[CORO_CONF_TEXT_MAX];

	(void)state;
	conf.witness = 1;
	assert_true(coro_conf_text(&conf, buf, NULL) > 0);
	assert_non_null(strstr(buf, "\tprovider: corosync_votequorum\n"
	                            "\tdevice {\n"
	                            "\t\tmodel: godwit\n"
	                            "\t\tvotes: 1\n"
	                            "\t\ttimeout: 10000\n"
	                            "\t\tsync_timeout: 2000\n"
	                            "\t}\n"
	                            "}\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_witness_is_a_device_of_ours),
		cmocka_unit_test(the_text_with_two_links_is_fixed),
		cmocka_unit_test(one_link_is_passive),
		cmocka_unit_test(links_come_up_soon_whatever_the_token),
		cmocka_unit_test(the_largest_cluster_fits),
		cmocka_unit_test(what_could_not_work_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
