/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MIGRATE_COMPAT_COMPAT_H
#define MIGRATE_COMPAT_COMPAT_H

/*
 * compat - everything that speaks against moving a VM to a host, at once.
 *
 * The destination's checks (processor, memory, devices, networks, disks) each add what they find;
 * none ends the search. The report travels in the REPORT frame as JSON and is what `godwit vm
 * move --check` shows. Blockers forbid the move, warnings do not.
 *
 * Value type with everything inside: no allocation until it is encoded. One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define COMPAT_ITEMS_MAX 64u /* more would not be read */
#define COMPAT_CODE_MAX 32u
#define COMPAT_TEXT_MAX 240u
#define COMPAT_JSON_MAX (64u << 10)

enum compat_level { COMPAT_WARNING, COMPAT_BLOCKER };

struct compat_item {
	enum compat_level level;
	char code[COMPAT_CODE_MAX]; /* for programs: "cpu-feature", "disk-unreachable" */
	char text[COMPAT_TEXT_MAX]; /* for people */
	char hint[COMPAT_TEXT_MAX]; /* what to do; may be empty */
};

/* Start from {0}. */
struct compat {
	struct compat_item items[COMPAT_ITEMS_MAX];
	uint32_t count;
	uint32_t blockers; /* of all that were added */
	uint32_t dropped;  /* that found no room */
	uint32_t last;     /* the item added last; COMPAT_ITEMS_MAX = it found no room */
};

/* compat_add() - @code: a-z, 0-9 and '-'; the text says what is wrong with names and figures. When
 * there is no room, blockers take the place of warnings. */
void compat_add(struct compat *c, enum compat_level level, const char *code, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* compat_hint() - what to do about the item added last. */
void compat_hint(struct compat *c, const char *hint);

/* compat_movable() - no blocker. */
bool compat_movable(const struct compat *c);

/* compat_summary() - one line: "2 reasons against it: ...". Returns @buf. */
const char *compat_summary(const struct compat *c, char *buf, size_t size);

/* compat_encode() - as JSON text, owned by the caller (free()). Returns 0; -ENOMEM. */
MUST_USE int compat_encode(const struct compat *c, char **out, size_t *len);

/* compat_decode() - @buf[len]: hostile. Returns 0; -EBADMSG; -ENOMEM. *out untouched on failure. */
MUST_USE int compat_decode(const void *buf, size_t len, struct compat *out, struct errbuf *eb);

#endif
