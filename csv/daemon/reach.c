/* SPDX-License-Identifier: Apache-2.0 */

/* reach - the way from this node's client to the coordinator: inside the process, or a connection
 * that is made again, ever more slowly, as long as there is nobody. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "csv/daemon/daemon_int.h"

#define TAG "csv-reach"
#define BACKOFF_MIN_NS (20 * NS_PER_MS)
#define BACKOFF_MAX_NS (1000 * NS_PER_MS)

static bool connected(const struct csv_volume *v)
{
	enum csv_client_state state = csv_client_state(v->client);

	return state == CSV_CLIENT_RECLAIM || state == CSV_CLIENT_ACTIVE;
}

static void later(struct reach *r, uint64_t now_ns)
{
	r->retry_ns = now_ns + r->backoff_ns;
	r->backoff_ns = r->backoff_ns * 2 < BACKOFF_MAX_NS ? r->backoff_ns * 2 : BACKOFF_MAX_NS;
}

void reach_drop(struct csv_volume *v, uint64_t now_ns, const char *why)
{
	struct reach *r = &v->reach;

	if (r->how == REACH_NONE) {
		return;
	}
	if (r->how == REACH_LOCAL && v->coord.coord != NULL && !v->coord.stopping) {
		csv_coord_disconnected(v->coord.coord, v->d->members->self);
	}
	csv_link_destroy(r->link);
	r->link = NULL;
	r->how = REACH_NONE;
	csv_client_disconnected(v->client);
	(void)errbuf_set(&r->why, -ENOTCONN, "%s", why);
	later(r, now_ns);
	log_debug(TAG, "not connected volume=%s node=%u why=\"%s\"", v->cfg.name, r->node, why);
}

/* ---- the connection ---- */

static void on_ready(void *arg, const struct tls_peer *peer)
{
	struct csv_volume *v = arg;

	/* Its certificate has the name that we dialled; is it still that node's key? */
	if (!daemon_knows(v->d, v->reach.node, peer)) {
		reach_drop(v, clock_boot_ns(), "its key is not one of that node's");
		return;
	}
	v->reach.peer = *peer;
	v->reach.how = REACH_LINKED;
	v->reach.ping = 0;
	v->reach.pinged_ns = clock_boot_ns();
	csv_client_connected(v->client);
	volume_pump(v);
}

static int on_message(void *arg, const struct csv_msg *msg)
{
	struct csv_volume *v = arg;

	if (msg->type == CSV_MSG_REPLY && (msg->request & PING_NUMBER) != 0) {
		return 0;
	}
	reach_receive(v, msg, clock_boot_ns());
	volume_pump(v);
	return 0; /* if it was nonsense the link is gone already */
}

static void on_closed(void *arg, int err, const char *why)
{
	struct csv_volume *v = arg;

	(void)err;
	v->reach.link = NULL; /* it frees itself */
	reach_drop(v, clock_boot_ns(), why);
	volume_pump(v);
}

static const struct csv_link_ops link_ops = {on_ready, on_message, on_closed};

static void dial(struct csv_volume *v, uint64_t now_ns)
{
	const struct csv_daemon_peer *peer = &v->d->members->peers[v->reach.node];
	struct reach *r = &v->reach;
	const struct csv_link_cfg cfg = {
		.loop = v->d->cfg.loop,
		.tls = v->d->tls,
		.ops = &link_ops,
		.arg = v,
	};
	int err;

	if (cfg.tls == NULL) {
		(void)errbuf_set(&r->why, -ENOKEY, "this node has no certificate");
		later(r, now_ns);
		return;
	}
	err = csv_link_dial(&cfg, peer->addr, peer->port != 0 ? peer->port : CSV_DAEMON_PORT,
	                    peer->name, &r->link, &r->why);
	if (err != 0) {
		later(r, now_ns);
		return;
	}
	r->how = REACH_DIALLED;
}

/* ---- both ---- */

/* Hand out what is over. */
void reach_completed(struct csv_volume *v)
{
	struct csv_client_req *req;

	while ((req = csv_client_completed(v->client)) != NULL) {
		struct csv_volume_req *r = container_of(req, struct csv_volume_req, req);

		latency_add(&v->meta, clock_boot_ns() - r->begun_ns);
		r->fn(r);
	}
}

