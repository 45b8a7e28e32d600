/* SPDX-License-Identifier: Apache-2.0 */

/*
 * mounted - the files of a volume under a path: csv/mount asks, this node's client is asked. The
 * mount has a ring of its own and the device's descriptor, so that it can end in its own time, also
 * when the volume is gone: then its files are lost, and all it asks for is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "csv/daemon/daemon_int.h"
#include "csv/mount/csv_mount.h"
#include "csv/slot/csv_slot_io.h"

#define TAG "csv-mounted"
#define RING_ENTRIES 256u
#define WIRES 256u               /* asks that are under way; more wait here */
#define RETRY_NS (30 * NS_PER_S) /* it could not be mounted */
/* Where no device has bytes: who does I/O of his own is marked by locks there. */
#define MARKS_BYTES (1ull << 62)
#define AGAIN_NS (2 * NS_PER_S) /* somebody unmounted it */

/* One ask on its way to the coordinator. */
struct wire {
	struct csv_volume_req req;
	struct mounted *m;
	struct csv_mount_ask *ask;
	struct list link;
	bool again; /* it was asked for twice */
};

struct mounted {
	struct csv_volume *v; /* NULL: it is gone */
	struct csv_daemon *d;
	struct guid volume;
	struct list link; /* of the daemon */
	struct csv_mount *mount;
	struct uring *ring; /* owned */
	struct loop_fd *watch;
	int fd; /* owned */
	bool stopping;
	bool over;
	struct loop_timer *end;
	struct wire *wires;  /* owned */
	struct list idle;    /* struct wire.link */
	struct list waiting; /* struct csv_mount_ask.op.link */
	struct list refused; /* the same */
	struct uring_op refuse;
	bool refusing;
	struct redirects redirects;
};

/* ---- asks ---- */

static void refuse_all(struct uring_op *op, int32_t res, bool more)
{
	struct mounted *m = op->arg;
	struct list ready;

	(void)res;
	(void)more;
	m->refusing = false;
	list_init(&ready);
	list_splice_tail(&ready, &m->refused);
	for (struct list *link = list_pop(&ready); link != NULL; link = list_pop(&ready)) {
		struct csv_op *x = list_entry(link, struct csv_op, link);

		csv_mount_answer(container_of(x, struct csv_mount_ask, op), -ESTALE, NULL);
	}
}

/* Not from inside ask(). */
static void refuse(struct mounted *m, struct csv_mount_ask *ask)
{
	list_add_tail(&m->refused, &ask->op.link);
	if (!m->refusing) {
		m->refusing = true;
		m->refuse = (struct uring_op){.fn = refuse_all, .arg = m};
		uring_defer(m->ring, &m->refuse, 0);
	}
}

/* What the operation uses, and nothing else: see csv/proto. */
static void op_message(const struct csv_mount_ask *ask, struct csv_msg_op *o)
{
	const struct csv_op *op = &ask->op;
	bool named = op->type == CSV_OP_LOOKUP || op->type == CSV_OP_CREATE ||
	             op->type == CSV_OP_MKDIR || op->type == CSV_OP_UNLINK ||
	             op->type == CSV_OP_RMDIR || op->type == CSV_OP_RENAME;
	bool made = op->type == CSV_OP_CREATE || op->type == CSV_OP_MKDIR;
	bool set = op->type == CSV_OP_SETATTR;
	bool range = op->type == CSV_OP_CONVERT || op->type == CSV_OP_PUNCH;
	bool cut = op->type == CSV_OP_TRUNCATE;
	bool sized = cut || op->type == CSV_OP_CONVERT;
	bool about = set || range || cut || op->type == CSV_OP_GETATTR;
	bool reads = op->type == CSV_OP_LOOKUP || op->type == CSV_OP_GETATTR ||
	             op->type == CSV_OP_LIST || op->type == CSV_OP_STATFS;

	*o = (struct csv_msg_op){
		.op = op->type,
		.ino = about ? op->ino : 0,
		.generation = about ? op->generation : 0,
		.dir = named || op->type == CSV_OP_LIST ? op->dir : 0,
		.name = named ? op->name : "",
		.name_len = named ? op->name_len : 0,
		.name2 = "",
		.handle = range || cut ? ask->handle : 0,
		.block = range ? op->block : 0,
		.count = range ? op->count : 0,
		.size_bytes = sized ? op->size_bytes : 0,
		.cookie = op->type == CSV_OP_LIST ? op->cookie : 0,
		.mask = set ? op->mask : 0,
		.modified_ns = set ? op->modified_ns : 0,
		.mode = made || set ? op->mode & 07777u : 0,
		.uid = made || set ? op->uid : 0,
		.gid = made || set ? op->gid : 0,
		.now_ns = reads ? 0 : op->now_ns,
	};
	if (op->type == CSV_OP_RENAME) {
		o->dir2 = op->dir2;
		o->name2 = op->name2;
		o->name2_len = op->name2_len;
		o->flags = op->no_replace ? CSV_MSG_NO_REPLACE : 0;
	}
}

