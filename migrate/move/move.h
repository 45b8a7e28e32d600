/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_MOVE_MOVE_H
#define MIGRATE_MOVE_MOVE_H

/*
 * move - what both ends of a migration have in common: memory, progress, result, completions.
 *
 * An end (migrate/source, migrate/target) runs in threads of its own, which it starts and joins.
 * It reaches the guest through a table of functions that the worker fills in. It knows nothing of
 * KVM, devices, files or who may own a VM: it asks its owner.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/errbuf.h"
#include "migrate/compat/compat.h"
#include "migrate/policy/policy.h"
#include "migrate/stream/stream.h"

struct tls_ctx;

#define MOVE_RANGES_MAX 8u /* as GMEM_SLOTS_MAX of hv/mem */
#define MOVE_SILENCE_DEFAULT_NS (10ull * 1000 * 1000 * 1000)

/* A piece of guest memory: [gpa, gpa + len_bytes), both multiples of 4 KiB, len > 0; mapped as long
 * as the end exists. Ranges ascend and do not overlap. */
struct move_range {
	uint64_t gpa;
	uint64_t len_bytes;
	uint8_t *host; /* borrowed */
};

/*
 * Tells the end that an operation it started is over. Call exactly once, from any thread, also
 * from inside the call that started it. @why: borrowed for the call; may be NULL.
 */
typedef void (*move_done_fn)(void *arg, int err, const struct errbuf *why);

enum move_phase {
	MOVE_CONNECT,   /* TLS, HELLO */
	MOVE_CHECK,     /* definition and report */
	MOVE_COPY,      /* memory, the guest runs */
	MOVE_STOP,      /* vCPUs stand: last pages, device state */
	MOVE_LOAD,      /* the destination loads; ends with READY */
	MOVE_HANDOFF,   /* the owner is asked to commit */
	MOVE_COMMITTED, /* only the destination may run */
	MOVE_ENDED,
};

/* move_phase_name() - "copy". */
const char *move_phase_name(enum move_phase phase);

enum move_outcome {
	MOVE_DONE,     /* the destination runs (a check: nothing speaks against it) */
	MOVE_FAILED,   /* not moved: the source runs, the destination holds nothing */
	MOVE_REFUSED,  /* as failed: the report has blockers */
	MOVE_CANCELED, /* as failed: somebody wanted it */
	/* Source: committed, but the destination has not said that it runs; it may. The source
	 * never runs again. Destination: the VM is ours, but run() failed; its owner may start it
	 * anew. */
	MOVE_UNKNOWN,
};

const char *move_outcome_name(enum move_outcome outcome);

struct move_progress {
	enum move_phase phase;
	uint32_t round;        /* 1.. */
	uint64_t elapsed_ns;   /* since the start */
	uint64_t memory_bytes; /* of the guest */
	uint64_t moved_bytes;  /* guest memory handled, all rounds, zero pages included */
	uint64_t wire_bytes;   /* sent */
	uint64_t filled_bytes; /* destination: guest memory that was faulted in ahead */
	uint64_t round_bytes;  /* guest memory in this round */
	uint64_t round_moved_bytes;
	uint64_t bandwidth_bytes_s; /* on the wire, since the last progress */
	uint64_t dirty_bytes_s;     /* as of the last round */
	uint32_t throttle_percent;
	uint64_t forecast_blackout_ns;  /* as of the last round; 0 = none yet */
	uint64_t forecast_finish_ns;    /* from then; UINT64_MAX = does not converge like this */
	char reason[POLICY_REASON_MAX]; /* of the last decision */
};

struct move_result {
	enum move_outcome outcome;
	int err;               /* 0 or -errno */
	struct errbuf why;     /* if err != 0 */
	struct compat report;  /* what the destination's checks found */
	enum move_phase phase; /* in which it ended */
	uint64_t epoch;        /* DONE, UNKNOWN: the destination's ownership */
	uint32_t rounds;
	uint32_t stops;            /* times the vCPUs were stopped */
	uint32_t throttle_percent; /* at the end */
	uint64_t memory_bytes;
	uint64_t moved_bytes;
	uint64_t wire_bytes;
	uint64_t data_pages;
	uint64_t zero_pages;
	uint64_t state_bytes;
	uint64_t total_ns;
	/* Source: from asking the vCPUs to stop until RUNNING arrived (at most one way too
	 * much); 0 = they never stopped. And its parts. */
	uint64_t blackout_ns;
	uint64_t pause_ns;        /* until the vCPUs and devices stood */
	uint64_t copy_ns;         /* last pages */
	uint64_t save_ns;         /* device state */
	uint64_t load_ns;         /* FINAL sent until READY came */
	uint64_t commit_ns;       /* the owner's decision */
	uint64_t run_ns;          /* COMMIT sent until RUNNING came */
	uint64_t lost_ns;         /* vCPUs stood in attempts that were broken off */
	uint64_t running_wall_ns; /* the destination's clock when its vCPUs ran */
	/* Source: that, less our clock when we heard: how far the guest's clock, which follows its
	 * host's, jumps ahead; at most one way too little. */
	int64_t clock_ns;
	bool encrypted;
	bool ktls;
	char cipher[48];
};

#endif
