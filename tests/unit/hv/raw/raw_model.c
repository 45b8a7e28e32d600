/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/raw/raw_model.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blk_sync.h"
#include "tests/unit/hv/raw/raw_fixture.h"

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

#define MODEL_DEPTH 24u
#define MODEL_SLICE (RAW_FIXTURE_BYTES / MODEL_DEPTH / 4096 * 4096)
#define MODEL_LEN_MAX (160u << 10) /* more than a bounce buffer */
#define MODEL_IOVS 6u

struct model_slot {
	struct raw_probe probe;
	struct iovec iov[MODEL_IOVS];
	uint8_t *memory; /* what the vector points into */
	uint64_t start;  /* of this slot's slice of the disk */
	bool busy;
};

struct model {
	struct blk *blk;
	uint8_t *expect; /* the whole disk */
	uint64_t rng;
	uint32_t unit;
	struct model_slot slots[MODEL_DEPTH];
};

/* Cut @len bytes of the slot's memory into elements, on any bytes or on sectors. */
static void model_vector(struct model *m, struct model_slot *s, uint64_t len)
{
	bool odd = next_random(&m->rng) % 2 != 0;
	uint64_t grain = odd ? 1 : m->unit;
	uint8_t *at = s->memory + (odd ? next_random(&m->rng) % 7 : 0);
	uint32_t n = 0;

	while (len != 0) {
		uint64_t part = (1 + next_random(&m->rng) % (len / grain)) * grain;

		if (n == MODEL_IOVS - 1) {
			part = len;
		}
		s->iov[n++] = (struct iovec){at, part};
		at += part;
		len -= part;
	}
	s->probe.req.iov = s->iov;
	s->probe.req.iov_count = n;
}

static void model_start(struct model *m, struct model_slot *s)
{
	static const enum blk_op ops[] = {BLK_READ,  BLK_READ, BLK_WRITE,   BLK_WRITE,
	                                  BLK_WRITE, BLK_ZERO, BLK_DISCARD, BLK_FLUSH};
	enum blk_op op = ops[next_random(&m->rng) % ARRAY_LEN(ops)];
	uint64_t len = (1 + next_random(&m->rng) % (MODEL_LEN_MAX / m->unit)) * m->unit;
	uint64_t room = (MODEL_SLICE - len) / m->unit;
	uint64_t offset = s->start + next_random(&m->rng) % (room + 1) * m->unit;
	bool fua = (op == BLK_WRITE || op == BLK_ZERO) && next_random(&m->rng) % 8 == 0;

	s->probe.req = (struct blk_req){.op = op, .flags = fua ? BLK_FUA : 0};
	s->busy = true;
	if (op != BLK_FLUSH) {
		s->probe.req.offset_bytes = offset;
		s->probe.req.len_bytes = len;
	}
	if (op == BLK_READ || op == BLK_WRITE) {
		for (uint64_t i = 0; i < len + 8; i += 8) {
			uint64_t word = next_random(&m->rng);

			memcpy(s->memory + i, &word, sizeof(word));
		}
		model_vector(m, s, len);
	}
	if (op == BLK_WRITE) {
		memcpy(m->expect + offset, s->iov[0].iov_base, len);
	} else if (op == BLK_ZERO) {
		memset(m->expect + offset, 0, len);
	}
	raw_probe_start(m->blk, &s->probe);
}

static void model_finish(struct model *m, struct model_slot *s)
{
	const struct blk_req *req = &s->probe.req;

	assert_int_equal(raw_probe_wait(m->blk, &s->probe), 0);
	s->busy = false;
	if (req->op == BLK_READ) {
		assert_memory_equal(s->iov[0].iov_base, m->expect + req->offset_bytes,
		                    req->len_bytes);
	} else if (req->op == BLK_DISCARD) {
		/* Undefined, or zero: read it to know. */
		assert_int_equal(blk_sync_read(m->blk, req->offset_bytes,
		                               m->expect + req->offset_bytes, req->len_bytes),
		                 0);
	}
}

void raw_model_run(struct raw_fixture *f, const struct raw_cfg *cfg, uint32_t rounds)
{
	struct model *m = calloc(1, sizeof(*m));
	struct blk_info info;

	assert_non_null(m);
	m->blk = raw_fixture_open(f, cfg);
	m->expect = calloc(1, RAW_FIXTURE_BYTES);
	assert_non_null(m->expect);
	m->rng = 42;
	blk_get_info(m->blk, &info);
	m->unit = info.logical_bytes;
	for (uint32_t i = 0; i < MODEL_DEPTH; i++) {
		m->slots[i].start = i * MODEL_SLICE;
		m->slots[i].memory = aligned_alloc(4096, MODEL_LEN_MAX + 4096);
		assert_non_null(m->slots[i].memory);
	}
	for (uint32_t round = 0; round < rounds; round++) {
		struct model_slot *s = &m->slots[next_random(&m->rng) % MODEL_DEPTH];

		if (s->busy) {
			model_finish(m, s);
		}
		model_start(m, s);
	}
	for (uint32_t i = 0; i < MODEL_DEPTH; i++) {
		if (m->slots[i].busy) {
			model_finish(m, &m->slots[i]);
		}
		free(m->slots[i].memory);
	}
	assert_int_equal(blk_close(m->blk, NULL), 0);

	/* The file itself says the same. */
	uint8_t *found = malloc(RAW_FIXTURE_BYTES);
	int fd = open(cfg->path != NULL ? cfg->path : f->path, O_RDONLY | O_CLOEXEC);

	assert_non_null(found);
	assert_int_equal(read(fd, found, RAW_FIXTURE_BYTES), RAW_FIXTURE_BYTES);
	assert_memory_equal(found, m->expect, RAW_FIXTURE_BYTES);
	close(fd);
	free(found);
	free(m->expect);
	free(m);
}
