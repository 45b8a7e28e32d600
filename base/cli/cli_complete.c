/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion. The shells' scripts are thin: they ask the program itself (`__complete`), which
 * answers from the table that the parser uses. So one algorithm serves both shells, and a script
 * of an older version cannot offer words that the program does not know.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cli/cli_int.h"

struct completer {
	const struct cli_app *app;
	const struct cli_noun *noun;
	const struct cli_cmd *cmd;
	const struct cli_opt *waiting; /* takes the next word as its value */
	const char *first_arg;
	uint32_t arg_count;
	bool only_words;
	FILE *out;
	void *arg;
};

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void offer(const struct completer *c, const char *word, const char *summary,
                  const char *typed)
{
	if (begins_with(word, typed)) {
		(void)fprintf(c->out, "%s\t%s\n", word, summary);
	}
}

static void offer_nouns(const struct completer *c, const char *typed)
{
	for (size_t i = 0; c->app->nouns != NULL && c->app->nouns[i] != NULL; i++) {
		offer(c, c->app->nouns[i]->name, c->app->nouns[i]->summary, typed);
	}
}

static void offer_verbs(const struct completer *c, const struct cli_noun *noun, const char *typed)
{
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		if (cmd->verb != NULL) {
			offer(c, cmd->verb, cmd->summary, typed);
		}
	}
}

/* The names of a kind come from the program; what does not begin with @typed is left out. */
static void offer_kind(const struct completer *c, const char *kind, const char *typed)
{
	char *text = NULL;
	size_t len = 0;
	FILE *mem = c->app->complete != NULL ? open_memstream(&text, &len) : NULL;

	if (mem == NULL) {
		return;
	}
	c->app->complete(kind, mem, c->arg);
	(void)fclose(mem);
	for (size_t at = 0; text != NULL && at < len;) {
		size_t n = strcspn(text + at, "\n");

		text[at + n] = '\0'; /* at worst the terminator itself */
		if (n > 0) {
			offer(c, text + at, kind, typed);
		}
		at += n + 1;
	}
	free(text);
}

static void offer_source(const struct completer *c, const char *source, const char *typed)
{
	if (source == NULL) {
		return;
	}
	if (strcmp(source, "file") == 0 || strcmp(source, "dir") == 0) {
		(void)fprintf(c->out, ":%s\n", source);
	} else if (strcmp(source, "noun") == 0) {
		offer_nouns(c, typed);
	} else if (strcmp(source, "verb") == 0) {
		const struct cli_noun *noun =
			c->first_arg != NULL ? cli_find_noun(c->app, c->first_arg) : NULL;

		if (noun != NULL) {
			offer_verbs(c, noun, typed);
		}
	} else {
		offer_kind(c, source, typed);
	}
}

/* @front is what stays before the value in the same word: "--format=", or nothing. */
static void offer_values(const struct completer *c, const struct cli_opt *opt, const char *front,
                         size_t front_len, const char *typed)
{
	if (opt->kind != CLI_CHOICE) {
		offer_source(c, opt->source, typed);
		return;
	}

	const char *at = opt->value;
	size_t len;

	for (const char *word; (word = cli_choice_next(&at, &len)) != NULL;) {
		if (strncmp(word, typed, strlen(typed)) == 0) {
			(void)fprintf(c->out, "%.*s%.*s\t\n", (int)front_len, front, (int)len,
			              word);
		}
	}
}

static void offer_opts(const struct completer *c, const struct cli_opt *opts, const char *typed)
{
	for (; opts != NULL && opts->name != NULL; opts++) {
		char word[CLI_WORD_MAX + 8];

		(void)snprintf(word, sizeof(word), "--%s", opts->name);
		offer(c, word, opts->summary, typed);
		if (opts->kind == CLI_TOGGLE) {
			(void)snprintf(word, sizeof(word), "--no-%s", opts->name);
			offer(c, word, opts->summary, typed);
		}
	}
}

static void offer_all_opts(const struct completer *c, const char *typed)
{
	offer_opts(c, c->cmd != NULL ? c->cmd->opts : NULL, typed);
	offer_opts(c, c->app->opts, typed);
	offer_opts(c, cli_builtin_opts, typed);
}

/* A word before the one to complete. Returns false: it makes no sense, so nothing is offered. */
static bool pass_word(struct completer *c, const char *word)
{
	if (c->waiting != NULL) {
		c->waiting = NULL;
		return true;
	}
	if (!c->only_words && word[0] == '-' && word[1] != '\0') {
		const struct cli_opt *opt = NULL;

		if (strcmp(word, "--") == 0) {
			c->only_words = true;
		} else if (word[1] == '-') {
			opt = cli_find_opt(c->app, c->cmd, word + 2, strlen(word + 2));
		} else if (word[2] == '\0') {
			opt = cli_find_letter(c->app, c->cmd, word[1]);
		}
		c->waiting = opt != NULL && cli_opt_takes_value(opt) ? opt : NULL;
		return true;
	}
	if (c->cmd != NULL) {
		c->first_arg = c->arg_count++ == 0 ? word : c->first_arg;
		return true;
	}
	if (c->noun == NULL) {
		c->noun = cli_find_noun(c->app, word);
		c->cmd = c->noun != NULL ? cli_own_cmd(c->noun) : NULL;
		return c->noun != NULL;
	}
	c->cmd = cli_find_cmd(c->noun, word);
	return c->cmd != NULL;
}

