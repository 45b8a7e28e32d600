/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_FLIGHT_FLIGHT_H
#define CLUSTER_FLIGHT_FLIGHT_H

/*
 * flight - a recorder of heartbeats and leases: what this node sent, when it was answered, when it
 * heard of the others, and where its own loop stood still. A ring in a file, so that what was
 * before a reset can be read after it.
 *
 * Recording never waits: a record goes into memory, a thread of its own writes and syncs what is
 * new every FLIGHT_FLUSH_NS. (A mapped file would do without the thread, but a page that is being
 * written back may hold up who touches it, and that is the loop that renews the lease.) A process
 * that dies, or a machine that is reset, loses the last of these intervals.
 *
 * The file of another boot is renamed to PATH.1 and kept until the next one. Readers are strict:
 * the file may be torn anywhere. docs/formats/flight.md, docs/decisions/0233.
 *
 * Threads: the owner's; flight_decode() any.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"
#include "base/json.h"

struct errbuf;
struct flight;

#define FLIGHT_RECORDS 65536u /* ten minutes of 64 nodes, hours of three: 2 MiB */
#define FLIGHT_FLUSH_NS 500000000ull
#define FLIGHT_NODES_MAX 64u

enum flight_kind {
	FLIGHT_BEGIN = 1, /* the service began. value: its pid */
	FLIGHT_SENT,      /* a renewal was sent. value: since the one before [us] */
	FLIGHT_RENEWED,   /* it was in the log. value: since it was sent [us] */
	FLIGHT_HEARD,     /* a renewal of .node was in the log. value: since the one before [us] */
	FLIGHT_RUNG,      /* the lease reached a rung. value: enum lease_rung; value2: before */
	FLIGHT_VIEW,   /* a view is active; .node leads. value: members; value2: epoch's low half */
	FLIGHT_NOVIEW, /* none is */
	FLIGHT_LATE,   /* our loop came late. value: by so much [us] */
	FLIGHT_LOST,   /* .node is out of sight; in the log */
	FLIGHT_FENCED, /* .node is proven stopped; in the log. value: enum role_proof; value2:
	                * since it was lost [us], 0 = not seen */
	FLIGHT_KIND_COUNT
};

/* Value type. */
struct flight_record {
	uint64_t boot_ns;
	enum flight_kind kind;
	uint32_t node; /* 0 = none */
	uint32_t value;
	uint32_t value2;
};

/* What a file says. */
struct flight_log {
	struct guid cluster;
	struct guid boot;
	uint32_t nodeid;
	uint64_t begin_boot_ns; /* the same moment on both clocks */
	uint64_t begin_wall_ns;
	uint64_t last_seq;
	uint32_t damaged; /* records that were there and are not whole */
	uint32_t count;
	struct flight_record records[]; /* [count], oldest first */
};

struct flight_cfg {
	const char *path; /* copied */
	struct guid cluster;
	struct guid boot;
	uint32_t nodeid;
};

/* flight_open() - begin, or go on where a process of this boot was. Reads what there is.
 * Returns 0; -ENOMEM; -errno. */
MUST_USE int flight_open(const struct flight_cfg *cfg, struct flight **out, struct errbuf *eb);

/* flight_close() - write the rest. NULL is fine. */
void flight_close(struct flight *f);

/* flight_add() - now (@boot_ns). NULL is fine: nothing is recorded. */
void flight_add(struct flight *f, const struct flight_record *record);

/* flight_us() - a span for a record: in us, at most what fits. */
uint32_t flight_us(uint64_t span_ns);

/* flight_now() - all that is recorded of this boot; flight_before() - of the one before, NULL =
 * nothing. free() them. Return 0; -ENOMEM. */
MUST_USE int flight_now(struct flight *f, struct flight_log **out);
const struct flight_log *flight_before(const struct flight *f);

/*
 * flight_decode() - the file @buf[len].
 * Returns 0, *out: free(); -EBADMSG no such file; -ENOMEM.
 */
MUST_USE int flight_decode(const void *buf, size_t len, struct flight_log **out, struct errbuf *eb);

/* What can be said of a log in a few numbers. Spans in us. */
struct flight_summary {
	uint64_t span_ns; /* from the first to the last record */
	uint32_t begins;
	uint32_t sent;
	uint32_t sent_worst; /* between two of our renewals */
	uint32_t renewed;
	uint32_t renewed_worst; /* until one was in the log */
	uint32_t lates;
	uint32_t late_worst;
	uint32_t views;
	uint32_t rung_worst;
	struct {
		uint32_t heard;
		uint32_t worst;
		uint64_t worst_ns; /* when, CLOCK_BOOTTIME */
	} nodes[FLIGHT_NODES_MAX]; /* [id - 1] */
};

void flight_summarise(const struct flight_log *log, struct flight_summary *out);

/* flight_json() - log and summary. NULL = no memory. */
json_t *flight_json(const struct flight_log *log);

const char *flight_kind_name(enum flight_kind kind);

#endif
