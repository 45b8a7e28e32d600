/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser: one pass over the words. An option belongs to the command once that is known, to the
 * program before it; the first two words that are not options are the noun and the verb.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/cli/cli_int.h"
#include "base/errbuf.h"

const struct cli_opt cli_builtin_opts[] = {
	{.name = "help", .letter = 'h', .kind = CLI_FLAG, .summary = "Show help and do nothing."},
	{.name = "version", .letter = 'V', .kind = CLI_FLAG, .summary = "Show the version."},
	{0},
};

struct parser {
	const struct cli_app *app;
	int argc;
	const char *const *argv;
	int next; /* index of the word after the current one */
	struct cli_call *out;
	struct errbuf *eb;
};

const struct cli_noun *cli_find_noun(const struct cli_app *app, const char *word)
{
	for (size_t i = 0; app->nouns != NULL && app->nouns[i] != NULL; i++) {
		if (strcmp(app->nouns[i]->name, word) == 0) {
			return app->nouns[i];
		}
	}
	return NULL;
}

const struct cli_cmd *cli_find_cmd(const struct cli_noun *noun, const char *verb)
{
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		if (cmd->verb != NULL && strcmp(cmd->verb, verb) == 0) {
			return cmd;
		}
	}
	return NULL;
}

const struct cli_cmd *cli_own_cmd(const struct cli_noun *noun)
{
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		if (cmd->verb == NULL) {
			return cmd;
		}
	}
	return NULL;
}

bool cli_opt_takes_value(const struct cli_opt *opt)
{
	return opt->kind != CLI_FLAG && opt->kind != CLI_TOGGLE;
}

/* "name", and for a toggle "no-name" too. */
static bool opt_is(const struct cli_opt *opt, const char *word, size_t len)
{
	size_t name_len = strlen(opt->name);

	if (len == name_len && memcmp(word, opt->name, len) == 0) {
		return true;
	}
	return opt->kind == CLI_TOGGLE && len == name_len + 3 && memcmp(word, "no-", 3) == 0 &&
	       memcmp(word + 3, opt->name, name_len) == 0;
}

static const struct cli_opt *find_in(const struct cli_opt *opts, const char *word, size_t len)
{
	for (; opts != NULL && opts->name != NULL; opts++) {
		if (opt_is(opts, word, len)) {
			return opts;
		}
	}
	return NULL;
}

const struct cli_opt *cli_find_opt(const struct cli_app *app, const struct cli_cmd *cmd,
                                   const char *word, size_t len)
{
	const struct cli_opt *opt = find_in(cmd != NULL ? cmd->opts : NULL, word, len);

	if (opt == NULL) {
		opt = find_in(app->opts, word, len);
	}
	return opt != NULL ? opt : find_in(cli_builtin_opts, word, len);
}

const struct cli_opt *cli_find_letter(const struct cli_app *app, const struct cli_cmd *cmd,
                                      char letter)
{
	const struct cli_opt *tables[] = {cmd != NULL ? cmd->opts : NULL, app->opts,
	                                  cli_builtin_opts};

	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		for (const struct cli_opt *opt = tables[i]; opt != NULL && opt->name != NULL;
		     opt++) {
			if (letter != '\0' && opt->letter == letter) {
				return opt;
			}
		}
	}
	return NULL;
}

static void offer_opts(struct cli_nearest *near, const struct cli_opt *opts)
{
	for (; opts != NULL && opts->name != NULL; opts++) {
		cli_nearest_offer(near, opts->name);
	}
}

static int unknown_opt(const struct parser *p, const char *word, size_t len)
{
	char typed[CLI_WORD_MAX + 1] = "";
	const struct cli_cmd *cmd = p->out->cmd;
	char path[3 * CLI_WORD_MAX];

	(void)errbuf_set(p->eb, -EINVAL, "unknown option '--%.*s'", (int)len, word);
	if (len > CLI_WORD_MAX) {
		return -EINVAL;
	}
	memcpy(typed, word, len);

	struct cli_nearest near = CLI_NEAREST_INIT(typed);

	offer_opts(&near, cmd != NULL ? cmd->opts : NULL);
	offer_opts(&near, p->app->opts);
	offer_opts(&near, cli_builtin_opts);
	if (near.best != NULL) {
		errbuf_hint(p->eb, "did you mean '--%s'?", near.best);
	} else if (cmd == NULL) {
		errbuf_hint(p->eb, "options of a command come after its words: %s NOUN VERB --%s",
		            p->app->name, typed);
	} else {
		errbuf_hint(p->eb, "'%s --help' lists the options",
		            cli_path(p->out, path, sizeof(path)));
	}
	return -EINVAL;
}

static bool given(const struct cli_call *call, const struct cli_opt *opt)
{
	for (uint32_t i = 0; i < call->value_count; i++) {
		if (call->values[i].opt == opt) {
			return true;
		}
	}
	return false;
}