static void offer_word(const struct completer *c, const char *typed)
{
	if (c->cmd == NULL && c->noun == NULL) {
		offer_nouns(c, typed);
		return;
	}
	if (c->cmd == NULL) {
		offer_verbs(c, c->noun, typed);
		return;
	}

	const struct cli_arg *arg = c->cmd->args;

	for (uint32_t i = 0; arg != NULL && arg->name != NULL && i < c->arg_count; i++) {
		if (!arg->repeat) {
			arg++;
		}
	}
	if (arg != NULL && arg->name != NULL) {
		offer_source(c, arg->source, typed);
	} else if (typed[0] == '\0') {
		offer_all_opts(c, "--");
	}
}

void cli_complete(const struct cli_app *app, int count, const char *const words[], int index,
                  FILE *out, void *arg)
{
	struct completer c = {.app = app, .cmd = app->root, .out = out, .arg = arg};
	const char *typed = index < count ? words[index] : "";

	for (int i = 1; i < index && i < count; i++) {
		if (!pass_word(&c, words[i])) {
			return;
		}
	}
	if (c.waiting != NULL) {
		offer_values(&c, c.waiting, "", 0, typed);
		return;
	}
	if (c.only_words || typed[0] != '-') {
		offer_word(&c, typed);
		return;
	}

	const char *eq = strchr(typed, '=');

	if (eq != NULL && begins_with(typed, "--")) {
		const struct cli_opt *opt =
			cli_find_opt(app, c.cmd, typed + 2, (size_t)(eq - typed) - 2);

		if (opt != NULL && cli_opt_takes_value(opt)) {
			offer_values(&c, opt, typed, (size_t)(eq + 1 - typed), eq + 1);
		}
		return;
	}
	offer_all_opts(&c, typed);
}

/* NAME_MARK stands for the program's name; nothing else in the scripts looks like it. */
#define NAME_MARK "PROGRAM"

static const char bash_script[] =
	"# bash completion for PROGRAM; made by 'PROGRAM completion bash'.\n"
	"_PROGRAM_complete()\n"
	"{\n"
	"	local words=() index=0 glue= i word cur value line\n"
	"	# bash parts words at '=' and ':', the program does not: join them again.\n"
	"	for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do\n"
	"		word=${COMP_WORDS[i]}\n"
	"		if [[ ${#words[@]} -gt 1 && $COMP_WORDBREAKS == *[=:]* &&\n"
	"			(-n $glue || $word == [=:]*) ]]; then\n"
	"			words[${#words[@]} - 1]+=$word\n"
	"		else\n"
	"			words+=(\"$word\")\n"
	"		fi\n"
	"		[[ $word == [=:] ]] && glue=1 || glue=\n"
	"		[[ $i -eq $COMP_CWORD ]] && index=$((${#words[@]} - 1))\n"
	"	done\n"
	"	cur=${words[index]}\n"
	"	value=$cur\n"
	"	[[ $cur == --*=* ]] && value=${cur#*=}\n"
	"	COMPREPLY=()\n"
	"	while IFS= read -r line; do\n"
	"		case $line in\n"
	"		:file) compopt -o filenames 2>/dev/null\n"
	"			while IFS= read -r word; do COMPREPLY+=(\"$word\"); done \\\n"
	"				< <(compgen -f -- \"$value\") ;;\n"
	"		:dir) compopt -o filenames 2>/dev/null\n"
	"			while IFS= read -r word; do COMPREPLY+=(\"$word\"); done \\\n"
	"				< <(compgen -d -- \"$value\") ;;\n"
	"		*) word=${line%%$'\\t'*}\n"
	"			# Only what follows the last break is replaced.\n"
	"			if [[ $cur == *[=:]* && $COMP_WORDBREAKS == *[=:]* ]]; then\n"
	"				word=${word#\"${cur%\"${cur##*[=:]}\"}\"}\n"
	"			fi\n"
	"			COMPREPLY+=(\"$word\") ;;\n"
	"		esac\n"
	"	done < <(\"$1\" __complete \"$index\" \"${words[@]}\" 2>/dev/null)\n"
	"}\n"
	"complete -F _PROGRAM_complete PROGRAM\n";

static const char zsh_script[] =
	"#compdef PROGRAM\n"
	"# zsh completion for PROGRAM; made by 'PROGRAM completion zsh'.\n"
	"_PROGRAM() {\n"
	"	local -a names\n"
	"	local line name\n"
	"	for line in \"${(@f)$(${words[1]} __complete $((CURRENT - 1)) \"${words[@]}\" "
	"2>/dev/null)}\"; do\n"
	"		case $line in\n"
	"		'') ;;\n"
	"		:file) [[ $PREFIX == --*=* ]] && compset -P '*='; _files ;;\n"
	"		:dir) [[ $PREFIX == --*=* ]] && compset -P '*='; _files -/ ;;\n"
	"		*) name=${line%%$'\\t'*}\n"
	"			names+=(\"${name//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
	"		esac\n"
	"	done\n"
	"	(( ${#names} )) && _describe 'PROGRAM' names\n"
	"}\n"
	"if [[ ${funcstack[1]} == _PROGRAM ]]; then\n"
	"	_PROGRAM \"$@\"\n"
	"else\n"
	"	compdef _PROGRAM PROGRAM\n"
	"fi\n";

int cli_script(const struct cli_app *app, const char *shell, FILE *out)
{
	const char *script = NULL;

	if (strcmp(shell, "bash") == 0) {
		script = bash_script;
	} else if (strcmp(shell, "zsh") == 0) {
		script = zsh_script;
	} else {
		return -EINVAL;
	}
	for (const char *mark; (mark = strstr(script, NAME_MARK)) != NULL;) {
		(void)fprintf(out, "%.*s%s", (int)(mark - script), script, app->name);
		script = mark + strlen(NAME_MARK);
	}
	(void)fputs(script, out);
	return 0;
}
