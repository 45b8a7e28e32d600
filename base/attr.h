/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

/* The caller must look at the return value. Every function that returns -errno carries it. */
#define MUST_USE __attribute__((warn_unused_result))

/* The compiler checks the arguments from number @first against the format at number @fmt. */
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* For a struct that overlays raw words (uring_op.priv, blk_req.priv): no type-based aliasing. */
#define MAY_ALIAS __attribute__((may_alias))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The struct that embeds @member at @ptr. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
