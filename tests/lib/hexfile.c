/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/hexfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define HEXFILE_BYTES_MAX (1u << 30)

static uint8_t hexfile_byte(const char *digits)
{
	char pair[3] = {digits[0], digits[1], '\0'};
	char *end;
	unsigned long value = strtoul(pair, &end, 16);

	CHECK(end == pair + 2);
	return (uint8_t)value;
}

static void hexfile_line(char *line, uint8_t *buf, size_t len)
{
	char *text;
	size_t at = strtoull(line, &text, 16);
	char *star = strchr(text, '*');

	text += strspn(text, " ");
	if (star != NULL) {
		size_t count = strtoull(star + 1, NULL, 16);

		CHECK(at <= len && count <= len - at);
		memset(buf + at, hexfile_byte(text), count);
		return;
	}
	for (; text[0] != '\n' && text[0] != '\0'; text += 2) {
		CHECK(at < len);
		buf[at++] = hexfile_byte(text);
	}
}

uint8_t *hexfile_load(const char *path, size_t *len_bytes)
{
	FILE *f = fopen(path, "re");
	uint8_t *buf = NULL;
	char line[4096];

	CHECK(f != NULL);
	*len_bytes = 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (line[0] == '#') {
			continue;
		}
		if (buf == NULL) {
			CHECK(strncmp(line, "size ", 5) == 0);
			*len_bytes = strtoull(line + 5, NULL, 16);
			CHECK(*len_bytes <= HEXFILE_BYTES_MAX);
			buf = calloc(1, *len_bytes);
			CHECK(buf != NULL);
			continue;
		}
		hexfile_line(line, buf, *len_bytes);
	}
	CHECK(buf != NULL && ferror(f) == 0);
	(void)fclose(f);
	return buf;
}
