/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_MOVER_MOVER_H
#define MIGRATE_MOVER_MOVER_H

/*
 * mover - a worker's end of a move: its VM as a source, or itself as a destination.
 *
 * Commands of the control socket become a source or a target (migrate/source, migrate/target),
 * whose threads ask the device thread for what concerns the guest; their events become events of
 * the control socket. The node service decides who owns the VM; the mover only carries its words.
 * docs/formats/worker-control.md lists the messages, docs/decisions/0111 the way of the disks.
 *
 * Source: the VM runs here until the service has answered move_ready with move_commit; then the
 * worker ends ("moved"). Every other end leaves the VM running.
 * Destination: a worker that was started with "arriving" does not run its VM before the service (or
 * the source's COMMIT, if it was told not to wait) says so; every other end is the worker's end
 * ("not-moved").
 */

struct worker_ext_ops;

extern const struct worker_ext_ops mover_ext;

#endif
