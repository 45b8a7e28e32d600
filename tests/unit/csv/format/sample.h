/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CSV_FORMAT_SAMPLE_H
#define TESTS_UNIT_CSV_FORMAT_SAMPLE_H

/* sample - one good block of every type, of a small volume. */

#include "csv/format/csv_format.h"

extern const struct guid csv_sample_volume;

/* The division of a device of 256 MiB. */
void csv_sample_layout(struct csv_layout *out);

/* csv_sample() - fill @buf with sample @i. Returns its name and place, or NULL behind the last. */
const char *csv_sample(uint32_t i, void *buf, struct csv_block_id *id);

/* csv_sample_decode() - judge @buf as what @id says, by the function for that type. */
int csv_sample_decode(const void *buf, const struct csv_block_id *id, struct errbuf *eb);

/* csv_sample_again() - decode @buf and encode the result into @out, if its type has an encoder.
 * Returns whether it has. */
bool csv_sample_again(const void *buf, const struct csv_block_id *id, void *out);

#endif
