/* SPDX-License-Identifier: Apache-2.0 */
/* Help for a terminal, from the tables. */
#include <string.h>

#include "base/cli/cli_int.h"

#define TERM_COLUMNS 26u  /* where the explanation of a word begins */
#define USAGE_COLUMNS 12u /* where a usage goes on in the next line */
#define SPEC_MAX (2 * CLI_WORD_MAX + 64)

const struct cli_item cli_exit_items[] = {
	{"0", "Done."},
	{"1", "Refused or failed; the reason is on the standard error output."},
	{"2", "The command line is wrong; nothing was done."},
	{"3", "Partly done."},
	{"4", "Timed out."},
	{0},
};

void cli_opt_spec(const struct cli_opt *opt, char *buf, size_t len)
{
	char letter[8] = "";

	if (opt->letter != '\0') {
		(void)snprintf(letter, sizeof(letter), "-%c, ", opt->letter);
	}
	(void)snprintf(buf, len, "%s--%s%s%s%s", letter, opt->kind == CLI_TOGGLE ? "[no-]" : "",
	               opt->name, cli_opt_takes_value(opt) ? " " : "",
	               cli_opt_takes_value(opt) ? opt->value : "");
}

void cli_synopsis(const struct cli_cmd *cmd, void (*fn)(const char *part, void *arg), void *arg)
{
	char part[SPEC_MAX];

	for (const struct cli_arg *a = cmd->args; a != NULL && a->name != NULL; a++) {
		(void)snprintf(part, sizeof(part), a->optional ? "[%s]%s" : "%s%s", a->name,
		               a->repeat ? "..." : "");
		fn(part, arg);
	}
	for (const struct cli_opt *o = cmd->opts; o != NULL && o->name != NULL; o++) {
		bool value = cli_opt_takes_value(o);

		(void)snprintf(part, sizeof(part), "%s--%s%s%s%s%s%s", o->required ? "" : "[",
		               o->kind == CLI_TOGGLE ? "[no-]" : "", o->name, value ? " " : "",
		               value ? o->value : "", o->required ? "" : "]",
		               o->repeat ? "..." : "");
		fn(part, arg);
	}
}

struct writer {
	FILE *out;
	size_t width;
	size_t column;
};

/* One word, on the next line if it does not fit. */
static void put_word(struct writer *w, const char *word, size_t len, size_t indent)
{
	if (w->column > indent && w->column + 1 + len > w->width) {
		(void)fprintf(w->out, "\n");
		w->column = 0;
	}
	if (w->column < indent) {
		(void)fprintf(w->out, "%*s", (int)(indent - w->column), "");
		w->column = indent;
	} else if (w->column > indent) {
		(void)fprintf(w->out, " ");
		w->column++;
	}
	(void)fprintf(w->out, "%.*s", (int)len, word);
	w->column += len;
}

/* @text[len] filled between @indent and the width; what is already on the line stays. */
static void put_text(struct writer *w, const char *text, size_t len, size_t indent)
{
	for (size_t at = 0; at < len;) {
		size_t n = 0;

		while (at + n < len && text[at + n] != ' ' && text[at + n] != '\n') {
			n++;
		}
		if (n > 0) {
			put_word(w, text + at, n, indent);
		}
		at += n + 1;
	}
}

/* @text[len], line by line as it is, without the tab in front. */
static void put_verbatim(struct writer *w, const char *text, size_t len, size_t indent)
{
	for (size_t at = 0; at < len;) {
		size_t n = 0;

		at += text[at] == '\t';
		while (at + n < len && text[at + n] != '\n') {
			n++;
		}
		(void)fprintf(w->out, "%*s%.*s\n", (int)indent, "", (int)n, text + at);
		at += n + 1;
	}
}

static void end_line(struct writer *w)
{
	(void)fprintf(w->out, "\n");
	w->column = 0;
}

/* Paragraphs parted by an empty line; one that starts with a tab keeps its lines. */
static void put_paragraphs(struct writer *w, const char *text, size_t indent)
{
	while (*text != '\0') {
		const char *end = strstr(text, "\n\n");
		size_t len = end != NULL ? (size_t)(end - text) : strlen(text);

		if (text[0] == '\t') {
			put_verbatim(w, text, len, indent + 4);
		} else {
			put_text(w, text, len, indent);
			end_line(w);
		}
		text += len + strspn(text + len, "\n");
		if (*text != '\0') {
			end_line(w);
		}
	}
}

static void put_item(struct writer *w, const char *term, const char *text)
{
	(void)fprintf(w->out, "  %s", term);
	w->column = 2 + strlen(term);
	if (w->column + 2 > TERM_COLUMNS) {
		end_line(w);
	}
	put_text(w, text, strlen(text), TERM_COLUMNS);
	end_line(w);
}

