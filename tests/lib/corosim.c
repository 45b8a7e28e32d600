/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/corosim.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define US 1000ull
#define MS 1000000ull

enum msg_kind { MSG_DATA, MSG_JOIN, MSG_LEAVE };

struct msg {
	uint32_t refs;
	enum msg_kind kind;
	uint32_t from;
	struct view_peer group[COROSIM_NODES_MAX]; /* after a join or leave */
	uint32_t group_count;
	size_t len;
	uint8_t bytes[];
};

struct ring {
	struct view_ring id;
	uint32_t members[COROSIM_NODES_MAX];
	uint32_t count;
	struct msg **msgs; /* in order */
	uint32_t msg_count;
	uint32_t msg_room;
	uint32_t holder; /* broken: this one can still send; 0 = nobody */
	bool broken;
	struct ring *next; /* all rings ever, freed at the end */
};

struct node {
	bool up;
	bool joined; /* a join was put into the ring */
	bool heard;  /* and our process has seen it */
	uint32_t part;
	uint32_t life; /* of the process: events for an older one are dropped */
	uint64_t seq;  /* of the last ring, kept over restarts */
	struct ring *ring;
	bool *got; /* [got_room], of ring->msgs */
	uint32_t got_room;
	uint32_t shown;   /* delivered up to here */
	struct msg **out; /* not in a ring yet */
	uint32_t out_count;
	uint32_t out_room;
	uint64_t show_ns; /* when the last event reaches the process: they stay in order */
};

struct event {
	uint64_t at_ns;
	uint64_t order;
	corosim_fn fn;
	void *arg;
	uint32_t a;
	uint64_t b;
};

struct corosim {
	uint32_t count;
	uint64_t random;
	uint64_t now_ns;
	uint64_t order;
	const struct corosim_ops *ops;
	void *arg;
	struct event *heap;
	uint32_t heap_count;
	uint32_t heap_room;
	uint32_t change; /* counts changes of who reaches whom */
	struct ring *rings;
	struct node nodes[COROSIM_NODES_MAX + 1];
};

/* What travels with an event. */
struct parcel {
	struct corosim *s;
	struct ring *ring;
	struct msg *msg;
	uint32_t life;
	uint32_t from;
	struct view_peer group[COROSIM_NODES_MAX];
	uint32_t group_count;
	bool flag;
};

static void *need(void *ptr)
{
	CHECK(ptr != NULL);
	return ptr;
}

uint32_t corosim_random(struct corosim *s, uint32_t n)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return (uint32_t)((s->random * 2685821657736338717ull) >> 32) % n;
}

uint64_t corosim_now(const struct corosim *s)
{
	return s->now_ns;
}

static bool event_before(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void corosim_after(struct corosim *s, uint64_t delay_ns, corosim_fn fn, void *arg, uint32_t a,
                   uint64_t b)
{
	struct event e = {.at_ns = s->now_ns + delay_ns,
	                  .order = s->order++,
	                  .fn = fn,
	                  .arg = arg,
	                  .a = a,
	                  .b = b};

	if (s->heap_count == s->heap_room) {
		s->heap_room = s->heap_room == 0 ? 1024 : s->heap_room * 2;
		s->heap = need(realloc(s->heap, s->heap_room * sizeof(*s->heap)));
	}

	uint32_t at = s->heap_count++;

	while (at > 0 && event_before(&e, &s->heap[(at - 1) / 2])) {
		s->heap[at] = s->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	s->heap[at] = e;
}

static struct event heap_pop(struct corosim *s)
{
	struct event first = s->heap[0];
	struct event last = s->heap[--s->heap_count];
	uint32_t at = 0;

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= s->heap_count) {
			break;
		}
		if (child + 1 < s->heap_count &&
		    event_before(&s->heap[child + 1], &s->heap[child])) {
			child++;
		}
		if (!event_before(&s->heap[child], &last)) {
			break;
		}
		s->heap[at] = s->heap[child];
		at = child;
	}
	s->heap[at] = last;
	return first;
}

