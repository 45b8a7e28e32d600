/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

/*
 * text - building strings in the caller's memory, text from strangers, and "did you mean".
 *
 * Building never fails: what does not fit is cut at a character's border, the result is always
 * terminated, and .cut says so.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define TEXT_WORD_MAX 63 /* longer words are not compared */

/* Value type: start with text_init(). */
struct text {
	char *buf;   /* borrowed: [size] */
	size_t size; /* >= 1 */
	size_t len;  /* without the NUL */
	bool cut;    /* something did not fit */
};

void text_init(struct text *t, char *buf, size_t size);

/* text_add() - append as printf would. */
void text_add(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
void text_addv(struct text *t, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

/* text_add_clean() - append @bytes[len] from a stranger: control characters and broken UTF-8
 * become '?', so that it cannot forge a line or drive a terminal. */
void text_add_clean(struct text *t, const char *bytes, size_t len);

/*
 * text_utf8_step() - length of the character at the start of @bytes[len].
 * Returns 1..4; 0 for len == 0 and for broken UTF-8 (also overlong forms and surrogates).
 */
size_t text_utf8_step(const char *bytes, size_t len);

/*
 * text_distance() - how many insertions, deletions, replacements and swaps of neighbours make @a
 * into @b (optimal string alignment). Returns UINT32_MAX if one is longer than TEXT_WORD_MAX.
 */
uint32_t text_distance(const char *a, const char *b);

/*
 * text_nearest() - the one of @words[count] that was probably meant by @word, or NULL: one slip
 * in a short word, one more for every four letters; or a word that begins with it.
 */
const char *text_nearest(const char *word, const char *const words[], size_t count);

#endif
