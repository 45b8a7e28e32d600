/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_NETVSC_INT_H
#define TESTS_LIB_NETVSC_INT_H

/* netvsc_int - what the two files of the simulated driver share. */

#include "tests/lib/netvsc.h"

/* Abort the test: the driver met what must not be. */
_Noreturn void netvsc_die(const char *what, int err);
/* Send a message that has no completion. */
void netvsc_post(struct netvsc *v, const struct netvsp_message *m);

#endif
