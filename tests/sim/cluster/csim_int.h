/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CLUSTER_CSIM_INT_H
#define TESTS_SIM_CLUSTER_CSIM_INT_H

/* csim_int - between the files of the simulated cluster. */

#include "tests/sim/cluster/csim.h"

enum csim_what {
	CSIM_TICK = 1, /* a node looks at its clock */
	CSIM_VIEW,     /* membership of a node may change */
	CSIM_COMMIT,   /* a proposal arrives at the others */
	CSIM_APPLY,    /* a node learns of entries up to a */
	CSIM_BOOT,     /* a node comes up */
	CSIM_DOG,      /* a watchdog may be over; b: the pet it counts from */
	CSIM_STARTED,  /* a worker runs; a role, b token */
	CSIM_EXITED,   /* a worker has ended */
	CSIM_SENT,     /* a migration's last page */
	CSIM_SLOT,     /* a slot was written; a volume, b number */
	CSIM_READ,     /* slots are read */
	CSIM_RAISE,    /* a volume is told a token; a volume, b role, c token */
	CSIM_FENCE,    /* a fence action is carried out */
	CSIM_WRITE,    /* VMs of a node write */
	CSIM_REDIRECT, /* a redirected write arrives; a write */
	CSIM_DISK      /* a write is executed; a write */
};

struct csim_event *csim_at(enum csim_what what, uint32_t node, struct csim *s, uint64_t delay_ns);
void csim_dispatch(struct csim *s, const struct csim_event *e);
void csim_break(struct csim *s, const char *oracle, const char *fmt, ...) PRINTF_LIKE(3, 4);
uint64_t csim_local(const struct csim *s, uint32_t node);
uint64_t csim_between(struct csim *s, uint64_t low_ns, uint64_t high_ns);
bool csim_hears(const struct csim *s, uint32_t a, uint32_t b);
struct csim_node *csim_node(struct csim *s, uint32_t id);

/* csim_node.c */
void csim_tick(struct csim *s, uint32_t node);
void csim_lead(struct csim *s, uint32_t node);
void csim_apply(struct csim *s, uint32_t node, uint32_t upto);
void csim_boot(struct csim *s, uint32_t node);
void csim_stop_node(struct csim *s, uint32_t node, bool stays_off, const char *why);
void csim_started(struct csim *s, const struct csim_event *e);
void csim_exited(struct csim *s, uint32_t node, uint32_t role);
void csim_sent(struct csim *s, const struct csim_event *e);
void csim_slot(struct csim *s, const struct csim_event *e);
void csim_read_slots(struct csim *s, uint32_t node);
void csim_raise(struct csim *s, const struct csim_event *e);
void csim_fence(struct csim *s, const struct csim_event *e);
uint64_t csim_now_ms(const struct csim *s, uint32_t node);

/* csim_disk.c */
void csim_write_all(struct csim *s, uint32_t node);
void csim_redirect(struct csim *s, uint32_t write);
void csim_disk(struct csim *s, uint32_t write);
bool csim_own_writes(const struct csim *s, uint32_t node, uint32_t role);
void csim_abort(struct csim *s, uint32_t volume, uint32_t node);
bool csim_older_redirected(const struct csim *s, const struct lead_raise *raise);

/* csim_oracle.c */
void csim_look_twice(struct csim *s);

/* csim_net.c */
void csim_ring_changed(struct csim *s);
void csim_view(struct csim *s, uint32_t node);
void csim_commit(struct csim *s, const struct csim_event *e);
void csim_send(struct csim *s, uint32_t node, const struct role_cmd *cmd);
bool csim_runs(const struct csim *s, uint32_t node, uint32_t role);

#endif
