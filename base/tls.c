/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/loop.h"
#include "base/tls_cipher.h"
#include "base/tls_int.h"

#define TLS_GROUPS "X25519:P-256"
#define TLS_CHAIN_DEPTH_MAX 1 /* the CA signs directly */

struct tls_ctx {
	char *cert_file; /* owned; NULL: made from texts */
	char *key_file;  /* owned */
	char *ca_file;   /* owned */
	tls_allow_fn allow;
	bool strangers;
	void *arg;
	SSL_CTX *ssl_ctx; /* ref; connections have their own */
	struct tls_cert_info self;
};

enum tls_phase { TLS_HANDSHAKE, TLS_OPEN, TLS_BROKEN };

struct tls_conn {
	struct tls_ctx *ctx; /* borrowed */
	SSL *ssl;            /* owned */
	enum tls_role role;
	enum tls_phase phase;
	uint32_t events;             /* of the last -EAGAIN */
	char expected[TLS_NAME_MAX]; /* "" = anybody */
	struct tls_peer peer;        /* set by the verify callback */
	const char *refusal;         /* why we refused the peer; static; NULL = OpenSSL knows */
};

/* ---- context ---- */

/*
 * Called by OpenSSL for each certificate of the peer's chain; last for the peer's own. Refusing
 * here, not after the handshake, makes OpenSSL send the alert that tells the peer why.
 */
static int tls_verify_peer(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *conn = SSL_get_app_data(ssl);
	struct tls_cert_info info;

	if (!ok || X509_STORE_CTX_get_error_depth(store) != 0) {
		return ok;
	}
	X509 *cert = X509_STORE_CTX_get_current_cert(store);

	if (tls_x509_info(cert, &info, NULL) != 0 || info.kind == TLS_KIND_CA ||
	    tls_x509_pin(cert, conn->peer.pin, NULL) != 0) {
		conn->refusal = "the certificate names no node or user";
	} else if (conn->role == TLS_CLIENT && info.kind != TLS_KIND_NODE) {
		conn->refusal = "the certificate is not a node's";
	} else if (conn->expected[0] != '\0' && strcmp(conn->expected, info.name) != 0) {
		conn->refusal = "the certificate belongs to another node";
	} else {
		conn->peer.kind = info.kind;
		memcpy(conn->peer.name, info.name, sizeof(conn->peer.name));
		memcpy(conn->peer.fingerprint, info.fingerprint, sizeof(conn->peer.fingerprint));
		if (conn->ctx->allow == NULL || conn->ctx->allow(&conn->peer, conn->ctx->arg)) {
			return 1;
		}
		conn->refusal = "the certificate is no longer accepted";
	}
	X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
	return 0;
}

static int tls_alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned int in_len, void *arg)
{
	static const unsigned char http[] = "\x08http/1.1";
	unsigned char *chosen = NULL;

	(void)ssl;
	(void)arg;
	/* What the client offers beside it (h2) is not ours; no common word is no error. */
	if (SSL_select_next_proto(&chosen, out_len, http, sizeof(http) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED) {
		return SSL_TLSEXT_ERR_NOACK;
	}
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *tls_settings_create(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	bool chacha = tls_cipher_chacha_best();

	if (ctx == NULL) {
		return NULL;
	}
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, tls_cipher_list(chacha)) != 1 ||
	    SSL_CTX_set1_groups_list(ctx, TLS_GROUPS) != 1 ||
	    SSL_CTX_set_num_tickets(ctx, 0) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	/* The server's choice, but ChaCha20 if it is the client's first: the slower side counts. */
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
	                                       SSL_OP_PRIORITIZE_CHACHA);
	if (!chacha) {
		/* What the kernel's TLS is good for, cards that encrypt, is AES. */
		(void)SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
	}
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
	                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	                                    SSL_MODE_RELEASE_BUFFERS);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, tls_verify_peer);
	SSL_CTX_set_verify_depth(ctx, TLS_CHAIN_DEPTH_MAX);
	SSL_CTX_set_alpn_select_cb(ctx, tls_alpn_select, NULL);
	return ctx;
}

/* A key that others can read is no key. */
static int tls_check_key_mode(const char *path, struct errbuf *eb)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		return errbuf_sys(eb, -errno, "cannot read %s", path);
	}
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
		(void)errbuf_set(eb, -EACCES, "%s: other users may read this private key", path);
		errbuf_hint(eb, "chmod 600 %s, and renew the key if others had access", path);
		return -EACCES;
	}
	return 0;
}

