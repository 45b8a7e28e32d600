/* SPDX-License-Identifier: Apache-2.0 */

/* pki_print - JSON with a new CA and a node's certificate and key, for tests that are scripts.
 * pki_print NAME */

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "tests/lib/pki.h"

int main(int argc, char *argv[])
{
	struct json_build b;
	struct pki pki;
	json_t *json = NULL;
	char *cert;
	char *key;
	char *text;

	if (argc != 2) {
		(void)fprintf(stderr, "usage: pki_print NAME\n");
		return 2;
	}
	pki_create(&pki, "test");
	pki_issue_pem(&pki, TLS_KIND_NODE, argv[1], pki_now_s(), &cert, &key);
	json_build_object(&b);
	json_add_str(&b, "ca", pki.ca_cert);
	json_add_str(&b, "cert", cert);
	json_add_str(&b, "key", key);
	if (json_build_end(&b, &json) != 0) {
		return 1;
	}
	text = json_text(json, 0);
	(void)printf("%s\n", text);
	free(text);
	json_decref(json);
	tls_pem_free(key);
	tls_pem_free(cert);
	pki_destroy(&pki);
	return 0;
}
