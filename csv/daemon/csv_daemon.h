/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_DAEMON_CSV_DAEMON_H
#define CSV_DAEMON_CSV_DAEMON_H

/*
 * csv_daemon - the shared volumes of one node: runs the pure cores (csv_slot, csv_coord,
 * csv_client) on devices, connections and the clock.
 *
 * Who is in the cluster, who coordinates which volume in which term, and who was proven gone comes
 * from outside with csv_daemon_set_members(); nothing here decides it. For each volume:
 *
 *	volume.c       opens the device, reads the superblock, keeps the liveness slot
 *	coordinator.c  performs the I/O of the coordinator, if this node is it
 *	serve.c        takes connections of other nodes to it
 *	reach.c        connects this node's client to the coordinator, wherever that is
 *	mounted.c      mounts it, once the client has been welcome
 *
 *	OPENING -> JOINING (the slot) -> READY -> LEAVING -> gone
 *	   `-----------'-> FAILED, and tries again
 *	any -> DEAD: this run of the node was fenced; a new run begins anew
 *
 * What clients ask for waits while there is no coordinator, and is asked again from the next one.
 *
 * Thread: the loop's. docs/decisions/0190.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/tls_pki.h"
#include "cluster/timing/timing.h"
#include "csv/client/csv_client.h"
#include "csv/coord/csv_coord.h"
#include "csv/pr/csv_pr.h"
#include "csv/slot/csv_slot.h"

struct csv_daemon;
struct csv_volume;
struct errbuf;
struct loop;
struct tls_ctx;

#define CSV_DAEMON_VOLUMES_MAX 32u
#define CSV_DAEMON_PORT 7445
#define CSV_DAEMON_NAME_MAX 64u /* of a volume, with NUL */
#define CSV_DAEMON_PATH_MAX 512u
#define CSV_DAEMON_PINS_MAX 4u
#define CSV_DAEMON_ADDR_MAX 46u /* numeric, with NUL */

struct csv_daemon_cfg {
	struct loop *loop;     /* borrowed until csv_daemon_destroy() */
	struct guid node_id;   /* of this machine, in liveness slots */
	const char *mount_dir; /* volumes are mounted in it; NULL = not. Borrowed until the end */
	/* Tests: a model of a target in place of SG_IO. */
	const struct csv_pr_door *pr_door;
	void *pr_arg;
};

struct csv_daemon_peer {
	uint64_t run; /* incarnation; 0 = no member */
	char name[TLS_NAME_MAX];
	char addr[CSV_DAEMON_ADDR_MAX];
	uint16_t port; /* 0 = CSV_DAEMON_PORT */
	/* Public keys that count as this node (tls_cert_pin()); more than one while it changes
	 * its key. None = each certificate of the CA with its name. */
	uint32_t pins_count;
	char pins[CSV_DAEMON_PINS_MAX][TLS_PIN_MAX];
};

struct csv_daemon_volume {
	char name[CSV_DAEMON_NAME_MAX];
	char device[CSV_DAEMON_PATH_MAX];
	struct guid id;       /* nil = whatever is on the device */
	uint64_t term;        /* 0: alone, one more than the device knows */
	uint32_t coordinator; /* node; CSV_MSG_NODES = nobody yet */
	bool quiet;           /* earlier coordinators are proven silent */
	/* This run is not a holder yet (of the next terms): the device may be opened and the slot
	 * taken, but nothing is asked of the coordinator. */
	bool wait;
	uint32_t holders_count;
	struct csv_lock_owner holders[CSV_COORD_HOLDERS_MAX]; /* see struct csv_coord_cfg */
};

/* What the cluster says, as one copy. */
struct csv_daemon_members {
	uint64_t epoch; /* does not get less */
	uint64_t index; /* within an epoch likewise; 0 = not known */
	uint32_t self;
	bool alone; /* there is no cluster: nobody else decides about this node */
	struct csv_daemon_peer peers[CSV_MSG_NODES];
	uint64_t fenced[CSV_MSG_NODES]; /* all runs up to this one; 0 = none */
	struct timing_cfg timing;
	uint32_t volumes_count;
	struct csv_daemon_volume volumes[CSV_DAEMON_VOLUMES_MAX];
};

