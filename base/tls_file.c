/* SPDX-License-Identifier: Apache-2.0 */

/* tls_file - PEM files: written in one step, read with a bound. Part of base/tls_pki.h. */

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/tls_pki.h"

static int tls_file_put(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left != 0) {
		ssize_t n = write(fd, text, left);

		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n > 0) {
			text += n;
			left -= (size_t)n;
		}
	}
	return fsync(fd) == 0 ? 0 : -errno;
}

/* The rename is durable when the directory is. */
static int tls_file_sync_folder(const char *path)
{
	char *copy = gw_strdup(path);

	if (copy == NULL) {
		return -ENOMEM;
	}

	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) != 0 ? -errno : 0;

	if (fd >= 0) {
		(void)close(fd);
	}
	free(copy);
	return err;
}

int tls_pem_save(const char *path, const char *pem, mode_t mode, struct errbuf *eb)
{
	char *temporary = gw_asprintf("%s.XXXXXX", path);
	int fd = -1;
	int err = -ENOMEM;

	if (temporary == NULL) {
		return errbuf_sys(eb, -ENOMEM, "%s", path);
	}
	fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600: a key is never readable for others */
	if (fd < 0) {
		err = -errno;
		goto free_name;
	}
	err = tls_file_put(fd, pem);
	if (err == 0 && fchmod(fd, mode) != 0) {
		err = -errno;
	}
	if (close(fd) != 0 && err == 0) {
		err = -errno;
	}
	if (err == 0 && rename(temporary, path) != 0) {
		err = -errno;
	}
	if (err != 0) {
		(void)unlink(temporary);
		goto free_name;
	}
	err = tls_file_sync_folder(path);
free_name:
	free(temporary);
	return err == 0 ? 0 : errbuf_sys(eb, err, "cannot write %s", path);
}

static int tls_file_get(int fd, char *buf, size_t max, size_t *len)
{
	*len = 0;
	while (*len < max) {
		ssize_t n = read(fd, buf + *len, max - *len);

		if (n == 0) {
			return 0;
		}
		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n > 0) {
			*len += (size_t)n;
		}
	}
	return -EFBIG;
}

int tls_pem_load(const char *path, char **pem, struct errbuf *eb)
{
	size_t len = 0;
	int err = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	*pem = NULL;
	if (fd < 0) {
		return errbuf_sys(eb, -errno, "cannot read %s", path);
	}

	char *text = gw_malloc(TLS_PEM_MAX + 1);

	err = text == NULL ? -ENOMEM : tls_file_get(fd, text, TLS_PEM_MAX + 1, &len);
	(void)close(fd);
	if (err != 0) {
		if (text != NULL) {
			hash_wipe(text, len);
			free(text);
		}
		return errbuf_sys(eb, err, "cannot read %s", path);
	}
	text[len] = '\0';
	*pem = text;
	return 0;
}
