/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_VMBUS_WIRE_H
#define HV_VMBUS_VMBUS_WIRE_H

/*
 * vmbus_wire - control messages (payloads of SynIC messages) and packet headers of VMBus.
 *
 * G = sent by the guest, H = sent by the host. Only layout; docs/spec/vmbus.md says which of it
 * we use and how.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/guid.h"
#include "base/wire.h"

#define VMBUS_USER_BYTES 120u /* free for the device, in an offer and in an open */

enum vmbus_message_type {
	VMBUS_MESSAGE_OFFER = 1,
	VMBUS_MESSAGE_RESCIND = 2,
	VMBUS_MESSAGE_REQUEST_OFFERS = 3,
	VMBUS_MESSAGE_ALL_OFFERS = 4,
	VMBUS_MESSAGE_OPEN = 5,
	VMBUS_MESSAGE_OPEN_RESULT = 6,
	VMBUS_MESSAGE_CLOSE = 7,
	VMBUS_MESSAGE_GPADL_HEADER = 8,
	VMBUS_MESSAGE_GPADL_BODY = 9,
	VMBUS_MESSAGE_GPADL_CREATED = 10,
	VMBUS_MESSAGE_GPADL_TEARDOWN = 11,
	VMBUS_MESSAGE_GPADL_TORNDOWN = 12,
	VMBUS_MESSAGE_RELID_RELEASED = 13,
	VMBUS_MESSAGE_CONTACT = 14,
	VMBUS_MESSAGE_VERSION_RESPONSE = 15,
	VMBUS_MESSAGE_UNLOAD = 16,
	VMBUS_MESSAGE_UNLOAD_RESPONSE = 17,
	VMBUS_MESSAGE_TL_CONNECT = 21,
	VMBUS_MESSAGE_MODIFY = 22,
	VMBUS_MESSAGE_TL_CONNECT_RESULT = 23,
	VMBUS_MESSAGE_MODIFY_RESPONSE = 24,
};

/* In front of every message. REQUEST_OFFERS (G), ALL_OFFERS (H), UNLOAD (G) and UNLOAD_RESPONSE
 * (H) are nothing but this. */
struct vmbus_header_wire {
	le32 type;     /*  0: enum vmbus_message_type */
	le32 reserved; /*  4 */
};
WIRE_SIZE(struct vmbus_header_wire, 8);

#define VMBUS_OFFER_DEDICATED 1u /* dedicated: event flags only, no shared interrupt page */
#define VMBUS_OFFER_NO_MONITOR 0xffu

struct vmbus_offer_wire { /* H */
	struct vmbus_header_wire header;
	struct guid interface_id;       /*   8 */
	struct guid instance_id;        /*  24 */
	uint8_t reserved[16];           /*  40 */
	le16 flags;                     /*  56: VMBUS_OFFER_* of vmbus.h */
	le16 mmio_mib;                  /*  58 */
	uint8_t user[VMBUS_USER_BYTES]; /*  60: pipes: le32 mode, 4 = message */
	le16 subchannel_index;          /* 180 */
	le16 mmio_optional_mib;         /* 182 */
	le32 relid;                     /* 184 */
	uint8_t monitor_id;             /* 188 */
	uint8_t monitor_allocated;      /* 189 */
	le16 dedicated;                 /* 190 */
	le32 connection_id;             /* 192: for HvSignalEvent */
};
WIRE_SIZE(struct vmbus_offer_wire, 196);
WIRE_AT(struct vmbus_offer_wire, flags, 56);
WIRE_AT(struct vmbus_offer_wire, subchannel_index, 180);
WIRE_AT(struct vmbus_offer_wire, relid, 184);
WIRE_AT(struct vmbus_offer_wire, connection_id, 192);

struct vmbus_relid_wire { /* RESCIND (H), CLOSE (G), RELID_RELEASED (G) */
	struct vmbus_header_wire header;
	le32 relid; /*  8 */
};
WIRE_SIZE(struct vmbus_relid_wire, 12);

struct vmbus_open_wire { /* G */
	struct vmbus_header_wire header;
	le32 relid;                     /*  8 */
	le32 open_id;                   /* 12: comes back in the result */
	le32 ring_gpadl;                /* 16 */
	le32 target_vp;                 /* 20 */
	le32 downstream_page;           /* 24: first page of the ring to the guest */
	uint8_t user[VMBUS_USER_BYTES]; /* 28 */
};
WIRE_SIZE(struct vmbus_open_wire, 148);
WIRE_AT(struct vmbus_open_wire, downstream_page, 24);

struct vmbus_open_result_wire { /* H */
	struct vmbus_header_wire header;
	le32 relid;   /*  8 */
	le32 open_id; /* 12 */
	le32 status;  /* 16: 0 = open */
};
WIRE_SIZE(struct vmbus_open_result_wire, 20);

struct vmbus_gpadl_header_wire { /* G */
	struct vmbus_header_wire header;
	le32 relid;       /*  8 */
	le32 gpadl;       /* 12: the guest's number, unique per connection */
	le16 range_bytes; /* 16: of all ranges, in this message and the bodies */
	le16 range_count; /* 18 */
			  /* then ranges: struct vmbus_range_wire, each with its le64 PFNs */
};
WIRE_SIZE(struct vmbus_gpadl_header_wire, 20);

