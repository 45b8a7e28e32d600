/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/vm_files.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/attr.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/patience.h"

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "";
}

static bool is_among(const json_t *made, const char *path)
{
	const json_t *one;
	size_t i;

	json_array_foreach(made, i, one)
	{
		if (strcmp(text_of(one, "path"), path) == 0) {
			return true;
		}
	}
	return false;
}

static int file_check(const char *what, const char *path, bool disk, struct errbuf *eb)
{
	int err = path[0] != '\0' ? patience_file(path, eb) : 0;

	if (err != 0) {
		errbuf_prepend(eb, "%s", what);
	}
	if (err == -ENOENT) {
		errbuf_hint(eb, "%s",
		            disk ? "godwit disk create makes it, or give its size: --disk "
		                   "PATH,size=SIZE"
		                 : "check the path; it is one of the host that is asked");
	}
	return err;
}

int vm_files_check(const json_t *definition, const json_t *made, struct errbuf *eb)
{
	static const char *const keys[] = {"kernel", "initrd"};
	const json_t *boot = json_object_get(definition, "boot");
	const json_t *disk;
	size_t i;
	int err = 0;

	json_array_foreach(json_object_get(definition, "disks"), i, disk)
	{
		const char *path = text_of(disk, "path");
		bool dvd = strcmp(text_of(disk, "kind"), "dvd") == 0;

		if (err == 0 && !is_among(made, path)) {
			err = file_check(dvd ? "DVD" : "disk", path, !dvd, eb);
		}
	}
	for (i = 0; err == 0 && i < ARRAY_LEN(keys); i++) {
		err = file_check(keys[i], text_of(boot, keys[i]), false, eb);
	}
	return err;
}
