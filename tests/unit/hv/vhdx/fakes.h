/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_VHDX_FAKES_H
#define TESTS_UNIT_HV_VHDX_FAKES_H

/*
 * fakes - files by name on fake disks, for the tools: they open and close them as often as they
 * like, and the power of all fails together.
 */

#include <stdbool.h>
#include <stdint.h>

#include "hv/vhdx/vhdx.h"
#include "tests/lib/fake_disk.h"

#define FAKES_MAX 4u

struct fakes_file {
	char name[32]; /* "" = none */
	struct fake_disk *disk;
};

struct fakes {
	struct uring *ring;
	struct vhdx_files files;
	struct fakes_file file[FAKES_MAX];
	uint64_t cut_at; /* at this request from now the power fails; 0 = not */
	bool cut;
};

void fakes_init(struct fakes *f);
void fakes_fini(struct fakes *f);

/* fakes_settle() - all that is written is durable. */
void fakes_settle(struct fakes *f);

/* fakes_crash() - @to becomes what a power failure now may leave of @from. */
void fakes_crash(const struct fakes *from, struct fakes *to, uint64_t seed);

#endif
