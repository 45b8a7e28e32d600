/* SPDX-License-Identifier: Apache-2.0 */

/* ui_style - the only part of the user interface that looks at the terminal and the environment. */

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/ui/ui.h"

#define UI_COLUMNS_MAX 1000u

/* "" if it is not set: NO_COLOR asks for no more difference. */
static const char *ui_env(const char *name)
{
	const char *value = getenv(name);

	return value != NULL ? value : "";
}

/* The first of these that is set decides, as for setlocale(). */
static bool ui_locale_is_utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *value = ui_env(names[i]);

		if (value[0] != '\0') {
			return strcasestr(value, "UTF-8") != NULL ||
			       strcasestr(value, "UTF8") != NULL;
		}
	}
	return false;
}

static uint32_t ui_terminal_columns(int fd)
{
	struct winsize size;
	const char *columns = getenv("COLUMNS");
	unsigned long n = UI_COLUMNS_PRESET;

	if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col != 0) {
		n = size.ws_col;
	} else if (columns != NULL) {
		n = strtoul(columns, NULL, 10);
		n = n != 0 ? n : UI_COLUMNS_PRESET;
	}
	return n < UI_COLUMNS_MIN   ? UI_COLUMNS_MIN
	       : n > UI_COLUMNS_MAX ? UI_COLUMNS_MAX
	                            : (uint32_t)n;
}

void ui_style_get(int fd, struct ui_style *out)
{
	const char *term = ui_env("TERM");

	if (!isatty(fd)) {
		*out = (struct ui_style){.utf8 = true}; /* as it is, for whoever reads it */
		return;
	}
	out->columns = ui_terminal_columns(fd);
	out->utf8 = ui_locale_is_utf8();
	out->color = ui_env("NO_COLOR")[0] == '\0' && term[0] != '\0' && strcmp(term, "dumb") != 0;
}
