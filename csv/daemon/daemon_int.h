/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_DAEMON_DAEMON_INT_H
#define CSV_DAEMON_DAEMON_INT_H

/*
 * The parts of csv_daemon and who calls whom:
 *
 *	daemon.c  members, the set of volumes     disk.c   a device on the loop
 *	volume.c  phases, slot, the pump          reserve.c  keys on the LUN; keys.c  when
 *	gate.c    redirected I/O, done for others; redirect.c  asked for from here
 *	coordinator.c, serve.c, reach.c, mounted.c: csv_daemon.h
 *
 * The pump (volume_pump()) is called after everything that happened, and moves what there is
 * between coordinator, client, connections and device until there is nothing more to move.
 */

#include "base/errbuf.h"
#include "base/list.h"
#include "base/shared_file.h"
#include "base/uring.h"
#include "csv/daemon/csv_daemon.h"
#include "csv/daemon/gate.h"
#include "csv/daemon/reserve.h"
#include "csv/link/csv_link.h"

#define LATENCY_BUCKETS 128u /* four per power of two [us] */
/* Connections that others made. Those that have not shown a certificate have
 * CSV_LINK_CONNECT_NS for it; who is one too many ends the oldest from there. */
#define NODE_SESSIONS_MAX (2 * CSV_DAEMON_VOLUMES_MAX) /* of a node, the old ones in doubt */
#define STRANGERS_MAX 32u                              /* from addresses of no member */
#define HELLO_NS 10000000000ull
#define SILENT_NS 30000000000ull /* clients ping every PING_NS */
#define PING_NS 3000000000ull
#define DEAF_NS 10000000000ull /* the coordinator answers nothing, not even pings */
#define PING_NUMBER (1ull << 63)

/* ---- disk.c ---- */

struct csv_mount_stats;
struct disk;

struct disk_op {
	struct uring_op op;
	struct disk *disk;
	size_t want_bytes;
	void (*fn)(struct disk_op *op, int err);
};

/* @after: from the loop, when completions were handed out. */
MUST_USE int disk_open(const char *path, struct loop *loop, void (*after)(void *arg), void *arg,
                       struct disk **out, struct errbuf *eb);
void disk_close(struct disk *d);         /* waits for what is in flight; completions are called */
bool disk_is_idle(const struct disk *d); /* nothing is; NULL: true */
uint64_t disk_size_bytes(const struct disk *d);
int disk_fd(const struct disk *d); /* borrowed */
void disk_read(struct disk *d, struct disk_op *op, void *buf, size_t len, uint64_t at_bytes);
void disk_write(struct disk *d, struct disk_op *op, const void *buf, size_t len, uint64_t at_bytes);
void disk_flush(struct disk *d, struct disk_op *op);
void disk_submit(struct disk *d);

/* ---- redirect.c ---- */

struct csv_data_ask;
struct csv_mount_file;
struct direct_server;

/* What a mount has asked other nodes to read and write. */
struct redirects {
	struct csv_volume *v;         /* NULL: it is gone */
	struct uring *ring;           /* borrowed: csv/data's */
	struct list waiting;          /* struct redirect */
	struct csv_data_ask *refused; /* chained by .provider */
	struct uring_op refuse;
	bool refusing;
	uint32_t count; /* under way */
	uint64_t under_way_bytes;
	uint64_t requests; /* that were carried out */
	uint64_t bytes;
};

void redirects_init(struct redirects *r, struct csv_volume *v, struct uring *ring);
/* redirects_ask() - begin; answered with csv_data_answer(), not from inside. */
void redirects_ask(struct redirects *r, const struct csv_mount_file *file,
                   struct csv_data_ask *ask);
/* redirects_lose() - the volume is gone: what waits is refused. */
void redirects_lose(struct redirects *r);

/* ---- the volume ---- */

enum volume_phase {
	VOLUME_OPENING,
	VOLUME_JOINING,
	VOLUME_READY,
	VOLUME_LEAVING,
	VOLUME_FAILED,
	VOLUME_DEAD,
};

enum reach_how { REACH_NONE, REACH_LOCAL, REACH_DIALLED, REACH_LINKED };

/* The way to the coordinator. */
struct reach {
	enum reach_how how;
	struct csv_link *link; /* owned */
	uint32_t node;
	uint64_t term;
	uint64_t retry_ns;
	uint64_t backoff_ns;
	uint64_t ping;
	uint64_t pinged_ns;
	struct errbuf why; /* that it is not there */
	struct tls_peer peer;
};

struct coord_io {
	struct disk_op op;
	struct csv_volume *v;
	struct csv_io what;
	uint64_t failed_ns; /* for the first time; 0 = did not */
	bool waits;         /* for the next attempt */
};

struct boot_io {
	struct disk_op op;
	struct csv_volume *v;
	uint32_t index;
};

