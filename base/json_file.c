/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in files of our own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fs.h"
#include "base/json.h"

int json_read_file(const char *path, const struct json_limits *limits, json_t **out,
                   struct errbuf *eb)
{
	char *text;
	size_t len;
	int err;

	*out = NULL;
	err = fs_read(path, limits != NULL ? limits->bytes_max : JSON_BYTES_MAX, &text, &len, eb);
	if (err != 0) {
		return err;
	}
	err = json_parse(text, len, limits, out, eb);
	if (err != 0) {
		errbuf_prepend(eb, "%s", path);
	}
	free(text);
	return err;
}

int json_write_file(const char *path, const json_t *value, mode_t mode, struct errbuf *eb)
{
	char *text = json_text(value, JSON_TEXT_PRETTY);

	if (text == NULL) {
		return errbuf_sys(eb, -ENOMEM, "write %s", path);
	}

	size_t len = strlen(text);

	text[len] = '\n'; /* in the place of the NUL: the last line of a text file ends too */

	int err = fs_write(path, text, len + 1, mode, eb);

	free(text);
	return err;
}
