/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/vhdx/path_int.h"

/* The length of the folder part of @path, with the slash at its end; 0: there is none. */
static size_t path_folder(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

int vhdx_path_resolve(const char *from, const char *name, char *out, size_t size)
{
	size_t folder = path_folder(from);
	int n;

	if (name[0] == '\\' || name[0] == '/') {
		folder = 0; /* absolute */
	} else if (name[0] == '.' && (name[1] == '\\' || name[1] == '/')) {
		name += 2;
	}
	n = snprintf(out, size, "%.*s%s", (int)folder, from, name);
	if (n < 0 || (size_t)n >= size) {
		return -ENAMETOOLONG;
	}
	for (char *p = out + folder; *p != '\0'; p++) {
		if (*p == '\\') {
			*p = '/';
		}
	}
	return 0;
}

int vhdx_path_relative(const char *from, const char *to, char *out, size_t size)
{
	size_t common = 0;
	size_t used = 0;
	const char *rest;

	/* What both share, up to a slash. */
	for (size_t i = 0; from[i] == to[i] && from[i] != '\0'; i++) {
		common = from[i] == '/' ? i + 1 : common;
	}
	if (size < 3) {
		return -ENAMETOOLONG;
	}
	for (const char *p = from + common; (p = strchr(p, '/')) != NULL; p++) {
		if (size - used < 4) {
			return -ENAMETOOLONG;
		}
		memcpy(out + used, "..\\", 3);
		used += 3;
	}
	if (used == 0) {
		memcpy(out, ".\\", 2);
		used = 2;
	}
	rest = to + common;
	if (strlen(rest) >= size - used) {
		return -ENAMETOOLONG;
	}
	for (; *rest != '\0'; rest++) {
		if (*rest == '\\') {
			return -EINVAL;
		}
		out[used++] = (char)(*rest == '/' ? '\\' : *rest);
	}
	out[used] = '\0';
	return 0;
}

int vhdx_path_absolute(const char *path, char *out, size_t size)
{
	size_t folder = path_folder(path);
	char dir[PATH_MAX];
	char *real;
	int n;

	n = folder == 0 ? snprintf(dir, sizeof(dir), ".")
	                : snprintf(dir, sizeof(dir), "%.*s", (int)folder, path);
	if (n < 0 || (size_t)n >= sizeof(dir)) {
		return -ENAMETOOLONG;
	}
	real = realpath(dir, NULL);
	if (real == NULL) {
		return -errno;
	}
	n = snprintf(out, size, "%s/%s", strcmp(real, "/") == 0 ? "" : real, path + folder);
	free(real);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}
