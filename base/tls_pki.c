/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls_pki.h"

#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/tls_int.h"

#define TLS_BACKDATE_S 3600 /* a peer whose clock is behind still accepts it */
#define TLS_DAY_S 86400
#define TLS_SERIAL_BYTES 16       /* 126 random bits: unique without a register of serials */
#define TLS_KEY_SECURITY_BITS 112 /* of a requester's key: RSA-2048, P-224 and up */

static const char *const tls_kind_word[] = {
	[TLS_KIND_NODE] = "node",
	[TLS_KIND_USER] = "user",
	[TLS_KIND_CA] = "ca",
};

int tls_ossl_fail(struct errbuf *eb, int err, const char *what)
{
	unsigned long code = ERR_peek_error();
	const char *reason = ERR_reason_error_string(code);

	if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
		err = -ENOMEM;
	}
	if (code == 0 || reason == NULL) {
		(void)errbuf_set(eb, err, "%s", what);
	} else {
		(void)errbuf_set(eb, err, "%s: %s", what, reason);
	}
	ERR_clear_error();
	return err;
}

bool tls_name_valid(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	                          "-._");

	return len != 0 && name[len] == '\0' && len < TLS_NAME_MAX &&
	       strchr("-._", name[0]) == NULL;
}

void tls_pem_free(char *pem)
{
	if (pem != NULL) {
		hash_wipe(pem, strlen(pem));
		free(pem);
	}
}

/* Never ask on the terminal for a pass phrase, which is OpenSSL's default. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the type is OpenSSL's. */
static int tls_no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

/* NULL also for text of absurd length: every PEM text enters here. */
static BIO *tls_bio_of(const char *pem)
{
	size_t len = strnlen(pem, TLS_PEM_MAX + 1);

	return len > TLS_PEM_MAX ? NULL : BIO_new_mem_buf(pem, (int)len);
}

X509 *tls_x509_read(const char *pem)
{
	BIO *bio = tls_bio_of(pem);
	X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, tls_no_passphrase, NULL) : NULL;

	BIO_free(bio);
	return cert;
}

EVP_PKEY *tls_key_read(const char *pem)
{
	BIO *bio = tls_bio_of(pem);
	EVP_PKEY *key =
		bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, tls_no_passphrase, NULL) : NULL;

	BIO_free(bio);
	return key;
}

/* The text of a memory BIO as a string; the BIO is freed (OpenSSL wipes its buffer). */
static char *tls_bio_take(BIO *bio)
{
	char *data = NULL;
	long len = BIO_get_mem_data(bio, &data);
	char *text = len > 0 ? gw_malloc((size_t)len + 1) : NULL;

	if (text != NULL) {
		memcpy(text, data, (size_t)len);
		text[len] = '\0';
	}
	BIO_free(bio);
	return text;
}

static int tls_key_write(EVP_PKEY *key, char **out)
{
	BIO *bio = BIO_new(BIO_s_mem());

	*out = NULL;
	if (bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
		*out = tls_bio_take(bio);
	} else {
		BIO_free(bio);
	}
	return *out != NULL ? 0 : -ENOMEM;
}

static int tls_x509_write(X509 *cert, char **out)
{
	BIO *bio = BIO_new(BIO_s_mem());

	*out = NULL;
	if (bio != NULL && PEM_write_bio_X509(bio, cert) == 1) {
		*out = tls_bio_take(bio);
	} else {
		BIO_free(bio);
	}
	return *out != NULL ? 0 : -ENOMEM;
}

int tls_key_create(char **key_pem, struct errbuf *eb)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	*key_pem = NULL;
	if (key == NULL || tls_key_write(key, key_pem) != 0) {
		EVP_PKEY_free(key);
		return tls_ossl_fail(eb, -ENOMEM, "cannot create a key");
	}
	EVP_PKEY_free(key);
	return 0;
}

static int tls_set_common_name(X509_NAME *subject, const char *name)
{
	return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1,
	                                  -1, 0);
}

