/* SPDX-License-Identifier: Apache-2.0 */
#include "csv/daemon/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "csv/pr/csv_pr_sg.h"

#define TAG "csv-reserve"
#define CHECK_NS NS_PER_S
#define COMMAND_MS 10000u

enum preempt { PREEMPT_NONE, PREEMPT_WANTED, PREEMPT_BUSY, PREEMPT_DONE };

struct reserve {
	struct reserve_cfg cfg;
	struct csv_pr_sg sg; /* the thread's */
	struct csv_pr pr;    /* the thread's */
	int fd;              /* owned: of the device */
	int wake_fd;         /* owned: eventfd, to the loop */
	struct loop_fd *watch;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t work;
	uint32_t refs; /* the owner's, the thread's */
	bool ending;
	bool leave;
	struct reserve_state state;
	enum preempt preempt;
	uint64_t victim;
	int preempt_err;
	bool preempt_aborted;
	void (*preempt_fn)(void *arg, int err, bool aborted);
	void *preempt_arg;
};

static void put(struct reserve *r)
{
	bool last;

	(void)pthread_mutex_lock(&r->lock);
	last = --r->refs == 0;
	(void)pthread_mutex_unlock(&r->lock);
	if (!last) {
		return;
	}
	if (r->fd >= 0) {
		(void)close(r->fd);
	}
	if (r->wake_fd >= 0) {
		(void)close(r->wake_fd);
	}
	(void)pthread_cond_destroy(&r->work);
	(void)pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- the thread ---- */

static void tell(struct reserve *r)
{
	const uint64_t one = 1;

	if (write(r->wake_fd, &one, sizeof(one)) != sizeof(one)) {
		log_err(TAG, "not told error=%s", strerrorname_np(errno));
	}
}

/* Its own word of this run that the key was there counts: then it is not made again. */
static int enter(struct reserve *r, struct errbuf *eb)
{
	int err = r->cfg.registered ? csv_pr_adopt(&r->pr, r->cfg.key, eb)
	                            : csv_pr_register(&r->pr, r->cfg.key, 0, true, eb);

	if (err == -EEXIST) {
		err = csv_pr_adopt(&r->pr, r->cfg.key, eb);
	}
	return err == 0 && r->pr.level != CSV_PR_NONE ? csv_pr_reserve(&r->pr, eb) : err;
}

static void publish(struct reserve *r, int err, const struct errbuf *eb)
{
	struct reserve_state *s = &r->state;

	(void)pthread_mutex_lock(&r->lock);
	s->known = true;
	s->level = r->pr.level;
	s->entered = s->entered || r->cfg.registered || r->pr.entered;
	s->fenced = s->fenced || err == -ESTALE;
	s->err = s->fenced ? 0 : err;
	(void)snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1,
	               err != 0 ? eb->text : r->pr.reason);
	(void)pthread_mutex_unlock(&r->lock);
	tell(r);
}

static void do_check(struct reserve *r)
{
	static struct log_limit limit;
	struct errbuf eb = {0};
	int err = csv_pr_check(&r->pr, &eb);

	if (err == -ESTALE) {
		publish(r, err, &eb);
	} else if (err != 0) {
		log_limited(&limit, LOG_LEVEL_WARN, TAG, "not looked at text=\"%s\"", eb.text);
	}
}

static void do_preempt(struct reserve *r, uint64_t victim)
{
	struct errbuf eb = {0};
	int err = csv_pr_preempt(&r->pr, victim, &eb);

	log_warn(TAG, "key taken away key=%016" PRIx64 " error=%d text=\"%s\"", victim, -err,
	         eb.text);
	(void)pthread_mutex_lock(&r->lock);
	r->preempt = PREEMPT_DONE;
	r->preempt_err = err;
	r->preempt_aborted = err == 0 && r->pr.level == CSV_PR_ABORT;
	(void)pthread_mutex_unlock(&r->lock);
	if (err == -ESTALE) {
		publish(r, err, &eb);
	} else {
		tell(r);
	}
}

static void do_leave(struct reserve *r)
{
	struct errbuf eb = {0};
	int err = csv_pr_leave(&r->pr, &eb);

	if (err != 0) {
		log_info(TAG, "the key stays text=\"%s\"", eb.text);
	}
	(void)pthread_mutex_lock(&r->lock);
	r->leave = false;
	r->state.left = true;
	(void)pthread_mutex_unlock(&r->lock);
	tell(r);
}

/* Wait for something to do. Called with the lock; returns false: it is time to look again. */
static bool wait_work(struct reserve *r, bool checks)
{
	uint64_t until_ns = clock_now_ns() + r->cfg.check_ns;
	const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
	                               .tv_nsec = (long)(until_ns % NS_PER_S)};
	int err = 0;

	while (err == 0 && !r->ending && !r->leave && r->preempt != PREEMPT_WANTED) {
		err = checks ? pthread_cond_timedwait(&r->work, &r->lock, &until)
		             : pthread_cond_wait(&r->work, &r->lock);
	}
	return err == 0;
}

