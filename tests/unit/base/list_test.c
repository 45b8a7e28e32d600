/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"

#include <string.h>

#include "tests/lib/test.h"

struct item {
	char name;
	struct list link;
};

static const char *names(const struct list *head)
{
	static char text[32];
	char *p = text;

	list_for_each(link, (struct list *)(uintptr_t)head)
	{
		assert_ptr_equal(link->next->prev, link);
		assert_ptr_equal(link->prev->next, link);
		*p++ = list_entry(link, struct item, link)->name;
	}
	*p = '\0';
	return text;
}

struct fix {
	struct list head;
	struct item a, b, c;
};

static void make(struct fix *f)
{
	*f = (struct fix){.a.name = 'a', .b.name = 'b', .c.name = 'c'};
	list_init(&f->head);
	list_init(&f->a.link);
	list_init(&f->b.link);
	list_init(&f->c.link);
}

static void links_keep_their_order(void **state)
{
	struct fix f;

	(void)state;
	make(&f);
	assert_true(list_empty(&f.head));
	assert_null(list_first(&f.head));
	assert_null(list_pop(&f.head));
	list_add_tail(&f.head, &f.b.link);
	list_add_tail(&f.head, &f.c.link);
	list_add_head(&f.head, &f.a.link);
	assert_string_equal(names(&f.head), "abc");
	assert_ptr_equal(list_first(&f.head), &f.a.link);
}

static void a_link_knows_whether_it_is_in_a_list(void **state)
{
	struct fix f;

	(void)state;
	make(&f);
	assert_false(list_linked(&f.a.link));
	list_add_tail(&f.head, &f.a.link);
	list_add_tail(&f.head, &f.b.link);
	assert_true(list_linked(&f.a.link));
	list_del(&f.a.link);
	assert_false(list_linked(&f.a.link));
	list_del(&f.a.link); /* again: nothing */
	assert_string_equal(names(&f.head), "b");
	assert_ptr_equal(list_pop(&f.head), &f.b.link);
	assert_true(list_empty(&f.head));
}

static void the_safe_walk_allows_deletion(void **state)
{
	struct fix f;

	(void)state;
	make(&f);
	list_add_tail(&f.head, &f.a.link);
	list_add_tail(&f.head, &f.b.link);
	list_add_tail(&f.head, &f.c.link);
	list_for_each_safe(link, &f.head)
	{
		if (link != &f.b.link) {
			list_del(link);
			memset(list_entry(link, struct item, link), 0xee, sizeof(struct item));
		}
	}
	assert_string_equal(names(&f.head), "b");
}

static void splicing_moves_all_in_order(void **state)
{
	struct fix f;
	struct list other;

	(void)state;
	make(&f);
	list_init(&other);
	list_splice_tail(&f.head, &other);
	assert_true(list_empty(&f.head));
	list_add_tail(&f.head, &f.a.link);
	list_splice_tail(&f.head, &other);
	assert_string_equal(names(&f.head), "a");
	list_add_tail(&other, &f.b.link);
	list_add_tail(&other, &f.c.link);
	list_splice_tail(&f.head, &other);
	assert_string_equal(names(&f.head), "abc");
	assert_true(list_empty(&other));
	list_splice_tail(&other, &f.head);
	assert_string_equal(names(&other), "abc");
	assert_true(list_empty(&f.head));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_keep_their_order),
		cmocka_unit_test(a_link_knows_whether_it_is_in_a_list),
		cmocka_unit_test(the_safe_walk_allows_deletion),
		cmocka_unit_test(splicing_moves_all_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
