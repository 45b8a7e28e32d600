/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_TLS_INT_H
#define BASE_TLS_INT_H

/* Shared by base/tls*.c only: here OpenSSL's types are allowed. */

#include <openssl/types.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/tls_pki.h"

struct errbuf;
struct tls_ctx;

/*
 * tls_ossl_fail() - put @what and OpenSSL's reason in @eb and empty OpenSSL's error queue.
 * Returns @err, or -ENOMEM if that was the reason.
 */
int tls_ossl_fail(struct errbuf *eb, int err, const char *what);

/* tls_x509_read() - the first certificate in @pem, to X509_free(); NULL = see tls_ossl_fail(). */
X509 *tls_x509_read(const char *pem);

/* tls_key_read() - a private key, to EVP_PKEY_free(). Encrypted keys are refused, never asked for.
 */
EVP_PKEY *tls_key_read(const char *pem);

/* tls_x509_info() - identity and dates. Returns 0; -EBADMSG not a certificate of ours. */
MUST_USE int tls_x509_info(X509 *cert, struct tls_cert_info *out, struct errbuf *eb);

/* tls_x509_pin() - as tls_cert_pin(); NULL is malformed. */
MUST_USE int tls_x509_pin(const X509 *cert, char out[TLS_PIN_MAX], struct errbuf *eb);

/* tls_ctx_prefer() - for tests: @ciphers as on a processor that is best at these, until a reload.
 * Returns 0; -EINVAL. */
MUST_USE int tls_ctx_prefer(struct tls_ctx *ctx, const char *ciphers);

#endif
