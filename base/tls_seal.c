/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls_seal.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/hash.h"

#define SEAL_NONCE 12u /* bytes; GCM's own size */
#define SEAL_TAG 16u
#define SEAL_BEGIN "1." /* the version */
#define SEAL_BEGIN_LEN (sizeof(SEAL_BEGIN) - 1)

/* nonce[12] | text[len] | tag[16] */

static bool seal_run(EVP_CIPHER_CTX *ctx, const struct tls_seal *seal, uint8_t *box, size_t len,
                     const char *text)
{
	int n = 0;

	return EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, seal->key, box) == 1 &&
	       EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)seal->label,
	                         (int)strlen(seal->label)) == 1 &&
	       EVP_EncryptUpdate(ctx, box + SEAL_NONCE, &n, (const unsigned char *)text,
	                         (int)len) == 1 &&
	       EVP_EncryptFinal_ex(ctx, box + SEAL_NONCE + n, &n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, box + SEAL_NONCE + len) ==
	               1;
}

int tls_seal(const struct tls_seal *seal, const char *text, char **out, struct errbuf *eb)
{
	size_t len = strlen(text);
	size_t size = SEAL_NONCE + len + SEAL_TAG;
	EVP_CIPHER_CTX *ctx;
	uint8_t *box;
	char *hex;
	int err;

	*out = NULL;
	if (len > TLS_SEAL_TEXT_MAX) {
		return errbuf_set(eb, -E2BIG, "too much to be sealed");
	}
	ctx = EVP_CIPHER_CTX_new();
	box = gw_malloc(size);
	hex = gw_malloc(SEAL_BEGIN_LEN + 2 * size + 1);
	err = ctx == NULL || box == NULL || hex == NULL ? -ENOMEM : hash_random(box, SEAL_NONCE);
	if (err == 0 && !seal_run(ctx, seal, box, len, text)) {
		err = -ENOMEM;
	}
	if (err == 0) {
		memcpy(hex, SEAL_BEGIN, SEAL_BEGIN_LEN);
		hash_hex(box, size, hex + SEAL_BEGIN_LEN);
		*out = hex;
		hex = NULL;
	}
	free(hex);
	free(box);
	EVP_CIPHER_CTX_free(ctx);
	return err == 0 ? 0 : errbuf_sys(eb, err, "cannot seal");
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Returns false if it is no hexadecimal text of that many bytes. */
static bool hex_read(const char *text, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(text[2 * i]);
		int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (low < 0) {
			return false;
		}
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool unseal_run(EVP_CIPHER_CTX *ctx, const struct tls_seal *seal, uint8_t *box, size_t len,
                       char *text)
{
	int n = 0;

	return EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, seal->key, box) == 1 &&
	       EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)seal->label,
	                         (int)strlen(seal->label)) == 1 &&
	       EVP_DecryptUpdate(ctx, (unsigned char *)text, &n, box + SEAL_NONCE, (int)len) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, box + SEAL_NONCE + len) ==
	               1 &&
	       EVP_DecryptFinal_ex(ctx, (unsigned char *)text + n, &n) == 1;
}

int tls_unseal(const struct tls_seal *seal, const char *sealed, char **text, struct errbuf *eb)
{
	const char *hex = sealed + SEAL_BEGIN_LEN;
	size_t size = strnlen(sealed, SEAL_BEGIN_LEN + 2 * (size_t)TLS_SEAL_TEXT_MAX + 100);
	EVP_CIPHER_CTX *ctx;
	uint8_t *box;
	char *out;
	size_t len;
	int err = -ENOMEM;

	*text = NULL;
	if (size < SEAL_BEGIN_LEN + 2 * (size_t)(SEAL_NONCE + SEAL_TAG) ||
	    (size - SEAL_BEGIN_LEN) % 2 != 0 || strncmp(sealed, SEAL_BEGIN, SEAL_BEGIN_LEN) != 0) {
		return errbuf_set(eb, -EBADMSG, "nothing that was sealed");
	}
	size = (size - SEAL_BEGIN_LEN) / 2;
	len = size - SEAL_NONCE - SEAL_TAG;
	if (len > TLS_SEAL_TEXT_MAX) {
		return errbuf_set(eb, -EBADMSG, "nothing that was sealed");
	}
	ctx = EVP_CIPHER_CTX_new();
	box = gw_malloc(size);
	out = gw_calloc(1, len + 1);
	if (ctx != NULL && box != NULL && out != NULL) {
		err = hex_read(hex, box, size) && unseal_run(ctx, seal, box, len, out) ? 0
		                                                                       : -EBADMSG;
	}
	if (err == 0 && strlen(out) == len) {
		*text = out;
		out = NULL;
	} else if (err == 0) {
		err = -EBADMSG; /* no text */
	}
	if (out != NULL) {
		hash_wipe(out, len);
	}
	free(out);
	free(box);
	EVP_CIPHER_CTX_free(ctx);
	return err == 0         ? 0
	       : err == -ENOMEM ? errbuf_sys(eb, err, "cannot open the seal")
	                        : errbuf_set(eb, err, "sealed with another key, or damaged");
}
