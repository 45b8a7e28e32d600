/* SPDX-License-Identifier: Apache-2.0 */

/*
 * conn - the connection: contact and version, the list of offers, unload, and which message goes
 * where. Whatever ends a connection (unload, a second contact from a new kernel, a reset of the
 * partition) drains it first: no answer before the last VSP has let go of guest memory, because
 * a kernel that comes next will use that memory for something else.
 */

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "hv/vmbus/vmbus_int.h"

/* In use: what Linux 3.10 and later, FreeBSD 11 and later, and Windows 8 and later ask for. */
static const uint32_t vmbus_versions[] = {
	VMBUS_VERSION(2, 4), VMBUS_VERSION(3, 0), VMBUS_VERSION(4, 0), VMBUS_VERSION(4, 1),
	VMBUS_VERSION(5, 0), VMBUS_VERSION(5, 1), VMBUS_VERSION(5, 2), VMBUS_VERSION(5, 3),
};

static const uint8_t vmbus_conn_moves[VMBUS_CONN_STATE_COUNT] = {
	[VMBUS_CONN_DISCONNECTED] = 1u << VMBUS_CONN_CONNECTED | 1u << VMBUS_CONN_DRAINING,
	[VMBUS_CONN_CONNECTED] = 1u << VMBUS_CONN_DRAINING,
	[VMBUS_CONN_DRAINING] = 1u << VMBUS_CONN_DISCONNECTED,
};

static void vmbus_conn_move(struct vmbus *bus, enum vmbus_conn_state next)
{
	CHECK((vmbus_conn_moves[bus->conn.state] & 1u << next) != 0);
	bus->conn.state = next;
}

bool vmbus_conn_version_known(const struct vmbus *bus, uint32_t version)
{
	for (size_t i = 0; i < ARRAY_LEN(vmbus_versions); i++) {
		if (vmbus_versions[i] == version) {
			return version <= bus->cfg.version_max;
		}
	}
	return false;
}

/* ---- contact ---- */

static void vmbus_conn_contact(struct vmbus *bus, const struct vmbus_contact *c)
{
	struct vmbus_conn *conn = &bus->conn;
	bool supported = vmbus_conn_version_known(bus, c->version) &&
	                 c->target_vp < bus->cfg.vp_count && c->sint != 0 && c->sint < VMBUS_SINTS;
	struct vmbus_version_response_wire w = {
		.header.type = le32_make(VMBUS_MESSAGE_VERSION_RESPONSE),
		.supported = supported ? 1 : 0,
		.connection_id = le32_make(c->version >= VMBUS_VERSION(5, 0) ? VMBUS_POST_CONNECTION
	                                                                     : c->version),
	};

	CHECK(conn->state == VMBUS_CONN_DISCONNECTED);
	conn->contact = *c;
	if (supported) {
		conn->offers_sent = false;
		vmbus_conn_move(bus, VMBUS_CONN_CONNECTED);
		log_limited(&bus->conn_limit, LOG_LEVEL_INFO, VMBUS_TAG,
		            "guest connected vm=%s version=%u.%u vp=%u", bus->cfg.vm_name,
		            c->version >> 16, c->version & 0xffffu, c->target_vp);
	} else {
		log_limited(&bus->conn_limit, LOG_LEVEL_INFO, VMBUS_TAG,
		            "contact refused vm=%s version=%u.%u vp=%u sint=%u", bus->cfg.vm_name,
		            c->version >> 16, c->version & 0xffffu, c->target_vp, c->sint);
		/* Always answer, where a guest can hear it: it waits without a timeout. */
		if (c->target_vp >= bus->cfg.vp_count) {
			conn->contact.target_vp = 0;
		}
		if (c->sint == 0 || c->sint >= VMBUS_SINTS) {
			conn->contact.sint = VMBUS_SINT;
		}
	}
	vmbus_out_push(bus, &w, sizeof(w));
}

