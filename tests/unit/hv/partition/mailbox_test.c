/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/partition/mailbox.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "hv/save/save.h"
#include "tests/lib/test.h"

static int setup(void **state)
{
	struct mailbox *m = malloc(sizeof(*m));

	*state = m;
	return m == NULL || mailbox_init(m) != 0 ? -1 : 0;
}

static int teardown(void **state)
{
	mailbox_fini(*state);
	free(*state);
	return 0;
}

static bool rings(const struct mailbox *m)
{
	struct pollfd p = {.fd = m->event_fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void messages_come_out_in_order_and_a_full_box_says_so(void **state)
{
	struct mailbox *m = *state;
	struct hypercall_message msg = {.connection_id = 1, .type = 1, .len_bytes = 4};
	struct hypercall_message out;

	assert_false(mailbox_first_message(m, &out));
	for (uint32_t round = 0; round < 3; round++) { /* the ring wraps */
		for (uint32_t i = 0; i < MAILBOX_MESSAGES_MAX; i++) {
			msg.type = i + 1;
			assert_int_equal(mailbox_post(m, &msg), 0);
		}
		assert_int_equal(mailbox_post(m, &msg), -EAGAIN);
		for (uint32_t i = 0; i < MAILBOX_MESSAGES_MAX - round; i++) {
			assert_true(mailbox_first_message(m, &out));
			assert_int_equal(out.type, i + 1);
			assert_true(mailbox_first_message(m, &out)); /* it stays */
			assert_int_equal(out.type, i + 1);
			mailbox_drop_message(m);
		}
		while (mailbox_first_message(m, &out)) {
			mailbox_drop_message(m);
		}
	}
}

static void it_rings_once_until_it_is_acknowledged(void **state)
{
	struct mailbox *m = *state;
	uint64_t vps;

	assert_false(rings(m));
	mailbox_event(m, MAILBOX_RESET);
	assert_true(rings(m));
	mailbox_synic(m, 0);
	mailbox_synic(m, 63);
	mailbox_acknowledge(m);
	assert_false(rings(m));
	mailbox_console(m, 'x'); /* after the acknowledge, before the take: rings again */
	assert_true(rings(m));
	assert_int_equal(mailbox_take_events(m, &vps), MAILBOX_RESET);
	assert_true(vps == (1ull << 63 | 1));
	assert_int_equal(mailbox_take_events(m, &vps), 0);
	assert_int_equal(vps, 0);
}

static void console_bytes_beyond_the_ring_are_counted(void **state)
{
	struct mailbox *m = *state;
	uint8_t buf[1000];
	size_t total = 0;
	size_t n;

	for (uint32_t i = 0; i < MAILBOX_CONSOLE_BYTES + 7; i++) {
		mailbox_console(m, (uint8_t)(i % 251));
	}
	assert_int_equal(m->console_dropped, 7);
	while ((n = mailbox_take_console(m, buf, sizeof(buf))) != 0) {
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(buf[i], (total + i) % 251);
		}
		total += n;
	}
	assert_int_equal(total, MAILBOX_CONSOLE_BYTES);
}

static void the_first_failure_is_the_one_that_counts(void **state)
{
	struct mailbox *m = *state;
	const uint64_t crash[5] = {1, 2, 3, 4, 5};
	uint64_t got[5];
	uint64_t vps;
	char text[16];

	mailbox_failed(m, "the first, and a long one");
	mailbox_failed(m, "second");
	mailbox_text(m, text, sizeof(text));
	assert_string_equal(text, "the first, and ");
	mailbox_crash(m, crash);
	mailbox_take_crash(m, got);
	assert_memory_equal(got, crash, sizeof(crash));
	assert_int_equal(mailbox_take_events(m, &vps), MAILBOX_FAILED | MAILBOX_CRASH);
	mailbox_failed(m, "later");
	mailbox_text(m, text, sizeof(text));
	assert_string_equal(text, "later");
	mailbox_clear(m);
	assert_int_equal(mailbox_take_events(m, &vps), 0);
}

#define VPS 4u
#define POSTS 2000u

struct vp_sim {
	pthread_t thread;
	struct mailbox *m;
	uint32_t index;
};

static void *vp_main(void *arg)
{
	struct vp_sim *vp = arg;
	struct hypercall_message msg = {.connection_id = vp->index, .len_bytes = 4};

	for (uint32_t i = 0; i < POSTS; i++) {
		memcpy(msg.payload, &i, sizeof(i));
		while (mailbox_post(vp->m, &msg) == -EAGAIN) {
			sched_yield();
		}
		mailbox_console(vp->m, (uint8_t)i);
		mailbox_synic(vp->m, vp->index);
	}
	return NULL;
}

/* Several VPs post, one device thread takes, sleeping on the descriptor: none is lost. */
static void no_message_is_lost_between_threads(void **state)
{
	struct mailbox *m = *state;
	struct vp_sim vps[VPS];
	uint32_t next[VPS] = {0};
	uint32_t taken = 0;

	for (uint32_t i = 0; i < VPS; i++) {
		vps[i] = (struct vp_sim){.m = m, .index = i};
		assert_int_equal(pthread_create(&vps[i].thread, NULL, vp_main, &vps[i]), 0);
	}
	while (taken < VPS * POSTS) {
		struct pollfd p = {.fd = m->event_fd, .events = POLLIN};
		struct hypercall_message msg;
		uint64_t synic;
		uint8_t buf[512];

		assert_int_equal(poll(&p, 1, 60000), 1); /* a lost wake would end here */
		mailbox_acknowledge(m);
		while (mailbox_first_message(m, &msg)) {
			uint32_t i;

			mailbox_drop_message(m);

			memcpy(&i, msg.payload, sizeof(i));
			assert_int_equal(i, next[msg.connection_id]);
			next[msg.connection_id]++;
			taken++;
		}
		while (mailbox_take_console(m, buf, sizeof(buf)) != 0) {
		}
		(void)mailbox_take_events(m, &synic);
	}
	for (uint32_t i = 0; i < VPS; i++) {
		assert_int_equal(pthread_join(vps[i].thread, NULL), 0);
	}
}

/* ---- save and load ---- */

static void blob_of(struct mailbox *m, uint8_t **buf, size_t *len)
{
	struct save s;

	save_init(&s);
	mailbox_save(m, &s);
	assert_int_equal(save_finish(&s, buf, len), 0);
}

static int load_of(const uint8_t *buf, size_t len, struct mailbox *m)
{
	struct load l;

	assert_int_equal(load_init(&l, buf, len, NULL), 0);
	return mailbox_load(m, &l);
}

static void what_waits_is_saved_in_order(void **state)
{
	struct mailbox *m = *state;
	struct hypercall_message msg = {.connection_id = 4, .type = 1};
	struct hypercall_message out;
	struct mailbox other;
	uint8_t *buf;
	size_t len;

	blob_of(m, &buf, &len);
	assert_int_equal(len, 0); /* nothing waits: no section */
	free(buf);
	assert_int_equal(mailbox_init(&other), 0);
	assert_int_equal(load_of((const uint8_t *)"", 0, &other), 0);
	assert_false(mailbox_first_message(&other, &out));
	/* From the middle of the ring on, and full. */
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(mailbox_post(m, &msg), 0);
		mailbox_drop_message(m);
	}
	for (uint32_t i = 0; i < MAILBOX_MESSAGES_MAX; i++) {
		msg.len_bytes = i % (sizeof(msg.payload) + 1);
		memset(msg.payload, (int)i, sizeof(msg.payload));
		assert_int_equal(mailbox_post(m, &msg), 0);
	}
	blob_of(m, &buf, &len);
	assert_int_equal(load_of(buf, len, &other), 0);
	for (uint32_t i = 0; i < MAILBOX_MESSAGES_MAX; i++) {
		assert_true(mailbox_first_message(&other, &out));
		assert_int_equal(out.connection_id, 4);
		assert_int_equal(out.len_bytes, i % (sizeof(msg.payload) + 1));
		for (uint32_t k = 0; k < out.len_bytes; k++) {
			assert_int_equal(out.payload[k], i & 0xff);
		}
		mailbox_drop_message(&other);
	}
	assert_false(mailbox_first_message(&other, &out));
	free(buf);
	mailbox_fini(&other);
}

