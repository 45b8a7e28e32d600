/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls_pki.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "tests/lib/pki.h"
#include "tests/lib/test.h"

#define DAY_S INT64_C(86400)

static struct pki pki;

static int setup(void **state)
{
	(void)state;
	pki_create(&pki, "testers");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pki_destroy(&pki);
	return 0;
}

static void a_certificate_says_what_the_ca_decided(void **state)
{
	struct tls_cert_info info;
	char *cert = NULL;
	char *key = NULL;
	int64_t now_s = pki_now_s();

	(void)state;
	pki_issue_pem(&pki, TLS_KIND_NODE, "n1", now_s, &cert, &key);
	assert_int_equal(tls_cert_info(cert, &info, NULL), 0);
	assert_int_equal(info.kind, TLS_KIND_NODE);
	assert_string_equal(info.name, "n1");
	assert_int_equal(info.not_before_s, now_s - 3600);
	assert_int_equal(info.not_after_s, now_s + 2 * DAY_S);
	assert_int_equal(strlen(info.serial), 32);
	assert_int_equal(tls_cert_verify(cert, pki.ca_cert, now_s, NULL), 0);
	assert_int_equal(tls_cert_has_key(cert, key, NULL), 0);
	tls_pem_free(cert);
	tls_pem_free(key);
	assert_int_equal(tls_cert_info(pki.ca_cert, &info, NULL), 0);
	assert_int_equal(info.kind, TLS_KIND_CA);
	assert_string_equal(info.name, "testers");
}

static void each_certificate_has_its_own_serial_and_fingerprint(void **state)
{
	struct tls_cert_info a;
	struct tls_cert_info b;
	char *cert = NULL;
	char *key = NULL;

	(void)state;
	pki_issue_pem(&pki, TLS_KIND_USER, "alice", pki_now_s(), &cert, &key);
	assert_int_equal(tls_cert_info(cert, &a, NULL), 0);
	tls_pem_free(cert);
	tls_pem_free(key);
	pki_issue_pem(&pki, TLS_KIND_USER, "alice", pki_now_s(), &cert, &key);
	assert_int_equal(tls_cert_info(cert, &b, NULL), 0);
	tls_pem_free(cert);
	tls_pem_free(key);
	assert_string_not_equal(a.serial, b.serial);
	assert_memory_not_equal(a.fingerprint, b.fingerprint, sizeof(a.fingerprint));
}

static void verification_refuses_strangers_and_wrong_times(void **state)
{
	struct pki other;
	struct errbuf eb = {0};
	char *cert = NULL;
	char *key = NULL;
	int64_t now_s = pki_now_s();

	(void)state;
	/* Same name, other key: only the signature tells them apart. */
	pki_create(&other, "testers");
	pki_issue_pem(&other, TLS_KIND_NODE, "n1", now_s, &cert, &key);
	assert_int_equal(tls_cert_verify(cert, pki.ca_cert, now_s, &eb), -EKEYREJECTED);
	assert_int_equal(tls_cert_verify(cert, other.ca_cert, now_s, NULL), 0);
	assert_int_equal(tls_cert_verify(cert, other.ca_cert, now_s + 3 * DAY_S, &eb),
	                 -EKEYEXPIRED);
	assert_int_equal(tls_cert_verify(cert, other.ca_cert, now_s - DAY_S, &eb), -EKEYREJECTED);
	assert_int_equal(tls_cert_has_key(cert, pki.ca_key, &eb), -EKEYREJECTED);
	tls_pem_free(cert);
	tls_pem_free(key);
	pki_destroy(&other);
}

static void a_certificate_does_not_outlive_its_ca(void **state)
{
	struct tls_cert_info ca;
	struct tls_cert_info info;
	struct errbuf eb = {0};
	char *cert = NULL;
	char *key = NULL;
	char *csr = NULL;

	(void)state;
	assert_int_equal(tls_cert_info(pki.ca_cert, &ca, NULL), 0);
	pki_issue_pem(&pki, TLS_KIND_NODE, "n1", ca.not_after_s - DAY_S, &cert, &key);
	assert_int_equal(tls_cert_info(cert, &info, NULL), 0);
	assert_int_equal(info.not_after_s, ca.not_after_s);
	tls_pem_free(cert);
	assert_int_equal(tls_csr_create(key, "n1", &csr, NULL), 0);

	const struct tls_issue late = {.ca_cert_pem = pki.ca_cert,
	                               .ca_key_pem = pki.ca_key,
	                               .csr_pem = csr,
	                               .kind = TLS_KIND_NODE,
	                               .name = "n1",
	                               .days = 1,
	                               .now_s = ca.not_after_s};

	assert_int_equal(tls_cert_issue(&late, &cert, &eb), -EKEYEXPIRED);
	assert_null(cert);
	tls_pem_free(csr);
	tls_pem_free(key);
}

