/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/flight/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "cluster/flight/flight_wire.h"

#define TAG "flight"
#define PATH_SIZE 512u
#define FILE_BYTES (FLIGHT_HEAD_BYTES + FLIGHT_RECORDS * sizeof(struct flight_record_wire))
#define BATCH 512u /* records that are written at a time */

struct flight {
	char path[PATH_SIZE];
	int fd;                    /* the thread's, once it runs */
	struct flight_log *before; /* owned: of the boot before; NULL */
	struct flight_log *head;   /* owned: without records */
	pthread_t thread;
	pthread_cond_t wake;
	pthread_mutex_t lock;       /* of all below */
	struct flight_record *ring; /* owned [FLIGHT_RECORDS]: number seq at (seq - 1) % ... */
	uint64_t first_seq;         /* of the oldest in the ring */
	uint64_t last_seq;          /* of the newest; first_seq - 1 = none */
	uint64_t written_seq;
	bool stop;
};

uint32_t flight_us(uint64_t span_ns)
{
	return span_ns / 1000 < UINT32_MAX ? (uint32_t)(span_ns / 1000) : UINT32_MAX;
}

/* ---- the thread ---- */

static void record_encode(const struct flight_record *r, uint64_t seq, struct flight_record_wire *w)
{
	*w = (struct flight_record_wire){
		.seq = le64_make(seq),
		.boot_ns = le64_make(r->boot_ns),
		.kind = le16_make((uint16_t)r->kind),
		.node = le16_make((uint16_t)r->node),
		.value = le32_make(r->value),
		.value2 = le32_make(r->value2),
	};
	w->crc = le32_make(crc32c(w, sizeof(*w) - sizeof(w->crc)));
}

static int write_all(int fd, const void *buf, size_t len, uint64_t offset)
{
	ssize_t put = pwrite(fd, buf, len, (off_t)offset);

	if (put < 0) {
		return -errno;
	}
	return (size_t)put == len ? 0 : -ENOSPC;
}

/* The next records that are not written yet, which lie one after the other in the file. Returns how
 * many. Lock held. */
static uint32_t take_locked(struct flight *f, struct flight_record batch[BATCH], uint64_t *from)
{
	uint32_t count = 0;

	if (f->written_seq + 1 < f->first_seq) {
		f->written_seq = f->first_seq - 1; /* the disk was too slow for them */
	}
	*from = f->written_seq + 1;
	while (count < BATCH && *from + count <= f->last_seq &&
	       (count == 0 || (*from + count - 1) % FLIGHT_RECORDS != 0)) {
		batch[count] = f->ring[(*from + count - 1) % FLIGHT_RECORDS];
		count++;
	}
	return count;
}

/* Without the lock: this is what may take long. */
static int put_batch(const struct flight *f, const struct flight_record *batch, uint32_t count,
                     uint64_t from)
{
	struct flight_record_wire wire[BATCH];
	uint64_t offset =
		FLIGHT_HEAD_BYTES + (from - 1) % FLIGHT_RECORDS * sizeof(struct flight_record_wire);

	for (uint32_t i = 0; i < count; i++) {
		record_encode(&batch[i], from + i, &wire[i]);
	}
	return write_all(f->fd, wire, count * sizeof(wire[0]), offset);
}

/* All that is new. Lock held; let go meanwhile. */
static void flush_locked(struct flight *f, bool *warned)
{
	struct flight_record batch[BATCH];
	uint64_t from = 0;
	uint32_t count;
	bool any = false;
	int err = 0;

	while (err == 0 && (count = take_locked(f, batch, &from)) != 0) {
		(void)pthread_mutex_unlock(&f->lock);
		err = put_batch(f, batch, count, from);
		any = true;
		(void)pthread_mutex_lock(&f->lock);
		f->written_seq = from + count - 1;
	}
	if (!any) {
		return;
	}
	(void)pthread_mutex_unlock(&f->lock);
	if (err == 0 && fdatasync(f->fd) < 0) {
		err = -errno;
	}
	if (err != 0 && !*warned) {
		log_warn(TAG, "the flight recorder's file is not written error=%s",
		         strerrorname_np(-err));
	}
	*warned = err != 0;
	(void)pthread_mutex_lock(&f->lock);
}

