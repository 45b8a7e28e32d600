/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLI_CLI_H
#define BASE_CLI_CLI_H

/*
 * cli - a command line from one declarative table: parser, help, man pages, completion.
 *
 * A program describes its words in constant tables; everything a person can read about them
 * (help, man pages, completion, "did you mean") is made from those tables, so it cannot disagree
 * with what the parser accepts. Two shapes: with nouns, `godwit <noun> <verb> [name] [--options]`,
 * or with one root command, `godwitd [--options]`.
 *
 * Adding a command is one entry and one function:
 *
 *	static int disk_show(const struct cli_call *call, void *arg)
 *	{
 *		fprintf(call->out, "%s\n", cli_arg_at(call, 0));
 *		return CLI_DONE;
 *	}
 *
 *	static const struct cli_cmd disk_cmds[] = {
 *		{
 *			.verb = "show",
 *			.summary = "Show what is in a disk image",
 *			.args = (const struct cli_arg[]){
 *				{.name = "PATH", .summary = "Image file.", .source = "file"},
 *				{0},
 *			},
 *			.opts = (const struct cli_opt[]){
 *				{.name = "chain", .kind = CLI_FLAG, .summary = "Parents too."},
 *				{0},
 *			},
 *			.run = disk_show,
 *		},
 *		{0},
 *	};
 *	const struct cli_noun noun_disk = {
 *		.name = "disk", .summary = "Virtual disks", .cmds = disk_cmds,
 *	};
 *
 * and `&noun_disk` in the list of nouns. Tables end with an empty entry. cli_check() finds what is
 * missing in them; the unit test of each program calls it.
 *
 * Threads: none; everything runs on the caller's. No static state.
 * Design: docs/decisions/0040-command-line.md.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/attr.h"

struct cli_app;
struct cli_call;
struct errbuf;

#define CLI_ARGS_MAX 1024  /* names after a verb: "start these VMs" of a whole node */
#define CLI_VALUES_MAX 256 /* options in one call; a VM has at most a few dozen devices */
#define CLI_WORD_MAX 32    /* longest noun, verb or option name */

/* Exit status of every program; CLI.md of the project fixes the numbers. */
enum cli_exit { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_PARTLY = 3, CLI_TIMEOUT = 4 };

enum cli_kind {
	CLI_FLAG,      /* --json */
	CLI_TOGGLE,    /* --wait and --no-wait */
	CLI_TEXT,      /* --to NODE */
	CLI_CHOICE,    /* --format raw|vhdx: .value lists the words */
	CLI_UINT,      /* --cpus 2 */
	CLI_SIZE,      /* --memory 512M [bytes] */
	CLI_DURATION,  /* --timeout 30s [ns] */
	CLI_BANDWIDTH, /* --bandwidth 1G, 10Gbit [bytes/s] */
};

struct cli_opt {
	const char *name; /* without "--"; NULL ends the table */
	char letter;      /* 'q' for -q; 0 = none */
	enum cli_kind kind;
	bool required;
	bool repeat;         /* may be given several times */
	const char *value;   /* what stands for the value: "SIZE"; CLI_CHOICE: "raw|vhdx" */
	const char *preset;  /* the value if the option is not given; NULL = none */
	const char *summary; /* sentences */
	const char *source;  /* completion: "file", "dir", or a kind for cli_app.complete */
};

struct cli_arg {
	const char *name; /* "NAME"; NULL ends the table */
	const char *summary;
	const char *source; /* as in cli_opt */
	bool optional;
	bool repeat; /* last argument only: one or more (with optional: any number) */
};

/* Does the work. Returns enum cli_exit; says on call->err why it is not CLI_DONE. */
typedef int (*cli_fn)(const struct cli_call *call, void *arg);

struct cli_cmd {
	const char *verb;    /* NULL in a noun that is a command by itself, and in a root */
	const char *summary; /* a phrase without full stop; NULL ends the table */
	/* Paragraphs, parted by "\n\n"; one that starts with a tab keeps its lines. */
	const char *details;
	const char *examples; /* one a line */
	const struct cli_arg *args;
	const struct cli_opt *opts;
	cli_fn run;
};

struct cli_noun {
	const char *name;
	const char *summary;
	const char *details;
	const struct cli_cmd *cmds;
};

/* More of a manual page: FILES, ENVIRONMENT, ... */
struct cli_item {
	const char *term; /* NULL ends the table */
	const char *text;
};

struct cli_section {
	const char *title; /* upper case; NULL ends the table */
	const char *text;  /* paragraphs; NULL = none */
	const struct cli_item *items;
};

