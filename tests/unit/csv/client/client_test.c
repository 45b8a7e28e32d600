/* SPDX-License-Identifier: Apache-2.0 */

/* The client against messages that the test makes up. With a coordinator: tests/sim/csv_coord. */
#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "csv/client/csv_client.h"
#include "tests/lib/test.h"

static struct csv_client *c;
static struct csv_msg out;
static struct csv_msg in;

#define HEAR(type, request, status) hear_said(&(const struct said){type, request, status})

static int setup(void **state)
{
	const struct csv_client_cfg cfg = {
		.volume = {{9}},
		.node = 3,
		.incarnation = 7,
		.handles_max = 2,
		.leases_max = 2,
		.locks_max = 2,
	};

	(void)state;
	return csv_client_create(&cfg, &c, NULL);
}

static int teardown(void **state)
{
	(void)state;
	csv_client_destroy(c);
	return 0;
}

static bool next(void)
{
	return csv_client_next_message(c, 1, &out);
}

struct said {
	enum csv_msg_type type;
	uint64_t request;
	int status;
};

static int hear_said(const struct said *s)
{
	in.type = s->type;
	in.request = s->request;
	in.status = s->status;
	return csv_client_receive(c, &in, 1);
}

static int welcome(uint64_t term, uint32_t flags)
{
	csv_client_connected(c);
	assert_true(next());
	assert_int_equal(out.type, CSV_MSG_HELLO);
	assert_true(out.hello.node == 3 && out.hello.incarnation == 7);
	assert_false(next());
	memset(&in, 0, sizeof(in));
	in.term = term;
	in.welcome = (struct csv_msg_welcome){flags, 64, 1, 1};
	return HEAR(CSV_MSG_WELCOME, 0, 0);
}

static void submit(struct csv_client_req *req)
{
	csv_client_submit(c, req);
}

static void open_handle(struct csv_client_req *req, uint64_t handle)
{
	*req = (struct csv_client_req){
		.msg = {.type = CSV_MSG_OPEN, .open = {50, 1, handle, 0x33, 0}}};
	submit(req);
}

static void lock(struct csv_client_req *req, uint64_t number, uint32_t mode, uint32_t flags)
{
	*req = (struct csv_client_req){
		.msg = {.type = CSV_MSG_LOCK,
	                .lock = {number, {1, 0}, 0, 100, mode, CSV_LOCK_MODES, flags}},
	};
	submit(req);
}

static void lease(struct csv_client_req *req, uint64_t handle, uint64_t number)
{
	*req = (struct csv_client_req){
		.msg = {.type = CSV_MSG_LAYOUT,
	                .layout = {handle, number, 0, 4096, 0, CSV_MSG_WRITE}},
	};
	submit(req);
}

static void answer(int status)
{
	assert_true(next());
	memset(&in.reply, 0, sizeof(in.reply));
	in.reply.lease = (struct csv_layout_lease){.number = 2, .to_bytes = 4096, .write = true};
	assert_int_equal(HEAR(CSV_MSG_REPLY, out.request, status), 0);
}

static void what_has_no_reply_is_asked_again(void **state)
{
	struct csv_client_req a;
	struct csv_client_req b;

	(void)state;
	open_handle(&a, 1);
	lock(&b, 5, CSV_LOCK_EX, 0);
	assert_false(next()); /* nobody is there */
	assert_int_equal(welcome(4, 0), 0);
	assert_true(next());
	assert_true(out.request == 1 && out.type == CSV_MSG_OPEN && out.acked == 0);
	assert_true(next());
	assert_true(out.request == 2);
	assert_int_equal(HEAR(CSV_MSG_REPLY, 1, 0), 0);
	assert_ptr_equal(csv_client_completed(c), &a);
	assert_int_equal(a.result, 0);
	csv_client_disconnected(c);
	assert_int_equal(welcome(4, 0), 0); /* the same term: nothing is claimed */
	assert_true(next());
	assert_true(out.request == 2 && out.type == CSV_MSG_LOCK && out.acked == 1);
	assert_false(next());
	assert_int_equal(HEAR(CSV_MSG_REPLY, 1, -EIO), 0); /* late: means nothing */
	assert_int_equal(HEAR(CSV_MSG_REPLY, 2, -EAGAIN), 0);
	assert_null(csv_client_completed(c));
	assert_false(next());
	assert_true(csv_client_next_ns(c) == 1 + CSV_CLIENT_RETRY_NS);
	assert_true(csv_client_next_message(c, 1 + CSV_CLIENT_RETRY_NS, &out));
	assert_true(out.request == 2);
}

