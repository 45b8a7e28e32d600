/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/preflight/preflight.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/report.h"
#include "tests/lib/test.h"
#include "tests/lib/tree.h"

static struct tree tree;
static struct preflight_probe probe;

static int setup(void **state)
{
	(void)state;
	tree_init(&tree);
	memset(&probe, 0, sizeof(probe));
	(void)snprintf(probe.fs.root, sizeof(probe.fs.root), "%s", tree.root);
	(void)snprintf(probe.corosync_version, sizeof(probe.corosync_version), "3.1.7");
	tree_file(&tree, "/proc/sys/kernel/hostname", "alpha\n");
	tree_file(&tree, "/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
	tree_file(&tree, "/sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n");
	tree_program(&tree, "/usr/sbin/fence_ipmilan", "");
	tree_program(&tree, "/usr/sbin/fence_apc", "");
	tree_file(&tree, "/sys/class/net/eno1/device/vendor", "");
	tree_file(&tree, "/sys/class/net/eno2/device/vendor", "");
	tree_file(&tree, "/sys/class/net/br0/mtu", "");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tree_fini(&tree);
	return 0;
}

static void expect(const char *id, const char *verdict, const char *found)
{
	struct report *report;
	bool seen = false;

	assert_int_equal(report_create(&report), 0);
	preflight_check(&probe, report);
	assert_int_equal(report_error(report), 0);
	assert_int_equal(report_count(report, REPORT_FAIL), 0);

	json_t *json = report_json(report);
	json_t *checks = json_object_get(json, "checks");

	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *line = json_array_get(checks, i);

		if (strcmp(json_string_value(json_object_get(line, "id")), id) == 0) {
			seen = true;
			assert_string_equal(json_string_value(json_object_get(line, "verdict")),
			                    verdict);
			assert_string_equal(json_string_value(json_object_get(line, "found")),
			                    found);
		}
	}
	assert_true(seen);
	json_decref(json);
	report_destroy(report);
}

static void a_good_machine_could_join(void **state)
{
	(void)state;
	expect("cluster.corosync", "ok", "3.1.7");
	expect("cluster.watchdog", "ok", "watchdog0 (iTCO_wdt)");
	expect("cluster.fence-agents", "ok", "2 in /usr/sbin");
	expect("cluster.links", "ok", "eno1, eno2");
	expect("cluster.hostname", "ok", "alpha");
	expect("cluster.machine-id", "ok", "0123456789abcdef0123456789abcdef");
}

static void what_corosync_says_is_judged(void **state)
{
	(void)state;
	(void)snprintf(probe.corosync_version, sizeof(probe.corosync_version), "2.4.5");
	expect("cluster.corosync", "warn", "2.4.5");
	probe.corosync_version[0] = '\0';
	expect("cluster.corosync", "warn", "of unknown version");
	probe.corosync_err = -ENOENT;
	expect("cluster.corosync", "warn", "missing");
	probe.corosync_err = -ETIMEDOUT;
	expect("cluster.corosync", "warn", "does not start: Connection timed out");
}

static void what_a_node_lacks_is_found(void **state)
{
	(void)state;
	tree_file(&tree, "/sys/class/watchdog/watchdog0/identity", "Software Watchdog\n");
	expect("cluster.watchdog", "warn", "watchdog0 (Software Watchdog)");
	tree_remove(&tree, "/usr/sbin/fence_ipmilan");
	tree_remove(&tree, "/usr/sbin/fence_apc");
	expect("cluster.fence-agents", "warn", "none");
	tree_file(&tree, "/proc/sys/kernel/hostname", "localhost.localdomain\n");
	expect("cluster.hostname", "warn", "localhost.localdomain");
	tree_file(&tree, "/etc/machine-id", "uninitialized\n");
	expect("cluster.machine-id", "warn", "none");
}

static void an_empty_machine_only_gets_warnings(void **state)
{
	(void)state;
	(void)snprintf(probe.fs.root, sizeof(probe.fs.root), "%s/nowhere", tree.root);
	probe.corosync_err = -ENOENT;
	expect("cluster.watchdog", "warn", "none");
	expect("cluster.links", "warn", "none");
	expect("cluster.hostname", "warn", "none");
}

static void versions_are_found_in_the_banner(void **state)
{
	char buf[8];

	(void)state;
	preflight_version_parse("Corosync Cluster Engine, version '3.1.7'\nCopyright\n", buf,
	                        sizeof(buf));
	assert_string_equal(buf, "3.1.7");
	preflight_version_parse("version 'x'", buf, sizeof(buf));
	assert_string_equal(buf, "");
	preflight_version_parse("version '", buf, sizeof(buf));
	assert_string_equal(buf, "");
	preflight_version_parse("version '1.2.3.4.5.6.7'", buf, sizeof(buf));
	assert_string_equal(buf, "");
	preflight_version_parse("", buf, sizeof(buf));
	assert_string_equal(buf, "");
}

static void this_machine_can_be_looked_at(void **state)
{
	struct report *report;

	(void)state;
	preflight_probe_run(&probe);
	assert_int_equal(report_create(&report), 0);
	preflight_check(&probe, report);
	assert_int_equal(report_error(report), 0);
	report_destroy(report);
}

#define PREFLIGHT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PREFLIGHT_TEST(a_good_machine_could_join),
		PREFLIGHT_TEST(what_corosync_says_is_judged),
		PREFLIGHT_TEST(what_a_node_lacks_is_found),
		PREFLIGHT_TEST(an_empty_machine_only_gets_warnings),
		cmocka_unit_test(versions_are_found_in_the_banner),
		PREFLIGHT_TEST(this_machine_can_be_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