static void issuing_refuses_bad_names_days_kinds_and_cas(void **state)
{
	static const char long_name[] =
		"0123456789012345678901234567890123456789012345678901234567890123";
	static const char *const names[] = {
		"",     "a b",       "n1,DNS:evil", "-n1", ".n1",
		"n1\n", "n\xc3\xa4", "a:b",         "a/b", long_name,
	};
	struct errbuf eb = {0};
	char *key = NULL;
	char *csr = NULL;
	char *cert = NULL;

	(void)state;
	assert_int_equal(tls_key_create(&key, NULL), 0);
	assert_int_equal(tls_csr_create(key, "n1", &csr, NULL), 0);

	const struct tls_issue good = {.ca_cert_pem = pki.ca_cert,
	                               .ca_key_pem = pki.ca_key,
	                               .csr_pem = csr,
	                               .kind = TLS_KIND_NODE,
	                               .name = "n1",
	                               .days = 1,
	                               .now_s = pki_now_s()};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct tls_issue issue = good;

		issue.name = names[i];
		assert_int_equal(tls_cert_issue(&issue, &cert, &eb), -EINVAL);
		assert_int_equal(tls_csr_create(key, names[i], &cert, &eb), -EINVAL);
	}

	struct tls_issue issue = good;

	issue.days = 0;
	assert_int_equal(tls_cert_issue(&issue, &cert, &eb), -EINVAL);
	issue.days = TLS_DAYS_MAX + 1;
	assert_int_equal(tls_cert_issue(&issue, &cert, &eb), -EINVAL);
	issue = good;
	issue.kind = TLS_KIND_CA;
	assert_int_equal(tls_cert_issue(&issue, &cert, &eb), -EINVAL);
	issue = good;
	issue.ca_key_pem = key; /* not the CA's */
	assert_int_equal(tls_cert_issue(&issue, &cert, &eb), -EINVAL);
	issue = good;
	issue.ca_cert_pem = "nonsense";
	assert_int_equal(tls_cert_issue(&issue, &cert, &eb), -EINVAL);
	assert_non_null(strstr(eb.text, "cannot read the CA"));
	/* A node's certificate signs nothing. */
	assert_int_equal(tls_cert_issue(&good, &cert, &eb), 0);
	issue = good;
	issue.ca_cert_pem = cert;
	issue.ca_key_pem = key;

	char *forged = NULL;

	assert_int_equal(tls_cert_issue(&issue, &forged, &eb), -EINVAL);
	assert_null(forged);
	tls_pem_free(cert);
	tls_pem_free(csr);
	tls_pem_free(key);
}

/* Bits that turn one letter of base64 into another, and a cut. The others leave no base64. */
static const unsigned char damage[] = {0x01, 0x02, 0x04, 0x20, 0};

static void damage_at(void *at, unsigned char how)
{
	unsigned char *byte = at;

	*byte = how != 0 ? *byte ^ how : '\0';
}

/* Every truncation and every flipped bit of the text: an error or the same identity, no crash. */
static void damaged_requests_are_refused(void **state)
{
	char *key = NULL;
	char *csr = NULL;
	char *cert = NULL;
	unsigned refused = 0;
	unsigned tried = 0;

	(void)state;
	assert_int_equal(tls_key_create(&key, NULL), 0);
	assert_int_equal(tls_csr_create(key, "n1", &csr, NULL), 0);

	size_t len = strlen(csr);
	char *copy = malloc(len + 1);

	assert_non_null(copy);
	for (size_t i = 0; i < len * ARRAY_LEN(damage); i++) {
		size_t at = i / ARRAY_LEN(damage);

		memcpy(copy, csr, len + 1);
		damage_at(&copy[at], damage[i % ARRAY_LEN(damage)]);

		const struct tls_issue issue = {.ca_cert_pem = pki.ca_cert,
		                                .ca_key_pem = pki.ca_key,
		                                .csr_pem = copy,
		                                .kind = TLS_KIND_NODE,
		                                .name = "n1",
		                                .days = 1,
		                                .now_s = pki_now_s()};
		int err = tls_cert_issue(&issue, &cert, NULL);

		tried++;
		refused += err != 0;
		/* What still passes differs in white space or the label only: same key inside. */
		assert_true(err == 0 || err == -EBADMSG);
		if (err == 0) {
			assert_int_equal(tls_cert_has_key(cert, key, NULL), 0);
			tls_pem_free(cert);
		}
	}
	assert_true(refused > tried * 8 / 10);
	free(copy);
	tls_pem_free(csr);
	tls_pem_free(key);
}

