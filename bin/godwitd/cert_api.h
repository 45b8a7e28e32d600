/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_CERT_API_H
#define BIN_GODWITD_CERT_API_H

/*
 * cert_api - this node's identity: the CA of those who trust each other, our key and certificate.
 *
 *   STATE/cert/ca.pem     whom we trust
 *   STATE/cert/node.pem   who we are; node.key, mode 0600, proves it
 *   STATE/cert/ca.key     only on the node that made the CA, mode 0600: who has it can be anybody;
 *                         the nodes of a cluster have it in the database, sealed (cluster_trust.c)
 *
 * GET /v1/certs, POST /v1/certs/init, /v1/certs/issue and /v1/certs/install. The three that change
 * something are for this host's own socket, not for other nodes. As soon as we have an identity
 * the API is served on TCP, to those with a certificate of the same CA. docs/formats/certs.md.
 *
 * Thread: the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/tls.h"
#include "base/tls_pki.h"

struct api_server;
struct cert_api;
struct errbuf;

#define CERT_DAYS_CA 3650u
#define CERT_DAYS_NODE 825u

struct cert_api_cfg {
	struct api_server *server; /* borrowed until cert_api_destroy() */
	const char *state_dir;     /* copied */
	const char *listen_addr;   /* numeric address for other nodes; copied */
	uint16_t listen_port;      /* 0 = API_TLS_PORT */
};

/*
 * cert_api_create() - serve the routes and, if there is an identity, the API on TCP. An identity
 * that cannot be used is logged, not an error: the local socket must work to mend it.
 * Returns 0; -ENOMEM; -errno.
 */
MUST_USE int cert_api_create(const struct cert_api_cfg *cfg, struct cert_api **out,
                             struct errbuf *eb);

/* cert_api_destroy() - after the server. NULL is fine. */
void cert_api_destroy(struct cert_api *api);

/* cert_api_dir() - STATE/cert. */
const char *cert_api_dir(const struct cert_api *api);

/*
 * cert_api_init() - become @node with a new CA called @name, as `cert init`. Replaces any.
 * Returns 0; -EINVAL a name; -ENOMEM; -errno.
 */
MUST_USE int cert_api_init(struct cert_api *api, const char *name, const char *node,
                           struct errbuf *eb);

/*
 * cert_api_sign() - a certificate for the key behind a request, if we hold the CA.
 * @node_pem, @ca_pem: to tls_pem_free(). Returns 0; -ENOENT we do not; as tls_cert_issue().
 */
MUST_USE int cert_api_sign(const struct cert_api *api, const char *node, const char *csr_pem,
                           char **node_pem, char **ca_pem, struct errbuf *eb);

/* All borrowed. */
struct cert_bundle {
	const char *ca_pem;
	const char *node_pem;
	const char *node_key;
};

/* cert_api_install() - become @node, if the pieces belong together. Returns 0; -EBADMSG;
 * -EKEYREJECTED; -ENOMEM; -errno. */
MUST_USE int cert_api_install(struct cert_api *api, const char *node,
                              const struct cert_bundle *bundle, struct errbuf *eb);

/* cert_api_authority() - do we hold the CA's key, in a file of our own? */
bool cert_api_authority(const struct cert_api *api);

/* Who asks for what others decide. All callbacks optional, from the loop. */
struct cert_hooks {
	/* Has the holder of this certificate still a right to be here? */
	tls_allow_fn allow;
	/* The CA's key where there is no file: to tls_pem_free(). Returns 0; -ENOENT; -errno. */
	int (*ca_key)(void *arg, char **pem, struct errbuf *eb);
	void *arg;
};

/* cert_api_hook() - copied; a hook is asked from now on. */
void cert_api_hook(struct cert_api *api, const struct cert_hooks *hooks);

/* cert_api_can_sign() - cert_api_sign() would find the CA's key. */
bool cert_api_can_sign(const struct cert_api *api);

/* cert_api_ca_key() - from our file or the hook, to tls_pem_free(). Returns 0; -ENOENT; -errno. */
MUST_USE int cert_api_ca_key(const struct cert_api *api, char **pem, struct errbuf *eb);

/* cert_api_pin() - of our key (tls_cert_pin()); "" = we have none. */
const char *cert_api_pin(const struct cert_api *api);

/* A new key and certificate for the node that we are; not ours yet. Owned; cert_fresh_fini(). */
struct cert_fresh {
	char *key_pem;
	char *node_pem;
	char *ca_pem;
	char pin[TLS_PIN_MAX];
};

/* cert_api_fresh() - Returns 0; -ENOENT no CA's key, or we are nobody yet; as tls_cert_issue(). */
MUST_USE int cert_api_fresh(const struct cert_api *api, struct cert_fresh *out, struct errbuf *eb);
void cert_fresh_fini(struct cert_fresh *fresh);

/* cert_api_renew_due() - less than a third of our certificate's time is left. */
bool cert_api_renew_due(const struct cert_api *api);

/* cert_api_node() - the name in our certificate; NULL = we have none. */
const char *cert_api_node(const struct cert_api *api);

#endif
