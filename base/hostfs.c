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

#include "base/check.h"

#define PATH_BYTES 4096
#define SEARCH_BYTES 16384

static int path_of(const struct hostfs *fs, const char *path, char *buf, size_t len)
{
	int n = snprintf(buf, len, "%s%s", fs->root, path);

	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

/* Read on until the buffer is full or the file ends. Returns the new fill; -errno. */
static ssize_t fill(int fd, char *buf, size_t used, size_t len)
{
	while (used < len) {
		ssize_t n = read(fd, buf + used, len - used);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			break;
		}
		used += (size_t)n;
	}
	return (ssize_t)used;
}

static int open_file(const struct hostfs *fs, const char *path)
{
	char full[PATH_BYTES];
	int err = path_of(fs, path, full, sizeof(full));

	if (err < 0) {
		return err;
	}

	int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* The whole file or the first @len bytes. Returns the count; -errno. */
static ssize_t slurp(const struct hostfs *fs, const char *path, char *buf, size_t len)
{
	int fd = open_file(fs, path);

	if (fd < 0) {
		return fd;
	}

	ssize_t n = fill(fd, buf, 0, len);

	(void)close(fd);
	return n;
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
	char buf[SEARCH_BYTES];
	size_t text_len = strlen(text);
	size_t kept = 0; /* the end of the piece before: the text may lie across */
	bool found = false;
	int fd = open_file(fs, path);

	CHECK(text_len > 0 && text_len < sizeof(buf) / 2);
	while (fd >= 0 && !found) {
		ssize_t n = fill(fd, buf, kept, sizeof(buf));

		found = n > 0 && memmem(buf, (size_t)n, text, text_len) != NULL;
		if (n < (ssize_t)sizeof(buf)) {
			break; /* the end, or an error */
		}
		kept = text_len - 1;
		memmove(buf, buf + sizeof(buf) - kept, kept);
	}
	if (fd >= 0) {
		(void)close(fd);
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
