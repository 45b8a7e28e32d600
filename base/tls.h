/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

/*
 * tls - encrypted connections between those who hold a certificate of the cluster's CA.
 *
 * TLS 1.3 only; both sides show a certificate and verify the other's against the one CA; no
 * session tickets, no early data: each connection is verified anew. A side is known by the kind
 * and name in its certificate (base/tls_pki.h). Of the ciphers the one is taken that the slower end
 * is better at; an end that is better at AES leaves it to the kernel where that can (kTLS), see
 * tls_conn_info(). OpenSSL sits behind this header.
 *
 * A connection works on a nonblocking stream socket and never blocks: -EAGAIN means wait for
 * tls_conn_events() and call the same function again. Threads: a connection belongs to one; a
 * context may be shared by connections of several, but is reloaded and destroyed by its owner
 * alone. OpenSSL writes without MSG_NOSIGNAL: the process must ignore SIGPIPE (CHECKed).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/tls_pki.h"

struct errbuf;
struct tls_conn;
struct tls_ctx;

enum tls_role { TLS_CLIENT, TLS_SERVER };

struct tls_peer {
	enum tls_kind kind; /* NODE, USER or STRANGER; then the others are empty */
	char name[TLS_NAME_MAX];
	uint8_t fingerprint[TLS_FINGERPRINT_BYTES];
	char pin[TLS_PIN_MAX]; /* of its key, as tls_cert_pin() */
};

/* Has this verified peer still a right to be here (evicted node, revoked user)? */
typedef bool (*tls_allow_fn)(const struct tls_peer *peer, void *arg);

struct tls_cfg {
	const char *cert_file; /* PEM; read by create and reload */
	const char *key_file;
	const char *ca_file;
	tls_allow_fn allow; /* optional: NULL = every certificate of the CA */
	/* A server that asks nobody for a certificate: for those who are to get their first one.
	 * Everybody is TLS_KIND_STRANGER. Never for the API itself. */
	bool strangers;
	void *arg;
};

struct tls_conn_cfg {
	enum tls_role role;
	const char *peer_name; /* client: the node it must be, NULL = any node; server: NULL */
};

struct tls_info {
	const char *version; /* "TLSv1.3"; static */
	const char *cipher;  /* static */
	bool ktls_send;      /* the kernel encrypts */
	bool ktls_recv;      /* the kernel decrypts (TLS 1.3: OpenSSL 3.2 and later) */
};

/*
 * tls_ctx_create() - load our identity and the CA.
 * Returns 0; -ENOENT, -EACCES a file; -EBADMSG a file's content; -EKEYREJECTED key, certificate and
 * CA do not belong together; -EKEYEXPIRED; -ENOMEM.
 */
MUST_USE int tls_ctx_create(const struct tls_cfg *cfg, struct tls_ctx **out, struct errbuf *eb);

/* An identity as PEM texts; borrowed for the call. */
struct tls_pem {
	const char *cert;
	const char *key;
	const char *ca;
};

/*
 * tls_ctx_from_pem() - as tls_ctx_create(), for those who have no files: a sandboxed process with
 * credentials for one purpose. Cannot be reloaded.
 */
MUST_USE int tls_ctx_from_pem(const struct tls_pem *pem, struct tls_ctx **out, struct errbuf *eb);

/* tls_prepare() - for a process that will not be able to open files: OpenSSL looks for none of its
 * own, and sets itself up when it is first used, which costs two MiB that most workers never need.
 * Returns 0; -ENOMEM (or OpenSSL failed, see @eb). */
MUST_USE int tls_prepare(struct errbuf *eb);

/* tls_ctx_reload() - read the files again (renewed certificate). New connections use them; on
 * failure the old ones stay in use. Returns as tls_ctx_create(). */
MUST_USE int tls_ctx_reload(struct tls_ctx *ctx, struct errbuf *eb);

/* tls_ctx_self() - our own certificate. */
const struct tls_cert_info *tls_ctx_self(const struct tls_ctx *ctx);

/* tls_ctx_destroy() - after its connections. NULL is fine. */
void tls_ctx_destroy(struct tls_ctx *ctx);

/* tls_conn_create() - @fd: connected, nonblocking; borrowed until tls_conn_destroy().
 * Returns 0; -EINVAL peer_name; -ENOMEM. */
MUST_USE int tls_conn_create(struct tls_ctx *ctx, int fd, const struct tls_conn_cfg *cfg,
                             struct tls_conn **out, struct errbuf *eb);

/*
 * tls_conn_handshake() - go on with the handshake.
 * Returns 0 done, the peer is verified; -EAGAIN; -EKEYREJECTED, -EKEYEXPIRED we refuse the peer's
 * certificate, or it ours; -EPROTO not TLS, or a version we do not speak; -ECONNRESET; -errno.
 */
MUST_USE int tls_conn_handshake(struct tls_conn *conn, struct errbuf *eb);

/* tls_conn_read() - Returns bytes; 0 = the peer closed in an orderly way; -EAGAIN; -ECONNRESET
 * (also: cut off without goodbye); -EKEYREJECTED the peer refused our certificate; -EPROTO. */
MUST_USE ssize_t tls_conn_read(struct tls_conn *conn, void *buf, size_t len);

/* tls_conn_write() - Returns bytes taken (at least 1); -EAGAIN; -EPIPE, -ECONNRESET; -EPROTO. */
MUST_USE ssize_t tls_conn_write(struct tls_conn *conn, const void *buf, size_t len);

/* tls_conn_goodbye() - tell the peer that nothing follows. Returns 0; -EAGAIN; -errno. */
MUST_USE int tls_conn_goodbye(struct tls_conn *conn);

/* tls_conn_events() - LOOP_READ or LOOP_WRITE (base/loop.h) that the last -EAGAIN waits for. */
uint32_t tls_conn_events(const struct tls_conn *conn);

/* tls_conn_pending() - decrypted bytes that wait in memory: poll() does not tell about them. */
size_t tls_conn_pending(const struct tls_conn *conn);

/* tls_conn_peer() - whom we talk to. CHECKs that the handshake is done. */
const struct tls_peer *tls_conn_peer(const struct tls_conn *conn);

void tls_conn_info(const struct tls_conn *conn, struct tls_info *out);

/* tls_conn_destroy() - does not close the socket. NULL is fine. */
void tls_conn_destroy(struct tls_conn *conn);

#endif