/* Put parsed pieces into @ssl_ctx. */
static int tls_settings_use(SSL_CTX *ssl_ctx, const char *cert_pem, const char *key_pem,
                            const char *ca_pem, struct errbuf *eb)
{
	X509 *cert = tls_x509_read(cert_pem);
	EVP_PKEY *key = tls_key_read(key_pem);
	X509 *ca = tls_x509_read(ca_pem);
	int err = 0;

	if (cert == NULL || key == NULL || ca == NULL ||
	    SSL_CTX_use_certificate(ssl_ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey(ssl_ctx, key) != 1 ||
	    X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl_ctx), ca) != 1 ||
	    SSL_CTX_add_client_CA(ssl_ctx, ca) != 1) {
		err = tls_ossl_fail(eb, -EBADMSG, "cannot use certificate, key or CA");
	}
	X509_free(ca);
	EVP_PKEY_free(key);
	X509_free(cert);
	return err;
}

static int tls_check_identity(const struct tls_ctx *ctx, const char *cert_pem, const char *key_pem,
                              const char *ca_pem, struct errbuf *eb)
{
	int64_t now_s = (int64_t)(clock_wall_ns() / NS_PER_S);
	int err = tls_cert_has_key(cert_pem, key_pem, eb);

	if (err == 0) {
		err = tls_cert_verify(cert_pem, ca_pem, now_s, eb);
	}
	if (err != 0 && ctx->cert_file != NULL) {
		errbuf_prepend(eb, "%s", ctx->cert_file);
	}
	return err;
}

/* The settings of @ctx with this identity. */
static int tls_ctx_settings(const struct tls_ctx *ctx, const struct tls_pem *pem, SSL_CTX **out,
                            struct tls_cert_info *self, struct errbuf *eb)
{
	SSL_CTX *ssl_ctx;
	int err = tls_check_identity(ctx, pem->cert, pem->key, pem->ca, eb);

	if (err == 0) {
		err = tls_cert_info(pem->cert, self, eb);
	}
	if (err != 0) {
		return err;
	}
	ssl_ctx = tls_settings_create();
	if (ssl_ctx == NULL) {
		return tls_ossl_fail(eb, -ENOMEM, "cannot set up TLS");
	}
	err = tls_settings_use(ssl_ctx, pem->cert, pem->key, pem->ca, eb);
	if (err != 0) {
		SSL_CTX_free(ssl_ctx);
		return err;
	}
	if (ctx->strangers) {
		SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_NONE, NULL);
	}
	*out = ssl_ctx;
	return 0;
}

static int tls_pem_load(const char *path, char **pem, struct errbuf *eb)
{
	size_t len = 0;

	return fs_read(path, TLS_PEM_MAX, pem, &len, eb);
}

static int tls_ctx_load(struct tls_ctx *ctx, SSL_CTX **out, struct tls_cert_info *self,
                        struct errbuf *eb)
{
	char *cert = NULL;
	char *key = NULL;
	char *ca = NULL;
	int err = tls_check_key_mode(ctx->key_file, eb);

	*out = NULL;
	if (err == 0) {
		err = tls_pem_load(ctx->cert_file, &cert, eb);
	}
	if (err == 0) {
		err = tls_pem_load(ctx->key_file, &key, eb);
	}
	if (err == 0) {
		err = tls_pem_load(ctx->ca_file, &ca, eb);
	}
	if (err == 0) {
		const struct tls_pem pem = {.cert = cert, .key = key, .ca = ca};

		err = tls_ctx_settings(ctx, &pem, out, self, eb);
	}
	tls_pem_free(ca);
	tls_pem_free(key);
	tls_pem_free(cert);
	return err;
}

int tls_ctx_create(const struct tls_cfg *cfg, struct tls_ctx **out, struct errbuf *eb)
{
	struct tls_ctx *ctx = gw_calloc(1, sizeof(*ctx));
	struct sigaction sigpipe;
	int err = -ENOMEM;

	*out = NULL;
	CHECK(sigaction(SIGPIPE, NULL, &sigpipe) == 0 && sigpipe.sa_handler != SIG_DFL);
	if (ctx == NULL) {
		return errbuf_sys(eb, -ENOMEM, "TLS");
	}
	ctx->cert_file = gw_strdup(cfg->cert_file);
	ctx->key_file = gw_strdup(cfg->key_file);
	ctx->ca_file = gw_strdup(cfg->ca_file);
	ctx->allow = cfg->allow;
	ctx->strangers = cfg->strangers;
	ctx->arg = cfg->arg;
	if (ctx->cert_file == NULL || ctx->key_file == NULL || ctx->ca_file == NULL) {
		(void)errbuf_sys(eb, -ENOMEM, "TLS");
		goto destroy_ctx;
	}
	err = tls_ctx_load(ctx, &ctx->ssl_ctx, &ctx->self, eb);
	if (err != 0) {
		goto destroy_ctx;
	}
	*out = ctx;
	return 0;
destroy_ctx:
	tls_ctx_destroy(ctx);
	return err;
}