static void message(struct wire *w)
{
	const struct csv_mount_ask *ask = w->ask;
	struct csv_msg *msg = &w->req.req.msg;
	struct csv_volume *v = w->m->v;

	memset(msg, 0, sizeof(*msg));
	switch (ask->what) {
	case CSV_MOUNT_OP:
		msg->type = CSV_MSG_OP;
		op_message(ask, &msg->op);
		break;
	case CSV_MOUNT_OPEN:
		msg->type = CSV_MSG_OPEN;
		msg->open.ino = ask->op.ino;
		msg->open.generation = ask->op.generation;
		msg->open.share = ask->share;
		msg->open.handle = csv_volume_number(v);
		break;
	case CSV_MOUNT_CLOSE:
		msg->type = CSV_MSG_CLOSE;
		msg->number = ask->handle;
		break;
	case CSV_MOUNT_LAYOUT:
		msg->type = CSV_MSG_LAYOUT;
		msg->layout.handle = ask->handle;
		msg->layout.number = csv_volume_number(v);
		msg->layout.from_bytes = ask->from_bytes;
		msg->layout.to_bytes = ask->to_bytes;
		msg->layout.now_ns = ask->op.now_ns;
		msg->layout.flags =
			(ask->write ? CSV_MSG_WRITE : 0) | (ask->allocate ? CSV_MSG_ALLOCATE : 0);
		break;
	case CSV_MOUNT_RETURN:
		msg->type = CSV_MSG_RETURN;
		msg->number = ask->lease;
		break;
	}
}

static void take_names(const struct csv_msg_reply *reply, struct csv_op *op)
{
	uint32_t offset = 0;
	struct csv_name name;

	op->names_count = 0;
	while (op->names_count < op->names_max && csv_msg_name(reply, &offset, &name)) {
		op->names[op->names_count++] = name;
	}
}

static bool wants_attr(enum csv_op_type type)
{
	return type == CSV_OP_LOOKUP || type == CSV_OP_GETATTR || type == CSV_OP_CREATE ||
	       type == CSV_OP_MKDIR;
}

/* Asked once more, it does nothing and says how the file is. */
static bool may_repeat(enum csv_op_type type)
{
	return type == CSV_OP_SETATTR || type == CSV_OP_CONVERT || type == CSV_OP_PUNCH ||
	       type == CSV_OP_TRUNCATE;
}

/* What is not known there is not there: it ends, or has ended. */
static int result_of(const struct csv_mount_ask *ask, int result)
{
	bool ends = ask->what == CSV_MOUNT_CLOSE || ask->what == CSV_MOUNT_RETURN;

	if (ends && (result == -EBADF || result == -ESTALE)) {
		return 0;
	}
	if (result == -EAGAIN) {
		return -EIO; /* asked twice, it still says nothing */
	}
	return result == -EBADF || result == -ENOTCONN ? -ESTALE : result;
}

/* Returns 0; -EAGAIN: it was done, but says nothing about it; -EIO the reply makes no sense. */
static int take_reply(struct wire *w)
{
	const struct csv_msg_reply *reply = &w->req.req.reply->reply;
	struct csv_mount_ask *ask = w->ask;
	struct csv_op *op = &ask->op;
	bool attr = (reply->parts & CSV_MSG_ATTR) != 0;

	if (attr) {
		op->attr = reply->attr;
	}
	if (ask->what == CSV_MOUNT_OPEN) {
		ask->handle = w->req.req.msg.open.handle;
		return attr ? 0 : -EIO;
	}
	if (ask->what == CSV_MOUNT_LAYOUT) {
		return (reply->parts & CSV_MSG_LEASE) != 0 ? 0 : -EIO;
	}
	if (ask->what != CSV_MOUNT_OP) {
		return 0;
	}
	if (!attr && may_repeat(op->type)) {
		return -EAGAIN; /* what was asked for stays as it was */
	}
	if (op->type == CSV_OP_LIST) {
		take_names(reply, op);
	} else if (op->type == CSV_OP_STATFS) {
		op->stat = reply->stat;
		return (reply->parts & CSV_MSG_STAT) != 0 ? 0 : -EIO;
	}
	op->count = reply->count;
	return !wants_attr(op->type) || attr ? 0 : -EIO;
}

