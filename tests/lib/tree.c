/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/tree.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test.h"

#define PATH_BYTES 1024

void tree_init(struct tree *tree)
{
	(void)snprintf(tree->root, sizeof(tree->root), "/tmp/godwit-test-XXXXXX");
	assert_non_null(mkdtemp(tree->root));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void tree_fini(struct tree *tree)
{
	assert_int_equal(nftw(tree->root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void full_path(const struct tree *tree, const char *path, char *buf)
{
	int n = snprintf(buf, PATH_BYTES, "%s%s", tree->root, path);

	assert_true(path[0] == '/' && n > 0 && n < PATH_BYTES);
}

/* Make the folders that @full (below the root) lies in. */
static void make_parents(const struct tree *tree, char *full)
{
	for (char *at = full + strlen(tree->root) + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
		*at = '/';
	}
}

static void write_file(const struct tree *tree, const char *path, const char *text, mode_t mode)
{
	char full[PATH_BYTES];

	full_path(tree, path, full);
	make_parents(tree, full);

	FILE *file = fopen(full, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(full, mode), 0);
}

void tree_file(const struct tree *tree, const char *path, const char *text)
{
	write_file(tree, path, text, 0644);
}

void tree_program(const struct tree *tree, const char *path, const char *text)
{
	write_file(tree, path, text, 0755);
}

void tree_dir(const struct tree *tree, const char *path)
{
	char full[PATH_BYTES];

	full_path(tree, path, full);
	make_parents(tree, full);
	assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
}

void tree_link(const struct tree *tree, const char *path, const char *target)
{
	char full[PATH_BYTES];

	full_path(tree, path, full);
	make_parents(tree, full);
	assert_int_equal(symlink(target, full), 0);
}

void tree_remove(const struct tree *tree, const char *path)
{
	char full[PATH_BYTES];

	full_path(tree, path, full);
	assert_int_equal(unlink(full), 0);
}