int tls_ctx_from_pem(const struct tls_pem *pem, struct tls_ctx **out, struct errbuf *eb)
{
	struct tls_ctx *ctx = gw_calloc(1, sizeof(*ctx));
	struct sigaction sigpipe;
	int err;

	*out = NULL;
	CHECK(sigaction(SIGPIPE, NULL, &sigpipe) == 0 && sigpipe.sa_handler != SIG_DFL);
	if (ctx == NULL) {
		return errbuf_sys(eb, -ENOMEM, "TLS");
	}
	err = tls_ctx_settings(ctx, pem, &ctx->ssl_ctx, &ctx->self, eb);
	if (err != 0) {
		tls_ctx_destroy(ctx);
		return err;
	}
	*out = ctx;
	return 0;
}

int tls_prepare(struct errbuf *eb)
{
	return OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1
	               ? 0
	               : tls_ossl_fail(eb, -ENOMEM, "cannot set up TLS");
}

int tls_ctx_prefer(struct tls_ctx *ctx, const char *ciphers)
{
	return SSL_CTX_set_ciphersuites(ctx->ssl_ctx, ciphers) == 1 ? 0 : -EINVAL;
}

int tls_ctx_reload(struct tls_ctx *ctx, struct errbuf *eb)
{
	SSL_CTX *fresh = NULL;
	struct tls_cert_info self;
	int err;

	CHECK(ctx->cert_file != NULL);
	err = tls_ctx_load(ctx, &fresh, &self, eb);
	if (err == 0) {
		SSL_CTX_free(ctx->ssl_ctx);
		ctx->ssl_ctx = fresh;
		ctx->self = self;
	}
	return err;
}

const struct tls_cert_info *tls_ctx_self(const struct tls_ctx *ctx)
{
	return &ctx->self;
}

void tls_ctx_destroy(struct tls_ctx *ctx)
{
	if (ctx != NULL) {
		SSL_CTX_free(ctx->ssl_ctx);
		free(ctx->cert_file);
		free(ctx->key_file);
		free(ctx->ca_file);
		free(ctx);
	}
}

/* ---- connection ---- */

int tls_conn_create(struct tls_ctx *ctx, int fd, const struct tls_conn_cfg *cfg,
                    struct tls_conn **out, struct errbuf *eb)
{
	*out = NULL;
	CHECK(!ctx->strangers || cfg->role == TLS_SERVER);
	if (cfg->peer_name != NULL && !tls_name_valid(cfg->peer_name)) {
		return errbuf_set(eb, -EINVAL, "\"%.80s\" is no node's name", cfg->peer_name);
	}

	struct tls_conn *conn = gw_calloc(1, sizeof(*conn));

	if (conn == NULL) {
		return errbuf_sys(eb, -ENOMEM, "TLS");
	}
	conn->ctx = ctx;
	conn->role = cfg->role;
	conn->events = cfg->role == TLS_CLIENT ? LOOP_WRITE : LOOP_READ;
	if (cfg->peer_name != NULL) {
		memcpy(conn->expected, cfg->peer_name, strlen(cfg->peer_name) + 1);
	}
	conn->ssl = SSL_new(ctx->ssl_ctx);
	if (conn->ssl == NULL || SSL_set_app_data(conn->ssl, conn) != 1 ||
	    SSL_set_fd(conn->ssl, fd) != 1) {
		tls_conn_destroy(conn);
		return tls_ossl_fail(eb, -ENOMEM, "TLS");
	}
	if (cfg->role == TLS_CLIENT) {
		SSL_set_connect_state(conn->ssl);
	} else {
		SSL_set_accept_state(conn->ssl);
	}
	*out = conn;
	return 0;
}

