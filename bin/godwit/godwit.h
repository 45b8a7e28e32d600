/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_GODWIT_H
#define BIN_GODWIT_GODWIT_H

/*
 * godwit - the command line: words in, one API call, a table or JSON out.
 *
 * One file per noun (host.c, ...) with the functions and the constant table of its commands;
 * table.c lists the nouns. How to add a command is shown in base/cli/cli.h.
 */

#include <stdbool.h>
#include <stdio.h>

#include "base/cli/cli.h"

struct errbuf;
struct json_t;

/* The whole command line; see table.c. */
extern const struct cli_app godwit_app;

/* The nouns, each in its own file. */
extern const struct cli_noun noun_host;

/* godwit_json() - print @json as --json wants it: indented, one newline at the end. */
void godwit_json(const struct cli_call *call, const struct json_t *json);

/*
 * godwit_fail() - say why it failed, on call->err: text and hint, or with --json the API's error
 * object on one line.
 * Returns the exit status that fits @err (-errno).
 */
int godwit_fail(const struct cli_call *call, int err, const struct errbuf *eb);

/* godwit_note() - a remark for a person on call->err; not with --quiet. */
void godwit_note(const struct cli_call *call, const char *text);

/* Colours, or "" where they do not belong: no terminal, NO_COLOR set, TERM=dumb. */
enum godwit_colour { COLOUR_NONE, COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD, COLOUR_TITLE };

const char *godwit_colour(const struct cli_call *call, enum godwit_colour colour);

/* godwit_text() - a member's text, or "" if it is none. Borrowed from @json. */
const char *godwit_text(const struct json_t *json, const char *key);

#endif
