/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_PR_CSV_PR_H
#define CSV_PR_CSV_PR_H

/*
 * csv_pr - SCSI-3 persistent reservations: whose key is not registered on a LUN cannot write there,
 * not even what it sent before (with PREEMPT AND ABORT).
 *
 * Each node registers a key of its own per incarnation, and the LUN is reserved "write exclusive,
 * all registrants" (type 7), or "registrants only" (5) where the LUN lacks that. The difference:
 * the reservation of type 5 has a holder and ends when the holder unregisters, which would open
 * the LUN to nodes that were fenced; therefore a holder does not unregister while others are
 * registered, it is preempted by one of them.
 *
 * Nothing is believed: csv_pr_register() looks at what the LUN says and tries what it does not
 * say, and after each change the keys are read back. A LUN that cannot do it is CSV_PR_NONE with a
 * reason: then other proofs are needed (docs/safety.md). A node whose own key is gone was fenced:
 * -ESTALE from everything; it must not register again by itself.
 *
 * Keys are per path (I_T nexus): this is for LUNs with one path.
 *
 * Commands go through a table of functions (csv_pr_sg.h: the kernel's SG_IO). All of it blocks
 * while the target answers. Value types; one thread at a time per struct csv_pr.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define CSV_PR_KEYS_MAX 256u /* 64 nodes, and what strangers left */
#define CSV_PR_SENSE_BYTES 64u
#define CSV_PR_CDB_BYTES 10u
#define CSV_PR_DATA_BYTES (8u + 8u * CSV_PR_KEYS_MAX)

/* ---- commands as bytes: pure ---- */

enum csv_pr_action {
	CSV_PR_REGISTER = 0,
	CSV_PR_RESERVE = 1,
	CSV_PR_RELEASE = 2,
	CSV_PR_CLEAR = 3,
	CSV_PR_PREEMPT = 4,
	CSV_PR_PREEMPT_ABORT = 5,
	CSV_PR_REGISTER_IGNORE = 6
};

enum csv_pr_type {
	CSV_PR_NOT_RESERVED = 0,
	CSV_PR_WRITE_EX_REGISTRANTS = 5,
	CSV_PR_WRITE_EX_ALL = 7
};

struct csv_pr_out {
	enum csv_pr_action action;
	enum csv_pr_type type; /* RESERVE, RELEASE, PREEMPT */
	uint64_t key;
	uint64_t action_key;
	bool persist; /* REGISTER: through a loss of power */
};

/* csv_pr_out_encode() - @cdb[CSV_PR_CDB_BYTES], @data[24]. */
void csv_pr_out_encode(const struct csv_pr_out *out, uint8_t *cdb, uint8_t *data);

/* csv_pr_in_encode() - @action: PR_IN_... of csv_pr_wire.h; @length of the buffer. */
void csv_pr_in_encode(uint8_t action, uint16_t length, uint8_t *cdb);

struct csv_pr_keys {
	uint32_t generation;
	uint32_t count;
	uint64_t keys[CSV_PR_KEYS_MAX];
};

struct csv_pr_reservation {
	uint32_t generation;
	uint8_t type; /* as the LUN says; 0 = none */
	uint64_t key;
};

struct csv_pr_capabilities {
	bool can_persist;
	bool persists;
	bool types_known;
	bool write_ex_registrants;
	bool write_ex_all;
};

/* Decoders: @data[len] as it came, hostile; *out untouched on failure. -EBADMSG it is not what it
 * should be; -E2BIG more keys than CSV_PR_KEYS_MAX. */
MUST_USE int csv_pr_keys_decode(const void *data, size_t len, struct csv_pr_keys *out);
MUST_USE int csv_pr_reservation_decode(const void *data, size_t len,
                                       struct csv_pr_reservation *out);
MUST_USE int csv_pr_capabilities_decode(const void *data, size_t len,
                                        struct csv_pr_capabilities *out);

/* What a command came to. */
struct csv_pr_status {
	uint8_t status; /* of SCSI: 0 good, 2 check condition, 0x18 reservation conflict, ... */
	size_t sense_len;
	uint8_t sense[CSV_PR_SENSE_BYTES];
};

struct csv_pr_sense {
	uint8_t key;
	uint8_t asc;
	uint8_t ascq;
};