/* csv_daemon_create() - no volumes and no connections yet. Returns 0; -ENOMEM. */
MUST_USE int csv_daemon_create(const struct csv_daemon_cfg *cfg, struct csv_daemon **out,
                               struct errbuf *eb);

/*
 * csv_daemon_listen() - from now on there are connections from and to other nodes. Once.
 * @addr: numeric. @port: 0 = any, see csv_daemon_port(). @tls: borrowed until the end.
 * Returns 0; -EINVAL addr; -EADDRINUSE; -ENOMEM; -errno.
 */
MUST_USE int csv_daemon_listen(struct csv_daemon *d, const char *addr, uint16_t port,
                               struct tls_ctx *tls, struct errbuf *eb);

/*
 * csv_daemon_direct() - let users of mounted files do I/O of their own (base/shared_direct.h),
 * once.
 * @run_dir: SHARED_DIRECT_SOCKET and SHARED_DIRECT_LOCK are made in it.
 * Returns 0; -ENAMETOOLONG; -ENOMEM; -errno.
 */
MUST_USE int csv_daemon_direct(struct csv_daemon *d, const char *run_dir, struct errbuf *eb);

/*
 * csv_daemon_stop() - give everything back in order: goodbye to coordinators, journals clean, slots
 * free; @fn from the loop when that is done, or after @limit_ns.
 */
void csv_daemon_stop(struct csv_daemon *d, uint64_t limit_ns, void (*fn)(void *arg), void *arg);

/* csv_daemon_destroy() - at once; waits for the disk only. NULL is fine. */
void csv_daemon_destroy(struct csv_daemon *d);

/*
 * csv_daemon_set_members() - the cluster's word. Volumes that are not there any more are left, new
 * ones opened. @m is copied. Readmits a lapsed slot: who calls this knows that nobody acted on it.
 * Returns 0; -ESTALE an older epoch or index; -EINVAL; -ENOMEM.
 */
MUST_USE int csv_daemon_set_members(struct csv_daemon *d, const struct csv_daemon_members *m,
                                    struct errbuf *eb);

uint16_t csv_daemon_port(const struct csv_daemon *d);

/* csv_daemon_volume() - by name; NULL = none. csv_daemon_next(): all of them, NULL first. */
struct csv_volume *csv_daemon_volume(const struct csv_daemon *d, const char *name);
struct csv_volume *csv_daemon_next(const struct csv_daemon *d, const struct csv_volume *before);

/*
 * csv_daemon_closing() - volumes that are not among those any more, but of which something may
 * still be written here: by a coordinator, or by a mount that ends.
 * @ids[max]: which; the same one may be there twice. Returns how many there are, also more than
 * @max.
 */
uint32_t csv_daemon_closing(const struct csv_daemon *d, struct guid *ids, uint32_t max);

/* ---- one volume ---- */

/* A request to the coordinator, whichever it is. Embed it; it belongs to the volume until fn(). */
struct csv_volume_req {
	struct csv_client_req req; /* fill in .msg; then .result and .reply */
	/* From the loop, once. May submit others, and this one again. */
	void (*fn)(struct csv_volume_req *r);
	void *arg;
	uint64_t begun_ns; /* private */
};

/* csv_volume_submit() - ask. Also while there is no coordinator: it waits. -ENOTCONN (in
 * .result): the volume is not open here yet, or not any more. */
void csv_volume_submit(struct csv_volume *v, struct csv_volume_req *r);

/* csv_volume_number() - for a new handle, lease, or lock. The volume must be open. */
uint64_t csv_volume_number(struct csv_volume *v);

/* csv_volume_root() - the inode of the root directory; 0 = not open. */
uint64_t csv_volume_root(const struct csv_volume *v);

/*
 * csv_volume_hand_over() - planned move: finish, close, tell the clients. @fn from the loop when
 * the journal is clean, so that the next term may be given to @node; err: -ECANCELED it ended
 * otherwise. Where this node has lost its way to the device nothing can be finished: it ends as
 * one that has failed, when what it had sent has ended (the journal is replayed by the next).
 * Returns 0; -EALREADY @node is the coordinator; -EREMOTE it is not here; -ENOTSUP alone; -EBUSY
 * another hand-over is under way; -EINVAL no such member.
 */
