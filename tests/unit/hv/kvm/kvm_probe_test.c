/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/kvm/kvm_probe.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/test.h"

static void a_missing_device_is_told(void **state)
{
	struct kvm_probe probe;

	(void)state;
	kvm_probe_run("/dev/no-such-device", &probe);
	assert_int_equal(probe.open_err, -ENOENT);
}

static void a_device_that_is_no_kvm_is_told(void **state)
{
	struct kvm_probe probe;

	(void)state;
	kvm_probe_run("/dev/null", &probe);
	assert_int_equal(probe.open_err, 0);
	assert_int_equal(probe.api_version, -ENOTTY);
	assert_int_equal(kvm_probe_cap_value(&probe, "kvm.irqfd"), 0);
}

static void every_capability_is_described(void **state)
{
	size_t count;
	const struct kvm_probe_cap *caps = kvm_probe_caps(&count);

	(void)state;
	assert_true(count > 20);
	for (size_t i = 0; i < count; i++) {
		assert_memory_equal(caps[i].check.id, "kvm.", 4);
		assert_true(strlen(caps[i].check.what) > 0);
		assert_true(strlen(caps[i].check.needed) > 0);
		assert_int_equal(caps[i].check.mend[strlen(caps[i].check.mend) - 1], '.');
		assert_true(caps[i].missing == REPORT_WARN || caps[i].missing == REPORT_FAIL);
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(caps[i].check.id, caps[j].check.id);
		}
	}
}

static void a_real_kvm_answers(void **state)
{
	struct kvm_probe probe;

	(void)state;
	if (access(KVM_PROBE_DEVICE, R_OK | W_OK) != 0) {
		skip();
	}
	kvm_probe_run(KVM_PROBE_DEVICE, &probe);
	assert_int_equal(probe.open_err, 0);
	assert_int_equal(probe.api_version, KVM_PROBE_API_VERSION);
	assert_true(probe.vcpus_max > 0);
	assert_true(kvm_probe_cap_value(&probe, "kvm.irqfd") > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_device_is_told),
		cmocka_unit_test(a_device_that_is_no_kvm_is_told),
		cmocka_unit_test(every_capability_is_described),
		cmocka_unit_test(a_real_kvm_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
