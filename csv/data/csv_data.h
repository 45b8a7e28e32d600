/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_DATA_CSV_DATA_H
#define CSV_DATA_CSV_DATA_H

/*
 * csv_data - a file of a shared volume as a base/blk.h device: direct I/O at leased extents of the
 * LUN, no daemon in the path.
 *
 * What only others know comes from a provider, a table of functions that the program fills in: the
 * layout of the file, the rights of this node (looked at before every submission), conversion of
 * unwritten extents, and I/O through another node while the path to the LUN is lost.
 *
 * Rights: nothing is submitted unless now < rights.until_ns (through another node:
 * redirect_until_ns) and nobody presented a token greater than ours. What was submitted in time may
 * complete later; csv_data_stats says how much is in flight. (A thread that is frozen between look
 * and submission is caught by what stands behind leases: keys on the LUN, or the watchdog;
 * docs/safety.md.)
 *
 * Unwritten extents read as zero, whatever the device says. Written parts of them are "fresh" until
 * the provider has converted them: a flush first flushes the device, then converts, then is
 * answered; flushes that come meanwhile share the next round. Who closes the device without a
 * flush gets one.
 *
 *	DIRECT <----- three good probes ------ REDIRECTED
 *	   |  ^ --- the path failed or hangs ----> ^ |
 *	   v  |                                    | v
 *	     PAUSED: something waits longer than patience_ns, for rights, a path or the coordinator
 *	DEAD: the token is outdated, or the LUN refused us: all requests end with -ESTALE
 *
 * In PAUSED requests wait, each no longer than pause_ns, then it ends with -EIO. A request that
 * hangs in the kernel stays where it is until the kernel gives it up: until then it may still be
 * executed. New ones go another way.
 *
 * One thread, the ring's. Nothing is allocated after csv_data_open(). docs/decisions/0157.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/blk.h"
#include "csv/layout/csv_layout.h"

struct blk;
struct csv_data;
struct errbuf;
struct uring;

enum csv_data_what {
	CSV_DATA_LAYOUT,   /* a layout lease that covers file_bytes */
	CSV_DATA_CONVERT,  /* [file_bytes, + len_bytes) was written and is durable */
	CSV_DATA_REDIRECT, /* do op for us at device_bytes */
	CSV_DATA_RESIZE    /* the file's size becomes file_bytes */
};

/* Something the provider is asked for. It keeps the pointer until csv_data_answer(). */
struct csv_data_ask {
	enum csv_data_what what;
	enum blk_op op;     /* REDIRECT: READ, WRITE or FLUSH (no range) */
	uint32_t iov_count; /* REDIRECT */
	bool write;         /* LAYOUT: to be written */
	bool hole;          /* LAYOUT, write: file_bytes is known to be a hole, and must be none */
	uint64_t id;        /* REDIRECT: of the operation; the same whenever it is tried again, so
	                        * that it is carried out once. Unique per device opened */
	uint64_t file_bytes;
	uint64_t len_bytes;    /* LAYOUT: as much as would be good to have */
	uint64_t device_bytes; /* REDIRECT */
	const struct iovec *iov;
	struct csv_data *data; /* private */
	void *provider;        /* for the provider */
};

/* What this node may do now. */
struct csv_data_rights {
	uint64_t until_ns; /* CLOCK_BOOTTIME: nothing is submitted from then on; 0 = none */
	/* Likewise for what goes through another node, which judges itself; less than until_ns
	 * counts as until_ns. Without a lease of its own a node goes on that way. */
	uint64_t redirect_until_ns;
	uint64_t token; /* the greatest that the volume acknowledged for this file */
	/* The device does not answer this node, as others of it know: nothing is sent there that
	 * would hang as well, as long as there is another node to go through. */
	bool hangs;
};

enum csv_data_state { CSV_DATA_DIRECT, CSV_DATA_REDIRECTED, CSV_DATA_PAUSED, CSV_DATA_DEAD };

enum csv_data_reason {
	CSV_DATA_NO_REASON,
	CSV_DATA_PATH,   /* the LUN cannot be reached */
	CSV_DATA_HANG,   /* it does not answer */
	CSV_DATA_RIGHTS, /* no lease */
	CSV_DATA_META,   /* the coordinator does not answer */
	CSV_DATA_FENCED  /* outdated token, or the LUN's reservation conflicts */
};

