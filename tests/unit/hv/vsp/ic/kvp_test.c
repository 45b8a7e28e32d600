/* SPDX-License-Identifier: Apache-2.0 */

/* What a guest tells of itself. */

#include <string.h>

#include "tests/lib/ic_guest.h"
#include "tests/lib/test.h"

static uint32_t index_of(const struct icg_message *m)
{
	struct ic_kvp_enumerate e;

	assert_int_equal(le16_get(m->h.type), IC_KVP);
	assert_int_equal(m->bytes, sizeof(e));
	memcpy(&e, m->payload, sizeof(e));
	assert_int_equal(e.header.operation, IC_KVP_ENUMERATE);
	assert_int_equal(e.header.pool, IC_KVP_POOL_AUTO);
	return le32_get(e.index);
}

static void answer_item(struct icg *i, const struct icg_message *request, const char *key,
                        const char *value)
{
	struct icg_message m = *request;
	struct ic_kvp_enumerate e;

	memcpy(&e, m.payload, sizeof(e));
	e.value_type = le32_make(IC_KVP_STRING);
	e.key_bytes = le32_make(ic_utf16_encode(key, e.key, sizeof(e.key)) + 2);
	e.value_bytes = le32_make(ic_utf16_encode(value, e.value, sizeof(e.value)) + 2);
	memcpy(m.payload, &e, sizeof(e));
	icg_answer(i, &m, IC_STATUS_OK);
}

/* Answer a whole round, with these values; @begin is its first request. */
static void answer_round(struct icg *i, struct icg_message *m, const char *const *values,
                         uint32_t count)
{
	for (uint32_t n = 0; n < count; n++) {
		const char key[] = {(char)('A' + n), '\0'};

		assert_int_equal(index_of(m), n);
		answer_item(i, m, key, values[n]);
		icg_wait(i, m);
	}
	assert_int_equal(index_of(m), count);
	icg_answer(i, m, IC_STATUS_NO_MORE_ITEMS);
	guest_settle(i->g);
}

static void begin(struct icg *i, struct icg_message *m)
{
	icg_create(ic_kvp_create, i);
	icg_open(i);
	icg_negotiate(i, 4, 0);
	icg_wait(i, m);
}

/* What the service does every half minute; a pause does it at once. */
static void next_round(struct icg *i, struct icg_message *m)
{
	icg_pause(i);
	icg_resume(i);
	icg_wait(i, m);
}

static void all_pairs_are_asked_for(void **state)
{
	static const char *const values[] = {"host.example", "5.0", "192.0.2.7"};
	struct ic_kvp_item items[8];
	struct icg_message m;
	struct icg i;

	(void)state;
	begin(&i, &m);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 0);
	answer_round(&i, &m, values, 3);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 3);
	for (uint32_t n = 0; n < 3; n++) {
		assert_int_equal(items[n].key[0], 'A' + n);
		assert_string_equal(items[n].value, values[n]);
	}
	assert_int_equal(ic_kvp_items(i.vsp, items, 2), 2);
	assert_int_equal(ic_kvp_items(i.vsp, NULL, 0), 0);
	icg_close(&i);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 0); /* nobody there says so any more */
	icg_destroy(&i);
}

static void a_new_round_replaces_the_old_one_when_it_is_complete(void **state)
{
	static const char *const first[] = {"old", "older"};
	static const char *const second[] = {"new"};
	struct ic_kvp_item items[8];
	struct icg_message m;
	struct icg i;

	(void)state;
	begin(&i, &m);
	answer_round(&i, &m, first, 2);
	next_round(&i, &m);
	answer_item(&i, &m, "A", second[0]);
	icg_wait(&i, &m);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 2);
	assert_string_equal(items[0].value, "old");
	icg_answer(&i, &m, IC_STATUS_NO_MORE_ITEMS);
	guest_settle(i.g);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 1);
	assert_string_equal(items[0].value, "new");
	icg_destroy(&i);
}