struct cli_app {
	const char *name; /* the program */
	const char *version;
	const char *summary;                 /* a phrase */
	const char *details;                 /* paragraphs */
	int man_section;                     /* 1 or 8 */
	const struct cli_noun *const *nouns; /* NULL-terminated; NULL with a root */
	const struct cli_cmd *root;
	const struct cli_opt
		*opts; /* understood with every command; --help and --version are added */
	const struct cli_section *sections;
	const char *see_also; /* "godwitd(8), godwit-vm(8)" */
	/* Prints the names of a kind ("vm"), one a line, for completion; NULL = none known. */
	void (*complete)(const char *kind, FILE *out, void *arg);
};

struct cli_value {
	const struct cli_opt *opt;
	const char *text; /* NULL for flags */
	uint64_t number;  /* of the numeric kinds, in the unit above; flags: 0 or 1 */
};

/* A parsed command line. Borrows argv and the tables. */
struct cli_call {
	const struct cli_app *app;
	const struct cli_noun *noun; /* NULL: none was given */
	const struct cli_cmd *cmd;   /* NULL: none was given */
	bool help;                   /* --help: show the help of what is set above */
	bool version;
	uint32_t arg_count;
	uint32_t value_count;
	const char *args[CLI_ARGS_MAX];
	struct cli_value values[CLI_VALUES_MAX];
	FILE *out; /* set by cli_run() */
	FILE *err;
};

/*
 * cli_run() - the body of main(): parse, then help, version, completion or the command.
 * @arg: handed to the command.
 * Returns the exit status. Also understood, for the build, the shells and the tests of documents:
 * `__generate man|bash|zsh DIR`, `__complete INDEX WORD...`, and `__parse WORD...`, which only says
 * whether the words are understood.
 */
int cli_run(const struct cli_app *app, int argc, const char *const argv[], FILE *out, FILE *err,
            void *arg);

/*
 * cli_parse() - understand @argv[argc] (argv[0] is skipped). Pure.
 * Returns 0; -EINVAL with the fault and a proposal in @eb. With --help or --version among the
 * words, missing words are no fault.
 */
MUST_USE int cli_parse(const struct cli_app *app, int argc, const char *const argv[],
                       struct cli_call *out, struct errbuf *eb);

/*
 * What was given. @name must be an option of the command or of the program, and the function must
 * fit its kind: anything else is a programming error.
 */
bool cli_given(const struct cli_call *call, const char *name);
/* CLI_FLAG: given? CLI_TOGGLE: @name or no-@name, else @fallback. */
bool cli_flag(const struct cli_call *call, const char *name, bool fallback);
/* CLI_TEXT, CLI_CHOICE: the (last) text, else the preset, else NULL. */
const char *cli_text(const struct cli_call *call, const char *name);
/* The numeric kinds: the number, in the unit of enum cli_kind, else the preset, else @fallback. */
uint64_t cli_number(const struct cli_call *call, const char *name, uint64_t fallback);
/* The @index-th text of a repeated option; NULL = no more. */
const char *cli_text_at(const struct cli_call *call, const char *name, uint32_t index);
/* The @index-th word after the verb; NULL = no more. */
const char *cli_arg_at(const struct cli_call *call, uint32_t index);

/* cli_path() - the words that select the command, "godwit host check". Returns @buf[len]. */
const char *cli_path(const struct cli_call *call, char *buf, size_t len);

/*
 * cli_fail() - say on call->err why the command failed: "godwit: text" and the hint below it.
 * @err: -errno that goes with @eb.
 * Returns CLI_TIMEOUT for -ETIMEDOUT, else CLI_FAILED.
 */
int cli_fail(const struct cli_call *call, int err, const struct errbuf *eb);

/* cli_help() - help for the program (@noun NULL), a noun (@cmd NULL) or a command. */
void cli_help(const struct cli_app *app, const struct cli_noun *noun, const struct cli_cmd *cmd,
              uint32_t width_columns, FILE *out);

/* cli_man() - the manual page of the program (@noun NULL) or of one noun, as troff for man(7). */
void cli_man(const struct cli_app *app, const struct cli_noun *noun, FILE *out);

/* cli_script() - the completion script of the program for @shell, "bash" or "zsh".
 * Returns 0; -EINVAL shell. */
MUST_USE int cli_script(const struct cli_app *app, const char *shell, FILE *out);

/*
 * cli_complete() - candidates for @words[index], where words[0] is the program: one a line, a tab
 * and its summary behind it; the line ":file" or ":dir" asks the shell for paths.
 */
void cli_complete(const struct cli_app *app, int count, const char *const words[], int index,
                  FILE *out, void *arg);

/*
 * cli_check() - is the table complete and free of contradictions: summaries, functions, kinds and
 * values, presets that parse, words used twice.
 * Returns 0; -EINVAL with the place in @eb.
 */
MUST_USE int cli_check(const struct cli_app *app, struct errbuf *eb);

/* Ready-made nouns for an app's list: `help [noun [verb]]` and `completion bash|zsh`. */
extern const struct cli_noun cli_noun_help;
extern const struct cli_noun cli_noun_completion;

#endif
