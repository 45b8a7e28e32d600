/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

/*
 * wire - integers as they lie in packets and on disk.
 *
 * Each type is a byte array: alignment 1, no padding, no packed attribute, and the compiler
 * refuses to add, compare or assign it as if it were a host integer. Written unrolled, not as
 * a loop: gcc 12 and clang 14 turn the expression into one load or store (gcc 12 not the loop).
 */

#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint8_t b[2];
} le16;

typedef struct {
	uint8_t b[4];
} le32;

typedef struct {
	uint8_t b[8];
} le64;

typedef struct {
	uint8_t b[2];
} be16;

typedef struct {
	uint8_t b[4];
} be32;

typedef struct {
	uint8_t b[8];
} be64;

static inline uint16_t le16_get(le16 v)
{
	return (uint16_t)(v.b[0] | v.b[1] << 8);
}

static inline le16 le16_make(uint16_t v)
{
	return (le16){{(uint8_t)v, (uint8_t)(v >> 8)}};
}

static inline uint32_t le32_get(le32 v)
{
	return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 | (uint32_t)v.b[2] << 16 |
	       (uint32_t)v.b[3] << 24;
}

static inline le32 le32_make(uint32_t v)
{
	return (le32){{(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)}};
}

static inline uint64_t le64_get(le64 v)
{
	return (uint64_t)v.b[0] | (uint64_t)v.b[1] << 8 | (uint64_t)v.b[2] << 16 |
	       (uint64_t)v.b[3] << 24 | (uint64_t)v.b[4] << 32 | (uint64_t)v.b[5] << 40 |
	       (uint64_t)v.b[6] << 48 | (uint64_t)v.b[7] << 56;
}

static inline le64 le64_make(uint64_t v)
{
	return (le64){{(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24),
	               (uint8_t)(v >> 32), (uint8_t)(v >> 40), (uint8_t)(v >> 48),
	               (uint8_t)(v >> 56)}};
}

static inline uint16_t be16_get(be16 v)
{
	return (uint16_t)(v.b[1] | v.b[0] << 8);
}

static inline be16 be16_make(uint16_t v)
{
	return (be16){{(uint8_t)(v >> 8), (uint8_t)v}};
}

static inline uint32_t be32_get(be32 v)
{
	return (uint32_t)v.b[3] | (uint32_t)v.b[2] << 8 | (uint32_t)v.b[1] << 16 |
	       (uint32_t)v.b[0] << 24;
}

static inline be32 be32_make(uint32_t v)
{
	return (be32){{(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v}};
}

static inline uint64_t be64_get(be64 v)
{
	return (uint64_t)v.b[7] | (uint64_t)v.b[6] << 8 | (uint64_t)v.b[5] << 16 |
	       (uint64_t)v.b[4] << 24 | (uint64_t)v.b[3] << 32 | (uint64_t)v.b[2] << 40 |
	       (uint64_t)v.b[1] << 48 | (uint64_t)v.b[0] << 56;
}

static inline be64 be64_make(uint64_t v)
{
	return (be64){{(uint8_t)(v >> 56), (uint8_t)(v >> 48), (uint8_t)(v >> 40),
	               (uint8_t)(v >> 32), (uint8_t)(v >> 24), (uint8_t)(v >> 16),
	               (uint8_t)(v >> 8), (uint8_t)v}};
}

/* Pin the layout right under the struct. The name is written once, so it cannot disagree. */
#define WIRE_SIZE(type, bytes) \
	_Static_assert(sizeof(type) == (bytes) && _Alignof(type) == 1, #type ": wire size")
#define WIRE_AT(type, field, offset) \
	_Static_assert(offsetof(type, field) == (offset), #type "." #field ": wire offset")

#endif
