/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_RAW_RAW_DIRECT_H
#define HV_RAW_RAW_DIRECT_H

/*
 * raw_direct - the direct way of a file on a shared volume: what is written already is read and
 * overwritten on the volume's device itself (base/shared_direct.h), the rest by the file.
 *
 * A transfer goes directly if all this holds right before it is submitted: the service said
 * where it
 * lies; the clock is below what it published; place and length are whole blocks of 4 KiB and memory
 * is as the device wants it; the path is not lost; no write of a part of its blocks is under way by
 * the file (who writes a part of a block there reads the rest and writes it back). Any error on the
 * direct way sends the rest of the request by the file, whose service knows what to do about paths.
 *
 * Thread: the ring's. Inside of hv/raw.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct raw;
struct raw_direct;
struct raw_req;
struct uring;

/* raw_direct_open() - @sock: a connection on which HELLO was said; taken if it succeeds. Returns 0;
 * -ENOMEM. */
MUST_USE int raw_direct_open(struct raw *raw, int sock);

/* raw_direct_close() - nothing is in flight. NULL is fine. Waits for the ring. */
void raw_direct_close(struct raw_direct *d, struct uring *ring);

/* raw_direct_start() - submit the next part of a transfer. Returns 1 it is on its way; 0 by the
 * file; -EAGAIN the ring is full. */
MUST_USE int raw_direct_start(struct raw *raw, struct raw_req *r);

/* raw_direct_done() - account for its completion. Returns @res; -EAGAIN: go on by the file
 * (r->by_file is set). */
int32_t raw_direct_done(struct raw *raw, struct raw_req *r, int32_t res);

/*
 * raw_direct_sync() - submit a flush of the device, if one of the device alone will do. Returns 1
 * it is on its way; 0 by the file; -EAGAIN the ring is full.
 * raw_direct_synced() - it has completed.
 */
MUST_USE int raw_direct_sync(struct raw *raw, struct raw_req *r);
void raw_direct_synced(struct raw *raw);

/*
 * raw_direct_enter() - a request that changes a part of a block goes by the file. Returns true;
 * false
 * if it has to wait for what is in flight there: it is in a list until then.
 * raw_direct_leave() - it has ended.
 */
bool raw_direct_enter(struct raw *raw, struct raw_req *r);
void raw_direct_leave(struct raw *raw, struct raw_req *r);

/* raw_direct_want() - a transfer by the file has ended well: ask where it lies. */
void raw_direct_want(struct raw *raw, const struct raw_req *r);

/*
 * raw_direct_drain() - before the calling thread waits for the service with something that takes
 * layouts away: nothing more is begun. Returns true if nothing is in flight; else @r is in a list
 * until that is so.
 * raw_direct_release() - after that: everything is given back. Blocks up to 2 s; what other devices
 * of the ring have prepared must have been submitted.
 */
bool raw_direct_drain(struct raw *raw, struct raw_req *r);
void raw_direct_release(struct raw *raw);

#endif
