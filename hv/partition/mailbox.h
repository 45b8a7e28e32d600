/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_PARTITION_MAILBOX_H
#define HV_PARTITION_MAILBOX_H

/*
 * mailbox - from the VP threads to the device thread: posted messages, console bytes, events.
 *
 * Bounded everywhere: a guest that posts faster than the device thread reads gets "insufficient
 * buffers"; console bytes beyond the ring are dropped and counted. VP threads put, the device
 * thread takes when the event descriptor says so.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "hv/hypercall/hypercall.h"

struct load;
struct save;

#define MAILBOX_MESSAGES_MAX 256u /* a netvsc receive buffer is 147 messages in one go */
#define MAILBOX_CONSOLE_BYTES 65536u
#define MAILBOX_TEXT_MAX 512u

enum mailbox_event {
	MAILBOX_POWER_OFF = 1u << 0,
	MAILBOX_RESET = 1u << 1,
	MAILBOX_CRASH = 1u << 2,  /* crash holds what the guest said */
	MAILBOX_FAILED = 1u << 3, /* text says why */
};

struct mailbox {
	pthread_mutex_t lock; /* guards all below */
	int event_fd;         /* owned; readable = something is inside */
	bool rung;            /* event_fd has been written since the last take */
	struct hypercall_message messages[MAILBOX_MESSAGES_MAX];
	uint32_t message_head, message_count;
	uint8_t console[MAILBOX_CONSOLE_BYTES];
	uint32_t console_head, console_count;
	uint64_t console_dropped;
	uint32_t events;    /* bits of enum mailbox_event */
	uint64_t synic_vps; /* bit per VP whose SynIC registers changed */
	uint64_t crash[5];
	char text[MAILBOX_TEXT_MAX];
};

/* mailbox_init() - Returns 0; -errno of eventfd. */
MUST_USE int mailbox_init(struct mailbox *m);
void mailbox_fini(struct mailbox *m);

/* mailbox_clear() - forget everything (the VPs are gone). */
void mailbox_clear(struct mailbox *m);

/* VP threads. mailbox_post(): 0; -EAGAIN full. */
MUST_USE int mailbox_post(struct mailbox *m, const struct hypercall_message *msg);
void mailbox_console(struct mailbox *m, uint8_t byte);
void mailbox_event(struct mailbox *m, uint32_t event);
void mailbox_synic(struct mailbox *m, uint32_t vp_index);
void mailbox_crash(struct mailbox *m, const uint64_t param[5]);
void mailbox_failed(struct mailbox *m, const char *text);

/* Device thread. */
void mailbox_acknowledge(struct mailbox *m); /* before taking: later puts ring again */
/* The oldest message, which stays until mailbox_drop_message(). Returns false: there is none. */
bool mailbox_first_message(struct mailbox *m, struct hypercall_message *out);
void mailbox_drop_message(struct mailbox *m);
size_t mailbox_take_console(struct mailbox *m, uint8_t *buf, size_t room_bytes);
uint32_t mailbox_take_events(struct mailbox *m, uint64_t *synic_vps);
void mailbox_take_crash(struct mailbox *m, uint64_t param[5]);
void mailbox_text(struct mailbox *m, char *buf, size_t room_bytes);

/*
 * mailbox_save() - section "mailbox": messages that the bus has no room for yet, if there are any.
 * mailbox_load() - the reverse, into an empty one. VPs are stopped.
 * Returns 0, also if there is no such section; the load's error.
 */
void mailbox_save(struct mailbox *m, struct save *s);
MUST_USE int mailbox_load(struct mailbox *m, struct load *l);

#endif