/* A section with a right frame and any payload: refused, or at most what fits. */
static int load_payload(const uint8_t *payload, size_t len)
{
	struct mailbox m;
	struct save s;
	uint8_t *buf;
	size_t bytes;
	int err;

	save_init(&s);
	save_begin(&s, "mailbox", 1, true);
	save_bytes(&s, payload, len);
	save_end(&s);
	assert_int_equal(save_finish(&s, &buf, &bytes), 0);
	assert_int_equal(mailbox_init(&m), 0);
	err = load_of(buf, bytes, &m);
	assert_true(err == 0 || err == -EBADMSG);
	assert_true(m.message_count <= MAILBOX_MESSAGES_MAX);
	for (uint32_t i = 0; i < m.message_count; i++) {
		assert_true(m.messages[i].len_bytes <= sizeof(m.messages[i].payload));
	}
	mailbox_fini(&m);
	free(buf);
	return err;
}

static void a_damaged_section_is_refused_at_every_byte_and_bit(void **state)
{
	uint8_t payload[4 + 2 * 12 + 8 + 3] = {2};
	const size_t second = 4 + 12 + 8;

	(void)state;
	payload[4] = 1;
	payload[8] = 1;
	payload[12] = 8;
	payload[second] = 4;
	payload[second + 4] = 1;
	payload[second + 8] = 3;
	assert_int_equal(load_payload(payload, sizeof(payload)), 0);
	for (size_t len = 0; len < sizeof(payload); len++) {
		assert_int_equal(load_payload(payload, len), -EBADMSG);
	}
	for (size_t bit = 0; bit < 8 * sizeof(payload); bit++) {
		payload[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		(void)load_payload(payload, sizeof(payload));
		payload[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	payload[0] = 1; /* fewer than there are */
	assert_int_equal(load_payload(payload, sizeof(payload)), -EBADMSG);
	payload[1] = 1; /* more than a mailbox has */
	assert_int_equal(load_payload(payload, sizeof(payload)), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(messages_come_out_in_order_and_a_full_box_says_so,
	                                        setup, teardown),
		cmocka_unit_test_setup_teardown(it_rings_once_until_it_is_acknowledged, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(console_bytes_beyond_the_ring_are_counted, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(what_waits_is_saved_in_order, setup, teardown),
		cmocka_unit_test(a_damaged_section_is_refused_at_every_byte_and_bit),
		cmocka_unit_test_setup_teardown(the_first_failure_is_the_one_that_counts, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(no_message_is_lost_between_threads, setup,
	                                        teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
