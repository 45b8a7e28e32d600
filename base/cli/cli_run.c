/* SPDX-License-Identifier: Apache-2.0 */
/* From argv to the exit status; the commands that every program has. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cli/cli_int.h"
#include "base/errbuf.h"

#define WIDTH_MIN 60u
#define WIDTH_MAX 100u /* longer lines are hard to read */
#define WIDTH_PRESET 80u

static uint32_t width_of(FILE *out)
{
	static const struct cli_opt number = {.kind = CLI_UINT};
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint64_t width = WIDTH_PRESET;
	int fd = fileno(out); /* -1 for memory streams */

	if (columns != NULL) {
		if (cli_value_parse(&number, columns, &width, NULL) < 0) {
			width = WIDTH_PRESET;
		}
	} else if (fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
		width = size.ws_col;
	}
	if (width < WIDTH_MIN) {
		return WIDTH_MIN;
	}
	return width > WIDTH_MAX ? WIDTH_MAX : (uint32_t)width;
}

static void say_error(const struct cli_app *app, FILE *err, int code, const struct errbuf *eb)
{
	(void)fprintf(err, "%s: %s\n", app->name, errbuf_text(eb, code));
	if (eb != NULL && eb->hint[0] != '\0') {
		(void)fprintf(err, "  %s\n", eb->hint);
	}
}

int cli_fail(const struct cli_call *call, int err, const struct errbuf *eb)
{
	say_error(call->app, call->err, err, eb);
	return err == -ETIMEDOUT ? CLI_TIMEOUT : CLI_FAILED;
}

static int generated(const struct cli_app *app, const char *dir, const char *name,
                     struct errbuf *eb, FILE **out)
{
	char path[4096];
	int len = snprintf(path, sizeof(path), "%s/%s", dir, name);

	if (len < 0 || (size_t)len >= sizeof(path)) {
		return errbuf_set(eb, -ENAMETOOLONG, "%s: path is too long", app->name);
	}
	*out = fopen(path, "we");
	return *out != NULL ? 0 : errbuf_sys(eb, -errno, "create %s", path);
}

static int finish(FILE *out, struct errbuf *eb)
{
	bool bad = ferror(out) != 0;

	if (fclose(out) != 0 || bad) {
		return errbuf_set(eb, -EIO, "write failed");
	}
	return 0;
}

static int generate_man(const struct cli_app *app, const char *dir, struct errbuf *eb)
{
	for (size_t i = 0;; i++) {
		const struct cli_noun *noun = NULL;
		char name[3 * CLI_WORD_MAX];
		FILE *out = NULL;

		if (i > 0) { /* the program's own page first */
			noun = app->nouns != NULL ? app->nouns[i - 1] : NULL;
			if (noun == NULL) {
				return 0;
			}
		}
		(void)snprintf(name, sizeof(name), "%s%s%s.%d", app->name, noun != NULL ? "-" : "",
		               noun != NULL ? noun->name : "", app->man_section);

		int err = generated(app, dir, name, eb, &out);

		if (err < 0) {
			return err;
		}
		cli_man(app, noun, out);
		err = finish(out, eb);
		if (err < 0) {
			return err;
		}
	}
}

static int generate_script(const struct cli_app *app, const char *shell, const char *dir,
                           struct errbuf *eb)
{
	char name[2 * CLI_WORD_MAX];
	FILE *out = NULL;

	(void)snprintf(name, sizeof(name), "%s%s", strcmp(shell, "zsh") == 0 ? "_" : "", app->name);

	int err = generated(app, dir, name, eb, &out);

	if (err < 0) {
		return err;
	}
	err = cli_script(app, shell, out);
	if (err < 0) {
		(void)fclose(out);
		return errbuf_set(eb, err, "'%s' is none of man, bash, zsh", shell);
	}
	return finish(out, eb);
}

/* `__generate man|bash|zsh DIR`: for the build. */
static int run_generate(const struct cli_app *app, int argc, const char *const argv[],
                        FILE *err_out)
{
	struct errbuf eb = {0};
	int err;

	if (argc != 4) {
		err = errbuf_set(&eb, -EINVAL, "usage: %s __generate man|bash|zsh DIR", app->name);
	} else if (strcmp(argv[2], "man") == 0) {
		err = generate_man(app, argv[3], &eb);
	} else {
		err = generate_script(app, argv[2], argv[3], &eb);
	}
	if (err < 0) {
		say_error(app, err_out, err, &eb);
		return CLI_FAILED;
	}
	return CLI_DONE;
}

