/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_SOURCE_SOURCE_H
#define MIGRATE_SOURCE_SOURCE_H

/*
 * source - the end of a migration that has the guest.
 *
 *	CONNECT -> CHECK -> COPY -> STOP -> LOAD -> HANDOFF -> COMMITTED -> ENDED
 *	                     ^       |
 *	                     +-------+ too much is left: vCPUs run again (throttled)
 *
 * Until HANDOFF the source decides alone: any failure, cut or cancel ends with the guest running
 * here. In HANDOFF the owner has been asked (ready event): it answers with source_commit() or
 * source_refuse(), and until then the guest stands, whatever happens to the connections, because
 * the answer may already be in a journal. After source_commit() the guest never runs here again.
 *
 * Threads: one for the state machine, one per data connection. Guest operations and events are
 * called from the first, except where said; events must not block and must not call
 * source_destroy().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "migrate/move/move.h"

struct errbuf;
struct source;

/* What the worker does for a move. @guest is what source_cfg says. */
struct source_guest_ops {
	/* The memory, up to MOVE_RANGES_MAX ranges. Returns how many. */
	uint32_t (*map)(void *guest, struct move_range *ranges);

	/*
	 * Optional: the next pages of range @range, at or after *page, that may hold something:
	 * *page and *count. Returns 0; -ENXIO there are none. Called after dirty_start(); pages
	 * that are left out are zero at the destination without being read here, which would
	 * allocate them. source_memfd_data() does it for memory that is a memfd.
	 */
	int (*data)(void *guest, uint32_t range, uint64_t *page, uint64_t *count);

	/* Begin to log writes to memory, by vCPUs and by the worker: all clean. 0 or -errno. */
	int (*dirty_start)(void *guest, struct errbuf *eb);
	/*
	 * Or what was written to range @range since the last fetch into @bits (bit n: page n of the
	 * range) and clear it there. A page whose bit is returned is clean from before the return
	 * on: the caller copies it after. While paused: includes all writes of devices.
	 * 0 or -errno.
	 */
	int (*dirty_fetch)(void *guest, uint32_t range, uint64_t *bits, size_t words);
	void (*dirty_stop)(void *guest);

	/* Let vCPUs run only 100 - @percent % of the time; 0 = full speed. 0 or -errno. */
	int (*throttle)(void *guest, uint32_t percent);

	/*
	 * Stop vCPUs and devices, drain I/O; done(0) when nothing writes to memory any more. May
	 * take long (a slow disk); resume() may be called meanwhile and ends it early: done() of
	 * the pause (0 or -ECANCELED) comes before the resume's.
	 */
	void (*pause)(void *guest, move_done_fn done, void *arg);
	/* Let it run on. Must not fail for lack of anything: done(err) with err != 0 means that the
	 * guest is lost, and is reported so. */
	void (*resume)(void *guest, move_done_fn done, void *arg);
	/* Paused: the device state as a blob of hv/save; *buf: malloc()ed, passes to the caller.
	 * Both are set before done(0). Until then it may still write to memory: what is dirty is
	 * fetched after. May be called again in a later attempt. */
	void (*save)(void *guest, uint8_t **buf, size_t *len_bytes, move_done_fn done, void *arg);
};

struct source_events {
	/* A few times a second and at each change of phase. @p: borrowed for the call. */
	void (*progress)(void *arg, const struct move_progress *p);
	/* The destination is READY: decide with source_commit() or source_refuse(). Later than
	 * @deadline_ns (clock_now_ns(); UINT64_MAX = never) a commit would exceed the limit of the
	 * blackout: who has not decided by then refuses. */
	void (*ready)(void *arg, uint64_t deadline_ns);
	/* While the owner is asked: the destination failed or is out of reach. Refuse, if nothing
	 * is recorded yet. */
	void (*lost)(void *arg, const struct errbuf *why);
	/* It is over, exactly once; the guest runs (or never will here: DONE, UNKNOWN). */
	void (*ended)(void *arg, const struct move_result *r);
};

/*
 * source_memfd_data() - for source_guest_ops.data, where a range of @range_bytes lies in the memfd
 * @fd from @offset_bytes on. Returns 0; -ENXIO; -errno.
 */
MUST_USE int source_memfd_data(int fd, uint64_t offset_bytes, uint64_t range_bytes, uint64_t *page,
                               uint64_t *count);

enum source_pack { SOURCE_PACK_NONE, SOURCE_PACK_LZ4, SOURCE_PACK_ZSTD };

struct source_cfg {
	enum stream_mode mode;
	struct guid vm;
	struct guid move;                  /* of this attempt; the destination expects it */
	uint64_t epoch;                    /* the ownership we hold */
	uint64_t epoch_next;               /* what COMMIT gives to the destination; > epoch */
	uint8_t token[STREAM_TOKEN_BYTES]; /* one-time; the destination expects it */
	const char *definition;            /* JSON, copied */
	size_t definition_bytes;           /* ..STREAM_PAYLOAD_MAX */

	/* Connected stream sockets: control, then data. Taken: closed also when create fails. */
	const int *fds;
	uint32_t fd_count;     /* 2..1 + STREAM_CONNECTIONS_MAX; a check needs only 1 */
	struct tls_ctx *tls;   /* borrowed; NULL only with @plain */
	const char *peer_name; /* the node the destination must prove to be; NULL = any of the CA */
	bool plain;            /* without encryption, explicitly */

	struct policy_cfg policy;       /* policy_defaults() */
	uint64_t bandwidth_max_bytes_s; /* over all connections; 0 = none */
	enum source_pack pack;
	bool no_bulk_crc;        /* plain only: trust TCP's checksum for memory */
	uint64_t silence_max_ns; /* a peer that says nothing is gone; 0 = the default */

	const struct source_guest_ops *ops;
	void *guest;
	const struct source_events *events; /* each optional but ended; ready is needed to move */
	void *arg;
};

/*
 * source_create() - start a move. The guest goes on running until it has to stop.
 * Returns 0; -EINVAL cfg; -ENOMEM; -errno of threads. On failure there is no event, and the
 * sockets are closed.
 */
MUST_USE int source_create(const struct source_cfg *cfg, struct source **out, struct errbuf *eb);

/* source_commit() - the owner has recorded that the destination owns the VM. Any thread; CHECKs
 * that ready was called. */
void source_commit(struct source *s);

/* source_refuse() - the owner has decided against it: the guest runs on here. @why: copied; may be
 * NULL. Any thread; CHECKs as source_commit(). */
void source_refuse(struct source *s, const struct errbuf *why);

/*
 * source_cancel() - end the move with the guest running here, within 2 s unless the guest itself
 * cannot be resumed sooner. Any thread. Safe at any time.
 * Returns 0 (the ended event follows, or came); -EBUSY the owner has been asked: only it decides.
 */
int source_cancel(struct source *s);

/* source_destroy() - wait for the threads and free. Cancels; CHECKs that the owner is not being
 * asked. NULL is fine. Not from an event. */
void source_destroy(struct source *s);

#endif
