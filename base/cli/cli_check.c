/* SPDX-License-Identifier: Apache-2.0 */
/* Is a table complete? For the tests of the programs: a fault here is a fault of the source. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/cli/cli_int.h"
#include "base/errbuf.h"

static bool is_word(const char *word)
{
	size_t len = strlen(word);

	if (len == 0 || len > CLI_WORD_MAX || !islower((unsigned char)word[0])) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (!islower((unsigned char)word[i]) && !isdigit((unsigned char)word[i]) &&
		    word[i] != '-') {
			return false;
		}
	}
	return true;
}

/* A phrase: "Show the host", without full stop, on one line. */
static int check_phrase(const char *what, const char *text, struct errbuf *eb)
{
	if (text == NULL || !isupper((unsigned char)text[0]) || text[strlen(text) - 1] == '.' ||
	    strchr(text, '\n') != NULL) {
		return errbuf_set(eb, -EINVAL,
		                  "%s: summary must be a phrase with a capital and no full stop",
		                  what);
	}
	return 0;
}

/* Sentences: end with a full stop. */
static int check_sentence(const char *what, const char *text, struct errbuf *eb)
{
	if (text == NULL || text[0] == '\0' || text[strlen(text) - 1] != '.') {
		return errbuf_set(eb, -EINVAL, "%s: summary must be a sentence", what);
	}
	return 0;
}

static int check_value(const struct cli_opt *opt, struct errbuf *eb)
{
	const char *at = opt->value;
	uint64_t number;
	size_t len;

	if (!cli_opt_takes_value(opt)) {
		return opt->value == NULL && opt->preset == NULL && !opt->required && !opt->repeat
		               ? 0
		               : errbuf_set(eb, -EINVAL, "a flag has no value");
	}
	if (opt->value == NULL || opt->value[0] == '\0') {
		return errbuf_set(eb, -EINVAL, "what stands for the value is missing");
	}
	while (opt->kind == CLI_CHOICE && cli_choice_next(&at, &len) != NULL) {
		if (len == 0 || len > CLI_WORD_MAX) {
			return errbuf_set(eb, -EINVAL, "empty or long word in '%s'", opt->value);
		}
	}
	if (opt->preset != NULL && opt->required) {
		return errbuf_set(eb, -EINVAL, "required, so the preset is never used");
	}
	return opt->preset != NULL ? cli_value_parse(opt, opt->preset, &number, eb) : 0;
}

static int check_opt(const struct cli_app *app, const struct cli_cmd *cmd,
                     const struct cli_opt *opt, struct errbuf *eb)
{
	int err;

	if (!is_word(opt->name)) {
		return errbuf_set(eb, -EINVAL, "--%s: bad name", opt->name);
	}
	if (cli_find_opt(app, cmd, opt->name, strlen(opt->name)) != opt ||
	    (cmd != NULL && cli_find_opt(app, NULL, opt->name, strlen(opt->name)) != NULL)) {
		return errbuf_set(eb, -EINVAL, "--%s: the name is used twice", opt->name);
	}
	if (opt->letter != '\0' && (cli_find_letter(app, cmd, opt->letter) != opt ||
	                            (cmd != NULL && cli_find_letter(app, NULL, opt->letter)))) {
		return errbuf_set(eb, -EINVAL, "-%c: the letter is used twice", opt->letter);
	}
	err = check_sentence("summary", opt->summary, eb);
	if (err == 0) {
		err = check_value(opt, eb);
	}
	if (err < 0) {
		errbuf_prepend(eb, "--%s", opt->name);
	}
	return err;
}

static int check_opts(const struct cli_app *app, const struct cli_cmd *cmd,
                      const struct cli_opt *opts, struct errbuf *eb)
{
	for (; opts != NULL && opts->name != NULL; opts++) {
		int err = check_opt(app, cmd, opts, eb);

		if (err < 0) {
			return err;
		}
	}
	return 0;
}

static int check_args(const struct cli_arg *args, struct errbuf *eb)
{
	bool optional = false;

	for (const struct cli_arg *arg = args; arg != NULL && arg->name != NULL; arg++) {
		int err = check_sentence(arg->name, arg->summary, eb);

		if (err < 0) {
			return err;
		}
		if (arg->repeat && arg[1].name != NULL) {
			return errbuf_set(eb, -EINVAL, "%s: only the last may repeat", arg->name);
		}
		if (optional && !arg->optional) {
			return errbuf_set(eb, -EINVAL, "%s: follows an optional word", arg->name);
		}
		optional = arg->optional;
	}
	return 0;
}

static int check_cmd(const struct cli_app *app, const struct cli_cmd *cmd, struct errbuf *eb)
{
	int err = check_phrase("command", cmd->summary, eb);

	if (err == 0 && cmd->verb != NULL && !is_word(cmd->verb)) {
		err = errbuf_set(eb, -EINVAL, "bad verb");
	}
	if (err == 0 && cmd->run == NULL) {
		err = errbuf_set(eb, -EINVAL, "no function");
	}
	if (err == 0) {
		err = check_args(cmd->args, eb);
	}
	if (err == 0) {
		err = check_opts(app, cmd, cmd->opts, eb);
	}
	if (err < 0 && cmd->verb != NULL) {
		errbuf_prepend(eb, "%s", cmd->verb);
	}
	return err;
}

static int check_noun(const struct cli_app *app, const struct cli_noun *noun, struct errbuf *eb)
{
	int err = check_phrase("noun", noun->summary, eb);

	if (err == 0 && (!is_word(noun->name) || cli_find_noun(app, noun->name) != noun)) {
		err = errbuf_set(eb, -EINVAL, "bad name, or used twice");
	}
	if (err == 0 && (noun->cmds == NULL || noun->cmds->summary == NULL)) {
		err = errbuf_set(eb, -EINVAL, "no command");
	}
	for (const struct cli_cmd *cmd = noun->cmds;
	     err == 0 && cmd != NULL && (cmd->summary != NULL || cmd->verb != NULL); cmd++) {
		if (cmd->verb != NULL && cli_find_cmd(noun, cmd->verb) != cmd) {
			err = errbuf_set(eb, -EINVAL, "%s: no summary, or used twice", cmd->verb);
		} else if (cmd->verb == NULL && (cmd != noun->cmds || cmd[1].summary != NULL)) {
			err = errbuf_set(eb, -EINVAL,
			                 "a command without verb must be the only one");
		} else {
			err = check_cmd(app, cmd, eb);
		}
	}
	if (err < 0) {
		errbuf_prepend(eb, "%s", noun->name);
	}
	return err;
}

int cli_check(const struct cli_app *app, struct errbuf *eb)
{
	int err;

	if (app->name == NULL || app->version == NULL || app->details == NULL ||
	    app->see_also == NULL || (app->man_section != 1 && app->man_section != 8)) {
		return errbuf_set(eb, -EINVAL,
		                  "name, version, details, see_also or section missing");
	}
	if ((app->nouns == NULL) == (app->root == NULL)) {
		return errbuf_set(eb, -EINVAL, "either nouns or a root command");
	}
	err = check_phrase("program", app->summary, eb);
	if (err == 0) {
		err = check_opts(app, NULL, app->opts, eb);
	}
	if (err == 0 && app->root != NULL) {
		err = check_cmd(app, app->root, eb);
	}
	for (size_t i = 0; err == 0 && app->nouns != NULL && app->nouns[i] != NULL; i++) {
		err = check_noun(app, app->nouns[i], eb);
	}
	return err;
}
