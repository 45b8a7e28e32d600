/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_VHDX_PLACE_H
#define TESTS_UNIT_HV_VHDX_PLACE_H

/* place - a folder with real files, and a ring: for the tools, and for other programs' images. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/vhdx/vhdx.h"
#include "hv/vhdx/vhdx_tool.h"
#include "tests/lib/tree.h"

#define PLACE_PATH_MAX 160u

struct place {
	struct tree tree;
	struct uring *ring;
	struct vhdx_files files;
	char path[8][PLACE_PATH_MAX]; /* place_path(): the last ones */
	uint32_t next;
};

/* place_setup(), place_teardown() - for cmocka; *state is the place. */
int place_setup(void **state);
int place_teardown(void **state);

/* place_path() - @name in the folder; valid for seven more calls. */
const char *place_path(struct place *p, const char *name);

/* place_create() - a disk; fails the test if that fails. @parent: name, or NULL. */
void place_create(struct place *p, const char *name, const char *parent,
                  const struct vhdx_create_cfg *cfg);

/* place_open() - likewise. place_close() too. */
struct blk *place_open(struct place *p, const char *name, bool read_only);
void place_close(struct blk *blk);

/* place_pattern() - write @len bytes of a pattern that begins with @seed to @blk at @offset. */
void place_pattern(struct blk *blk, uint64_t offset, uint64_t len, uint32_t seed);

/* place_expect() - read it back. seed 0: zeros. */
void place_expect(struct blk *blk, uint64_t offset, uint64_t len, uint32_t seed);

/* place_poke() - change a byte of a file; place_peek() - read bytes of it. */
void place_poke(struct place *p, const char *name, uint64_t offset, uint8_t value);
void place_peek(struct place *p, const char *name, uint64_t offset, void *buf, size_t len);

/* place_size() - of a file [bytes]. */
uint64_t place_size(struct place *p, const char *name);

#endif