/* `__complete INDEX WORD...`: for the shells' scripts. */
static int run_complete(const struct cli_app *app, int argc, const char *const argv[], FILE *out,
                        void *arg)
{
	static const struct cli_opt number = {.kind = CLI_UINT};
	uint64_t index;

	if (argc < 4 || cli_value_parse(&number, argv[2], &index, NULL) < 0 || index < 1 ||
	    index > (uint64_t)argc) {
		return CLI_USAGE;
	}
	cli_complete(app, argc - 3, argv + 3, (int)index, out, arg);
	return CLI_DONE;
}

/* `__parse WORD...`: for those who check documents: is it understood? */
static int run_parse(const struct cli_app *app, int argc, const char *const argv[], FILE *err)
{
	struct cli_call call;
	struct errbuf eb = {0};
	int parsed = cli_parse(app, argc - 1, argv + 1, &call, &eb);

	if (parsed < 0) {
		say_error(app, err, parsed, &eb);
		return CLI_USAGE;
	}
	return CLI_DONE;
}

static int run_call(struct cli_call *call, void *arg)
{
	if (call->version) {
		(void)fprintf(call->out, "%s %s\n", call->app->name, call->app->version);
		return CLI_DONE;
	}
	if (call->help) {
		cli_help(call->app, call->noun, call->cmd, width_of(call->out), call->out);
		return CLI_DONE;
	}
	return call->cmd->run(call, arg);
}

static int run_words(const struct cli_app *app, int argc, const char *const argv[], FILE *out,
                     FILE *err, void *arg)
{
	struct cli_call call;
	struct errbuf eb = {0};
	int parsed = cli_parse(app, argc, argv, &call, &eb);

	call.out = out;
	call.err = err;
	if (parsed < 0) {
		say_error(app, err, parsed, &eb);
		return CLI_USAGE;
	}
	return run_call(&call, arg);
}

int cli_run(const struct cli_app *app, int argc, const char *const argv[], FILE *out, FILE *err,
            void *arg)
{
	int status;

	if (argc > 1 && strcmp(argv[1], "__generate") == 0) {
		return run_generate(app, argc, argv, err);
	}
	if (argc > 1 && strcmp(argv[1], "__parse") == 0) {
		return run_parse(app, argc, argv, err);
	}
	if (argc > 1 && strcmp(argv[1], "__complete") == 0) {
		status = run_complete(app, argc, argv, out, arg);
	} else {
		status = run_words(app, argc, argv, out, err, arg);
	}
	if (fflush(out) != 0 || ferror(out) != 0) { /* a full disk, a closed pipe */
		(void)fprintf(err, "%s: cannot write the output\n", app->name);
		return status == CLI_DONE ? CLI_FAILED : status;
	}
	return status;
}

static int help_run(const struct cli_call *call, void *arg)
{
	/* Through the parser, for the same messages about unknown words. */
	const char *const words[] = {call->app->name, "--help", cli_arg_at(call, 0),
	                             cli_arg_at(call, 1)};

	return run_words(call->app, 2 + (int)call->arg_count, words, call->out, call->err, arg);
}

const struct cli_noun cli_noun_help = {
	.name = "help",
	.summary = "Explain the words of this program",
	.cmds =
		(const struct cli_cmd[]){
			{
				.summary = "Explain a noun, or a noun and a verb",
				.args =
					(const struct cli_arg[]){
						{.name = "NOUN",
                                                 .summary = "What to explain.",
                                                 .source = "noun",
                                                 .optional = true},
						{.name = "VERB",
                                                 .summary = "Which of its commands.",
                                                 .source = "verb",
                                                 .optional = true},
						{0},
					},
				.run = help_run,
			},
			{0},
		},
};

static int completion_run(const struct cli_call *call, void *arg)
{
	(void)arg;
	return cli_script(call->app, call->cmd->verb, call->out) < 0 ? CLI_FAILED : CLI_DONE;
}

const struct cli_noun cli_noun_completion = {
	.name = "completion",
	.summary = "Print the completion script for a shell",
	.details = "An installed Godwit completes by itself; these commands are for builds and "
		   "shells that look elsewhere.",
	.cmds =
		(const struct cli_cmd[]){
			{.verb = "bash",
                         .summary = "Print the script for bash",
                         .examples = "source <(godwit completion bash)",
                         .run = completion_run},
			{.verb = "zsh",
                         .summary = "Print the script for zsh",
                         .examples = "source <(godwit completion zsh)",
                         .run = completion_run},
			{0},
		},
};
