/* SPDX-License-Identifier: Apache-2.0 */

/*
 * direct - users of open files that do I/O of their own on the device (base/shared_direct.h). A
 * channel is one of them: his connection, his own open file description of the device, the page
 * that says how long he may go on.
 *
 *	OPEN  -- he gave back all, or has the connection broken --> ENDING --> gone
 *
 * What he is told are extents that csv/data knows as written, so they lie in leases that are held;
 * before one of these goes back, data.c asks him to forget (direct_revoke()), and waits for his
 * word (direct_waits()). One whose connection broke, or who talks nonsense, is waited for by the
 * mark on his description of the device: the kernel takes it away with the last request of it.
 * There is no time limit: who may still write keeps what he may write to.
 *
 * Who waits for that in a request to the kernel is not let wait without end: the kernel has the
 * file locked meanwhile, and a user that is dying may have a request of its own waiting for that
 * lock where no signal ends it; so it would never be dead. So requests that come by another
 * description are refused after a while, and those that nobody listens to any more end.
 *
 * @granted: he was told an extent since he last gave back everything.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/shared_direct.h"
#include "csv/mount/mount_int.h"

#define TAG "csv-direct"
#define TICK_NS (100 * NS_PER_MS)
#define ENDING_TICK_NS (5 * NS_PER_MS)
#define BATCH 16u /* messages of one turn of the loop */

struct channel {
	struct csv_mount *m;
	struct file *file;
	struct list link; /* of the file */
	uint64_t hand;    /* struct hand.id */
	uint64_t mark;    /* byte of the device with his lock */
	int sock;         /* owned; -1 = ENDING */
	struct loop_fd *watch;
	struct shared_direct_page *page; /* owned */
	bool granted;
	bool revoking;
	uint32_t revoke_seq;
	uint64_t since_ns; /* revoking, or ENDING */
	bool complained;
};

/* ---- how long ---- */

static void page_set(struct channel *c, uint64_t until_ns)
{
	atomic_store_explicit(&c->page->until_ns, until_ns, memory_order_release);
}

static uint64_t file_until_ns(const struct file *f)
{
	struct csv_data_rights rights = {0};
	struct csv_data_stats s;
	uint64_t ahead = clock_boot_ns() + SHARED_DIRECT_AHEAD_NS;

	if (f->lost || f->blk == NULL || f->m->stopping) {
		return 0;
	}
	csv_data_get_stats(f->blk, &s);
	/* A path that is not good is for csv/data. Who waits for the coordinator does not need it
	 * for what was told. */
	if (s.state != CSV_DATA_DIRECT &&
	    (s.state != CSV_DATA_PAUSED || s.reason != CSV_DATA_META)) {
		return 0;
	}
	file_rights(f, &rights);
	if (rights.token == UINT64_MAX) {
		return 0;
	}
	return rights.until_ns < ahead ? rights.until_ns : ahead;
}

void direct_publish(struct file *f)
{
	uint64_t until_ns = list_empty(&f->channels) ? 0 : file_until_ns(f);

	list_for_each(link, &f->channels)
	{
		struct channel *c = list_entry(link, struct channel, link);

		page_set(c, c->sock >= 0 ? until_ns : 0);
	}
}

/* ---- the end ---- */

/* Not from a callback of the file: it may be freed with the last channel. */
static void channel_free(struct channel *c)
{
	struct csv_mount *m = c->m;

	if (c->page != NULL) {
		(void)munmap(c->page, SHARED_DIRECT_PAGE_BYTES);
	}
	list_del(&c->link);
	m->channels--;
	free(c);
}

static void channel_end(struct channel *c, const char *why)
{
	if (c->sock < 0) {
		return;
	}
	log_info(TAG, "ends volume=%s ino=%llu why=\"%s\"", c->m->cfg.name,
	         (unsigned long long)c->file->node->ino, why);
	page_set(c, 0);
	loop_fd_del(c->watch);
	c->watch = NULL;
	(void)close(c->sock);
	c->sock = -1;
	c->since_ns = clock_boot_ns();
	c->complained = false;
	loop_timer_arm(c->m->direct, 0);
}

void direct_end_all(struct file *f)
{
	list_for_each_safe(link, &f->channels)
	{
		channel_end(list_entry(link, struct channel, link),
		            f->lost ? "the file is lost" : "unmounted");
	}
}

