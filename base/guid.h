/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_GUID_H
#define BASE_GUID_H

/*
 * guid - a 128-bit name, kept as its 16 bytes on the wire, on disk and in ACPI: of the text
 * "01234567-89ab-cdef-0123-456789abcdef" the first three fields are little-endian numbers, the
 * other eight bytes stand as they are written (RFC 9562 calls this the Microsoft order). So a
 * struct guid may be a member of a wire struct, and equal names are equal bytes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/wire.h"

#define GUID_TEXT_SIZE 37 /* 36 characters and NUL */

/* Value type; {0} is the nil GUID. */
struct guid {
	uint8_t b[16];
};

WIRE_SIZE(struct guid, 16);

/* An initialiser in the order specifications print: GUID_INIT(0x01234567, 0x89ab, 0xcdef, 0x01,
 * 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef). */
#define GUID_INIT(d1, d2, d3, e0, e1, e2, e3, e4, e5, e6, e7)                                  \
	{                                                                                      \
		{                                                                              \
			(uint8_t)((d1)&0xff), (uint8_t)((d1) >> 8 & 0xff),                     \
				(uint8_t)((d1) >> 16 & 0xff), (uint8_t)((d1) >> 24 & 0xff),    \
				(uint8_t)((d2)&0xff), (uint8_t)((d2) >> 8 & 0xff),             \
				(uint8_t)((d3)&0xff), (uint8_t)((d3) >> 8 & 0xff), (e0), (e1), \
				(e2), (e3), (e4), (e5), (e6), (e7)                             \
		}                                                                              \
	}

bool guid_equal(const struct guid *a, const struct guid *b);

/* guid_is_nil() - are all bits zero? */
bool guid_is_nil(const struct guid *guid);

/* guid_random() - a new version 4 GUID, from the kernel's random numbers. */
void guid_random(struct guid *out);

/* guid_format() - lower case, without braces. Returns @text. */
const char *guid_format(const struct guid *guid, char text[GUID_TEXT_SIZE]);

/*
 * guid_parse() - from text, in any case, with or without braces around it.
 * Returns 0; -EINVAL, *out is untouched.
 */
MUST_USE int guid_parse(const char *text, struct guid *out);

#endif
