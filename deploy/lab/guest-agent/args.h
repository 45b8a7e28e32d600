/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_GUEST_AGENT_ARGS_H
#define DEPLOY_LAB_GUEST_AGENT_ARGS_H

/*
 * args - one command: words, then key=value.
 *
 *	disk verify dev=sda offset=0 size=16M seed=7 generation=1
 *
 * On the kernel command line blanks are written as commas: gw.run=mem,start,size=64M;tick,ms=100
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define ARGS_LINE_MAX 512U
#define ARGS_WORDS_MAX 24U

struct args {
	char text[ARGS_LINE_MAX]; /* the words lie here */
	const char *word[ARGS_WORDS_MAX];
	uint32_t count;
};

/*
 * args_parse() - split @line, whose words are separated by blanks or @separator.
 * Returns 0; -E2BIG too long or too many words; -ENOMSG no word at all.
 */
MUST_USE int args_parse(struct args *a, const char *line, char separator);

/* args_is() - is word number @at @word? */
bool args_is(const struct args *a, uint32_t at, const char *word);

/* args_text() - the value of @key, or @otherwise. */
const char *args_text(const struct args *a, const char *key, const char *otherwise);

/*
 * args_number() - the value of @key, a number with an optional K, M or G; @otherwise if it is
 * absent.
 * Returns 0; -EINVAL no number; -ERANGE more than @max.
 */
MUST_USE int args_number(const struct args *a, const char *key, uint64_t otherwise, uint64_t max,
                         uint64_t *out);

#endif
