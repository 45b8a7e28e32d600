/* SPDX-License-Identifier: Apache-2.0 */
#include "base/patience.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"

static atomic_uint left_behind; /* threads that nobody waits for */

/* Freed by who comes last. */
struct patience {
	void (*fn)(void *arg);
	void (*drop)(void *arg);
	void *arg;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t over;
	bool ended;
	bool left; /* nobody waits any more */
};

static void patience_free(struct patience *p)
{
	(void)pthread_cond_destroy(&p->over);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static void *patience_thread(void *arg)
{
	struct patience *p = arg;
	bool left;

	p->fn(p->arg);
	(void)pthread_mutex_lock(&p->lock);
	p->ended = true;
	left = p->left;
	(void)pthread_cond_signal(&p->over);
	(void)pthread_mutex_unlock(&p->lock);
	if (left) {
		atomic_fetch_sub(&left_behind, 1);
		p->drop(p->arg);
		patience_free(p);
	}
	return NULL;
}

static struct patience *patience_new(void (*fn)(void *arg), void (*drop)(void *arg), void *arg)
{
	struct patience *p = gw_calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (p == NULL) {
		return NULL;
	}
	p->fn = fn;
	p->drop = drop;
	p->arg = arg;
	CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
	CHECK(pthread_condattr_init(&attr) == 0);
	CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	CHECK(pthread_cond_init(&p->over, &attr) == 0);
	(void)pthread_condattr_destroy(&attr);
	return p;
}

static uint64_t shorter(uint64_t limit_ns)
{
	return limit_ns < PATIENCE_SHORT_NS ? limit_ns : PATIENCE_SHORT_NS;
}

int patience_run(void (*fn)(void *arg), void (*drop)(void *arg), void *arg, uint64_t limit_ns)
{
	const uint32_t behind = atomic_load(&left_behind);
	uint64_t until_ns = clock_now_ns() + (behind == 0 ? limit_ns : shorter(limit_ns));
	const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
	                               .tv_nsec = (long)(until_ns % NS_PER_S)};
	struct patience *p;
	pthread_t thread;
	bool ended;
	int err;

	if (behind >= PATIENCE_LEFT_MAX) {
		return -EBUSY;
	}
	p = patience_new(fn, drop, arg);
	err = p == NULL ? -ENOMEM : -pthread_create(&thread, NULL, patience_thread, p);
	if (err != 0) {
		if (p != NULL) {
			patience_free(p);
		}
		return err;
	}
	(void)pthread_mutex_lock(&p->lock);
	while (!p->ended && err == 0) {
		err = -pthread_cond_timedwait(&p->over, &p->lock, &until);
	}
	ended = p->ended;
	p->left = !ended;
	if (!ended) {
		atomic_fetch_add(&left_behind, 1);
	}
	(void)pthread_mutex_unlock(&p->lock);
	if (!ended) {
		(void)pthread_detach(thread);
		return -ETIMEDOUT;
	}
	(void)pthread_join(thread, NULL);
	patience_free(p);
	return 0;
}

/* ---- stat ---- */

struct look {
	char *path; /* owned */
	bool file;  /* no folder is wanted */
	int err;
};

static void look_now(void *arg)
{
	struct look *l = arg;
	struct stat st;

	l->err = stat(l->path, &st) == 0 ? 0 : -errno;
	if (l->err == 0 && l->file && S_ISDIR(st.st_mode)) {
		l->err = -EISDIR;
	}
}

static void look_free(void *arg)
{
	struct look *l = arg;

	free(l->path);
	free(l);
}

static int look_at(const char *path, bool file, struct errbuf *eb)
{
	struct look *l = gw_calloc(1, sizeof(*l));
	int err = -ENOMEM;

	if (l == NULL) {
		return errbuf_sys(eb, err, "%s", path);
	}
	l->file = file;
	l->path = gw_strdup(path);
	if (l->path != NULL) {
		err = patience_run(look_now, look_free, l, PATIENCE_NS);
	}
	if (err == -EBUSY) {
		look_free(l);
	}
	if (err == -ETIMEDOUT || err == -EBUSY) {
		(void)errbuf_set(eb, -ETIMEDOUT, "%s does not answer%s", path,
		                 err == -EBUSY ? ", like too much else" : "");
		errbuf_hint(eb,
		            "if it is on a shared volume: godwit csv list says how that stands");
		return -ETIMEDOUT;
	}
	err = err != 0 ? err : l->err;
	look_free(l);
	return err != 0 ? errbuf_sys(eb, err, "%s", path) : 0;
}

int patience_stat(const char *path, struct errbuf *eb)
{
	return look_at(path, false, eb);
}

int patience_file(const char *path, struct errbuf *eb)
{
	return look_at(path, true, eb);
}
