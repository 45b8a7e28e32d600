/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a move does to a running partition: notes which memory is written, slows the VPs down.
 *
 * The throttle stops all VPs at the same time, so that none waits for a lock of another that
 * stands still longer than both do. It only says "out until then": the VPs' threads sleep, the
 * device thread knows nothing of it, and a stop or an interrupt of the partition does not wait.
 */

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "hv/mem/gmem.h"
#include "hv/partition/partition_int.h"

#define TAG "partition"
#define TRACK_PERIOD_NS (20ull * 1000 * 1000)
#define TRACK_RUN_MIN_NS (200ull * 1000) /* less is all entering and leaving */

void partition_track_init(struct partition *p)
{
	pthread_condattr_t monotonic;

	CHECK(pthread_mutex_init(&p->track.lock, NULL) == 0);
	CHECK(pthread_condattr_init(&monotonic) == 0);
	CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
	CHECK(pthread_cond_init(&p->track.changed, &monotonic) == 0);
	CHECK(pthread_condattr_destroy(&monotonic) == 0);
}

void partition_track_fini(struct partition *p)
{
	CHECK(partition_throttle(p, 0) == 0);
	CHECK(pthread_cond_destroy(&p->track.changed) == 0);
	CHECK(pthread_mutex_destroy(&p->track.lock) == 0);
}

void partition_track_lock(struct partition *p)
{
	CHECK(pthread_mutex_lock(&p->track.lock) == 0);
}

void partition_track_unlock(struct partition *p)
{
	CHECK(pthread_mutex_unlock(&p->track.lock) == 0);
}

/* ---- written pages ---- */

int partition_track_rebuilt(struct partition *p, struct errbuf *eb)
{
	int err = p->track.dirty ? kvm_vm_dirty_start(p->vm) : 0;

	return err != 0 ? errbuf_sys(eb, err, "cannot note written memory") : 0;
}

int partition_dirty_start(struct partition *p, struct errbuf *eb)
{
	int err;

	partition_track_lock(p);
	err = p->track.dirty ? -EALREADY : gmem_dirty_start(p->mem);
	if (err == 0) {
		if (p->vm != NULL) {
			err = kvm_vm_dirty_start(p->vm);
		}
		if (err != 0) {
			gmem_dirty_stop(p->mem);
		}
		p->track.dirty = err == 0;
	}
	partition_track_unlock(p);
	return err != 0 ? errbuf_sys(eb, err, "cannot note written memory") : 0;
}

int partition_dirty_fetch(struct partition *p, uint32_t slot, uint64_t *bits, size_t words)
{
	int err = -EINVAL;

	partition_track_lock(p);
	if (p->track.dirty && slot < gmem_slots(p->mem)) {
		err = p->vm != NULL ? kvm_vm_dirty_fetch(p->vm, slot, bits, words) : 0;
		if (err == 0) {
			gmem_dirty_take(p->mem, slot, bits, words);
		}
	}
	partition_track_unlock(p);
	return err;
}

void partition_dirty_stop(struct partition *p)
{
	partition_track_lock(p);
	if (p->track.dirty) {
		p->track.dirty = false;
		if (p->vm != NULL) {
			kvm_vm_dirty_stop(p->vm);
		}
		gmem_dirty_stop(p->mem);
	}
	partition_track_unlock(p);
}

/* ---- the throttle ---- */

/* Sleep until @until_ns, unless the throttle ends. Locked. */
static void track_sleep(struct partition *p, uint64_t until_ns)
{
	const struct timespec until = {
		.tv_sec = (time_t)(until_ns / NS_PER_S),
		.tv_nsec = (long)(until_ns % NS_PER_S),
	};

	while (p->track.percent != 0 && clock_now_ns() < until_ns) {
		(void)pthread_cond_timedwait(&p->track.changed, &p->track.lock, &until);
	}
}

static void track_nap(struct partition *p, uint64_t until_ns)
{
	for (uint32_t i = 0; i < p->vp_count; i++) {
		vp_nap(&p->vps[i], until_ns);
	}
}

static void *track_main(void *arg)
{
	struct partition *p = arg;

	partition_track_lock(p);
	while (p->track.percent != 0) {
		uint64_t run_ns = TRACK_PERIOD_NS * (100 - p->track.percent) / 100;
		uint64_t nap_ns;
		uint64_t now_ns;

		if (run_ns < TRACK_RUN_MIN_NS) {
			run_ns = TRACK_RUN_MIN_NS;
		}
		nap_ns = run_ns * p->track.percent / (100 - p->track.percent);
		now_ns = clock_now_ns();
		track_nap(p, now_ns + nap_ns);
		track_sleep(p, now_ns + nap_ns + run_ns);
	}
	track_nap(p, 0);
	partition_track_unlock(p);
	return NULL;
}

int partition_throttle(struct partition *p, uint32_t percent)
{
	pthread_t ended;
	bool join = false;
	int err = 0;

	if (percent > PARTITION_THROTTLE_MAX) {
		return -EINVAL;
	}
	partition_track_lock(p);
	p->track.percent = percent;
	if (percent != 0 && !p->track.thread_on) {
		err = -pthread_create(&p->track.thread, NULL, track_main, p);
		p->track.thread_on = err == 0;
		p->track.percent = err == 0 ? percent : 0;
	} else if (percent == 0 && p->track.thread_on) {
		ended = p->track.thread;
		p->track.thread_on = false;
		join = true;
		CHECK(pthread_cond_broadcast(&p->track.changed) == 0);
	}
	partition_track_unlock(p);
	if (join) {
		CHECK(pthread_join(ended, NULL) == 0);
	}
	if (err == 0) {
		log_info(TAG, "throttle vm=%s percent=%u", p->cfg.vm_name, percent);
	}
	return err;
}