static void a_daemon_that_fails_does_not_erase_what_is_known(void **state)
{
	static const char *const values[] = {"known"};
	struct ic_kvp_item items[8];
	struct icg_message m;
	struct icg i;

	(void)state;
	begin(&i, &m);
	answer_round(&i, &m, values, 1);
	next_round(&i, &m);
	icg_answer(&i, &m, IC_STATUS_FAIL);
	guest_settle(i.g);
	assert_false(icg_take(&i, &m));
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 1);
	next_round(&i, &m); /* and it is asked again */
	answer_round(&i, &m, values, 1);
	icg_destroy(&i);
}

static void a_late_answer_is_not_that_of_another_question(void **state)
{
	static const char *const values[] = {"right", "also right"};
	struct ic_kvp_item items[8];
	struct icg_message late;
	struct icg_message m;
	struct icg i;

	(void)state;
	begin(&i, &late);
	next_round(&i, &m); /* the guest still works on the first request */
	answer_item(&i, &late, "late", "wrong");
	icg_answer(&i, &late, IC_STATUS_NO_MORE_ITEMS);
	guest_settle(i.g);
	answer_round(&i, &m, values, 2);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 2);
	assert_string_equal(items[0].value, "right");
	/* The same across a move. */
	next_round(&i, &late);
	icg_move(&i, true);
	icg_wait(&i, &m);
	answer_item(&i, &late, "late", "wrong");
	answer_round(&i, &m, values, 2);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 2);
	assert_string_equal(items[0].value, "right");
	icg_destroy(&i);
}

static void a_guest_with_endless_pairs_is_cut_off(void **state)
{
	struct ic_kvp_item items[IC_KVP_ITEMS_MAX + 1];
	struct icg_message m;
	struct icg i;

	(void)state;
	begin(&i, &m);
	for (uint32_t n = 0; n < IC_KVP_ITEMS_MAX; n++) {
		if (n != 0) {
			icg_wait(&i, &m);
		}
		answer_item(&i, &m, "k", "v");
	}
	guest_settle(i.g);
	assert_false(icg_take(&i, &m));
	assert_int_equal(ic_kvp_items(i.vsp, items, IC_KVP_ITEMS_MAX + 1), IC_KVP_ITEMS_MAX);
	icg_destroy(&i);
}

static void pairs_that_lie_are_left_out(void **state)
{
	static const struct {
		uint32_t type, key_bytes, value_bytes;
	} lies[] = {{1, 513, 2}, {1, 2, 2049}, {1, UINT32_MAX, UINT32_MAX}, {4, 2, 4}, {0, 2, 2}};
	static char longest[2048];
	struct ic_kvp_item items[8];
	struct icg_message m;
	struct icg i;

	(void)state;
	memset(longest, 'v', sizeof(longest) - 1);
	begin(&i, &m);
	for (uint32_t n = 0; n < sizeof(lies) / sizeof(lies[0]); n++) {
		struct icg_message a = m;
		struct ic_kvp_enumerate e;

		memset(a.payload + 20, 'x', sizeof(e) - 20);
		memcpy(&e, a.payload, sizeof(e));
		e.value_type = le32_make(lies[n].type);
		e.key_bytes = le32_make(lies[n].key_bytes);
		e.value_bytes = le32_make(lies[n].value_bytes);
		memcpy(a.payload, &e, sizeof(e));
		icg_answer(&i, &a, IC_STATUS_OK);
		icg_wait(&i, &m);
		assert_int_equal(index_of(&m), n + 1);
	}
	answer_item(&i, &m, longest, longest); /* cut */
	icg_wait(&i, &m);
	icg_answer(&i, &m, IC_STATUS_NO_MORE_ITEMS);
	guest_settle(i.g);
	assert_int_equal(ic_kvp_items(i.vsp, items, 8), 1);
	assert_int_equal(items[0].key[0], 'v');
	assert_true(strlen(items[0].value) < sizeof(items[0].value));
	icg_destroy(&i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pairs_are_asked_for),
		cmocka_unit_test(a_new_round_replaces_the_old_one_when_it_is_complete),
		cmocka_unit_test(a_daemon_that_fails_does_not_erase_what_is_known),
		cmocka_unit_test(a_late_answer_is_not_that_of_another_question),
		cmocka_unit_test(a_guest_with_endless_pairs_is_cut_off),
		cmocka_unit_test(pairs_that_lie_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
