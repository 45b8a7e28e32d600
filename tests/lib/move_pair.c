/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/move_pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

#define MOVE_PAIR_PATIENCE_S 60

static void move_pair_lock(struct move_pair *p)
{
	(void)pthread_mutex_lock(&p->lock);
}

static void move_pair_unlock(struct move_pair *p)
{
	(void)pthread_cond_broadcast(&p->cond);
	(void)pthread_mutex_unlock(&p->lock);
}

/* ---- the source's owner ---- */

static void source_progress(void *arg, const struct move_progress *m)
{
	struct move_pair *p = arg;

	move_pair_lock(p);
	CHECK(!p->at_source.ended);
	p->at_source.progresses++;
	p->at_source.last = *m;
	move_pair_unlock(p);
}

static void source_ready(void *arg, uint64_t deadline_ns)
{
	struct move_pair *p = arg;

	move_pair_lock(p);
	p->deadline_ns = deadline_ns;
	p->at_source.readies++;
	p->journal = p->owner == MOVE_PAIR_COMMITS;

	struct source *s = p->source; /* set before the lock was released the first time */

	move_pair_unlock(p);
	if (p->owner == MOVE_PAIR_COMMITS) {
		source_commit(s);
	} else if (p->owner == MOVE_PAIR_REFUSES) {
		const struct errbuf why = {.text = "the journal is read-only"};

		source_refuse(s, &why);
	}
}

static void source_lost(void *arg, const struct errbuf *why)
{
	struct move_pair *p = arg;

	CHECK(why->text[0] != '\0');
	move_pair_lock(p);
	p->at_source.losts++;
	move_pair_unlock(p);
}

static void source_ended(void *arg, const struct move_result *r)
{
	struct move_pair *p = arg;

	move_pair_lock(p);
	CHECK(!p->at_source.ended);
	p->at_source.ended = true;
	p->at_source.ended_ns = clock_now_ns();
	p->at_source.result = *r;
	move_pair_unlock(p);
}

static const struct source_events source_events = {
	.progress = source_progress,
	.ready = source_ready,
	.lost = source_lost,
	.ended = source_ended,
};

/* ---- the destination's ---- */

static void target_progress(void *arg, const struct move_progress *m)
{
	struct move_pair *p = arg;

	move_pair_lock(p);
	p->at_target.progresses++;
	p->at_target.last = *m;
	move_pair_unlock(p);
}

static void target_ready(void *arg)
{
	struct move_pair *p = arg;

	move_pair_lock(p);
	p->at_target.readies++;
	move_pair_unlock(p);
}

static void target_committed(void *arg, uint64_t epoch)
{
	struct move_pair *p = arg;

	move_pair_lock(p);
	p->at_target.committeds++;

	struct target *t = p->target;

	move_pair_unlock(p);
	if (p->confirm) {
		CHECK(target_commit(t, epoch) == 0);
	}
}

static void target_orphaned(void *arg, const struct errbuf *why)
{
	struct move_pair *p = arg;

	CHECK(why->text[0] != '\0');
	move_pair_lock(p);
	p->at_target.losts++;
	move_pair_unlock(p);
}

static void target_ended(void *arg, const struct move_result *r)
{
	struct move_pair *p = arg;

	move_pair_lock(p);
	CHECK(!p->at_target.ended);
	p->at_target.ended = true;
	p->at_target.ended_ns = clock_now_ns();
	p->at_target.result = *r;
	move_pair_unlock(p);
}

static const struct target_events target_events = {
	.progress = target_progress,
	.ready = target_ready,
	.committed = target_committed,
	.orphaned = target_orphaned,
	.ended = target_ended,
};

/* ---- both ---- */