static void damaged_certificates_are_refused(void **state)
{
	struct tls_cert_info info;
	char *cert = NULL;
	char *key = NULL;

	(void)state;
	pki_issue_pem(&pki, TLS_KIND_NODE, "n1", pki_now_s(), &cert, &key);

	size_t len = strlen(cert);
	char *copy = malloc(len + 1);

	assert_non_null(copy);
	for (size_t i = 0; i < len * ARRAY_LEN(damage); i++) {
		size_t at = i / ARRAY_LEN(damage);

		memcpy(copy, cert, len + 1);
		damage_at(&copy[at], damage[i % ARRAY_LEN(damage)]);

		int err = tls_cert_info(copy, &info, NULL);

		assert_true(err == 0 || err == -EBADMSG);
		if (tls_cert_verify(copy, pki.ca_cert, pki_now_s(), NULL) == 0) {
			assert_int_equal(err, 0);
			assert_string_equal(info.name, "n1");
		}
	}
	free(copy);
	tls_pem_free(cert);
	tls_pem_free(key);
}

static void renewal_is_due_in_the_last_third(void **state)
{
	struct tls_cert_info info = {.not_before_s = 1000, .not_after_s = 4000};

	(void)state;
	assert_false(tls_cert_renew_due(&info, 1000));
	assert_false(tls_cert_renew_due(&info, 3000));
	assert_true(tls_cert_renew_due(&info, 3001));
	assert_true(tls_cert_renew_due(&info, 9000));
	info.not_after_s = 1000;
	assert_true(tls_cert_renew_due(&info, 0));
}

static int everything(void)
{
	char *ca_key = NULL;
	char *ca = NULL;
	char *key = NULL;
	char *csr = NULL;
	char *cert = NULL;
	int err = tls_ca_create("c", 9, pki_now_s(), &ca_key, &ca, NULL);

	if (err == 0) {
		err = tls_key_create(&key, NULL);
	}
	if (err == 0) {
		err = tls_csr_create(key, "n1", &csr, NULL);
	}
	if (err == 0) {
		const struct tls_issue issue = {.ca_cert_pem = ca,
		                                .ca_key_pem = ca_key,
		                                .csr_pem = csr,
		                                .kind = TLS_KIND_NODE,
		                                .name = "n1",
		                                .days = 1,
		                                .now_s = pki_now_s()};

		err = tls_cert_issue(&issue, &cert, NULL);
	}
	tls_pem_free(ca_key);
	tls_pem_free(ca);
	tls_pem_free(key);
	tls_pem_free(csr);
	tls_pem_free(cert);
	return err;
}

static void every_allocation_failure_is_survived(void **state)
{
	uint32_t k = 1;

	(void)state;
	for (; fault_arm(FAULT_ALLOC, k), everything() == -ENOMEM; k++) {
	}
	assert_false(fault_hit(FAULT_ALLOC));
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_certificate_says_what_the_ca_decided),
		cmocka_unit_test(each_certificate_has_its_own_serial_and_fingerprint),
		cmocka_unit_test(verification_refuses_strangers_and_wrong_times),
		cmocka_unit_test(a_certificate_does_not_outlive_its_ca),
		cmocka_unit_test(issuing_refuses_bad_names_days_kinds_and_cas),
		cmocka_unit_test(damaged_requests_are_refused),
		cmocka_unit_test(damaged_certificates_are_refused),
		cmocka_unit_test(renewal_is_due_in_the_last_third),
		cmocka_unit_test(every_allocation_failure_is_survived),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
