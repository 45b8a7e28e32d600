/* SPDX-License-Identifier: Apache-2.0 */
/* Values of options: checking them while parsing, handing them out afterwards. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/cli/cli_int.h"
#include "base/errbuf.h"
#include "base/parse.h"

const char *cli_choice_next(const char **pos, size_t *len)
{
	const char *word = *pos;

	if (*word == '\0') {
		return NULL;
	}
	*len = strcspn(word, "|");
	*pos = word + *len + (word[*len] == '|');
	return word;
}

static int choice_parse(const struct cli_opt *opt, const char *text, struct errbuf *eb)
{
	struct cli_nearest near = CLI_NEAREST_INIT(text);
	char words[8][CLI_WORD_MAX + 1]; /* for the proposal only */
	const char *at = opt->value;
	uint32_t count = 0;
	size_t len;

	for (const char *word; (word = cli_choice_next(&at, &len)) != NULL;) {
		if (len == strlen(text) && memcmp(word, text, len) == 0) {
			return 0;
		}
		if (count < ARRAY_LEN(words) && len <= CLI_WORD_MAX) {
			memcpy(words[count], word, len);
			words[count][len] = '\0';
			cli_nearest_offer(&near, words[count++]);
		}
	}
	(void)errbuf_set(eb, -EINVAL, "'%s' is none of %s", text, opt->value);
	if (near.best != NULL) {
		errbuf_hint(eb, "did you mean '%s'?", near.best);
	}
	return -EINVAL;
}

int cli_value_parse(const struct cli_opt *opt, const char *text, uint64_t *number,
                    struct errbuf *eb)
{
	const char *examples = NULL;
	int err = 0;

	*number = 0;
	switch (opt->kind) {
	case CLI_CHOICE:
		err = choice_parse(opt, text, eb);
		break;
	case CLI_UINT:
		err = parse_u64(text, 0, UINT64_MAX, number, eb);
		break;
	case CLI_SIZE:
		examples = "512M or 8G";
		err = parse_size(text, 0, UINT64_MAX, number, eb);
		break;
	case CLI_DURATION:
		examples = "300ms, 30s or 10m";
		err = parse_duration(text, 0, UINT64_MAX, number, eb);
		break;
	case CLI_BANDWIDTH:
		examples = "100M or 10Gbit";
		err = parse_bandwidth(text, 0, UINT64_MAX, number, eb);
		break;
	case CLI_TEXT:
	case CLI_FLAG:
	case CLI_TOGGLE:
		break;
	}
	if (err < 0 && examples != NULL) {
		errbuf_hint(eb, "write %s such as %s", opt->value, examples);
	}
	return err < 0 ? -EINVAL : 0;
}

/* The option called @name; CHECKs that it exists. */
static const struct cli_opt *declared(const struct cli_call *call, const char *name)
{
	const struct cli_opt *opt = cli_find_opt(call->app, call->cmd, name, strlen(name));

	CHECK(opt != NULL);
	return opt;
}

/* The last value given for @opt, or NULL. */
static const struct cli_value *last(const struct cli_call *call, const struct cli_opt *opt)
{
	for (uint32_t i = call->value_count; i > 0; i--) {
		if (call->values[i - 1].opt == opt) {
			return &call->values[i - 1];
		}
	}
	return NULL;
}

bool cli_given(const struct cli_call *call, const char *name)
{
	return last(call, declared(call, name)) != NULL;
}

bool cli_flag(const struct cli_call *call, const char *name, bool fallback)
{
	const struct cli_opt *opt = declared(call, name);
	const struct cli_value *value = last(call, opt);

	CHECK(!cli_opt_takes_value(opt));
	return value != NULL ? value->number != 0 : fallback;
}

const char *cli_text(const struct cli_call *call, const char *name)
{
	const struct cli_opt *opt = declared(call, name);
	const struct cli_value *value = last(call, opt);

	CHECK(opt->kind == CLI_TEXT || opt->kind == CLI_CHOICE);
	return value != NULL ? value->text : opt->preset;
}

uint64_t cli_number(const struct cli_call *call, const char *name, uint64_t fallback)
{
	const struct cli_opt *opt = declared(call, name);
	const struct cli_value *value = last(call, opt);

	CHECK(cli_opt_takes_value(opt) && opt->kind != CLI_TEXT && opt->kind != CLI_CHOICE);
	if (value != NULL) {
		return value->number;
	}
	if (opt->preset != NULL) {
		uint64_t number;

		CHECK(cli_value_parse(opt, opt->preset, &number, NULL) == 0);
		return number;
	}
	return fallback;
}

const char *cli_text_at(const struct cli_call *call, const char *name, uint32_t index)
{
	const struct cli_opt *opt = declared(call, name);

	CHECK(cli_opt_takes_value(opt));
	for (uint32_t i = 0; i < call->value_count; i++) {
		if (call->values[i].opt == opt && index-- == 0) {
			return call->values[i].text;
		}
	}
	return NULL;
}

const char *cli_arg_at(const struct cli_call *call, uint32_t index)
{
	return index < call->arg_count ? call->args[index] : NULL;
}

const char *cli_path(const struct cli_call *call, char *buf, size_t len)
{
	const char *noun = call->noun != NULL ? call->noun->name : NULL;
	const char *verb = call->cmd != NULL ? call->cmd->verb : NULL;

	(void)snprintf(buf, len, "%s%s%s%s%s", call->app->name, noun != NULL ? " " : "",
	               noun != NULL ? noun : "", verb != NULL ? " " : "", verb != NULL ? verb : "");
	return buf;
}
