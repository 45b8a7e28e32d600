/* SPDX-License-Identifier: Apache-2.0 */

/* daemon - the volumes of this node, and what the cluster says about them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "csv/daemon/daemon_int.h"

#define TAG "csv-daemon"
#define SWEEP_NS 1000000000ull
#define CLOSE_NS 50000000ull /* while something waits for its device */
#define LEAVE_NS 10000000000ull

uint64_t daemon_run(const struct csv_daemon *d)
{
	return d->members->peers[d->members->self].run;
}

/* Greater than all that were given, in this process or one before it since the machine booted: a
 * run of a node may have more than one client, but no number twice. */
uint64_t daemon_numbers(struct csv_daemon *d)
{
	uint64_t us = clock_boot_ns() / NS_PER_US;

	d->numbers = us > d->numbers ? us : d->numbers + 1;
	return d->numbers;
}

/* Is this verified peer that member? */
bool daemon_knows(const struct csv_daemon *d, uint32_t node, const struct tls_peer *peer)
{
	const struct csv_daemon_peer *p = &d->members->peers[node];

	if (p->run == 0 || peer->kind != TLS_KIND_NODE || strcmp(p->name, peer->name) != 0) {
		return false;
	}
	for (uint32_t i = 0; i < p->pins_count; i++) {
		if (strcmp(p->pins[i], peer->pin) == 0) {
			return true;
		}
	}
	return p->pins_count == 0;
}

/* One that was left has not let go of its device, or of its name, yet. */
static bool in_the_way(const struct csv_daemon *d, const struct csv_daemon_volume *cfg)
{
	list_for_each(link, &d->volumes)
	{
		const struct csv_volume *v = list_entry(link, struct csv_volume, link);

		if (v->gone && (strcmp(v->cfg.name, cfg->name) == 0 ||
		                strcmp(v->cfg.device, cfg->device) == 0 ||
		                (!guid_is_nil(&cfg->id) && guid_equal(&v->cfg.id, &cfg->id)))) {
			return true;
		}
	}
	return false;
}

/* Those that should be there and are not. */
static int create_missing(struct csv_daemon *d, struct errbuf *eb)
{
	const struct csv_daemon_members *m = d->members;
	int err = 0;

	for (uint32_t i = 0; err == 0 && daemon_run(d) != 0 && i < m->volumes_count; i++) {
		struct csv_volume *v = csv_daemon_volume(d, m->volumes[i].name);

		if (v == NULL && !in_the_way(d, &m->volumes[i])) {
			err = volume_create(d, &m->volumes[i], &v, eb);
			if (err == 0) {
				list_add_tail(&d->volumes, &v->link);
			}
		}
	}
	return err;
}

/* Returns false if some wait for their devices. */
static bool free_gone(struct csv_daemon *d)
{
	bool all = true;

	list_for_each_safe(link, &d->volumes)
	{
		struct csv_volume *v = list_entry(link, struct csv_volume, link);

		if (!v->gone || v->pumping) {
			continue;
		}
		volume_end(v);
		if (volume_is_idle(v)) {
			log_info(TAG, "closed volume=%s", v->cfg.name);
			volume_destroy(v);
		} else {
			all = false;
		}
	}
	return all;
}

static void on_sweep(void *arg)
{
	struct csv_daemon *d = arg;
	uint64_t now_ns = clock_boot_ns();
	void (*fn)(void *arg) = d->stop_fn;
	struct errbuf eb = {0};

	serve_sweep(d, now_ns);
	loop_timer_arm(d->sweep, free_gone(d) ? SWEEP_NS : CLOSE_NS);
	if (!d->stopping && create_missing(d, &eb) != 0) {
		log_err(TAG, "cannot open text=\"%s\"", eb.text);
	}
	if (fn != NULL &&
	    ((list_empty(&d->volumes) && list_empty(&d->mounts)) || now_ns >= d->stop_ns)) {
		d->stop_fn = NULL;
		fn(d->stop_arg);
	}
}

int csv_daemon_create(const struct csv_daemon_cfg *cfg, struct csv_daemon **out, struct errbuf *eb)
{
	struct csv_daemon *d = gw_calloc(1, sizeof(*d));
	int err;

	*out = NULL;
	if (d == NULL) {
		return errbuf_sys(eb, -ENOMEM, "shared volumes");
	}
	d->cfg = *cfg;
	d->listen_fd = -1;
	list_init(&d->volumes);
	list_init(&d->mounts);
	list_init(&d->sessions);
	d->members = gw_calloc(1, sizeof(*d->members));
	err = d->members != NULL ? loop_timer_add(cfg->loop, SWEEP_NS, on_sweep, d, &d->sweep)
	                         : -ENOMEM;
	if (err != 0) {
		csv_daemon_destroy(d);
		return errbuf_sys(eb, err, "shared volumes");
	}
	*out = d;
	return 0;
}

int csv_daemon_listen(struct csv_daemon *d, const char *addr, uint16_t port, struct tls_ctx *tls,
                      struct errbuf *eb)
{
	int err = serve_start(d, addr, port, eb);

	if (err == 0) {
		d->tls = tls;
	} else {
		serve_stop(d);
	}
	return err;
}

void csv_daemon_destroy(struct csv_daemon *d)
{
	if (d == NULL) {
		return;
	}
	direct_stop(d);
	serve_stop(d);
	list_for_each_safe(link, &d->volumes)
	{
		volume_destroy(list_entry(link, struct csv_volume, link));
	}
	mounted_orphans(d);
	loop_timer_del(d->sweep);
	free(d->members);
	free(d);
}