int tls_csr_create(const char *key_pem, const char *name, char **csr_pem, struct errbuf *eb)
{
	EVP_PKEY *key = NULL;
	X509_REQ *req = NULL;
	BIO *bio = NULL;
	int err = -ENOMEM;

	*csr_pem = NULL;
	if (!tls_name_valid(name)) {
		return errbuf_set(eb, -EINVAL, "\"%.80s\" is no name for a certificate", name);
	}
	key = tls_key_read(key_pem);
	if (key == NULL) {
		return tls_ossl_fail(eb, -EINVAL, "cannot read the private key");
	}
	req = X509_REQ_new();
	bio = BIO_new(BIO_s_mem());
	if (req != NULL && bio != NULL && X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1 &&
	    tls_set_common_name(X509_REQ_get_subject_name(req), name) == 1 &&
	    X509_REQ_set_pubkey(req, key) == 1 && X509_REQ_sign(req, key, EVP_sha256()) > 0 &&
	    PEM_write_bio_X509_REQ(bio, req) == 1) {
		*csr_pem = tls_bio_take(bio);
		bio = NULL;
		err = *csr_pem != NULL ? 0 : -ENOMEM;
	}
	if (err != 0) {
		err = tls_ossl_fail(eb, err, "cannot create a certificate request");
	}
	BIO_free(bio);
	X509_REQ_free(req);
	EVP_PKEY_free(key);
	return err;
}

static int tls_set_serial(X509 *cert)
{
	uint8_t bytes[TLS_SERIAL_BYTES];
	BIGNUM *number = NULL;
	int ok = 0;

	if (hash_random(bytes, sizeof(bytes)) != 0) {
		return 0;
	}
	bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and always of the same length */
	number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
	BN_free(number);
	return ok;
}

static int tls_set_times(X509 *cert, int64_t now_s, int64_t end_s)
{
	time_t start = (time_t)(now_s - TLS_BACKDATE_S);
	time_t end = (time_t)end_s;

	return ASN1_TIME_set(X509_getm_notBefore(cert), start) != NULL &&
	       ASN1_TIME_set(X509_getm_notAfter(cert), end) != NULL;
}

/* @value is ours or made of a valid name: the little language of the function is no danger. */
static int tls_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);

	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	int ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return ok;
}

