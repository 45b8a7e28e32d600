/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_HOSTFS_H
#define BASE_HOSTFS_H

/*
 * hostfs - read what the kernel says in /proc, /sys and /etc, below a root that a test may choose.
 *
 * Paths are absolute and fixed in the source, or names that the kernel listed; the root is put in
 * front. Files are small: what does not fit the buffer is cut. Value type, no lock, any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define HOSTFS_ROOT_MAX 512
#define HOSTFS_LIST_MAX 4096 /* entries of a directory: CPUs, interfaces */

struct hostfs {
	char root[HOSTFS_ROOT_MAX]; /* "" = this machine */
};

/*
 * hostfs_read() - the content of @path without the white space at its end, NUL terminated.
 * Returns its length in @buf[len], cut to len - 1; -errno, and then @buf is "", which is all that
 * most callers want to know.
 */
int hostfs_read(const struct hostfs *fs, const char *path, char *buf, size_t len);

/* hostfs_u64() - the decimal number in @path. Returns 0; -errno; -EINVAL no number. */
MUST_USE int hostfs_u64(const struct hostfs *fs, const char *path, uint64_t *out);

/* hostfs_exists() - is there anything at @path? */
bool hostfs_exists(const struct hostfs *fs, const char *path);

/* hostfs_has_text() - does the file at @path, of any size, contain @text? At most 8 KiB of it. */
bool hostfs_has_text(const struct hostfs *fs, const char *path, const char *text);

/*
 * hostfs_list() - call @fn for each entry of the directory @path, in order of name, numbers by
 * their value. @name is borrowed for the call. @fn returns 0 to go on.
 * Returns 0; what @fn returned; -errno, for a folder that is not there nothing was listed; -E2BIG
 * too many.
 */
int hostfs_list(const struct hostfs *fs, const char *path, int (*fn)(const char *name, void *arg),
                void *arg);

/*
 * hostfs_program() - find an executable by name where distributions put them.
 * @buf[len]: its path without the root; "" if there is none.
 * Returns true if found.
 */
bool hostfs_program(const struct hostfs *fs, const char *name, char *buf, size_t len);

/*
 * hostfs_field() - the value in the line "key : value" or "key=value" of @text, without white
 * space around it; quotes around the whole value are taken off. First match.
 * Returns false, and "" in @buf[len], if there is no such line.
 */
bool hostfs_field(const char *text, const char *key, char *buf, size_t len);

/* hostfs_word() - is @word one of the words of @text, parted by white space? */
bool hostfs_word(const char *text, const char *word);

#endif
