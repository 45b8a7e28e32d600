/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls_cipher.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stddef.h>

#include "base/clock.h"

#define TLS_RECORD_BYTES 16384 /* the largest of TLS 1.3, which bulk data travels in */
#define TLS_CIPHER_TRIES 4     /* the first one finds cold caches */
#define TLS_CIPHER_KEY_MAX 32
#define TLS_CIPHER_NONCE_BYTES 12

static pthread_once_t tls_cipher_once = PTHREAD_ONCE_INIT;
static bool tls_cipher_chacha; /* by tls_cipher_once: the processor does not change */

/* Encrypt @record in place. Returns what it took [ns]; 0 it failed. */
static uint64_t tls_cipher_try(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, uint8_t *record)
{
	static const uint8_t key[TLS_CIPHER_KEY_MAX];
	static const uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
	uint64_t begin = clock_now_ns();
	uint64_t took;
	int len = 0;

	if (EVP_EncryptInit_ex(ctx, cipher, NULL, key, nonce) != 1 ||
	    EVP_EncryptUpdate(ctx, record, &len, record, TLS_RECORD_BYTES) != 1 ||
	    EVP_EncryptFinal_ex(ctx, record + len, &len) != 1) {
		return 0;
	}
	took = clock_now_ns() - begin;
	return took > 0 ? took : 1;
}

/* *best = the smaller of it and what a try takes now [ns]; 0 = none yet. */
static void tls_cipher_improve(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, uint8_t *record,
                               uint64_t *best)
{
	uint64_t took = tls_cipher_try(ctx, cipher, record);

	if (took != 0 && (*best == 0 || took < *best)) {
		*best = took;
	}
}

void tls_cipher_measure(struct tls_cipher_cost *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t record[TLS_RECORD_BYTES] = {0};

	*out = (struct tls_cipher_cost){0};
	/* By turns: the processor's clock goes up, and others want it, for both. The best of them
	 * is what it can do. */
	for (int i = 0; ctx != NULL && i < TLS_CIPHER_TRIES; i++) {
		tls_cipher_improve(ctx, EVP_aes_128_gcm(), record, &out->aes_ns);
		tls_cipher_improve(ctx, EVP_chacha20_poly1305(), record, &out->chacha_ns);
	}
	EVP_CIPHER_CTX_free(ctx);
}

bool tls_cipher_chacha_first(const struct tls_cipher_cost *cost)
{
	return cost->chacha_ns != 0 && cost->aes_ns / 3 * 2 > cost->chacha_ns;
}

const char *tls_cipher_list(bool chacha_first)
{
	/* AES-128 before AES-256: 128 bits are enough for decades, and a move is bound by it. */
	return chacha_first ? "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:"
	                      "TLS_AES_256_GCM_SHA384"
	                    : "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
	                      "TLS_CHACHA20_POLY1305_SHA256";
}

static void tls_cipher_find(void)
{
	struct tls_cipher_cost cost;

	tls_cipher_measure(&cost);
	tls_cipher_chacha = tls_cipher_chacha_first(&cost);
}

bool tls_cipher_chacha_best(void)
{
	/* Cannot fail: the control is valid. */
	(void)pthread_once(&tls_cipher_once, tls_cipher_find);
	return tls_cipher_chacha;
}