struct coordinator {
	struct csv_coord *coord; /* owned; NULL = not here */
	uint64_t term;
	uint64_t last_term; /* one term is coordinated once */
	uint32_t in_flight;
	uint32_t waiting;  /* I/O that failed and is tried again */
	uint64_t again_ns; /* then */
	bool stopping;
	bool failed;
	struct errbuf why;
	uint64_t retry_ns; /* alone */
	uint64_t ended_ns; /* nothing of it is under way here since then */
	struct coord_io io[CSV_META_IO_MAX];
	uint64_t fence_wanted[CSV_MSG_NODES]; /* as csv_coord_waits_for() says now */
	uint64_t waits_for[CSV_MSG_NODES];    /* likewise; written to the log */
	uint64_t worked_ns;                   /* coordinator_work() was here */
	uint32_t moved_to;
	void (*handed_fn)(void *arg, int err);
	void *handed_arg;
	uint64_t own_term; /* alone: the greatest term that the device knows */
};

/* A connection that another node made. */
struct session {
	struct list link; /* of the daemon */
	struct csv_daemon *d;
	struct csv_link *conn; /* owned */
	struct csv_volume *v;  /* NULL: has not said hello yet */
	uint32_t node;
	struct tls_peer peer; /* name "": not known yet */
	uint32_t from;        /* the member with that address; CSV_MSG_NODES = none */
	uint64_t since_ns;
};

struct latency {
	uint64_t count;
	uint64_t max_ns;
	uint32_t buckets[LATENCY_BUCKETS];
};

#define BOOT_BLOCKS (2 * CSV_JOURNAL_HEADERS) /* first three superblocks, then headers */

struct csv_volume {
	struct csv_daemon *d;
	struct list link;
	struct csv_daemon_volume cfg;
	enum volume_phase phase;
	uint64_t run; /* of this node, that it was opened in */
	struct errbuf why;
	enum csv_volume_state said; /* last state, and since when */
	const char *said_reason;    /* static */
	enum csv_volume_way way;
	bool hanging;             /* what files have sent to the device; at the last look */
	uint64_t round_until_ns;  /* our lease when a file was last seen to be redirected */
	const char *round_reason; /* of that file; static, NULL = none since it was DIRECT */
	uint64_t well_ns;         /* since when the device answers without a break; 0 = does not */
	uint64_t since_ns;
	bool gone;  /* to be freed, */
	bool ended; /* when the device has answered: nothing more is begun */
	bool pumping;
	bool again;
	struct loop_timer *work;
	uint64_t retry_ns; /* FAILED */

	struct disk *disk;
	uint8_t *blocks; /* BOOT_BLOCKS */
	uint8_t *memory; /* owned: what blocks lies in */
	struct boot_io boot[BOOT_BLOCKS];
	int boot_err[BOOT_BLOCKS];
	uint32_t boot_left;
	bool headers; /* what is read now */
	bool known;   /* they were: the client may begin */
	struct csv_super super;
	struct csv_slot_io *slot;

	struct reserve *reserve; /* owned; NULL = a file, or not looked at yet */
	struct reserve_state keys;
	bool registered; /* in this run: a key that is gone was taken away */
	bool refused;    /* the LUN answered a write of ours with a conflict */
	bool keys_leaving;

	struct csv_client *client; /* owned; from READY on */
	struct list early;         /* struct csv_volume_req, before that */
	struct reach reach;
	struct coordinator coord;
	struct session *sessions[CSV_MSG_NODES];
	struct gate gate;
	struct latency meta;

	struct mounted *mounted; /* owned; NULL = not */
	uint64_t mount_retry_ns;
	struct errbuf mount_why; /* it cannot be mounted */

	struct csv_volume_req stat_req;
	bool stat_busy;
	bool stat_known;
	uint64_t stat_ns;
	struct csv_stat stat;

	uint64_t leave_ns; /* LEAVING: until then */
	struct csv_volume_req bye;
	bool bye_busy;
	bool bye_over;
	bool handing;
	bool slot_leaving;
	bool slot_over;
};

struct csv_daemon {
	struct csv_daemon_cfg cfg;
	struct direct_server *direct;       /* owned; NULL = nobody does I/O of his own */
	struct tls_ctx *tls;                /* borrowed; NULL = no connections */
	struct csv_daemon_members *members; /* owned; epoch 0 = none yet */
	struct csv_members core;            /* the same for csv_coord */
	struct timing timing;
	struct list volumes;
	struct list mounts; /* struct mounted, also of volumes that are gone */
	struct list sessions;
	uint32_t strangers[CSV_MSG_NODES + 1]; /* without a certificate, by session.from */
	int listen_fd;
	struct loop_fd *listen_watch;
	uint16_t port;
	struct loop_timer *sweep;
	bool stopping;
	void (*stop_fn)(void *arg);
	void *stop_arg;
	uint64_t stop_ns;
	uint64_t numbers; /* given to clients: they only grow */
};

