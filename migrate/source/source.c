/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/source/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "migrate/source/source_int.h"

#define SOURCE_LINGER_NS (500 * NS_PER_MS)

/* ---- rounds ---- */

void source_round_begin(struct source *s, uint64_t pages)
{
	s->round_pages = pages;
	s->round_moved = atomic_load(&s->moved_pages);
	s->round_active = true;
	s->result.rounds++;
	s->progress.round = s->result.rounds;
	atomic_store(&s->cursor, 0);
	(void)pthread_mutex_lock(&s->lock);
	s->conns_done = 0;
	s->round++;
	(void)pthread_cond_broadcast(&s->cond);
	(void)pthread_mutex_unlock(&s->lock);
}

static bool source_round_over(struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);

	bool over = s->conns_done == s->conn_count;

	(void)pthread_mutex_unlock(&s->lock);
	return over;
}

int source_round_wait(struct source *s, uint64_t deadline_ns, struct errbuf *eb)
{
	int err = source_wait(s, source_round_over, deadline_ns, eb);

	if (err == 0) {
		s->round_active = false;
		memset(s->bits, 0, s->words * sizeof(s->bits[0]));
	}
	return err;
}

/* More pieces than this are not told apart: the rest counts as data. */
#define SOURCE_PIECES_MAX 65536u

int source_memfd_data(int fd, uint64_t offset_bytes, uint64_t range_bytes, uint64_t *page,
                      uint64_t *count)
{
	uint64_t from = offset_bytes + *page * STREAM_PAGE_BYTES;
	uint64_t end = offset_bytes + range_bytes;
	off_t data = lseek(fd, (off_t)from, SEEK_DATA);
	off_t hole;

	if (data < 0) {
		return -errno; /* -ENXIO: only a hole is left */
	}
	if ((uint64_t)data >= end) {
		return -ENXIO;
	}
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0) {
		return -errno;
	}

	/* Huge pages and odd offsets: whole pages, rather too many. */
	uint64_t first = ((uint64_t)data - offset_bytes) / STREAM_PAGE_BYTES;
	uint64_t last = ((uint64_t)hole < end ? (uint64_t)hole : end) - offset_bytes;

	last = (last + STREAM_PAGE_BYTES - 1) / STREAM_PAGE_BYTES;
	*page = first;
	*count = last - first;
	return 0;
}

/* What of a range is to be sent in the first round. Returns how many pages. */
static uint64_t source_range_pages(struct source *s, uint32_t range)
{
	uint64_t *bits = s->bits + s->range_word[range];
	uint64_t pages = s->ranges[range].len_bytes / STREAM_PAGE_BYTES;
	uint64_t set = 0;
	uint64_t page = 0;

	if (s->cfg.ops->data == NULL) {
		bitmap_set_range(bits, 0, pages);
		return pages;
	}
	for (uint32_t piece = 0; page < pages; piece++) {
		uint64_t count = pages - page;
		int err = piece < SOURCE_PIECES_MAX
		                  ? s->cfg.ops->data(s->cfg.guest, range, &page, &count)
		                  : 0;

		if (err == -ENXIO) {
			break;
		}
		if (err != 0) { /* it cannot tell: everything that is left */
			count = pages - page;
		}
		CHECK(count != 0 && page < pages && count <= pages - page);
		bitmap_set_range(bits, page, count);
		set += count;
		page += count;
	}
	return set;
}

/* The first round: all that may hold something. Returns how many pages. */
uint64_t source_all_pages(struct source *s)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < s->range_count; i++) {
		pages += source_range_pages(s, i);
	}
	/* What was never touched is zero there as well, and done with. */
	atomic_fetch_add(&s->moved_pages, s->memory_pages - pages);
	atomic_fetch_add(&s->zero_pages, s->memory_pages - pages);
	return pages;
}