static void *reserve_thread(void *arg)
{
	struct reserve *r = arg;
	struct errbuf eb = {0};
	int err = enter(r, &eb);

	publish(r, err, &eb);
	(void)pthread_mutex_lock(&r->lock);
	while (!r->ending) {
		bool there = r->state.err == 0 && !r->state.fenced && !r->state.left &&
		             r->state.level != CSV_PR_NONE;
		bool work = wait_work(r, there);
		bool leave = r->leave;
		uint64_t victim = r->preempt == PREEMPT_WANTED ? r->victim : 0;

		if (r->ending) {
			break;
		}
		r->preempt = victim != 0 ? PREEMPT_BUSY : r->preempt;
		(void)pthread_mutex_unlock(&r->lock);
		if (victim != 0) {
			do_preempt(r, victim);
		} else if (work && leave) {
			do_leave(r);
		} else if (there) {
			do_check(r);
		}
		(void)pthread_mutex_lock(&r->lock);
	}
	(void)pthread_mutex_unlock(&r->lock);
	put(r);
	return NULL;
}

/* ---- the owner ---- */

static void on_wake(int fd, uint32_t events, void *arg)
{
	struct reserve *r = arg;
	void (*fn)(void *arg, int err, bool aborted) = NULL;
	void *fn_arg;
	bool aborted;
	uint64_t count;
	int err;

	(void)events;
	(void)!read(fd, &count, sizeof(count));
	(void)pthread_mutex_lock(&r->lock);
	if (r->preempt == PREEMPT_DONE) {
		r->preempt = PREEMPT_NONE;
		fn = r->preempt_fn;
	}
	err = r->preempt_err;
	aborted = r->preempt_aborted;
	fn_arg = r->preempt_arg;
	(void)pthread_mutex_unlock(&r->lock);
	if (fn != NULL) {
		fn(fn_arg, err, aborted);
	}
	r->cfg.changed(r->cfg.arg);
}

static int start(struct reserve *r)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err = pthread_attr_init(&attr);

	if (err == 0) {
		(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		r->refs++;
		err = pthread_create(&thread, &attr, reserve_thread, r);
		r->refs -= err != 0 ? 1 : 0;
		(void)pthread_attr_destroy(&attr);
	}
	return -err;
}

int reserve_create(const struct reserve_cfg *cfg, struct reserve **out, struct errbuf *eb)
{
	struct reserve *r = gw_calloc(1, sizeof(*r));
	pthread_condattr_t clock;
	int err = 0;

	*out = NULL;
	if (r == NULL) {
		return errbuf_sys(eb, -ENOMEM, "reservations");
	}
	r->cfg = *cfg;
	r->cfg.check_ns = cfg->check_ns != 0 ? cfg->check_ns : CHECK_NS;
	r->refs = 1;
	(void)pthread_mutex_init(&r->lock, NULL);
	(void)pthread_condattr_init(&clock);
	(void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&r->work, &clock);
	(void)pthread_condattr_destroy(&clock);
	r->fd = fcntl(cfg->fd, F_DUPFD_CLOEXEC, 3);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->sg = (struct csv_pr_sg){.fd = r->fd, .timeout_ms = COMMAND_MS};
	csv_pr_init(&r->pr, cfg->door != NULL ? cfg->door : &csv_pr_sg_door,
	            cfg->door != NULL ? cfg->door_arg : &r->sg);
	if (r->fd < 0 || r->wake_fd < 0) {
		err = -errno;
	}
	if (err == 0) {
		err = loop_fd_add(cfg->loop, r->wake_fd, LOOP_READ, on_wake, r, &r->watch);
	}
	if (err == 0) {
		err = start(r);
	}
	if (err != 0) {
		loop_fd_del(r->watch);
		put(r);
		return errbuf_sys(eb, err, "reservations");
	}
	*out = r;
	return 0;
}

void reserve_get(struct reserve *r, struct reserve_state *out)
{
	(void)pthread_mutex_lock(&r->lock);
	*out = r->state;
	(void)pthread_mutex_unlock(&r->lock);
}

int reserve_preempt(struct reserve *r, uint64_t victim,
                    void (*fn)(void *arg, int err, bool aborted), void *arg)
{
	const struct reserve_state *s = &r->state;
	int err = 0;

	(void)pthread_mutex_lock(&r->lock);
	if (!s->known || s->fenced || s->err != 0 || s->left) {
		err = -EAGAIN;
	} else if (s->level == CSV_PR_NONE) {
		err = -ENOTSUP;
	} else if (r->preempt != PREEMPT_NONE) {
		err = -EBUSY;
	} else {
		r->preempt = PREEMPT_WANTED;
		r->victim = victim;
		r->preempt_fn = fn;
		r->preempt_arg = arg;
		(void)pthread_cond_signal(&r->work);
	}
	(void)pthread_mutex_unlock(&r->lock);
	return err;
}

void reserve_leave(struct reserve *r)
{
	(void)pthread_mutex_lock(&r->lock);
	r->leave = true;
	(void)pthread_cond_signal(&r->work);
	(void)pthread_mutex_unlock(&r->lock);
}

void reserve_destroy(struct reserve *r)
{
	if (r == NULL) {
		return;
	}
	bool asked;

	loop_fd_del(r->watch);
	(void)pthread_mutex_lock(&r->lock);
	r->ending = true;
	asked = r->preempt != PREEMPT_NONE;
	(void)pthread_cond_signal(&r->work);
	(void)pthread_mutex_unlock(&r->lock);
	if (asked) {
		r->preempt_fn(r->preempt_arg, -ECANCELED, false);
	}
	put(r);
}
