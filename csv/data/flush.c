/* SPDX-License-Identifier: Apache-2.0 */

/*
 * flush - rounds: flush the device, then have converted what was fresh when it began, then answer
 * all flushes that it is for. In this order, or a crash could leave extents that count as written
 * and hold what was there before. One round at a time; who comes meanwhile shares the next.
 */
#include <errno.h>

#include "base/check.h"
#include "base/fault.h"
#include "csv/data/data_int.h"

static void round_sync(struct csv_data *d);

static void round_end(struct csv_data *d, int result)
{
	struct list done;

	if (result == 0 && d->lost_unsaid && !list_empty(&d->round_now)) {
		d->lost_unsaid = false;
		result = -EIO;
	}
	list_init(&done);
	list_splice_tail(&done, &d->round_now);
	data_map_turn(&d->map, DATA_TURNING, DATA_FRESH); /* what is left of it */
	d->round = false;
	d->round_failed = result != 0;
	data_fail_all(d, &done, d->dead ? -ESTALE : result);
	if (d->dead) {
		data_fail_all(d, &d->round_next, -ESTALE);
	}
	data_kick(d); /* the next round, or a recall that waits for this one */
}

/* Not now: all of them try again with the next tick. */
static void round_stall(struct csv_data *d, enum csv_data_reason why)
{
	list_splice_tail(&d->round_now, &d->round_next);
	data_map_turn(&d->map, DATA_TURNING, DATA_FRESH);
	d->round = false;
	d->round_failed = true;
	for (struct list *link = list_pop(&d->round_now); link != NULL;
	     link = list_pop(&d->round_now)) {
		data_stall(d, list_entry(link, struct data_req, link), why);
	}
	data_tick_arm(d);
}

static void round_convert(struct csv_data *d)
{
	uint64_t file;
	uint64_t len;

	if (d->dead) {
		round_end(d, -ESTALE);
		return;
	}
	if (!data_map_next(&d->map, DATA_TURNING, &file, &len)) {
		round_end(d, 0);
		return;
	}
	d->stats.conversions++;
	d->round_ask = (struct csv_data_ask){
		.what = CSV_DATA_CONVERT,
		.file_bytes = file,
		.len_bytes = len,
		.data = d,
	};
	d->cfg.ops->ask(d->cfg.arg, &d->round_ask);
}

/*
 * The device did not make durable what it had taken, and need not have it any more: the next flush
 * may well succeed, and saves nothing of that. So all who wait hear it; or the next who asks. What
 * is fresh stays fresh: it may be written again.
 */
static void round_lost(struct csv_data *d, int32_t res)
{
	d->lost_unsaid = d->lost_unsaid || list_empty(&d->round_now);
	if (data_is_path_error(res)) {
		data_lose_path(d, CSV_DATA_PATH);
	}
	round_end(d, data_result(res));
}

/* Errors that say that the way there is gone, and nothing about what is there. */
static bool is_way_only(int32_t res)
{
	return data_is_path_error(res) && res != -EIO;
}

static void round_sync_done(struct uring_op *op, int32_t res, bool more)
{
	struct csv_data *d = op->arg;

	(void)more;
	if (res >= 0 && fault_io() != 0) {
		res = -EIO;
	}
	if (res == -EINTR || res == -EAGAIN) {
		round_sync(d);
	} else if (res == -EBADE) {
		data_die(d);
		round_end(d, -ESTALE);
	} else if (is_way_only(res)) {
		data_lose_path(d, CSV_DATA_PATH);
		round_sync(d);
	} else if (res < 0) {
		round_lost(d, res);
	} else {
		round_convert(d);
	}
}

static void round_sync(struct csv_data *d)
{
	uint64_t now;

	if (d->dead) {
		round_end(d, -ESTALE);
		return;
	}
	if (!data_may(d, &now)) {
		if (d->dead) {
			round_end(d, -ESTALE);
		} else {
			round_stall(d, CSV_DATA_RIGHTS);
		}
		return;
	}
	if (!d->lost) {
		d->round_op = (struct uring_op){.fn = round_sync_done, .arg = d};
		if (uring_prep_fsync(d->blk.ring, &d->round_op, d->fd, true) != 0) {
			uring_defer(d->blk.ring, &d->round_op, -EAGAIN);
		}
		return;
	}
	if (!d->cfg.ops->redirects) {
		round_stall(d, CSV_DATA_PATH);
		return;
	}
	d->round_ask = (struct csv_data_ask){
		.what = CSV_DATA_REDIRECT,
		.op = BLK_FLUSH,
		.id = d->next_id++, /* twice does no harm */
		.data = d,
	};
	d->stats.redirected++;
	d->cfg.ops->ask(d->cfg.arg, &d->round_ask);
}

void data_round_answer(struct csv_data *d, int result)
{
	const struct csv_data_ask *ask = &d->round_ask;
	bool convert = ask->what == CSV_DATA_CONVERT;

	if (result == -ESTALE) {
		data_die(d);
	}
	if (d->dead) {
		round_end(d, -ESTALE);
	} else if (result == 0) {
		if (convert) {
			data_map_settle(&d->map, ask->file_bytes, ask->len_bytes);
		}
		round_convert(d);
	} else if (data_is_for_now(result)) {
		round_stall(d, convert ? CSV_DATA_META : CSV_DATA_PATH);
	} else {
		d->lost_unsaid = d->lost_unsaid || (!convert && list_empty(&d->round_now));
		round_end(d, data_redirect_result(result));
	}
}

void data_round_start(struct csv_data *d)
{
	CHECK(!d->round);
	d->round = true;
	d->want_round = false;
	list_splice_tail(&d->round_now, &d->round_next);
	data_map_turn(&d->map, DATA_FRESH, DATA_TURNING);
	round_sync(d);
}

void data_round_join(struct csv_data *d, struct data_req *r)
{
	if (d->dead) {
		data_finish(d, r, -ESTALE);
		return;
	}
	list_add_tail(&d->round_next, &r->link);
	data_kick(d);
}
