/* SPDX-License-Identifier: Apache-2.0 */

/* ui_progress - how far it is: one line drawn again and again, or now and then a line. */

#include <string.h>

#include "base/ui/ui.h"

#define UI_BAR_COLUMNS 20u
#define UI_BAR_TERMINAL_MIN 60u /* narrower: no bar, the words matter more */
#define UI_FNV_OFFSET 2166136261u
#define UI_FNV_PRIME 16777619u

/* FNV-1a: to see whether the text is another one than before without keeping it. */
static uint32_t ui_text_hash(const char *text)
{
	uint32_t hash = UI_FNV_OFFSET;

	for (; *text != '\0'; text++) {
		hash = (hash ^ (unsigned char)*text) * UI_FNV_PRIME;
	}
	return hash;
}

static void ui_bar(struct ui_buf *out, const struct ui_style *style, int percent)
{
	unsigned full = (unsigned)percent * UI_BAR_COLUMNS / 100;

	ui_buf_add(out, " [");
	for (unsigned i = 0; i < UI_BAR_COLUMNS; i++) {
		if (style->utf8) {
			ui_buf_add(out, i < full ? "\xe2\x96\x88" : "\xe2\x96\x91");
		} else {
			ui_buf_add(out, i < full ? "#" : ".");
		}
	}
	ui_buf_add(out, "]");
}

/* Redraw; the rest of an older, longer line is erased. One column stays free: writing into the
 * last one makes some terminals wrap. */
static void ui_progress_draw(const struct ui_style *style, const struct ui_step *step,
                             struct ui_buf *out)
{
	bool bar = step->percent >= 0 && style->columns >= UI_BAR_TERMINAL_MIN;
	size_t room = style->columns - 1;
	size_t fixed = (bar ? UI_BAR_COLUMNS + 3 : 0) + (step->percent >= 0 ? 5 : 0);
	size_t what_max = room - fixed;

	if (step->detail != NULL && what_max > 30) {
		what_max = what_max * 2 / 3; /* some of it for the detail */
	}
	ui_buf_add(out, "\r");

	size_t used = ui_fit(out, style, step->what, what_max) + fixed;

	if (bar) {
		ui_bar(out, style, step->percent);
	}
	if (step->percent >= 0) {
		ui_buf_addf(out, " %3d%%", step->percent);
	}
	if (step->detail != NULL && used + 4 < room) {
		ui_buf_add(out, "  ");
		(void)ui_fit(out, style, step->detail, room - used - 2);
	}
	ui_buf_add(out, "\033[K");
}

static void ui_progress_line(const struct ui_style *style, const struct ui_step *step,
                             struct ui_buf *out)
{
	(void)ui_fit(out, style, step->what, SIZE_MAX);
	if (step->percent >= 0) {
		ui_buf_addf(out, ": %d%%", step->percent);
	}
	if (step->detail != NULL) {
		ui_buf_add(out, step->percent >= 0 ? ", " : ": ");
		(void)ui_fit(out, style, step->detail, SIZE_MAX);
	}
	ui_buf_add(out, "\n");
}

void ui_progress(struct ui_progress *progress, const struct ui_style *style,
                 const struct ui_step *step, uint64_t now_ns, struct ui_buf *out)
{
	struct ui_step shown = *step;
	uint32_t what = ui_text_hash(step->what);
	bool fresh = !progress->started || what != progress->what;

	shown.percent = step->percent > 100 ? 100 : step->percent < 0 ? -1 : step->percent;
	if (style->columns != 0) {
		if (!fresh && !step->last && now_ns - progress->drawn_ns < UI_PROGRESS_NS) {
			return;
		}
		ui_progress_draw(style, &shown, out);
		progress->drawn = true;
	} else {
		bool further = shown.percent >= progress->percent + UI_PROGRESS_STEP_PERCENT;
		bool done = step->last && shown.percent != progress->percent;

		if (!fresh && !further && !done) {
			return;
		}
		ui_progress_line(style, &shown, out);
	}
	progress->started = true;
	progress->drawn_ns = now_ns;
	progress->percent = shown.percent;
	progress->what = what;
}

void ui_progress_end(struct ui_progress *progress, const struct ui_style *style, bool erase,
                     struct ui_buf *out)
{
	if (progress->drawn && style->columns != 0) {
		ui_buf_add(out, erase ? "\r\033[K" : "\n");
	}
	*progress = (struct ui_progress){0};
}
