/* SPDX-License-Identifier: Apache-2.0 */
/* How answers and errors leave the program. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"

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

int godwit_fail(const struct cli_call *call, int err, const struct errbuf *eb)
{
	const char *hint = eb != NULL ? eb->hint : "";
	char *text = NULL;
	json_t *json;

	if (!cli_flag(call, "json", false)) {
		return cli_fail(call, err, eb);
	}
	json = json_pack("{s:{s:s, s:s, s:s, s:s}}", "error", "code", strerrorname_np(-err),
	                 "message", errbuf_text(eb, err), "reason", strerrordesc_np(-err), "hint",
	                 hint);
	text = json != NULL ? json_text(json, 0) : NULL;
	(void)fprintf(call->err, "%s\n", text != NULL ? text : "{\"error\":{\"code\":\"ENOMEM\"}}");
	free(text);
	json_decref(json);
	return err == -ETIMEDOUT ? CLI_TIMEOUT : CLI_FAILED;
}

void godwit_note(const struct cli_call *call, const char *text)
{
	if (!cli_flag(call, "quiet", false)) {
		(void)fprintf(call->err, "godwit: %s\n", text);
	}
}

const char *godwit_colour(const struct cli_call *call, enum godwit_colour colour)
{
	static const char *const codes[] = {
		[COLOUR_NONE] = "\033[0m",   [COLOUR_GOOD] = "\033[32m", [COLOUR_WARN] = "\033[33m",
		[COLOUR_BAD] = "\033[1;31m", [COLOUR_TITLE] = "\033[1m",
	};
	const char *no = getenv("NO_COLOR");
	const char *term = getenv("TERM");
	int fd = fileno(call->out);

	if (fd < 0 || !isatty(fd) || (no != NULL && no[0] != '\0') || term == NULL ||
	    strcmp(term, "dumb") == 0) {
		return "";
	}
	return codes[colour];
}

const char *godwit_text(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "";
}
