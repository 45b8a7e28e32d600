/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_WITNESS_WITNESS_FILE_H
#define CLUSTER_WITNESS_WITNESS_FILE_H

/*
 * witness_file - a witness on a block device, in a file, or in a folder that all nodes mount.
 *
 * All I/O is direct where the file system can (a cache of one node would hide what others write)
 * and synchronous. It blocks, perhaps for long: for a thread of its own. No state.
 */

#include <stdbool.h>

#include "base/attr.h"
#include "cluster/witness/witness.h"

struct errbuf;

/* All borrowed. */
struct witness_place {
	const char *path; /* of a device or file; of the folder, if: */
	bool folder;      /* the file is PATH/godwit-witness-GUID */
	struct witness_head head;
};

/*
 * witness_file_create() - make it ours and empty. A device must be empty or a witness of this
 * cluster.
 * Returns 0; -EEXIST something is on it; -ENOSPC too small (1 MiB and 4 KiB are needed); -errno.
 */
MUST_USE int witness_file_create(const struct witness_place *place, struct errbuf *eb);

/*
 * witness_file_check() - is it there, readable, this one?
 * @seen: in: the last tag's sequence that we know, 0 = none; out: that of the newest. NULL: not
 * asked.
 * Returns 0; -ESTALE another witness is there, or an older copy of this one; -EBADMSG damaged;
 * -errno.
 */
MUST_USE int witness_file_check(const struct witness_place *place, uint64_t *seen,
                                struct errbuf *eb);

/*
 * witness_file_vote() - try to get the vote, for at most @timeout_ns.
 * @claim: .seen is raised to the newest tag: to be remembered before the vote counts.
 * Returns 0 it is ours; -ESTALE another group has it, who may have what we have not, or it is an
 * older copy; -ETIMEDOUT; as witness_file_check().
 */
MUST_USE int witness_file_vote(const struct witness_place *place, struct witness_claim *claim,
                               uint64_t timeout_ns, struct errbuf *eb);

/* witness_file_remove() - a folder's file goes, a device is emptied. Returns 0; -errno. */
MUST_USE int witness_file_remove(const struct witness_place *place, struct errbuf *eb);

#endif
