/* SPDX-License-Identifier: Apache-2.0 */

/* ui_table - columns as wide as they must be, cut where they may be. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/ui/ui.h"

#define UI_GAP 2u
#define UI_TABLE_COLUMNS_MAX 32u
#define UI_CELLS_FIRST 64u

struct ui_cell {
	char *text; /* owned */
	enum ui_tone tone;
};

struct ui_table {
	const struct ui_column *columns; /* borrowed */
	size_t column_count;
	struct ui_cell *cells; /* owned; row by row */
	size_t cell_count;
	size_t cell_size;
	int err; /* -ENOMEM: cells are missing */
};

int ui_table_create(const struct ui_column *columns, size_t count, struct ui_table **out)
{
	struct ui_table *table = gw_calloc(1, sizeof(*table));

	CHECK(count != 0 && count <= UI_TABLE_COLUMNS_MAX);
	*out = table;
	if (table == NULL) {
		return -ENOMEM;
	}
	table->columns = columns;
	table->column_count = count;
	return 0;
}

void ui_table_destroy(struct ui_table *table)
{
	if (table != NULL) {
		for (size_t i = 0; i < table->cell_count; i++) {
			free(table->cells[i].text);
		}
		free(table->cells);
		free(table);
	}
}

static int ui_table_grow(struct ui_table *table)
{
	size_t size = table->cell_size != 0 ? table->cell_size * 2 : UI_CELLS_FIRST;

	if (table->cell_count < table->cell_size) {
		return 0;
	}

	struct ui_cell *cells = gw_realloc_array(table->cells, size, sizeof(*cells));

	if (cells == NULL) {
		return -ENOMEM;
	}
	table->cells = cells;
	table->cell_size = size;
	return 0;
}

void ui_table_cell(struct ui_table *table, enum ui_tone tone, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (table->err != 0 || ui_table_grow(table) != 0 || vasprintf(&text, fmt, ap) < 0) {
		table->err = -ENOMEM;
		text = NULL;
	}
	va_end(ap);
	if (text != NULL) {
		table->cells[table->cell_count++] = (struct ui_cell){.text = text, .tone = tone};
	}
}

static const char *ui_cell_text(const struct ui_cell *cell)
{
	return cell->text[0] != '\0' ? cell->text : "-";
}

/* Take columns from the widest that may give, one by one, until all fit or nobody gives. */
static void ui_table_shrink(const struct ui_table *table, size_t *widths, size_t available)
{
	size_t total = UI_GAP * (table->column_count - 1);

	for (size_t c = 0; c < table->column_count; c++) {
		total += widths[c];
	}
	while (total > available) {
		size_t widest = SIZE_MAX;

		for (size_t c = 0; c < table->column_count; c++) {
			uint32_t min = table->columns[c].columns_min;

			if (min != 0 && widths[c] > min &&
			    (widest == SIZE_MAX || widths[c] > widths[widest])) {
				widest = c;
			}
		}
		if (widest == SIZE_MAX) {
			return;
		}
		widths[widest]--;
		total--;
	}
}

static void ui_table_measure(const struct ui_table *table, const struct ui_style *style,
                             size_t *widths)
{
	for (size_t c = 0; c < table->column_count; c++) {
		widths[c] = ui_width(table->columns[c].title, style);
	}
	for (size_t i = 0; i < table->cell_count; i++) {
		size_t width = ui_width(ui_cell_text(&table->cells[i]), style);
		size_t c = i % table->column_count;

		widths[c] = width > widths[c] ? width : widths[c];
	}
	if (style->columns != 0) {
		ui_table_shrink(table, widths, style->columns);
	}
}

/* One cell and the gap before it. Spaces at the end of a line are nobody's. */
static void ui_table_put(const struct ui_table *table, size_t c, const size_t *widths,
                         const char *text, enum ui_tone tone, const struct ui_style *style,
                         struct ui_buf *out)
{
	size_t width = ui_width(text, style);
	size_t pad = width < widths[c] ? widths[c] - width : 0;

	ui_pad(out, (c != 0 ? UI_GAP : 0) + (table->columns[c].right ? pad : 0));
	if (tone != UI_PLAIN) {
		ui_tone(out, style, tone);
	}

	size_t used = ui_fit(out, style, text, widths[c]);

	if (tone != UI_PLAIN) {
		ui_tone(out, style, UI_PLAIN);
	}
	if (c + 1 == table->column_count) {
		ui_buf_add(out, "\n");
	} else {
		/* Right of numbers too: a wide character may leave a column free at the cut. */
		ui_pad(out, widths[c] - used - (table->columns[c].right ? pad : 0));
	}
}

void ui_table_render(const struct ui_table *table, const struct ui_style *style, struct ui_buf *out)
{
	size_t widths[UI_TABLE_COLUMNS_MAX];

	if (table->err != 0) {
		out->err = table->err;
		return;
	}
	CHECK(table->cell_count % table->column_count == 0);
	ui_table_measure(table, style, widths);
	for (size_t c = 0; c < table->column_count; c++) {
		ui_table_put(table, c, widths, table->columns[c].title, UI_TITLE, style, out);
	}
	for (size_t i = 0; i < table->cell_count; i++) {
		ui_table_put(table, i % table->column_count, widths, ui_cell_text(&table->cells[i]),
		             table->cells[i].tone, style, out);
	}
}
