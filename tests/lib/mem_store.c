/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/mem_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Bytes with a count of references: both states share them. */
struct blob {
	uint32_t refs;
	size_t len;
	uint8_t bytes[];
};

struct mem_entry {
	struct rsm_entry e; /* payload NULL */
	uint64_t hash;
	struct blob *payload;
};

struct mem_pair {
	struct blob *key;
	struct blob *value;
};

struct mem_pairs {
	struct mem_pair *items;
	size_t count;
	size_t room;
};

struct mem_state {
	uint64_t promised;
	struct rsm_pos base;
	struct rsm_mark mark;
	struct mem_entry *log;
	size_t log_count;
	size_t log_room;
	struct mem_pairs pairs;
	struct mem_pairs staged;
};

enum op_kind {
	OP_PROMISE,
	OP_APPEND,
	OP_TRUNCATE,
	OP_TRIM,
	OP_PUT,
	OP_DEL,
	OP_MARK,
	OP_STAGE_BEGIN,
	OP_STAGE_PUT,
	OP_STAGE_COMMIT
};

struct op {
	enum op_kind kind;
	uint64_t number;
	struct mem_entry entry;
	struct mem_pair pair;
	struct rsm_mark *mark;
};

struct mem_store {
	struct rsm_store store; /* first */
	struct mem_state now;
	struct mem_state disk;
	struct op *ops; /* queued */
	size_t op_count;
	size_t op_room;
	size_t op_synced; /* ops of the running sync */
	uint64_t token;
};

struct snap {
	struct mem_pairs pairs;
	size_t at;
};

static void *need(void *ptr)
{
	CHECK(ptr != NULL);
	return ptr;
}

static struct blob *blob_make(const void *bytes, size_t len)
{
	struct blob *b = need(malloc(sizeof(*b) + len));

	b->refs = 1;
	b->len = len;
	if (len != 0) {
		memcpy(b->bytes, bytes, len);
	}
	return b;
}

static struct blob *blob_get(struct blob *b)
{
	b->refs++;
	return b;
}

static void blob_put(struct blob *b)
{
	if (b != NULL && --b->refs == 0) {
		free(b);
	}
}

static void pairs_clear(struct mem_pairs *p)
{
	for (size_t i = 0; i < p->count; i++) {
		blob_put(p->items[i].key);
		blob_put(p->items[i].value);
	}
	free(p->items);
	*p = (struct mem_pairs){0};
}

static void pairs_copy(struct mem_pairs *to, const struct mem_pairs *from)
{
	*to = (struct mem_pairs){.count = from->count, .room = from->count};
	to->items = need(malloc((from->count + 1) * sizeof(*to->items)));
	for (size_t i = 0; i < from->count; i++) {
		to->items[i] = (struct mem_pair){.key = blob_get(from->items[i].key),
		                                 .value = blob_get(from->items[i].value)};
	}
}

static size_t pairs_find(const struct mem_pairs *p, const struct blob *key)
{
	size_t i = 0;

	while (i < p->count && (p->items[i].key->len != key->len ||
	                        memcmp(p->items[i].key->bytes, key->bytes, key->len) != 0)) {
		i++;
	}
	return i;
}

/* Takes no references. */
static void pairs_put(struct mem_pairs *p, const struct mem_pair *pair)
{
	size_t at = pairs_find(p, pair->key);

	if (at < p->count) {
		blob_put(p->items[at].value);
		p->items[at].value = blob_get(pair->value);
		return;
	}
	if (p->count == p->room) {
		p->room = p->room == 0 ? 16 : p->room * 2;
		p->items = need(realloc(p->items, p->room * sizeof(*p->items)));
	}
	p->items[p->count++] =
		(struct mem_pair){.key = blob_get(pair->key), .value = blob_get(pair->value)};
}

static void pairs_del(struct mem_pairs *p, const struct blob *key)
{
	size_t at = pairs_find(p, key);

	if (at < p->count) {
		blob_put(p->items[at].key);
		blob_put(p->items[at].value);
		p->items[at] = p->items[--p->count];
	}
}

