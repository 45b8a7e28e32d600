/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/coro/vote.h"

#include <corosync/corotypes.h>
#include <corosync/votequorum.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"

#define VOTE_NAME "godwit"
#define VOTE_POLL_NS NS_PER_S /* corosync forgets a device after 10 s */

struct coro_vote {
	struct loop *loop;          /* borrowed */
	votequorum_handle_t handle; /* 0 = not connected */
	struct loop_fd *watch;
	struct loop_timer *poll;
	votequorum_ring_id_t ring; /* as corosync told last */
	bool ring_known;
	bool registered;
	bool said;    /* that it does not work */
	uint64_t seq; /* of the ring that we vote for; 0 = none */
};

static void vote_disconnect(struct coro_vote *v)
{
	loop_fd_del(v->watch);
	v->watch = NULL;
	if (v->handle != 0) {
		(void)votequorum_finalize(v->handle);
	}
	v->handle = 0;
	v->registered = false;
	v->ring_known = false;
}

static void vote_trouble(struct coro_vote *v, const char *what, cs_error_t rc)
{
	if (!v->said) {
		log_warn("coro", "corosync does not take the witness's vote at=%s code=%d", what,
		         (int)rc);
		v->said = true;
	}
	vote_disconnect(v);
}

/* Say what corosync must hear: it waits for a word about a new ring. */
static void vote_say(struct coro_vote *v)
{
	bool cast = v->seq != 0 && v->ring_known && v->ring.seq == v->seq;
	cs_error_t rc = CS_OK;

	if (v->handle == 0 || !v->ring_known || (!cast && !v->registered)) {
		return;
	}
	if (!v->registered) {
		rc = votequorum_qdevice_register(v->handle, VOTE_NAME);
		v->registered = rc == CS_OK || rc == CS_ERR_EXIST;
	}
	if (v->registered) {
		rc = votequorum_qdevice_poll(v->handle, VOTE_NAME, cast ? 1 : 0, v->ring);
	}
	if (rc == CS_OK && !cast) {
		rc = votequorum_qdevice_unregister(v->handle, VOTE_NAME);
		v->registered = rc != CS_OK;
	}
	if (rc == CS_OK && cast && v->said) {
		log_info("coro", "corosync takes the witness's vote");
		v->said = false;
	}
	/* A ring is being formed, or there is a newer one: we will be told. */
	if (rc != CS_OK && rc != CS_ERR_TRY_AGAIN && rc != CS_ERR_MESSAGE_ERROR &&
	    rc != CS_ERR_BUSY) {
		vote_trouble(v, "poll", rc);
	}
}

/* NOLINTBEGIN(readability-non-const-parameter): the type is corosync's. */
static void on_nodelist(votequorum_handle_t handle, uint64_t context, votequorum_ring_id_t ring,
                        uint32_t count, uint32_t *nodes)
/* NOLINTEND(readability-non-const-parameter) */
{
	void *arg = NULL;

	(void)context;
	(void)count;
	(void)nodes;
	if (votequorum_context_get(handle, &arg) == CS_OK && arg != NULL) {
		struct coro_vote *v = arg;

		v->ring = ring;
		v->ring_known = true;
		vote_say(v);
	}
}

static void on_fd(int fd, uint32_t events, void *arg)
{
	struct coro_vote *v = arg;
	cs_error_t rc = votequorum_dispatch(v->handle, CS_DISPATCH_ALL);

	(void)fd;
	(void)events;
	if (rc != CS_OK && rc != CS_ERR_TRY_AGAIN) {
		vote_disconnect(v);
	}
}

static void vote_connect(struct coro_vote *v)
{
	votequorum_callbacks_t callbacks = {.votequorum_nodelist_notify_fn = on_nodelist};
	cs_error_t rc = votequorum_initialize(&v->handle, &callbacks);
	int fd = -1;

	if (rc != CS_OK) {
		v->handle = 0;
		vote_trouble(v, "connect", rc);
		return;
	}
	rc = votequorum_context_set(v->handle, v);
	if (rc == CS_OK) {
		rc = votequorum_fd_get(v->handle, &fd);
	}
	if (rc == CS_OK) {
		rc = votequorum_trackstart(v->handle, 0, CS_TRACK_CURRENT | CS_TRACK_CHANGES);
	}
	if (rc != CS_OK || loop_fd_add(v->loop, fd, LOOP_READ, on_fd, v, &v->watch) != 0) {
		vote_trouble(v, "track", rc);
	}
}

static void on_poll(void *arg)
{
	struct coro_vote *v = arg;

	if (v->seq != 0 && v->handle == 0) {
		vote_connect(v);
	}
	vote_say(v);
	if (v->seq != 0 || v->registered) {
		loop_timer_arm(v->poll, VOTE_POLL_NS);
	}
}

void coro_vote_cast(struct coro_vote *v, uint64_t seq)
{
	if (v->seq != seq) {
		v->seq = seq;
		loop_timer_arm(v->poll, 0);
	}
}

int coro_vote_create(struct loop *loop, struct coro_vote **out, struct errbuf *eb)
{
	struct coro_vote *v = gw_calloc(1, sizeof(*v));
	int err = v == NULL ? -1 : 0;

	*out = NULL;
	if (err == 0) {
		v->loop = loop;
		err = loop_timer_new(loop, on_poll, v, &v->poll);
	}
	if (err != 0) {
		free(v);
		return errbuf_sys(eb, -ENOMEM, "quorum");
	}
	*out = v;
	return 0;
}

void coro_vote_destroy(struct coro_vote *v)
{
	if (v != NULL) {
		v->seq = 0;
		vote_say(v);
		vote_disconnect(v);
		loop_timer_del(v->poll);
		free(v);
	}
}
