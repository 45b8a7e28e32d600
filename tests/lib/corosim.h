/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_COROSIM_H
#define TESTS_LIB_COROSIM_H

/*
 * corosim - corosync on n nodes in one process with virtual time, as a client of CPG and quorum
 * sees it, with what the real one was seen to do:
 *
 *	- a node delivers its own messages to itself, sometimes to nobody else, before it hears
 *	  that it was cut off; one node (that has the token) still sends into a broken ring
 *	- when a ring breaks, nodes that go on together see the same messages; those that
 *	  nobody of them has are left out, later ones are shown all the same
 *	- loss is noticed after about 2.1 s, and what is sent meanwhile appears in the next ring
 *	- the quorum event comes by another way: 0 to 3 ms later, at times earlier
 *	- messages flow without quorum; singleton rings; processes have the same pid again
 *	- members of a group that come and go are ordered like messages
 *
 * Everything follows from the seed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/view/view.h"

struct corosim;

#define COROSIM_NODES_MAX 9u
#define COROSIM_PID 7u

/* To the process on node @node (1..). May call anything here but corosim_run(). */
struct corosim_ops {
	void (*group)(void *arg, uint32_t node, const struct view_peer *peers, uint32_t count);
	void (*ring)(void *arg, uint32_t node, const struct view_ring *ring,
	             const uint32_t *members, uint32_t count);
	void (*quorum)(void *arg, uint32_t node, uint64_t ring_seq, bool quorate);
	void (*message)(void *arg, uint32_t node, const struct view_peer *from, const void *buf,
	                size_t len);
	void (*unicast)(void *arg, uint32_t node, uint32_t from, const void *buf, size_t len);
};

typedef void (*corosim_fn)(void *arg, uint32_t a, uint64_t b);

struct corosim *corosim_create(uint32_t nodes, uint64_t seed, const struct corosim_ops *ops,
                               void *arg);
void corosim_destroy(struct corosim *s);

/* Run what is due until @until_ns, or @stop (looked at after each event) is set. */
void corosim_run(struct corosim *s, uint64_t until_ns, const bool *stop);
uint64_t corosim_now(const struct corosim *s);

/* 0..n-1. */
uint32_t corosim_random(struct corosim *s, uint32_t n);

/* Call @fn in @delay_ns. */
void corosim_after(struct corosim *s, uint64_t delay_ns, corosim_fn fn, void *arg, uint32_t a,
                   uint64_t b);

/* corosync on a node starts (alone), or is gone with its process. */
void corosim_start(struct corosim *s, uint32_t node);
void corosim_kill(struct corosim *s, uint32_t node);

/* The process on a node joins the group, or is gone. */
void corosim_join(struct corosim *s, uint32_t node);
void corosim_leave(struct corosim *s, uint32_t node);

/* Nodes reach each other if they are in the same part. */
void corosim_part(struct corosim *s, const uint32_t *part_of_node);

void corosim_multicast(struct corosim *s, uint32_t node, const void *buf, size_t len);
void corosim_unicast(struct corosim *s, uint32_t node, uint32_t to, const void *buf, size_t len);

#endif