static int tls_add_extensions(X509 *cert, X509 *issuer, enum tls_kind kind, const char *name)
{
	char alternative[32 + 2 * TLS_NAME_MAX];
	bool ca = kind == TLS_KIND_CA;
	const char *usage = kind == TLS_KIND_NODE ? "serverAuth,clientAuth" : "clientAuth";

	(void)snprintf(alternative, sizeof(alternative), "URI:godwit:%s:%s%s%s",
	               tls_kind_word[kind], name, kind == TLS_KIND_NODE ? ",DNS:" : "",
	               kind == TLS_KIND_NODE ? name : "");
	return tls_add_extension(cert, issuer, NID_basic_constraints,
	                         ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
	       tls_add_extension(cert, issuer, NID_key_usage,
	                         ca ? "critical,keyCertSign,cRLSign"
	                            : "critical,digitalSignature") &&
	       (ca || tls_add_extension(cert, issuer, NID_ext_key_usage, usage)) &&
	       tls_add_extension(cert, issuer, NID_subject_key_identifier, "hash") &&
	       tls_add_extension(cert, issuer, NID_authority_key_identifier, "keyid:always") &&
	       tls_add_extension(cert, issuer, NID_subject_alt_name, alternative);
}

int tls_ca_create(const char *name, uint32_t days, int64_t now_s, char **key_pem, char **cert_pem,
                  struct errbuf *eb)
{
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	int err = -ENOMEM;

	*key_pem = NULL;
	*cert_pem = NULL;
	if (!tls_name_valid(name) || days == 0 || days > TLS_DAYS_MAX) {
		return errbuf_set(eb, -EINVAL, "CA: bad name \"%.80s\" or days %u", name, days);
	}
	key = EVP_EC_gen("P-256");
	cert = X509_new();
	if (key != NULL && cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1 &&
	    tls_set_serial(cert) && tls_set_times(cert, now_s, now_s + (int64_t)days * TLS_DAY_S) &&
	    tls_set_common_name(X509_get_subject_name(cert), name) == 1 &&
	    X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
	    X509_set_pubkey(cert, key) == 1 && tls_add_extensions(cert, cert, TLS_KIND_CA, name) &&
	    X509_sign(cert, key, EVP_sha256()) > 0 && tls_key_write(key, key_pem) == 0 &&
	    tls_x509_write(cert, cert_pem) == 0) {
		err = 0;
	}
	if (err != 0) {
		err = tls_ossl_fail(eb, err, "cannot create a CA");
		tls_pem_free(*key_pem);
		*key_pem = NULL;
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	return err;
}

/* The public key of a request whose holder proved to have the private one; borrowed from @req. */
static int tls_csr_key(X509_REQ *req, EVP_PKEY **out, struct errbuf *eb)
{
	EVP_PKEY *key = X509_REQ_get0_pubkey(req);

	if (key == NULL) {
		return tls_ossl_fail(eb, -EBADMSG, "certificate request: no usable public key");
	}
	if (EVP_PKEY_get_security_bits(key) < TLS_KEY_SECURITY_BITS) {
		return errbuf_set(eb, -EBADMSG, "certificate request: the key is too weak");
	}
	if (X509_REQ_verify(req, key) != 1) {
		return tls_ossl_fail(eb, -EBADMSG, "certificate request: not signed with its key");
	}
	*out = key;
	return 0;
}

static X509_REQ *tls_csr_read(const char *pem)
{
	BIO *bio = tls_bio_of(pem);
	X509_REQ *req =
		bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, tls_no_passphrase, NULL) : NULL;

	BIO_free(bio);
	return req;
}

static int tls_issue_check(const struct tls_issue *issue, struct errbuf *eb)
{
	if (issue->kind != TLS_KIND_NODE && issue->kind != TLS_KIND_USER) {
		return errbuf_set(eb, -EINVAL, "a certificate is for a node or a user");
	}
	if (!tls_name_valid(issue->name)) {
		return errbuf_set(eb, -EINVAL, "\"%.80s\" is no name for a certificate",
		                  issue->name);
	}
	if (issue->days == 0 || issue->days > TLS_DAYS_MAX) {
		return errbuf_set(eb, -EINVAL, "a certificate lives 1 to %u days, not %u",
		                  TLS_DAYS_MAX, issue->days);
	}
	return 0;
}

/* The CA as far as issuing needs it. Both owned by the caller, NULL on failure. */
static int tls_issuer_load(const struct tls_issue *issue, X509 **cert, EVP_PKEY **key,
                           int64_t *end_s, struct errbuf *eb)
{
	struct tls_cert_info info = {0};

	*cert = tls_x509_read(issue->ca_cert_pem);
	*key = tls_key_read(issue->ca_key_pem);
	if (*cert == NULL || *key == NULL) {
		return tls_ossl_fail(eb, -EINVAL, "cannot read the CA");
	}
	if (tls_x509_info(*cert, &info, eb) != 0 || info.kind != TLS_KIND_CA) {
		return errbuf_set(eb, -EINVAL, "the CA's certificate is not that of a CA");
	}
	if (X509_check_private_key(*cert, *key) != 1) {
		return tls_ossl_fail(eb, -EINVAL, "the CA's key and certificate do not match");
	}
	if (info.not_after_s <= issue->now_s) {
		return errbuf_set(eb, -EKEYEXPIRED, "the CA has expired");
	}
	*end_s = issue->now_s + (int64_t)issue->days * TLS_DAY_S;
	if (*end_s > info.not_after_s) {
		*end_s = info.not_after_s;
	}
	return 0;
}

int tls_cert_issue(const struct tls_issue *issue, char **cert_pem, struct errbuf *eb)
{
	X509 *ca = NULL;
	EVP_PKEY *ca_key = NULL;
	EVP_PKEY *key = NULL; /* borrowed from req */
	X509_REQ *req = NULL;
	X509 *cert = NULL;
	int64_t end_s = 0;
	int err = tls_issue_check(issue, eb);

	*cert_pem = NULL;
	if (err != 0) {
		return err;
	}
	err = tls_issuer_load(issue, &ca, &ca_key, &end_s, eb);
	if (err != 0) {
		goto free_all;
	}
	req = tls_csr_read(issue->csr_pem);
	if (req == NULL) {
		err = tls_ossl_fail(eb, -EBADMSG, "cannot read the certificate request");
		goto free_all;
	}
	err = tls_csr_key(req, &key, eb);
	if (err != 0) {
		goto free_all;
	}
	cert = X509_new();
	if (cert == NULL || X509_set_version(cert, X509_VERSION_3) != 1 || !tls_set_serial(cert) ||
	    !tls_set_times(cert, issue->now_s, end_s) ||
	    tls_set_common_name(X509_get_subject_name(cert), issue->name) != 1 ||
	    X509_set_issuer_name(cert, X509_get_subject_name(ca)) != 1 ||
	    X509_set_pubkey(cert, key) != 1 ||
	    !tls_add_extensions(cert, ca, issue->kind, issue->name) ||
	    X509_sign(cert, ca_key, EVP_sha256()) <= 0 || tls_x509_write(cert, cert_pem) != 0) {
		err = tls_ossl_fail(eb, -ENOMEM, "cannot create a certificate");
	}
free_all:
	X509_free(cert);
	X509_REQ_free(req);
	EVP_PKEY_free(ca_key);
	X509_free(ca);
	return err;
}

/* "godwit:node:n1" of @len bytes -> kind and name. Returns 0; -EBADMSG. */
static int tls_identity_parse(const uint8_t *uri, size_t len, struct tls_cert_info *out)
{
	for (size_t kind = 0; kind < ARRAY_LEN(tls_kind_word); kind++) {
		char prefix[16];
		size_t skip =
			(size_t)snprintf(prefix, sizeof(prefix), "godwit:%s:", tls_kind_word[kind]);

		if (len <= skip || memcmp(uri, prefix, skip) != 0) {
			continue;
		}
		if (len - skip >= sizeof(out->name) || memchr(uri, '\0', len) != NULL) {
			return -EBADMSG;
		}
		memcpy(out->name, uri + skip, len - skip);
		out->name[len - skip] = '\0';
		out->kind = (enum tls_kind)kind;
		return tls_name_valid(out->name) ? 0 : -EBADMSG;
	}
	return -EBADMSG;
}

/* Exactly one URI, and it is an identity: nobody can be two. */
static int tls_identity_find(X509 *cert, struct tls_cert_info *out)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int found = 0;
	int err = -EBADMSG;

	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_URI) {
			const ASN1_STRING *uri = name->d.uniformResourceIdentifier;

			found++;
			err = tls_identity_parse(ASN1_STRING_get0_data(uri),
			                         (size_t)ASN1_STRING_length(uri), out);
		}
	}
	GENERAL_NAMES_free(names);
	return found == 1 ? err : -EBADMSG;
}