static void *run(void *arg)
{
	struct flight *f = arg;
	bool warned = false;

	(void)pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		struct timespec until;

		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (long)FLIGHT_FLUSH_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		(void)pthread_cond_timedwait(&f->wake, &f->lock, &until);
		flush_locked(f, &warned);
	}
	flush_locked(f, &warned);
	(void)pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* ---- the owner ---- */

void flight_add(struct flight *f, const struct flight_record *record)
{
	if (f == NULL) {
		return;
	}
	(void)pthread_mutex_lock(&f->lock);
	f->ring[f->last_seq++ % FLIGHT_RECORDS] = *record;
	if (f->last_seq - f->first_seq >= FLIGHT_RECORDS) {
		f->first_seq = f->last_seq - FLIGHT_RECORDS + 1;
	}
	(void)pthread_mutex_unlock(&f->lock);
}

int flight_now(struct flight *f, struct flight_log **out)
{
	/* Nobody but the owner adds: the numbers stand still. */
	uint32_t count = (uint32_t)(f->last_seq + 1 - f->first_seq);
	struct flight_log *log = gw_malloc(sizeof(*log) + (size_t)count * sizeof(log->records[0]));

	*out = log;
	if (log == NULL) {
		return -ENOMEM;
	}
	*log = *f->head;
	log->count = count;
	log->last_seq = f->last_seq;
	for (uint32_t i = 0; i < count; i++) {
		log->records[i] = f->ring[(f->first_seq - 1 + i) % FLIGHT_RECORDS];
	}
	return 0;
}

const struct flight_log *flight_before(const struct flight *f)
{
	return f->before;
}

/* ---- life ---- */

/* What a file says; NULL: nothing that can be read. Returns 0; -ENOMEM. */
static int load(const char *path, struct flight_log **out)
{
	struct flight_log *log = NULL;
	struct errbuf eb = {0};
	char *buf = NULL;
	size_t len = 0;
	int err = fs_read(path, FILE_BYTES, &buf, &len, &eb);

	if (err == 0) {
		err = flight_decode(buf, len, &log, &eb);
	}
	if (err != 0 && err != -ENOENT) {
		log_warn(TAG, "%s: not read text=\"%s\"", path, errbuf_text(&eb, err));
	}
	free(buf);
	*out = log;
	return err == -ENOMEM ? err : 0;
}

static void head_encode(const struct flight_log *h, uint8_t buf[FLIGHT_HEAD_BYTES])
{
	struct flight_head_wire w = {
		.magic = le64_make(FLIGHT_MAGIC),
		.version = le32_make(FLIGHT_VERSION),
		.records = le32_make(FLIGHT_RECORDS),
		.cluster = h->cluster,
		.boot = h->boot,
		.nodeid = le32_make(h->nodeid),
		.begin_boot_ns = le64_make(h->begin_boot_ns),
		.begin_wall_ns = le64_make(h->begin_wall_ns),
	};

	w.crc = le32_make(crc32c(&w, sizeof(w) - sizeof(w.crc)));
	memset(buf, 0, FLIGHT_HEAD_BYTES);
	memcpy(buf, &w, sizeof(w));
}

/* A file of this boot goes on. */
static void go_on(struct flight *f, const struct flight_log *log)
{
	*f->head = *log;
	f->head->count = 0;
	f->first_seq = log->last_seq + 1 - log->count;
	f->last_seq = log->last_seq;
	f->written_seq = log->last_seq;
	/* Damaged ones leave no gap: the others close up, which shifts them by a place or two. */
	for (uint32_t i = 0; i < log->count; i++) {
		f->ring[(f->first_seq - 1 + i) % FLIGHT_RECORDS] = log->records[i];
	}
}