/* Do what the policy says, short of stopping. */
int source_apply(struct source *s, const struct policy_decision *d, struct errbuf *eb)
{
	struct move_progress *p = &s->progress;

	p->dirty_bytes_s = d->dirty_bytes_s;
	p->forecast_blackout_ns = d->blackout_ns;
	p->forecast_finish_ns = d->finish_ns;
	memcpy(p->reason, d->reason, sizeof(p->reason));
	if (d->action == POLICY_GIVE_UP) {
		(void)errbuf_set(eb, -EBUSY, "the move does not converge: %s", d->reason);
		errbuf_hint(eb, "Allow a longer blackout or a stronger throttle, use more "
		                "connections, or move the VM when it is idle.");
		return -EBUSY;
	}
	if (d->throttle_percent == s->throttle) {
		return 0;
	}

	int err = s->cfg.ops->throttle(s->cfg.guest, d->throttle_percent);

	if (err != 0) {
		return errbuf_sys(eb, err, "throttling the guest");
	}
	s->throttle = d->throttle_percent;
	s->result.throttle_percent = s->throttle;
	return 0;
}

/* A round has ended. Returns the policy's action or -errno. */
static int source_judge(struct source *s, const struct policy_sample *sample, struct errbuf *eb)
{
	struct policy_decision d;

	if (s->rtt_ns != 0) {
		policy_overhead(&s->policy, s->cfg.policy.overhead_ns + 2 * s->rtt_ns);
	}
	policy_round(&s->policy, sample, &d);

	int err = source_apply(s, &d, eb);

	source_tell(s, MOVE_COPY);
	return err != 0 ? err : (int)d.action;
}

/* Live: rounds until the policy stops the vCPUs. */
static int source_precopy(struct source *s, struct errbuf *eb)
{
	uint64_t pages;
	int err = s->cfg.ops->dirty_start(s->cfg.guest, eb);

	if (err != 0) {
		return err;
	}
	s->dirty_logged = true;
	s->fetched_ns = clock_now_ns();
	policy_init(&s->policy, &s->cfg.policy, s->fetched_ns);
	pages = source_all_pages(s);
	for (;;) {
		uint64_t start = clock_now_ns();
		uint64_t wire = atomic_load(&s->wire_bytes);
		uint64_t fetched = s->fetched_ns;

		source_round_begin(s, pages);
		err = source_round_wait(s, UINT64_MAX, eb);
		if (err != 0) {
			return err;
		}

		struct policy_sample sample = {
			.sent_bytes = atomic_load(&s->wire_bytes) - wire,
			.took_ns = clock_now_ns() - start,
			.pages = pages,
		};

		err = source_measure(s, eb);
		if (err == 0) {
			err = source_fetch(s, &pages, eb);
		}
		if (err != 0) {
			return err;
		}
		sample.rest_pages = pages;
		sample.now_ns = s->fetched_ns;
		sample.rest_over_ns = s->fetched_ns - fetched;
		err = source_judge(s, &sample, eb);
		if (err < 0) {
			return err;
		}
		if (err != POLICY_STOP) {
			continue;
		}
		err = source_handover(s, eb);
		if (err <= 0) {
			return err;
		}
		err = source_fetch(s, &pages, eb);
		if (err != 0) {
			return err;
		}
		source_tell(s, MOVE_COPY);
	}
}

/* Quick: vCPUs stand from the start. */
static int source_quick(struct source *s, struct errbuf *eb)
{
	int err = source_handover(s, eb);

	CHECK(err <= 0);
	return err;
}

/* ---- the whole ---- */

static bool source_conns_there(struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);

	bool there = s->conns_ready == s->conn_count;

	(void)pthread_mutex_unlock(&s->lock);
	return there;
}

static void source_note_tls(struct source *s)
{
	struct tls_info info;

	transport_info(s->control.t, &info);
	s->result.encrypted = info.version != NULL;
	s->result.ktls = info.ktls_send;
	if (info.cipher != NULL) {
		(void)snprintf(s->result.cipher, sizeof(s->result.cipher), "%s", info.cipher);
	}
}

