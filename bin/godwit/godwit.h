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

#include "base/api/client.h"
#include "base/attr.h"
#include "base/cli/cli.h"

struct errbuf;
struct ui_buf;
struct ui_table;
struct json_t;

/* The whole command line; see table.c. */
extern const struct cli_app godwit_app;

/* complete.c: prints the names of a kind that are on this host, one a line. */
void godwit_complete(const char *kind, FILE *out, void *arg);

/* The nouns, each in its own file. */
extern const struct cli_noun noun_cert;
extern const struct cli_noun noun_cluster;
extern const struct cli_noun noun_csv;
extern const struct cli_noun noun_disk;
extern const struct cli_noun noun_event;
extern const struct cli_noun noun_explain;
extern const struct cli_noun noun_fence;
extern const struct cli_noun noun_host;
extern const struct cli_noun noun_job;
extern const struct cli_noun noun_node;
extern const struct cli_noun noun_quorum;
extern const struct cli_noun noun_switch;
extern const struct cli_noun noun_vm;

/*
 * godwit_get() - ask the API that --host or GODWIT_HOST names, else the one of this host.
 * @path: from api_path(). @out: the answer, a new reference; NULL on failure.
 * Returns 0; -errno as api_client_call().
 */
MUST_USE int godwit_get(const struct cli_call *call, const char *path, struct json_t **out,
                        struct errbuf *eb);

/*
 * godwit_call() - any method, with a JSON body or NULL; *out: the answer, {} if it was empty.
 * godwit_bytes(), godwit_events(), godwit_channel() - answers that are no single JSON value; the
 * channel's client is destroyed after the channel.
 * godwit_run() - POST something that takes time: shows progress of @what ("converting a.raw") on
 * a terminal; *out: the result. Interrupting the program interrupts the work.
 * All return 0; -errno as api_client_call().
 */
MUST_USE int godwit_call(const struct cli_call *call, enum api_method method, const char *path,
                         const struct json_t *body, struct json_t **out, struct errbuf *eb);
MUST_USE int godwit_bytes(const struct cli_call *call, const char *path, api_bytes_fn fn, void *arg,
                          struct errbuf *eb);
MUST_USE int godwit_events(const struct cli_call *call, const char *path, api_event_fn fn,
                           void *arg, struct errbuf *eb);
MUST_USE int godwit_run(const struct cli_call *call, const char *path, const struct json_t *body,
                        const char *what, struct json_t **out, struct errbuf *eb);
MUST_USE int godwit_channel(const struct cli_call *call, const char *path, const char *protocol,
                            struct api_client **client, struct api_channel **out,
                            struct errbuf *eb);

/*
 * godwit_on_interrupt() - what Ctrl-C says before it ends the program, from now on; NULL: nothing
 * any more. Not with --quiet or --json.
 */
void godwit_on_interrupt(const struct cli_call *call, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* godwit_host() - the URL the user named; NULL = the API of this host. */
const char *godwit_host(const struct cli_call *call);

/*
 * godwit_file() - @path as the API wants it: absolute. A relative one is completed with our folder
 * if the API is on this host. @buf[GODWIT_PATH_MAX].
 * Returns 0; -EINVAL; -ENAMETOOLONG; -errno.
 */
#define GODWIT_PATH_MAX 4096
MUST_USE int godwit_file(const struct cli_call *call, const char *path, char *buf,
                         struct errbuf *eb);

/* godwit_json() - print @json as --json wants it: indented, one newline at the end. */
void godwit_json(const struct cli_call *call, const struct json_t *json);

/*
 * godwit_fail() - say why it failed, on call->err: text and hint, or with --json the API's error
 * object on one line.
 * Returns the exit status that fits @err (-errno).
 */
int godwit_fail(const struct cli_call *call, int err, const struct errbuf *eb);

/*
 * godwit_finish() - the end of a command: @answer (taken), as --json wants it or by @put for a
 * person; or with @err < 0 why there is none, as godwit_fail().
 * Returns the exit status.
 */
int godwit_finish(const struct cli_call *call, int err, struct json_t *answer,
                  const struct errbuf *eb,
                  void (*put)(const struct cli_call *call, const struct json_t *answer));

/* godwit_note() - a remark for a person on call->err; not with --quiet. */
void godwit_note(const struct cli_call *call, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* godwit_print() - print @buf as it is and free it. Returns the exit status. */
int godwit_print(const struct cli_call *call, struct ui_buf *buf);

/* godwit_table() - print @table, at most as wide as the terminal, and destroy it. Returns the exit
 * status. */
int godwit_table(const struct cli_call *call, struct ui_table *table);

/*
 * godwit_put() - print text that may come from strangers: control characters and broken UTF-8
 * become '?', so that it cannot forge lines or drive the terminal. For that reason it prints no
 * newline: godwit_end() does.
 */
void godwit_put(const struct cli_call *call, const char *fmt, ...) PRINTF_LIKE(2, 3);
void godwit_end(const struct cli_call *call);

/* godwit_say() - a line of it: godwit_put() and godwit_end(). */
void godwit_say(const struct cli_call *call, const char *fmt, ...) PRINTF_LIKE(2, 3);

enum godwit_colour { COLOUR_NONE, COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD, COLOUR_TITLE };

/* godwit_colour() - what is put next has that colour, up to COLOUR_NONE. Nothing happens where
 * colours do not belong: no terminal, NO_COLOR set, TERM=dumb. */
void godwit_colour(const struct cli_call *call, enum godwit_colour colour);

/* godwit_text() - a member's text, or "" if it is none. Borrowed from @json. */
const char *godwit_text(const struct json_t *json, const char *key);

#endif