static void next_waiting(struct mounted *m);

static void answered(struct csv_volume_req *req)
{
	struct wire *w = req->arg;
	struct mounted *m = w->m;
	struct csv_mount_ask *ask = w->ask;
	const struct csv_layout_lease *lease = NULL;
	int result = req->req.result;

	if (result == 0 && req->req.reply != NULL) {
		result = take_reply(w);
		if (result == -EAGAIN && m->v != NULL && !w->again) {
			/* An earlier coordinator did it, and its reply did not arrive. */
			w->again = true;
			message(w);
			csv_volume_submit(m->v, req);
			return;
		}
		if (result == 0 && ask->what == CSV_MOUNT_LAYOUT) {
			lease = &req->req.reply->reply.lease;
		}
	} else if (result == 0) {
		result = -EIO;
	}
	w->ask = NULL;
	csv_mount_answer(ask, result_of(ask, result), lease);
	list_add_head(&m->idle, &w->link);
	next_waiting(m);
}

static void start(struct mounted *m, struct csv_mount_ask *ask)
{
	struct wire *w = list_entry(list_pop(&m->idle), struct wire, link);

	w->m = m;
	w->ask = ask;
	w->again = false;
	w->req.fn = answered;
	w->req.arg = w;
	message(w);
	csv_volume_submit(m->v, &w->req);
}

static void next_waiting(struct mounted *m)
{
	struct list *link = m->v != NULL && !list_empty(&m->idle) ? list_pop(&m->waiting) : NULL;

	if (link != NULL) {
		struct csv_op *op = list_entry(link, struct csv_op, link);

		start(m, container_of(op, struct csv_mount_ask, op));
	}
}

static void on_ask(void *arg, struct csv_mount_ask *ask)
{
	struct mounted *m = arg;

	if (m->v == NULL || csv_volume_root(m->v) == 0) {
		refuse(m, ask);
	} else if (list_empty(&m->idle)) {
		list_add_tail(&m->waiting, &ask->op.link);
	} else {
		start(m, ask);
	}
}

static void on_rights(void *arg, uint64_t ino, struct csv_data_rights *out)
{
	const struct mounted *m = arg;

	(void)ino;
	*out = (struct csv_data_rights){0};
	if (m->v != NULL && m->v->slot != NULL && m->v->phase != VOLUME_DEAD) {
		const struct csv_slot *s = csv_slot_io_slot(m->v->slot);

		out->until_ns = s->state == CSV_SLOT_HELD ? csv_slot_until_ns(s) : 0;
	}
	if (m->v == NULL) {
		out->token = UINT64_MAX; /* everything that waits ends */
		return;
	}
	/* Through the coordinator, which knows whether this run may: also without a lease on a
	 * device that does not answer. */
	if (m->v->phase != VOLUME_DEAD && m->v->client != NULL &&
	    csv_client_state(m->v->client) == CSV_CLIENT_ACTIVE) {
		out->redirect_until_ns = UINT64_MAX;
		out->hangs = volume_hangs(m->v);
	}
}

static void on_redirect(void *arg, const struct csv_mount_file *file, struct csv_data_ask *ask)
{
	struct mounted *m = arg;

	redirects_ask(&m->redirects, file, ask);
}

static void on_event(void *arg, uint64_t ino, enum csv_data_state state,
                     enum csv_data_reason reason)
{
	struct mounted *m = arg;

	if (m->v != NULL) {
		log_debug(TAG, "a file's way volume=%s ino=%" PRIu64 " state=%s reason=%s",
		          m->v->cfg.name, ino, csv_data_state_name(state),
		          csv_data_reason_name(reason));
		volume_work(m->v);
	}
}

static void on_stopped(void *arg)
{
	struct mounted *m = arg;

	m->over = true;
	loop_timer_arm(m->end, 0);
}

