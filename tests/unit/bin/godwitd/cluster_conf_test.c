/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_conf.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "tests/lib/test.h"

static struct cluster_conf sample(void)
{
	struct cluster_conf c = {.name = "lab",
	                         .node = "n2",
	                         .nodeid = 2,
	                         .token_ms = 1000,
	                         .version = 7,
	                         .witness = 1,
	                         .count = 2};

	memset(&c.cluster, 1, sizeof(c.cluster));
	memset(&c.uuid, 2, sizeof(c.uuid));
	c.nodes[0] = (struct cluster_node){
		.name = "n1", .nodeid = 1, .votes = 1, .port = 7443, .addr = {"10.0.0.1", ""}};
	c.nodes[1] = (struct cluster_node){
		.name = "n2", .nodeid = 2, .votes = 0, .port = 7443, .addr = {"10.0.0.2", ""}};
	return c;
}

static int read_back(const json_t *json, struct cluster_conf *out, struct errbuf *eb)
{
	struct json_at at = json_root(json, "");

	return cluster_conf_read(&at, out, eb);
}

static void what_is_written_is_read_back(void **state)
{
	struct cluster_conf in = sample();
	struct cluster_conf out = {.count = 0};
	json_t *json = cluster_conf_json(&in);
	json_t *again;

	(void)state;
	assert_int_equal(read_back(json, &out, NULL), 0);
	again = cluster_conf_json(&out);
	assert_true(json_equal(json, again));
	assert_ptr_equal(cluster_node_find(&out, "n2"), &out.nodes[1]);
	assert_null(cluster_node_find(&out, "n3"));
	json_decref(json);
	json_decref(again);
}

/* Any member missing or of another type: refused, nothing is taken over. */
static void what_makes_no_sense_is_refused(void **state)
{
	static const char *const needed[] = {"name",   "cluster",  "uuid",    "node",
	                                     "nodeid", "token_ms", "version", "nodes"};
	struct cluster_conf in = sample();
	struct cluster_conf out = {.count = 99};
	json_t *whole = cluster_conf_json(&in);

	(void)state;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		json_t *less = json_deep_copy(whole);

		assert_int_equal(json_object_del(less, needed[i]), 0);
		assert_int_equal(read_back(less, &out, NULL), -EINVAL);
		assert_int_equal(json_object_set_new(less, needed[i], json_true()), 0);
		assert_int_equal(read_back(less, &out, NULL), -EINVAL);
		json_decref(less);
	}
	assert_int_equal(out.count, 99);
	json_decref(whole);
}

static void nodes_of_strangers_are_checked(void **state)
{
	static const char *const bad[] = {
		"{\"name\": \"a b\", \"addrs\": [\"10.0.0.1\"]}",
		"{\"name\": \"n1\", \"addrs\": []}",
		"{\"name\": \"n1\", \"addrs\": [\"host\"]}",
		"{\"name\": \"n1\", \"addrs\": [\"10.0.0.1\\n}\"]}",
		"{\"name\": \"n1\", \"addrs\": [\"10.0.0.1\", \"10.0.1.1\", \"10.0.2.1\"]}",
		"{\"name\": \"n1\", \"addrs\": [\"10.0.0.1\"], \"votes\": 256}",
		"{\"name\": \"n1\", \"addrs\": [\"10.0.0.1\"], \"port\": 65536}",
		"{\"name\": \"n1\", \"addrs\": [\"10.0.0.1\"], \"nodeid\": 0}",
		"{\"addrs\": [\"10.0.0.1\"]}",
	};
	struct cluster_node n;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *json = NULL;

		assert_int_equal(json_parse(bad[i], strlen(bad[i]), NULL, &json, NULL), 0);

		struct json_at at = json_root(json, "");

		assert_int_equal(cluster_node_read(&at, &n, NULL), -EINVAL);
		json_decref(json);
	}
}

static void corosyncs_file_has_who_votes(void **state)
{
	struct cluster_conf c = sample();
	char text[CORO_CONF_TEXT_MAX];

	(void)state;
	assert_true(cluster_conf_text(&c, "/var/lib/godwit/cluster", text, NULL) > 0);
	assert_non_null(strstr(text, "keyfile: /var/lib/godwit/cluster/authkey\n"));
	assert_non_null(strstr(text, "config_version: 7\n"));
	assert_non_null(strstr(text, "name: n2\n\t\tquorum_votes: 0\n"));
	c.nodes[0].votes = 0;
	assert_int_equal(cluster_conf_text(&c, "", text, NULL), -EINVAL);
}

static void addresses_of_this_host_are_known(void **state)
{
	(void)state;
	assert_true(cluster_addr_local("127.0.0.1"));
	assert_false(cluster_addr_local("192.0.2.1")); /* for documentation only */
	assert_false(cluster_addr_local("localhost"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(nodes_of_strangers_are_checked),
		cmocka_unit_test(corosyncs_file_has_who_votes),
		cmocka_unit_test(addresses_of_this_host_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