/* One buffer as a list of pages: in a GPADL and in a GPA-direct packet. */
struct vmbus_range_wire {
	le32 byte_count;  /* 0 */
	le32 byte_offset; /* 4: in the first page */
			  /* then le64 pfn[ceil((byte_offset + byte_count) / 4096)] */
};
WIRE_SIZE(struct vmbus_range_wire, 8);

struct vmbus_gpadl_body_wire { /* G */
	struct vmbus_header_wire header;
	le32 number; /*  8: from 1; informational */
	le32 gpadl;  /* 12 */
		     /* then le64 pfn[], at most 28 */
};
WIRE_SIZE(struct vmbus_gpadl_body_wire, 16);

struct vmbus_gpadl_created_wire { /* H */
	struct vmbus_header_wire header;
	le32 relid;  /*  8 */
	le32 gpadl;  /* 12 */
	le32 status; /* 16: 0 = ready */
};
WIRE_SIZE(struct vmbus_gpadl_created_wire, 20);

struct vmbus_gpadl_teardown_wire { /* G */
	struct vmbus_header_wire header;
	le32 relid; /*  8 */
	le32 gpadl; /* 12 */
};
WIRE_SIZE(struct vmbus_gpadl_teardown_wire, 16);

struct vmbus_gpadl_torndown_wire { /* H */
	struct vmbus_header_wire header;
	le32 gpadl; /*  8 */
};
WIRE_SIZE(struct vmbus_gpadl_torndown_wire, 12);

struct vmbus_contact_wire { /* G */
	struct vmbus_header_wire header;
	le32 version;   /*  8: major << 16 | minor */
	le32 target_vp; /* 12: gets our messages */
	uint8_t sint;   /* 16: for our messages, from 5.0; before: interrupt page GPA up to 23 */
	uint8_t vtl;    /* 17 */
	uint8_t pad[2]; /* 18 */
	le32 features;  /* 20: from 6.0 */
	le64 monitor_page[2]; /* 24: GPAs; to the guest, to the host */
};
WIRE_SIZE(struct vmbus_contact_wire, 40);
WIRE_AT(struct vmbus_contact_wire, monitor_page, 24);

struct vmbus_version_response_wire { /* H; 16 bytes in every version */
	struct vmbus_header_wire header;
	uint8_t supported;        /*  8 */
	uint8_t connection_state; /*  9: 0 = fine */
	le16 reserved;            /* 10 */
	le32 connection_id;       /* 12: for later posts, from 5.0; before: the version again */
};
WIRE_SIZE(struct vmbus_version_response_wire, 16);

struct vmbus_tl_connect_wire { /* G */
	struct vmbus_header_wire header;
	struct guid endpoint_id; /*  8 */
	struct guid service_id;  /* 24 */
};
WIRE_SIZE(struct vmbus_tl_connect_wire, 40);

struct vmbus_tl_result_wire { /* H */
	struct vmbus_header_wire header;
	struct guid endpoint_id; /*  8 */
	struct guid service_id;  /* 24 */
	le32 status;             /* 40 */
};
WIRE_SIZE(struct vmbus_tl_result_wire, 44);

struct vmbus_modify_wire { /* G */
	struct vmbus_header_wire header;
	le32 relid;     /*  8 */
	le32 target_vp; /* 12 */
};
WIRE_SIZE(struct vmbus_modify_wire, 16);

struct vmbus_modify_response_wire { /* H, from 5.3 */
	struct vmbus_header_wire header;
	le32 relid;  /*  8 */
	le32 status; /* 12 */
};
WIRE_SIZE(struct vmbus_modify_response_wire, 16);

/* ---- in the rings ---- */

struct vmbus_packet_wire {
	le16 type;           /*  0: enum vmbus_packet_type */
	le16 header_words;   /*  2: this and the type's own header [8 bytes] */
	le16 total_words;    /*  4: with the payload, without the trailer [8 bytes] */
	le16 flags;          /*  6 */
	le64 transaction_id; /*  8 */
};
WIRE_SIZE(struct vmbus_packet_wire, 16);

struct vmbus_trailer_wire { /* behind each packet */
	le32 reserved;      /* 0 */
	le32 start;         /* 4: index at which the packet begins */
};
WIRE_SIZE(struct vmbus_trailer_wire, 8);

struct vmbus_ranges_wire { /* the type's own header of a GPA-direct packet */
	le32 reserved;     /* 0 */
	le32 count;        /* 4 */
			   /* then struct vmbus_range_wire, each with its PFNs */
};
WIRE_SIZE(struct vmbus_ranges_wire, 8);

/* NTSTATUS values in our answers; the guest looks only for 0. */
#define VMBUS_STATUS_OK 0u
#define VMBUS_STATUS_UNSUCCESSFUL 0xc0000001u
#define VMBUS_STATUS_INVALID 0xc000000du
#define VMBUS_STATUS_NO_RESOURCES 0xc000009au
#define VMBUS_STATUS_REFUSED 0xc0000236u

#endif
