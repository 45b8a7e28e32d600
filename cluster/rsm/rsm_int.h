/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_RSM_RSM_INT_H
#define CLUSTER_RSM_RSM_INT_H

/* rsm, inside. rsm.c: life, views; rsm_log.c: append, acknowledge, commit, apply;
 * rsm_propose.c: proposals of ours; rsm_fetch.c: from node to node; rsm_session.c: once and only
 * once; rsm_compare.c: did all do the same? */

#include "cluster/rsm/rsm.h"
#include "cluster/rsm/rsm_msg.h"

struct rsm_session {
	struct guid id;
	uint64_t seq;
	struct rsm_result result;
	int32_t next; /* in the bucket; -1 = none */
};

struct rsm_sessions {
	struct rsm_session *items; /* owned [RSM_SESSIONS_MAX] */
	int32_t *buckets;          /* owned [RSM_SESSIONS_MAX] */
	uint32_t count;
};

MUST_USE int rsm_sessions_init(struct rsm_sessions *s);
void rsm_sessions_fini(struct rsm_sessions *s);
void rsm_sessions_clear(struct rsm_sessions *s);
/* NULL = not known. */
const struct rsm_session *rsm_sessions_find(const struct rsm_sessions *s, const struct guid *id);
/* Note the last request of a session. Returns true if @gone was forgotten for it. */
bool rsm_sessions_note(struct rsm_sessions *s, const struct rsm_session *session,
                       struct guid *gone);

/* One proposal of ours. */
struct rsm_slot {
	bool used;
	bool seen; /* appended in this epoch */
	enum rsm_type type;
	struct guid session;
	uint64_t own_seq; /* of the slot's own session, the last used */
	uint64_t seq;
	uint8_t *payload; /* owned */
	uint32_t len;
	uint64_t time_ns;
	uint64_t sent_ns;
	uint64_t sent_epoch;
	uint64_t deadline_ns;
	rsm_done_fn fn;
	void *arg;
};

enum rsm_sameness { RSM_SAME_UNKNOWN, RSM_SAME, RSM_DIFFERENT };

struct rsm_ack {
	uint32_t nodeid;
	uint32_t votes;
	uint64_t index;
	uint64_t effects_index; /* it said last what entries did there, up to here */
	uint64_t effects_hash;
	enum rsm_sameness same; /* as here? */
};

#define RSM_EFFECTS 8192u /* entries; members say it every 3 seconds, and lag a little */

/* What the entries of an epoch did here, for the comparison with the other members. */
struct rsm_compare {
	bool whole;     /* all since the first of the epoch */
	uint64_t hash;  /* a chain, up to the last applied */
	uint64_t *ring; /* owned [RSM_EFFECTS]: .hash after an index, modulo */
	uint64_t said;  /* index that we told the others */
	uint64_t said_ns;
};

/* A state being given to a member, chunk by chunk. */
struct rsm_giver {
	uint32_t nodeid; /* 0 = free */
	uint32_t chunk;  /* the last one sent */
	void *snap;      /* owned: the store's */
	struct rsm_mark mark;
	uint64_t used_ns;
	uint8_t *frame; /* owned [FRAME_MAX]: the last one, if it is asked for again */
	size_t frame_len;
	bool over; /* the last one was the last */
};

#define RSM_GIVERS 4u /* members that fetch a whole state at a time */

struct rsm {
	struct rsm_cfg cfg;
	struct view view;
	enum rsm_state state;
	const char *why;
	uint64_t now_ns;
	uint64_t wall_ns;
	uint64_t bad_frames;

	/* The log. */
	uint64_t base_index; /* entries up to here are gone */
	struct rsm_pos last; /* appended */
	uint64_t synced;     /* durable up to here */
	uint64_t commit;     /* committed, as far as we have it */
	struct rsm_pos applied;
	uint64_t applied_durable;
	struct view_config config; /* as appended */
	uint64_t config_index;
	struct view_config config_before; /* if the one above is not committed and goes */
	uint64_t config_before_index;
	uint32_t level;

	/* The store. */
	bool sync_running;
	bool dirty;       /* something to sync now */
	bool dirty_state; /* applied state to sync, some time */
	uint64_t dirty_since_ns;
	uint64_t sync_token;
	uint64_t sync_index; /* the running sync makes the log durable up to here */
	uint64_t sync_applied;
	uint64_t promise_wanted;  /* epoch queued for the next sync; 0 = none */
	uint64_t promise_syncing; /* epoch in the running one */

