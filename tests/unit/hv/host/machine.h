/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_HOST_MACHINE_H
#define TESTS_UNIT_HV_HOST_MACHINE_H

/* machine - a made-up server that passes every check; tests break one thing at a time. */

#include "hv/host/host.h"
#include "tests/lib/tree.h"

struct machine {
	struct tree tree;
	struct host_probe probe;
};

void machine_init(struct machine *machine);
/* machine_restore() - make the file @path again what it was, or take it away. */
void machine_restore(struct machine *machine, const char *path);

void machine_fini(struct machine *machine);

#endif
