/* SPDX-License-Identifier: Apache-2.0 */

/* mailbox_load_fuzz - the payload of a saved section "mailbox"; what loads is saved the same. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hv/partition/mailbox.h"
#include "hv/save/save.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct mailbox m;
	struct save s;
	struct load l;
	uint8_t *buf;
	uint8_t *again;
	size_t bytes;
	size_t again_bytes;

	CHECK(mailbox_init(&m) == 0);
	save_init(&s);
	save_begin(&s, "mailbox", 1, true);
	save_bytes(&s, data, len);
	save_end(&s);
	CHECK(save_finish(&s, &buf, &bytes) == 0);
	CHECK(load_init(&l, buf, bytes, NULL) == 0);
	if (mailbox_load(&m, &l) == 0 && m.message_count != 0) {
		save_init(&s);
		mailbox_save(&m, &s);
		CHECK(save_finish(&s, &again, &again_bytes) == 0);
		CHECK(again_bytes == bytes && memcmp(again, buf, bytes) == 0);
		free(again);
	}
	mailbox_fini(&m);
	free(buf);
	return 0;
}
