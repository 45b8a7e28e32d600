/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes: the parser keeps its limits; what it accepts prints, and parses back as equal. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* NOLINTNEXTLINE(misc-no-recursion): the parser has bounded the depth */
static uint32_t depth_of(const json_t *value)
{
	uint32_t deepest = 0;
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_object(value)) {
		json_object_foreach((json_t *)(uintptr_t)value, key, member)
		{
			uint32_t depth = depth_of(member);

			(void)key;
			deepest = depth > deepest ? depth : deepest;
		}
	} else if (json_is_array(value)) {
		json_array_foreach(value, i, member)
		{
			uint32_t depth = depth_of(member);

			deepest = depth > deepest ? depth : deepest;
		}
	} else {
		return 0;
	}
	return deepest + 1;
}

/* The getters on whatever is there: errors must be clean text. */
static void read_members(const json_t *value)
{
	static const char *const words[] = {"off", "running", "name"};
	struct json_at at = json_root(value, "root");
	struct json_at member;
	struct errbuf eb = {0};
	const char *text = "";
	uint64_t number = 3;
	size_t word = 0;
	int err = json_get_str(&at, "name", 16, &text, &eb);

	CHECK(err == 0 ? strlen(text) <= 16 : err == -EINVAL);
	err = json_opt_u64(&at, "size", 2, 5, &number, &eb);
	CHECK((err == 0 || err == -EINVAL) && number >= 2 && number <= 5);
	err = json_opt_word(&at, "state", words, 3, &word, &eb);
	CHECK((err == 0 || err == -EINVAL) && word < 3);
	if (json_get_array(&at, "disks", 8, &member, &eb) == 0 &&
	    json_array_size(member.value) > 0) {
		struct json_at last = json_element(&member, json_array_size(member.value) - 1);

		err = json_check_members(&last, words, 3, &eb);
		CHECK(err == 0 || err == -EINVAL);
	}
	err = json_check_members(&at, words, 3, &eb);
	CHECK(err == 0 || err == -EINVAL);
	for (const char *p = eb.text; *p != '\0'; p++) {
		CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct json_limits limits = {.bytes_max = 4096, .depth_max = 8, .values_max = 256};
	struct errbuf eb = {0};
	struct json_build b;
	json_t *value;
	json_t *back;
	int err = json_parse(data, len, &limits, &value, &eb);

	CHECK((err == 0) == (value != NULL));
	CHECK(err == 0 || err == -EBADMSG || err == -E2BIG);
	for (const char *p = eb.text; *p != '\0'; p++) {
		CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
	}
	if (err == 0) {
		char *text = json_text(value, len % 2 != 0 ? JSON_TEXT_PRETTY : JSON_TEXT_SORTED);

		CHECK(depth_of(value) <= limits.depth_max);
		CHECK(text != NULL && json_parse(text, strlen(text), NULL, &back, &eb) == 0);
		CHECK(json_equal(value, back));
		read_members(value);
		json_decref(back);
		free(text);
	}
	json_decref(value);

	/* The same bytes as text of a stranger. */
	json_build_array(&b);
	json_add_strn(&b, NULL, (const char *)data, len);
	CHECK(json_build_end(&b, &value) == 0);
	json_decref(value);
	return 0;
}