static void vmbus_conn_msg_contact(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_contact_wire w;

	(void)len_bytes;
	memcpy(&w, msg, sizeof(w));

	struct vmbus_contact c = {
		.version = le32_get(w.version),
		.target_vp = le32_get(w.target_vp),
		.sint = VMBUS_SINT,
	};

	if (c.version >= VMBUS_VERSION(5, 0)) {
		c.sint = w.sint;
	}
	if (bus->conn.state == VMBUS_CONN_DISCONNECTED) {
		vmbus_out_clear(bus); /* nobody waits for an answer to an earlier contact */
		vmbus_conn_contact(bus, &c);
		return;
	}
	/* Without an unload: another kernel took over, or the last one did not wait for it. */
	bus->conn.next = c;
	vmbus_conn_drain(bus, VMBUS_DRAIN_CONTACT);
}

/* ---- drain ---- */

void vmbus_conn_drain(struct vmbus *bus, enum vmbus_drain why)
{
	bus->conn.drain = why;
	vmbus_out_clear(bus);
	if (bus->conn.state != VMBUS_CONN_DRAINING) {
		vmbus_conn_move(bus, VMBUS_CONN_DRAINING);
		bus->busy_channels++; /* not drained before each was told */
		/* By number: closing may release this channel, and its VSP may rescind others. */
		for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
			if (bus->channels[relid] != NULL) {
				bus->channels[relid]->open_waits = false;
				vmbus_channel_close(bus->channels[relid]);
			}
		}
		bus->busy_channels--;
	}
	vmbus_conn_drained(bus);
}

void vmbus_conn_drained(struct vmbus *bus)
{
	enum vmbus_drain why = bus->conn.drain;

	if (bus->conn.state != VMBUS_CONN_DRAINING || bus->busy_channels != 0) {
		return;
	}
	bus->conn.drain = VMBUS_DRAIN_NONE;
	bus->conn.offers_sent = false;
	vmbus_gpadl_forget_channel(bus, NULL);
	vmbus_conn_move(bus, VMBUS_CONN_DISCONNECTED);
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		struct vmbus_channel *chan = bus->channels[relid];

		if (chan != NULL) {
			chan->told = false;
			if (chan->rescinded) {
				vmbus_channel_release(chan);
			}
		}
	}
	switch (why) {
	case VMBUS_DRAIN_UNLOAD: {
		struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_UNLOAD_RESPONSE)};

		log_limited(&bus->conn_limit, LOG_LEVEL_INFO, VMBUS_TAG, "guest unloaded vm=%s",
		            bus->cfg.vm_name);
		vmbus_out_push(bus, &w, sizeof(w));
		break;
	}
	case VMBUS_DRAIN_CONTACT:
		vmbus_conn_contact(bus, &bus->conn.next);
		break;
	case VMBUS_DRAIN_RESET:
		if (bus->reset_done != NULL) {
			void (*done)(void *arg) = bus->reset_done;

			bus->reset_done = NULL;
			done(bus->reset_arg);
		}
		break;
	case VMBUS_DRAIN_NONE:
	case VMBUS_DRAIN_COUNT:
		break;
	}
}

static void vmbus_conn_msg_unload(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	(void)msg;
	(void)len_bytes;
	vmbus_conn_drain(bus, VMBUS_DRAIN_UNLOAD);
}

/* ---- offers ---- */

static void vmbus_conn_msg_offers(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_header_wire w = {.type = le32_make(VMBUS_MESSAGE_ALL_OFFERS)};

	(void)msg;
	(void)len_bytes;
	if (bus->conn.offers_sent) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG, "offers asked for twice vm=%s",
		            bus->cfg.vm_name);
		return;
	}
	bus->conn.offers_sent = true;
	for (uint32_t relid = 1; relid < VMBUS_RELIDS; relid++) {
		struct vmbus_channel *chan = bus->channels[relid];

		if (chan != NULL && !chan->rescinded) {
			vmbus_channel_tell(chan);
		}
	}
	vmbus_out_push(bus, &w, sizeof(w));
}

