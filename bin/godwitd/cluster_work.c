/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_work.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/run.h"

#define COROSYNC "/usr/sbin/corosync"
#define CFGTOOL "/usr/sbin/corosync-cfgtool"
#define SYSTEMCTL "/usr/bin/systemctl"
#define COROSYNC_TIMEOUT_NS (60 * NS_PER_S) /* systemctl waits for the unit */
#define STOP_TIMEOUT_NS (30 * NS_PER_S)
#define STOP_PAUSE_NS 100000000l
#define STOP_AGAIN 20u /* pauses until it is asked again */
#define COROSYNC_SAID_MAX 2000u

struct cluster_work {
	struct list link;
	struct cluster_works *works;
	pthread_t thread;
	bool ended; /* under works.lock */
	cluster_run_fn run;
	cluster_done_fn done;
	void *arg;
	int err; /* the thread's until ended; so is: */
	struct errbuf eb;
};

struct cluster_works {
	struct loop_fd *watch;
	int fd; /* eventfd */
	pthread_mutex_t lock;
	struct list list;
};

static void *work_thread(void *arg)
{
	struct cluster_work *w = arg;
	struct cluster_works *works = w->works;
	uint64_t one = 1;

	w->err = w->run(w->arg, &w->eb);
	(void)pthread_mutex_lock(&works->lock);
	w->ended = true;
	(void)pthread_mutex_unlock(&works->lock);
	if (write(works->fd, &one, sizeof(one)) != sizeof(one)) {
		log_err("cluster", "end of a work not reported error=%s", strerrorname_np(errno));
	}
	return NULL;
}

static void work_finish(struct cluster_work *w)
{
	list_del(&w->link);
	(void)pthread_join(w->thread, NULL);
	w->done(w->arg, w->err, &w->eb);
	free(w);
}

static struct cluster_work *works_ended(struct cluster_works *works)
{
	struct cluster_work *found = NULL;

	(void)pthread_mutex_lock(&works->lock);
	list_for_each(link, &works->list)
	{
		struct cluster_work *w = list_entry(link, struct cluster_work, link);

		if (w->ended) {
			found = w;
			break;
		}
	}
	(void)pthread_mutex_unlock(&works->lock);
	return found;
}

static void works_ready(int fd, uint32_t events, void *arg)
{
	struct cluster_works *works = arg;
	struct cluster_work *w;
	uint64_t count;

	(void)events;
	if (read(fd, &count, sizeof(count)) != sizeof(count)) {
		return;
	}
	while ((w = works_ended(works)) != NULL) {
		work_finish(w);
	}
}

int cluster_works_create(struct loop *loop, struct cluster_works **out)
{
	struct cluster_works *works = gw_calloc(1, sizeof(*works));
	int err;

	*out = NULL;
	if (works == NULL) {
		return -ENOMEM;
	}
	list_init(&works->list);
	(void)pthread_mutex_init(&works->lock, NULL);
	works->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = works->fd < 0
	              ? -errno
	              : loop_fd_add(loop, works->fd, LOOP_READ, works_ready, works, &works->watch);
	if (err != 0) {
		cluster_works_destroy(works);
		return err;
	}
	*out = works;
	return 0;
}

void cluster_works_destroy(struct cluster_works *works)
{
	if (works == NULL) {
		return;
	}
	list_for_each_safe(link, &works->list)
	{
		work_finish(list_entry(link, struct cluster_work, link));
	}
	loop_fd_del(works->watch);
	if (works->fd >= 0) {
		(void)close(works->fd);
	}
	(void)pthread_mutex_destroy(&works->lock);
	free(works);
}

int cluster_work_start(struct cluster_works *works, cluster_run_fn run, cluster_done_fn done,
                       void *arg)
{
	struct cluster_work *w = gw_calloc(1, sizeof(*w));
	int err;

	if (w == NULL) {
		return -ENOMEM;
	}
	w->works = works;
	w->run = run;
	w->done = done;
	w->arg = arg;
	list_add_tail(&works->list, &w->link);
	err = -pthread_create(&w->thread, NULL, work_thread, w);
	if (err != 0) {
		list_del(&w->link);
		free(w);
	}
	return err;
}

/* ---- corosync ---- */

static int corosync_run(const char *const argv[], struct errbuf *eb)
{
	char said[COROSYNC_SAID_MAX];
	int status = run_capture(argv, COROSYNC_TIMEOUT_NS, said, sizeof(said));

	if (status == 0) {
		return 0;
	}
	if (status < 0) {
		(void)errbuf_sys(eb, status, "%s", argv[0]);
		errbuf_hint(eb, "is the package corosync installed?");
		return status;
	}
	said[strcspn(said, "\n")] = '\0';
	(void)errbuf_set(eb, -EIO, "%s %s ended with %d: %.200s", argv[0],
	                 argv[1] != NULL ? argv[1] : "", status, said);
	return -EIO;
}

int corosync_start(enum corosync_by by, struct errbuf *eb)
{
	static const char *const unit[] = {SYSTEMCTL, "enable", "--now", "corosync.service", NULL};
	static const char *const probe[] = {CFGTOOL, "-s", NULL};
	static const char *const self[] = {COROSYNC, NULL};
	struct errbuf unused = {0};

	switch (by) {
	case COROSYNC_SYSTEMD:
		return corosync_run(unit, eb);
	case COROSYNC_DIRECT:
		return corosync_run(probe, &unused) == 0 ? 0 : corosync_run(self, eb);
	case COROSYNC_NONE:
		return 0;
	}
	return -EINVAL;
}

/* It is asked, not told: during a change of members it may forget that it was. */
static int corosync_stop_direct(struct errbuf *eb)
{
	static const char *const ask[] = {CFGTOOL, "-H", NULL};
	static const char *const probe[] = {CFGTOOL, "-s", NULL};
	uint64_t end_ns = clock_now_ns() + STOP_TIMEOUT_NS;
	const struct timespec pause = {.tv_nsec = STOP_PAUSE_NS};
	struct errbuf unused = {0};

	for (uint32_t i = 0; corosync_run(probe, &unused) == 0; i++) {
		int err = i % STOP_AGAIN == 0 ? corosync_run(ask, eb) : 0;

		if (clock_now_ns() > end_ns) {
			return err != 0 ? err : errbuf_set(eb, -ETIMEDOUT, "corosync does not end");
		}
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

int corosync_stop(enum corosync_by by, struct errbuf *eb)
{
	static const char *const unit[] = {SYSTEMCTL, "disable", "--now", "corosync.service", NULL};

	switch (by) {
	case COROSYNC_SYSTEMD:
		return corosync_run(unit, eb);
	case COROSYNC_DIRECT:
		return corosync_stop_direct(eb);
	case COROSYNC_NONE:
		return 0;
	}
	return -EINVAL;
}

int corosync_reload(struct errbuf *eb)
{
	static const char *const reload[] = {CFGTOOL, "-R", NULL};

	return corosync_run(reload, eb);
}
