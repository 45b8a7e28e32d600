/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_CORO_VOTE_H
#define CLUSTER_CORO_VOTE_H

/*
 * coro_vote - corosync's quorum counts one more vote while we say so: a quorum device of its
 * votequorum, which corosync.conf must announce (struct coro_conf, .witness).
 *
 * Not registered while no vote is cast: with a registered device corosync waits for its word at
 * each change of members. A vote is for one ring; when there is another it is taken back at once.
 *
 * Threads: the loop's. Its calls block while corosync is stopped, as those of coro.
 */

#include <stdint.h>

#include "base/attr.h"

struct coro_vote;
struct errbuf;
struct loop;

/* coro_vote_create() - connects when it is needed. Returns 0; -ENOMEM. */
MUST_USE int coro_vote_create(struct loop *loop, struct coro_vote **out, struct errbuf *eb);

/* coro_vote_destroy() - takes the vote back. NULL is fine. */
void coro_vote_destroy(struct coro_vote *v);

/* coro_vote_cast() - vote for the ring @seq, and go on until it is another or @seq is 0. Repeating
 * it is fine. What goes wrong is tried again every second, and logged. */
void coro_vote_cast(struct coro_vote *v, uint64_t seq);

#endif
