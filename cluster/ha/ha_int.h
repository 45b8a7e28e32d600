/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_HA_HA_INT_H
#define CLUSTER_HA_HA_INT_H

/*
 * ha_int - between the files of this folder: ha.c (life, this node), ha_log.c (what the log
 * brings), ha_leader.c (what the leader sees and does), ha_ask.c (people's wishes).
 */

#include "base/guid.h"
#include "cluster/flight/flight.h"
#include "cluster/ha/ha.h"
#include "cluster/role/role_table.h"

#define HA_TAG "ha"
#define HA_WISHES_MAX 16u /* people's, while a view is being formed */

/* What another node said last: which process of it is which run. */
struct ha_peer {
	struct guid process;
	uint64_t inc;
	uint64_t heard_ns;
	uint64_t lost_ns; /* when it was committed that it is lost */
};

struct ha {
	struct ha_cfg cfg;
	struct timing timing;
	struct agent *agent; /* owned, as the next four */
	struct lead *lead;
	struct lead_out *out;
	struct lead_hint *hints; /* owned: [HA_ROLES_MAX] */
	struct loop_timer *timer;
	struct ha_peer peers[ROLE_NODES_MAX]; /* [id - 1] */
	uint64_t devices[ROLE_NODES_MAX];     /* [id - 1]: as ha_power.devices() said last */
	uint64_t wholes[ROLE_NODES_MAX];      /* [id - 1]: as ha_storage.whole() said last */
	uint64_t epoch;                       /* of the view in which we were active last */
	uint64_t changes;                     /* see ha_changes() */
	uint64_t now_base_ms;                 /* cluster time when it began; with: */
	uint64_t now_base_ns;
	uint64_t next_renew_ns;
	uint64_t sent_ns; /* the last renewal */
	uint64_t tick_ns; /* our timer, last */
	uint64_t join_next_ns;
	uint64_t join_inc; /* asked for; 0 = nothing */
	uint64_t paths_next_ns;
	uint64_t paths_less_ns;          /* since when a volume is not there that was; 0 = it is */
	uint64_t acked_ns[HA_ROLES_MAX]; /* [role - 1]: volumes' words were proposed */
	struct {
		struct role_cmd cmd;
		uint64_t until_ns;
	} wishes[HA_WISHES_MAX]; /* that wait, in their order */
	uint32_t wish_count;
	bool leads;
	bool active;
	bool synced; /* active once: the table has all that an earlier process of ours was told */
	enum lease_rung rung; /* as told last */
};

/* ---- ha.c ---- */

const struct role_table *ha_table(const struct ha *ha);

/* The lease as it is now, to those who enforce it. */
void ha_tell_lease(struct ha *ha);

/* Into the flight recorder. */
void ha_record(struct ha *ha, uint64_t now_ns, enum flight_kind kind, uint32_t node,
               uint32_t value);

/* Said again later if it does not get there: while there is no view, nothing happens. */
void ha_propose(struct ha *ha, const struct role_cmd *cmd, uint64_t timeout_ns);

/* ---- ha_log.c ---- */

extern const struct member_role_ops ha_log_ops;

/* Nobody told us of renewals until now: whatever was, it can have been this moment. */
void ha_watch_all(struct ha *ha);

/* ---- ha_leader.c ---- */

void ha_make_view(const struct ha *ha, uint64_t now_ns, struct lead_view *out);
void ha_run_lead(struct ha *ha, uint64_t now_ns);

/* ---- ha_ask.c ---- */

/* What could not be proposed when it was asked for. */
void ha_wishes_again(struct ha *ha, uint64_t now_ns);

#endif
