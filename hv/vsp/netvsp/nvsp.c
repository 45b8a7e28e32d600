/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/nvsp.h"

#include <errno.h>
#include <string.h>

#define NVSP_TYPE_BYTES 4u

/* Bytes of the body without which a message means nothing; -1 = not one a guest sends. */
static int nvsp_body_bytes(uint32_t type)
{
	switch (type) {
	case NETVSP_INIT:
		return sizeof(struct netvsp_init_wire);
	case NETVSP_SEND_NDIS_VERSION:
		return sizeof(struct netvsp_ndis_version_wire);
	case NETVSP_SEND_NDIS_CONFIG:
		return sizeof(struct netvsp_ndis_config_wire);
	case NETVSP_SEND_RECV_BUFFER:
	case NETVSP_SEND_SEND_BUFFER:
		return sizeof(struct netvsp_buffer_wire);
	case NETVSP_REVOKE_RECV_BUFFER:
	case NETVSP_REVOKE_SEND_BUFFER:
		return sizeof(le16);
	case NETVSP_SEND_RNDIS_PACKET:
		return sizeof(struct netvsp_rndis_wire);
	case NETVSP_SWITCH_DATA_PATH:
		return sizeof(le32);
	case NETVSP_SUBCHANNEL:
		return sizeof(struct netvsp_subchannel_wire);
	default: /* a number from the guest */
		return -1;
	}
}

int nvsp_decode(const void *buf, size_t len_bytes, struct netvsp_message *out)
{
	struct netvsp_message m = {0};
	int need;

	if (len_bytes < NVSP_TYPE_BYTES) {
		return -EBADMSG;
	}
	memcpy(&m, buf, len_bytes < sizeof(m) ? len_bytes : sizeof(m));
	need = nvsp_body_bytes(le32_get(m.type));
	if (need >= 0 && len_bytes < NVSP_TYPE_BYTES + (size_t)need) {
		return -EBADMSG;
	}
	*out = m;
	return need >= 0 ? 0 : -EOPNOTSUPP;
}

uint32_t nvsp_version_choose(uint32_t low, uint32_t high, enum netvsp_status *refused)
{
	static const uint32_t versions[] = {
		NETVSP_VERSION_61, NETVSP_VERSION_6, NETVSP_VERSION_5,
		NETVSP_VERSION_4,  NETVSP_VERSION_2, NETVSP_VERSION_1,
	};

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		if (low <= versions[i] && versions[i] <= high) {
			return versions[i];
		}
	}
	*refused = NETVSP_STATUS_UNSUPPORTED;
	if (low > NETVSP_VERSION_61) {
		*refused = NETVSP_STATUS_TOO_NEW;
	} else if (high < NETVSP_VERSION_1) {
		*refused = NETVSP_STATUS_TOO_OLD;
	}
	return 0;
}