static void what_is_held_is_claimed_again_in_a_new_term(void **state)
{
	struct csv_client_req a;
	struct csv_client_req b;
	struct csv_client_req l;
	struct csv_client_req close;
	struct csv_client_event event;

	(void)state;
	csv_client_set_until(c, 1000);
	assert_int_equal(welcome(4, 0), 0);
	open_handle(&a, 1);
	answer(0);
	lease(&l, 1, 2);
	answer(0);
	lock(&b, 5, CSV_LOCK_PR, 0);
	answer(0);
	while (csv_client_completed(c) != NULL) {
	}
	assert_non_null(csv_client_lease(c, 2));
	assert_true(csv_client_lease(c, 2)->expires_ns == 1000);

	/* It wants CW instead of PR: only what both allow is certain. */
	lock(&b, 5, CSV_LOCK_CW, CSV_MSG_CONVERT);
	assert_true(next());

	uint64_t doubtful = out.request;

	csv_client_disconnected(c);
	assert_non_null(csv_client_lease(c, 2)); /* I/O goes on */
	assert_int_equal(welcome(5, CSV_MSG_GRACE), 0);
	assert_int_equal(csv_client_state(c), CSV_CLIENT_RECLAIM);
	assert_true(next());
	assert_true(out.type == CSV_MSG_OPEN && out.open.flags == CSV_MSG_RECLAIM && out.term == 5);
	assert_false(next()); /* locks and leases come behind it */
	assert_int_equal(HEAR(CSV_MSG_REPLY, out.request, 0), 0);
	assert_true(next());
	assert_true(out.type == CSV_MSG_LOCK && out.lock.mode == CSV_LOCK_CR);
	assert_int_equal(HEAR(CSV_MSG_REPLY, out.request, 0), 0);
	assert_true(next());
	assert_true(out.type == CSV_MSG_LAYOUT &&
	            out.layout.flags == (CSV_MSG_RECLAIM | CSV_MSG_WRITE));
	assert_int_equal(HEAR(CSV_MSG_REPLY, out.request, -EBUSY), 0); /* somebody else has it */
	assert_null(csv_client_lease(c, 2));
	assert_true(csv_client_next_event(c, &event));
	assert_true(event.type == CSV_CLIENT_LOST && event.what == CSV_MSG_A_LEASE &&
	            event.number == 2);
	assert_true(next());
	assert_true(out.request == doubtful); /* then what is in doubt */
	assert_true(next());
	assert_int_equal(out.type, CSV_MSG_RECLAIMED);
	assert_int_equal(HEAR(CSV_MSG_REPLY, out.request, 0), 0);
	assert_int_equal(csv_client_state(c), CSV_CLIENT_ACTIVE);

	/* An older coordinator is not believed. What was not waited for is gone. */
	csv_client_disconnected(c);
	assert_int_equal(welcome(4, 0), -ESTALE);
	assert_int_equal(welcome(6, 0), 0);
	assert_int_equal(csv_client_state(c), CSV_CLIENT_DEAD);
	assert_ptr_equal(csv_client_completed(c), &b);
	assert_int_equal(b.result, -ESTALE);
	close = (struct csv_client_req){.msg = {.type = CSV_MSG_CLOSE, .number = 1}};
	submit(&close);
	assert_ptr_equal(csv_client_completed(c), &close);
	assert_int_equal(close.result, -ESTALE);
}

/* The connection breaks between claims; meanwhile a lock is wanted in another mode. */
static void a_claim_that_is_repeated_says_the_same(void **state)
{
	struct csv_client_req a;
	struct csv_client_req b;

	(void)state;
	assert_int_equal(welcome(4, 0), 0);
	lock(&a, 5, CSV_LOCK_EX, 0);
	answer(0);
	lock(&b, 6, CSV_LOCK_PW, 0);
	answer(0);
	csv_client_disconnected(c);
	assert_int_equal(welcome(5, CSV_MSG_GRACE), 0);
	answer(0); /* the first one */
	assert_true(next());
	assert_true(out.lock.number == 6 && out.lock.mode == CSV_LOCK_PW);
	lock(&b, 6, CSV_LOCK_CR, CSV_MSG_CONVERT);
	csv_client_disconnected(c);
	assert_int_equal(welcome(5, CSV_MSG_GRACE), 0);
	assert_int_equal(csv_client_state(c), CSV_CLIENT_RECLAIM);
	assert_true(next());
	assert_true(out.lock.number == 6 && out.lock.mode == CSV_LOCK_PW);
	assert_int_equal(HEAR(CSV_MSG_REPLY, out.request, 0), 0);
	assert_true(next());
	assert_int_equal(out.type, CSV_MSG_RECLAIMED);
}

