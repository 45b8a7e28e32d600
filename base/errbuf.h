/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_ERRBUF_H
#define BASE_ERRBUF_H

/*
 * errbuf - the text that goes with a -errno: what is wrong, and what to do about it.
 *
 * The function that finds the fault writes the text, each layer above puts its context in front
 * ("vm web1: disk 0: vhdx: header 1: bad CRC at 0x10000"), the handler shows it. Fixed size, no
 * allocation, so that it also works when memory is gone. Every function accepts eb == NULL.
 * Value type: start from {0}; one owner, no lock.
 */

#include <stdarg.h>

#include "base/attr.h"

#define ERRBUF_TEXT_MAX 480 /* a line of a log or a terminal, with context from several layers */
#define ERRBUF_HINT_MAX 240 /* one sentence */

struct errbuf {
	char text[ERRBUF_TEXT_MAX]; /* NUL terminated; "" = nothing said */
	char hint[ERRBUF_HINT_MAX]; /* what to do; "" = nothing to add */
};

/*
 * errbuf_set() - say what went wrong, replacing what was there (the hint too).
 * @err: -errno, negative.
 * Returns @err, so that a caller can write: return errbuf_set(eb, -EINVAL, "...").
 */
int errbuf_set(struct errbuf *eb, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * errbuf_sys() - as errbuf_set(), and append ": " and the text of @err.
 * Returns @err.
 */
int errbuf_sys(struct errbuf *eb, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* errbuf_prepend() - put context and ": " in front of the text; cut at the end if it is long. */
void errbuf_prepend(struct errbuf *eb, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* errbuf_hint() - say what the user can do about it. */
void errbuf_hint(struct errbuf *eb, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * errbuf_text() - the text, or the description of @err (-errno) if nobody wrote one.
 * The result lives as long as @eb, or forever.
 */
const char *errbuf_text(const struct errbuf *eb, int err);

#endif
