/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/coro/coro.h"

#include <corosync/cmap.h>
#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <corosync/quorum.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/wire.h"

#define CORO_AGAIN_NS 1000000ull /* between attempts while corosync forms a ring */
#define CORO_MAGIC 0x314f5243u   /* "CRO1" */

/* In front of each message. */
struct coro_wire {
	le32 magic; /* 0 */
	le32 to;    /* 4: nodeid; 0 = everybody */
};

WIRE_SIZE(struct coro_wire, 8);

struct waiting {
	struct list link;
	size_t len;
	uint8_t bytes[];
};

struct coro {
	struct loop *loop; /* borrowed */
	const struct coro_ops *ops;
	void *arg;
	struct cpg_name group;
	cpg_handle_t cpg; /* 0 = not connected */
	quorum_handle_t quorum;
	struct loop_fd *cpg_fd;
	struct loop_fd *quorum_fd;
	struct loop_timer *retry;
	struct loop_timer *again;
	struct list waiting; /* of struct waiting, owned */
	size_t waiting_bytes;
	uint32_t nodeid;
	const char *fail; /* drop the connection when the callback is over */
	bool said_down;
};

static struct coro *coro_of(cpg_handle_t handle)
{
	void *arg = NULL;

	return cpg_context_get(handle, &arg) == CS_OK ? arg : NULL;
}

/* ---- events ---- */

static void on_cpg_deliver(cpg_handle_t handle, const struct cpg_name *group, uint32_t nodeid,
                           uint32_t pid, void *msg, size_t len)
{
	struct coro *c = coro_of(handle);
	const struct view_peer from = {.nodeid = nodeid, .pid = pid};
	struct coro_wire w;

	(void)group;
	if (c == NULL || len < sizeof(w)) {
		return;
	}
	memcpy(&w, msg, sizeof(w));
	if (le32_get(w.magic) != CORO_MAGIC) {
		return;
	}

	const uint8_t *body = (const uint8_t *)msg + sizeof(w);

	if (le32_get(w.to) == 0) {
		c->ops->message(c->arg, &from, body, len - sizeof(w));
	} else if (le32_get(w.to) == c->nodeid) {
		c->ops->unicast(c->arg, nodeid, body, len - sizeof(w));
	}
}

/* The lists of who came and left differ between members; the list of members does not. */
static void on_cpg_confchg(cpg_handle_t handle, const struct cpg_name *group,
                           const struct cpg_address *members, size_t count,
                           const struct cpg_address *left, size_t left_count,
                           const struct cpg_address *joined, size_t joined_count)
{
	struct coro *c = coro_of(handle);
	struct view_peer peers[VIEW_NODES_MAX];

	(void)group;
	(void)left;
	(void)left_count;
	(void)joined;
	(void)joined_count;
	if (c == NULL) {
		return;
	}
	if (count > VIEW_NODES_MAX) {
		c->fail = "more members than this version can";
		return;
	}
	for (size_t i = 0; i < count; i++) {
		peers[i] = (struct view_peer){.nodeid = members[i].nodeid, .pid = members[i].pid};
	}
	c->ops->group(c->arg, peers, (uint32_t)count);
}

/* The version of corosync.conf, for people: nodes that disagree are shown. */
static void coro_config(struct coro *c)
{
	cmap_handle_t handle;
	uint64_t version = 0;

	if (cmap_initialize(&handle) == CS_OK) {
		if (cmap_get_uint64(handle, "totem.config_version", &version) != CS_OK) {
			version = 0;
		}
		(void)cmap_finalize(handle);
		c->ops->config(c->arg, version);
	}
}

int coro_token_ms(uint32_t *out)
{
	cmap_handle_t handle;
	int err;

	if (cmap_initialize(&handle) != CS_OK) {
		return -ENOTCONN;
	}
	err = cmap_get_uint32(handle, "runtime.config.totem.token", out) == CS_OK ? 0 : -ENOENT;
	(void)cmap_finalize(handle);
	return err;
}

static void on_cpg_ring(cpg_handle_t handle, struct cpg_ring_id id, uint32_t count,
                        const uint32_t *members)
{
	struct coro *c = coro_of(handle);
	const struct view_ring ring = {.seq = id.seq, .nodeid = id.nodeid};

	if (c == NULL) {
		return;
	}
	if (count > VIEW_NODES_MAX) {
		c->fail = "more members than this version can";
		return;
	}
	coro_config(c);
	c->ops->ring(c->arg, &ring, members, count);
}

static void on_quorum(quorum_handle_t handle, uint32_t quorate, struct quorum_ring_id id,
                      uint32_t count, const uint32_t *members)
{
	const void *arg = NULL;

	(void)count;
	(void)members;
	if (quorum_context_get(handle, &arg) == CS_OK && arg != NULL) {
		const struct coro *c = arg;

		c->ops->quorum(c->arg, id.seq, quorate != 0);
	}
}