static int add_value(const struct parser *p, const struct cli_opt *opt, const char *text,
                     uint64_t number)
{
	struct cli_call *out = p->out;

	if (!opt->repeat && cli_opt_takes_value(opt) && given(out, opt)) {
		return errbuf_set(p->eb, -EINVAL, "option '--%s' is given twice", opt->name);
	}
	if (out->value_count == CLI_VALUES_MAX) {
		return errbuf_set(p->eb, -EINVAL, "more than %d options", CLI_VALUES_MAX);
	}
	out->values[out->value_count++] =
		(struct cli_value){.opt = opt, .text = text, .number = number};
	return 0;
}

static int toggle_conflict(const struct parser *p, const struct cli_opt *opt, uint64_t on)
{
	for (uint32_t i = 0; i < p->out->value_count; i++) {
		if (p->out->values[i].opt == opt && p->out->values[i].number != on) {
			return errbuf_set(p->eb, -EINVAL,
			                  "options '--%s' and '--no-%s' exclude each other",
			                  opt->name, opt->name);
		}
	}
	return 0;
}

/*
 * @text: the value if it was attached ("--name=text"), else NULL. A following word that itself
 * looks like a long option is not taken: that is nearly always a forgotten value.
 */
static int take_opt(struct parser *p, const struct cli_opt *opt, bool on, const char *text)
{
	uint64_t number = on ? 1 : 0;
	int err;

	if (!cli_opt_takes_value(opt)) {
		if (text != NULL) {
			return errbuf_set(p->eb, -EINVAL, "option '--%s' takes no value",
			                  opt->name);
		}
		err = toggle_conflict(p, opt, number);
		if (err < 0) {
			return err;
		}
		if (opt == &cli_builtin_opts[0]) {
			p->out->help = true;
		} else if (opt == &cli_builtin_opts[1]) {
			p->out->version = true;
		}
		return add_value(p, opt, NULL, number);
	}
	if (text == NULL) {
		if (p->next == p->argc || strncmp(p->argv[p->next], "--", 2) == 0) {
			(void)errbuf_set(p->eb, -EINVAL, "option '--%s' needs a value: %s",
			                 opt->name, opt->value);
			if (p->next < p->argc) {
				errbuf_hint(p->eb, "if '%s' is the value: --%s=%s",
				            p->argv[p->next], opt->name, p->argv[p->next]);
			}
			return -EINVAL;
		}
		text = p->argv[p->next++];
	}
	err = cli_value_parse(opt, text, &number, p->eb);
	if (err < 0) {
		errbuf_prepend(p->eb, "option '--%s'", opt->name);
		return err;
	}
	return add_value(p, opt, text, number);
}

static int long_opt(struct parser *p, const char *word)
{
	const char *eq = strchr(word, '=');
	size_t len = eq != NULL ? (size_t)(eq - word) : strlen(word);
	const struct cli_opt *opt = cli_find_opt(p->app, p->out->cmd, word, len);

	if (opt == NULL) {
		return unknown_opt(p, word, len);
	}
	return take_opt(p, opt, len == strlen(opt->name), eq != NULL ? eq + 1 : NULL);
}

static int short_opt(struct parser *p, const char *word)
{
	const struct cli_opt *opt = cli_find_letter(p->app, p->out->cmd, word[0]);
	bool more = word[1] != '\0';
	/* "-memory" is a slip for "--memory", not the letter m with the value "emory". */
	bool slip = more && cli_find_opt(p->app, p->out->cmd, word, strlen(word)) != NULL;

	if (opt == NULL || slip || (more && !cli_opt_takes_value(opt))) {
		(void)errbuf_set(p->eb, -EINVAL, "unknown option '-%s'", word);
		if (slip) {
			errbuf_hint(p->eb, "did you mean '--%s'?", word);
		}
		return -EINVAL;
	}
	return take_opt(p, opt, true, more ? word + 1 : NULL);
}

static int unknown_noun(const struct parser *p, const char *word)
{
	const char *follows = p->next < p->argc ? p->argv[p->next] : "";
	const struct cli_noun *swapped = cli_find_noun(p->app, follows);
	struct cli_nearest near = CLI_NEAREST_INIT(word);

	(void)errbuf_set(p->eb, -EINVAL, "unknown word '%s'", word);
	if (swapped != NULL && cli_find_cmd(swapped, word) != NULL) {
		errbuf_hint(p->eb, "did you mean '%s %s %s'?", p->app->name, follows, word);
		return -EINVAL;
	}
	for (size_t i = 0; p->app->nouns[i] != NULL; i++) {
		cli_nearest_offer(&near, p->app->nouns[i]->name);
	}
	if (near.best == NULL) {
		errbuf_hint(p->eb, "'%s help' lists what there is", p->app->name);
	} else {
		const struct cli_noun *noun = cli_find_noun(p->app, near.best);
		bool fits = follows[0] != '\0' && cli_find_cmd(noun, follows) != NULL;

		errbuf_hint(p->eb, "did you mean '%s %s%s%s'?", p->app->name, near.best,
		            fits ? " " : "", fits ? follows : "");
	}
	return -EINVAL;
}

