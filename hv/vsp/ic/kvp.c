/* SPDX-License-Identifier: Apache-2.0 */

/*
 * kvp - key-value exchange: what the guest tells of itself (pool "auto": name, addresses, system).
 * Needs the guest's daemon (hv_kvp_daemon); without it negotiation ends late or never, which is
 * nobody's problem. All pairs are asked for one after another, and again every half minute. What
 * was told is not saved: after a move it is asked for again.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/ic/ic_int.h"

#define KVP_PERIOD_NS (30 * NS_PER_S)

struct kvp {
	struct ic ic; /* first */
	bool asked;   /* an ENUMERATE is under way */
	uint32_t next;
	uint32_t count; /* of items, complete */
	uint32_t filling;
	struct ic_kvp_item items[IC_KVP_ITEMS_MAX];
	struct ic_kvp_item fresh[IC_KVP_ITEMS_MAX]; /* the round under way */
};

static void kvp_ask(struct kvp *k)
{
	struct ic_kvp_enumerate m;

	memset(&m, 0, sizeof(m));
	m.header.operation = IC_KVP_ENUMERATE;
	m.header.pool = IC_KVP_POOL_AUTO;
	m.index = le32_make(k->next);
	k->asked = ic_send(&k->ic, IC_FLAG_TRANSACTION | IC_FLAG_REQUEST, &m, sizeof(m)) == 0;
}

static void kvp_round(struct ic *ic)
{
	struct kvp *k = (struct kvp *)(void *)ic;

	k->next = 0;
	k->filling = 0;
	kvp_ask(k);
	ic_timer_arm(ic, KVP_PERIOD_NS);
}

static void kvp_round_end(struct kvp *k)
{
	memcpy(k->items, k->fresh, sizeof(k->items));
	k->count = k->filling;
	k->asked = false;
}

static void kvp_item_take(struct kvp *k, const uint8_t *payload)
{
	struct ic_kvp_enumerate m;
	struct ic_kvp_item *item = &k->fresh[k->filling];
	uint32_t key_bytes;
	uint32_t value_bytes;

	memcpy(&m, payload, sizeof(m));
	key_bytes = le32_get(m.key_bytes);
	value_bytes = le32_get(m.value_bytes);
	if (key_bytes > sizeof(m.key) || value_bytes > sizeof(m.value) ||
	    le32_get(m.value_type) != IC_KVP_STRING) {
		return;
	}
	ic_utf16_decode(m.key, key_bytes, item->key, sizeof(item->key));
	ic_utf16_decode(m.value, value_bytes, item->value, sizeof(item->value));
	k->filling++;
}

static void kvp_message(struct ic *ic, const struct ic_header *h, const uint8_t *payload,
                        uint32_t len_bytes)
{
	struct kvp *k = (struct kvp *)(void *)ic;

	if (!k->asked || !ic_is_answer(ic, h)) {
		return;
	}
	if (le32_get(h->status) == IC_STATUS_NO_MORE_ITEMS) {
		kvp_round_end(k);
		return;
	}
	if (le32_get(h->status) != IC_STATUS_OK || len_bytes < sizeof(struct ic_kvp_enumerate)) {
		k->asked = false; /* a daemon that cannot now: what it told before stays */
		return;
	}
	kvp_item_take(k, payload);
	k->next++;
	if (k->next == IC_KVP_ITEMS_MAX) {
		kvp_round_end(k);
		return;
	}
	kvp_ask(k);
}

static void kvp_closed(struct ic *ic)
{
	struct kvp *k = (struct kvp *)(void *)ic;

	k->asked = false;
	k->count = 0;
}

static const struct ic_service kvp_service = {
	.kind = "kvp",
	.interface_id = GUID_INIT(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c,
                                  0x03, 0xe6),
	.instance_id = GUID_INIT(0x242ff919, 0x07db, 0x4180, 0x9c, 0x2e, 0xb8, 0x6c, 0xb6, 0x8c,
                                 0x8c, 0x55),
	.type = IC_KVP,
	.versions = {{4, 0}, {3, 0}, {1, 0}},
	.ready = kvp_round,
	.message = kvp_message,
	.closed = kvp_closed,
	.timer = kvp_round,
};

uint32_t ic_kvp_items(const struct vsp *vsp, struct ic_kvp_item *items, uint32_t max)
{
	const struct kvp *k = (const struct kvp *)(const void *)vsp;
	uint32_t n = k->count < max ? k->count : max;

	if (n != 0) {
		memcpy(items, k->items, n * sizeof(items[0]));
	}
	return n;
}

int ic_kvp_create(const struct vsp_env *env, struct vsp **out, struct errbuf *eb)
{
	struct kvp *k = gw_calloc(1, sizeof(*k));
	int err = k != NULL ? ic_init(&k->ic, &kvp_service, env) : -ENOMEM;

	*out = NULL;
	if (err != 0) {
		free(k);
		return errbuf_sys(eb, err, "cannot offer the key-value service");
	}
	*out = &k->ic.vsp;
	return 0;
}
