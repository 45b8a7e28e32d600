/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "cluster/flight/flight.h"
#include "cluster/flight/flight_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A head with a sum that is right, and records whose sums are made right where the last byte of a
 * record is even: what comes out is at most what went in, and can be told. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[FLIGHT_HEAD_BYTES + 64 * sizeof(struct flight_record_wire)];
	size_t head = len < 76 ? len : 76;
	size_t rest = len - head;
	struct flight_log *log;
	le32 crc;

	memset(buf, 0, sizeof(buf));
	memcpy(buf, data, head);
	rest = rest < sizeof(buf) - FLIGHT_HEAD_BYTES ? rest : sizeof(buf) - FLIGHT_HEAD_BYTES;
	if (rest > 0) {
		memcpy(buf + FLIGHT_HEAD_BYTES, data + head, rest);
	}
	crc = le32_make(crc32c(buf, 76));
	memcpy(buf + 76, &crc, sizeof(crc));
	for (size_t at = FLIGHT_HEAD_BYTES; at + 32 <= FLIGHT_HEAD_BYTES + rest; at += 32) {
		if (buf[at + 31] % 2 == 0) {
			crc = le32_make(crc32c(buf + at, 28));
			memcpy(buf + at + 28, &crc, sizeof(crc));
		}
	}
	if (flight_decode(buf, FLIGHT_HEAD_BYTES + rest, &log, NULL) == 0) {
		json_t *json = flight_json(log);

		if (log->count + log->damaged > rest / 32 + 1 || json == NULL) {
			abort();
		}
		json_decref(json);
		free(log);
	}
	return 0;
}
