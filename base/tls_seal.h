/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_TLS_SEAL_H
#define BASE_TLS_SEAL_H

/*
 * tls_seal - a secret as text that only holders of a key can read, and nobody can change unseen:
 * AES-256-GCM with a random nonce. docs/formats/certs.md.
 *
 * Any thread; nothing is kept between calls.
 */

#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define TLS_SEAL_KEY_BYTES 32u
#define TLS_SEAL_TEXT_MAX (16u << 10) /* of what is sealed; a CA's key has 250 bytes */

/* All borrowed. */
struct tls_seal {
	uint8_t key[TLS_SEAL_KEY_BYTES];
	const char *label; /* what it is for; the same when it is opened */
};

/*
 * tls_seal() - @out: "1." and hexadecimal digits, to free().
 * Returns 0; -E2BIG; -ENOMEM; -errno no random bytes.
 */
MUST_USE int tls_seal(const struct tls_seal *seal, const char *text, char **out, struct errbuf *eb);

/*
 * tls_unseal() - @text: to tls_pem_free().
 * Returns 0; -EBADMSG malformed, changed, or sealed with another key or label; -ENOMEM.
 */
MUST_USE int tls_unseal(const struct tls_seal *seal, const char *sealed, char **text,
                        struct errbuf *eb);

#endif