void move_pair_init(struct move_pair *p, struct move_guest *guest, struct move_guest *place)
{
	static const char definition[] = "{\"name\":\"web1\"}";

	memset(p, 0, sizeof(*p));
	p->guest = guest;
	p->place = place;
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->cond, NULL);
	p->source_cfg = (struct source_cfg){
		.mode = STREAM_MODE_LIVE,
		.epoch = 7,
		.epoch_next = 8,
		.token = {1, 2, 3},
		.definition = definition,
		.definition_bytes = sizeof(definition) - 1,
		.plain = true,
		.silence_max_ns = 20 * NS_PER_S,
		.ops = &move_guest_source_ops,
		.guest = guest,
		.events = &source_events,
		.arg = p,
	};
	policy_defaults(&p->source_cfg.policy);
	p->source_cfg.policy.blackout_max_ns = 30 * NS_PER_S; /* loaded machines */
	guid_random(&p->source_cfg.vm);
	guid_random(&p->source_cfg.move);
	p->target_cfg = (struct target_cfg){
		.vm = p->source_cfg.vm,
		.move = p->source_cfg.move,
		.epoch = 7,
		.token = {1, 2, 3},
		.plain = true,
		.silence_max_ns = 20 * NS_PER_S,
		.ops = &move_guest_target_ops,
		.guest = place,
		.events = &target_events,
		.arg = p,
	};
}

void move_pair_sockets(uint32_t count, int *source_fds, int *target_fds)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(listener >= 0 && bind(listener, (const struct sockaddr *)&at, len) == 0);
	CHECK(listen(listener, 64) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
	for (uint32_t i = 0; i < count; i++) {
		source_fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CHECK(connect(source_fds[i], (const struct sockaddr *)&at, len) == 0);
		target_fds[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		CHECK(target_fds[i] >= 0);
	}
	(void)close(listener);
}

int move_pair_start(struct move_pair *p, uint32_t count, const int *source_fds,
                    const int *target_fds)
{
	int err;

	move_pair_lock(p); /* no event finds half a pair */
	p->target_cfg.confirm = p->confirm;
	CHECK(target_create(&p->target_cfg, &p->target, NULL) == 0);
	for (uint32_t i = 0; i < count; i++) {
		CHECK(target_add(p->target, target_fds[i]) == 0);
	}
	p->source_cfg.fds = source_fds;
	p->source_cfg.fd_count = count;
	err = source_create(&p->source_cfg, &p->source, NULL);
	move_pair_unlock(p);
	return err;
}

void move_pair_wait(struct move_pair *p, bool (*done)(const struct move_pair *p))
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += MOVE_PAIR_PATIENCE_S;
	move_pair_lock(p);
	while (!done(p)) {
		CHECK(pthread_cond_timedwait(&p->cond, &p->lock, &until) == 0);
	}
	move_pair_unlock(p);
}

bool move_pair_source_ended(const struct move_pair *p)
{
	return p->at_source.ended;
}

bool move_pair_source_asked(const struct move_pair *p)
{
	return p->at_source.readies != 0;
}

static bool move_pair_target_settled(const struct move_pair *p)
{
	return p->at_target.ended || p->at_target.losts != 0;
}

bool move_pair_target_ended(const struct move_pair *p)
{
	return p->at_target.ended;
}

void move_pair_finish(struct move_pair *p)
{
	move_pair_wait(p, move_pair_source_ended);
	if (p->gives_up && !p->journal) {
		CHECK(target_abandon(p->target, NULL) == 0);
	}
	move_pair_wait(p, move_pair_target_settled);
	move_pair_lock(p);

	bool orphan = !p->at_target.ended;
	bool ours = p->journal;

	move_pair_unlock(p);
	if (orphan && ours) { /* what the owners would find out by asking each other */
		CHECK(target_commit(p->target, p->source_cfg.epoch_next) == 0);
	} else if (orphan) {
		CHECK(target_abandon(p->target, NULL) == 0);
	}
	move_pair_wait(p, move_pair_target_ended);
	source_destroy(p->source);
	target_destroy(p->target);
	(void)pthread_cond_destroy(&p->cond);
	(void)pthread_mutex_destroy(&p->lock);
}