static void log_cut(struct mem_state *s, size_t from, size_t to)
{
	if (from == to) {
		return; /* there may be no array yet */
	}
	for (size_t i = from; i < to; i++) {
		blob_put(s->log[i].payload);
	}
	memmove(s->log + from, s->log + to, (s->log_count - to) * sizeof(*s->log));
	s->log_count -= to - from;
}

static void state_clear(struct mem_state *s)
{
	if (s->log != NULL) {
		log_cut(s, 0, s->log_count);
	}
	free(s->log);
	pairs_clear(&s->pairs);
	pairs_clear(&s->staged);
	*s = (struct mem_state){0};
}

static void state_copy(struct mem_state *to, const struct mem_state *from)
{
	*to = *from;
	to->log_room = from->log_count + 1;
	to->log = need(malloc(to->log_room * sizeof(*to->log)));
	for (size_t i = 0; i < from->log_count; i++) {
		to->log[i] = from->log[i];
		(void)blob_get(to->log[i].payload);
	}
	pairs_copy(&to->pairs, &from->pairs);
	pairs_copy(&to->staged, &from->staged);
}

static void do_append(struct mem_state *s, const struct mem_entry *e)
{
	CHECK(e->e.index == s->base.index + s->log_count + 1);
	if (s->log_count == s->log_room) {
		s->log_room = s->log_room == 0 ? 64 : s->log_room * 2;
		s->log = need(realloc(s->log, s->log_room * sizeof(*s->log)));
	}
	s->log[s->log_count] = *e;
	(void)blob_get(e->payload);
	s->log_count++;
}

static void do_stage_commit(struct mem_state *s, const struct rsm_mark *mark)
{
	log_cut(s, 0, s->log_count);
	pairs_clear(&s->pairs);
	s->pairs = s->staged;
	s->staged = (struct mem_pairs){0};
	s->mark = *mark;
	s->base = mark->applied;
}

static void do_trim(struct mem_state *s, uint64_t index)
{
	if (index > s->base.index) {
		const struct mem_entry *e = &s->log[index - s->base.index - 1];

		CHECK(index <= s->mark.applied.index);
		s->base = (struct rsm_pos){.index = index, .epoch = e->e.epoch, .hash = e->hash};
		log_cut(s, 0, (size_t)(index - (e->e.index - (uint64_t)(e - s->log) - 1)));
	}
}

static void op_do(struct mem_state *s, const struct op *op)
{
	switch (op->kind) {
	case OP_PROMISE:
		CHECK(op->number >= s->promised);
		s->promised = op->number;
		break;
	case OP_APPEND:
		do_append(s, &op->entry);
		break;
	case OP_TRUNCATE:
		CHECK(op->number >= s->mark.applied.index);
		log_cut(s, (size_t)(op->number - s->base.index), s->log_count);
		break;
	case OP_TRIM:
		do_trim(s, op->number);
		break;
	case OP_PUT:
		pairs_put(&s->pairs, &op->pair);
		break;
	case OP_DEL:
		pairs_del(&s->pairs, op->pair.key);
		break;
	case OP_MARK:
		CHECK(op->mark->applied.index <= s->base.index + s->log_count);
		s->mark = *op->mark;
		break;
	case OP_STAGE_BEGIN:
		pairs_clear(&s->staged);
		break;
	case OP_STAGE_PUT:
		pairs_put(&s->staged, &op->pair);
		break;
	case OP_STAGE_COMMIT:
		do_stage_commit(s, op->mark);
		break;
	}
}

static void op_drop(struct op *op)
{
	blob_put(op->entry.payload);
	blob_put(op->pair.key);
	blob_put(op->pair.value);
	free(op->mark);
}

static struct mem_store *mem(struct rsm_store *s)
{
	return (struct mem_store *)(void *)s;
}

/* Takes the references of @op. */
static int mem_queue(struct rsm_store *s, struct op op)
{
	struct mem_store *m = mem(s);

	if (m->op_count == m->op_room) {
		m->op_room = m->op_room == 0 ? 64 : m->op_room * 2;
		m->ops = need(realloc(m->ops, m->op_room * sizeof(*m->ops)));
	}
	m->ops[m->op_count++] = op;
	op_do(&m->now, &op);
	return 0;
}