MUST_USE int csv_volume_hand_over(struct csv_volume *v, uint32_t node,
                                  void (*fn)(void *arg, int err), void *arg, struct errbuf *eb);

/* This node's own way to the device. */
enum csv_volume_way {
	CSV_VOLUME_WAY_UNKNOWN, /* was not tried yet */
	CSV_VOLUME_WAY_GOOD,    /* it answers, and our slot is held */
	CSV_VOLUME_WAY_LOST,    /* it cannot be opened, gives errors, or does not answer */
};

enum csv_volume_state {
	CSV_VOLUME_DIRECT,     /* files are read and written on the device */
	CSV_VOLUME_REDIRECTED, /* through another node */
	CSV_VOLUME_PAUSED,     /* what is asked for waits */
	CSV_VOLUME_DEAD,       /* this run of the node was fenced */
};

/* Of what took so long: [ns]; 0 = nothing was counted. */
struct csv_volume_latency {
	uint64_t count;
	uint64_t p50_ns;
	uint64_t p99_ns;
	uint64_t max_ns;
};

struct csv_volume_info {
	const char *name; /* borrowed, like all texts: for the moment */
	const char *device;
	struct guid id; /* nil = not known yet */
	enum csv_volume_state state;
	const char *reason;             /* a word; "" = none */
	const char *detail;             /* a sentence; "" = none */
	uint64_t since_ns;              /* CLOCK_BOOTTIME */
	uint32_t coordinator;           /* node; CSV_MSG_NODES = nobody */
	uint64_t term;                  /* of it */
	bool connected;                 /* our client to the coordinator, past grace */
	char path[CSV_DAEMON_PATH_MAX]; /* where it is mounted; "" = it is not */
	const char *mount_why;          /* it cannot be mounted; "" = it can */
	const char *client;             /* its state */
	const char *slot;               /* state of our liveness slot */
	enum csv_volume_way way;
	struct csv_volume_latency meta; /* requests of this node */
	uint64_t key;                   /* of this run on the LUN; 0 = it is not reserved by keys */
	enum csv_pr_level reservations; /* NONE: leases and slots only */
	const char *reservations_why;   /* not more than that; "" = it is the best */
	bool stat_known;
	struct csv_stat stat;
	/* Through another node, since it was mounted; requests that were carried out. */
	uint64_t redirect_requests;
	uint64_t redirect_bytes;
	uint32_t direct_users; /* that do I/O of their own (base/shared_direct.h) */
	uint64_t direct_told;  /* extents that they were told */
	/* Only where the coordinator runs: */
	uint64_t gate_requests; /* redirected, done for others since the volume was opened */
	uint64_t gate_bytes;
	const char *coord;     /* its state; NULL = not here */
	const char *coord_why; /* it failed; "" = did not */
	uint64_t sessions;     /* set of nodes with a connection */
	struct csv_coord_stats coord_stats;
	struct csv_lock_stats locks;
	struct csv_volume_latency lock_waits;
	uint64_t fence_wanted[CSV_MSG_NODES]; /* run that does not answer; 0 = none */
	uint32_t moved_to;                    /* after a hand-over; CSV_MSG_NODES = none */
	/* Other nodes' slots, as seen here. */
	enum csv_slot_life life[CSV_MSG_NODES];
};

void csv_volume_get_info(const struct csv_volume *v, struct csv_volume_info *out);

/*
 * csv_volume_fence() - take the key of a run that is to be fenced away from the LUN. Who asks
 * has decided that it is over: nothing here does.
 * @fn: from the loop, once. err 0: the key was there, and is gone; with @aborted nothing that was
 * sent under it will be executed. -EALREADY it was not there: somebody else's abort may be under
 * way, what is in flight has to be waited for. Else it was not done.
 * Returns 0; -EINVAL our own run; -ENOTSUP the LUN has no reservations; -EAGAIN not open, or
 * fenced; -EBUSY another one is under way.
 */
MUST_USE int csv_volume_fence(struct csv_volume *v, uint32_t node, uint64_t run,
                              void (*fn)(void *arg, int err, bool aborted), void *arg,
                              struct errbuf *eb);

/* csv_volume_state_name() - "direct", "redirected", "paused", "dead". */
const char *csv_volume_state_name(enum csv_volume_state state);

#endif
