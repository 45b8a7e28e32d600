/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "csv/pr/csv_pr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What a target may answer: never more than there is room for. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct csv_pr_keys keys = {0};
	struct csv_pr_reservation reservation = {0};
	struct csv_pr_capabilities capabilities = {0};
	struct csv_pr_sense sense = {0};

	if (csv_pr_keys_decode(data, len, &keys) == 0 &&
	    (keys.count > CSV_PR_KEYS_MAX || 8 + 8 * (size_t)keys.count > len)) {
		abort();
	}
	if (csv_pr_reservation_decode(data, len, &reservation) == 0 && reservation.type > 15) {
		abort();
	}
	(void)!csv_pr_capabilities_decode(data, len, &capabilities);
	if (csv_pr_sense_decode(data, len, &sense) == 0 && sense.key > 15) {
		abort();
	}
	return 0;
}