static void what_is_waited_for_is_not_used_any_more(void **state)
{
	struct csv_client_req a;
	struct csv_client_req l;
	struct csv_client_req r = {.msg = {.type = CSV_MSG_RETURN, .number = 2}};
	struct csv_client_event event;

	(void)state;
	assert_int_equal(welcome(4, 0), 0);
	open_handle(&a, 1);
	answer(0);
	lease(&l, 1, 2);
	assert_true(next());

	/* The notice may be faster than the lease. */
	in.event = (struct csv_msg_event){CSV_MSG_A_LEASE, 2, CSV_LOCK_EX};
	assert_int_equal(HEAR(CSV_MSG_NOTICE, 0, 0), 0);
	assert_false(csv_client_next_event(c, &event));
	memset(&in.reply, 0, sizeof(in.reply));
	assert_int_equal(HEAR(CSV_MSG_REPLY, out.request, 0), 0);
	assert_null(csv_client_lease(c, 2));
	assert_true(csv_client_next_event(c, &event));
	assert_true(event.type == CSV_CLIENT_NOTICE && event.mode == CSV_LOCK_EX);
	in.event = (struct csv_msg_event){CSV_MSG_A_LEASE, 2, 0};
	assert_int_equal(HEAR(CSV_MSG_REVOKE, 0, 0), 0);
	assert_true(csv_client_next_event(c, &event));
	assert_int_equal(event.type, CSV_CLIENT_REVOKED);
	submit(&r);
	answer(0);
	in.event = (struct csv_msg_event){CSV_MSG_A_LEASE, 2, 0};
	assert_int_equal(HEAR(CSV_MSG_REVOKE, 0, 0), 0);
	assert_false(csv_client_next_event(c, &event));
	in.event = (struct csv_msg_event){0, 0, 2};
	assert_int_equal(HEAR(CSV_MSG_MOVED, 0, 0), 0);
	assert_int_equal(csv_client_state(c), CSV_CLIENT_OFFLINE);
}

static void tables_and_windows_have_ends(void **state)
{
	static struct csv_client_req ops[100];
	struct csv_client_req a;
	uint32_t sent = 0;

	(void)state;
	assert_int_equal(welcome(4, 0), 0);
	for (uint64_t i = 1; i <= 2; i++) {
		open_handle(&ops[i], i);
	}
	open_handle(&a, 3);
	assert_ptr_equal(csv_client_completed(c), &a);
	assert_int_equal(a.result, -EMFILE);
	lease(&a, 1, 2); /* not open yet */
	assert_ptr_equal(csv_client_completed(c), &a);
	assert_int_equal(a.result, -EBADF);
	while (next()) {
	}
	for (uint32_t i = 10; i < 100; i++) {
		ops[i] = (struct csv_client_req){
			.msg = {.type = CSV_MSG_OP, .op = {.op = CSV_OP_GETATTR, .ino = 5}}};
		submit(&ops[i]);
	}
	while (next()) {
		sent++;
	}
	assert_int_equal(sent, 64);
}

static void creation_survives_every_failed_allocation(void **state)
{
	const struct csv_client_cfg cfg = {.node = 3, .incarnation = 7};
	const struct csv_client_cfg wrong = {.node = 64, .incarnation = 7};
	struct csv_client *x;
	uint32_t k;

	(void)state;
	for (k = 1; fault_arm(FAULT_ALLOC, k), csv_client_create(&cfg, &x, NULL) == -ENOMEM; k++) {
		assert_null(x);
	}
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 3);
	csv_client_destroy(x);
	assert_int_equal(csv_client_create(&wrong, &x, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_has_no_reply_is_asked_again, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_held_is_claimed_again_in_a_new_term, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(a_claim_that_is_repeated_says_the_same, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(what_is_waited_for_is_not_used_any_more, setup,
	                                        teardown),
		cmocka_unit_test_setup_teardown(tables_and_windows_have_ends, setup, teardown),
		cmocka_unit_test(creation_survives_every_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
