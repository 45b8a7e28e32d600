/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_TARGET_TARGET_H
#define MIGRATE_TARGET_TARGET_H

/*
 * target - the end of a migration that gets the guest.
 *
 *	CONNECT -> CHECK -> COPY -> LOAD -> HANDOFF -> COMMITTED -> ENDED
 *
 * Until READY is sent (HANDOFF) any failure, cut or cancel ends it: nothing is left, the guest
 * operations' owner drops the partition. From then on only a word decides: COMMIT or CANCEL from
 * the source, or the owner's target_commit() or target_abandon(). A cut connection in HANDOFF
 * decides nothing: the orphaned event asks the owner, who asks the source's owner.
 *
 * Memory arrives on the threads of the data connections and is written straight into the ranges
 * that map() gave; no other thread touches them until load(). Every run is checked against the
 * ranges. Ranges must be zero at the start: zero pages are not touched. Each connection's thread
 * faults a run in with one system call before it receives it, unless threads that run ahead of
 * the stream have (enum target_fill).
 *
 * Threads: one for the state machine, one per connection. Guest operations and events are called
 * from the first.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "migrate/move/move.h"

struct errbuf;
struct target;

struct target_guest_ops {
	/* What speaks against it? Adds everything it finds to @report. Also for a mere check. */
	void (*check)(void *guest, const char *definition, size_t len_bytes, struct compat *report);
	/* Build the partition. done(err) fails the move. Not for a check. */
	void (*prepare)(void *guest, const char *definition, size_t len_bytes, move_done_fn done,
	                void *arg);
	/* The memory, all zero, up to MOVE_RANGES_MAX ranges. Returns how many. Called first of
	 * all, from target_create(). */
	uint32_t (*map)(void *guest, struct move_range *ranges);
	/* All memory is there: load the device state (hv/save; a section that is mandatory and
	 * unknown is refused by its name) so that only vCPUs have to start. @buf: borrowed until
	 * done(). */
	void (*load)(void *guest, const uint8_t *buf, size_t len_bytes, move_done_fn done,
	             void *arg);
	/* It is ours: take disks and networks, start vCPUs. done(0) when they run. After done(err)
	 * the owner has a VM that it may start anew. */
	void (*run)(void *guest, move_done_fn done, void *arg);
	/* Tell the network where the guest is now, and again a few times: only starts that. */
	void (*announce)(void *guest);
};

struct target_events {
	void (*progress)(void *arg, const struct move_progress *p);
	/* READY was sent. */
	void (*ready)(void *arg);
	/*
	 * COMMIT came. With cfg.confirm: record it, then target_commit(). Without: it runs already
	 * or is about to; record it.
	 */
	void (*committed)(void *arg, uint64_t epoch);
	/* READY, and the source cannot be reached: target_commit() or target_abandon() decides. */
	void (*orphaned)(void *arg, const struct errbuf *why);
	/* Over, exactly once. DONE: the guest runs; UNKNOWN: it is ours, but did not start. */
	void (*ended)(void *arg, const struct move_result *r);
};

/* Who faults in the guest's memory, besides the connections (docs/decisions/0114). */
enum target_fill {
	TARGET_FILL_NONE,  /* nobody */
	TARGET_FILL_AHEAD, /* threads, some 2 MiB pieces ahead of the stream */
	TARGET_FILL_ALL,   /* threads, at once, and nothing is copied before all is there */
};

#define TARGET_FILL_THREADS_MAX 8u

struct target_cfg {
	struct guid vm;
	struct guid move;
	uint64_t epoch; /* the source's ownership; any other is refused */
	uint8_t token[STREAM_TOKEN_BYTES];
	struct tls_ctx *tls; /* borrowed; NULL only with @plain */
	bool plain;
	uint64_t memory_max_bytes; /* refuse larger guests; 0 = no limit here */
	uint64_t silence_max_ns;   /* 0 = the default */
	uint64_t connect_max_ns;   /* until all connections have said HELLO; 0 = silence_max_ns */
	bool confirm;              /* COMMIT waits for target_commit() */
	enum target_fill fill;
	uint32_t fill_threads; /* 0 = by the number of processors; ..TARGET_FILL_THREADS_MAX */

	const struct target_guest_ops *ops;
	void *guest;
	const struct target_events *events; /* each optional but ended and orphaned */
	void *arg;
};

/* target_create() - wait for connections. Returns 0; -EINVAL cfg; -ENOMEM; -errno of threads. */
MUST_USE int target_create(const struct target_cfg *cfg, struct target **out, struct errbuf *eb);

/*
 * target_add() - a connected stream socket, from which a HELLO is to come; taken, also on
 * failure. Which connection it is, it says itself. Any thread.
 * Returns 0; -EBUSY there are enough, or the move is over.
 */
MUST_USE int target_add(struct target *t, int fd);

/* target_commit() - the owner knows that the VM is ours with @epoch: run it. In HANDOFF only, else
 * -EBUSY. Any thread. */
MUST_USE int target_commit(struct target *t, uint64_t epoch);

/* target_abandon() - the owner knows that it is not ours, or wants no more of it. Any thread.
 * Returns 0 (the ended event follows, or came); -EBUSY it is committed. */
int target_abandon(struct target *t, const struct errbuf *why);

/* target_destroy() - abandon, unless it is committed; wait for the threads; free. NULL is fine. Not
 * from an event. */
void target_destroy(struct target *t);

#endif
