/* SPDX-License-Identifier: Apache-2.0 */
/* csv_mount_node DEVICE PATH [alone] - has a volume for itself and mounts it; says "mounted". */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/lib/csv_mounter.h"

int main(int argc, char **argv)
{
	const struct log_cfg log = {
		.name = "csv_mount_node", .level = LOG_LEVEL_INFO, .to_stderr = true};

	if (argc < 3) {
		(void)fprintf(stderr, "usage: csv_mount_node DEVICE PATH [alone]\n");
		return 2;
	}

	const struct csv_mounter_cfg cfg = {
		.device = argv[1],
		.path = argv[2],
		.alone = argc > 3 && strcmp(argv[3], "alone") == 0,
		.ready_fd = STDOUT_FILENO,
	};
	int err = log_open(&log);

	if (err == 0) {
		err = csv_mounter_run(&cfg);
		log_close();
	}
	return err == 0 ? 0 : 1;
}
