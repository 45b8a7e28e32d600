/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/shared_direct.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What is taken says the same when it is said again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t buf[SHARED_DIRECT_BYTES];
	struct shared_direct_msg msg;

	if (shared_direct_decode(data, len, &msg) == 0 &&
	    (shared_direct_encode(&msg, buf) != len || memcmp(buf, data, len) != 0)) {
		abort();
	}
	return 0;
}