/* Connect, ask whether it can work. Returns 0; -EPERM there are blockers; -errno. */
static int source_check(struct source *s, struct errbuf *eb)
{
	char line[ERRBUF_TEXT_MAX - 32];
	int err = source_handshake(&s->control, s, 0, eb);

	if (err != 0) {
		return err;
	}
	source_note_tls(s);
	s->heard_ns = clock_now_ns();
	err = source_ask(s, STREAM_ANSWER, UINT64_MAX, eb);
	if (err == 0) {
		source_tell(s, MOVE_CHECK);
		err = source_send(s, STREAM_DEFINITION, s->definition,
		                  (uint32_t)s->cfg.definition_bytes, eb);
	}
	if (err == 0) {
		err = source_ask(s, STREAM_REPORT, UINT64_MAX, eb);
	}
	if (err == 0 && !compat_movable(&s->result.report)) {
		s->result.outcome = MOVE_REFUSED;
		return errbuf_set(eb, -EPERM, "%s",
		                  compat_summary(&s->result.report, line, sizeof(line)));
	}
	return err;
}

static int source_run(struct source *s, struct errbuf *eb)
{
	int err;

	source_tell(s, MOVE_CONNECT);
	err = source_check(s, eb);
	if (err != 0 || s->cfg.mode == STREAM_MODE_CHECK) {
		s->result.outcome = err == 0 ? MOVE_DONE : s->result.outcome;
		return err;
	}
	err = source_wait(s, source_conns_there, UINT64_MAX, eb);
	if (err != 0) {
		return err;
	}
	source_tell(s, MOVE_COPY);
	return s->cfg.mode == STREAM_MODE_QUICK ? source_quick(s, eb) : source_precopy(s, eb);
}

/* The guest stays: tell the peer, undo everything. */
static void source_undo(struct source *s, int err, struct errbuf *why)
{
	struct move_result *r = &s->result;
	uint8_t payload[STREAM_SMALL_MAX];
	struct errbuf lost = {0};

	r->err = err;
	r->why = *why;
	r->phase = s->progress.phase;
	if (r->outcome != MOVE_REFUSED) {
		r->outcome = err == -ECANCELED ? MOVE_CANCELED : MOVE_FAILED;
	}
	if (source_resume_guest(s, &lost) != 0) {
		r->why = lost;
	}
	/* Whatever fits into the socket: the peer also understands a closed connection. */
	if (!s->control_dead) {
		if (link_send_small(&s->control, STREAM_CANCEL, payload,
		                    stream_text_encode(err, why, payload)) == 0) {
			link_linger(&s->control, -1, SOURCE_LINGER_NS);
		}
	}
}

static void source_end_conns(struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);
	s->quit = true;
	(void)pthread_cond_broadcast(&s->cond);
	(void)pthread_mutex_unlock(&s->lock);
	source_stop_all(s);
	for (uint32_t i = 0; i < s->conn_count; i++) {
		if (s->conns[i].started) {
			(void)pthread_join(s->conns[i].thread, NULL);
			s->conns[i].started = false;
		}
	}
}

static void *source_main(void *arg)
{
	struct source *s = arg;
	struct errbuf why = {0};
	int err = source_run(s, &why);

	if (err != 0) {
		if (why.text[0] == '\0') {
			(void)errbuf_sys(&why, err, "move");
		}
		source_undo(s, err, &why);
	} else {
		s->result.phase = MOVE_ENDED;
	}
	/* Both ends see the last frame before the connections close. */
	source_end_conns(s);
	if (s->dirty_logged) {
		s->cfg.ops->dirty_stop(s->cfg.guest);
	}
	if (s->throttle != 0) {
		(void)s->cfg.ops->throttle(s->cfg.guest, 0);
		s->throttle = 0;
	}
	link_fini(&s->control);
	for (uint32_t i = 0; i < s->conn_count; i++) {
		link_fini(&s->conns[i].link);
	}
	s->result.total_ns = clock_now_ns() - s->start_ns;
	s->result.memory_bytes = s->memory_pages * STREAM_PAGE_BYTES;
	s->result.moved_bytes = atomic_load(&s->moved_pages) * STREAM_PAGE_BYTES;
	s->result.data_pages = atomic_load(&s->data_pages);
	s->result.zero_pages = atomic_load(&s->zero_pages);
	s->result.wire_bytes = atomic_load(&s->wire_bytes);
	s->cfg.events->ended(s->cfg.arg, &s->result);
	return NULL;
}

