/* SPDX-License-Identifier: Apache-2.0 */

/* mount - life of a mount; its requests, buffers and nodes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/uring.h"
#include "csv/mount/mount_int.h"

#define TAG "csv-mount"
#define TICK_NS (50 * NS_PER_MS)

/* ---- requests ---- */

struct mreq *mount_req_get(struct csv_mount *m)
{
	struct list *link = list_pop(&m->idle);
	struct mreq *r;

	if (link == NULL) {
		return NULL;
	}
	r = list_entry(link, struct mreq, link);
	memset(r, 0, sizeof(*r));
	r->m = m;
	list_init(&r->wait);
	list_init(&r->change);
	list_init(&r->again);
	list_init(&r->lock.link);
	list_add_tail(&m->requests, &r->link);
	m->stats.requests++;
	m->stats.under_way++;
	return r;
}

void mount_req_put(struct mreq *r)
{
	struct csv_mount *m = r->m;

	CHECK(r->fuse == NULL && !list_linked(&r->wait) && !list_linked(&r->change) &&
	      !list_linked(&r->again) && !list_linked(&r->lock.link));
	if (r->slot != NULL) {
		mount_slot_put(m, r->slot);
		r->slot = NULL;
	}
	file_unuse(r);
	for (int i = 0; i < 2; i++) {
		struct node *n = i == 0 ? r->node : r->node2;

		if (n != NULL) {
			n->users--;
			mount_node_put(m, n);
		}
	}
	list_del(&r->link);
	list_add_head(&m->idle, &r->link);
	m->stats.under_way--;
	if (m->starved) {
		loop_timer_arm(m->reaper, 0);
	}
	mount_check_stopped(m);
}

void mount_use(struct mreq *r, struct node *n)
{
	r->node = n;
	n->users++;
}

void mount_use2(struct mreq *r, struct node *n)
{
	r->node2 = n;
	n->users++;
}

static void later(struct uring_op *op, int32_t res, bool more)
{
	struct mreq *r = op->arg;

	(void)more;
	r->next(r, res);
}

void mount_later(struct mreq *r, int result, mount_fn next)
{
	r->next = next;
	r->defer = (struct uring_op){.fn = later, .arg = r};
	uring_defer(r->m->cfg.ring, &r->defer, result);
}

/* ---- asks ---- */

static void ask_done(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease)
{
	struct mreq *r = ask->arg;

	(void)lease;
	r->next(r, result);
}

void mount_ask(struct mreq *r, enum csv_mount_what what, mount_fn next)
{
	r->ask.what = what;
	r->ask.mount = r->m;
	r->ask.done = ask_done;
	r->ask.arg = r;
	r->ask.op.now_ns = clock_wall_ns();
	r->next = next;
	r->m->cfg.ops->ask(r->m->cfg.arg, &r->ask);
}

void mount_op_begin(struct mreq *r, enum csv_op_type type)
{
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.op.type = type;
	r->ask.op.ino = r->node->ino;
	r->ask.op.generation = r->node->generation;
	r->ask.op.dir = r->node->ino;
}

void mount_ask_op(struct mreq *r, enum csv_op_type type, mount_fn next)
{
	mount_op_begin(r, type);
	mount_ask(r, CSV_MOUNT_OP, next);
}

void csv_mount_answer(struct csv_mount_ask *ask, int result, const struct csv_layout_lease *lease)
{
	struct csv_mount *m = ask->mount;

	CHECK(result <= 0);
	ask->done(ask, result, lease);
	mount_submit(m);
}

void mount_submit(struct csv_mount *m)
{
	int ret = uring_submit(m->cfg.ring);

	/* What was not taken stays prepared; the tick tries again. */
	if (ret < 0) {
		mount_tick(m);
	}
}

/* ---- buffers ---- */

void mount_slot_put(struct csv_mount *m, struct slot *s)
{
	struct list *link = list_pop(&m->want_slot);

	if (link != NULL) {
		struct mreq *r = list_entry(link, struct mreq, wait);

		r->slot = s;
		mount_later(r, 0, r->next); /* who gives it back is in the middle of ending */
		return;
	}
	list_add_head(&m->free_slots, &s->link);
	m->slots_free++;
	if (m->starved) {
		loop_timer_arm(m->reaper, 0);
	}
}

