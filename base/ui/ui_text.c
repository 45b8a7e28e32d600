/* SPDX-License-Identifier: Apache-2.0 */

/* ui_text - the buffer, colours, and text of a known width. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/text.h"
#include "base/ui/ui.h"
#include "base/ui/ui_int.h"

#define UI_BUF_FIRST 256u

/* ---- the buffer ---- */

static void ui_buf_add_bytes(struct ui_buf *buf, const char *bytes, size_t len)
{
	size_t size = buf->size != 0 ? buf->size : UI_BUF_FIRST;

	if (buf->err != 0) {
		return;
	}
	while (size < buf->len + len + 1) {
		size *= 2;
	}
	if (size != buf->size) {
		char *data = gw_realloc_array(buf->data, size, 1);

		if (data == NULL) {
			buf->err = -ENOMEM;
			return;
		}
		buf->data = data;
		buf->size = size;
	}
	memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void ui_buf_add(struct ui_buf *buf, const char *text)
{
	ui_buf_add_bytes(buf, text, strlen(text));
}

void ui_buf_addf(struct ui_buf *buf, const char *fmt, ...)
{
	char text[512]; /* numbers and words of ours; texts of others go through ui_fit() */
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ui_buf_add(buf, text);
}

int ui_buf_end(struct ui_buf *buf, char **out)
{
	ui_buf_add_bytes(buf, "", 0);

	int err = buf->err;

	*out = NULL;
	if (err == 0) {
		*out = buf->data;
	} else {
		free(buf->data);
	}
	*buf = (struct ui_buf){0};
	return err;
}

void ui_tone(struct ui_buf *buf, const struct ui_style *style, enum ui_tone tone)
{
	static const char *const codes[UI_TONE_COUNT] = {
		[UI_PLAIN] = "\033[0m",  [UI_GOOD] = "\033[32m", [UI_WARN] = "\033[33m",
		[UI_BAD] = "\033[1;31m", [UI_DIM] = "\033[2m",   [UI_TITLE] = "\033[1m",
	};

	if (style->color) {
		ui_buf_add(buf, codes[tone]);
	}
}

void ui_pad(struct ui_buf *buf, size_t columns)
{
	static const char spaces[] = "                                ";

	while (columns != 0) {
		size_t n = columns < sizeof(spaces) - 1 ? columns : sizeof(spaces) - 1;

		ui_buf_add_bytes(buf, spaces, n);
		columns -= n;
	}
}

/* ---- characters ---- */

struct ui_range {
	uint32_t first;
	uint32_t last;
};

/* Ranges rather than tables per character: names of VMs and files, not a typesetter. UAX 11, 44. */
static const struct ui_range ui_zero[] = {
	{0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd}, {0x0610, 0x061a},
	{0x064b, 0x065f}, {0x0e31, 0x0e31}, {0x0e34, 0x0e3a}, {0x0e47, 0x0e4e},
	{0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200d}, {0x2060, 0x2064},
	{0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff},
};

static const struct ui_range ui_wide[] = {
	{0x1100, 0x115f},   {0x231a, 0x231b},   {0x23e9, 0x23ec},   {0x25fd, 0x25fe},
	{0x2614, 0x2615},   {0x2648, 0x2653},   {0x2705, 0x2705},   {0x270a, 0x270b},
	{0x274c, 0x274c},   {0x2753, 0x2757},   {0x2795, 0x2797},   {0x2b1b, 0x2b1c},
	{0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xa960, 0xa97c},   {0xac00, 0xd7a3},
	{0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
	{0x16fe0, 0x18cff}, {0x1b000, 0x1b2ff}, {0x1f004, 0x1f004}, {0x1f0cf, 0x1f0cf},
	{0x1f18e, 0x1f19a}, {0x1f200, 0x1f320}, {0x1f32d, 0x1f64f}, {0x1f680, 0x1f6ff},
	{0x1f7e0, 0x1f7eb}, {0x1f90c, 0x1f9ff}, {0x1fa70, 0x1faff}, {0x20000, 0x3fffd},
};

static bool ui_in(const struct ui_range *ranges, size_t count, uint32_t c)
{
	for (size_t i = 0; i < count && ranges[i].first <= c; i++) {
		if (c <= ranges[i].last) {
			return true;
		}
	}
	return false;
}

/* Controls, and what turns the direction of writing or breaks lines: all that is not shown. */
static bool ui_is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || c == 0x200e || c == 0x200f ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
	       (c >= 0xe0000 && c <= 0xe0fff);
}

/* A valid character of @len bytes, as checked by text_utf8_step(). */
static uint32_t ui_decode(const char *text, size_t len)
{
	const unsigned char *b = (const unsigned char *)text;
	uint32_t c = len == 1 ? b[0] : b[0] & (0xffu >> (len + 1));

	for (size_t i = 1; i < len; i++) {
		c = c << 6 | (b[i] & 0x3f);
	}
	return c;
}

/* What is shown of the character at @text: its bytes and columns. */
struct ui_glyph {
	size_t bytes; /* to go on */
	size_t columns;
	bool bad; /* '?' in its place */
};

static struct ui_glyph ui_glyph_at(const char *text, const struct ui_style *style)
{
	size_t step = text_utf8_step(text, strnlen(text, 4));
	uint32_t c = step != 0 ? ui_decode(text, step) : 0;
	struct ui_glyph glyph = {.bytes = step != 0 ? step : 1, .columns = 1};

	glyph.bad = step == 0 || ui_is_control(c) || (c >= 0x80 && !style->utf8);
	if (!glyph.bad && ui_in(ui_zero, ARRAY_LEN(ui_zero), c)) {
		glyph.columns = 0;
	} else if (!glyph.bad && ui_in(ui_wide, ARRAY_LEN(ui_wide), c)) {
		glyph.columns = 2;
	}
	return glyph;
}

size_t ui_width_bytes(const char *text, size_t len, const struct ui_style *style)
{
	size_t columns = 0;

	for (size_t at = 0; at < len;) {
		struct ui_glyph glyph = ui_glyph_at(text + at, style);

		columns += glyph.columns;
		at += glyph.bytes;
	}
	return columns;
}

size_t ui_width(const char *text, const struct ui_style *style)
{
	return ui_width_bytes(text, strlen(text), style);
}

/* Add characters as long as they fit. Returns the columns used. */
static size_t ui_add_fitting(struct ui_buf *buf, const struct ui_style *style, const char *text,
                             size_t len, size_t columns)
{
	size_t used = 0;

	for (size_t at = 0; at < len;) {
		struct ui_glyph glyph = ui_glyph_at(text + at, style);

		if (glyph.columns > columns - used) {
			break;
		}
		if (glyph.bad) {
			ui_buf_add_bytes(buf, "?", 1);
		} else {
			ui_buf_add_bytes(buf, text + at, glyph.bytes);
		}
		used += glyph.columns;
		at += glyph.bytes;
	}
	return used;
}

void ui_add_bytes(struct ui_buf *buf, const struct ui_style *style, const char *text, size_t len)
{
	(void)ui_add_fitting(buf, style, text, len, SIZE_MAX);
}

size_t ui_fit(struct ui_buf *buf, const struct ui_style *style, const char *text, size_t columns)
{
	size_t len = strlen(text);

	if (columns == 0) {
		return 0;
	}
	if (columns == SIZE_MAX || ui_width_bytes(text, len, style) <= columns) {
		return ui_add_fitting(buf, style, text, len, columns);
	}

	size_t used = ui_add_fitting(buf, style, text, len, columns - 1);

	ui_buf_add(buf, style->utf8 ? "\xe2\x80\xa6" : "~");
	return used + 1;
}
