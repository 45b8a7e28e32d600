/* SPDX-License-Identifier: Apache-2.0 */

/* netvsp_control_fuzz - RNDIS requests and the NDIS structures in them, and NVSP messages. */

#include <stdlib.h>
#include <string.h>

#include "hv/vsp/netvsp/ndis.h"
#include "hv/vsp/netvsp/nvsp.h"
#include "hv/vsp/netvsp/rndis.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok)
{
	if (!ok) {
		abort();
	}
}

static void fuzz_info(const uint8_t *info, size_t len)
{
	struct ndis_offload offload = {0};
	struct ndis_rss rss = {0};
	uint8_t mac[6];

	(void)!ndis_offload_decode(info, len, &offload);
	if (ndis_rss_decode(info, len, 4, &rss) == 0) {
		check(rss.table_entries <= NDIS_RSS_TABLE_MAX);
		for (uint32_t i = 0; i < rss.table_entries; i++) {
			check(rss.table[i] < 4);
		}
	}
	if (ndis_address_decode(info, len, mac) == 0) {
		check((mac[0] & 1u) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct rndis_request r;
	struct netvsp_message m;

	(void)!nvsp_decode(data, len, &m);
	fuzz_info(data, len);
	if (rndis_request_decode(data, len, &r) == 0) {
		uint8_t out[RNDIS_REPLY_MAX];

		check(r.info_bytes == 0 ||
		      (r.info >= data && r.info_bytes <= len - (size_t)(r.info - data)));
		if (r.info_bytes != 0) {
			fuzz_info(r.info, r.info_bytes);
		}
		check(rndis_set_reply(out, &r, 0) <= sizeof(out));
	}
	return 0;
}
