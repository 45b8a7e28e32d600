/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_SHARED_FILE_H
#define BASE_SHARED_FILE_H

/*
 * shared_file - the right to write to a file of a shared volume, apart from its being open.
 *
 * On a mounted shared volume the node that has a file open for writing has it alone
 * (docs/decisions/0197). In a move two nodes have the same disk open, and the right to write
 * changes hands while both are. So an open with SHARED_FILE_LATER gives a descriptor that reads,
 * and writes only between shared_file_take() and shared_file_yield(). Any other open for writing
 * takes the right at once, and may yield it as well.
 *
 * On other file systems, and for devices, the flags mean nothing that matters and the functions do
 * nothing: who may write there is settled by locks alone. Record: docs/decisions/0210.
 *
 * All of them belong to the open file description, like its locks, and may be used by each process
 * that has a descriptor of it. They block: until the volume's coordinator has answered.
 */

#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "base/attr.h"

/* Beside O_RDWR: flags that reach a file system, and that nobody combines by accident. O_NONBLOCK
 * may be taken off afterwards. */
#define SHARED_FILE_LATER (O_NONBLOCK | O_NOATIME)

#define SHARED_FILE_IOC_TAKE _IO(0xc5, 1)
#define SHARED_FILE_IOC_YIELD _IO(0xc5, 2)
/* The name of this open file description towards the volume's service: base/shared_direct.h. */
#define SHARED_FILE_KEY_BYTES 32u
#define SHARED_FILE_IOC_KEY _IOR(0xc5, 3, uint8_t[SHARED_FILE_KEY_BYTES])

/*
 * shared_file_open() - open(@path, @flags | SHARED_FILE_LATER | O_CLOEXEC), also where the second
 * flag is not allowed. @flags: O_RDWR and what else open(2) knows, not O_CREAT.
 * Returns the descriptor; -errno.
 */
MUST_USE int shared_file_open(const char *path, int flags);

/*
 * shared_file_take() - have the right to write; twice is fine.
 * Returns 0, also where there is no such right; -EBUSY another node has the file (it was tried for
 * a second); -ESTALE the file is gone; -ENOTCONN its volume is; -errno.
 */
MUST_USE int shared_file_take(int fd);

/*
 * shared_file_yield() - give it back: what was written is durable and visible to other nodes, and
 * from now on writing ends with EBADF. Returns 0; -errno what was written last is lost.
 */
MUST_USE int shared_file_yield(int fd);

#endif