static void mem_boot(struct rsm_store *s, struct rsm_boot *out)
{
	const struct mem_state *now = &mem(s)->now;

	*out = (struct rsm_boot){
		.promised = now->promised, .base = now->base, .last = now->base, .mark = now->mark};
	if (now->log_count != 0) {
		const struct mem_entry *e = &now->log[now->log_count - 1];

		out->last =
			(struct rsm_pos){.index = e->e.index, .epoch = e->e.epoch, .hash = e->hash};
	}
}

static int mem_promise(struct rsm_store *s, uint64_t epoch)
{
	return mem_queue(s, (struct op){.kind = OP_PROMISE, .number = epoch});
}

static int mem_append(struct rsm_store *s, const struct rsm_entry *entry, uint64_t hash)
{
	struct op op = {.kind = OP_APPEND, .entry = {.e = *entry, .hash = hash}};

	op.entry.e.payload = NULL;
	op.entry.payload = blob_make(entry->payload, entry->len);
	return mem_queue(s, op);
}

static int mem_truncate(struct rsm_store *s, uint64_t index)
{
	return mem_queue(s, (struct op){.kind = OP_TRUNCATE, .number = index});
}

static int mem_trim(struct rsm_store *s, uint64_t index)
{
	return mem_queue(s, (struct op){.kind = OP_TRIM, .number = index});
}

static int mem_pair(struct rsm_store *s, enum op_kind kind, const struct mem_pair *pair)
{
	return mem_queue(s, (struct op){.kind = kind, .pair = *pair});
}

static int mem_put(struct rsm_store *s, const void *key, size_t key_len, const void *value,
                   size_t value_len)
{
	return mem_pair(s, OP_PUT,
	                &(struct mem_pair){.key = blob_make(key, key_len),
	                                   .value = blob_make(value, value_len)});
}

static int mem_del(struct rsm_store *s, const void *key, size_t key_len)
{
	return mem_pair(s, OP_DEL, &(struct mem_pair){.key = blob_make(key, key_len)});
}

static int mem_mark_op(struct rsm_store *s, enum op_kind kind, const struct rsm_mark *mark)
{
	struct op op = {.kind = kind, .mark = need(malloc(sizeof(*mark)))};

	*op.mark = *mark;
	return mem_queue(s, op);
}

static int mem_mark(struct rsm_store *s, const struct rsm_mark *mark)
{
	return mem_mark_op(s, OP_MARK, mark);
}

static int mem_stage_begin(struct rsm_store *s)
{
	return mem_queue(s, (struct op){.kind = OP_STAGE_BEGIN});
}

static int mem_stage_put(struct rsm_store *s, const void *key, size_t key_len, const void *value,
                         size_t value_len)
{
	return mem_pair(s, OP_STAGE_PUT,
	                &(struct mem_pair){.key = blob_make(key, key_len),
	                                   .value = blob_make(value, value_len)});
}

static int mem_stage_commit(struct rsm_store *s, const struct rsm_mark *mark)
{
	return mem_mark_op(s, OP_STAGE_COMMIT, mark);
}

static int mem_sync(struct rsm_store *s, uint64_t token)
{
	struct mem_store *m = mem(s);

	CHECK(m->token == 0 && token != 0);
	m->token = token;
	m->op_synced = m->op_count;
	return 0;
}

static const struct mem_entry *mem_at(const struct mem_state *now, uint64_t index)
{
	return index > now->base.index && index <= now->base.index + now->log_count
	               ? &now->log[index - now->base.index - 1]
	               : NULL;
}

static int mem_read(struct rsm_store *s, uint64_t index, struct rsm_entry *out, uint8_t *buf)
{
	const struct mem_entry *e = mem_at(&mem(s)->now, index);

	if (e == NULL) {
		return -ENOENT;
	}
	*out = e->e;
	memcpy(buf, e->payload->bytes, e->payload->len);
	out->payload = buf;
	return 0;
}

