/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/args.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

int args_parse(struct args *a, const char *line, char separator)
{
	const size_t len = strcspn(line, "\r\n");
	bool inside = false;

	if (len >= sizeof(a->text)) {
		return -E2BIG;
	}
	memcpy(a->text, line, len);
	a->text[len] = 0;
	a->count = 0;
	for (char *p = a->text; *p; p++) {
		if (*p == ' ' || *p == '\t' || *p == separator) {
			*p = 0;
			inside = false;
		} else if (!inside) {
			if (a->count == ARGS_WORDS_MAX) {
				return -E2BIG;
			}
			a->word[a->count++] = p;
			inside = true;
		}
	}
	return a->count > 0 ? 0 : -ENOMSG;
}

bool args_is(const struct args *a, uint32_t at, const char *word)
{
	return at < a->count && strcmp(a->word[at], word) == 0;
}

const char *args_text(const struct args *a, const char *key, const char *otherwise)
{
	const size_t len = strlen(key);

	for (uint32_t i = 0; i < a->count; i++) {
		if (strncmp(a->word[i], key, len) == 0 && a->word[i][len] == '=') {
			return a->word[i] + len + 1;
		}
	}
	return otherwise;
}

static uint64_t unit(char c)
{
	switch (c) {
	case 'K':
		return 1ULL << 10;
	case 'M':
		return 1ULL << 20;
	case 'G':
		return 1ULL << 30;
	default:
		return 0;
	}
}

int args_number(const struct args *a, const char *key, uint64_t otherwise, uint64_t max,
                uint64_t *out)
{
	const char *text = args_text(a, key, NULL);
	uint64_t value = 0;

	if (!text) {
		*out = otherwise;
		return 0;
	}
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		const uint64_t digit = (uint64_t)(*p - '0');

		if (value > (UINT64_MAX - digit) / 10) {
			return -ERANGE;
		}
		value = value * 10 + digit;
	}
	if (p == text) {
		return -EINVAL;
	}
	if (*p) {
		const uint64_t factor = unit(*p);

		if (factor == 0 || p[1]) {
			return -EINVAL;
		}
		if (value > UINT64_MAX / factor) {
			return -ERANGE;
		}
		value *= factor;
	}
	if (value > max) {
		return -ERANGE;
	}
	*out = value;
	return 0;
}
