/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HV_RAW_RAW_MODEL_H
#define TESTS_UNIT_HV_RAW_RAW_MODEL_H

/* raw_model - a random mixture of requests on a raw device and on an array, which must agree. */

#include <stdint.h>

struct raw_cfg;
struct raw_fixture;

/*
 * raw_model_run() - @rounds requests, many at a time, on what @cfg says (no path: the fixture's
 * file); its first RAW_FIXTURE_BYTES are zero before. Fails the test at the first difference.
 */
void raw_model_run(struct raw_fixture *f, const struct raw_cfg *cfg, uint32_t rounds);

#endif
