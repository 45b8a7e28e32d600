/* SPDX-License-Identifier: Apache-2.0 */

/* cluster_db_fuzz - a command applied twice to tables that have an object, then the tables' pairs
 * loaded again: nothing differs. */

#include <stdint.h>

#include "base/check.h"
#include "cluster/db/db.h"

static void load(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
	CHECK(db_load(arg, key, key_len, value, value_len, NULL) == 0);
}

static void drop(void *arg, const void *key, size_t key_len)
{
	(void)arg;
	(void)key;
	(void)key_len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t value[] = "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0{\"a\":1}";
	struct db *db;
	struct db *copy;
	struct db_result result;

	CHECK(db_create(&db) == 0 && db_create(&copy) == 0);

	const struct db_sink sink = {.put = load, .del = drop, .arg = copy};

	CHECK(db_apply(db, &(struct db_entry){.index = 1, .command = data, .len = len}, &sink,
	               &result) == 0);
	CHECK(result.status != 0 || db_hash(db) == db_hash(copy));
	CHECK(result.status == 0 || db_hash(copy) == db_hash(db)); /* both empty */
	db_clear(db);
	CHECK(db_load(db, "\1/web1", 6, value, sizeof(value) - 1, NULL) == 0);
	CHECK(db_apply(db, &(struct db_entry){.index = 2, .command = data, .len = len}, NULL,
	               &result) == 0);
	CHECK(db_index(db) == 2);
	db_destroy(db);
	db_destroy(copy);
	return 0;
}
