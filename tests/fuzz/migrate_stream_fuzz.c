/* SPDX-License-Identifier: Apache-2.0 */

/* migrate_stream_fuzz - any bytes as what a peer sends on a connection: headers, payloads. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/wire.h"
#include "migrate/compat/compat.h"
#include "migrate/stream/stream.h"
#include "migrate/stream/stream_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct stream_memory memory;
static struct compat report;
static volatile int sink; /* results are used */

/* Make CRCs and number right, or nothing behind the header is ever reached. */
static void fix_header(uint8_t *header, uint32_t sequence, const uint8_t *payload, size_t room)
{
	struct stream_frame_wire w;

	memcpy(&w, header, sizeof(w));
	w.magic = le32_make(STREAM_MAGIC);
	w.sequence = le32_make(sequence);
	if (le32_get(w.payload_bytes) <= room) {
		w.payload_crc = le32_make(crc32c(payload, le32_get(w.payload_bytes)));
	}
	memcpy(header, &w, sizeof(w));
	w.header_crc = le32_make(crc32c(header + 8, sizeof(w) - 8));
	memcpy(header, &w, sizeof(w));
}

static void payload(const struct stream_frame *f, const uint8_t *in)
{
	struct stream_hello hello;
	struct stream_answer answer;
	struct stream_round round;
	struct stream_state state;
	struct stream_final final;
	struct stream_running running;
	struct errbuf why = {0};
	uint64_t number;
	int code;

	if (f->type == STREAM_MEMORY) {
		sink += stream_memory_decode(in, f->payload_bytes, f->bulk_bytes, &memory, NULL);
		return;
	}
	if (stream_hello_decode(in, f->payload_bytes, &hello, NULL) == 0) {
		sink += stream_agree(&hello, STREAM_CAPS_KNOWN, 1, 2, &answer, NULL);
	}
	sink += stream_answer_decode(in, f->payload_bytes, &answer, NULL);
	sink += stream_round_decode(in, f->payload_bytes, &round, NULL);
	sink += stream_state_decode(in, f->payload_bytes, &state, NULL);
	sink += stream_final_decode(in, f->payload_bytes, &final, NULL);
	sink += stream_running_decode(in, f->payload_bytes, &running, NULL);
	sink += stream_number_decode(in, f->payload_bytes, &number, NULL);
	sink += stream_text_decode(in, f->payload_bytes, &code, &why, NULL);
	if (f->type == STREAM_REPORT) {
		sink += compat_decode(in, f->payload_bytes, &report, NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	size_t at = 0;

	for (uint32_t n = 0; len - at >= STREAM_HEADER_BYTES; n++) {
		uint8_t header[STREAM_HEADER_BYTES];
		struct stream_frame f;
		size_t room = len - at - sizeof(header);

		memcpy(header, data + at, sizeof(header));
		at += sizeof(header);
		fix_header(header, n, data + at, room);
		if (stream_frame_decode(header, n, &f, NULL) != 0 || f.payload_bytes > room ||
		    stream_payload_check(&f, data + at, NULL) != 0) {
			break;
		}

		/* Memory of its own length, so that ASan sees a read behind it. */
		uint8_t *copy = malloc(f.payload_bytes + 1);

		if (copy == NULL) {
			break;
		}
		memcpy(copy, data + at, f.payload_bytes);
		payload(&f, copy);
		free(copy);
		at += f.payload_bytes;
		at += f.bulk_bytes <= len - at ? f.bulk_bytes : len - at;
	}
	return 0;
}
