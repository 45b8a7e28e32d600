/* SPDX-License-Identifier: Apache-2.0 */
/* `host check`: all groups in the order a reader expects. */
#include <string.h>

#include "base/fmt.h"
#include "base/report.h"
#include "hv/host/host_int.h"

#define SPACE_FAIL_BYTES (1ull << 30)
#define SPACE_WARN_BYTES (10ull << 30)

static const struct report_check space = {
	.id = "storage.space",
	.what = "Free disk space",
	.needed = "10 GiB or more in the state directory",
	.mend = "Free some space, or put a larger file system on the state directory.",
};

void host_check_storage(const struct host_probe *probe, struct report *report)
{
	char free_text[FMT_MAX];
	char total_text[FMT_MAX];

	if (probe->space_err != 0) {
		report_add(report, &space, REPORT_FAIL, "%s: %s", probe->state_dir,
		           strerrordesc_np(-probe->space_err));
		return;
	}
	report_add(report, &space,
	           probe->space_free_bytes < SPACE_FAIL_BYTES   ? REPORT_FAIL
	           : probe->space_free_bytes < SPACE_WARN_BYTES ? REPORT_WARN
	                                                        : REPORT_OK,
	           "%s of %s free at %s", fmt_size(probe->space_free_bytes, free_text),
	           fmt_size(probe->space_total_bytes, total_text), probe->state_dir);
}

void host_check(const struct host_probe *probe, struct report *report)
{
	host_check_cpu(probe, report);
	host_check_kvm(probe, report);
	host_check_memory(probe, report);
	host_check_kernel(probe, report);
	host_check_network(probe, report);
	host_check_storage(probe, report);
}
