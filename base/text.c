/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

void text_init(struct text *t, char *buf, size_t size)
{
	CHECK(size != 0);
	buf[0] = '\0';
	*t = (struct text){.buf = buf, .size = size};
}

/* The last character may have been cut in the middle: take the rest of it away. */
static void text_trim(struct text *t)
{
	size_t start = t->len;

	while (start > 0 && t->len - start < 3 &&
	       ((unsigned char)t->buf[start - 1] & 0xc0) == 0x80) {
		start--;
	}
	if (start > 0 && ((unsigned char)t->buf[start - 1] & 0xc0) == 0xc0) {
		start--;
		if (text_utf8_step(t->buf + start, t->len - start) == 0) {
			t->len = start;
			t->buf[start] = '\0';
		}
	}
}

void text_addv(struct text *t, const char *fmt, va_list ap)
{
	size_t room = t->size - t->len;
	int n = vsnprintf(t->buf + t->len, room, fmt, ap);

	if (n < 0) {
		t->buf[t->len] = '\0';
		t->cut = true;
	} else if ((size_t)n >= room) {
		t->len = t->size - 1;
		t->cut = true;
		text_trim(t);
	} else {
		t->len += (size_t)n;
	}
}

void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	text_addv(t, fmt, ap);
	va_end(ap);
}

void text_add_clean(struct text *t, const char *bytes, size_t len)
{
	while (len != 0) {
		size_t step = text_utf8_step(bytes, len);
		/* C1 controls, U+0080..U+009f, too: some terminals obey them. */
		bool bad = step == 0 ||
		           (step == 1 && ((unsigned char)*bytes < 0x20 || *bytes == 0x7f)) ||
		           (step == 2 && (unsigned char)bytes[0] == 0xc2 &&
		            (unsigned char)bytes[1] < 0xa0);
		size_t used = step == 0 ? 1 : step;

		if (t->size - t->len <= (bad ? 1 : used)) {
			t->cut = true;
			return;
		}
		if (bad) {
			t->buf[t->len++] = '?';
		} else {
			memcpy(t->buf + t->len, bytes, used);
			t->len += used;
		}
		t->buf[t->len] = '\0';
		bytes += used;
		len -= used;
	}
}

size_t text_utf8_step(const char *bytes, size_t len)
{
	/* By first byte: how many follow, and the least code point that needs so many. */
	static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *)bytes;

	if (len == 0) {
		return 0;
	}
	if (p[0] < 0x80) {
		return 1;
	}

	size_t more = p[0] >= 0xf0 ? 3 : p[0] >= 0xe0 ? 2 : 1;

	if (p[0] < 0xc2 || p[0] > 0xf4 || len <= more) {
		return 0;
	}

	uint32_t code = p[0] & (0x3fu >> more);

	for (size_t i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			return 0;
		}
		code = code << 6 | (p[i] & 0x3fu);
	}
	if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
		return 0;
	}
	return more + 1;
}

static uint32_t text_min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

uint32_t text_distance(const char *a, const char *b)
{
	uint32_t rows[3][TEXT_WORD_MAX + 1]; /* a swap looks two rows up */
	size_t a_len = strnlen(a, TEXT_WORD_MAX + 1);
	size_t b_len = strnlen(b, TEXT_WORD_MAX + 1);

	if (a_len > TEXT_WORD_MAX || b_len > TEXT_WORD_MAX) {
		return UINT32_MAX;
	}
	for (uint32_t j = 0; j <= b_len; j++) {
		rows[0][j] = j;
	}
	for (uint32_t i = 1; i <= a_len; i++) {
		uint32_t *row = rows[i % 3];
		const uint32_t *up = rows[(i + 2) % 3];
		const uint32_t *up2 = rows[(i + 1) % 3];

		row[0] = i;
		for (uint32_t j = 1; j <= b_len; j++) {
			uint32_t replace = up[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);

			row[j] = text_min(replace, text_min(up[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				row[j] = text_min(row[j], up2[j - 2] + 1);
			}
		}
	}
	return rows[a_len % 3][b_len];
}

const char *text_nearest(const char *word, const char *const words[], size_t count)
{
	const char *best = NULL;
	uint32_t best_distance = UINT32_MAX;
	size_t word_len = strlen(word);

	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(words[i]);
		uint32_t distance = text_distance(word, words[i]);
		size_t limit = 1 + (word_len > len ? word_len : len) / 4;

		if (distance >= word_len || distance >= len) { /* nothing in common */
			distance = UINT32_MAX;
		}
		if (word_len != 0 && word_len < len && strncmp(word, words[i], word_len) == 0) {
			distance = 1;
		}
		if (distance <= limit && distance < best_distance) {
			best = words[i];
			best_distance = distance;
		}
	}
	return best;
}
