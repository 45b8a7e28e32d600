/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/pki.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/fs.h"

int64_t pki_now_s(void)
{
	return (int64_t)(clock_wall_ns() / NS_PER_S);
}

void pki_create(struct pki *pki, const char *cluster)
{
	(void)snprintf(pki->folder, sizeof(pki->folder), "/tmp/gw-pki-XXXXXX");
	CHECK(mkdtemp(pki->folder) != NULL);
	CHECK(tls_ca_create(cluster, 30, pki_now_s() - INT64_C(10) * 86400, &pki->ca_key,
	                    &pki->ca_cert, NULL) == 0);
}

void pki_issue_pem(struct pki *pki, enum tls_kind kind, const char *name, int64_t now_s,
                   char **cert, char **key)
{
	char *csr = NULL;

	CHECK(tls_key_create(key, NULL) == 0);
	CHECK(tls_csr_create(*key, name, &csr, NULL) == 0);

	const struct tls_issue issue = {.ca_cert_pem = pki->ca_cert,
	                                .ca_key_pem = pki->ca_key,
	                                .csr_pem = csr,
	                                .kind = kind,
	                                .name = name,
	                                .days = 2,
	                                .now_s = now_s};

	CHECK(tls_cert_issue(&issue, cert, NULL) == 0);
	tls_pem_free(csr);
}

void pki_issue(struct pki *pki, enum tls_kind kind, const char *name, int64_t now_s,
               struct pki_files *out)
{
	char *cert = NULL;
	char *key = NULL;

	pki_issue_pem(pki, kind, name, now_s, &cert, &key);
	(void)snprintf(out->cert, sizeof(out->cert), "%s/%s.crt", pki->folder, name);
	(void)snprintf(out->key, sizeof(out->key), "%s/%s.key", pki->folder, name);
	(void)snprintf(out->ca, sizeof(out->ca), "%s/ca.crt", pki->folder);
	CHECK(fs_write(out->cert, cert, strlen(cert), 0644, NULL) == 0);
	CHECK(fs_write(out->key, key, strlen(key), 0600, NULL) == 0);
	CHECK(fs_write(out->ca, pki->ca_cert, strlen(pki->ca_cert), 0644, NULL) == 0);
	tls_pem_free(cert);
	tls_pem_free(key);
}

void pki_destroy(struct pki *pki)
{
	DIR *dir = opendir(pki->folder);

	CHECK(dir != NULL);
	for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
		if (e->d_name[0] != '.') {
			(void)unlinkat(dirfd(dir), e->d_name, 0);
		}
	}
	(void)closedir(dir);
	(void)rmdir(pki->folder);
	tls_pem_free(pki->ca_key);
	tls_pem_free(pki->ca_cert);
}
