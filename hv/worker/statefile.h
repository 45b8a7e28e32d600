/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_STATEFILE_H
#define HV_WORKER_STATEFILE_H

/*
 * statefile - a saved VM on disk: RAM and the save sections. docs/formats/statefile.md.
 *
 * RAM lies in the file as it lies in the memfd, untouched pages as holes, each 2 MiB chunk with its
 * CRC. The header is written last, after everything else is durable: a file whose writing was cut
 * short is not a saved state. Reading trusts nothing in the file.
 *
 * Blocking I/O on the calling thread; the partition does not run meanwhile.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/guid.h"

struct errbuf;
struct gmem;

/*
 * statefile_write() - RAM of @mem and @blob into @fd (an empty file, borrowed), durable.
 * Returns 0; -ENOSPC; -EIO; -errno. After a failure the file is no saved state.
 */
MUST_USE int statefile_write(int fd, const struct guid *vm_id, const struct gmem *mem,
                             const void *blob, size_t blob_bytes, struct errbuf *eb);

/*
 * statefile_read() - the reverse, into @mem, all zero so far. @blob: to free().
 * Returns 0; -EBADMSG not a saved state, damaged, or of another VM or size: @eb names the part;
 * -ENOMEM; -errno.
 */
MUST_USE int statefile_read(int fd, const struct guid *vm_id, struct gmem *mem, uint8_t **blob,
                            size_t *blob_bytes, struct errbuf *eb);

#endif