void mount_slot_want(struct mreq *r, mount_fn next)
{
	struct csv_mount *m = r->m;
	struct list *link;

	CHECK(r->slot == NULL);
	r->next = next;
	/* The last one is for requests to come in. */
	if (m->slots_free < 2) {
		list_add_tail(&m->want_slot, &r->wait);
		return;
	}
	link = list_pop(&m->free_slots);
	m->slots_free--;
	r->slot = list_entry(link, struct slot, link);
	next(r, 0);
}

/* ---- nodes ---- */

static struct list *id_bucket(struct csv_mount *m, uint64_t id)
{
	return &m->by_id[id % MOUNT_HASH];
}

static struct list *ino_bucket(struct csv_mount *m, uint64_t ino)
{
	return &m->by_ino[ino % MOUNT_HASH];
}

struct node *mount_node(struct csv_mount *m, uint64_t id)
{
	list_for_each(link, id_bucket(m, id))
	{
		struct node *n = list_entry(link, struct node, by_id);

		if (n->id == id) {
			return n;
		}
	}
	return NULL;
}

struct node *mount_node_find(struct csv_mount *m, uint64_t ino, uint64_t generation)
{
	list_for_each(link, ino_bucket(m, ino))
	{
		struct node *n = list_entry(link, struct node, by_ino);

		/* The root's is 0: whatever is there. */
		if (n->ino == ino && (n->generation == generation || n == m->root)) {
			return n;
		}
	}
	return NULL;
}

struct node *mount_node_make(struct csv_mount *m, uint64_t ino, uint64_t generation)
{
	struct node *n = mount_node_find(m, ino, generation);

	if (n != NULL) {
		n->lookups++;
		return n;
	}
	n = gw_calloc(1, sizeof(*n));
	if (n == NULL) {
		return NULL;
	}
	n->id = m->next_id++;
	n->ino = ino;
	n->generation = generation;
	n->lookups = 1;
	list_add_tail(id_bucket(m, n->id), &n->by_id);
	list_add_tail(ino_bucket(m, ino), &n->by_ino);
	m->stats.nodes++;
	return n;
}

void mount_node_put(struct csv_mount *m, struct node *n)
{
	if (n->lookups != 0 || n->users != 0 || n == m->root) {
		return;
	}
	CHECK(n->file == NULL);
	list_del(&n->by_id);
	list_del(&n->by_ino);
	free(n);
	m->stats.nodes--;
}

void mount_node_forget(struct csv_mount *m, struct node *n, uint64_t lookups)
{
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	mount_node_put(m, n);
}

/* ---- the loop ---- */

static void ticked(void *arg)
{
	struct csv_mount *m = arg;
	uint64_t now = clock_now_ns();
	bool again = uring_submit(m->cfg.ring) < 0;
	struct list tries;

	m->ticking = false;
	list_for_each_safe(link, &m->requests)
	{
		struct mreq *r = list_entry(link, struct mreq, link);

		if (r->interrupted_ns == 0 || r->fuse == NULL) {
			continue;
		}
		if (now - r->interrupted_ns >= m->cfg.patience_ns) {
			m->stats.interrupted++;
			mount_give_up(r);
		} else {
			again = true;
		}
	}
	list_init(&tries);
	list_splice_tail(&tries, &m->retries);
	for (struct list *link = list_pop(&tries); link != NULL; link = list_pop(&tries)) {
		file_tried(list_entry(link, struct mreq, again));
	}
	if (again) {
		mount_tick(m);
	}
	mount_submit(m);
}

void mount_tick(struct csv_mount *m)
{
	if (!m->ticking) {
		m->ticking = true;
		loop_timer_arm(m->tick, TICK_NS);
	}
}

void mount_check_stopped(struct csv_mount *m)
{
	if (m->stopping && !m->told) {
		loop_timer_arm(m->reaper, 0);
	}
}

