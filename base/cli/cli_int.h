/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLI_CLI_INT_H
#define BASE_CLI_CLI_INT_H

/* What the files of base/cli share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cli/cli.h"

/* The options every program has: --help and --version. */
extern const struct cli_opt cli_builtin_opts[];

/* The nearest of the words offered so far; start from CLI_NEAREST_INIT. */
struct cli_nearest {
	const char *typed;
	const char *best; /* NULL = nothing is near enough */
	uint32_t distance;
};

#define CLI_NEAREST_INIT(word) ((struct cli_nearest){.typed = (word)})

/* cli_nearest_offer() - compare one candidate; the first of equals wins. */
void cli_nearest_offer(struct cli_nearest *near, const char *candidate);

/* cli_find_noun() and so on: exact match of @word[len], else NULL. */
const struct cli_noun *cli_find_noun(const struct cli_app *app, const char *word);
const struct cli_cmd *cli_find_cmd(const struct cli_noun *noun, const char *verb);
/* @cmd may be NULL; the command's options win over the program's. */
const struct cli_opt *cli_find_opt(const struct cli_app *app, const struct cli_cmd *cmd,
                                   const char *word, size_t len);
const struct cli_opt *cli_find_letter(const struct cli_app *app, const struct cli_cmd *cmd,
                                      char letter);

/* cli_opt_takes_value() - is a value part of the option? */
bool cli_opt_takes_value(const struct cli_opt *opt);

/*
 * cli_value_parse() - check @text against the kind of @opt.
 * @number: the number, or 0 for texts.
 * Returns 0; -EINVAL.
 */
int cli_value_parse(const struct cli_opt *opt, const char *text, uint64_t *number,
                    struct errbuf *eb);

/* cli_choice_next() - walk "a|b|c": the word at *@pos, its length in *@len, and move on; NULL at
 * the end. */
const char *cli_choice_next(const char **pos, size_t *len);

/* cli_own_cmd() - the command of a noun that needs no verb, or NULL. */
const struct cli_cmd *cli_own_cmd(const struct cli_noun *noun);

/* cli_synopsis() - call @fn for each part of a command's usage: "NAME...", "[--cpus N]". */
void cli_synopsis(const struct cli_cmd *cmd, void (*fn)(const char *part, void *arg), void *arg);

/* cli_opt_spec() - "-q, --quiet", "--memory SIZE", "--[no-]wait" into @buf[len]. */
void cli_opt_spec(const struct cli_opt *opt, char *buf, size_t len);

/* The meaning of the exit statuses, for help and man pages. */
extern const struct cli_item cli_exit_items[];

#endif
