/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/fence_dev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/tls_seal.h"
#include "tests/lib/test.h"

static struct tls_seal key(uint8_t first)
{
	return (struct tls_seal){.key = {first, 1, 2, 3}};
}

static json_t *wish(const char *more)
{
	char text[700];
	json_t *out = NULL;

	(void)snprintf(text, sizeof(text),
	               "{\"node\":\"n2\",\"agent\":\"fence_ipmilan\",\"options\":{\"ip\":\"192.0.2."
	               "7\",\"lanplus\":\"1\"}%s}",
	               more);
	assert_int_equal(json_parse(text, strlen(text), NULL, &out, NULL), 0);
	return out;
}

static json_t *made(const char *more)
{
	struct tls_seal seal = key(7);
	json_t *w = wish(more);
	json_t *doc = NULL;

	assert_int_equal(fence_dev_make(w, "pdu2", "uuid-2", &seal, &doc, NULL), 0);
	json_decref(w);
	return doc;
}

static void secrets_are_sealed_and_only_its_agent_reads_them(void **state)
{
	json_t *doc = made(",\"level\":2,\"secrets\":{\"passwd\":\"a secret=1\"}");
	char *text = json_text(doc, JSON_TEXT_SORTED);
	struct tls_seal seal = key(7);
	struct tls_seal other = key(8);
	struct fence_dev dev;
	char *options = NULL;
	json_t *shown;

	(void)state;
	assert_null(strstr(text, "a secret"));
	free(text);
	assert_int_equal(fence_dev_decode(doc, &dev, NULL), 0);
	assert_string_equal(dev.node, "n2");
	assert_string_equal(dev.uuid, "uuid-2");
	assert_int_equal(dev.level, 1);
	assert_int_equal(fence_dev_options(&dev, "pdu2", &seal, &options, NULL), 0);
	assert_string_equal(options, "ip=192.0.2.7\nlanplus=1\npasswd=a secret=1\n");
	fence_dev_wipe(options);
	/* Another cluster's key, another device's name. */
	assert_int_equal(fence_dev_options(&dev, "pdu2", &other, &options, NULL), -EBADMSG);
	assert_int_equal(fence_dev_options(&dev, "pdu3", &seal, &options, NULL), -EBADMSG);
	assert_null(options);
	shown = fence_dev_show(doc, "pdu2");
	text = json_text(shown, JSON_TEXT_SORTED);
	assert_string_equal(text, "{\"agent\":\"fence_ipmilan\",\"level\":2,\"name\":\"pdu2\","
	                          "\"node\":\"n2\",\"options\":{\"ip\":\"192.0.2.7\",\"lanplus\":"
	                          "\"1\"},\"secrets\":[\"passwd\"]}");
	free(text);
	json_decref(shown);
	json_decref(doc);
}

static void what_makes_no_sense_is_refused_and_says_no_secret(void **state)
{
	static const struct {
		const char *more;
		const char *says;
	} bad[] = {
		{",\"options2\":{}", "options2"},
		{",\"level\":4", "level"},
		{",\"level\":0", "level"},
		{",\"secrets\":{\"ip\":\"hush-hush\"}", "ip is there as an option and as a secret"},
		{",\"secrets\":{\"passwd\":\"hush-hush\\naction=on\"}", "passwd: not one line"},
		{",\"secrets\":{\"pass wd\":\"hush-hush\"}", "is no option"},
		{",\"secrets\":{\"passwd\":7}", "passwd: not one line"},
		{",\"secrets\":{\"action\":\"on\"}", "\"action\" is not an option"},
		{",\"secrets\":[]", "no object"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct tls_seal seal = key(7);
		struct errbuf eb = {0};
		json_t *w = wish(bad[i].more);
		json_t *doc = NULL;

		assert_int_equal(fence_dev_make(w, "pdu2", "u", &seal, &doc, &eb), -EINVAL);
		assert_null(doc);
		assert_non_null(strstr(eb.text, bad[i].says));
		assert_null(strstr(eb.text, "hush"));
		json_decref(w);
	}
}

static void passwords_do_not_go_among_what_is_shown(void **state)
{
	static const char *const secret[] = {"passwd", "password", "snmp_priv_passwd", "token",
	                                     "community"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(secret); i++) {
		struct tls_seal seal = key(7);
		struct errbuf eb = {0};
		json_t *doc = NULL;
		json_t *w = json_pack("{s:s,s:s,s:{s:s}}", "node", "n2", "agent", "fence_apc",
		                      "options", secret[i], "hush-hush");

		assert_int_equal(fence_dev_make(w, "pdu2", "u", &seal, &doc, &eb), -EINVAL);
		assert_non_null(strstr(eb.hint, "--secrets"));
		assert_null(strstr(eb.text, "hush"));
		json_decref(w);
	}
}

static void documents_of_another_shape_are_refused(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"node\":\"n2\",\"uuid\":\"u\",\"agent\":\"fence_a\",\"level\":1}",
		"{\"node\":\"n2\",\"uuid\":\"u\",\"agent\":\"fence_a\",\"level\":9,\"options\":{}}",
		"{\"node\":\"n2\",\"uuid\":\"u\",\"agent\":\"fence_a\",\"level\":1,\"options\":[]}",
		"{\"node\":\"n\",\"uuid\":\"u\",\"agent\":\"f\",\"level\":1,\"options\":{\"a\":7}}",
		"{\"node\":2,\"uuid\":\"u\",\"agent\":\"fence_a\",\"level\":1,\"options\":{}}",
	};
	struct fence_dev dev;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		json_t *doc = NULL;

		assert_int_equal(json_parse(bad[i], strlen(bad[i]), NULL, &doc, NULL), 0);
		assert_int_equal(fence_dev_decode(doc, &dev, NULL), -EINVAL);
		json_decref(doc);
	}
}

static void names_are_plain(void **state)
{
	(void)state;
	assert_int_equal(fence_dev_name_check("ipmi-n2.rack_1", NULL), 0);
	assert_int_equal(fence_dev_name_check("", NULL), -EINVAL);
	assert_int_equal(fence_dev_name_check("-a", NULL), -EINVAL);
	assert_int_equal(fence_dev_name_check("a/b", NULL), -EINVAL);
	assert_int_equal(fence_dev_name_check("a b", NULL), -EINVAL);
}

static void running_out_of_memory_leaves_nothing(void **state)
{
	json_t *w = wish(",\"secrets\":{\"passwd\":\"tiger42\"}");

	(void)state;
	for (uint32_t k = 1;; k++) {
		struct tls_seal seal = key(7);
		json_t *doc = NULL;

		fault_arm(FAULT_ALLOC, k);
		int err = fence_dev_make(w, "pdu2", "u", &seal, &doc, NULL);

		fault_arm(FAULT_ALLOC, 0);
		assert_true(err == 0 || err == -ENOMEM);
		json_decref(doc);
		if (err == 0) {
			break;
		}
	}
	json_decref(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secrets_are_sealed_and_only_its_agent_reads_them),
		cmocka_unit_test(what_makes_no_sense_is_refused_and_says_no_secret),
		cmocka_unit_test(passwords_do_not_go_among_what_is_shown),
		cmocka_unit_test(documents_of_another_shape_are_refused),
		cmocka_unit_test(names_are_plain),
		cmocka_unit_test(running_out_of_memory_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