static int tls_time_get(const ASN1_TIME *time, int64_t *out)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(time, &tm) != 1) {
		return -EBADMSG;
	}
	*out = (int64_t)timegm(&tm);
	return 0;
}

static int tls_serial_get(const ASN1_INTEGER *serial, char *out)
{
	int len = ASN1_STRING_length(serial);

	if (len <= 0 || len > (int)(TLS_SERIAL_HEX_MAX / 2)) {
		return -EBADMSG;
	}
	hash_hex(ASN1_STRING_get0_data(serial), (size_t)len, out);
	return 0;
}

int tls_x509_info(X509 *cert, struct tls_cert_info *out, struct errbuf *eb)
{
	struct tls_cert_info info = {0};
	unsigned int len = 0;

	if (tls_identity_find(cert, &info) != 0) {
		ERR_clear_error();
		return errbuf_set(eb, -EBADMSG, "certificate: it does not name a node or user");
	}
	if (tls_time_get(X509_get0_notBefore(cert), &info.not_before_s) != 0 ||
	    tls_time_get(X509_get0_notAfter(cert), &info.not_after_s) != 0 ||
	    tls_serial_get(X509_get0_serialNumber(cert), info.serial) != 0 ||
	    X509_digest(cert, EVP_sha256(), info.fingerprint, &len) != 1) {
		return tls_ossl_fail(eb, -EBADMSG, "certificate: bad date or serial");
	}
	*out = info;
	return 0;
}

