/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CSV_PROTO_SAMPLE_H
#define TESTS_UNIT_CSV_PROTO_SAMPLE_H

#include <stdint.h>

#include "csv/proto/csv_proto.h"

/* csv_proto_sample() - message @index of the samples, one or more of each type. Returns its name;
 * NULL: there are no more. */
const char *csv_proto_sample(uint32_t index, struct csv_msg *out);

#endif
