/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/partition/mailbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "hv/save/save.h"

#define MAILBOX_SAVE_VERSION 1u

int mailbox_init(struct mailbox *m)
{
	/* Not its rings: they cost memory when they are used. */
	m->rung = false;
	m->message_head = m->message_count = 0;
	m->console_head = m->console_count = 0;
	m->console_dropped = 0;
	m->events = 0;
	m->synic_vps = 0;
	memset(m->crash, 0, sizeof(m->crash));
	m->text[0] = '\0';
	m->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->event_fd < 0) {
		return -errno;
	}
	CHECK(pthread_mutex_init(&m->lock, NULL) == 0);
	return 0;
}

void mailbox_fini(struct mailbox *m)
{
	(void)close(m->event_fd);
	CHECK(pthread_mutex_destroy(&m->lock) == 0);
}

static void mailbox_lock(struct mailbox *m)
{
	CHECK(pthread_mutex_lock(&m->lock) == 0);
}

static void mailbox_unlock(struct mailbox *m)
{
	CHECK(pthread_mutex_unlock(&m->lock) == 0);
}

/* One write however much is put before the device thread looks. Lock held. */
static void mailbox_ring(struct mailbox *m)
{
	const uint64_t one = 1;

	if (!m->rung) {
		m->rung = true;
		CHECK(write(m->event_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	}
}

void mailbox_clear(struct mailbox *m)
{
	mailbox_lock(m);
	m->message_head = 0;
	m->message_count = 0;
	m->events = 0;
	m->synic_vps = 0;
	mailbox_unlock(m);
}

int mailbox_post(struct mailbox *m, const struct hypercall_message *msg)
{
	int err = -EAGAIN;

	mailbox_lock(m);
	if (m->message_count < MAILBOX_MESSAGES_MAX) {
		m->messages[(m->message_head + m->message_count) % MAILBOX_MESSAGES_MAX] = *msg;
		m->message_count++;
		mailbox_ring(m);
		err = 0;
	}
	mailbox_unlock(m);
	return err;
}

void mailbox_console(struct mailbox *m, uint8_t byte)
{
	mailbox_lock(m);
	if (m->console_count < MAILBOX_CONSOLE_BYTES) {
		m->console[(m->console_head + m->console_count) % MAILBOX_CONSOLE_BYTES] = byte;
		m->console_count++;
		mailbox_ring(m);
	} else {
		m->console_dropped++;
	}
	mailbox_unlock(m);
}

void mailbox_event(struct mailbox *m, uint32_t event)
{
	mailbox_lock(m);
	m->events |= event;
	mailbox_ring(m);
	mailbox_unlock(m);
}

void mailbox_synic(struct mailbox *m, uint32_t vp_index)
{
	CHECK(vp_index < 64);
	mailbox_lock(m);
	m->synic_vps |= 1ull << vp_index;
	mailbox_ring(m);
	mailbox_unlock(m);
}

void mailbox_crash(struct mailbox *m, const uint64_t param[5])
{
	mailbox_lock(m);
	memcpy(m->crash, param, sizeof(m->crash));
	m->events |= MAILBOX_CRASH;
	mailbox_ring(m);
	mailbox_unlock(m);
}

void mailbox_failed(struct mailbox *m, const char *text)
{
	mailbox_lock(m);
	if ((m->events & MAILBOX_FAILED) == 0) { /* the first reason is the true one */
		(void)snprintf(m->text, sizeof(m->text), "%s", text);
	}
	m->events |= MAILBOX_FAILED;
	mailbox_ring(m);
	mailbox_unlock(m);
}

void mailbox_acknowledge(struct mailbox *m)
{
	uint64_t count;

	mailbox_lock(m);
	(void)!read(m->event_fd, &count, sizeof(count));
	m->rung = false;
	mailbox_unlock(m);
}

bool mailbox_first_message(struct mailbox *m, struct hypercall_message *out)
{
	bool there;

	mailbox_lock(m);
	there = m->message_count != 0;
	if (there) {
		*out = m->messages[m->message_head];
	}
	mailbox_unlock(m);
	return there;
}

void mailbox_drop_message(struct mailbox *m)
{
	mailbox_lock(m);
	CHECK(m->message_count != 0);
	m->message_head = (m->message_head + 1) % MAILBOX_MESSAGES_MAX;
	m->message_count--;
	mailbox_unlock(m);
}

size_t mailbox_take_console(struct mailbox *m, uint8_t *buf, size_t room_bytes)
{
	size_t n = 0;

	mailbox_lock(m);
	while (n < room_bytes && m->console_count != 0) {
		buf[n++] = m->console[m->console_head];
		m->console_head = (m->console_head + 1) % MAILBOX_CONSOLE_BYTES;
		m->console_count--;
	}
	mailbox_unlock(m);
	return n;
}

uint32_t mailbox_take_events(struct mailbox *m, uint64_t *synic_vps)
{
	uint32_t events;

	mailbox_lock(m);
	events = m->events;
	*synic_vps = m->synic_vps;
	m->events = 0;
	m->synic_vps = 0;
	mailbox_unlock(m);
	return events;
}

void mailbox_take_crash(struct mailbox *m, uint64_t param[5])
{
	mailbox_lock(m);
	memcpy(param, m->crash, sizeof(m->crash));
	mailbox_unlock(m);
}

void mailbox_text(struct mailbox *m, char *buf, size_t room_bytes)
{
	mailbox_lock(m);
	(void)snprintf(buf, room_bytes, "%s", m->text);
	mailbox_unlock(m);
}

void mailbox_save(struct mailbox *m, struct save *s)
{
	mailbox_lock(m);
	if (m->message_count != 0) {
		save_begin(s, "mailbox", MAILBOX_SAVE_VERSION, true);
		save_u32(s, m->message_count);
		for (uint32_t i = 0; i < m->message_count; i++) {
			const struct hypercall_message *msg =
				&m->messages[(m->message_head + i) % MAILBOX_MESSAGES_MAX];

			save_u32(s, msg->connection_id);
			save_u32(s, msg->type);
			save_blob(s, msg->payload, msg->len_bytes);
		}
		save_end(s);
	}
	mailbox_unlock(m);
}

static void mailbox_load_message(struct mailbox *m, struct load *l)
{
	struct hypercall_message msg = {.len_bytes = 0};
	const uint8_t *payload;

	msg.connection_id = load_u32(l);
	msg.type = load_u32(l);
	payload = load_blob(l, sizeof(msg.payload), &msg.len_bytes);
	if (payload != NULL) {
		memcpy(msg.payload, payload, msg.len_bytes);
	}
	if (load_error(l) == 0 && mailbox_post(m, &msg) != 0) {
		(void)load_fail(l, -EBADMSG, "more messages than fit");
	}
}

int mailbox_load(struct mailbox *m, struct load *l)
{
	int err = load_begin(l, "mailbox", MAILBOX_SAVE_VERSION);
	uint32_t count;

	if (err == -ENOENT) {
		return 0;
	}
	if (err != 0) {
		return err;
	}
	count = load_u32_max(l, MAILBOX_MESSAGES_MAX, "messages");
	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		mailbox_load_message(m, l);
	}
	load_end(l);
	return load_error(l);
}