void corosim_run(struct corosim *s, uint64_t until_ns, const bool *stop)
{
	while (s->heap_count != 0 && s->heap[0].at_ns <= until_ns && !*stop) {
		struct event e = heap_pop(s);

		s->now_ns = e.at_ns;
		e.fn(e.arg, e.a, e.b);
	}
	if (!*stop) {
		s->now_ns = until_ns;
	}
}

static struct msg *msg_make(enum msg_kind kind, uint32_t from, const void *buf, size_t len)
{
	struct msg *m = need(calloc(1, sizeof(*m) + len));

	m->refs = 1;
	m->kind = kind;
	m->from = from;
	m->len = len;
	if (len != 0) {
		memcpy(m->bytes, buf, len);
	}
	return m;
}

static void msg_put(struct msg *m)
{
	if (m != NULL && --m->refs == 0) {
		free(m);
	}
}

/* ---- to the process ---- */

static struct parcel *parcel_make(struct corosim *s, uint32_t node)
{
	struct parcel *p = need(calloc(1, sizeof(*p)));

	p->s = s;
	p->life = s->nodes[node].life;
	return p;
}

static bool parcel_alive(const struct parcel *p, uint32_t node)
{
	return p->s->nodes[node].life == p->life && p->s->nodes[node].up;
}

/* In order, after a little while. */
static void show(struct corosim *s, uint32_t node, corosim_fn fn, struct parcel *p)
{
	struct node *n = &s->nodes[node];
	uint64_t at = s->now_ns + (5 + corosim_random(s, 150)) * US;

	n->show_ns = at > n->show_ns ? at : n->show_ns + 1;
	corosim_after(s, n->show_ns - s->now_ns, fn, p, node, 0);
}

static void on_show_message(void *arg, uint32_t node, uint64_t b)
{
	struct parcel *p = arg;

	(void)b;
	if (parcel_alive(p, node)) {
		const struct view_peer from = {.nodeid = p->msg->from, .pid = COROSIM_PID};

		p->s->ops->message(p->s->arg, node, &from, p->msg->bytes, p->msg->len);
	}
	msg_put(p->msg);
	free(p);
}

static void on_show_group(void *arg, uint32_t node, uint64_t b)
{
	struct parcel *p = arg;

	(void)b;
	if (parcel_alive(p, node)) {
		p->s->ops->group(p->s->arg, node, p->group, p->group_count);
	}
	free(p);
}

static void on_show_ring(void *arg, uint32_t node, uint64_t b)
{
	struct parcel *p = arg;

	(void)b;
	if (parcel_alive(p, node)) {
		p->s->ops->ring(p->s->arg, node, &p->ring->id, p->ring->members, p->ring->count);
	}
	free(p);
}

static void on_show_quorum(void *arg, uint32_t node, uint64_t b)
{
	struct parcel *p = arg;

	(void)b;
	if (parcel_alive(p, node) && p->s->nodes[node].ring == p->ring) {
		p->s->ops->quorum(p->s->arg, node, p->ring->id.seq,
		                  p->ring->count * 2 > p->s->count);
	}
	free(p);
}

static void show_group(struct corosim *s, uint32_t node, const struct view_peer *group,
                       uint32_t count)
{
	struct parcel *p = parcel_make(s, node);

	memcpy(p->group, group, count * sizeof(*group));
	p->group_count = count;
	show(s, node, on_show_group, p);
}

/* Ring and quorum: by two ways. */
static void show_ring(struct corosim *s, uint32_t node)
{
	struct parcel *p = parcel_make(s, node);
	struct parcel *q = parcel_make(s, node);
	uint64_t later = corosim_random(s, 5) == 0 ? 0 : corosim_random(s, 3000) * US;

	p->ring = s->nodes[node].ring;
	q->ring = p->ring;
	show(s, node, on_show_ring, p);
	corosim_after(s, later, on_show_quorum, q, node, 0);
}