void csv_daemon_stop(struct csv_daemon *d, uint64_t limit_ns, void (*fn)(void *arg), void *arg)
{
	d->stopping = true;
	d->stop_fn = fn;
	d->stop_arg = arg;
	d->stop_ns = clock_boot_ns() + limit_ns;
	list_for_each(link, &d->volumes)
	{
		volume_leave(list_entry(link, struct csv_volume, link), limit_ns);
	}
	loop_timer_arm(d->sweep, 0);
}

uint16_t csv_daemon_port(const struct csv_daemon *d)
{
	return d->port;
}

struct csv_volume *csv_daemon_volume(const struct csv_daemon *d, const char *name)
{
	list_for_each(link, &d->volumes)
	{
		struct csv_volume *v = list_entry(link, struct csv_volume, link);

		if (!v->gone && strcmp(v->cfg.name, name) == 0) {
			return v;
		}
	}
	return NULL;
}

struct csv_volume *csv_daemon_next(const struct csv_daemon *d, const struct csv_volume *before)
{
	struct list *link = before == NULL ? d->volumes.next : before->link.next;

	while (link != &d->volumes) {
		struct csv_volume *v = list_entry(link, struct csv_volume, link);

		if (!v->gone) {
			return v;
		}
		link = link->next;
	}
	return NULL;
}

static struct guid id_of(const struct csv_volume *v)
{
	return guid_is_nil(&v->cfg.id) ? v->super.volume : v->cfg.id;
}

uint32_t csv_daemon_closing(const struct csv_daemon *d, struct guid *ids, uint32_t max)
{
	uint32_t count = 0;

	list_for_each(link, &d->volumes)
	{
		const struct csv_volume *v = list_entry(link, struct csv_volume, link);

		if (v->gone && count++ < max) {
			ids[count - 1] = id_of(v);
		}
	}
	return count +
	       mounted_closing(d, ids + (count < max ? count : max), count < max ? max - count : 0);
}

/* ---- members ---- */

static int check_volumes(const struct csv_daemon_members *m, struct errbuf *eb)
{
	for (uint32_t i = 0; i < m->volumes_count; i++) {
		const struct csv_daemon_volume *v = &m->volumes[i];

		if (v->term == 0 && !m->alone) {
			return errbuf_set(eb, -EINVAL, "volume %s: no term", v->name);
		}
		for (uint32_t k = 0; k < i; k++) {
			if (strcmp(v->name, m->volumes[k].name) == 0) {
				return errbuf_set(eb, -EINVAL, "volume %s is there twice", v->name);
			}
		}
	}
	return 0;
}

static int check_members(const struct csv_daemon *d, const struct csv_daemon_members *m,
                         struct timing *timing, struct errbuf *eb)
{
	if (m->self >= CSV_MSG_NODES) {
		return errbuf_set(eb, -EINVAL, "node %u: there are %u", m->self, CSV_MSG_NODES);
	}
	if (m->epoch < d->members->epoch) {
		return errbuf_set(eb, -ESTALE, "epoch %" PRIu64 ": this node knows %" PRIu64,
		                  m->epoch, d->members->epoch);
	}

	/* One that was sent before, and arrives late, would undo what followed. */
	if (m->epoch == d->members->epoch && m->index != 0 && m->index < d->members->index) {
		return errbuf_set(eb, -ESTALE, "index %" PRIu64 ": this node knows %" PRIu64,
		                  m->index, d->members->index);
	}

	int err = check_volumes(m, eb);

	return err != 0 ? err : timing_init(&m->timing, timing, eb);
}

/* What is proven stays proven, whoever says less. */
static void take_members(struct csv_daemon *d, const struct csv_daemon_members *m)
{
	uint64_t fenced[CSV_MSG_NODES];

	memcpy(fenced, d->members->fenced, sizeof(fenced));
	*d->members = *m;
	d->core.epoch = m->epoch;
	for (uint32_t i = 0; i < CSV_MSG_NODES; i++) {
		if (d->members->fenced[i] < fenced[i]) {
			d->members->fenced[i] = fenced[i];
		}
		d->core.fenced[i] = d->members->fenced[i];
		d->core.run[i] = m->peers[i].run;
	}
}

static const struct csv_daemon_volume *wanted(const struct csv_daemon_members *m, const char *name)
{
	for (uint32_t i = 0; i < m->volumes_count; i++) {
		if (strcmp(m->volumes[i].name, name) == 0) {
			return &m->volumes[i];
		}
	}
	return NULL;
}

static bool same_place(const struct csv_volume *v, const struct csv_daemon_volume *cfg)
{
	return strcmp(v->cfg.device, cfg->device) == 0 && guid_equal(&v->cfg.id, &cfg->id);
}

static void update_volumes(struct csv_daemon *d)
{
	list_for_each_safe(link, &d->volumes)
	{
		struct csv_volume *v = list_entry(link, struct csv_volume, link);
		const struct csv_daemon_volume *cfg = wanted(d->members, v->cfg.name);

		if (v->run != daemon_run(d)) {
			volume_end(v); /* of a run that is over; comes again when it is closed */
			loop_timer_arm(d->sweep, 0);
		} else if (cfg == NULL || !same_place(v, cfg)) {
			volume_leave(v, LEAVE_NS);
		} else if (v->phase != VOLUME_LEAVING && !v->gone) {
			volume_configure(v, cfg);
			volume_members(v);
		}
	}
}

int csv_daemon_set_members(struct csv_daemon *d, const struct csv_daemon_members *m,
                           struct errbuf *eb)
{
	int err = check_members(d, m, &d->timing, eb);

	if (err != 0) {
		return err;
	}
	take_members(d, m);
	update_volumes(d);
	return create_missing(d, eb);
}