static const struct csv_mount_ops mounted_ops = {
	.ask = on_ask,
	.rights = on_rights,
	.redirect = on_redirect,
	.event = on_event,
	.stopped = on_stopped,
};

/* ---- life ---- */

static void completions(int fd, uint32_t events, void *arg)
{
	struct mounted *m = arg;

	(void)fd;
	(void)events;
	(void)uring_dispatch(m->ring);
	if (uring_submit(m->ring) < 0 && m->mount != NULL) {
		csv_mount_kick(m->mount); /* tries again, and goes on doing so */
	}
}

static void destroy(struct mounted *m)
{
	csv_mount_destroy(m->mount);
	loop_fd_del(m->watch);
	loop_timer_del(m->end);
	while (m->ring != NULL && uring_in_flight(m->ring) != 0) {
		CHECK(uring_wait(m->ring, UINT64_MAX) >= 0);
	}
	uring_destroy(m->ring);
	if (m->fd >= 0) {
		(void)close(m->fd);
	}
	list_del(&m->link);
	free(m->wires);
	free(m);
}

static void ended(void *arg)
{
	struct mounted *m = arg;
	struct csv_volume *v = m->v;
	struct csv_daemon *d = m->d;

	if (!m->over) {
		return;
	}
	if (v != NULL) {
		log_info(TAG, "unmounted volume=%s", v->cfg.name);
		v->mounted = NULL;
		v->mount_retry_ns = clock_boot_ns() + AGAIN_NS;
		volume_work(v);
	}
	destroy(m);
	if (d != NULL) {
		loop_timer_arm(d->sweep, 0);
	}
}

void mounted_kick(struct csv_volume *v)
{
	if (v->mounted != NULL) {
		csv_mount_kick(v->mounted->mount);
	}
}

bool mounted_look(const struct csv_volume *v, struct csv_mount_stats *out)
{
	if (v->mounted == NULL || v->mounted->mount == NULL) {
		return false;
	}
	csv_mount_get_stats(v->mounted->mount, out);
	return true;
}

const struct redirects *mounted_redirects(const struct csv_volume *v)
{
	return v->mounted != NULL ? &v->mounted->redirects : NULL;
}

static int make_path(const struct csv_volume *v, char *path, size_t len, struct errbuf *eb)
{
	int n = snprintf(path, len, "%s/%s", v->d->cfg.mount_dir, v->cfg.name);

	if (n < 0 || (size_t)n >= len) {
		return errbuf_set(eb, -ENAMETOOLONG, "%s: too long", v->d->cfg.mount_dir);
	}
	/* A dead mount is there already, and answers nothing. */
	if (access(path, F_OK) == 0 || errno == ENOTCONN) {
		return 0;
	}
	return fs_mkdirs(path, 0755, eb);
}

static int make_ring(struct mounted *m, struct errbuf *eb)
{
	const struct uring_cfg cfg = {
		.entries = RING_ENTRIES, .in_loop = true, .apart = fs_may_wait(m->fd)};
	struct loop *loop = m->d->cfg.loop;
	int err = uring_create(&cfg, &m->ring, eb);

	if (err == 0) {
		err = loop_fd_add(loop, uring_fd(m->ring), LOOP_READ, completions, m, &m->watch);
	}
	if (err == 0) {
		err = loop_timer_new(loop, ended, m, &m->end);
	}
	return err;
}

static int start_mount(struct csv_volume *v, struct mounted *m, struct errbuf *eb)
{
	char path[CSV_DAEMON_PATH_MAX + CSV_DAEMON_NAME_MAX];
	struct csv_mount_cfg cfg = {
		.path = path,
		.name = v->cfg.name,
		.loop = v->d->cfg.loop,
		.ops = &mounted_ops,
		.arg = m,
		.root_ino = csv_layout_root(&v->super.layout),
		.probe_bytes = (uint64_t)CSV_SUPER_AT * CSV_BLOCK_BYTES,
		.marks_bytes = MARKS_BYTES + (uint64_t)v->d->members->self * CSV_MOUNT_MARKS,
	};
	int err = make_path(v, path, sizeof(path), eb);

	if (err == 0) {
		m->fd = fcntl(disk_fd(v->disk), F_DUPFD_CLOEXEC, 3);
		err = m->fd < 0 ? errbuf_sys(eb, -errno, "%s", v->cfg.device) : make_ring(m, eb);
	}
	if (err != 0) {
		return err;
	}
	redirects_init(&m->redirects, v, m->ring);
	cfg.ring = m->ring;
	cfg.device_fd = m->fd;
	return csv_mount_create(&cfg, &m->mount, eb);
}