/* ---- creating ---- */

static int source_cfg_check(const struct source_cfg *cfg, struct errbuf *eb)
{
	const char *bad = policy_cfg_valid(&cfg->policy);
	bool check = cfg->mode == STREAM_MODE_CHECK;

	if (cfg->mode < STREAM_MODE_LIVE || cfg->mode > STREAM_MODE_CHECK) {
		return errbuf_set(eb, -EINVAL, "move: no such mode");
	}
	if (bad != NULL) {
		return errbuf_set(eb, -EINVAL, "move: policy: %s", bad);
	}
	if ((cfg->tls == NULL) != cfg->plain) {
		return errbuf_set(eb, -EINVAL,
		                  "move: either certificates or the explicit plain mode");
	}
	if (cfg->fd_count < (check ? 1 : 2) || cfg->fd_count > 1 + STREAM_CONNECTIONS_MAX) {
		return errbuf_set(eb, -EINVAL, "move: %u connections; 1 and 1 to %u are possible",
		                  cfg->fd_count, STREAM_CONNECTIONS_MAX);
	}
	if (cfg->definition_bytes == 0 || cfg->definition_bytes > STREAM_PAYLOAD_MAX ||
	    guid_is_nil(&cfg->vm) || guid_is_nil(&cfg->move) || cfg->epoch_next <= cfg->epoch) {
		return errbuf_set(eb, -EINVAL, "move: definition, names or epochs");
	}
	CHECK(cfg->events->ended != NULL && (check || cfg->events->ready != NULL));
	return 0;
}

static int source_map(struct source *s, struct errbuf *eb)
{
	uint64_t end = 0;

	s->range_count = s->cfg.ops->map(s->cfg.guest, s->ranges);
	CHECK(s->range_count >= 1 && s->range_count <= MOVE_RANGES_MAX);
	for (uint32_t i = 0; i < s->range_count; i++) {
		const struct move_range *r = &s->ranges[i];

		CHECK(r->gpa >= end && r->len_bytes != 0 &&
		      (r->gpa | r->len_bytes | (uintptr_t)r->host) % STREAM_PAGE_BYTES == 0);
		end = r->gpa + r->len_bytes;
		s->range_word[i] = s->words;
		s->words += BITMAP_WORDS(r->len_bytes / STREAM_PAGE_BYTES);
		s->memory_pages += r->len_bytes / STREAM_PAGE_BYTES;
	}
	s->bits = gw_calloc(s->words, sizeof(s->bits[0]));
	return s->bits != NULL ? 0 : errbuf_sys(eb, -ENOMEM, "move");
}

static int source_copy_cfg(struct source *s, const struct source_cfg *cfg)
{
	s->cfg = *cfg;
	if (s->cfg.silence_max_ns == 0) {
		s->cfg.silence_max_ns = MOVE_SILENCE_DEFAULT_NS;
	}
	s->definition = gw_malloc(cfg->definition_bytes);
	if (s->definition == NULL) {
		return -ENOMEM;
	}
	memcpy(s->definition, cfg->definition, cfg->definition_bytes);
	if (cfg->peer_name != NULL) {
		s->peer_name = gw_strdup(cfg->peer_name);
		if (s->peer_name == NULL) {
			return -ENOMEM;
		}
	}
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->stop_fd < 0 || s->wake_fd < 0 ? -errno : 0;
}

/* All sockets; *taken of them are closed by somebody else already. */
static int source_links(struct source *s, uint32_t *taken, struct errbuf *eb)
{
	const struct source_cfg *cfg = &s->cfg;
	const struct transport_cfg control = {
		.fd = cfg->fds[0],
		.stop_fd = s->stop_fd,
		.silence_max_ns = cfg->silence_max_ns,
		.tls = cfg->tls,
		.role = TLS_CLIENT,
		.peer_name = s->peer_name,
	};
	struct transport *t;

	*taken = 1;

	int err = transport_open(&control, &t, eb);

	if (err == 0) {
		err = link_init(&s->control, t);
	}
	if (err != 0) {
		return err;
	}
	s->conns = gw_calloc(cfg->fd_count, sizeof(s->conns[0]));
	if (s->conns == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 1; i < cfg->fd_count && err == 0; i++) {
		(*taken)++;
		s->conn_count++;
		err = source_conn_init(&s->conns[i - 1], s, i, cfg->fds[i], eb);
	}
	return err;
}