/* Devices are closed here: that waits for the ring, so it must not be inside it. */
static void reap(void *arg)
{
	struct csv_mount *m = arg;

	list_for_each_safe(link, &m->gone)
	{
		struct file *f = list_entry(link, struct file, gone);

		/* Who hangs there is looked at again: the others must not wait with us. */
		if (file_idle(f)) {
			list_del(&f->gone);
			file_free(f);
		}
	}
	if (!list_empty(&m->gone)) {
		loop_timer_arm(m->reaper, TICK_NS);
	}
	if (m->starved && !m->stopping) {
		mount_fuse_feed(m);
	}
	mount_submit(m);
	if (!m->stopping || m->told || !list_empty(&m->requests)) {
		return;
	}
	/* What is open now was the kernel's. As many at a time as there are requests. */
	list_for_each_safe(link, &m->files)
	{
		if (!list_empty(&m->idle)) {
			file_abandon(list_entry(link, struct file, link));
		}
	}
	mount_submit(m);
	if (list_empty(&m->requests) && list_empty(&m->files) && list_empty(&m->gone)) {
		m->told = true;
		m->cfg.ops->stopped(m->cfg.arg);
	}
}

void mount_reap(struct csv_mount *m)
{
	loop_timer_arm(m->reaper, 0);
}

/* ---- life ---- */

static int make_memory(struct csv_mount *m)
{
	void *memory = mmap(NULL, (size_t)MOUNT_SLOTS * MOUNT_SLOT_BYTES, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED) {
		return -ENOMEM;
	}
	m->memory = memory;
	for (uint32_t i = 0; i < MOUNT_SLOTS; i++) {
		m->slots[i].base = m->memory + (size_t)i * MOUNT_SLOT_BYTES;
		list_add_tail(&m->free_slots, &m->slots[i].link);
	}
	m->slots_free = MOUNT_SLOTS;
	m->pool = gw_calloc(CSV_MOUNT_REQUESTS, sizeof(*m->pool));
	if (m->pool == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < CSV_MOUNT_REQUESTS; i++) {
		list_add_tail(&m->idle, &m->pool[i].link);
	}
	return 0;
}

static int make_root(struct csv_mount *m)
{
	m->next_id = 1; /* FUSE_ROOT_ID */
	m->root = mount_node_make(m, m->cfg.root_ino, 0);
	return m->root != NULL ? 0 : -ENOMEM;
}

static int check_cfg(const struct csv_mount_cfg *cfg, struct errbuf *eb)
{
	const struct csv_mount_ops *ops = cfg->ops;

	CHECK(ops->ask != NULL && ops->rights != NULL && ops->stopped != NULL);
	if (cfg->root_ino == 0 || cfg->device_fd < 0) {
		return errbuf_set(eb, -EINVAL, "no volume");
	}
	if (cfg->name == NULL || cfg->name[0] == '\0' || strpbrk(cfg->name, ", \\\n") != NULL) {
		return errbuf_set(eb, -EINVAL, "a volume's name has no commas and blanks");
	}
	if (strlen(cfg->name) >= MOUNT_NAME_MAX) {
		return errbuf_set(eb, -EINVAL, "the volume's name is too long");
	}
	return 0;
}

static void init(struct csv_mount *m, const struct csv_mount_cfg *cfg)
{
	struct list *lists[] = {&m->files, &m->gone,       &m->retries,  &m->requests,
	                        &m->idle,  &m->free_slots, &m->want_slot};

	m->cfg = *cfg;
	memcpy(m->name, cfg->name, strlen(cfg->name) + 1);
	m->cfg.name = m->name;
	if (m->cfg.patience_ns == 0) {
		m->cfg.patience_ns = CSV_MOUNT_PATIENCE_NS;
	}
	if (m->cfg.slow_ns == 0) {
		m->cfg.slow_ns = CSV_MOUNT_SLOW_NS;
	}
	m->fd = -1;
	m->next_channel =
		clock_boot_ns() / NS_PER_US; /* a mount before this one may still have some */
	m->max_files = cfg->files_max != 0 ? cfg->files_max : 1024;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		list_init(lists[i]);
	}
	for (uint32_t i = 0; i < MOUNT_HASH; i++) {
		list_init(&m->by_id[i]);
		list_init(&m->by_ino[i]);
	}
}

