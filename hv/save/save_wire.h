/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SAVE_SAVE_WIRE_H
#define HV_SAVE_SAVE_WIRE_H

/* save_wire - the header in front of each section of a save blob. docs/formats/save.md. */

#include <stddef.h>
#include <stdint.h>

#include "base/wire.h"

#define SAVE_MAGIC 0x31535747u /* "GWS1" */
#define SAVE_MANDATORY 1u      /* flags: a reader that does not know the section refuses */

struct save_section_wire {
	le32 magic;       /*  0: SAVE_MAGIC */
	le32 crc;         /*  4: crc32c of everything from byte 8 to the end of the payload */
	le32 flags;       /*  8: SAVE_MANDATORY or 0 */
	le32 version;     /* 12: 1.. */
	le32 len_bytes;   /* 16: of the payload, which follows the header */
	le32 reserved;    /* 20: 0 */
	uint8_t name[32]; /* 24: printable ASCII, NUL padded, at least one NUL */
};
WIRE_SIZE(struct save_section_wire, 56);
WIRE_AT(struct save_section_wire, flags, 8);
WIRE_AT(struct save_section_wire, name, 24);

#endif
