/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_LOCAL_CSV_LOCAL_H
#define CSV_LOCAL_CSV_LOCAL_H

/*
 * csv_local - a volume that this process has for itself: what csv/mount asks for, answered by
 * csv_meta and direct I/O, without a coordinator, locks and leases.
 *
 * The device is locked (flock) so that no second one opens it here; nothing keeps other nodes away,
 * and no liveness slot is written: for a volume on a disk that no other node reaches, and for
 * tests.
 *
 * Opening and closing block; in between all is driven by the ring. One thread, the ring's. A failed
 * write or flush of metadata ends everything: all asks get -EIO.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "csv/format/csv_format.h"
#include "csv/mount/csv_mount.h"

struct csv_local;
struct errbuf;
struct uring;

struct csv_local_cfg {
	const char *path;      /* of the device or file; borrowed for the call */
	struct uring *ring;    /* borrowed until closed */
	uint32_t cache_blocks; /* csv_meta_cfg; 0 = 4096 */
};

/*
 * csv_local_open() - open the volume in its next term; what is pending is freed.
 * Returns 0; -EBUSY somebody here has it; what csv_check_super() and csv_meta_status() say;
 * -ENOMEM; -errno.
 */
MUST_USE int csv_local_open(const struct csv_local_cfg *cfg, struct csv_local **out,
                            struct errbuf *eb);

/* csv_local_close() - nothing is asked for any more: put all in place, mark the volume clean, free.
 * NULL is fine. Returns 0; -EIO: the journal will be read at the next opening. */
MUST_USE int csv_local_close(struct csv_local *l, struct errbuf *eb);

/* For csv_mount_cfg. @arg of the functions is the csv_local. */
void csv_local_ask(void *arg, struct csv_mount_ask *ask);
void csv_local_rights(void *arg, uint64_t ino, struct csv_data_rights *out);

/* csv_local_fd() - of the device; csv_local_super() - what it says about itself. Borrowed. */
int csv_local_fd(const struct csv_local *l);
const struct csv_super *csv_local_super(const struct csv_local *l);

/* csv_local_meta() - to look at. */
const struct csv_meta *csv_local_meta(const struct csv_local *l);

#endif
