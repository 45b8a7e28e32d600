/* SPDX-License-Identifier: Apache-2.0 */

/*
 * worker_storage - a VM whose storage is full, or does not answer, stands still until that is over:
 * CRITICAL. Its guest sees no error, only that time has passed.
 *
 * Once a second every disk is looked at (raw_look()). A disk that finds no room keeps its requests
 * for LIMIT_NS at most, then the guest is told. What does not answer is in the kernel's hands, or
 * in those of who serves the file; a shared volume gives up after as long a time.
 */

#include <errno.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "hv/worker/worker_int.h"

#define TAG "worker"
#define LOOK_NS (1 * NS_PER_S)
#define LATE_NS (3 * NS_PER_S) /* this process stood still: what ended meanwhile is not seen yet */
#define SILENT_NS (10 * NS_PER_S)
#define LIMIT_NS (1800 * NS_PER_S)

static const char *const trouble_words[] = {
	[RAW_WELL] = "none",
	[RAW_NO_ROOM] = "no-room",
	[RAW_NO_ANSWER] = "no-answer",
};

static void storage_arm(struct worker *w);

/* The worst that there is, and of which disk. */
static enum raw_trouble storage_look(struct worker *w, uint64_t now_ns, uint32_t *disk)
{
	enum raw_trouble worst = RAW_WELL;

	for (uint32_t i = 0; i < w->vm.disk_count; i++) {
		struct blk *first = w->disks[i].first;
		enum raw_trouble one =
			first != NULL ? raw_look(first, now_ns, SILENT_NS, LIMIT_NS) : RAW_WELL;

		if (one != RAW_WELL && (worst == RAW_WELL || one < worst)) {
			worst = one;
			*disk = i;
		}
	}
	return worst;
}

static void storage_tell(struct worker *w)
{
	struct worker_storage *s = &w->storage;
	json_t *event = json_pack("{s:s}", "event", "storage");

	worker_storage_status(w, event);
	log_warn(TAG, "storage vm=%s disk=%u trouble=%s", w->vm.name, s->disk,
	         trouble_words[s->trouble]);
	control_event(w->control, event);
}

static void storage_act(struct worker *w, uint64_t now_ns)
{
	struct worker_storage *s = &w->storage;
	enum partition_state state = partition_state_get(w->partition);
	uint32_t disk = 0;
	enum raw_trouble trouble = storage_look(w, now_ns, &disk);

	if (trouble != s->trouble || disk != s->disk) {
		s->trouble = trouble;
		s->disk = disk;
		storage_tell(w);
	}
	/* Refused: it is about to be something else, in which nothing runs, or it is seen again. */
	if (trouble != RAW_WELL && state == PARTITION_RUNNING && !w->stopping) {
		(void)!partition_critical(w->partition);
	} else if (trouble == RAW_WELL && state == PARTITION_CRITICAL) {
		(void)!partition_well(w->partition);
	}
}

static void storage_due(struct uring_op *op, int32_t res, bool more)
{
	struct worker *w = op->arg;
	struct worker_storage *s = &w->storage;
	uint64_t now_ns = clock_now_ns();

	(void)more;
	s->armed = false;
	if (w->stopping || s->over) {
		return;
	}
	if (res == -ETIME) {
		if (now_ns - s->looked_ns < LATE_NS) {
			storage_act(w, now_ns);
		}
		s->looked_ns = now_ns;
	}
	storage_arm(w);
}

static void storage_arm(struct worker *w)
{
	struct worker_storage *s = &w->storage;

	s->armed = true;
	s->deferred = uring_prep_timeout(w->ring, &s->timer, LOOK_NS) != 0;
	if (s->deferred) { /* no room in the ring now */
		uring_defer(w->ring, &s->timer, -EAGAIN);
	}
}

void worker_storage_start(struct worker *w)
{
	w->storage.timer = (struct uring_op){.fn = storage_due, .arg = w};
	w->storage.looked_ns = clock_now_ns();
	if (w->vm.disk_count != 0) {
		storage_arm(w);
	}
}

void worker_storage_end(struct worker *w)
{
	for (uint32_t i = 0; i < w->vm.disk_count; i++) {
		if (w->disks[i].first != NULL) {
			raw_patience(w->disks[i].first, false);
		}
	}
}

void worker_storage_status(const struct worker *w, json_t *out)
{
	const struct worker_storage *s = &w->storage;

	(void)json_object_set_new(out, "trouble", json_string(trouble_words[s->trouble]));
	(void)json_object_set_new(out, "disk", json_integer(s->disk));
}

void worker_storage_fini(struct worker *w)
{
	struct worker_storage *s = &w->storage;

	s->over = true;
	while (s->armed && !s->deferred && uring_cancel(w->ring, &s->timer) != 0) {
		CHECK(uring_wait(w->ring, UINT64_MAX) >= 0);
	}
	while (s->armed) {
		CHECK(uring_wait(w->ring, UINT64_MAX) >= 0);
	}
}
