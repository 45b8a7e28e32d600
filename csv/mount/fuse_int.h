/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_MOUNT_FUSE_INT_H
#define CSV_MOUNT_FUSE_INT_H

/* fuse_int - libfuse's low level interface, for fuse.c, op.c and reply.c; nobody else sees it. */

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

/* op.c: what the kernel may ask. */
extern const struct fuse_lowlevel_ops mount_fuse_ops;

#endif
