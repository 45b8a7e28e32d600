/* SPDX-License-Identifier: Apache-2.0 */
/* How answers and errors leave the program. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/api/api.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/text.h"
#include "base/ui/ui.h"
#include "bin/godwit/godwit.h"

#define LINE_MAX_BYTES 2048 /* longer lines are cut: nobody reads them */

void godwit_json(const struct cli_call *call, const json_t *json)
{
	char *text = json_text(json, JSON_TEXT_PRETTY);

	if (text == NULL) {
		(void)fprintf(call->err, "godwit: out of memory\n");
		return;
	}
	(void)fprintf(call->out, "%s\n", text);
	free(text);
}

int godwit_print(const struct cli_call *call, struct ui_buf *buf)
{
	struct errbuf eb = {0};
	char *text;
	int err = ui_buf_end(buf, &text);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	(void)fputs(text, call->out);
	free(text);
	return CLI_DONE;
}

int godwit_table(const struct cli_call *call, struct ui_table *table)
{
	struct ui_style style;
	struct ui_buf buf = {0};

	ui_style_get(fileno(call->out), &style);
	ui_table_render(table, &style, &buf);
	ui_table_destroy(table);
	return godwit_print(call, &buf);
}

int godwit_fail(const struct cli_call *call, int err, const struct errbuf *eb)
{
	struct api_error error;
	char *text = NULL;
	json_t *json;

	if (!cli_flag(call, "json", false)) {
		return cli_fail(call, err, eb);
	}
	api_error_from(&error, err, eb);
	json = api_error_json(&error);
	text = json != NULL ? json_text(json, 0) : NULL;
	(void)fprintf(call->err, "%s\n",
	              text != NULL ? text : "{\"error\":{\"code\":\"no-memory\"}}");
	free(text);
	json_decref(json);
	return err == -ETIMEDOUT ? CLI_TIMEOUT : CLI_FAILED;
}

int godwit_finish(const struct cli_call *call, int err, json_t *answer, const struct errbuf *eb,
                  void (*put)(const struct cli_call *call, const json_t *answer))
{
	if (err < 0) {
		return godwit_fail(call, err, eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, answer);
	} else {
		put(call, answer);
	}
	json_decref(answer);
	return CLI_DONE;
}

/* As vfprintf(), of what may stand on a terminal. */
static PRINTF_LIKE(2, 0) void put_args(FILE *out, const char *fmt, va_list ap)
{
	char text[LINE_MAX_BYTES];
	char clean[LINE_MAX_BYTES];
	struct text t;

	(void)vsnprintf(text, sizeof(text), fmt, ap);
	text_init(&t, clean, sizeof(clean));
	text_add_clean(&t, text, strlen(text));
	(void)fputs(clean, out);
}

void godwit_note(const struct cli_call *call, const char *fmt, ...)
{
	va_list ap;

	if (cli_flag(call, "quiet", false)) {
		return;
	}
	(void)fputs("godwit: ", call->err);
	va_start(ap, fmt);
	put_args(call->err, fmt, ap);
	va_end(ap);
	(void)fputc('\n', call->err);
}

void godwit_put(const struct cli_call *call, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_args(call->out, fmt, ap);
	va_end(ap);
}

void godwit_end(const struct cli_call *call)
{
	(void)fputc('\n', call->out);
}

void godwit_say(const struct cli_call *call, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_args(call->out, fmt, ap);
	va_end(ap);
	godwit_end(call);
}

void godwit_colour(const struct cli_call *call, enum godwit_colour colour)
{
	static const char *const codes[] = {
		[COLOUR_NONE] = "\033[0m",   [COLOUR_GOOD] = "\033[32m", [COLOUR_WARN] = "\033[33m",
		[COLOUR_BAD] = "\033[1;31m", [COLOUR_TITLE] = "\033[1m",
	};
	const char *no = getenv("NO_COLOR");
	const char *term = getenv("TERM");
	int fd = fileno(call->out);

	if (fd >= 0 && isatty(fd) && (no == NULL || no[0] == '\0') && term != NULL &&
	    strcmp(term, "dumb") != 0) {
		(void)fputs(codes[colour], call->out);
	}
}

const char *godwit_text(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "";
}
