/* SPDX-License-Identifier: Apache-2.0 */

/* tap_test - names and aliases of taps. Real ones: tests/node/switch_test.py. */

#include "hv/switch/tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "tests/lib/test.h"

static const struct tap_port port = {
	.nic_id = {{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8}},
	.switch_id = {{9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6}},
	.mac = {0x00, 0x15, 0x5d, 0xab, 0x0c, 0xfe},
	.vlan = 4094,
};

static void a_name_is_made_of_the_id(void **state)
{
	char text[GUID_TEXT_SIZE];
	char name[NETLINK_NAME_MAX + 1];
	char want[64];

	(void)state;
	guid_format(&port.nic_id, text);
	(void)snprintf(want, sizeof(want), "gwt-%.8s%.3s", text, text + 9);
	assert_string_equal(tap_name(&port.nic_id, name), want);
	assert_int_equal(strlen(name), NETLINK_NAME_MAX);
}

static void an_alias_says_where_a_tap_belongs(void **state)
{
	char alias[NETLINK_ALIAS_MAX + 1];
	struct tap_port out;

	(void)state;
	tap_alias_encode(&port, alias);
	assert_non_null(strstr(alias, " mac=00:15:5d:ab:0c:fe vlan=4094"));
	memset(&out, 0, sizeof(out));
	assert_int_equal(tap_alias_decode(alias, &out), 0);
	assert_true(guid_equal(&out.nic_id, &port.nic_id));
	assert_true(guid_equal(&out.switch_id, &port.switch_id));
	assert_memory_equal(out.mac, port.mac, sizeof(port.mac));
	assert_int_equal(out.vlan, port.vlan);
}

/* Anybody with rights can write an alias: one that is not ours to the letter is not ours. */
static void other_aliases_are_not_ours(void **state)
{
	char alias[NETLINK_ALIAS_MAX + 1];
	char bad[NETLINK_ALIAS_MAX + 3];
	struct tap_port out;
	size_t len;

	(void)state;
	tap_alias_encode(&port, alias);
	len = strlen(alias);
	for (size_t cut = 0; cut < len; cut++) {
		/* 4094 without its last digit is a VLAN as well. */
		int want = cut >= len - 3 ? 0 : -EINVAL;

		memcpy(bad, alias, cut);
		bad[cut] = '\0';
		assert_int_equal(tap_alias_decode(bad, &out), want);
	}
	for (size_t at = 0; at < len; at++) {
		for (uint32_t bit = 0; bit < 8; bit++) {
			struct tap_port same;
			char again[NETLINK_ALIAS_MAX + 1];

			memcpy(bad, alias, len + 1);
			bad[at] = (char)(bad[at] ^ (1 << bit));
			/* Either refused, or another port that we would write like that. */
			if (tap_alias_decode(bad, &same) == 0) {
				tap_alias_encode(&same, again);
				assert_string_equal(again, bad);
			}
		}
	}
	(void)snprintf(bad, sizeof(bad), "%s ", alias);
	assert_int_equal(tap_alias_decode(bad, &out), -EINVAL);
	assert_int_equal(tap_alias_decode("", &out), -EINVAL);
}

static void there_is_a_limit_of_queues(void **state)
{
	int fds[TAP_QUEUES_MAX + 1];
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(tap_open("gwt-x", 0, fds, &eb), -EINVAL);
	assert_int_equal(tap_open("gwt-x", TAP_QUEUES_MAX + 1, fds, &eb), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_made_of_the_id),
		cmocka_unit_test(an_alias_says_where_a_tap_belongs),
		cmocka_unit_test(other_aliases_are_not_ours),
		cmocka_unit_test(there_is_a_limit_of_queues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