static int begin_file(struct flight *f, const struct flight_cfg *cfg, struct errbuf *eb)
{
	uint8_t head[FLIGHT_HEAD_BYTES];
	int err;

	*f->head = (struct flight_log){
		.cluster = cfg->cluster,
		.boot = cfg->boot,
		.nodeid = cfg->nodeid,
		.begin_boot_ns = clock_boot_ns(),
		.begin_wall_ns = clock_wall_ns(),
	};
	f->first_seq = 1;
	f->fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f->fd < 0) {
		return errbuf_sys(eb, -errno, "%s", f->path);
	}
	head_encode(f->head, head);
	err = write_all(f->fd, head, sizeof(head), 0);
	return err == 0 ? 0 : errbuf_sys(eb, err, "%s", f->path);
}

static int open_file(struct flight *f, const struct flight_cfg *cfg, struct errbuf *eb)
{
	char old[PATH_SIZE + 2];
	struct flight_log *log = NULL;
	int err = load(f->path, &log);

	if (err != 0) {
		return err;
	}
	(void)snprintf(old, sizeof(old), "%s.1", f->path);
	if (log != NULL && guid_equal(&log->boot, &cfg->boot) &&
	    guid_equal(&log->cluster, &cfg->cluster) && log->nodeid == cfg->nodeid) {
		go_on(f, log);
		free(log);
		f->fd = open(f->path, O_RDWR | O_CLOEXEC);
		return f->fd < 0 ? errbuf_sys(eb, -errno, "%s", f->path) : load(old, &f->before);
	}
	/* One that cannot be read is kept as well: somebody may want to look at it. */
	if (rename(f->path, old) < 0 && errno != ENOENT) {
		err = errbuf_sys(eb, -errno, "%s", f->path);
		free(log);
		return err;
	}
	f->before = log;
	err = log == NULL ? load(old, &f->before) : 0;
	return err == 0 ? begin_file(f, cfg, eb) : err;
}

static int start_thread(struct flight *f)
{
	pthread_condattr_t attr;
	int err = -pthread_condattr_init(&attr);

	if (err == 0) {
		(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		err = -pthread_cond_init(&f->wake, &attr);
		(void)pthread_condattr_destroy(&attr);
	}
	if (err == 0) {
		err = -pthread_create(&f->thread, NULL, run, f);
		if (err != 0) {
			(void)pthread_cond_destroy(&f->wake);
		}
	}
	return err;
}

static void destroy(struct flight *f)
{
	if (f->fd >= 0) {
		(void)close(f->fd);
	}
	(void)pthread_mutex_destroy(&f->lock);
	free(f->before);
	free(f->head);
	free(f->ring);
	free(f);
}

int flight_open(const struct flight_cfg *cfg, struct flight **out, struct errbuf *eb)
{
	struct flight *f = gw_calloc(1, sizeof(*f));
	int err;

	*out = NULL;
	if (f == NULL) {
		return errbuf_sys(eb, -ENOMEM, "flight recorder");
	}
	f->fd = -1;
	(void)pthread_mutex_init(&f->lock, NULL);
	(void)snprintf(f->path, sizeof(f->path), "%s", cfg->path);
	f->head = gw_calloc(1, sizeof(*f->head));
	f->ring = gw_calloc_sparse(FLIGHT_RECORDS, sizeof(*f->ring));
	err = f->ring != NULL && f->head != NULL ? open_file(f, cfg, eb) : -ENOMEM;
	if (err == 0) {
		err = start_thread(f);
	}
	if (err != 0) {
		destroy(f);
		errbuf_prepend(eb, "flight recorder");
		return err;
	}
	flight_add(f, &(struct flight_record){.boot_ns = clock_boot_ns(),
	                                      .kind = FLIGHT_BEGIN,
	                                      .value = (uint32_t)getpid()});
	*out = f;
	return 0;
}

void flight_close(struct flight *f)
{
	if (f == NULL) {
		return;
	}
	(void)pthread_mutex_lock(&f->lock);
	f->stop = true;
	(void)pthread_cond_signal(&f->wake);
	(void)pthread_mutex_unlock(&f->lock);
	(void)pthread_join(f->thread, NULL);
	(void)pthread_cond_destroy(&f->wake);
	destroy(f);
}