void direct_hand_gone(struct file *f, uint64_t hand)
{
	list_for_each_safe(link, &f->channels)
	{
		struct channel *c = list_entry(link, struct channel, link);

		if (c->hand == hand) {
			channel_end(c, "the file was closed");
		}
	}
}

/* Does anything of his description of the device exist: a descriptor, a request? */
static bool is_marked(const struct channel *c)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)c->mark,
		.l_len = 1,
	};

	return fcntl(c->m->cfg.device_fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static bool is_waited_for(const struct channel *c)
{
	return c->granted && (c->revoking || c->sock < 0);
}

/* Does a request by the description @hand wait too long for another one? */
static bool waits_too_long(const struct file *f, uint64_t hand, uint64_t now)
{
	list_for_each(link, &f->channels)
	{
		const struct channel *c = list_entry(link, struct channel, link);

		if (c->hand != hand && is_waited_for(c) && now - c->since_ns >= f->m->cfg.slow_ns) {
			return true;
		}
	}
	return false;
}

static void refuse_waiters(struct file *f, uint64_t now)
{
	list_for_each_safe(link, &f->recall_waiters)
	{
		struct mreq *r = list_entry(link, struct mreq, wait);

		if (!r->refusable || !f->revoking) {
			continue;
		}
		if (r->fuse == NULL) {
			file_recall_leave(r, -EINTR);
		} else if (waits_too_long(f, r->fh, now)) {
			file_recall_leave(r, -EBUSY);
		}
	}
}

static void complain(struct channel *c, uint64_t now)
{
	if (!c->complained && now - c->since_ns >= c->m->cfg.slow_ns) {
		c->complained = true;
		log_warn(TAG, "a worker does not end its I/O volume=%s ino=%llu", c->m->cfg.name,
		         (unsigned long long)c->file->node->ino);
	}
}

/* What was written without us: the next flush is one, and the time has changed. */
static void written(struct file *f)
{
	if (f->writes) {
		f->dirty = true;
		f->time_dirty = true;
		f->modified_ns = clock_wall_ns();
	}
}

static void file_look(struct file *f, uint64_t now, bool *ending)
{
	bool ended = false;

	direct_publish(f);
	refuse_waiters(f, now);
	list_for_each_safe(link, &f->channels)
	{
		struct channel *c = list_entry(link, struct channel, link);

		if (c->sock < 0 && !is_marked(c)) {
			if (c->granted) {
				written(f);
			}
			channel_free(c);
			ended = true;
			continue;
		}
		*ending = *ending || c->sock < 0;
		if (c->sock < 0 || c->revoking) {
			complain(c, now);
		}
	}
	if (ended) {
		file_channels_quiet(f);
		file_put(f);
	}
}

void direct_tick(void *arg)
{
	struct csv_mount *m = arg;
	uint64_t now = clock_boot_ns();
	bool ending = false;

	list_for_each_safe(link, &m->files)
	{
		struct file *f = list_entry(link, struct file, link);

		if (!list_empty(&f->channels)) {
			file_look(f, now, &ending);
		}
	}
	if (m->channels != 0) {
		loop_timer_arm(m->direct, ending ? ENDING_TICK_NS : TICK_NS);
	}
	mount_submit(m);
}

/* ---- revoking ---- */

bool direct_granted(const struct file *f)
{
	list_for_each(link, &f->channels)
	{
		if (list_entry(link, struct channel, link)->granted) {
			return true;
		}
	}
	return false;
}

bool direct_waits(const struct file *f)
{
	list_for_each(link, &f->channels)
	{
		if (is_waited_for(list_entry(link, struct channel, link))) {
			return true;
		}
	}
	return false;
}

static int say(struct channel *c, const struct shared_direct_msg *msg)
{
	int err = shared_direct_send(c->sock, msg, NULL, 0);

	if (err != 0) {
		channel_end(c, "its user does not listen");
	}
	return err;
}

static uint64_t whole(uint64_t bytes)
{
	return bytes - bytes % SHARED_DIRECT_BLOCK;
}

void direct_revoke(struct file *f)
{
	list_for_each_safe(link, &f->channels)
	{
		struct channel *c = list_entry(link, struct channel, link);
		const struct shared_direct_msg msg = {
			.type = SHARED_DIRECT_REVOKE,
			.seq = c->revoke_seq + 1,
			.from_bytes = whole(f->recall_from),
			.to_bytes = whole(f->recall_to < INT64_MAX ? f->recall_to : INT64_MAX),
		};

		if (!c->granted || c->sock < 0) {
			continue;
		}
		c->revoke_seq++;
		c->revoking = true;
		c->complained = false;
		c->since_ns = clock_boot_ns();
		(void)say(c, &msg);
	}
}

/* ---- what he says ---- */

struct telling {
	const struct file *file;
	struct shared_direct_msg *msg;
};

/* As far as a lease for writing reaches, whole blocks of the file, and no further. */
static bool tell_one(void *arg, uint64_t file_bytes, uint64_t device_bytes, uint64_t len_bytes)
{
	const struct telling *t = arg;
	struct shared_direct_msg *msg = t->msg;
	uint64_t end = file_bytes + len_bytes;
	uint64_t size = whole(t->file->size_bytes);

	end = end < size ? end : size;
	for (uint64_t at = file_bytes; at < end && msg->count < SHARED_DIRECT_EXTENTS;) {
		const struct lease *l = file_lease_at(t->file, at);
		uint64_t to = l != NULL && !l->wanted ? l->to : at;

		to = to < end ? to : end;
		if (to <= at) {
			break;
		}
		msg->extents[msg->count++] = (struct shared_direct_extent){
			.file_bytes = at,
			.device_bytes = device_bytes + (at - file_bytes),
			.len_bytes = to - at,
		};
		at = to;
	}
	return msg->count < SHARED_DIRECT_EXTENTS;
}

static void on_map(struct channel *c, struct shared_direct_msg *msg)
{
	struct file *f = c->file;
	const struct hand *h = hand_find(f, c->hand);
	uint64_t from = msg->from_bytes;
	uint64_t to = msg->to_bytes;
	struct telling t = {.file = f, .msg = msg};

	msg->type = SHARED_DIRECT_EXTENTS_ARE;
	msg->count = 0;
	if (h != NULL && h->writes && !h->busy && f->writes && !f->lost && !f->recalling &&
	    f->blk != NULL && !c->m->stopping) {
		csv_data_written(f->blk, from, to, tell_one, &t);
	}
	c->granted = c->granted || msg->count != 0;
	c->m->stats.direct_told += msg->count;
	(void)say(c, msg);
}

static void gave_back(struct channel *c, bool all)
{
	struct file *f = c->file;

	if (c->granted) {
		written(f);
	}
	c->revoking = false;
	c->granted = c->granted && !all;
	file_channels_quiet(f);
}

static void on_release(struct channel *c, struct shared_direct_msg *msg)
{
	msg->type = SHARED_DIRECT_RELEASED;
	/* An answer to REVOKE that is on its way comes too late to be one. */
	c->revoke_seq += c->revoking ? 1 : 0;
	if (say(c, msg) == 0) {
		gave_back(c, true);
	}
}

/* Returns 0; -errno: he ends. */
static int on_message(struct channel *c, struct shared_direct_msg *msg)
{
	switch (msg->type) {
	case SHARED_DIRECT_MAP:
		on_map(c, msg);
		return 0;
	case SHARED_DIRECT_REVOKED:
		if (c->revoking && msg->seq == c->revoke_seq) {
			gave_back(c, false);
		}
		return 0;
	case SHARED_DIRECT_RELEASE:
		on_release(c, msg);
		return 0;
	case SHARED_DIRECT_HELLO:
	case SHARED_DIRECT_WELCOME:
	case SHARED_DIRECT_EXTENTS_ARE:
	case SHARED_DIRECT_REVOKE:
	case SHARED_DIRECT_RELEASED:
		break;
	}
	return -EPROTO;
}

static void on_readable(int fd, uint32_t events, void *arg)
{
	struct channel *c = arg;
	struct csv_mount *m = c->m;

	(void)fd;
	(void)events;
	for (uint32_t i = 0; i < BATCH && c->sock >= 0; i++) {
		int fds[SHARED_DIRECT_FDS];
		struct shared_direct_msg msg;
		int err = shared_direct_recv(c->sock, &msg, fds);

		if (err == -EAGAIN) {
			break;
		}
		for (uint32_t k = 0; k < SHARED_DIRECT_FDS; k++) {
			if (fds[k] >= 0) {
				(void)close(fds[k]); /* nobody asked for it */
				err = -EPROTO;
			}
		}
		if (err == 0) {
			err = on_message(c, &msg);
		}
		if (err != 0) {
			channel_end(c, err == -ENOTCONN ? "its user is gone"
			                                : "its user talks nonsense");
		}
	}
	mount_submit(m);
}

/* ---- the beginning ---- */

static struct hand *find_key(struct csv_mount *m, const uint8_t *key, struct file **file)
{
	list_for_each(link, &m->files)
	{
		struct file *f = list_entry(link, struct file, link);

		list_for_each(at, &f->hands)
		{
			struct hand *h = list_entry(at, struct hand, link);

			if (h->keyed && memcmp(h->key, key, sizeof(h->key)) == 0) {
				*file = f;
				return h;
			}
		}
	}
	return NULL;
}

static bool mark_is_free(const struct csv_mount *m, uint64_t mark)
{
	list_for_each(link, &m->files)
	{
		const struct file *f = list_entry(link, struct file, link);

		list_for_each(at, &f->channels)
		{
			if (list_entry(at, struct channel, link)->mark == mark) {
				return false;
			}
		}
	}
	return true;
}

/* An open file description of the device of its own, with a lock on the byte @mark. */
static int open_device(const struct csv_mount *m, uint64_t mark)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)mark,
		.l_len = 1,
	};
	int flags = fcntl(m->cfg.device_fd, F_GETFL);
	char path[64];
	int fd;
	int err;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", m->cfg.device_fd);
	fd = open(path, O_RDWR | O_CLOEXEC | (flags > 0 ? flags & O_DIRECT : 0));
	if (fd < 0) {
		return -errno;
	}
	if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	return fd;
}