/* The peer's word on our certificate, as far as TLS alerts say it. */
static int tls_alert_errno(int reason)
{
	switch (reason) {
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
		return -EKEYEXPIRED;
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
	case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
		return -EKEYREJECTED;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

/* Our word on the peer's certificate. */
static int tls_refuse_errno(const struct tls_conn *conn, struct errbuf *eb)
{
	long why = SSL_get_verify_result(conn->ssl);

	if (conn->refusal != NULL) {
		return errbuf_set(eb, -EKEYREJECTED, "peer refused: %s", conn->refusal);
	}
	return errbuf_set(eb, why == X509_V_ERR_CERT_HAS_EXPIRED ? -EKEYEXPIRED : -EKEYREJECTED,
	                  "peer refused: %s", X509_verify_cert_error_string(why));
}

/* After a call of OpenSSL returned @ret <= 0: -EAGAIN and the events, or what went wrong. */
static int tls_conn_fail(struct tls_conn *conn, int ret, int saved_errno, struct errbuf *eb)
{
	switch (SSL_get_error(conn->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		conn->events = LOOP_READ;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		conn->events = LOOP_WRITE;
		return -EAGAIN;
	case SSL_ERROR_SYSCALL:
		conn->phase = TLS_BROKEN;
		ERR_clear_error();
		return errbuf_sys(eb, saved_errno != 0 ? -saved_errno : -ECONNRESET, "TLS");
	default:
		break;
	}
	conn->phase = TLS_BROKEN;
	if (conn->refusal != NULL || SSL_get_verify_result(conn->ssl) != X509_V_OK) {
		ERR_clear_error();
		return tls_refuse_errno(conn, eb);
	}
	return tls_ossl_fail(eb, tls_alert_errno(ERR_GET_REASON(ERR_peek_error())), "TLS");
}

int tls_conn_handshake(struct tls_conn *conn, struct errbuf *eb)
{
	if (conn->phase == TLS_OPEN) {
		return 0;
	}
	if (conn->phase == TLS_BROKEN) {
		return errbuf_set(eb, -ECONNRESET, "TLS: the connection has failed");
	}
	ERR_clear_error();
	errno = 0;

	int ret = SSL_do_handshake(conn->ssl);

	if (ret != 1) {
		return tls_conn_fail(conn, ret, errno, eb);
	}
	/* FAIL_IF_NO_PEER_CERT and the callback have seen to it; a void identity is a bug here. */
	if (conn->ctx->strangers) {
		conn->peer.kind = TLS_KIND_STRANGER;
	} else {
		CHECK(conn->peer.name[0] != '\0' && SSL_get_verify_result(conn->ssl) == X509_V_OK);
	}
	conn->phase = TLS_OPEN;
	return 0;
}

ssize_t tls_conn_read(struct tls_conn *conn, void *buf, size_t len)
{
	size_t done = 0;

	if (conn->phase != TLS_OPEN) {
		return -ECONNRESET;
	}
	ERR_clear_error();
	errno = 0;
	if (SSL_read_ex(conn->ssl, buf, len, &done) == 1) {
		return (ssize_t)done;
	}
	if (SSL_get_error(conn->ssl, 0) == SSL_ERROR_ZERO_RETURN) {
		return 0;
	}
	return tls_conn_fail(conn, 0, errno, NULL);
}

ssize_t tls_conn_write(struct tls_conn *conn, const void *buf, size_t len)
{
	size_t done = 0;

	if (conn->phase != TLS_OPEN) {
		return -ECONNRESET;
	}
	ERR_clear_error();
	errno = 0;
	if (SSL_write_ex(conn->ssl, buf, len, &done) == 1) {
		return (ssize_t)done;
	}
	return tls_conn_fail(conn, 0, errno, NULL);
}

int tls_conn_goodbye(struct tls_conn *conn)
{
	if (conn->phase != TLS_OPEN) {
		return -ECONNRESET;
	}
	ERR_clear_error();
	errno = 0;

	int ret = SSL_shutdown(conn->ssl);

	/* 0: sent, the peer's own has not come yet; it is read like the end of data. */
	return ret >= 0 ? 0 : tls_conn_fail(conn, ret, errno, NULL);
}

uint32_t tls_conn_events(const struct tls_conn *conn)
{
	return conn->events;
}

size_t tls_conn_pending(const struct tls_conn *conn)
{
	int pending = SSL_pending(conn->ssl);

	return pending > 0 ? (size_t)pending : 0;
}

const struct tls_peer *tls_conn_peer(const struct tls_conn *conn)
{
	CHECK(conn->phase != TLS_HANDSHAKE && (conn->ctx->strangers || conn->peer.name[0] != '\0'));
	return &conn->peer;
}

void tls_conn_info(const struct tls_conn *conn, struct tls_info *out)
{
	out->version = SSL_get_version(conn->ssl);
	out->cipher = SSL_get_cipher_name(conn->ssl);
	out->ktls_send = BIO_get_ktls_send(SSL_get_wbio(conn->ssl)) != 0;
	out->ktls_recv = BIO_get_ktls_recv(SSL_get_rbio(conn->ssl)) != 0;
}

void tls_conn_destroy(struct tls_conn *conn)
{
	if (conn != NULL) {
		SSL_free(conn->ssl);
		free(conn);
	}
}
