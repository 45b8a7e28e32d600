/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "csv/data/data_int.h"
#include "tests/lib/test.h"

#define BLOCKS 64u

/* The same, block by block: kind and device, 0 = nothing known. */
struct model {
	uint8_t kind[BLOCKS]; /* enum data_kind + 1 */
	uint64_t device[BLOCKS];
};

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

static void check(const struct data_map *m, const struct model *want)
{
	uint64_t bytes[DATA_WRITTEN + 1] = {0};

	for (uint32_t b = 0; b < BLOCKS; b++) {
		struct data_extent e;
		int err = data_map_find(m, b * 4096ull, &e);

		assert_int_equal(err == 0, want->kind[b] != 0);
		if (err == 0) {
			assert_int_equal((int)e.kind + 1, want->kind[b]);
			assert_true(e.kind == DATA_HOLE || e.device == want->device[b]);
			bytes[e.kind] += 4096;
		}
	}
	assert_memory_equal(bytes, m->bytes, sizeof(bytes));
	for (uint32_t i = 1; i < m->count; i++) {
		const struct data_extent *a = &m->at[i - 1];
		const struct data_extent *b = &m->at[i];

		assert_true(a->file + a->len <= b->file);
		assert_false(a->kind == b->kind && a->file + a->len == b->file &&
		             (a->kind == DATA_HOLE || a->device + a->len == b->device));
	}
}

static void model_put(struct model *w, const struct data_extent *e, bool learn)
{
	for (uint64_t off = 0; off < e->len; off += 4096) {
		uint64_t b = (e->file + off) / 4096;

		if (learn && w->kind[b] != 0 &&
		    (w->kind[b] != DATA_HOLE + 1 || e->kind == DATA_HOLE)) {
			continue;
		}
		w->kind[b] = (uint8_t)(e->kind + 1);
		w->device[b] = e->device + off;
	}
}

struct turn {
	uint64_t file;
	uint64_t len;
	uint8_t from; /* enum data_kind + 1 */
	uint8_t to;
};

static void model_turn(struct model *w, const struct turn *t)
{
	for (uint64_t i = t->file / 4096; i < (t->file + t->len) / 4096; i++) {
		if (w->kind[i] == t->from) {
			w->kind[i] = t->to;
		}
	}
}

#define ALL 0, BLOCKS * 4096ull

static void random_changes_agree_with_a_table(void **state)
{
	static struct data_extent memory[BLOCKS + 8];
	uint64_t rng = 3;

	(void)state;
	for (int life = 0; life < 50; life++) {
		struct data_map m = {.at = memory, .max = BLOCKS + 8};
		struct model want = {{0}, {0}};

		for (int i = 0; i < 300; i++) {
			uint64_t from = next_random(&rng) % BLOCKS;
			uint64_t len = 1 + next_random(&rng) % (BLOCKS - from);
			/* Few places, so that neighbours are often one piece. */
			struct data_extent e = {
				.file = from * 4096,
				.len = len * 4096,
				.device = (1000 * (next_random(&rng) % 2) + from) * 4096,
				.kind = (enum data_kind)(next_random(&rng) % 5),
			};
			uint64_t to = e.file + e.len;

			if (e.kind == DATA_HOLE) {
				e.device = UINT64_MAX;
			}
			switch (next_random(&rng) % 8) {
			case 0:
				assert_int_equal(data_map_drop(&m, e.file, to), 0);
				for (uint64_t b = from; b < from + len; b++) {
					want.kind[b] = 0;
				}
				break;
			case 1:
				if (next_random(&rng) % 2 == 0) {
					data_map_evict(&m, false);
				} else {
					data_map_evict(&m, true);
					model_turn(&want,
					           &(struct turn){ALL, DATA_UNWRITTEN + 1, 0});
				}
				model_turn(&want, &(struct turn){ALL, DATA_WRITTEN + 1, 0});
				model_turn(&want, &(struct turn){ALL, DATA_HOLE + 1, 0});
				break;
			case 2:
				data_map_turn(&m, DATA_FRESH, DATA_TURNING);
				model_turn(&want,
				           &(struct turn){ALL, DATA_FRESH + 1, DATA_TURNING + 1});
				break;
			case 3: {
				uint64_t file;
				uint64_t bytes;

				if (data_map_next(&m, DATA_TURNING, &file, &bytes)) {
					data_map_settle(&m, file, bytes);
					model_turn(&want,
					           &(struct turn){file, bytes, DATA_TURNING + 1,
					                          DATA_WRITTEN + 1});
				}
				break;
			}
			case 4:
			case 5:
				assert_int_equal(data_map_learn(&m, &e, 0), 0);
				model_put(&want, &e, true);
				break;
			default:
				assert_int_equal(data_map_put(&m, &e), 0);
				model_put(&want, &e, false);
			}
			check(&m, &want);
		}
	}
}

static void a_full_map_refuses_and_stays_as_it_is(void **state)
{
	static struct data_extent memory[8];
	struct data_map m = {.at = memory, .max = 8};
	struct data_extent e = {.len = 4096, .kind = DATA_WRITTEN};
	int err = 0;

	(void)state;
	for (uint64_t b = 0; err == 0; b += 2) {
		e.file = b * 4096;
		e.device = b * 8192;
		err = data_map_put(&m, &e);
	}
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(m.count, 7);
	e.len = 2 * 4096ull;
	assert_int_equal(data_map_learn(&m, &e, 0), -ENOSPC);
	assert_int_equal(m.count, 7);
	data_map_evict(&m, false);
	assert_int_equal(m.count, 0);
	assert_int_equal(m.bytes[DATA_WRITTEN], 0);
	/* A split needs room, too. */
	for (uint64_t b = 0; b < 8; b++) {
		e = (struct data_extent){
			.file = b * 16384, .device = b * 65536, .len = 12288, .kind = DATA_WRITTEN};
		if (b < 7) {
			assert_int_equal(data_map_put(&m, &e), 0);
		} else {
			m.at[7] = e;
			m.count = 8;
			m.bytes[DATA_WRITTEN] += e.len;
		}
	}
	assert_int_equal(data_map_drop(&m, 4096, 8192), -ENOSPC);
	assert_int_equal(data_map_drop(&m, 0, 4096), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_agree_with_a_table),
		cmocka_unit_test(a_full_map_refuses_and_stays_as_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
