/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "csv/format/csv_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* One input as every kind of slot: what is accepted is encoded the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[CSV_BLOCK_BYTES];
	static uint8_t again[CSV_BLOCK_BYTES];
	const struct guid volume = {{1}};
	const struct csv_block_id ids[] = {
		{CSV_LIVENESS, CSV_LIVENESS_AT + 3, 3, &volume},
		{CSV_VERDICT, CSV_VERDICT_AT + 3, 3, &volume},
		{CSV_MAILBOX, CSV_MAILBOX_AT + 3, 3, &volume},
		{CSV_BALLOT, CSV_LEADER_AT + 1 + 3, 3, &volume},
		{CSV_LEADER, CSV_LEADER_AT, 0, &volume},
	};

	for (uint32_t i = 0; i < ARRAY_LEN(ids); i++) {
		struct csv_liveness liveness;
		struct csv_verdict verdict;
		struct csv_mailbox mailbox;
		struct csv_ballot ballot;
		struct csv_leader leader;

		memset(buf, 0, sizeof(buf));
		memcpy(buf, data, len < sizeof(buf) ? len : sizeof(buf));
		csv_block_seal(buf, &ids[i], 7, 8);
		memcpy(again, buf, sizeof(buf));
		if (csv_liveness_decode(buf, &volume, 3, &liveness, NULL) == 0) {
			csv_liveness_encode(&liveness, &volume, 3, again);
		} else if (csv_verdict_decode(buf, &volume, 3, &verdict, NULL) == 0) {
			csv_verdict_encode(&verdict, &volume, 3, again);
		} else if (csv_mailbox_decode(buf, &volume, 3, &mailbox, NULL) == 0) {
			csv_mailbox_encode(&mailbox, &volume, 3, again);
		} else if (csv_ballot_decode(buf, &volume, 3, &ballot, NULL) == 0) {
			csv_ballot_encode(&ballot, &volume, 3, again);
		} else if (csv_leader_decode(buf, &volume, &leader, NULL) == 0) {
			csv_leader_encode(&leader, &volume, again);
		}
		if (memcmp(again, buf, sizeof(buf)) != 0) {
			abort();
		}
	}
	return 0;
}