static int source_start(struct source *s, struct errbuf *eb)
{
	int err = 0;

	s->start_ns = clock_now_ns();
	s->told_ns = s->start_ns;
	s->heard_ns = s->start_ns;
	s->pinged_ns = s->start_ns;
	s->result.outcome = MOVE_FAILED;
	for (uint32_t i = 0; i < s->conn_count && err == 0; i++) {
		struct source_conn *c = &s->conns[i];

		err = -pthread_create(&c->thread, NULL, source_conn_main, c);
		c->started = err == 0;
	}
	if (err == 0) {
		err = -pthread_create(&s->thread, NULL, source_main, s);
	}
	if (err != 0) {
		source_end_conns(s);
		return errbuf_sys(eb, err, "move: threads");
	}
	return 0;
}

static void source_free(struct source *s)
{
	for (uint32_t i = 0; i < s->conn_count; i++) {
		source_conn_fini(&s->conns[i]);
	}
	link_fini(&s->control);
	if (s->stop_fd >= 0) {
		(void)close(s->stop_fd);
	}
	if (s->wake_fd >= 0) {
		(void)close(s->wake_fd);
	}
	(void)pthread_cond_destroy(&s->cond);
	(void)pthread_mutex_destroy(&s->lock);
	free(s->conns);
	free(s->bits);
	free(s->definition);
	free(s->peer_name);
	free(s->state);
	free(s);
}

int source_create(const struct source_cfg *cfg, struct source **out, struct errbuf *eb)
{
	uint32_t taken = 0;
	struct source *s = NULL;
	int err = source_cfg_check(cfg, eb);

	*out = NULL;
	if (err == 0) {
		s = gw_calloc(1, sizeof(*s));
		err = s == NULL ? -ENOMEM : 0;
	}
	if (err == 0) {
		s->stop_fd = -1;
		s->wake_fd = -1;
		(void)pthread_mutex_init(&s->lock, NULL);
		(void)pthread_cond_init(&s->cond, NULL);
		err = source_copy_cfg(s, cfg);
	}
	if (err == 0) {
		err = source_map(s, eb);
	}
	if (err == 0) {
		err = source_links(s, &taken, eb);
	}
	if (err == 0) {
		err = source_start(s, eb);
	}
	for (uint32_t i = taken; i < cfg->fd_count; i++) {
		(void)close(cfg->fds[i]);
	}
	if (err != 0) {
		if (s != NULL) {
			source_free(s);
		}
		return err;
	}
	*out = s;
	return 0;
}

/* ---- the owner's side ---- */

void source_commit(struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);
	CHECK(s->asked && !s->refused);
	s->committed = true;
	source_wake(s);
	(void)pthread_mutex_unlock(&s->lock);
}

void source_refuse(struct source *s, const struct errbuf *why)
{
	(void)pthread_mutex_lock(&s->lock);
	CHECK(s->asked && !s->committed);
	s->refused = true;
	if (why != NULL) {
		s->refused_why = *why;
	}
	source_wake(s);
	(void)pthread_mutex_unlock(&s->lock);
}

int source_cancel(struct source *s)
{
	(void)pthread_mutex_lock(&s->lock);

	bool late = s->asked;

	s->canceled = s->canceled || !late;
	source_wake(s);
	(void)pthread_mutex_unlock(&s->lock);
	if (late) {
		return -EBUSY;
	}
	source_stop_all(s); /* whoever is inside a socket comes out */
	return 0;
}

void source_destroy(struct source *s)
{
	if (s == NULL) {
		return;
	}
	(void)pthread_mutex_lock(&s->lock);
	CHECK(!s->asked || s->committed || s->refused);
	(void)pthread_mutex_unlock(&s->lock);
	(void)source_cancel(s);
	(void)pthread_join(s->thread, NULL);
	source_free(s);
}