	/* The epoch. */
	uint64_t epoch; /* of the primary view; 0 = none */
	uint32_t leader;
	uint64_t newview_index; /* its first entry */
	uint64_t acked;         /* we said so */
	struct rsm_pos next;    /* leader: before the next entry that we give an index */
	struct rsm_ack acks[VIEW_NODES_MAX];
	uint32_t ack_count;
	uint64_t suspected_ns;
	uint64_t config_written; /* leader: index of the last configuration on its way */

	/* Fetching. */
	bool blank;   /* we had no configuration when the view was formed */
	bool matched; /* our log is a beginning of the leader's */
	bool fetching;
	uint64_t live;        /* highest index the leader has shown */
	uint32_t fetch_chunk; /* of a state; 0 = entries */
	bool replacing;       /* the new state waits for the disk */
	bool replace_syncing; /* the running sync has it */
	struct rsm_mark replace_mark;
	uint64_t fetch_ns;

	struct rsm_compare compare;
	struct rsm_giver givers[RSM_GIVERS];
	struct rsm_slot slots[RSM_SLOTS];
	struct rsm_sessions sessions;
	uint8_t *scratch; /* owned [FRAME_MAX]: outgoing frames */
	uint8_t *payload; /* owned [RSM_PAYLOAD_MAX]: an entry read from the store */
};

void rsm_halt(struct rsm *r, const char *why);
/* Votes of the members by r->config. */
void rsm_count_votes(struct rsm *r);
/* The result of a function of the store: halts on failure. Returns true if it was 0. */
bool rsm_stored(struct rsm *r, int err);
/* Start a sync if one is due. */
void rsm_kick(struct rsm *r);

void rsm_log_on_append(struct rsm *r, uint32_t from, const struct rsm_msg *m);
void rsm_log_on_ack(struct rsm *r, uint32_t from, const struct rsm_msg *m);
/* Append an entry that follows r->last. Returns false if we halted. */
bool rsm_log_append(struct rsm *r, const struct rsm_entry *entry);
/* Forget entries after @index, which is not below what was applied. */
bool rsm_log_truncate(struct rsm *r, uint64_t index);
/* Acknowledge what is durable; commit what is acknowledged; apply what is committed. */
void rsm_log_ack(struct rsm *r);
void rsm_log_commit(struct rsm *r);
void rsm_log_active(struct rsm *r);
/* Leader: give the entry an index and multicast it. */
void rsm_log_write(struct rsm *r, struct rsm_entry *entry);
/* Leader: is this change of the configuration or level allowed? 0; -errno. */
int rsm_log_allowed(const struct rsm *r, const struct rsm_entry *entry);
void rsm_session_pair(const struct rsm_session *s, uint8_t key[17], struct rsm_session_wire *w);

/* A proposal of any member, at the leader. */
void rsm_on_propose(struct rsm *r, const struct rsm_msg *m);

void rsm_slots_tick(struct rsm *r);
void rsm_slots_done(struct rsm *r, const struct guid *session, uint64_t seq,
                    const struct rsm_result *result);
void rsm_slots_resend(struct rsm *r);
void rsm_slots_seen(struct rsm *r, const struct rsm_entry *entry);
void rsm_slots_cancel(struct rsm *r);

void rsm_fetch_start(struct rsm *r);
void rsm_fetch_tick(struct rsm *r);
void rsm_fetch_on_message(struct rsm *r, uint32_t from, const struct rsm_msg *m);
void rsm_fetch_stop(struct rsm *r);
void rsm_give_stop(struct rsm *r, uint32_t nodeid); /* 0 = all */

/* A new epoch, or a state that skips entries. */
void rsm_compare_start(struct rsm *r);
/* An entry changes a pair; len 0 and NULL: it goes. Between these, rsm_compare_applied(). */
void rsm_compare_pair(struct rsm *r, const struct rsm_pair *pair);
void rsm_compare_applied(struct rsm *r, const struct rsm_entry *e, const struct rsm_result *result);
void rsm_compare_on_effects(struct rsm *r, uint32_t from, const struct rsm_msg *m);
void rsm_compare_tick(struct rsm *r);
/* A member whose entries did something else, for people; 0 = none. */
uint32_t rsm_compare_differs(const struct rsm *r);

/* Load pairs from the store into the machine and the sessions. 0; -errno. */
int rsm_load(struct rsm *r);

#endif
