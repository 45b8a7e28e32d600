/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "csv/meta/meta_int.h"

#define COLLISIONS_MAX 256u /* names with one hash: the low 8 bits of the key tell them apart */

static struct tree tree_of(struct csv_meta *m, struct cblock *dir)
{
	return (struct tree){m, dir, CSV_KIND_DIR};
}

/* 0 and where; -ENOENT. */
int dir_find(struct csv_meta *m, struct cblock *dir, const char *name, uint32_t len,
             struct tree_path *p)
{
	const struct tree t = tree_of(m, dir);
	uint64_t base = csv_name_key(m->super.hash_key, name, len);
	int err = tree_seek(&t, base, p);

	while (err == 0 && tree_key(p) - base < COLLISIONS_MAX) {
		const struct csv_dirent_wire *w = (const void *)tree_record(p);

		if (w->name_len == len && memcmp(w->name, name, len) == 0) {
			return 0;
		}
		err = tree_next(&t, p);
	}
	return err != 0 ? err : -ENOENT;
}

/* Add @entry under the first free key of its name's hash. */
int dir_add(struct csv_meta *m, struct cblock *dir, const struct csv_dirent_wire *entry)
{
	const struct tree t = tree_of(m, dir);
	struct csv_dirent_wire w = *entry;
	uint64_t base = csv_name_key(m->super.hash_key, (const char *)entry->name, entry->name_len);
	uint64_t key = base;
	struct tree_path p;
	int err = tree_seek(&t, base, &p);

	while (err == 0 && tree_key(&p) == key) {
		key++;
		err = tree_next(&t, &p);
	}
	if (err != 0 && err != -ENOENT) {
		return err;
	}
	if (key - base >= COLLISIONS_MAX || key == UINT64_MAX) {
		return -ENOSPC;
	}
	w.key = le64_make(key);
	err = tree_insert(&t, &w);
	if (err == 0) {
		struct csv_inode_wire *inode = inode_wire(dir);

		cache_touch(m, dir);
		inode->entries = le64_make(le64_get(inode->entries) + 1);
	}
	return err;
}

int dir_remove(struct csv_meta *m, struct cblock *dir, const char *name, uint32_t len)
{
	const struct tree t = tree_of(m, dir);
	struct csv_inode_wire *inode = inode_wire(dir);
	struct tree_path p;
	int err = dir_find(m, dir, name, len, &p);

	if (err == 0) {
		err = tree_remove(&t, &p);
	}
	if (err == 0) {
		cache_touch(m, dir);
		inode->entries = le64_make(le64_get(inode->entries) - 1);
	}
	return err;
}
