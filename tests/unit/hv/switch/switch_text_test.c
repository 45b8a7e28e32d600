/* SPDX-License-Identifier: Apache-2.0 */

/* switch_text_test - what nft and dnsmasq are told. That they understand it:
 * tests/node/switch_test.py. */

#include "hv/switch/switch_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/fault.h"
#include "hv/switch/switch_def.h"
#include "tests/lib/test.h"

static const struct switch_def nat = {
	.id = {{0x44, 0x33, 0x22, 0x11}},
	.name = "inet",
	.type = SWITCH_NAT,
	.host = true,
	.vlan = 1,
	.mtu_bytes = SWITCH_MTU_PRESET,
	.subnet = {.network = 0x0a4d0000, .prefix_bits = 24},
};
static const struct switch_def private = {
	.id = {{0x88, 0x77, 0x66, 0x55}},
	.name = "priv",
	.type = SWITCH_PRIVATE,
	.vlan = 1,
	.mtu_bytes = SWITCH_MTU_PRESET,
};

static char *rules_of(const struct switch_def *const defs[], uint32_t count, bool guard)
{
	char *out;

	assert_int_equal(switch_rules(defs, count, guard, &out), 0);
	return out;
}

static void says(const char *text, const char *part, bool wanted)
{
	if ((strstr(text, part) != NULL) != wanted) {
		fail_msg("%s \"%s\" in:\n%s", wanted ? "no" : "a", part, text);
	}
}

static void a_nat_switch_lets_answers_in_and_nothing_else(void **state)
{
	const struct switch_def *const defs[] = {&nat};
	char bridge[NETLINK_NAME_MAX + 1];
	char line[160];
	char *text = rules_of(defs, 1, false);

	(void)state;
	(void)switch_bridge_name(&nat, bridge);
	(void)snprintf(line, sizeof(line), "ip saddr 10.77.0.0/24 oifname != \"%s\" masquerade",
	               bridge);
	says(text, line, true);
	(void)snprintf(line, sizeof(line), "iifname \"%s\" ip saddr != 10.77.0.0/24 drop", bridge);
	says(text, line, true);
	(void)snprintf(line, sizeof(line),
	               "\t\toifname \"%s\" ct state established,related accept\n"
	               "\t\toifname \"%s\" drop\n",
	               bridge, bridge);
	says(text, line, true);
	says(text, "nfproto ipv4 drop", false);
	free(text);

	/* The host forwards because of us alone. */
	text = rules_of(defs, 1, true);
	(void)snprintf(line, sizeof(line),
	               "\t\tiifname \"%s\" accept\n\t\tmeta nfproto ipv4 drop\n", bridge);
	says(text, line, true);
	free(text);
}

static void the_host_is_cut_off_where_it_takes_no_part(void **state)
{
	const struct switch_def *const defs[] = {&nat, &private};
	char bridge[NETLINK_NAME_MAX + 1];
	char line[160];
	char *text = rules_of(defs, 2, false);

	(void)state;
	(void)snprintf(line, sizeof(line),
	               "hook ingress device \"%s\" priority filter; policy drop",
	               switch_bridge_name(&private, bridge));
	says(text, line, true);
	says(text, "iifname \"gwt-*\" ether type { 0x8100, 0x88a8 } drop\n", true);
	(void)snprintf(line, sizeof(line), "hook ingress device \"%s\"",
	               switch_bridge_name(&nat, bridge));
	says(text, line, false);
	free(text);
}

static void without_switches_the_tables_go(void **state)
{
	char *text = rules_of(NULL, 0, false);

	(void)state;
	says(text, "delete table inet godwit\n", true);
	says(text, "delete table netdev godwit\n", true);
	says(text, "delete table bridge godwit\n", true);
	says(text, "chain", false);
	free(text);
}

static void as_many_switches_as_there_may_be_fit(void **state)
{
	static const struct switch_def *defs[256];
	char *text;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(defs); i++) {
		defs[i] = &nat;
	}
	text = rules_of(defs, ARRAY_LEN(defs), true);
	says(text, "table bridge godwit {", true);
	free(text);
}

static void dnsmasq_serves_one_bridge_and_its_subnet(void **state)
{
	struct switch_def def = nat;
	char *text;

	(void)state;
	assert_int_equal(switch_dhcp_config(&def, "/var/lib/x.leases", &text), 0);
	says(text, "listen-address=10.77.0.1\n", true);
	says(text, "bind-interfaces\n", true);
	says(text, "dhcp-range=10.77.0.2,10.77.0.254,12h\n", true);
	says(text, "dhcp-leasefile=/var/lib/x.leases\n", true);
	says(text, "dhcp-option=26", false);
	free(text);
	def.mtu_bytes = 9000;
	def.subnet.prefix_bits = 29;
	assert_int_equal(switch_dhcp_config(&def, "/x", &text), 0);
	says(text, "dhcp-option=26,9000\n", true);
	says(text, "dhcp-range=10.77.0.2,10.77.0.6,12h\n", true);
	free(text);
}

static void without_memory_there_is_no_text(void **state)
{
	char *text;

	(void)state;
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(switch_rules(NULL, 0, false, &text), -ENOMEM);
	assert_null(text);
	fault_arm(FAULT_ALLOC, 1);
	assert_int_equal(switch_dhcp_config(&nat, "/x", &text), -ENOMEM);
	assert_null(text);
	fault_arm(FAULT_ALLOC, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_nat_switch_lets_answers_in_and_nothing_else),
		cmocka_unit_test(the_host_is_cut_off_where_it_takes_no_part),
		cmocka_unit_test(without_switches_the_tables_go),
		cmocka_unit_test(as_many_switches_as_there_may_be_fit),
		cmocka_unit_test(dnsmasq_serves_one_bridge_and_its_subnet),
		cmocka_unit_test(without_memory_there_is_no_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