/* The next message of the ring's order, at this node. */
static void show_msg(struct corosim *s, uint32_t node, struct msg *m)
{
	struct node *n = &s->nodes[node];

	if (m->kind == MSG_JOIN && m->from == node) {
		n->heard = true;
		show_group(s, node, m->group, m->group_count);
		show_ring(s, node);
		return;
	}
	if (!n->heard) {
		return;
	}
	if (m->kind != MSG_DATA) {
		show_group(s, node, m->group, m->group_count);
		return;
	}

	struct parcel *p = parcel_make(s, node);

	p->msg = m;
	m->refs++;
	show(s, node, on_show_message, p);
}

static void show_more(struct corosim *s, uint32_t node)
{
	struct node *n = &s->nodes[node];

	while (n->shown < n->ring->msg_count && n->shown < n->got_room && n->got[n->shown]) {
		show_msg(s, node, n->ring->msgs[n->shown++]);
	}
}

/* ---- in the ring ---- */

static void got(struct corosim *s, uint32_t node, uint32_t index)
{
	struct node *n = &s->nodes[node];

	if (index >= n->got_room) {
		uint32_t room = n->got_room == 0 ? 64 : n->got_room;

		while (room <= index) {
			room *= 2;
		}
		n->got = need(realloc(n->got, room * sizeof(*n->got)));
		memset(n->got + n->got_room, 0, (room - n->got_room) * sizeof(*n->got));
		n->got_room = room;
	}
	n->got[index] = true;
	show_more(s, node);
}

static void on_receive(void *arg, uint32_t node, uint64_t b)
{
	struct parcel *p = arg;
	struct node *n = &p->s->nodes[node];

	if (n->up && n->ring == p->ring && p->s->nodes[p->from].part == n->part) {
		got(p->s, node, (uint32_t)b);
	}
	free(p);
}

/* Put a message into the ring's order and on the wire. */
static void originate(struct corosim *s, uint32_t node, struct msg *m)
{
	struct ring *r = s->nodes[node].ring;

	if (m->kind != MSG_DATA) {
		s->nodes[node].joined = m->kind == MSG_JOIN;
		for (uint32_t i = 0; i < r->count; i++) {
			if (s->nodes[r->members[i]].joined) {
				m->group[m->group_count++] = (struct view_peer){
					.nodeid = r->members[i], .pid = COROSIM_PID};
			}
		}
	}
	if (r->msg_count == r->msg_room) {
		r->msg_room = r->msg_room == 0 ? 64 : r->msg_room * 2;
		r->msgs = need(realloc(r->msgs, r->msg_room * sizeof(struct msg *)));
	}

	uint32_t index = r->msg_count++;

	r->msgs[index] = m;
	got(s, node, index);
	for (uint32_t i = 0; i < r->count; i++) {
		uint32_t to = r->members[i];
		uint64_t delay = (30 + corosim_random(s, 200)) * US;

		if (to == node || !s->nodes[to].up || s->nodes[to].part != s->nodes[node].part) {
			continue;
		}
		if (corosim_random(s, 30) == 0) {
			delay += corosim_random(s, 60) * MS; /* lost, and sent again */
		}

		struct parcel *p = parcel_make(s, to);

		p->ring = r;
		p->from = node;
		corosim_after(s, delay, on_receive, p, to, index);
	}
}

static void flush_out(struct corosim *s, uint32_t node)
{
	struct node *n = &s->nodes[node];
	uint32_t count = n->out_count;

	if (!n->up || n->ring == NULL || (n->ring->broken && n->ring->holder != node)) {
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		originate(s, node, n->out[i]);
	}
	n->out_count = 0;
}

static void on_token(void *arg, uint32_t node, uint64_t b)
{
	(void)b;
	flush_out(arg, node);
}

static void enqueue(struct corosim *s, uint32_t node, struct msg *m)
{
	struct node *n = &s->nodes[node];

	if (n->out_count == n->out_room) {
		n->out_room = n->out_room == 0 ? 16 : n->out_room * 2;
		n->out = need(realloc(n->out, n->out_room * sizeof(struct msg *)));
	}
	n->out[n->out_count++] = m;
	corosim_after(s, (10 + corosim_random(s, 150)) * US, on_token, s, node, 0);
}