int tls_cert_info(const char *cert_pem, struct tls_cert_info *out, struct errbuf *eb)
{
	X509 *cert = tls_x509_read(cert_pem);

	if (cert == NULL) {
		return tls_ossl_fail(eb, -EBADMSG, "cannot read the certificate");
	}

	int err = tls_x509_info(cert, out, eb);

	X509_free(cert);
	return err;
}

int tls_x509_pin(const X509 *cert, char out[TLS_PIN_MAX], struct errbuf *eb)
{
	static const char begin[] = "sha256//";
	uint8_t hash[HASH_SHA256_BYTES];
	unsigned char *der = NULL;
	int len = cert != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1;
	int err = len > 0 ? hash_sha256_of(der, (size_t)len, hash)
	                  : tls_ossl_fail(eb, -EBADMSG, "cannot read the certificate's key");

	_Static_assert(sizeof(begin) + 44 == TLS_PIN_MAX, "base64 of 32 bytes is 44 letters");
	if (err == 0) {
		memcpy(out, begin, sizeof(begin));
		(void)EVP_EncodeBlock((unsigned char *)out + sizeof(begin) - 1, hash, sizeof(hash));
	}
	OPENSSL_free(der);
	return err;
}

int tls_cert_pin(const char *cert_pem, char out[TLS_PIN_MAX], struct errbuf *eb)
{
	X509 *cert = tls_x509_read(cert_pem);
	int err = tls_x509_pin(cert, out, eb);

	X509_free(cert);
	return err;
}

static int tls_verify_at(X509_STORE_CTX *ctx, int64_t now_s, struct errbuf *eb)
{
	X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
	X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_X509_STRICT);
	if (X509_verify_cert(ctx) == 1) {
		return 0;
	}

	int why = X509_STORE_CTX_get_error(ctx);
	int err = why == X509_V_ERR_OUT_OF_MEM         ? -ENOMEM
	          : why == X509_V_ERR_CERT_HAS_EXPIRED ? -EKEYEXPIRED
	                                               : -EKEYREJECTED;

	ERR_clear_error();
	return errbuf_set(eb, err, "certificate: %s", X509_verify_cert_error_string(why));
}

int tls_cert_verify(const char *cert_pem, const char *ca_pem, int64_t now_s, struct errbuf *eb)
{
	X509 *cert = tls_x509_read(cert_pem);
	X509 *ca = tls_x509_read(ca_pem);
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int err = 0;

	if (cert == NULL || ca == NULL) {
		err = tls_ossl_fail(eb, -EBADMSG, "cannot read the certificate");
	} else if (store == NULL || ctx == NULL || X509_STORE_add_cert(store, ca) != 1 ||
	           X509_STORE_CTX_init(ctx, store, cert, NULL) != 1) {
		err = tls_ossl_fail(eb, -ENOMEM, "certificate");
	} else {
		err = tls_verify_at(ctx, now_s, eb);
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	X509_free(ca);
	X509_free(cert);
	return err;
}

int tls_cert_has_key(const char *cert_pem, const char *key_pem, struct errbuf *eb)
{
	X509 *cert = tls_x509_read(cert_pem);
	EVP_PKEY *key = tls_key_read(key_pem);
	int err = 0;

	if (cert == NULL || key == NULL) {
		err = tls_ossl_fail(eb, -EBADMSG, "cannot read the certificate or its key");
	} else if (X509_check_private_key(cert, key) != 1) {
		err = tls_ossl_fail(eb, -EKEYREJECTED, "the key is not that of the certificate");
	}
	EVP_PKEY_free(key);
	X509_free(cert);
	return err;
}

bool tls_cert_renew_due(const struct tls_cert_info *info, int64_t now_s)
{
	int64_t lifetime_s = info->not_after_s - info->not_before_s;

	return lifetime_s <= 0 || info->not_after_s - now_s < lifetime_s / 3;
}