/* csv_pr_sense_decode() - fixed or descriptor format. -EBADMSG. */
MUST_USE int csv_pr_sense_decode(const void *sense, size_t len, struct csv_pr_sense *out);

/* csv_pr_key() - the key of one run of a node: never 0, different for each node and incarnation. */
uint64_t csv_pr_key(uint32_t cluster, uint32_t node, uint64_t incarnation);

/* ---- what is done with them ---- */

struct csv_pr_door {
	/*
	 * Carry out one command. @data[len]: sent if @out, else filled, and *got is how much.
	 * Returns 0 if the target answered (see @status); -ENOTTY no SCSI device; -errno.
	 */
	int (*run)(void *arg, const uint8_t *cdb, bool out, void *data, size_t len, size_t *got,
	           struct csv_pr_status *status);
};

enum csv_pr_level {
	CSV_PR_NONE,         /* no reservations to rely on: see .reason */
	CSV_PR_PREEMPT_ONLY, /* what was sent before may still be executed for a while */
	CSV_PR_ABORT         /* nothing more is executed */
};

/* Visible for reading. */
struct csv_pr {
	const struct csv_pr_door *door; /* borrowed */
	void *arg;
	enum csv_pr_level level;
	char reason[160];      /* NONE, PREEMPT_ONLY: why not more */
	enum csv_pr_type type; /* that is used */
	bool persists;         /* registrations survive a loss of power of the target */
	uint64_t key;          /* ours; 0 = not registered */
	bool entered;          /* a registration was sent: it may be there, whatever was answered */
	uint32_t generation;   /* as last read */
	bool attention;        /* the target told of a preemption, a reset, ...: look at once */
};

void csv_pr_init(struct csv_pr *pr, const struct csv_pr_door *door, void *arg);

/*
 * csv_pr_register() - register @key on this path, and find out what the LUN can do: sets the level.
 * @old: the key that this path has (from an earlier run), 0 = none. If another one is found there
 * it is replaced only with @ignore: somebody who knows says that no fencing is under way.
 * Returns 0, also for CSV_PR_NONE (then nothing was registered); -EBUSY this path has another key;
 * -EEXIST @key is registered already; -errno.
 */
MUST_USE int csv_pr_register(struct csv_pr *pr, uint64_t key, uint64_t old, bool ignore,
                             struct errbuf *eb);

/* csv_pr_adopt() - this process registered @key before, on this path: finds out the level again. It
 * registers nothing. Returns 0; -ESTALE the key is gone: fenced; -errno. */
MUST_USE int csv_pr_adopt(struct csv_pr *pr, uint64_t key, struct errbuf *eb);

/* csv_pr_reserve() - see that the LUN is reserved our way. Returns 0; -EBUSY it is reserved in
 * another way, by somebody else's software; -ESTALE; -errno. */
MUST_USE int csv_pr_reserve(struct csv_pr *pr, struct errbuf *eb);

/*
 * csv_pr_preempt() - fence who has @victim; read back.
 * Returns 0: we did it, and with CSV_PR_ABORT nothing of it will be executed any more; -EALREADY it
 * is not registered: if another node took its key away, that one's abort may still be under way, so
 * wait for what may be in flight; -ESTALE we were fenced; -EIO it is still there; -ENOTSUP; -errno.
 */
MUST_USE int csv_pr_preempt(struct csv_pr *pr, uint64_t victim, struct errbuf *eb);

/*
 * csv_pr_check() - once per second: is our key there, and the reservation? One that is gone
 * is made again.
 * Returns 0; -ESTALE our key is gone: fenced; -errno it could not be found out.
 */
MUST_USE int csv_pr_check(struct csv_pr *pr, struct errbuf *eb);

/* csv_pr_leave() - unregister. Returns 0; -EBUSY we hold the reservation for others: one of them
 * has to preempt us; -ESTALE; -errno. */
MUST_USE int csv_pr_leave(struct csv_pr *pr, struct errbuf *eb);

/* csv_pr_read() - what is registered and reserved now. Either may be NULL. */
MUST_USE int csv_pr_read(struct csv_pr *pr, struct csv_pr_keys *keys,
                         struct csv_pr_reservation *reservation, struct errbuf *eb);

/* csv_pr_has() - is @key among them? */
bool csv_pr_has(const struct csv_pr_keys *keys, uint64_t key);

const char *csv_pr_level_name(enum csv_pr_level level);

#endif