void corosim_multicast(struct corosim *s, uint32_t node, const void *buf, size_t len)
{
	if (s->nodes[node].up) {
		enqueue(s, node, msg_make(MSG_DATA, node, buf, len));
	}
}

/* ---- rings come and go ---- */

/* What a node still sees of its old ring: all that any of those who go on with it has. */
static void recover(struct corosim *s, uint32_t node, const uint32_t *together, uint32_t count)
{
	struct node *n = &s->nodes[node];
	struct ring *r = n->ring;

	for (uint32_t i = n->shown; r != NULL && i < r->msg_count; i++) {
		bool have = false;

		for (uint32_t k = 0; k < count; k++) {
			const struct node *o = &s->nodes[together[k]];

			have |= o->ring == r && i < o->got_room && o->got[i];
		}
		if (have) {
			show_msg(s, node, r->msgs[i]);
		}
	}
}

static void ring_install(struct corosim *s, const uint32_t *members, uint32_t count)
{
	struct ring *r = need(calloc(1, sizeof(*r)));
	struct view_peer group[COROSIM_NODES_MAX];
	uint32_t group_count = 0;

	for (uint32_t i = 0; i < count; i++) {
		recover(s, members[i], members, count);
	}
	memcpy(r->members, members, count * sizeof(*members));
	r->count = count;
	r->id.nodeid = members[0];
	for (uint32_t i = 0; i < count; i++) {
		const struct node *n = &s->nodes[members[i]];

		r->id.seq = n->seq > r->id.seq ? n->seq : r->id.seq;
		if (n->joined) {
			group[group_count++] =
				(struct view_peer){.nodeid = members[i], .pid = COROSIM_PID};
		}
	}
	r->id.seq += 4;
	r->next = s->rings;
	s->rings = r;
	for (uint32_t i = 0; i < count; i++) {
		struct node *n = &s->nodes[members[i]];

		n->ring = r;
		n->seq = r->id.seq;
		n->shown = 0;
		if (n->got_room != 0) {
			memset(n->got, 0, n->got_room * sizeof(*n->got));
		}
		n->heard = n->joined;
		if (n->joined) {
			show_group(s, members[i], group, group_count);
			show_ring(s, members[i]);
		}
		corosim_after(s, corosim_random(s, 500) * US, on_token, s, members[i], 0);
	}
}

static uint32_t part_members(const struct corosim *s, uint32_t part, uint32_t *members)
{
	uint32_t count = 0;

	for (uint32_t i = 1; i <= s->count; i++) {
		if (s->nodes[i].up && s->nodes[i].part == part) {
			members[count++] = i;
		}
	}
	return count;
}

static void on_reform(void *arg, uint32_t a, uint64_t change)
{
	struct corosim *s = arg;
	uint32_t members[COROSIM_NODES_MAX];

	(void)a;
	if (change != s->change) {
		return;
	}
	for (uint32_t part = 0; part <= s->count; part++) {
		uint32_t count = part_members(s, part, members);
		const struct ring *r = count == 0 ? NULL : s->nodes[members[0]].ring;

		if (count != 0 && (r == NULL || r->broken || r->count != count ||
		                   memcmp(r->members, members, count * sizeof(*members)) != 0)) {
			ring_install(s, members, count);
		}
	}
}

/* Somebody reaches somebody no more, or again. */
static void disturb(struct corosim *s)
{
	bool loss = false;

	s->change++;
	for (uint32_t i = 1; i <= s->count; i++) {
		struct ring *r = s->nodes[i].ring;

		for (uint32_t k = 0; s->nodes[i].up && r != NULL && k < r->count; k++) {
			const struct node *m = &s->nodes[r->members[k]];

			if (r->broken || (m->up && m->ring == r && m->part == s->nodes[i].part)) {
				continue;
			}
			r->broken = true;
			r->holder = r->members[corosim_random(s, r->count)];
			loss = true;
		}
		loss |= r != NULL && r->broken;
	}
	corosim_after(s, (loss ? 2000 : 300) * MS + corosim_random(s, loss ? 200 : 1500) * MS,
	              on_reform, s, 0, s->change);
}

