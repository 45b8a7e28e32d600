/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_UI_UI_H
#define BASE_UI_UI_H

/*
 * ui - what a person sees of the command line: tables, details, progress, verdicts.
 *
 * Everything renders into a buffer, as a function of its arguments and a struct ui_style; only
 * ui_style_get() looks at the terminal. Texts may come from anywhere: control characters and
 * broken UTF-8 become '?', so that no name of a VM drives the terminal. Where the output is no
 * terminal nothing is cut, coloured or redrawn. Memory that ran out is told at the end, by
 * ui_buf_end(). Values belong to one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define UI_COLUMNS_PRESET 80u /* a terminal that does not say its width */
#define UI_COLUMNS_MIN 20u

struct ui_style {
	uint32_t columns; /* of the terminal; 0 = no terminal */
	bool utf8;        /* else characters beyond ASCII become '?' */
	bool color;
};

/*
 * ui_style_get() - what the terminal behind @fd can do. Colours: not with NO_COLOR set and not
 * empty, TERM unset or "dumb", or without a terminal. Width: the terminal's, else COLUMNS.
 */
void ui_style_get(int fd, struct ui_style *out);

/* ---- the buffer ---- */

/* Value type: start with {0}. */
struct ui_buf {
	char *data; /* owned; NUL-terminated if not NULL */
	size_t len;
	size_t size;
	int err; /* 0, or -ENOMEM: from then on nothing is added */
};

void ui_buf_add(struct ui_buf *buf, const char *text);
void ui_buf_addf(struct ui_buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * ui_buf_end() - hand the text out, to free(); never NULL on success.
 * Returns 0; -ENOMEM. The buffer is {0} afterwards.
 */
MUST_USE int ui_buf_end(struct ui_buf *buf, char **out);

/* ---- text ---- */

enum ui_tone { UI_PLAIN, UI_GOOD, UI_WARN, UI_BAD, UI_DIM, UI_TITLE, UI_TONE_COUNT };

/* ui_tone() - switch a colour on; UI_PLAIN = off. Adds nothing without colours. */
void ui_tone(struct ui_buf *buf, const struct ui_style *style, enum ui_tone tone);

/* ui_width() - columns that ui_fit() would need for all of @text. */
size_t ui_width(const char *text, const struct ui_style *style);

/*
 * ui_fit() - add @text, made harmless and cut to @columns (SIZE_MAX = whole): what does not fit
 * ends in an ellipsis.
 * Returns the columns used.
 */
size_t ui_fit(struct ui_buf *buf, const struct ui_style *style, const char *text, size_t columns);

/* ui_pad() - add @columns spaces. */
void ui_pad(struct ui_buf *buf, size_t columns);

/* ---- tables ---- */

struct ui_table;

struct ui_column {
	const char *title;
	bool right;           /* numbers */
	uint32_t columns_min; /* may be cut down to this if the terminal is narrow; 0 = never cut */
};

/* ui_table_create() - @columns[count] is borrowed as long as the table lives.
 * Returns 0; -ENOMEM. */
MUST_USE int ui_table_create(const struct ui_column *columns, size_t count, struct ui_table **out);

/* ui_table_destroy() - NULL is fine. */
void ui_table_destroy(struct ui_table *table);

/* ui_table_cell() - the next cell; after the last column a new row begins. Empty = "-". */
void ui_table_cell(struct ui_table *table, enum ui_tone tone, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* ui_table_render() - add the title line and the rows. CHECKs that the last row is complete. */
void ui_table_render(const struct ui_table *table, const struct ui_style *style,
                     struct ui_buf *out);

/* ---- details: one object, a line per property ---- */

struct ui_details;

MUST_USE int ui_details_create(struct ui_details **out);
void ui_details_destroy(struct ui_details *details);

/* ui_details_section() - a heading before the lines that follow. */
void ui_details_section(struct ui_details *details, const char *title);

/* ui_details_add() - a property. Line breaks in the value continue it under itself; an empty key
 * continues the property before. Long values are folded at spaces on a terminal. */
void ui_details_add(struct ui_details *details, const char *key, enum ui_tone tone, const char *fmt,
                    ...) PRINTF_LIKE(4, 5);

void ui_details_render(const struct ui_details *details, const struct ui_style *style,
                       struct ui_buf *out);

/* ---- verdicts ---- */

enum ui_verdict { UI_INFO, UI_OK, UI_WARNING, UI_FAILED, UI_VERDICT_COUNT };

/* ui_verdict() - "  ok    text", and under it "-> hint" if there is one ("" or NULL = none). */
void ui_verdict(struct ui_buf *out, const struct ui_style *style, enum ui_verdict verdict,
                const char *text, const char *hint);

/* ---- progress ---- */

#define UI_PROGRESS_NS (100ull * 1000 * 1000) /* no faster: nobody can read it */
#define UI_PROGRESS_STEP_PERCENT 10           /* a line each, where nothing can be redrawn */

/* Value type: start with {0}. */
struct ui_progress {
	bool drawn; /* a line stands in the terminal and is not finished */
	bool started;
	uint64_t drawn_ns;
	int percent;   /* last shown */
	uint32_t what; /* hash of what was last shown */
};

struct ui_step {
	const char *what;   /* "moving web1 to n2" */
	int percent;        /* 0..100; -1 = nobody knows */
	const char *detail; /* "1.2 GiB/s, 12s left"; NULL = none */
	bool last;
};

/*
 * ui_progress() - add what to write now, perhaps nothing: on a terminal the line is drawn again,
 * elsewhere a line is added for each UI_PROGRESS_STEP_PERCENT and each new "what".
 * @now_ns: a clock that does not jump.
 */
void ui_progress(struct ui_progress *progress, const struct ui_style *style,
                 const struct ui_step *step, uint64_t now_ns, struct ui_buf *out);

/* ui_progress_end() - leave the line as it stands, or, with @erase, remove it. */
void ui_progress_end(struct ui_progress *progress, const struct ui_style *style, bool erase,
                     struct ui_buf *out);

#endif