static void release(struct csv_mount *m)
{
	for (uint32_t i = 0; i < MOUNT_HASH; i++) {
		list_for_each_safe(link, &m->by_id[i])
		{
			free(list_entry(link, struct node, by_id));
		}
	}
	mount_fuse_free(m);
	loop_timer_del(m->reaper);
	loop_timer_del(m->tick);
	loop_timer_del(m->direct);
	if (m->memory != NULL) {
		(void)munmap(m->memory, (size_t)MOUNT_SLOTS * MOUNT_SLOT_BYTES);
	}
	free(m->pool);
	free(m);
}

int csv_mount_create(const struct csv_mount_cfg *cfg, struct csv_mount **out, struct errbuf *eb)
{
	struct csv_mount *m;
	int err = check_cfg(cfg, eb);

	*out = NULL;
	if (err != 0) {
		return err;
	}
	m = gw_calloc(1, sizeof(*m));
	if (m == NULL) {
		return errbuf_sys(eb, -ENOMEM, "mount");
	}
	init(m, cfg);
	err = make_memory(m);
	if (err == 0) {
		err = make_root(m);
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, reap, m, &m->reaper);
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, ticked, m, &m->tick);
	}
	if (err == 0) {
		err = loop_timer_new(cfg->loop, direct_tick, m, &m->direct);
	}
	if (err != 0) {
		release(m);
		return errbuf_sys(eb, err, "mount");
	}
	err = mount_fuse_open(m, eb);
	if (err != 0) {
		release(m);
		return err;
	}
	m->cfg.path = NULL;
	*out = m;
	return 0;
}

void csv_mount_stop(struct csv_mount *m)
{
	if (m->stopping) {
		return;
	}
	m->stopping = true;
	list_for_each(link, &m->files)
	{
		direct_end_all(list_entry(link, struct file, link));
	}
	mount_fuse_close(m);
	list_for_each_safe(link, &m->requests)
	{
		struct mreq *r = list_entry(link, struct mreq, link);

		if (r->fuse != NULL) {
			mount_give_up(r);
		}
	}
	mount_check_stopped(m);
	mount_submit(m);
}

void csv_mount_destroy(struct csv_mount *m)
{
	if (m == NULL) {
		return;
	}
	CHECK(m->told);
	release(m);
}

void csv_mount_recall(struct csv_mount *m, uint64_t lease)
{
	list_for_each_safe(link, &m->files)
	{
		struct file *f = list_entry(link, struct file, link);

		if (file_lease_find(f, lease)) {
			file_recall_lease(f, lease);
			break;
		}
	}
	mount_submit(m);
}

void csv_mount_lost(struct csv_mount *m, uint64_t number)
{
	list_for_each_safe(link, &m->files)
	{
		struct file *f = list_entry(link, struct file, link);

		if (!f->lost &&
		    (number == 0 || f->handle == number || file_lease_find(f, number))) {
			log_warn(TAG, "file lost volume=%s ino=%llu number=%llu", m->cfg.name,
			         (unsigned long long)f->node->ino, (unsigned long long)number);
			file_lose(f);
		}
	}
	mount_submit(m);
}

void csv_mount_kick(struct csv_mount *m)
{
	list_for_each(link, &m->files)
	{
		struct file *f = list_entry(link, struct file, link);

		if (f->blk != NULL) {
			csv_data_kick(f->blk);
			direct_publish(f);
		}
	}
	mount_submit(m);
}

void csv_mount_get_stats(const struct csv_mount *m, struct csv_mount_stats *out)
{
	*out = m->stats;
	out->files = 0;
	out->writers = 0;
	out->leases = 0;
	out->direct = m->channels;
	list_for_each(link, &m->files)
	{
		const struct file *f = list_entry(link, struct file, link);

		out->files++;
		out->writers += f->writes;
		for (uint32_t i = 0; i < MOUNT_LEASES; i++) {
			out->leases += f->leases[i].number != 0;
		}
		if (f->blk != NULL) {
			struct csv_data_stats s;

			csv_data_get_stats(f->blk, &s);
			out->redirected += s.state == CSV_DATA_REDIRECTED;
			out->paused += s.state == CSV_DATA_PAUSED;
			out->hanging += s.hangs;
			out->reason = s.reason != CSV_DATA_NO_REASON ? s.reason : out->reason;
		}
	}
}
