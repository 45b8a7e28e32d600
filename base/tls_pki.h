/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_TLS_PKI_H
#define BASE_TLS_PKI_H

/*
 * tls_pki - keys, requests and certificates of a cluster.
 *
 * A cluster has one CA. It issues certificates that say who somebody is: a node or a user, and
 * its name. The identity is the URI "godwit:node:NAME" or "godwit:user:NAME" among the alternative
 * names; a node's certificate also carries NAME as DNS name, so that any HTTPS client can check
 * it. Keys are P-256 (docs/decisions/0023). Everything is PEM text, ended by NUL; base/fs.h reads
 * and writes the files, keys with mode 0600.
 *
 * The issuer decides what a certificate says; from a request it takes only the public key, after
 * checking that the requester holds the private one. Any thread; nothing is kept between calls.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define TLS_NAME_MAX 64u          /* a DNS label and NUL */
#define TLS_FINGERPRINT_BYTES 32u /* SHA-256 of the certificate's DER form */
#define TLS_SERIAL_HEX_MAX 41u    /* 20 bytes, the limit of RFC 5280 4.1.2.2, and NUL */
#define TLS_PEM_MAX (64u << 10)   /* a chain of a dozen certificates */
#define TLS_DAYS_MAX 3660u        /* ten years */

#define TLS_PIN_MAX 53u /* of a public key as text, with NUL */

/* STRANGER: showed no certificate; only where a server asks for none (struct tls_cfg). */
enum tls_kind { TLS_KIND_NODE, TLS_KIND_USER, TLS_KIND_CA, TLS_KIND_STRANGER };

struct tls_cert_info {
	enum tls_kind kind;
	char name[TLS_NAME_MAX];
	int64_t not_before_s; /* [s since 1970] */
	int64_t not_after_s;
	uint8_t fingerprint[TLS_FINGERPRINT_BYTES];
	char serial[TLS_SERIAL_HEX_MAX];
};

/* What a CA puts into a certificate. All borrowed. */
struct tls_issue {
	const char *ca_cert_pem;
	const char *ca_key_pem;
	const char *csr_pem;
	enum tls_kind kind; /* NODE or USER */
	const char *name;   /* tls_name_valid() */
	uint32_t days;      /* 1..TLS_DAYS_MAX; ends with the CA's own time at the latest */
	int64_t now_s;      /* [s since 1970]; the certificate starts an hour earlier */
};

/* tls_name_valid() - letters, digits, '-', '.', '_'; 1..63 of them; starts with letter or digit. */
bool tls_name_valid(const char *name);

/* tls_pem_free() - wipe and free what these functions returned. NULL is fine. */
void tls_pem_free(char *pem);

/* tls_key_create() - a new private key. Returns 0; -ENOMEM (or OpenSSL failed, see @eb). */
MUST_USE int tls_key_create(char **key_pem, struct errbuf *eb);

/* tls_csr_create() - a request to certify @key_pem. Returns 0; -EINVAL key, name; -ENOMEM. */
MUST_USE int tls_csr_create(const char *key_pem, const char *name, char **csr_pem,
                            struct errbuf *eb);

/*
 * tls_ca_create() - a new CA: key and self-signed certificate, valid from an hour before @now_s.
 * @name: of the cluster. Returns 0; -EINVAL name, days; -ENOMEM.
 */
MUST_USE int tls_ca_create(const char *name, uint32_t days, int64_t now_s, char **key_pem,
                           char **cert_pem, struct errbuf *eb);

/*
 * tls_cert_issue() - sign a certificate for the holder of a request's key.
 * Returns 0; -EINVAL name, days, kind, or the CA's pieces; -EBADMSG the request is malformed or
 * not signed with its own key; -EKEYEXPIRED the CA has expired; -ENOMEM.
 */
MUST_USE int tls_cert_issue(const struct tls_issue *issue, char **cert_pem, struct errbuf *eb);

/* tls_cert_info() - read the first certificate of @cert_pem. Returns 0; -EBADMSG not one of ours.
 * Does not verify the signature. */
MUST_USE int tls_cert_info(const char *cert_pem, struct tls_cert_info *out, struct errbuf *eb);

/* tls_cert_verify() - is @cert_pem signed by @ca_pem and valid at @now_s? Returns 0;
 * -EBADMSG malformed; -EKEYEXPIRED; -EKEYREJECTED otherwise. */
MUST_USE int tls_cert_verify(const char *cert_pem, const char *ca_pem, int64_t now_s,
                             struct errbuf *eb);

/* tls_cert_has_key() - do certificate and private key belong together? Returns 0; -EKEYREJECTED no;
 * -EBADMSG malformed. */
MUST_USE int tls_cert_has_key(const char *cert_pem, const char *key_pem, struct errbuf *eb);

/*
 * tls_cert_pin() - "sha256//" and base64 of the hash of the certificate's public key: what a client
 * that has no CA yet recognises a server by (struct api_client_cfg).
 * Returns 0; -EBADMSG malformed; -ENOMEM.
 */
MUST_USE int tls_cert_pin(const char *cert_pem, char out[TLS_PIN_MAX], struct errbuf *eb);

/* tls_cert_renew_due() - less than a third of the lifetime is left (or it is over). */
bool tls_cert_renew_due(const struct tls_cert_info *info, int64_t now_s);

#endif