void corosim_part(struct corosim *s, const uint32_t *part_of_node)
{
	for (uint32_t i = 1; i <= s->count; i++) {
		CHECK(part_of_node[i - 1] <= s->count);
		s->nodes[i].part = part_of_node[i - 1];
	}
	disturb(s);
}

void corosim_start(struct corosim *s, uint32_t node)
{
	struct node *n = &s->nodes[node];

	CHECK(!n->up);
	n->up = true;
	n->life++;
	if (corosim_random(s, 20) == 0) {
		n->seq = 0; /* its file was lost: numbers of rings come again */
	}
	ring_install(s, &node, 1);
	disturb(s);
}

static void out_drop(struct node *n)
{
	for (uint32_t i = 0; i < n->out_count; i++) {
		msg_put(n->out[i]);
	}
	n->out_count = 0;
}

void corosim_kill(struct corosim *s, uint32_t node)
{
	struct node *n = &s->nodes[node];

	CHECK(n->up);
	n->up = false;
	n->joined = false;
	n->heard = false;
	n->life++;
	n->ring = NULL;
	n->shown = 0;
	if (n->got_room != 0) {
		memset(n->got, 0, n->got_room * sizeof(*n->got));
	}
	out_drop(n);
	disturb(s);
}

void corosim_join(struct corosim *s, uint32_t node)
{
	s->nodes[node].life++;
	enqueue(s, node, msg_make(MSG_JOIN, node, NULL, 0));
}

void corosim_leave(struct corosim *s, uint32_t node)
{
	struct node *n = &s->nodes[node];

	n->life++;
	n->heard = false;
	enqueue(s, node, msg_make(MSG_LEAVE, node, NULL, 0));
}

static void on_unicast(void *arg, uint32_t node, uint64_t b)
{
	struct parcel *p = arg;

	(void)b;
	if (parcel_alive(p, node) && p->s->nodes[p->from].part == p->s->nodes[node].part) {
		p->s->ops->unicast(p->s->arg, node, p->from, p->msg->bytes, p->msg->len);
	}
	msg_put(p->msg);
	free(p);
}

void corosim_unicast(struct corosim *s, uint32_t node, uint32_t to, const void *buf, size_t len)
{
	if (to == 0 || to > s->count || !s->nodes[to].up ||
	    s->nodes[to].part != s->nodes[node].part) {
		return;
	}

	struct parcel *p = parcel_make(s, to);

	p->from = node;
	p->msg = msg_make(MSG_DATA, node, buf, len);
	corosim_after(s, (50 + corosim_random(s, 400)) * US, on_unicast, p, to, 0);
}

struct corosim *corosim_create(uint32_t nodes, uint64_t seed, const struct corosim_ops *ops,
                               void *arg)
{
	struct corosim *s = need(calloc(1, sizeof(*s)));

	CHECK(nodes <= COROSIM_NODES_MAX);
	s->count = nodes;
	s->random = seed * 0x9e3779b97f4a7c15ull + 1;
	s->ops = ops;
	s->arg = arg;
	return s;
}

/* Events that never came own what they carry. */
static void event_drop(const struct event *e)
{
	if (e->fn == on_show_message || e->fn == on_unicast) {
		msg_put(((struct parcel *)e->arg)->msg);
		free(e->arg);
	} else if (e->fn == on_show_group || e->fn == on_show_ring || e->fn == on_show_quorum ||
	           e->fn == on_receive) {
		free(e->arg);
	}
}

void corosim_destroy(struct corosim *s)
{
	for (uint32_t i = 0; i < s->heap_count; i++) {
		event_drop(&s->heap[i]);
	}
	free(s->heap);
	for (uint32_t i = 1; i <= s->count; i++) {
		out_drop(&s->nodes[i]);
		free(s->nodes[i].out);
		free(s->nodes[i].got);
	}
	while (s->rings != NULL) {
		struct ring *r = s->rings;

		s->rings = r->next;
		for (uint32_t i = 0; i < r->msg_count; i++) {
			msg_put(r->msgs[i]);
		}
		free(r->msgs);
		free(r);
	}
	free(s);
}
