/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CRC32C_INT_H
#define BASE_CRC32C_INT_H

/* The ways to compute it, for the test that compares them. As crc32c_update(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c_table_update(uint32_t crc, const void *buf, size_t len);

#ifdef __x86_64__
bool crc32c_serial_works(void); /* the processor has SSE4.2 */
uint32_t crc32c_serial_update(uint32_t crc, const void *buf, size_t len);

bool crc32c_triple_works(void); /* ... and PCLMULQDQ */
uint32_t crc32c_triple_update(uint32_t crc, const void *buf, size_t len);
#endif

#endif
