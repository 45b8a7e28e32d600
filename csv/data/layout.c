/* SPDX-License-Identifier: Apache-2.0 */

/* layout - where things lie on the device: asked for, and what the answers teach the map. */
#include <errno.h>
#include <string.h>

#include "csv/data/data_int.h"

void data_want_layout(struct csv_data *d, struct data_req *r, uint64_t at, bool write, bool hole)
{
	struct csv_data_ask *ask = NULL;
	uint64_t end = (d->size_bytes + DATA_BLOCK_BYTES - 1) / DATA_BLOCK_BYTES * DATA_BLOCK_BYTES;

	list_add_tail(&d->waiting, &r->link);
	for (uint32_t i = 0; i < DATA_LAYOUT_ASKS; i++) {
		struct csv_data_ask *a = &d->layouts[i];

		if (!d->layout_busy[i]) {
			ask = a;
		} else if (at >= a->file_bytes && at - a->file_bytes < a->len_bytes &&
		           (a->write || !write) && (a->hole || !hole)) {
			return; /* asked for already */
		}
	}
	if (ask == NULL) {
		return; /* looked at again with the next answer */
	}
	d->layout_busy[ask - d->layouts] = true;
	d->layout_turned[ask - d->layouts] = d->map.turned;
	d->stats.layouts++;
	*ask = (struct csv_data_ask){
		.what = CSV_DATA_LAYOUT,
		.write = write,
		.hole = hole,
		.file_bytes = at - at % DATA_BLOCK_BYTES,
		.data = d,
	};
	ask->len_bytes = end - ask->file_bytes;
	if (ask->len_bytes > d->cfg.ahead_bytes) {
		ask->len_bytes = d->cfg.ahead_bytes;
	}
	d->cfg.ops->ask(d->cfg.arg, ask);
}

static int data_learn(struct csv_data *d, const struct csv_layout_lease *lease)
{
	struct csv_layout_extent e;
	int err = 0;

	for (uint64_t at = lease->from_bytes; err == 0 && at < lease->to_bytes;
	     at += e.length_bytes) {
		err = csv_layout_lease_find(lease, at, &e);
		if (err != 0) {
			break;
		}

		const struct data_extent known = {
			.file = at,
			.device = e.device_bytes,
			.len = e.length_bytes,
			.kind = e.device_bytes == UINT64_MAX ? DATA_HOLE
		                : e.unwritten                ? DATA_UNWRITTEN
		                                             : DATA_WRITTEN,
		};

		/* What is being written now will need its room. */
		err = data_map_learn(&d->map, &known, 2 * (d->unwritten_busy + DATA_FILLS));
	}
	return err;
}

/* -ENOSPC: of the map. -ESTALE: as it is not any more: what was converted since it was asked for is
 * forgotten again, and would be taken for what it was before. */
static int data_accept(struct csv_data *d, const struct csv_data_ask *ask, uint64_t turned,
                       const struct csv_layout_lease *lease)
{
	struct data_extent e;
	int err;

	if (lease == NULL || !csv_layout_lease_valid(lease) || (ask->write && !lease->write)) {
		return -EIO;
	}
	err = d->map.forgotten > turned ? -ESTALE : data_learn(d, lease);
	if (err == -ENOSPC) {
		data_map_evict(&d->map, true);
		err = d->map.forgotten > turned ? -ESTALE : data_learn(d, lease);
	}
	if (err == -ESTALE) {
		return err;
	}
	/* Useful? Or we would ask for ever. */
	if (data_map_find(&d->map, ask->file_bytes, &e) != 0 ||
	    (ask->hole && e.kind == DATA_HOLE)) {
		return err != 0 ? err : -EIO;
	}
	return 0;
}

/* Who waits for something in the range of @ask gets @result, the others go on. */
void data_fail_range(struct csv_data *d, const struct csv_data_ask *ask, int result)
{
	struct list ready;

	list_init(&ready);
	list_splice_tail(&ready, &d->waiting);
	for (struct list *link = list_pop(&ready); link != NULL; link = list_pop(&ready)) {
		struct data_req *r = list_entry(link, struct data_req, link);
		uint64_t at = r->req->offset_bytes + r->done_bytes;

		if (at >= ask->file_bytes && at - ask->file_bytes < ask->len_bytes &&
		    (r->req->op == BLK_WRITE) == ask->write) {
			data_finish(d, r, result);
		} else {
			data_go(d, r);
		}
	}
}

void data_layout_done(struct csv_data *d, struct csv_data_ask *ask, int result,
                      const struct csv_layout_lease *lease)
{
	const struct csv_data_ask was = *ask;
	uint64_t turned = d->layout_turned[ask - d->layouts];

	d->layout_busy[ask - d->layouts] = false;
	if (d->dead) {
		data_fail_all(d, &d->waiting, -ESTALE);
		return;
	}
	if (result == -ESTALE) {
		data_die(d);
		return;
	}
	if (result == 0) {
		result = data_accept(d, &was, turned, lease);
		if (result == -ESTALE) {
			result = 0;             /* who waits asks again */
		} else if (result == -ENOSPC) { /* all that is known is fresh: make it written */
			d->want_round = true;
			data_kick(d);
			result = -EAGAIN;
		}
	}
	if (result == 0) {
		data_go_all(d, &d->waiting);
	} else if (data_is_for_now(result)) {
		data_stall_all(d, &d->waiting, CSV_DATA_META);
	} else {
		data_fail_range(d, &was, result == -ENOSPC ? -ENOSPC : -EIO);
	}
	data_poke_recall(d);
}
