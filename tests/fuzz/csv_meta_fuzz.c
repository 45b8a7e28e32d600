/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "csv/format/csv_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What passed can be walked: every record is there, every address in its region. */
static void walk(const uint8_t *buf, const struct csv_layout *l)
{
	struct csv_records r;

	csv_records_of(buf, &r);
	if (r.count > r.max || r.at + (size_t)r.count * r.bytes > buf + CSV_BLOCK_BYTES) {
		abort();
	}
	for (uint32_t i = 0; i < r.count; i++) {
		struct csv_index_wire index;

		memcpy(&index, r.at + (size_t)i * r.bytes, sizeof(index));
		if (r.level != 0 && !csv_layout_in_pool(l, le64_get(index.child))) {
			abort();
		}
	}
}

/* The first byte chooses the type; the rest is the block behind its head. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t buf[CSV_BLOCK_BYTES];
	const struct csv_layout_cfg cfg = {.size_bytes = 256u << 20};
	const struct guid volume = {{1}};
	struct csv_layout l;

	if (len == 0 || csv_layout_make(&cfg, &l, NULL) != 0) {
		return 0;
	}

	const struct csv_block_id ids[] = {
		{CSV_STATE, l.state_at, 0, &volume},
		{CSV_UNIT_MAP, l.unit_map_at, 0, &volume},
		{CSV_POOL_MAP, l.pool_map_at, 0, &volume},
		{CSV_INODE, l.pool_at, l.pool_at, &volume},
		{CSV_INODE, l.pool_at + 1, l.pool_at + 1, &volume},
		{CSV_INODE, l.pool_at + 9, l.pool_at + 9, &volume},
		{CSV_NODE, l.pool_at + 19, l.pool_at + 9, &volume},
	};
	const struct csv_block_id *id = &ids[data[0] % ARRAY_LEN(ids)];

	memset(buf, 0, sizeof(buf));
	len = len - 1 < sizeof(buf) - 64 ? len - 1 : sizeof(buf) - 64;
	memcpy(buf + 64, data + 1, len);
	csv_block_seal(buf, id, 7, 8);
	if (csv_meta_verify(buf, &l, id, NULL) == 0 &&
	    (id->type == CSV_INODE || id->type == CSV_NODE)) {
		walk(buf, &l);
	}
	return 0;
}