/* Complete: every member is set; redirects says whether CSV_DATA_REDIRECT may be asked for. */
struct csv_data_ops {
	bool redirects;
	/*
	 * Begin; answer with csv_data_answer() from the ring's dispatch, not from inside, and in
	 * bounded time. Results: 0; -EAGAIN, -ENOTCONN,
	 * -EHOSTUNREACH, -ETIMEDOUT: not now, it is asked again; -ESTALE: fenced; -ENOSPC; -EROFS;
	 * others become -EIO.
	 */
	void (*ask)(void *arg, struct csv_data_ask *ask);
	/* Cheap: called for every request. */
	void (*rights)(void *arg, struct csv_data_rights *out);
	/* The state changed. May not submit or close. */
	void (*event)(void *arg, enum csv_data_state state, enum csv_data_reason reason);
};

struct csv_data_cfg {
	int fd; /* of the LUN, open for both; csv_data_open() takes it if it succeeds */
	uint64_t size_bytes;    /* of the file */
	uint32_t logical_bytes; /* 512 or 4096; 0 = 512, or what the LUN has */
	uint64_t token;         /* that we own the file under; UINT64_MAX: we only read it */
	bool read_only;
	uint32_t extents_max;     /* that are remembered; 0 = 16384 */
	uint64_t probe_bytes;     /* where on the LUN a lost path is tried with a read of 4 KiB */
	uint64_t ahead_bytes;     /* asked for with each layout; 0 = 64 MiB */
	uint64_t hang_ns;         /* a request that takes longer has lost its path; 0 = 2 s */
	uint64_t patience_ns;     /* 0 = 1 s */
	uint64_t pause_ns;        /* 0 = 30 min */
	uint64_t tick_ns;         /* how often what waits is looked at; 0 = 250 ms */
	uint64_t (*now_ns)(void); /* NULL = clock_boot_ns() (tests have their own) */
	const struct csv_data_ops *ops; /* borrowed until closed */
	void *arg;
};

/*
 * csv_data_open() - direct I/O is switched on for the descriptor if the storage has it.
 * @ring: borrowed until blk_close().
 * Returns 0; -EINVAL cfg, or neither file nor block device; -ENOMEM; -errno.
 */
MUST_USE int csv_data_open(const struct csv_data_cfg *cfg, struct uring *ring, struct blk **out,
                           struct errbuf *eb);

/* csv_data_answer() - the provider's answer. @lease: with LAYOUT and 0; borrowed for the call. */
void csv_data_answer(struct csv_data_ask *ask, int result, const struct csv_layout_lease *lease);

/* csv_data_kick() - rights or connections changed: look at once at what waits. */
void csv_data_kick(struct blk *blk);

/* csv_data_idle() - nothing is under way, on the device or with the provider: to close it now does
 * not wait for them. */
bool csv_data_idle(const struct blk *blk);

/*
 * csv_data_recall() - forget the layout of [@from_bytes, @to_bytes): requests are held up, what is
 * in flight ends, what is fresh is converted; then @fn is called and requests go on (and ask
 * again).
 * Returns 0; -EBUSY one recall is under way.
 */
MUST_USE int csv_data_recall(struct blk *blk, uint64_t from_bytes, uint64_t to_bytes,
                             void (*fn)(void *arg), void *arg);

/*
 * csv_data_written() - what of [@from_bytes, @to_bytes) is known to be written: it is read and
 * overwritten in place until it is recalled.
 * @fn: for each piece, ascending; false ends it. The first may begin before @from_bytes.
 */
void csv_data_written(const struct blk *blk, uint64_t from_bytes, uint64_t to_bytes,
                      bool (*fn)(void *arg, uint64_t file_bytes, uint64_t device_bytes,
                                 uint64_t len_bytes),
                      void *arg);

/* csv_data_align() - of memory, for direct I/O on its device: power of two, up to 4096. */
uint32_t csv_data_align(const struct blk *blk);

struct csv_data_stats {
	enum csv_data_state state;
	enum csv_data_reason reason;
	uint64_t since_ns;  /* of the state */
	uint32_t in_flight; /* direct requests that the kernel has */
	uint32_t waiting;   /* requests that wait for rights, a path or the coordinator */
	uint32_t extents;
	uint64_t fresh_bytes; /* written and not converted */
	uint64_t direct;      /* transfers */
	uint64_t redirected;
	uint32_t elsewhere; /* requests that another node may have */
	uint64_t layouts;   /* asked for */
	uint64_t conversions;
	uint64_t path_losses;
	uint64_t late; /* direct transfers that ended after the rights had */
	bool hangs;    /* the kernel has had one for hang_ns */
};

void csv_data_get_stats(const struct blk *blk, struct csv_data_stats *out);

const char *csv_data_state_name(enum csv_data_state state);
const char *csv_data_reason_name(enum csv_data_reason reason);

#endif
