/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

/*
 * list - a doubly linked ring through structs that embed a link.
 *
 * The head is a struct list too. A link that is in no list points to itself, so that deleting it
 * again does nothing and list_linked() can tell. No lock: the owner of the head says which thread.
 *
 *	struct job { struct list link; };
 *	struct list jobs;
 *	list_init(&jobs);
 *	list_add_tail(&jobs, &job->link);
 *	list_for_each (link, &jobs) { struct job *j = list_entry(link, struct job, link); }
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* Embed it, or use it as the head. */
struct list {
	struct list *next; /* borrowed: whoever embeds the neighbour */
	struct list *prev;
};

#define list_entry(link, type, member) container_of(link, type, member)

/* list_init() - an empty head, or a link that is in no list. */
static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

/* list_linked() - is this link (initialised before) in a list? */
static inline bool list_linked(const struct list *link)
{
	return link->next != link;
}

/* Put @link, which is in no list, between two neighbours. */
static inline void list_insert(struct list *link, struct list *prev, struct list *next)
{
	link->prev = prev;
	link->next = next;
	prev->next = link;
	next->prev = link;
}

static inline void list_add_head(struct list *head, struct list *link)
{
	list_insert(link, head, head->next);
}

static inline void list_add_tail(struct list *head, struct list *link)
{
	list_insert(link, head->prev, head);
}

/* list_del() - take @link out; nothing happens if it is in no list. */
static inline void list_del(struct list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

/* list_first() - the first link, or NULL. */
static inline struct list *list_first(const struct list *head)
{
	return list_empty(head) ? NULL : head->next;
}

/* list_pop() - take the first link out and return it, or NULL. */
static inline struct list *list_pop(struct list *head)
{
	struct list *first = list_first(head);

	if (first != NULL) {
		list_del(first);
	}
	return first;
}

/* list_splice_tail() - move all of @from, in order, to the end of @to. @from is empty then. */
static inline void list_splice_tail(struct list *to, struct list *from)
{
	if (list_empty(from)) {
		return;
	}
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

/* The body must not delete @link; list_for_each_safe() allows that (and nothing more). */
#define list_for_each(link, head) \
	for (struct list *link = (head)->next; link != (head); link = link->next)

#define list_for_each_safe(link, head)                                                    \
	for (struct list *link = (head)->next, *link##_next = link->next; link != (head); \
	     link = link##_next, link##_next = link->next)

#endif
