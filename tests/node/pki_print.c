/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pki_print - certificates for tests that are scripts.
 *
 * pki_print NAME                                JSON: a new CA and a node's certificate and key
 * pki_print --nodes NAME...                     JSON: a new CA, and for each node the same
 * pki_print NAME CA_PEM CA_KEY NODE_KEY DAYS    PEM: a certificate of that CA for that key, issued
 *                                               so many days ago and valid for 825
 */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "tests/lib/pki.h"

#define DAY_S 86400

static void add_node(struct json_build *b, struct pki *pki, const char *name)
{
	char *cert;
	char *key;

	pki_issue_pem(pki, TLS_KIND_NODE, name, pki_now_s(), &cert, &key);
	json_add_str(b, "ca", pki->ca_cert);
	json_add_str(b, "cert", cert);
	json_add_str(b, "key", key);
	tls_pem_free(key);
	tls_pem_free(cert);
}

/* One node by itself, or each under its name. */
static int print_new(char *const names[], bool many)
{
	struct json_build b;
	struct pki pki;
	json_t *json = NULL;
	char *text;

	pki_create(&pki, "test");
	json_build_object(&b);
	for (uint32_t i = 0; many && names[i] != NULL; i++) {
		struct json_build one;

		json_build_object(&one);
		add_node(&one, &pki, names[i]);
		json_add_build(&b, names[i], &one);
	}
	if (!many) {
		add_node(&b, &pki, names[0]);
	}
	if (json_build_end(&b, &json) != 0) {
		return 1;
	}
	text = json_text(json, 0);
	(void)printf("%s\n", text);
	free(text);
	json_decref(json);
	pki_destroy(&pki);
	return 0;
}

static int print_old(char *argv[])
{
	char *pem[3] = {NULL, NULL, NULL};
	char *csr = NULL;
	char *cert = NULL;
	size_t len;
	int err = 0;

	for (int i = 0; err == 0 && i < 3; i++) {
		err = fs_read(argv[2 + i], TLS_PEM_MAX, &pem[i], &len, NULL);
	}
	if (err == 0) {
		err = tls_csr_create(pem[2], argv[1], &csr, NULL);
	}
	if (err == 0) {
		const struct tls_issue issue = {
			.ca_cert_pem = pem[0],
			.ca_key_pem = pem[1],
			.csr_pem = csr,
			.kind = TLS_KIND_NODE,
			.name = argv[1],
			.days = 825,
			.now_s = pki_now_s() - (int64_t)strtoul(argv[5], NULL, 10) * DAY_S,
		};

		err = tls_cert_issue(&issue, &cert, NULL);
	}
	if (err == 0) {
		(void)printf("%s", cert);
	}
	tls_pem_free(cert);
	tls_pem_free(csr);
	for (int i = 0; i < 3; i++) {
		tls_pem_free(pem[i]);
	}
	return err == 0 ? 0 : 1;
}

int main(int argc, char *argv[])
{
	if (argc == 2) {
		return print_new(argv + 1, false);
	}
	if (argc > 2 && strcmp(argv[1], "--nodes") == 0) {
		return print_new(argv + 2, true);
	}
	if (argc == 6) {
		return print_old(argv);
	}
	(void)fprintf(stderr,
	              "usage: pki_print NAME [CA_PEM CA_KEY NODE_KEY DAYS] | --nodes NAME...\n");
	return 2;
}