/* ---- connection ---- */

static void coro_drop_waiting(struct coro *c)
{
	list_for_each_safe(link, &c->waiting)
	{
		free(list_entry(link, struct waiting, link));
	}
	list_init(&c->waiting);
	c->waiting_bytes = 0;
	loop_timer_disarm(c->again);
}

static void coro_disconnect(struct coro *c)
{
	loop_fd_del(c->cpg_fd);
	loop_fd_del(c->quorum_fd);
	c->cpg_fd = NULL;
	c->quorum_fd = NULL;
	if (c->cpg != 0) {
		(void)cpg_finalize(c->cpg);
	}
	if (c->quorum != 0) {
		(void)quorum_finalize(c->quorum);
	}
	c->cpg = 0;
	c->quorum = 0;
	c->fail = NULL;
	coro_drop_waiting(c);
}

static void coro_down(struct coro *c, const char *why)
{
	coro_disconnect(c);
	loop_timer_arm(c->retry, CORO_RETRY_NS);
	if (!c->said_down) {
		c->said_down = true;
		log_warn("coro", "not connected to corosync why=\"%s\"", why);
		c->ops->down(c->arg, why);
	}
}

static void on_cpg_fd(int fd, uint32_t events, void *arg)
{
	struct coro *c = arg;

	(void)fd;
	(void)events;

	cs_error_t rc = cpg_dispatch(c->cpg, CS_DISPATCH_ALL);

	if (c->fail != NULL) {
		coro_down(c, c->fail);
	} else if (rc != CS_OK && rc != CS_ERR_TRY_AGAIN) {
		coro_down(c, "corosync is gone");
	}
}

static void on_quorum_fd(int fd, uint32_t events, void *arg)
{
	struct coro *c = arg;

	(void)fd;
	(void)events;

	cs_error_t rc = quorum_dispatch(c->quorum, CS_DISPATCH_ALL);

	if (rc != CS_OK && rc != CS_ERR_TRY_AGAIN) {
		coro_down(c, "corosync is gone");
	}
}

/* Returns NULL, or what went wrong. */
static const char *connect_cpg(struct coro *c)
{
	cpg_model_v1_data_t model;
	int fd = -1;

	memset(&model, 0, sizeof(model));
	model.model = CPG_MODEL_V1;
	model.cpg_deliver_fn = on_cpg_deliver;
	model.cpg_confchg_fn = on_cpg_confchg;
	model.cpg_totem_confchg_fn = on_cpg_ring;
	model.flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF;
	if (cpg_model_initialize(&c->cpg, CPG_MODEL_V1, (cpg_model_data_t *)&model, c) != CS_OK) {
		c->cpg = 0;
		return "corosync does not answer";
	}
	if (cpg_local_get(c->cpg, &c->nodeid) != CS_OK || cpg_fd_get(c->cpg, &fd) != CS_OK) {
		return "corosync does not tell our node id";
	}
	if (loop_fd_add(c->loop, fd, LOOP_READ, on_cpg_fd, c, &c->cpg_fd) != 0) {
		return "no memory";
	}
	return NULL;
}

static const char *connect_quorum(struct coro *c)
{
	quorum_model_v1_data_t model;
	uint32_t type = 0;
	int fd = -1;

	memset(&model, 0, sizeof(model));
	model.model = QUORUM_MODEL_V1;
	model.quorum_notify_fn = on_quorum;
	if (quorum_model_initialize(&c->quorum, QUORUM_MODEL_V1, (quorum_model_data_t *)&model,
	                            &type, c) != CS_OK) {
		c->quorum = 0;
		return "corosync's quorum service does not answer";
	}
	if (type != QUORUM_SET) {
		return "corosync has no quorum provider configured";
	}
	if (quorum_fd_get(c->quorum, &fd) != CS_OK ||
	    quorum_trackstart(c->quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES) != CS_OK) {
		return "corosync's quorum can not be followed";
	}
	if (loop_fd_add(c->loop, fd, LOOP_READ, on_quorum_fd, c, &c->quorum_fd) != 0) {
		return "no memory";
	}
	return NULL;
}

static void coro_connect(void *arg)
{
	struct coro *c = arg;
	const char *why = connect_cpg(c);

	if (why == NULL) {
		why = connect_quorum(c);
	}
	if (why == NULL) {
		c->ops->up(c->arg, c->nodeid);
		if (cpg_join(c->cpg, &c->group) != CS_OK) {
			why = "corosync does not let us into the group now";
		}
	}
	if (why != NULL) {
		coro_down(c, why);
		return;
	}
	c->said_down = false;
	log_info("coro", "connected to corosync node=%u", c->nodeid);
}

