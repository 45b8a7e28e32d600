/* SPDX-License-Identifier: Apache-2.0 */

/* netvsp_data_fuzz - a data message of the guest, and what is made of the frame in it. */

#include <stdlib.h>
#include <string.h>

#include "hv/vsp/netvsp/netframe.h"
#include "hv/vsp/netvsp/rndis.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok)
{
	if (!ok) {
		abort();
	}
}

static void fuzz_frame(const uint8_t *frame, uint32_t len, const struct rndis_tx *tx)
{
	uint32_t head_bytes = len < NETFRAME_HEAD_MAX ? len : NETFRAME_HEAD_MAX;
	uint8_t *head = malloc(head_bytes + NETFRAME_VLAN_BYTES);
	struct netvsp_vnet_wire vnet;
	struct netframe f;
	uint16_t tci;

	if (head == NULL) {
		return;
	}
	memcpy(head, frame, head_bytes);
	netframe_parse(head, head_bytes, &f);
	check(f.l4_offset < head_bytes);
	if (netframe_offload(head, head_bytes, len, tx, &vnet) == 0) {
		check((vnet.flags & NETVSP_VNET_NEEDS_CSUM) == 0 ||
		      le16_get(vnet.csum_start) + le16_get(vnet.csum_offset) + 2u <= len);
		check(le16_get(vnet.header_bytes) <= head_bytes);
		netframe_vlan_put(head, head_bytes, 5, &vnet);
		check(netframe_vlan_take(head, head_bytes + NETFRAME_VLAN_BYTES, &tci) && tci == 5);
	}
	free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	size_t head = len < RNDIS_HEAD_MAX ? len : RNDIS_HEAD_MAX;
	struct rndis_tx tx;

	if (rndis_tx_decode(data, head, (uint32_t)len, &tx) == 0) {
		check(tx.message_bytes <= len);
		check(tx.data_offset <= tx.message_bytes &&
		      tx.data_bytes <= tx.message_bytes - tx.data_offset);
		if (tx.data_bytes >= NETFRAME_ETHER_BYTES) {
			fuzz_frame(data + tx.data_offset, tx.data_bytes, &tx);
		}
	}
	return 0;
}
