/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/cluster_token.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/parse.h"
#include "bin/godwitd/cluster_conf.h"

#define PIN_BEGIN "sha256//"
#define PIN_LETTERS (TLS_PIN_MAX - sizeof(PIN_BEGIN))
#define SECRET_BYTES ((CLUSTER_SECRET_HEX - 1) / 2)

/* ---- the text ---- */

const char *cluster_token_text(const struct cluster_token *t, char *out)
{
	(void)snprintf(out, CLUSTER_TOKEN_MAX, "%s.%s@%s:%u", t->pin + sizeof(PIN_BEGIN) - 1,
	               t->secret, t->addr, (unsigned)t->port);
	return out;
}

static int token_bad(struct errbuf *eb)
{
	(void)errbuf_set(eb, -EINVAL, "this is no token");
	errbuf_hint(eb, "godwit node token NAME, on a node of the cluster, prints one");
	return -EINVAL;
}

static bool all_of(const char *text, size_t len, const char *letters)
{
	return strspn(text, letters) >= len;
}

int cluster_token_parse(const char *text, struct cluster_token *out, struct errbuf *eb)
{
	static const char base64[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
	struct cluster_token t = {.pin = PIN_BEGIN};
	const char *secret = text + PIN_LETTERS + 1;
	const char *addr = secret + CLUSTER_SECRET_HEX;
	size_t len = strnlen(text, CLUSTER_TOKEN_MAX);
	struct in6_addr binary;
	const char *colon;
	uint64_t port = 0;

	if (len == CLUSTER_TOKEN_MAX || len <= PIN_LETTERS + 1 + CLUSTER_SECRET_HEX ||
	    !all_of(text, PIN_LETTERS, base64) || secret[-1] != '.' ||
	    !all_of(secret, CLUSTER_SECRET_HEX - 1, "0123456789abcdef") || addr[-1] != '@') {
		return token_bad(eb);
	}
	colon = strrchr(addr, ':');
	if (colon == NULL || (size_t)(colon - addr) >= sizeof(t.addr) ||
	    parse_u64(colon + 1, 1, UINT16_MAX, &port, NULL) != 0) {
		return token_bad(eb);
	}
	memcpy(t.pin + sizeof(PIN_BEGIN) - 1, text, PIN_LETTERS);
	memcpy(t.secret, secret, CLUSTER_SECRET_HEX - 1);
	memcpy(t.addr, addr, (size_t)(colon - addr));
	t.port = (uint16_t)port;
	if (inet_pton(AF_INET, t.addr, &binary) != 1 && inet_pton(AF_INET6, t.addr, &binary) != 1) {
		return token_bad(eb);
	}
	*out = t;
	return 0;
}

/* ---- those we gave out ---- */

static void tokens_path(const char *dir, char path[CLUSTER_PATH_MAX])
{
	(void)snprintf(path, CLUSTER_PATH_MAX, "%.4000s/tokens.json", dir);
}

static int hash_text(const char *text, char out[HASH_SHA256_HEX])
{
	uint8_t hash[HASH_SHA256_BYTES];
	int err = hash_sha256_of(text, strlen(text), hash);

	if (err == 0) {
		hash_hex(hash, sizeof(hash), out);
	}
	return err;
}

/* The valid ones: a new array of {node, hash, expires_s, csr}. */
static int tokens_load(const char *dir, int64_t now_s, json_t **out, struct errbuf *eb)
{
	char path[CLUSTER_PATH_MAX];
	json_t *file = NULL;
	json_t *one;
	size_t i;
	int err;

	*out = json_array();
	tokens_path(dir, path);
	err = json_read_file(path, NULL, &file, eb);
	if (err == -ENOENT) {
		return *out != NULL ? 0 : errbuf_sys(eb, -ENOMEM, "tokens");
	}
	json_array_foreach(json_object_get(file, "tokens"), i, one)
	{
		if (json_integer_value(json_object_get(one, "expires_s")) > now_s &&
		    json_array_append(*out, one) != 0) {
			err = errbuf_sys(eb, -ENOMEM, "tokens");
		}
	}
	json_decref(file);
	if (err != 0) {
		json_decref(*out);
		*out = NULL;
	}
	return err;
}

static int tokens_save(const char *dir, json_t *tokens, struct errbuf *eb)
{
	char path[CLUSTER_PATH_MAX];
	json_t *file = json_pack("{s:O}", "tokens", tokens);
	int err = file == NULL ? errbuf_sys(eb, -ENOMEM, "tokens") : fs_mkdirs(dir, 0700, eb);

	tokens_path(dir, path);
	if (err == 0) {
		err = json_write_file(path, file, 0600, eb);
	}
	json_decref(file);
	return err;
}

static const char *member_of(const json_t *one, const char *key)
{
	const char *text = json_string_value(json_object_get(one, key));

	return text != NULL ? text : "";
}

int cluster_tokens_add(const char *dir, const char *node, int64_t now_s,
                       char secret[CLUSTER_SECRET_HEX], struct errbuf *eb)
{
	uint8_t random[SECRET_BYTES];
	char hash[HASH_SHA256_HEX];
	json_t *tokens = NULL;
	int err = tokens_load(dir, now_s, &tokens, eb);

	if (err == 0) {
		err = hash_random(random, sizeof(random));
	}
	if (err == 0) {
		hash_hex(random, sizeof(random), secret);
		err = hash_text(secret, hash);
	}
	for (size_t i = json_array_size(tokens); err == 0 && i-- > 0;) {
		if (strcmp(member_of(json_array_get(tokens, i), "node"), node) == 0) {
			(void)json_array_remove(tokens, i);
		}
	}
	if (err == 0 && json_array_size(tokens) >= CLUSTER_TOKENS_MAX) {
		err = errbuf_set(eb, -ENOSPC, "%u tokens are waiting for their nodes already",
		                 CLUSTER_TOKENS_MAX);
	}
	if (err == 0 &&
	    json_array_append_new(tokens, json_pack("{s:s,s:s,s:I}", "node", node, "hash", hash,
	                                            "expires_s",
	                                            (json_int_t)now_s + CLUSTER_TOKEN_S)) != 0) {
		err = errbuf_sys(eb, -ENOMEM, "tokens");
	}
	if (err == 0) {
		err = tokens_save(dir, tokens, eb);
	}
	hash_wipe(random, sizeof(random));
	json_decref(tokens);
	return err;
}

/* The token of that secret, borrowed; NULL = none. All are compared, in the same time each. */
static json_t *tokens_find(json_t *tokens, const char *hash)
{
	json_t *found = NULL;
	json_t *one;
	size_t i;

	json_array_foreach(tokens, i, one)
	{
		const char *kept = member_of(one, "hash");

		if (strlen(kept) == HASH_SHA256_HEX - 1 &&
		    hash_equal(kept, hash, HASH_SHA256_HEX - 1)) {
			found = one;
		}
	}
	return found;
}

int cluster_tokens_use(const char *dir, const struct cluster_claim *claim, int64_t now_s,
                       struct errbuf *eb)
{
	const char *node = claim->node;
	char hash[HASH_SHA256_HEX];
	char key[HASH_SHA256_HEX];
	json_t *tokens = NULL;
	json_t *one = NULL;
	int err = tokens_load(dir, now_s, &tokens, eb);

	if (err == 0) {
		err = hash_text(claim->secret, hash);
	}
	if (err == 0) {
		err = hash_text(claim->csr, key);
	}
	if (err == 0) {
		one = tokens_find(tokens, hash);
	}
	if (err == 0 &&
	    (one == NULL || strcmp(member_of(one, "node"), node) != 0 ||
	     (json_object_get(one, "csr") != NULL && strcmp(member_of(one, "csr"), key) != 0))) {
		err = errbuf_set(eb, -EACCES,
		                 "this token is not for node %s, was used or has expired", node);
		errbuf_hint(eb, "make another one: godwit node token %s", node);
	} else if (err == 0 && json_object_get(one, "csr") == NULL) {
		err = json_object_set_new(one, "csr", json_string(key)) != 0
		              ? errbuf_sys(eb, -ENOMEM, "tokens")
		              : tokens_save(dir, tokens, eb);
	}
	json_decref(tokens);
	return err;
}

bool cluster_tokens_any(const char *dir, int64_t now_s)
{
	json_t *tokens = NULL;
	bool any = tokens_load(dir, now_s, &tokens, NULL) == 0 && json_array_size(tokens) != 0;

	json_decref(tokens);
	return any;
}

int cluster_tokens_prune(const char *dir, int64_t now_s, cluster_token_done_fn done, void *arg,
                         struct errbuf *eb)
{
	json_t *tokens = NULL;
	int err = tokens_load(dir, now_s, &tokens, eb);
	size_t before = json_array_size(tokens);

	for (size_t i = before; err == 0 && i-- > 0;) {
		const json_t *one = json_array_get(tokens, i);

		if (json_object_get(one, "csr") != NULL && done(arg, member_of(one, "node"))) {
			(void)json_array_remove(tokens, i);
		}
	}
	if (err == 0 && json_array_size(tokens) != before) {
		err = tokens_save(dir, tokens, eb);
	}
	if (err == 0) {
		err = (int)json_array_size(tokens);
	}
	json_decref(tokens);
	return err;
}
