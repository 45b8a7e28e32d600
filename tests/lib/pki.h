/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_PKI_H
#define TESTS_LIB_PKI_H

/* pki - a cluster's CA and certificates in a folder of its own, for tests. Failures abort. */

#include <stdint.h>

#include "base/tls_pki.h"

struct pki {
	char folder[64];
	char *ca_key;  /* PEM, owned */
	char *ca_cert; /* PEM, owned */
};

struct pki_files { /* paths inside the folder */
	char cert[128];
	char key[128];
	char ca[128];
};

void pki_create(struct pki *pki, const char *cluster);

/* pki_issue() - key and certificate for @name in files; @now_s: when it was "issued". */
void pki_issue(struct pki *pki, enum tls_kind kind, const char *name, int64_t now_s,
               struct pki_files *out);

/* pki_issue_pem() - the same in memory; free both with tls_pem_free(). */
void pki_issue_pem(struct pki *pki, enum tls_kind kind, const char *name, int64_t now_s,
                   char **cert, char **key);

int64_t pki_now_s(void);

/* pki_destroy() - also removes the folder. */
void pki_destroy(struct pki *pki);

#endif
