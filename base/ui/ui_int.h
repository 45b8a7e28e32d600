/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_UI_UI_INT_H
#define BASE_UI_UI_INT_H

/* As ui_width() and ui_fit() without a limit, for @text[len], which ends between characters. */

#include <stddef.h>

struct ui_buf;
struct ui_style;

size_t ui_width_bytes(const char *text, size_t len, const struct ui_style *style);
void ui_add_bytes(struct ui_buf *buf, const struct ui_style *style, const char *text, size_t len);

#endif
