/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_BASE_CLI_TOY_H
#define TESTS_UNIT_BASE_CLI_TOY_H

/* Two small programs with every kind of word, and helpers to run a line against them. */

#include "base/cli/cli.h"
#include "base/errbuf.h"

extern const struct cli_app toy_app;  /* with nouns */
extern const struct cli_app toyd_app; /* with a root command */

struct toy_result {
	int status;
	char *out; /* owned */
	char *err; /* owned */
};

/* toy_run() - cli_run() on the words of @line, parted by single spaces. */
struct toy_result toy_run(const struct cli_app *app, const char *line);
void toy_result_fini(struct toy_result *result);

/* toy_parse() - cli_parse() on the words of @line. The words live until the next call. */
int toy_parse(const struct cli_app *app, const char *line, struct cli_call *call,
              struct errbuf *eb);

/* toy_complete() - cli_complete() on @line, whose last word (perhaps empty) is completed: the
 * candidates without their summaries, parted by spaces. To be freed. */
char *toy_complete(const struct cli_app *app, const char *line);

#endif
