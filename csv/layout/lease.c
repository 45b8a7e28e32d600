/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "csv/format/csv_wire.h"
#include "csv/layout/csv_layout.h"

static uint64_t end_of(const struct csv_layout_extent *e)
{
	return e->file_bytes + e->length_bytes;
}

static bool aligned(uint64_t bytes)
{
	return bytes % CSV_BLOCK_BYTES == 0;
}

static bool extent_valid(const struct csv_layout_extent *e)
{
	return aligned(e->file_bytes) && aligned(e->device_bytes) && aligned(e->length_bytes) &&
	       e->length_bytes != 0 && e->length_bytes <= UINT64_MAX - e->file_bytes &&
	       e->length_bytes <= UINT64_MAX - e->device_bytes;
}

bool csv_layout_lease_valid(const struct csv_layout_lease *l)
{
	uint64_t at = l->from_bytes;

	if (l->number == 0 || l->from_bytes >= l->to_bytes || !aligned(l->from_bytes) ||
	    !aligned(l->to_bytes) || l->extents_count > CSV_LAYOUT_EXTENTS_MAX) {
		return false;
	}
	for (uint32_t i = 0; i < l->extents_count; i++) {
		const struct csv_layout_extent *e = &l->extents[i];

		if (!extent_valid(e) || e->file_bytes < at || end_of(e) > l->to_bytes) {
			return false;
		}
		at = end_of(e);
	}
	return true;
}

int csv_layout_lease_find(const struct csv_layout_lease *l, uint64_t file_bytes,
                          struct csv_layout_extent *out)
{
	uint64_t hole_end = l->to_bytes;

	if (file_bytes < l->from_bytes || file_bytes >= l->to_bytes) {
		return -ENXIO;
	}
	for (uint32_t i = 0; i < l->extents_count; i++) {
		const struct csv_layout_extent *e = &l->extents[i];

		if (e->file_bytes > file_bytes) {
			hole_end = e->file_bytes;
			break;
		}
		if (end_of(e) > file_bytes) {
			uint64_t in = file_bytes - e->file_bytes;

			*out = (struct csv_layout_extent){
				.file_bytes = file_bytes,
				.device_bytes = e->device_bytes + in,
				.length_bytes = e->length_bytes - in,
				.unwritten = e->unwritten,
			};
			return 0;
		}
	}
	*out = (struct csv_layout_extent){
		.file_bytes = file_bytes,
		.device_bytes = UINT64_MAX,
		.length_bytes = hole_end - file_bytes,
	};
	return 0;
}

bool csv_layout_lease_usable(const struct csv_layout_lease *l, bool write, uint64_t now_ns)
{
	return l->number != 0 && now_ns < l->expires_ns && (l->write || !write);
}

/* Append @e, joined to the one before where both are one piece. Returns false if it is full. */
static bool append(struct csv_layout_lease *l, const struct csv_layout_extent *e)
{
	struct csv_layout_extent *last = &l->extents[l->extents_count];

	if (e->length_bytes == 0) {
		return true;
	}
	if (l->extents_count != 0) {
		last--;
		if (end_of(last) == e->file_bytes && last->unwritten == e->unwritten &&
		    last->device_bytes + last->length_bytes == e->device_bytes) {
			last->length_bytes += e->length_bytes;
			return true;
		}
	}
	if (l->extents_count == CSV_LAYOUT_EXTENTS_MAX) {
		return false;
	}
	l->extents[l->extents_count++] = *e;
	return true;
}

/* The part of @e in [from, to). */
static struct csv_layout_extent part(const struct csv_layout_extent *e, uint64_t from, uint64_t to)
{
	uint64_t lo = from > e->file_bytes ? from : e->file_bytes;
	uint64_t hi = to < end_of(e) ? to : end_of(e);

	return (struct csv_layout_extent){
		.file_bytes = lo,
		.device_bytes = e->device_bytes + (lo - e->file_bytes),
		.length_bytes = lo < hi ? hi - lo : 0,
		.unwritten = e->unwritten,
	};
}

int csv_layout_lease_written(struct csv_layout_lease *l, uint64_t from_bytes, uint64_t to_bytes)
{
	struct csv_layout_lease out = *l;

	out.extents_count = 0;
	for (uint32_t i = 0; i < l->extents_count; i++) {
		const struct csv_layout_extent *e = &l->extents[i];
		struct csv_layout_extent before = part(e, 0, from_bytes);
		struct csv_layout_extent in = part(e, from_bytes, to_bytes);
		struct csv_layout_extent behind = part(e, to_bytes, UINT64_MAX);

		in.unwritten = false;
		if (!append(&out, &before) || !append(&out, &in) || !append(&out, &behind)) {
			return -ENOSPC;
		}
	}
	*l = out;
	return 0;
}