/* The page: we write, who gets the descriptor reads. Returns the descriptor; -errno. */
static int make_page(struct channel *c)
{
	int fd = memfd_create("godwit-direct", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at = MAP_FAILED;
	int err;

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, SHARED_DIRECT_PAGE_BYTES) == 0) {
		at = mmap(NULL, SHARED_DIRECT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		          0);
	}
	c->page = at != MAP_FAILED ? at : NULL;
	if (c->page == NULL ||
	    fcntl(fd, F_ADD_SEALS,
	          F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	return fd;
}

static int welcome(struct channel *c, int lock_fd)
{
	const struct shared_direct_msg msg = {
		.type = SHARED_DIRECT_WELCOME,
		.align_bytes = csv_data_align(c->file->blk),
	};
	int fds[SHARED_DIRECT_FDS] = {-1, -1, lock_fd};
	int err = 0;

	fds[1] = make_page(c);
	if (fds[1] < 0) {
		return fds[1];
	}
	fds[0] = open_device(c->m, c->mark);
	if (fds[0] < 0) {
		err = fds[0];
	} else {
		err = shared_direct_send(c->sock, &msg, fds, SHARED_DIRECT_FDS);
		(void)close(fds[0]);
	}
	(void)close(fds[1]);
	return err;
}

static int channel_start(struct channel *c, int sock, int lock_fd)
{
	int err = loop_fd_add(c->m->cfg.loop, sock, LOOP_READ, on_readable, c, &c->watch);

	if (err == 0) {
		c->sock = sock;
		err = welcome(c, lock_fd);
	}
	return err;
}

int csv_mount_attach(struct csv_mount *m, const uint8_t key[SHARED_FILE_KEY_BYTES], int sock,
                     int lock_fd)
{
	struct file *f = NULL;
	struct hand *h = find_key(m, key, &f);
	struct channel *c;
	int err;

	if (h == NULL || f->lost || f->blk == NULL || m->stopping) {
		return -ENOENT;
	}
	if (m->channels >= CSV_MOUNT_CHANNELS) {
		return -EBUSY;
	}
	c = gw_calloc(1, sizeof(*c));
	if (c == NULL) {
		return -ENOMEM;
	}
	c->m = m;
	c->file = f;
	c->hand = h->id;
	c->sock = -1;
	do {
		c->mark = m->cfg.marks_bytes + m->next_channel++ % CSV_MOUNT_MARKS;
	} while (!mark_is_free(m, c->mark));
	list_add_tail(&f->channels, &c->link);
	m->channels++;
	err = channel_start(c, sock, lock_fd);
	if (err != 0) {
		/* Nothing was told: nothing can be in flight. */
		loop_fd_del(c->watch);
		channel_free(c);
		return err;
	}
	log_info(TAG, "a user does I/O of its own volume=%s ino=%llu", m->cfg.name,
	         (unsigned long long)f->node->ino);
	direct_publish(f);
	loop_timer_arm(m->direct, TICK_NS);
	return 0;
}
