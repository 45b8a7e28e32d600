/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

/*
 * hash - SHA-256, random bytes, comparing and wiping secrets.
 *
 * OpenSSL computes (docs/decisions/0023); random bytes are the kernel's. For checksums against
 * accidents use base/crc32c.h. Any thread; a struct hash_sha256 belongs to one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define HASH_SHA256_BYTES 32u
#define HASH_SHA256_HEX (2 * HASH_SHA256_BYTES + 1) /* with NUL */

struct hash_sha256;

/* hash_sha256_of() - @out[32] = SHA-256 of @buf[len]. Returns 0; -ENOMEM. */
MUST_USE int hash_sha256_of(const void *buf, size_t len, uint8_t *out);

/* hash_hmac_sha256() - @out[32] = HMAC of @buf[len] under @key[key_len]. Returns 0; -ENOMEM. */
MUST_USE int hash_hmac_sha256(const void *key, size_t key_len, const void *buf, size_t len,
                              uint8_t *out);

/* hash_sha256_create() - a hash to feed piece by piece. Returns 0; -ENOMEM. */
MUST_USE int hash_sha256_create(struct hash_sha256 **out);

/* hash_sha256_add() - feed @buf[len]. Returns 0; -ENOMEM. */
MUST_USE int hash_sha256_add(struct hash_sha256 *hash, const void *buf, size_t len);

/* hash_sha256_get() - @out[32] = the hash so far; feeding may go on. Returns 0; -ENOMEM. */
MUST_USE int hash_sha256_get(const struct hash_sha256 *hash, uint8_t *out);

/* hash_sha256_destroy() - NULL is fine. */
void hash_sha256_destroy(struct hash_sha256 *hash);

/* hash_hex() - @out[2 * len + 1] = @buf[len] in lower-case hexadecimal digits. */
void hash_hex(const void *buf, size_t len, char *out);

/* hash_equal() - compare secrets: the time does not depend on where they differ. */
bool hash_equal(const void *a, const void *b, size_t len);

/* hash_random() - @buf[len] from the kernel's generator; waits only in the first seconds after
 * boot. Returns 0; -errno (a sandbox without getrandom). */
MUST_USE int hash_random(void *buf, size_t len);

/* hash_wipe() - overwrite a secret; the compiler does not drop it. */
void hash_wipe(void *buf, size_t len);

#endif