static int unknown_verb(const struct parser *p, const char *word)
{
	const struct cli_noun *noun = p->out->noun;
	struct cli_nearest near = CLI_NEAREST_INIT(word);

	(void)errbuf_set(p->eb, -EINVAL, "'%s' has no verb '%s'", noun->name, word);
	for (const struct cli_cmd *cmd = noun->cmds; cmd->summary != NULL; cmd++) {
		cli_nearest_offer(&near, cmd->verb);
	}
	if (near.best != NULL) {
		errbuf_hint(p->eb, "did you mean '%s %s %s'?", p->app->name, noun->name, near.best);
	} else {
		errbuf_hint(p->eb, "'%s help %s' lists the verbs", p->app->name, noun->name);
	}
	return -EINVAL;
}

static int add_arg(const struct parser *p, const char *word)
{
	struct cli_call *out = p->out;
	const struct cli_arg *arg = out->cmd->args;
	char path[3 * CLI_WORD_MAX];
	uint32_t room = 0;

	for (; arg != NULL && arg->name != NULL; arg++) {
		room = arg->repeat ? CLI_ARGS_MAX : room + 1;
	}
	if (out->arg_count == room) {
		(void)errbuf_set(p->eb, -EINVAL, "'%s' is one word too many", word);
		errbuf_hint(p->eb, "'%s --help' shows what belongs there",
		            cli_path(out, path, sizeof(path)));
		return -EINVAL;
	}
	out->args[out->arg_count++] = word;
	return 0;
}

static int take_word(const struct parser *p, const char *word)
{
	struct cli_call *out = p->out;

	if (out->cmd != NULL) {
		return add_arg(p, word);
	}
	if (out->noun == NULL) {
		out->noun = cli_find_noun(p->app, word);
		if (out->noun == NULL) {
			return unknown_noun(p, word);
		}
		out->cmd = cli_own_cmd(out->noun);
		return 0;
	}
	if (strcmp(word, "help") == 0 && cli_find_cmd(out->noun, word) == NULL) {
		out->help = true;
		return 0;
	}
	out->cmd = cli_find_cmd(out->noun, word);
	return out->cmd != NULL ? 0 : unknown_verb(p, word);
}

/* What the command cannot do without. */
static int check_complete(const struct parser *p)
{
	const struct cli_call *out = p->out;
	char path[3 * CLI_WORD_MAX];
	uint32_t need = 0;

	if (out->help || out->version) {
		return 0;
	}
	if (out->noun == NULL && p->app->root == NULL) {
		(void)errbuf_set(p->eb, -EINVAL, "what shall be done?");
		errbuf_hint(p->eb, "'%s help' lists what there is", p->app->name);
		return -EINVAL;
	}
	if (out->cmd == NULL) {
		(void)errbuf_set(p->eb, -EINVAL, "what shall be done with '%s'?", out->noun->name);
		errbuf_hint(p->eb, "'%s help %s' lists the verbs", p->app->name, out->noun->name);
		return -EINVAL;
	}
	(void)cli_path(out, path, sizeof(path));
	for (const struct cli_arg *arg = out->cmd->args; arg != NULL && arg->name != NULL; arg++) {
		if (!arg->optional && out->arg_count < ++need) {
			(void)errbuf_set(p->eb, -EINVAL, "%s is missing", arg->name);
			errbuf_hint(p->eb, "'%s --help' shows what belongs where", path);
			return -EINVAL;
		}
	}
	for (const struct cli_opt *opt = out->cmd->opts; opt != NULL && opt->name != NULL; opt++) {
		if (opt->required && !given(out, opt)) {
			(void)errbuf_set(p->eb, -EINVAL, "option '--%s %s' is missing", opt->name,
			                 opt->value);
			errbuf_hint(p->eb, "'%s --help' says what it means", path);
			return -EINVAL;
		}
	}
	return 0;
}

int cli_parse(const struct cli_app *app, int argc, const char *const argv[], struct cli_call *out,
              struct errbuf *eb)
{
	struct parser p = {.app = app, .argc = argc, .argv = argv, .next = 1, .out = out, .eb = eb};
	bool only_words = false;
	int err = 0;

	memset(out, 0, sizeof(*out));
	out->app = app;
	out->cmd = app->root;
	while (err == 0 && p.next < argc) {
		const char *word = argv[p.next++];

		if (only_words || word[0] != '-' || word[1] == '\0') {
			err = take_word(&p, word);
		} else if (strcmp(word, "--") == 0) {
			only_words = true;
		} else if (word[1] == '-') {
			err = long_opt(&p, word + 2);
		} else {
			err = short_opt(&p, word + 1);
		}
	}
	return err < 0 ? err : check_complete(&p);
}
