/* SPDX-License-Identifier: Apache-2.0 */
/* Manual pages as troff for man(7), from the tables. */
#include <ctype.h>
#include <string.h>

#include "base/cli/cli_int.h"

#define SPEC_MAX (2 * CLI_WORD_MAX + 64)

/*
 * Text for troff: "\" and "-" are escaped, a "." or "'" that begins a line cannot become a request
 * (the callers begin every line of text with "\&" where that is possible).
 */
static void esc(FILE *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		switch (text[i]) {
		case '\\':
			(void)fputs("\\e", out);
			break;
		case '-':
			(void)fputs("\\-", out);
			break;
		case '\'':
			(void)fputs("\\(aq", out);
			break;
		case '~':
			(void)fputs("\\(ti", out);
			break;
		case '^':
			(void)fputs("\\(ha", out);
			break;
		case '`':
			(void)fputs("\\(ga", out);
			break;
		case '"':
			(void)fputs("\\(dq", out);
			break;
		default:
			(void)fputc(text[i], out);
		}
	}
}

static void esc_str(FILE *out, const char *text)
{
	esc(out, text, strlen(text));
}

static void text_lines(FILE *out, const char *text, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t n = 0;

		at += text[at] == '\t';
		while (at + n < len && text[at + n] != '\n') {
			n++;
		}
		(void)fputs("\\&", out);
		esc(out, text + at, n);
		(void)fputc('\n', out);
		at += n + 1;
	}
}

static void paragraphs(FILE *out, const char *text)
{
	bool first = true;

	while (*text != '\0') {
		const char *end = strstr(text, "\n\n");
		size_t len = end != NULL ? (size_t)(end - text) : strlen(text);

		if (!first) {
			(void)fputs(".PP\n", out);
		}
		if (text[0] == '\t') {
			(void)fputs(".nf\n.RS 4\n", out);
			text_lines(out, text, len);
			(void)fputs(".RE\n.fi\n", out);
		} else {
			text_lines(out, text, len);
		}
		first = false;
		text += len + strspn(text + len, "\n");
	}
}

static void item(FILE *out, const char *term, const char *text)
{
	(void)fputs(".TP\n\\fB", out);
	esc_str(out, term);
	(void)fputs("\\fR\n\\&", out);
	esc_str(out, text);
	(void)fputc('\n', out);
}

static void items(FILE *out, const struct cli_item *list)
{
	for (; list != NULL && list->term != NULL; list++) {
		item(out, list->term, list->text);
	}
}

static void opts(FILE *out, const struct cli_opt *list)
{
	for (; list != NULL && list->name != NULL; list++) {
		char spec[SPEC_MAX];

		cli_opt_spec(list, spec, sizeof(spec));
		item(out, spec, list->summary);
		if (list->repeat) {
			(void)fputs("May be given several times.\n", out);
		}
		if (list->required) {
			(void)fputs("Required.\n", out);
		}
		if (list->preset != NULL) {
			(void)fputs("Without it: \\fI", out);
			esc_str(out, list->preset);
			(void)fputs("\\fR.\n", out);
		}
	}
}

static void put_part(const char *part, void *arg)
{
	(void)fputc(' ', arg);
	esc_str(arg, part);
}

static void usage(FILE *out, const struct cli_app *app, const struct cli_noun *noun,
                  const struct cli_cmd *cmd)
{
	(void)fputs("\\fB", out);
	esc_str(out, app->name);
	if (noun != NULL) {
		(void)fputc(' ', out);
		esc_str(out, noun->name);
	}
	if (cmd->verb != NULL) {
		(void)fputc(' ', out);
		esc_str(out, cmd->verb);
	}
	(void)fputs("\\fR", out);
	cli_synopsis(cmd, put_part, out);
	(void)fputc('\n', out);
}

static void command(FILE *out, const struct cli_app *app, const struct cli_noun *noun,
                    const struct cli_cmd *cmd)
{
	if (noun != NULL) {
		(void)fputs(".SS \"", out);
		esc_str(out, cmd->verb != NULL ? cmd->verb : noun->name);
		(void)fputs("\"\n", out);
		usage(out, app, noun, cmd);
		(void)fputs(".PP\n\\&", out);
		esc_str(out, cmd->summary);
		(void)fputs(".\n", out);
	}
	if (cmd->details != NULL) {
		(void)fputs(".PP\n", out);
		paragraphs(out, cmd->details);
	}
	for (const struct cli_arg *arg = cmd->args; arg != NULL && arg->name != NULL; arg++) {
		item(out, arg->name, arg->summary);
	}
	opts(out, cmd->opts);
	if (cmd->examples != NULL) {
		(void)fputs(".PP\nExamples:\n.PP\n.nf\n.RS 4\n", out);
		text_lines(out, cmd->examples, strlen(cmd->examples));
		(void)fputs(".RE\n.fi\n", out);
	}
}

