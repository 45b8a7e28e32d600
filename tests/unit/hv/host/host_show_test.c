/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/json.h"
#include "hv/host/host.h"
#include "tests/lib/test.h"
#include "tests/unit/hv/host/machine.h"

static struct machine machine;

static int setup(void **state)
{
	(void)state;
	machine_init(&machine);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	machine_fini(&machine);
	return 0;
}

static void the_machine_is_described(void **state)
{
	static const char expected[] =
		"{\"name\": \"alpha\", \"os\": \"Debian GNU/Linux 12 (bookworm)\","
		" \"kernel\": \"6.1.0-18-amd64\","
		" \"cpu\": {\"model\": \"AMD EPYC 7302 16-Core Processor\","
		"  \"vendor\": \"AuthenticAMD\", \"sockets\": 2, \"cores\": 3, \"threads\": 4,"
		"  \"virtualization\": \"svm\"},"
		" \"numa\": [{\"node\": 0, \"cpus\": \"0-1,3\", \"memory_bytes\": 33689600000},"
		"  {\"node\": 1, \"cpus\": \"2\", \"memory_bytes\": 33689600000}],"
		" \"memory\": {\"total_bytes\": 67379200000, \"available_bytes\": 61440000000,"
		"  \"hugepages\": {\"size_bytes\": 2097152, \"total\": 16, \"free\": 12}},"
		" \"kvm\": {\"backend\": \"kvm_amd\", \"available\": true, \"api_version\": 12,"
		"  \"nested\": true, \"hyperv\": true, \"vcpus_max\": 1024},"
		" \"nics\": [{\"name\": \"br0\", \"mac\": \"52:54:00:12:34:57\", \"state\": "
		"\"down\","
		"   \"speed_mbps\": null, \"mtu_bytes\": 1500, \"physical\": false},"
		"  {\"name\": \"eno1\", \"mac\": \"52:54:00:12:34:56\", \"state\": \"up\","
		"   \"speed_mbps\": 10000, \"mtu_bytes\": 9000, \"physical\": true}],"
		" \"rdma\": [{\"name\": \"mlx5_0\", \"state\": \"4: ACTIVE\","
		"  \"rate\": \"100 Gb/sec (4X EDR)\", \"link_layer\": \"Ethernet\"}]}";
	json_t *want = json_loads(expected, 0, NULL);
	json_t *got = host_show(&machine.probe);

	(void)state;
	assert_non_null(want);
	assert_non_null(got);
	if (!json_equal(want, got)) {
		char *text = json_dumps(got, JSON_INDENT(2));

		fail_msg("%s", text);
	}
	json_decref(want);
	json_decref(got);
}

static void what_is_unknown_is_null_or_empty(void **state)
{
	json_t *got;

	(void)state;
	(void)snprintf(machine.probe.fs.root, sizeof(machine.probe.fs.root), "%s/nowhere",
	               machine.tree.root);
	machine.probe.kvm = (struct kvm_probe){.open_err = -ENOENT};
	got = host_show(&machine.probe);
	assert_non_null(got);
	assert_true(json_is_null(json_object_get(got, "name")));
	assert_int_equal(json_array_size(json_object_get(got, "nics")), 0);
	assert_true(json_is_null(json_object_get(json_object_get(got, "kvm"), "api_version")));
	json_decref(got);
}

static void odd_bytes_become_question_marks(void **state)
{
	json_t *got;

	(void)state;
	tree_file(&machine.tree, "/proc/sys/kernel/hostname", "al\xffpha\x01\n");
	got = host_show(&machine.probe);
	assert_non_null(got);
	assert_string_equal(json_string_value(json_object_get(got, "name")), "al?pha?");
	json_decref(got);
}

static void no_memory_is_told(void **state)
{
	(void)state;
	fault_arm(FAULT_ALLOC, 1);
	assert_null(host_show(&machine.probe));
	fault_arm(FAULT_ALLOC, 0);
}

#define HOST_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOST_TEST(the_machine_is_described),
		HOST_TEST(what_is_unknown_is_null_or_empty),
		HOST_TEST(odd_bytes_become_question_marks),
		HOST_TEST(no_memory_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
