/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CLUSTER_TOKEN_H
#define BIN_GODWITD_CLUSTER_TOKEN_H

/*
 * cluster_token - the right of one node, by name, to be admitted once: a secret together with where
 * to show it and how to know that place (docs/formats/cluster-node.md).
 *
 *	KEY.SECRET@ADDR:PORT
 *
 * The cluster's side keeps a hash of the secret only. A token belongs to the first key it was used
 * with: the same node may use it again (its answer may have been lost), another one not.
 *
 * Thread: the loop's.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/tls_pki.h"

struct errbuf;

#define CLUSTER_SECRET_HEX 33u /* 128 bits and NUL */
#define CLUSTER_TOKEN_MAX 160u
#define CLUSTER_TOKEN_S 3600u /* valid [s] */
#define CLUSTER_TOKENS_MAX 64u

struct cluster_token {
	char pin[TLS_PIN_MAX]; /* tls_cert_pin() of the node that admits */
	char secret[CLUSTER_SECRET_HEX];
	char addr[INET6_ADDRSTRLEN];
	uint16_t port;
};

/* cluster_token_text() - @out[CLUSTER_TOKEN_MAX]; returns it. */
const char *cluster_token_text(const struct cluster_token *token, char *out);

/* cluster_token_parse() - Returns 0; -EINVAL, *out is untouched. */
MUST_USE int cluster_token_parse(const char *text, struct cluster_token *out, struct errbuf *eb);

/*
 * cluster_tokens_add() - a new secret for @node, kept in DIR/tokens.json; others for it are void.
 * Returns 0; -ENOSPC CLUSTER_TOKENS_MAX; -errno.
 */
MUST_USE int cluster_tokens_add(const char *dir, const char *node, int64_t now_s,
                                char secret[CLUSTER_SECRET_HEX], struct errbuf *eb);

/* All borrowed. */
struct cluster_claim {
	const char *node;
	const char *secret;
	const char
		*csr; /* what is to be certified: the key that the token belongs to from then on */
};

/*
 * cluster_tokens_use() - may this node be admitted with this secret and key?
 * Returns 0; -EACCES no such token, or another's, or it has expired; -errno.
 */
MUST_USE int cluster_tokens_use(const char *dir, const struct cluster_claim *claim, int64_t now_s,
                                struct errbuf *eb);

/* cluster_tokens_any() - is there one that is valid? */
bool cluster_tokens_any(const char *dir, int64_t now_s);

/* Is @node, which used its token, in? Then it will not ask again. */
typedef bool (*cluster_token_done_fn)(void *arg, const char *node);

/* cluster_tokens_prune() - forget those that have expired or that @done says are of no use any
 * more. Returns how many are left; -errno. */
MUST_USE int cluster_tokens_prune(const char *dir, int64_t now_s, cluster_token_done_fn done,
                                  void *arg, struct errbuf *eb);

#endif