static void put_opts(struct writer *w, const struct cli_opt *opts)
{
	for (; opts != NULL && opts->name != NULL; opts++) {
		char spec[SPEC_MAX];
		char text[1024];

		cli_opt_spec(opts, spec, sizeof(spec));
		(void)snprintf(text, sizeof(text), "%s%s%s%s%s%s", opts->summary,
		               opts->repeat ? " May be given several times." : "",
		               opts->required ? " Required." : "",
		               opts->preset != NULL ? " Without it: " : "",
		               opts->preset != NULL ? opts->preset : "",
		               opts->preset != NULL ? "." : "");
		put_item(w, spec, text);
	}
}

static void put_global(struct writer *w, const struct cli_app *app)
{
	(void)fprintf(w->out, "\n%s:\n", app->root != NULL ? "Also" : "With every command");
	put_opts(w, app->opts);
	put_opts(w, cli_builtin_opts);
	(void)fprintf(w->out, "\nExit status:\n");
	for (const struct cli_item *item = cli_exit_items; item->term != NULL; item++) {
		put_item(w, item->term, item->text);
	}
}

static void verbs_of(const struct cli_noun *noun, char *buf, size_t len)
{
	size_t used = 0;

	buf[0] = '\0';
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		if (cmd->verb != NULL && used < len) {
			used += (size_t)snprintf(buf + used, len - used, "%s%s",
			                         used > 0 ? ", " : "", cmd->verb);
		}
	}
}

static void help_app(struct writer *w, const struct cli_app *app)
{
	(void)fprintf(w->out, "%s - %s\n\nUsage: %s NOUN VERB [NAME] [--OPTION]...\n\n", app->name,
	              app->summary, app->name);
	if (app->details != NULL) {
		put_paragraphs(w, app->details, 0);
		end_line(w);
	}
	(void)fprintf(w->out, "Nouns and their verbs:\n");
	for (size_t i = 0; app->nouns[i] != NULL; i++) {
		char text[1024];
		char verbs[512];

		verbs_of(app->nouns[i], verbs, sizeof(verbs));
		(void)snprintf(text, sizeof(text), "%s%s%s", app->nouns[i]->summary,
		               verbs[0] != '\0' ? ": " : "", verbs);
		put_item(w, app->nouns[i]->name, text);
	}
	put_global(w, app);
	(void)fprintf(w->out, "\n'%s help NOUN' and '%s help NOUN VERB' say more.\n", app->name,
	              app->name);
}

static void help_noun(struct writer *w, const struct cli_app *app, const struct cli_noun *noun)
{
	(void)fprintf(w->out, "%s %s - %s\n\n", app->name, noun->name, noun->summary);
	if (noun->details != NULL) {
		put_paragraphs(w, noun->details, 0);
		end_line(w);
	}
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		put_item(w, cmd->verb, cmd->summary);
	}
	(void)fprintf(w->out, "\n'%s help %s VERB' says more.\n", app->name, noun->name);
}

static void put_part(const char *part, void *arg)
{
	put_word(arg, part, strlen(part), USAGE_COLUMNS);
}

static void help_cmd(struct writer *w, const struct cli_app *app, const struct cli_noun *noun,
                     const struct cli_cmd *cmd)
{
	const char *between = noun != NULL ? " " : "";
	const char *noun_name = noun != NULL ? noun->name : "";
	const char *verb = cmd->verb != NULL ? cmd->verb : "";

	char words[3 * CLI_WORD_MAX];

	(void)snprintf(words, sizeof(words), "%s%s%s%s%s", app->name, between, noun_name,
	               verb[0] != '\0' ? " " : "", verb);
	(void)fprintf(w->out, "%s - %s\n\nUsage: %s", words, cmd->summary, words);
	w->column = strlen("Usage: ") + strlen(words);
	cli_synopsis(cmd, put_part, w);
	end_line(w);
	if (cmd->details != NULL) {
		end_line(w);
		put_paragraphs(w, cmd->details, 0);
	}
	if (cmd->args != NULL) {
		(void)fprintf(w->out, "\nNames:\n");
		for (const struct cli_arg *arg = cmd->args; arg->name != NULL; arg++) {
			put_item(w, arg->name, arg->summary);
		}
	}
	if (cmd->opts != NULL) {
		(void)fprintf(w->out, "\nOptions:\n");
		put_opts(w, cmd->opts);
	}
	put_global(w, app);
	if (cmd->examples != NULL) {
		(void)fprintf(w->out, "\nExamples:\n");
		put_verbatim(w, cmd->examples, strlen(cmd->examples), 2);
	}
}

void cli_help(const struct cli_app *app, const struct cli_noun *noun, const struct cli_cmd *cmd,
              uint32_t width_columns, FILE *out)
{
	struct writer w = {.out = out, .width = width_columns};

	if (cmd != NULL) {
		help_cmd(&w, app, noun, cmd);
	} else if (noun != NULL) {
		help_noun(&w, app, noun);
	} else {
		help_app(&w, app);
	}
}
