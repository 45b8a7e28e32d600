/* SPDX-License-Identifier: Apache-2.0 */

/* netlink_test - what needs no rights. All requests: tests/node/switch_test.py. */

#include "hv/switch/netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/lib/test.h"

static void the_loopback_interface_is_found(void **state)
{
	struct netlink *nl;
	struct netlink_link lo;
	struct netlink_link *links;
	uint32_t count;
	bool listed = false;

	(void)state;
	assert_int_equal(netlink_open(&nl, NULL), 0);
	assert_int_equal(netlink_link_get(nl, "lo", &lo, NULL), 0);
	assert_string_equal(lo.name, "lo");
	assert_true(lo.loopback);
	assert_false(lo.ethernet);
	assert_string_equal(lo.kind, "");
	assert_int_equal(netlink_links(nl, &links, &count, NULL), 0);
	for (uint32_t i = 0; i < count; i++) {
		listed = listed || links[i].index == lo.index;
	}
	assert_true(listed);
	free(links);
	netlink_close(nl);
}

static void what_is_missing_has_a_number_and_a_text(void **state)
{
	struct netlink *nl;
	struct netlink_link link;
	struct errbuf eb = {0};

	(void)state;
	assert_int_equal(netlink_open(&nl, NULL), 0);
	assert_int_equal(netlink_link_get(nl, "gwb-00000000", &link, &eb), -ENODEV);
	assert_non_null(strstr(eb.text, "gwb-00000000"));
	/* The socket is fit for the next request. */
	assert_int_equal(netlink_link_get(nl, "lo", &link, NULL), 0);
	netlink_close(nl);
}

static int try_all(void)
{
	struct netlink *nl;
	struct netlink_link *links = NULL;
	struct netlink_addr *addrs = NULL;
	uint32_t count;
	int err = netlink_open(&nl, NULL);

	if (err == 0) {
		err = netlink_links(nl, &links, &count, NULL);
	}
	if (err == 0) {
		err = netlink_addrs(nl, 0, &addrs, &count, NULL);
	}
	free(links);
	free(addrs);
	netlink_close(nl);
	return err;
}

static void without_memory_nothing_is_lost(void **state)
{
	uint32_t k = 0;
	int err;

	(void)state;
	do {
		fault_arm(FAULT_ALLOC, ++k);
		err = try_all();
		assert_true(err == 0 || err == -ENOMEM);
	} while (err != 0);
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_loopback_interface_is_found),
		cmocka_unit_test(what_is_missing_has_a_number_and_a_text),
		cmocka_unit_test(without_memory_nothing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