/* daemon.c */
uint64_t daemon_run(const struct csv_daemon *d);
uint64_t daemon_numbers(struct csv_daemon *d);
bool daemon_knows(const struct csv_daemon *d, uint32_t node, const struct tls_peer *peer);

/* volume.c */
int volume_create(struct csv_daemon *d, const struct csv_daemon_volume *cfg,
                  struct csv_volume **out, struct errbuf *eb);
void volume_destroy(struct csv_volume *v); /* waits for the device */
/* volume_end() - nothing more is begun for it, and nobody is told. volume_is_idle(): and nothing is
 * under way. */
void volume_end(struct csv_volume *v);
bool volume_is_idle(const struct csv_volume *v);
void volume_configure(struct csv_volume *v, const struct csv_daemon_volume *cfg);
void volume_members(struct csv_volume *v);
void volume_leave(struct csv_volume *v, uint64_t limit_ns);
void volume_pump(struct csv_volume *v);
bool volume_may_write(const struct csv_volume *v, uint64_t now_ns);
uint8_t *volume_block(const struct csv_volume *v, uint32_t i);
void volume_work(struct csv_volume *v);

void volume_die(struct csv_volume *v, const char *why);
void volume_fail(struct csv_volume *v, int err);
void volume_read_headers(struct csv_volume *v);

/* keys.c */
/* keys_start() - the slot is ours: register, then volume_read_headers(). Returns 0; -errno. */
MUST_USE int keys_start(struct csv_volume *v);
/* keys_leave() - Returns true when they are given back. */
bool keys_leave(struct csv_volume *v);
uint64_t keys_of(const struct csv_volume *v, uint32_t node, uint64_t run);

/* show.c */
void volume_look_way(struct csv_volume *v, uint64_t now_ns);
void volume_look(struct csv_volume *v, uint64_t now_ns);
/* volume_hangs() - what is sent to the device from here; and there is another node to ask. From
 * what hangs itself, not from who goes round it: or each would keep the other away. */
bool volume_hangs(const struct csv_volume *v);
void latency_add(struct latency *l, uint64_t ns);
void latency_get(const struct latency *l, struct csv_volume_latency *out);

/* coordinator.c */
void coordinator_update(struct csv_volume *v, uint64_t now_ns);
bool coordinator_work(struct csv_volume *v, uint64_t now_ns);
void coordinator_stop(struct csv_volume *v);
bool coordinator_answers(const struct csv_volume *v);
uint64_t coordinator_next_ns(const struct csv_volume *v);
int coordinator_receive(struct csv_volume *v, uint32_t node, const struct csv_msg *msg);
bool coordinator_say(struct csv_volume *v);

/* mounted.c */
/* mounted_start() - mount, if it is time to. */
void mounted_start(struct csv_volume *v, uint64_t now_ns);
/* mounted_stop() - unmount. Returns true when there is nothing left of it. */
bool mounted_stop(struct csv_volume *v);
/* mounted_lose() - the volume, or this run of the node, is gone: what is mounted ends alone. */
void mounted_lose(struct csv_volume *v);
/* mounted_kick() - rights changed: look at what waits. */
void mounted_kick(struct csv_volume *v);
/* mounted_look() - how the files that are open stand. Returns false if nothing is mounted. */
bool mounted_look(const struct csv_volume *v, struct csv_mount_stats *out);
/* mounted_redirects() - NULL: nothing is mounted. */
const struct redirects *mounted_redirects(const struct csv_volume *v);
/* mounted_attach() - csv_mount_attach(). -ENOENT also if nothing is mounted. */
MUST_USE int mounted_attach(struct csv_volume *v, const uint8_t key[SHARED_FILE_KEY_BYTES],
                            int sock, int lock_fd);
void mounted_event(struct csv_volume *v, const struct csv_client_event *event);
/* mounted_closing() - mounts that their volumes have lost: see csv_daemon_closing(). */
uint32_t mounted_closing(const struct csv_daemon *d, struct guid *ids, uint32_t max);
/* mounted_orphans() - the daemon goes. */
void mounted_orphans(struct csv_daemon *d);

/* direct.c */
void direct_stop(struct csv_daemon *d);

/* serve.c */
int serve_start(struct csv_daemon *d, const char *addr, uint16_t port, struct errbuf *eb);
void serve_stop(struct csv_daemon *d);
void serve_sweep(struct csv_daemon *d, uint64_t now_ns);
void serve_drop(struct session *s);
void serve_drop_all(struct csv_volume *v);

/* reach.c */
void reach_update(struct csv_volume *v, uint64_t now_ns);
void reach_drop(struct csv_volume *v, uint64_t now_ns, const char *why);
bool reach_work(struct csv_volume *v, uint64_t now_ns);
void reach_completed(struct csv_volume *v);
void reach_receive(struct csv_volume *v, const struct csv_msg *msg, uint64_t now_ns);
uint64_t reach_next_ns(const struct csv_volume *v);

#endif
