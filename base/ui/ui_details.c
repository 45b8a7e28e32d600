/* SPDX-License-Identifier: Apache-2.0 */

/* ui_details - properties of one object, and verdict lines. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/ui/ui.h"
#include "base/ui/ui_int.h"

#define UI_KEY_COLUMNS_MAX 30u /* a longer key pushes its value, not everybody's */
#define UI_VALUE_COLUMNS_MIN 20u

struct ui_line {
	struct list link; /* in details->lines */
	char *key;        /* owned; a section's title if value is NULL */
	char *value;      /* owned */
	enum ui_tone tone;
};

struct ui_details {
	struct list lines;
	int err; /* -ENOMEM: lines are missing */
};

int ui_details_create(struct ui_details **out)
{
	struct ui_details *details = gw_calloc(1, sizeof(*details));

	*out = details;
	if (details == NULL) {
		return -ENOMEM;
	}
	list_init(&details->lines);
	return 0;
}

static void ui_line_destroy(struct ui_line *line)
{
	free(line->key);
	free(line->value);
	free(line);
}

void ui_details_destroy(struct ui_details *details)
{
	if (details != NULL) {
		list_for_each_safe(link, &details->lines)
		{
			ui_line_destroy(list_entry(link, struct ui_line, link));
		}
		free(details);
	}
}

static struct ui_line *ui_details_append(struct ui_details *details, const char *key)
{
	struct ui_line *line = details->err == 0 ? gw_calloc(1, sizeof(*line)) : NULL;

	if (line == NULL) {
		details->err = -ENOMEM;
		return NULL;
	}
	list_add_tail(&details->lines, &line->link);
	line->key = gw_strdup(key);
	if (line->key == NULL) {
		details->err = -ENOMEM;
	}
	return line;
}

void ui_details_section(struct ui_details *details, const char *title)
{
	(void)ui_details_append(details, title);
}

void ui_details_add(struct ui_details *details, const char *key, enum ui_tone tone, const char *fmt,
                    ...)
{
	struct ui_line *line = ui_details_append(details, key);
	va_list ap;

	if (line == NULL) {
		return;
	}
	line->tone = tone;
	va_start(ap, fmt);
	if (vasprintf(&line->value, fmt, ap) < 0) {
		line->value = NULL;
		details->err = -ENOMEM;
	}
	va_end(ap);
}

static size_t ui_details_key_columns(const struct ui_details *details, const struct ui_style *style)
{
	size_t columns = 0;

	list_for_each(link, &details->lines)
	{
		const struct ui_line *line = list_entry(link, struct ui_line, link);
		size_t width = line->value != NULL ? ui_width(line->key, style) : 0;

		columns = width > columns ? width : columns;
	}
	return columns < UI_KEY_COLUMNS_MAX ? columns : UI_KEY_COLUMNS_MAX;
}

/*
 * The bytes of @text that go on one line of @columns: up to its break, or, folded, up to the last
 * space that fits; a word that is longer stays whole.
 */
static size_t ui_fold(const char *text, const struct ui_style *style, size_t columns)
{
	size_t end = strcspn(text, "\n");
	size_t width = 0;

	if (style->columns == 0) {
		return end;
	}
	for (size_t at = 0; at < end;) {
		size_t word = at + strspn(text + at, " ");

		word += strcspn(text + word, " \n");
		width += ui_width_bytes(text + at, word - at, style);
		if (width > columns) {
			return at != 0 ? at : word;
		}
		at = word;
	}
	return end;
}

static void ui_value_render(const struct ui_line *line, size_t indent, const struct ui_style *style,
                            struct ui_buf *out)
{
	const char *text = line->value[0] != '\0' ? line->value : "-";
	size_t columns = style->columns > indent + UI_VALUE_COLUMNS_MIN ? style->columns - indent
	                                                                : UI_VALUE_COLUMNS_MIN;

	for (;;) {
		size_t bytes = ui_fold(text, style, columns);

		if (line->tone != UI_PLAIN) {
			ui_tone(out, style, line->tone);
		}
		ui_add_bytes(out, style, text, bytes);
		if (line->tone != UI_PLAIN) {
			ui_tone(out, style, UI_PLAIN);
		}
		ui_buf_add(out, "\n");
		text += bytes;
		if (*text == '\0') {
			return;
		}
		text += *text == '\n' ? 1 : strspn(text, " ");
		ui_pad(out, indent);
	}
}

void ui_details_render(const struct ui_details *details, const struct ui_style *style,
                       struct ui_buf *out)
{
	bool first = true;

	if (details->err != 0) {
		out->err = details->err;
		return;
	}

	size_t keys = ui_details_key_columns(details, style);

	list_for_each(link, &details->lines)
	{
		const struct ui_line *line = list_entry(link, struct ui_line, link);

		if (line->value == NULL && !first) {
			ui_buf_add(out, "\n");
		}
		first = false;
		ui_tone(out, style, line->value == NULL ? UI_TITLE : UI_DIM);

		size_t used = ui_fit(out, style, line->key, SIZE_MAX);

		ui_tone(out, style, UI_PLAIN);
		if (line->value == NULL) {
			ui_buf_add(out, "\n");
			continue;
		}
		ui_pad(out, used < keys ? keys - used + 2 : 2);
		ui_value_render(line, keys + 2, style, out);
	}
}

void ui_verdict(struct ui_buf *out, const struct ui_style *style, enum ui_verdict verdict,
                const char *text, const char *hint)
{
	static const struct {
		const char *word; /* five columns */
		enum ui_tone tone;
	} verdicts[UI_VERDICT_COUNT] = {
		[UI_INFO] = {"info ", UI_PLAIN},
		[UI_OK] = {"ok   ", UI_GOOD},
		[UI_WARNING] = {"warn ", UI_WARN},
		[UI_FAILED] = {"FAIL ", UI_BAD},
	};

	ui_buf_add(out, "  ");
	ui_tone(out, style, verdicts[verdict].tone);
	ui_buf_add(out, verdicts[verdict].word);
	ui_tone(out, style, UI_PLAIN);
	ui_buf_add(out, " ");
	(void)ui_fit(out, style, text, SIZE_MAX);
	ui_buf_add(out, "\n");
	if (hint != NULL && hint[0] != '\0') {
		ui_buf_add(out, "        -> ");
		(void)ui_fit(out, style, hint, SIZE_MAX);
		ui_buf_add(out, "\n");
	}
}
