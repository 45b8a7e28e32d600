/* SPDX-License-Identifier: Apache-2.0 */
/* The exec channel's frames: any stream, cut into pieces by its first byte. */
#include <string.h>

#include "base/check.h"
#include "deploy/lab/agent/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct frame_reader reader;
	static struct frame_start start;
	const size_t piece = size > 0 ? (size_t)data[0] + 1 : 1;

	memset(&reader, 0, sizeof(reader));
	for (size_t at = 1; at < size;) {
		size_t room;
		uint8_t *to = frame_reader_room(&reader, &room);
		size_t n = size - at < piece ? size - at : piece;
		struct frame frame;

		CHECK(room > 0);
		n = n < room ? n : room;
		memcpy(to, data + at, n);
		frame_reader_fed(&reader, n);
		at += n;
		while (frame_reader_next(&reader, &frame) == 0) {
			if (frame_start_decode(frame.payload, frame.payload_bytes, &start) == 0) {
				CHECK(start.argc > 0 && start.argv[start.argc] == NULL);
			}
		}
	}
	return 0;
}