/* From the coordinator. */
void reach_receive(struct csv_volume *v, const struct csv_msg *msg, uint64_t now_ns)
{
	bool was = connected(v);
	int err = csv_client_receive(v->client, msg, now_ns);

	reach_completed(v); /* replies are borrowed until the next message */
	if (err != 0) {
		log_warn(TAG, "the coordinator makes no sense volume=%s node=%u error=%d",
		         v->cfg.name, v->reach.node, -err);
		reach_drop(v, now_ns, "what it said made no sense");
		return;
	}
	if (!was && connected(v)) {
		v->reach.backoff_ns = BACKOFF_MIN_NS;
		v->reach.why = (struct errbuf){0};
		log_info(TAG, "connected volume=%s node=%u term=%" PRIu64, v->cfg.name,
		         v->reach.node, csv_client_term(v->client));
	}
}

static void connect_now(struct csv_volume *v, uint64_t now_ns)
{
	struct reach *r = &v->reach;

	if (r->node == v->d->members->self) {
		if (coordinator_answers(v)) {
			r->how = REACH_LOCAL;
			csv_client_connected(v->client);
		}
	} else if (v->d->members->peers[r->node].run != 0) {
		dial(v, now_ns);
	}
}

static void keep(struct csv_volume *v, uint64_t now_ns)
{
	struct reach *r = &v->reach;
	bool deaf = r->how == REACH_LINKED && csv_link_silent_ns(r->link) > DEAF_NS;

	if (csv_client_state(v->client) == CSV_CLIENT_OFFLINE && r->how != REACH_DIALLED) {
		reach_drop(v, now_ns, "it does not take us now");
	} else if (r->how == REACH_LOCAL && (v->coord.coord == NULL || v->coord.stopping)) {
		reach_drop(v, now_ns, "it is being replaced");
	} else if (deaf) {
		reach_drop(v, now_ns, "it does not answer");
	} else if (r->how == REACH_LINKED && connected(v) && now_ns - r->pinged_ns >= PING_NS) {
		const struct csv_msg ping = {
			.type = CSV_MSG_PING,
			.term = csv_client_term(v->client),
			.request = PING_NUMBER | ++r->ping,
		};

		r->pinged_ns = now_ns;
		if (csv_link_send(r->link, &ping) != 0) {
			reach_drop(v, now_ns, "it does not read");
		}
	}
}

void reach_update(struct csv_volume *v, uint64_t now_ns)
{
	struct reach *r = &v->reach;

	if (v->client == NULL || csv_client_state(v->client) == CSV_CLIENT_DEAD) {
		return;
	}
	if (r->how != REACH_NONE) {
		if (r->node != v->cfg.coordinator || r->term != v->cfg.term) {
			reach_drop(v, now_ns, "another coordinator was appointed");
		} else {
			keep(v, now_ns);
		}
	}
	if (r->node != v->cfg.coordinator || r->term != v->cfg.term) {
		r->node = v->cfg.coordinator;
		r->term = v->cfg.term;
		r->backoff_ns = BACKOFF_MIN_NS;
		r->retry_ns = now_ns;
	}
	if (r->how == REACH_NONE && r->node < CSV_MSG_NODES && now_ns >= r->retry_ns) {
		connect_now(v, now_ns);
	}
}

bool reach_work(struct csv_volume *v, uint64_t now_ns)
{
	struct reach *r = &v->reach;
	struct csv_msg msg;
	bool any = false;

	if (v->client == NULL) {
		return false;
	}
	while ((r->how == REACH_LOCAL || r->how == REACH_LINKED) &&
	       csv_client_next_message(v->client, now_ns, &msg)) {
		any = true;
		if (r->how == REACH_LOCAL) {
			int err = coordinator_receive(v, v->d->members->self, &msg);

			if (err != 0) {
				reach_drop(v, now_ns, "it refused what we said");
			}
		} else if (csv_link_send(r->link, &msg) != 0) {
			reach_drop(v, now_ns, "it does not read");
		}
	}
	return any;
}

uint64_t reach_next_ns(const struct csv_volume *v)
{
	const struct reach *r = &v->reach;
	uint64_t next;

	if (v->client == NULL || r->node >= CSV_MSG_NODES) {
		return UINT64_MAX;
	}
	next = csv_client_next_ns(v->client);
	if (r->how == REACH_NONE && r->retry_ns < next) {
		/* A coordinator in this process says itself when it is ready. */
		bool wait = r->node == v->d->members->self && !coordinator_answers(v);

		next = wait ? next : r->retry_ns;
	} else if (r->how == REACH_LINKED && r->pinged_ns + PING_NS < next) {
		next = r->pinged_ns + PING_NS;
	}
	return next;
}