static void head(FILE *out, const struct cli_app *app, const struct cli_noun *noun)
{
	char title[2 * CLI_WORD_MAX + 2];
	size_t used = (size_t)snprintf(title, sizeof(title), "%s%s%s", app->name,
	                               noun != NULL ? "-" : "", noun != NULL ? noun->name : "");

	(void)fputs(".\\\" Generated from the table of commands; do not edit.\n.TH \"", out);
	for (size_t i = 0; i < used; i++) {
		char upper[2] = {(char)toupper((unsigned char)title[i]), '\0'};

		esc_str(out, upper);
	}
	(void)fprintf(out, "\" \"%d\" \"\" \"Godwit %s\" \"Godwit\"\n.SH NAME\n", app->man_section,
	              app->version);
	esc_str(out, title);
	(void)fputs(" \\- ", out);
	esc_str(out, noun != NULL ? noun->summary : app->summary);
	(void)fputs("\n.SH SYNOPSIS\n", out);
}

static void tail(FILE *out, const struct cli_app *app, const struct cli_noun *noun)
{
	(void)fputs(".SH \"EXIT STATUS\"\n", out);
	items(out, cli_exit_items);
	for (const struct cli_section *s = noun == NULL ? app->sections : NULL;
	     s != NULL && s->title != NULL; s++) {
		(void)fprintf(out, ".SH \"%s\"\n", s->title);
		if (s->text != NULL) {
			paragraphs(out, s->text);
		}
		items(out, s->items);
	}
	(void)fputs(".SH \"SEE ALSO\"\n", out);
	if (noun != NULL) {
		(void)fprintf(out, ".BR %s (%d)\n", app->name, app->man_section);
		return;
	}
	for (size_t i = 0; app->nouns != NULL && app->nouns[i] != NULL; i++) {
		(void)fputs("\\fB", out);
		esc_str(out, app->name);
		(void)fputs("\\-", out);
		esc_str(out, app->nouns[i]->name);
		(void)fprintf(out, "\\fR(%d),\n", app->man_section);
	}
	esc_str(out, app->see_also);
	(void)fputc('\n', out);
}

static void man_app(FILE *out, const struct cli_app *app)
{
	head(out, app, NULL);
	if (app->root != NULL) {
		usage(out, app, NULL, app->root);
	} else {
		(void)fputs("\\fB", out);
		esc_str(out, app->name);
		(void)fputs("\\fR \\fINOUN VERB\\fR [\\fINAME\\fR] [\\fB\\-\\-\\fIOPTION\\fR]...\n",
		            out);
	}
	(void)fputs(".SH DESCRIPTION\n", out);
	paragraphs(out, app->details);
	(void)fputs(".SH OPTIONS\n", out);
	if (app->root != NULL) {
		command(out, app, NULL, app->root);
	}
	opts(out, app->opts);
	opts(out, cli_builtin_opts);
	if (app->nouns != NULL) {
		(void)fputs(".SH COMMANDS\n", out);
	}
	for (size_t i = 0; app->nouns != NULL && app->nouns[i] != NULL; i++) {
		const struct cli_noun *noun = app->nouns[i];

		for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
			(void)fputs(".TP\n", out);
			usage(out, app, noun, cmd);
			(void)fputs("\\&", out);
			esc_str(out, cmd->summary);
			(void)fputs(".\n", out);
		}
	}
	tail(out, app, NULL);
}

static void man_noun(FILE *out, const struct cli_app *app, const struct cli_noun *noun)
{
	head(out, app, noun);
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		if (cmd != noun->cmds) {
			(void)fputs(".br\n", out);
		}
		usage(out, app, noun, cmd);
	}
	(void)fputs(".SH DESCRIPTION\n", out);
	paragraphs(out, noun->details != NULL ? noun->details : noun->summary);
	(void)fputs(".SH COMMANDS\n", out);
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		command(out, app, noun, cmd);
	}
	(void)fputs(".SH OPTIONS\nUnderstood with every command:\n", out);
	opts(out, app->opts);
	opts(out, cli_builtin_opts);
	tail(out, app, noun);
}

void cli_man(const struct cli_app *app, const struct cli_noun *noun, FILE *out)
{
	if (noun != NULL) {
		man_noun(out, app, noun);
	} else {
		man_app(out, app);
	}
}
