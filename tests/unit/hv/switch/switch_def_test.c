/* SPDX-License-Identifier: Apache-2.0 */

/* switch_def_test - what a definition of a switch may say. */

#include "hv/switch/switch_def.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "tests/lib/test.h"

#define ID "11223344-5566-4788-99aa-bbccddeeff00"
#define REST "\"id\":\"" ID "\",\"name\":\"s\",\"mtu_bytes\":1500"

/* Decode @text. Returns as switch_def_decode(). */
static int decode(const char *text, struct switch_def *def, struct errbuf *eb)
{
	json_t *json = json_loads(text, 0, NULL);
	int err;

	assert_non_null(json);
	err = switch_def_decode(json, def, eb);
	json_decref(json);
	return err;
}

static void refuses(const char *text, const char *why)
{
	struct switch_def def;
	struct errbuf eb = {0};

	assert_int_equal(decode(text, &def, &eb), -EINVAL);
	if (strstr(eb.text, why) == NULL) {
		fail_msg("\"%s\" is not in \"%s\"", why, eb.text);
	}
}

static void a_full_definition_is_understood(void **state)
{
	struct switch_def def;
	char name[NETLINK_NAME_MAX + 1];

	(void)state;
	assert_int_equal(decode("{" REST ",\"type\":\"external\",\"uplinks\":[\"eth1\",\"eth2\"],"
	                        "\"team\":\"lacp\",\"vlan\":7,\"host\":true}",
	                        &def, NULL),
	                 0);
	assert_int_equal(def.type, SWITCH_EXTERNAL);
	assert_int_equal(def.team, SWITCH_TEAM_LACP);
	assert_int_equal(def.uplink_count, 2);
	assert_string_equal(def.uplinks[1], "eth2");
	assert_int_equal(def.vlan, 7);
	assert_true(def.host);
	assert_string_equal(switch_bridge_name(&def, name), "gwb-11223344");
	assert_string_equal(switch_bond_name(&def, name), "gwo-11223344");
	switch_def_fini(&def);
}

static void what_is_left_out_is_filled_in(void **state)
{
	static const struct {
		const char *type;
		bool host;
	} cases[] = {{"private", false}, {"internal", true}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *json = json_pack("{s:s,s:s}", "name", "s", "type", cases[i].type);
		struct switch_def def;

		assert_int_equal(switch_def_complete(json, NULL), 0);
		assert_int_equal(switch_def_decode(json, &def, NULL), 0);
		assert_int_equal(def.vlan, SWITCH_VLAN_NATIVE);
		assert_int_equal(def.mtu_bytes, SWITCH_MTU_PRESET);
		assert_int_equal(def.host, cases[i].host);
		switch_def_fini(&def);
		json_decref(json);
	}
}

static void what_does_not_fit_together_is_refused(void **state)
{
	(void)state;
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"external\"}", "needs an uplink");
	refuses("{" REST ",\"vlan\":1,\"host\":true,\"type\":\"nat\"}", "needs a subnet");
	refuses("{" REST ",\"vlan\":1,\"host\":true,\"type\":\"private\"}", "takes no part");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"internal\"}", "takes part");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"private\",\"uplinks\":[\"a\"]}",
	        "have no uplinks");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"private\","
	        "\"subnet\":\"10.0.0.0/24\"}",
	        "have no subnet");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"external\",\"uplinks\":[\"a\"],"
	        "\"team\":\"lacp\"}",
	        "two uplinks");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"external\","
	        "\"uplinks\":[\"a\",\"a\"]}",
	        "named twice");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"external\","
	        "\"uplinks\":[\"a\\\"b\"]}",
	        "no network interface");
	refuses("{" REST ",\"vlan\":4095,\"host\":false,\"type\":\"private\"}", "vlan");
	refuses("{" REST ",\"vlan\":0,\"host\":false,\"type\":\"private\"}", "vlan");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"private\",\"speed\":1}", "speed");
	refuses("{" REST ",\"vlan\":1,\"host\":false,\"type\":\"public\"}", "type");
}

static void a_subnet_is_a_network(void **state)
{
	static const char *const bad[] = {"",          "10.0.0.0",    "10.0.0.0/",  "10.0.0.1/24",
	                                  "10.0.0/24", "10.0.0.0/30", "0.0.0.0/8",  "127.0.0.0/8",
	                                  "x/24",      "224.0.0.0/8", "10.0.0.0/7", "10.0.0.0/24x"};
	struct switch_subnet a;
	struct switch_subnet b;
	char text[SWITCH_SUBNET_TEXT];
	uint8_t packet[4];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(switch_subnet_parse(bad[i], &a, NULL), -EINVAL);
	}
	assert_int_equal(switch_subnet_parse("10.77.4.0/22", &a, NULL), 0);
	assert_string_equal(switch_subnet_format(&a, text), "10.77.4.0/22");
	switch_subnet_addr(&a, 1022, text, packet);
	assert_string_equal(text, "10.77.7.254");
	assert_memory_equal(packet, ((uint8_t[]){10, 77, 7, 254}), 4);
	assert_int_equal(switch_subnet_parse("10.77.7.0/24", &b, NULL), 0);
	assert_true(switch_subnets_overlap(&a, &b));
	assert_true(switch_subnets_overlap(&b, &a));
	assert_int_equal(switch_subnet_parse("10.77.8.0/24", &b, NULL), 0);
	assert_false(switch_subnets_overlap(&a, &b));
}

static void names_are_of_few_characters(void **state)
{
	static const char longest[] =
		"0123456789012345678901234567890123456789012345678901234567890"
		"12";

	(void)state;
	assert_int_equal(sizeof(longest) - 1, SWITCH_NAME_MAX);
	assert_int_equal(switch_name_check(longest, NULL), 0);
	assert_int_equal(switch_name_check("a.b_c-D", NULL), 0);
	assert_int_equal(switch_name_check("", NULL), -EINVAL);
	assert_int_equal(switch_name_check("-a", NULL), -EINVAL);
	assert_int_equal(switch_name_check("a/b", NULL), -EINVAL);
	assert_int_equal(switch_name_check("a b", NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_definition_is_understood),
		cmocka_unit_test(what_is_left_out_is_filled_in),
		cmocka_unit_test(what_does_not_fit_together_is_refused),
		cmocka_unit_test(a_subnet_is_a_network),
		cmocka_unit_test(names_are_of_few_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
