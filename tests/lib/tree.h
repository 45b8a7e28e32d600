/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_TREE_H
#define TESTS_LIB_TREE_H

/*
 * tree - a folder below /tmp that a test fills with files and that is gone afterwards: a /proc and
 * /sys to look at, a state directory. Failures fail the test.
 */

struct tree {
	char root[64];
};

/* tree_init() - an empty folder. */
void tree_init(struct tree *tree);

/* tree_fini() - remove it and all in it. */
void tree_fini(struct tree *tree);

/* tree_file() - write @text to @path below the root ("/proc/cpuinfo"); folders are made. */
void tree_file(const struct tree *tree, const char *path, const char *text);

/* tree_program() - the same, executable. */
void tree_program(const struct tree *tree, const char *path, const char *text);

/* tree_dir() - make the folder @path and those above it. */
void tree_dir(const struct tree *tree, const char *path);

/* tree_link() - a symbolic link at @path. */
void tree_link(const struct tree *tree, const char *path, const char *target);

/* tree_remove() - remove the file @path. */
void tree_remove(const struct tree *tree, const char *path);

#endif