void mounted_start(struct csv_volume *v, uint64_t now_ns)
{
	struct mounted *m;
	struct errbuf eb = {0};
	int err = -ENOMEM;

	if (v->mounted != NULL || v->d->cfg.mount_dir == NULL || v->phase != VOLUME_READY ||
	    now_ns < v->mount_retry_ns || csv_client_state(v->client) != CSV_CLIENT_ACTIVE) {
		return;
	}
	v->mount_retry_ns = now_ns + RETRY_NS;
	m = gw_calloc(1, sizeof(*m));
	if (m == NULL) {
		return;
	}
	m->v = v;
	m->d = v->d;
	m->volume = v->super.volume;
	m->fd = -1;
	list_init(&m->link);
	list_init(&m->idle);
	list_init(&m->waiting);
	list_init(&m->refused);
	m->wires = gw_calloc_sparse(WIRES, sizeof(*m->wires));
	if (m->wires != NULL) {
		for (uint32_t i = 0; i < WIRES; i++) {
			list_add_tail(&m->idle, &m->wires[i].link);
		}
		err = start_mount(v, m, &eb);
	}
	if (err != 0) {
		v->mount_why = eb;
		log_warn(TAG, "cannot mount volume=%s reason=\"%s\"", v->cfg.name,
		         errbuf_text(&eb, err));
		destroy(m);
		return;
	}
	list_add_tail(&v->d->mounts, &m->link);
	v->mounted = m;
	v->mount_why = (struct errbuf){0};
	log_info(TAG, "mounted volume=%s path=%s/%s", v->cfg.name, v->d->cfg.mount_dir,
	         v->cfg.name);
}

bool mounted_stop(struct csv_volume *v)
{
	struct mounted *m = v->mounted;

	if (m == NULL) {
		return true;
	}
	if (!m->stopping) {
		m->stopping = true;
		csv_mount_stop(m->mount);
	}
	return false;
}

void mounted_lose(struct csv_volume *v)
{
	struct mounted *m = v->mounted;

	if (m == NULL) {
		return;
	}
	v->mounted = NULL;
	m->v = NULL;
	redirects_lose(&m->redirects);
	for (struct list *link = list_pop(&m->waiting); link != NULL;
	     link = list_pop(&m->waiting)) {
		struct csv_op *op = list_entry(link, struct csv_op, link);

		refuse(m, container_of(op, struct csv_mount_ask, op));
	}
	csv_mount_lost(m->mount, 0);
	if (!m->stopping) {
		m->stopping = true;
		csv_mount_stop(m->mount);
	}
}

int mounted_attach(struct csv_volume *v, const uint8_t key[SHARED_FILE_KEY_BYTES], int sock,
                   int lock_fd)
{
	struct mounted *m = v->mounted;

	return m == NULL || m->stopping ? -ENOENT : csv_mount_attach(m->mount, key, sock, lock_fd);
}

void mounted_event(struct csv_volume *v, const struct csv_client_event *event)
{
	struct mounted *m = v->mounted;

	if (m == NULL || event->what == CSV_MSG_A_LOCK) {
		return;
	}
	if (event->type == CSV_CLIENT_LOST ||
	    (event->what == CSV_MSG_A_HANDLE && event->type == CSV_CLIENT_REVOKED)) {
		csv_mount_lost(m->mount, event->number);
	} else if (event->what == CSV_MSG_A_LEASE) {
		csv_mount_recall(m->mount, event->number);
	}
}

uint32_t mounted_closing(const struct csv_daemon *d, struct guid *ids, uint32_t max)
{
	uint32_t count = 0;

	list_for_each(link, &d->mounts)
	{
		const struct mounted *m = list_entry(link, struct mounted, link);

		if (m->v == NULL && count++ < max) {
			ids[count - 1] = m->volume;
		}
	}
	return count;
}

void mounted_orphans(struct csv_daemon *d)
{
	for (struct list *link = list_pop(&d->mounts); link != NULL; link = list_pop(&d->mounts)) {
		struct mounted *m = list_entry(link, struct mounted, link);

		log_warn(TAG, "still unmounting when the service ends");
		m->d = NULL;
	}
}
