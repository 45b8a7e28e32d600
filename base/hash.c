/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/fault.h"

struct hash_sha256 {
	EVP_MD_CTX *md; /* owned */
};

/* SHA-256 is built into OpenSSL's default provider: only memory can be missing. */
int hash_sha256_of(const void *buf, size_t len, uint8_t *out)
{
	return EVP_Digest(buf, len, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

int hash_hmac_sha256(const void *key, size_t key_len, const void *buf, size_t len, uint8_t *out)
{
	CHECK(key_len <= INT32_MAX);
	return HMAC(EVP_sha256(), key, (int)key_len, buf, len, out, NULL) != NULL ? 0 : -ENOMEM;
}

int hash_sha256_create(struct hash_sha256 **out)
{
	struct hash_sha256 *hash = gw_calloc(1, sizeof(*hash));

	*out = NULL;
	if (hash == NULL) {
		return -ENOMEM;
	}
	hash->md = EVP_MD_CTX_new();
	if (hash->md == NULL || EVP_DigestInit_ex(hash->md, EVP_sha256(), NULL) != 1) {
		hash_sha256_destroy(hash);
		return -ENOMEM;
	}
	*out = hash;
	return 0;
}

int hash_sha256_add(struct hash_sha256 *hash, const void *buf, size_t len)
{
	return EVP_DigestUpdate(hash->md, buf, len) == 1 ? 0 : -ENOMEM;
}

int hash_sha256_get(const struct hash_sha256 *hash, uint8_t *out)
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	int err = -ENOMEM;

	if (copy != NULL && EVP_MD_CTX_copy_ex(copy, hash->md) == 1 &&
	    EVP_DigestFinal_ex(copy, out, NULL) == 1) {
		err = 0;
	}
	EVP_MD_CTX_free(copy);
	return err;
}

void hash_sha256_destroy(struct hash_sha256 *hash)
{
	if (hash != NULL) {
		EVP_MD_CTX_free(hash->md);
		free(hash);
	}
}

void hash_hex(const void *buf, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = '\0';
}

bool hash_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}

int hash_random(void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len != 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

void hash_wipe(void *buf, size_t len)
{
	explicit_bzero(buf, len);
}