/* No socket services yet: say so, rather than let the guest wait. */
static void vmbus_conn_msg_tl_connect(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	struct vmbus_tl_connect_wire w;

	(void)len_bytes;
	memcpy(&w, msg, sizeof(w));

	struct vmbus_tl_result_wire result = {
		.header.type = le32_make(VMBUS_MESSAGE_TL_CONNECT_RESULT),
		.endpoint_id = w.endpoint_id,
		.service_id = w.service_id,
		.status = le32_make(VMBUS_STATUS_REFUSED),
	};

	vmbus_out_push(bus, &result, sizeof(result));
}

/* ---- dispatch ---- */

struct vmbus_conn_entry {
	void (*fn)(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes);
	uint32_t len_min;
	bool any_state; /* else: only while CONNECTED, and only if there is room for an answer */
};

static const struct vmbus_conn_entry vmbus_conn_table[] = {
	[VMBUS_MESSAGE_REQUEST_OFFERS] = {vmbus_conn_msg_offers, sizeof(struct vmbus_header_wire),
                                          false},
	[VMBUS_MESSAGE_OPEN] = {vmbus_channel_msg_open, sizeof(struct vmbus_open_wire), false},
	[VMBUS_MESSAGE_CLOSE] = {vmbus_channel_msg_close, sizeof(struct vmbus_relid_wire), false},
	[VMBUS_MESSAGE_GPADL_HEADER] = {vmbus_gpadl_msg_header,
                                        sizeof(struct vmbus_gpadl_header_wire), false},
	[VMBUS_MESSAGE_GPADL_BODY] = {vmbus_gpadl_msg_body, sizeof(struct vmbus_gpadl_body_wire),
                                      false},
	[VMBUS_MESSAGE_GPADL_TEARDOWN] = {vmbus_gpadl_msg_teardown,
                                          sizeof(struct vmbus_gpadl_teardown_wire), false},
	[VMBUS_MESSAGE_RELID_RELEASED] = {vmbus_channel_msg_released,
                                          sizeof(struct vmbus_relid_wire), false},
	[VMBUS_MESSAGE_CONTACT] = {vmbus_conn_msg_contact, sizeof(struct vmbus_contact_wire), true},
	[VMBUS_MESSAGE_UNLOAD] = {vmbus_conn_msg_unload, sizeof(struct vmbus_header_wire), true},
	[VMBUS_MESSAGE_TL_CONNECT] = {vmbus_conn_msg_tl_connect,
                                      sizeof(struct vmbus_tl_connect_wire), false},
	[VMBUS_MESSAGE_MODIFY] = {vmbus_channel_msg_modify, sizeof(struct vmbus_modify_wire),
                                  false},
};

int vmbus_conn_message(struct vmbus *bus, const uint8_t *msg, uint32_t len_bytes)
{
	const struct vmbus_conn_entry *entry = NULL;
	struct vmbus_header_wire w = {0};

	if (len_bytes >= sizeof(w)) {
		memcpy(&w, msg, sizeof(w));
	}

	uint32_t type = le32_get(w.type);

	if (type < ARRAY_LEN(vmbus_conn_table) && vmbus_conn_table[type].fn != NULL) {
		entry = &vmbus_conn_table[type];
	}
	if (entry == NULL || len_bytes < entry->len_min) {
		log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
		            "message unknown or too short vm=%s type=%u bytes=%u", bus->cfg.vm_name,
		            type, len_bytes);
		return 0;
	}
	/* A reset under way: the guest is about to be gone, nothing of it counts any more. */
	if (bus->conn.drain == VMBUS_DRAIN_RESET) {
		return -EAGAIN;
	}
	if (!entry->any_state) {
		if (bus->conn.state != VMBUS_CONN_CONNECTED) {
			log_limited(&bus->limit, LOG_LEVEL_WARN, VMBUS_TAG,
			            "message without a connection vm=%s type=%u", bus->cfg.vm_name,
			            type);
			return 0;
		}
		if (bus->outq.count >= VMBUS_OUT_POSTS) {
			return -EAGAIN;
		}
	}
	entry->fn(bus, msg, len_bytes);
	return 0;
}