static int mem_pos(struct rsm_store *s, uint64_t index, struct rsm_pos *out)
{
	const struct mem_state *now = &mem(s)->now;
	const struct mem_entry *e = mem_at(now, index);

	if (e != NULL) {
		*out = (struct rsm_pos){.index = index, .epoch = e->e.epoch, .hash = e->hash};
		return 0;
	}
	if (index == now->base.index) {
		*out = now->base;
		return 0;
	}
	return -ENOENT;
}

static int mem_each(struct rsm_store *s, rsm_pair_fn fn, void *arg)
{
	const struct mem_pairs *p = &mem(s)->now.pairs;
	int err = 0;

	for (size_t i = 0; i < p->count && err == 0; i++) {
		err = fn(arg, p->items[i].key->bytes, p->items[i].key->len,
		         p->items[i].value->bytes, p->items[i].value->len);
	}
	return err;
}

static int mem_snap_open(struct rsm_store *s, void **out, struct rsm_mark *mark)
{
	struct snap *snap = need(calloc(1, sizeof(*snap)));

	pairs_copy(&snap->pairs, &mem(s)->disk.pairs);
	*mark = mem(s)->disk.mark;
	*out = snap;
	return 0;
}

static int mem_snap_next(struct rsm_store *s, void *arg, const uint8_t **key, size_t *key_len,
                         const uint8_t **value, size_t *value_len)
{
	struct snap *snap = arg;

	(void)s;
	if (snap->at == snap->pairs.count) {
		return 0;
	}

	const struct mem_pair *p = &snap->pairs.items[snap->at++];

	*key = p->key->bytes;
	*key_len = p->key->len;
	*value = p->value->bytes;
	*value_len = p->value->len;
	return 1;
}

static void mem_snap_close(struct rsm_store *s, void *arg)
{
	struct snap *snap = arg;

	(void)s;
	pairs_clear(&snap->pairs);
	free(snap);
}

struct mem_store *mem_store_create(const struct rsm_mark *mark)
{
	static const struct rsm_store_ops ops = {
		.boot = mem_boot,
		.promise = mem_promise,
		.append = mem_append,
		.truncate = mem_truncate,
		.trim = mem_trim,
		.put = mem_put,
		.del = mem_del,
		.mark = mem_mark,
		.stage_begin = mem_stage_begin,
		.stage_put = mem_stage_put,
		.stage_commit = mem_stage_commit,
		.sync = mem_sync,
		.read = mem_read,
		.pos = mem_pos,
		.each = mem_each,
		.snap_open = mem_snap_open,
		.snap_next = mem_snap_next,
		.snap_close = mem_snap_close,
	};
	struct mem_store *m = need(calloc(1, sizeof(*m)));

	m->store.ops = &ops;
	if (mark != NULL) {
		m->now.mark = *mark;
		m->disk.mark = *mark;
	}
	return m;
}

static void ops_drop(struct mem_store *m, size_t count)
{
	if (count == 0) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		op_drop(&m->ops[i]);
	}
	memmove(m->ops, m->ops + count, (m->op_count - count) * sizeof(*m->ops));
	m->op_count -= count;
}

void mem_store_destroy(struct mem_store *m)
{
	if (m != NULL) {
		ops_drop(m, m->op_count);
		free(m->ops);
		state_clear(&m->now);
		state_clear(&m->disk);
		free(m);
	}
}

struct rsm_store *mem_store_rsm(struct mem_store *m)
{
	return &m->store;
}

uint64_t mem_store_token(const struct mem_store *m)
{
	return m->token;
}

void mem_store_synced(struct mem_store *m)
{
	for (size_t i = 0; i < m->op_synced; i++) {
		op_do(&m->disk, &m->ops[i]);
	}
	ops_drop(m, m->op_synced);
	m->op_synced = 0;
	m->token = 0;
}

void mem_store_lied(struct mem_store *m)
{
	m->op_synced = 0;
	m->token = 0;
}

void mem_store_crash(struct mem_store *m, bool landed)
{
	if (m->token != 0 && landed) {
		mem_store_synced(m);
	}
	ops_drop(m, m->op_count);
	m->op_synced = 0;
	m->token = 0;
	state_clear(&m->now);
	state_copy(&m->now, &m->disk);
}
