/* SPDX-License-Identifier: Apache-2.0 */
#include "base/guid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"

/* The byte of struct guid that the n-th pair of digits stands for. */
static const uint8_t guid_order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

/* Is there a '-' before the n-th pair? */
static bool guid_dash(unsigned pair)
{
	return pair == 4 || pair == 6 || pair == 8 || pair == 10;
}

bool guid_equal(const struct guid *a, const struct guid *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool guid_is_nil(const struct guid *guid)
{
	static const struct guid nil;

	return guid_equal(guid, &nil);
}

void guid_random(struct guid *out)
{
	/* 16 bytes come whole or not at all, and at boot the call waits for the first entropy. */
	while (getrandom(out->b, sizeof(out->b), 0) != (ssize_t)sizeof(out->b)) {
		CHECK(errno == EINTR);
	}
	out->b[7] = (uint8_t)((out->b[7] & 0x0f) | 0x40); /* version 4, in the third field */
	out->b[8] = (uint8_t)((out->b[8] & 0x3f) | 0x80); /* variant of the RFC */
}

const char *guid_format(const struct guid *guid, char text[GUID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char *p = text;

	for (unsigned pair = 0; pair < 16; pair++) {
		uint8_t byte = guid->b[guid_order[pair]];

		if (guid_dash(pair)) {
			*p++ = '-';
		}
		*p++ = digits[byte >> 4];
		*p++ = digits[byte & 0x0f];
	}
	*p = '\0';
	return text;
}

static int guid_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return -1;
}

int guid_parse(const char *text, struct guid *out)
{
	struct guid guid;
	bool brace = *text == '{';

	text += brace;
	for (unsigned pair = 0; pair < 16; pair++) {
		if (guid_dash(pair) && *text++ != '-') {
			return -EINVAL;
		}

		int high = guid_digit(text[0]);
		int low = high < 0 ? -1 : guid_digit(text[1]);

		if (low < 0) {
			return -EINVAL;
		}
		guid.b[guid_order[pair]] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if ((brace && *text++ != '}') || *text != '\0') {
		return -EINVAL;
	}
	*out = guid;
	return 0;
}
