/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_TLS_CIPHER_H
#define BASE_TLS_CIPHER_H

/*
 * tls_cipher - which of TLS 1.3's ciphers this processor is best at. Shared by base/tls*.c only.
 *
 * AES-GCM is up to three times as fast as ChaCha20-Poly1305 where the processor has instructions
 * for it, and a third as fast or less where it has none, or emulates them: what it says it has
 * proves nothing, so both are tried. docs/decisions/0292.
 */

#include <stdbool.h>
#include <stdint.h>

/* What encrypting one record took [ns]. 0: could not be tried. */
struct tls_cipher_cost {
	uint64_t aes_ns;
	uint64_t chacha_ns;
};

/* tls_cipher_measure() - encrypt a few records of 16 KiB with each; 50 us on metal, some ms on an
 * emulated processor. Any thread. */
void tls_cipher_measure(struct tls_cipher_cost *out);

/* tls_cipher_chacha_first() - is ChaCha20 faster, and by so much that it is no accident? */
bool tls_cipher_chacha_first(const struct tls_cipher_cost *cost);

/* tls_cipher_list() - what to offer, best first; static, for SSL_CTX_set_ciphersuites(). */
const char *tls_cipher_list(bool chacha_first);

/* tls_cipher_chacha_best() - is it on this processor? Measured once in a process. Any thread. */
bool tls_cipher_chacha_best(void);

#endif
