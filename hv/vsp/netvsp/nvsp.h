/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_NVSP_H
#define HV_VSP_NETVSP_NVSP_H

/* nvsp - NVSP messages out of bytes: pure. */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/vsp/netvsp/netvsp_wire.h"

/*
 * nvsp_decode() - a message from the guest; what an older guest leaves out of it is zero.
 * Returns 0; -EBADMSG too short for its type; -EOPNOTSUPP a type we do not know (its type is in
 * @out).
 */
MUST_USE int nvsp_decode(const void *buf, size_t len_bytes, struct netvsp_message *out);

/*
 * nvsp_version_choose() - the newest version in [@low, @high] that we speak.
 * @refused: if there is none: why (a status for the guest).
 * Returns the version; 0 = none.
 */
uint32_t nvsp_version_choose(uint32_t low, uint32_t high, enum netvsp_status *refused);

#endif
