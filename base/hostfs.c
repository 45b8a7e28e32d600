/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hostfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"

#define PATH_BYTES 4096

static int path_of(const struct hostfs *fs, const char *path, char *buf, size_t len)
{
	int n = snprintf(buf, len, "%s%s", fs->root, path);

	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

/* Whole file or the first @len bytes. Returns the count; -errno. */
static ssize_t slurp(const struct hostfs *fs, const char *path, char *buf, size_t len)
{
	char full[PATH_BYTES];
	size_t used = 0;
	int err = path_of(fs, path, full, sizeof(full));

	if (err < 0) {
		return err;
	}

	int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0) {
		return -errno;
	}
	while (used < len) {
		ssize_t n = read(fd, buf + used, len - used);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			err = -errno;
			(void)close(fd);
			return err;
		}
		if (n == 0) {
			break;
		}
		used += (size_t)n;
	}
	(void)close(fd);
	return (ssize_t)used;
}

int hostfs_read(const struct hostfs *fs, const char *path, char *buf, size_t len)
{
	ssize_t n = slurp(fs, path, buf, len - 1);

	if (n < 0) {
		buf[0] = '\0';
		return (int)n;
	}
	while (n > 0 && isspace((unsigned char)buf[n - 1])) {
		n--;
	}
	buf[n] = '\0';
	return (int)n;
}

int hostfs_u64(const struct hostfs *fs, const char *path, uint64_t *out)
{
	char text[32];
	char *end = NULL;
	int n = hostfs_read(fs, path, text, sizeof(text));

	if (n < 0) {
		return n;
	}
	if (!isdigit((unsigned char)text[0])) {
		return -EINVAL;
	}
	errno = 0;

	uint64_t number = strtoull(text, &end, 10);

	if (errno != 0 || *end != '\0') {
		return -EINVAL;
	}
	*out = number;
	return 0;
}

bool hostfs_exists(const struct hostfs *fs, const char *path)
{
	char full[PATH_BYTES];

	return path_of(fs, path, full, sizeof(full)) == 0 && access(full, F_OK) == 0;
}

bool hostfs_has_text(const struct hostfs *fs, const char *path, const char *text)
{
	char *buf = gw_malloc(HOSTFS_FILE_MAX);
	bool found = false;

	if (buf != NULL) {
		ssize_t n = slurp(fs, path, buf, HOSTFS_FILE_MAX);

		found = n > 0 && memmem(buf, (size_t)n, text, strlen(text)) != NULL;
		free(buf);
	}
	return found;
}

static int not_dots(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

int hostfs_list(const struct hostfs *fs, const char *path, int (*fn)(const char *name, void *arg),
                void *arg)
{
	char full[PATH_BYTES];
	struct dirent **entries = NULL;
	int err = path_of(fs, path, full, sizeof(full));

	if (err < 0) {
		return err;
	}

	int count = scandir(full, &entries, not_dots, versionsort);

	if (count < 0) {
		return -errno;
	}
	err = count > HOSTFS_LIST_MAX ? -E2BIG : 0;
	for (int i = 0; i < count; i++) {
		if (err == 0) {
			err = fn(entries[i]->d_name, arg);
		}
		free(entries[i]);
	}
	free(entries);
	return err;
}

bool hostfs_program(const struct hostfs *fs, const char *name, char *buf, size_t len)
{
	static const char *const dirs[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
	                                   "/usr/bin",        "/sbin",          "/bin"};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		char full[PATH_BYTES];
		struct stat st;
		int n = snprintf(buf, len, "%s/%s", dirs[i], name);

		if (n > 0 && (size_t)n < len && path_of(fs, buf, full, sizeof(full)) == 0 &&
		    stat(full, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0) {
			return true;
		}
	}
	buf[0] = '\0';
	return false;
}

/* The line's value if its key is @key, else NULL. */
static const char *value_of(const char *line, const char *key)
{
	size_t key_len = strlen(key);

	if (strncmp(line, key, key_len) != 0) {
		return NULL;
	}
	line += key_len;
	line += strspn(line, " \t");
	if (*line != ':' && *line != '=') {
		return NULL;
	}
	line++;
	return line + strspn(line, " \t");
}

bool hostfs_field(const char *text, const char *key, char *buf, size_t len)
{
	buf[0] = '\0';
	for (const char *line = text; *line != '\0';) {
		const char *value = value_of(line, key);
		size_t line_len = strcspn(line, "\n");

		if (value != NULL) {
			size_t n = strcspn(value, "\n");

			while (n > 0 && isspace((unsigned char)value[n - 1])) {
				n--;
			}
			if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
				value++;
				n -= 2;
			}
			(void)snprintf(buf, len, "%.*s", (int)n, value);
			return true;
		}
		line += line_len + (line[line_len] == '\n');
	}
	return false;
}

bool hostfs_word(const char *text, const char *word)
{
	size_t word_len = strlen(word);

	for (const char *at = text; *at != '\0';) {
		size_t n = strcspn(at, " \t\n");

		if (n == word_len && memcmp(at, word, n) == 0) {
			return true;
		}
		at += n;
		at += strspn(at, " \t\n");
	}
	return false;
}