/* ---- sending ---- */

/* Returns 0; -EAGAIN not now; another -errno: the connection is of no use. */
static int coro_send(struct coro *c, const struct iovec *iov, unsigned int count)
{
	cs_error_t rc = cpg_mcast_joined(c->cpg, CPG_TYPE_AGREED, iov, count);

	if (rc == CS_ERR_TRY_AGAIN || rc == CS_ERR_INTERRUPT) {
		return -EAGAIN;
	}
	return rc == CS_OK ? 0 : -EIO;
}

static void coro_flush(void *arg)
{
	struct coro *c = arg;

	list_for_each_safe(link, &c->waiting)
	{
		struct waiting *w = list_entry(link, struct waiting, link);
		const struct iovec iov = {.iov_base = w->bytes, .iov_len = w->len};
		int err = coro_send(c, &iov, 1);

		if (err == -EAGAIN) {
			loop_timer_arm(c->again, CORO_AGAIN_NS);
			return;
		}
		if (err != 0) {
			coro_down(c, "corosync is gone");
			return;
		}
		c->waiting_bytes -= w->len;
		list_del(link);
		free(w);
	}
}

/* Called from within callbacks as well: what goes wrong is acted on from the loop. */
static void coro_doom(struct coro *c, const char *why)
{
	c->fail = why;
	loop_timer_arm(c->retry, 0);
}

static void coro_queue(struct coro *c, const struct iovec *iov)
{
	size_t len = iov[0].iov_len + iov[1].iov_len;
	struct waiting *w =
		c->waiting_bytes + len > CORO_WAITING_MAX ? NULL : gw_malloc(sizeof(*w) + len);

	if (w == NULL) {
		coro_doom(c, "too many messages wait for corosync");
		return;
	}
	w->len = len;
	memcpy(w->bytes, iov[0].iov_base, iov[0].iov_len);
	memcpy(w->bytes + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
	list_add_tail(&c->waiting, &w->link);
	c->waiting_bytes += len;
	loop_timer_arm(c->again, CORO_AGAIN_NS);
}

void coro_unicast(struct coro *c, uint32_t nodeid, const void *buf, size_t len)
{
	struct coro_wire w = {.magic = le32_make(CORO_MAGIC), .to = le32_make(nodeid)};
	/* cpg_mcast_joined() reads only; its iovec is not const. */
	union {
		const void *read;
		void *base;
	} body = {.read = buf};
	const struct iovec iov[2] = {{.iov_base = &w, .iov_len = sizeof(w)},
	                             {.iov_base = body.base, .iov_len = len}};

	if (c->cpg == 0 || c->fail != NULL || len > CORO_MESSAGE_MAX) {
		return;
	}

	int err = list_empty(&c->waiting) ? coro_send(c, iov, 2) : -EAGAIN;

	if (err == -EAGAIN) {
		coro_queue(c, iov);
	} else if (err != 0) {
		coro_doom(c, "corosync is gone");
	}
}

void coro_multicast(struct coro *c, const void *buf, size_t len)
{
	coro_unicast(c, 0, buf, len);
}

void coro_reset(struct coro *c, const char *why)
{
	coro_doom(c, why);
}

/* ---- life ---- */

static void on_retry(void *arg)
{
	struct coro *c = arg;

	if (c->fail != NULL && c->cpg != 0) {
		coro_down(c, c->fail);
		return;
	}
	coro_connect(c);
}

int coro_open(struct loop *loop, const char *group, const struct coro_ops *ops, void *arg,
              struct coro **out, struct errbuf *eb)
{
	struct coro *c = gw_calloc(1, sizeof(*c));
	int err = -ENOMEM;

	*out = NULL;
	if (c == NULL) {
		return errbuf_sys(eb, -ENOMEM, "corosync");
	}
	*c = (struct coro){.loop = loop, .ops = ops, .arg = arg};
	list_init(&c->waiting);
	c->group.length = (uint32_t)strlen(group);
	if (strlen(group) == 0 || strlen(group) > 64) {
		err = -EINVAL;
		goto failed;
	}
	memcpy(c->group.value, group, strlen(group));
	err = loop_timer_new(loop, coro_flush, c, &c->again);
	if (err == 0) {
		err = loop_timer_add(loop, 0, on_retry, c, &c->retry);
	}
	if (err != 0) {
		goto failed;
	}
	*out = c;
	return 0;

failed:
	loop_timer_del(c->again);
	free(c);
	return errbuf_sys(eb, err, "corosync");
}

void coro_close(struct coro *c)
{
	if (c == NULL) {
		return;
	}
	if (c->cpg != 0) {
		(void)cpg_leave(c->cpg, &c->group);
	}
	coro_disconnect(c);
	loop_timer_del(c->again);
	loop_timer_del(c->retry);
	free(c);
}
