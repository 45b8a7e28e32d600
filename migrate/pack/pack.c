/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/pack/pack.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/check.h"
#include "base/fault.h"

#define PACK_ZSTD_LEVEL 1 /* higher levels are slower than any link they could help */
#define PACK_RAWS 4u
#define PACK_GAIN 0.97 /* less is noise, and not worth the heat */

struct pack {
	enum stream_coding coding;
	void *lz4; /* owned: LZ4_sizeofState() */
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
};

int pack_create(enum stream_coding coding, struct pack **out)
{
	struct pack *p = gw_calloc(1, sizeof(*p));
	bool ok = p != NULL;

	CHECK(coding != STREAM_CODING_RAW);
	*out = NULL;
	if (ok) {
		p->coding = coding;
	}
	if (ok && coding == STREAM_CODING_LZ4) {
		p->lz4 = gw_malloc((size_t)LZ4_sizeofState());
		ok = p->lz4 != NULL;
	} else if (ok) {
		p->cctx = ZSTD_createCCtx();
		p->dctx = ZSTD_createDCtx();
		ok = p->cctx != NULL && p->dctx != NULL;
	}
	if (!ok) {
		pack_destroy(p);
		return -ENOMEM;
	}
	*out = p;
	return 0;
}

void pack_destroy(struct pack *p)
{
	if (p == NULL) {
		return;
	}
	(void)ZSTD_freeCCtx(p->cctx);
	(void)ZSTD_freeDCtx(p->dctx);
	free(p->lz4);
	free(p);
}

size_t pack_bytes(struct pack *p, const void *from, size_t len, void *to, size_t room)
{
	if (p->coding == STREAM_CODING_LZ4) {
		int n = LZ4_compress_fast_extState(p->lz4, from, to, (int)len, (int)room, 1);

		return n > 0 ? (size_t)n : 0;
	}

	size_t n = ZSTD_compressCCtx(p->cctx, to, room, from, len, PACK_ZSTD_LEVEL);

	return ZSTD_isError(n) ? 0 : n;
}

int pack_unpack(struct pack *p, const void *from, size_t len, void *to, size_t size)
{
	if (p->coding == STREAM_CODING_LZ4) {
		return LZ4_decompress_safe(from, to, (int)len, (int)size) == (int)size ? 0
		                                                                       : -EBADMSG;
	}
	/* An error is a huge number, never our size. */
	return ZSTD_decompressDCtx(p->dctx, to, size, from, len) == size ? 0 : -EBADMSG;
}

bool pack_gauge_wants(struct pack_gauge *g)
{
	if (g->raws < PACK_RAWS) {
		return false;
	}
	if (g->pause != 0) {
		g->pause--;
		if (g->pause == 0) {
			g->tries = 0;
			g->pack_ns = 0;
		}
		return false;
	}
	g->since_raw = (g->since_raw + 1) % PACK_COMPARE;
	return g->since_raw != 0;
}

void pack_gauge_add(struct pack_gauge *g, bool packed, uint64_t data_bytes, uint64_t took_ns)
{
	if (data_bytes == 0) {
		return;
	}

	double *mean = packed ? &g->pack_ns : &g->raw_ns;
	double now = (double)took_ns / (double)data_bytes;

	*mean = *mean > 0 ? *mean * 0.75 + now * 0.25 : now;
	if (!packed) {
		g->raws += g->raws < PACK_RAWS ? 1 : 0;
		return;
	}
	g->tries += g->tries < PACK_TRIES ? 1 : 0;
	if (g->tries == PACK_TRIES && g->pack_ns > g->raw_ns * PACK_GAIN) {
		g->pause = g->pause_next != 0 ? g->pause_next : PACK_PAUSE_MIN;
		g->pause_next = g->pause < PACK_PAUSE_MAX ? 2 * g->pause : PACK_PAUSE_MAX;
	}
}
