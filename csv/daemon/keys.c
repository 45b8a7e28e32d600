/* SPDX-License-Identifier: Apache-2.0 */

/* keys - when a volume registers its key on the LUN, what it makes of losing it, and whose it takes
 * away. The commands: reserve.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/wire.h"
#include "csv/daemon/daemon_int.h"
#include "csv/slot/csv_slot_io.h"

#define TAG "csv-keys"

uint64_t keys_of(const struct csv_volume *v, uint32_t node, uint64_t run)
{
	const uint8_t *id = v->super.volume.b;

	return csv_pr_key((uint32_t)id[0] << 24 | (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 |
	                          id[3],
	                  node, run);
}

static void known(struct csv_volume *v)
{
	struct csv_slot *s = csv_slot_io_slot(v->slot);

	v->registered = v->registered || v->keys.level != CSV_PR_NONE;
	if (v->keys.level == CSV_PR_NONE) {
		log_warn(TAG, "no reservations, leases and slots only volume=%s why=\"%s\"",
		         v->cfg.name, v->keys.why);
	} else {
		s->pr_key = keys_of(v, v->d->members->self, v->run);
		log_info(TAG, "registered volume=%s key=%016" PRIx64 " level=%s", v->cfg.name,
		         s->pr_key, csv_pr_level_name(v->keys.level));
	}
	volume_read_headers(v);
}

static void changed(void *arg)
{
	struct csv_volume *v = arg;
	bool was = v->keys.known;

	reserve_get(v->reserve, &v->keys);
	/* Not made again if it is gone by the next attempt: others may count on that. */
	v->registered = v->registered || v->keys.entered;
	if (v->gone || v->phase == VOLUME_DEAD) {
		return;
	}
	if (v->keys.fenced) {
		csv_slot_fence(csv_slot_io_slot(v->slot), CSV_SLOT_KEY_GONE);
		volume_die(v, "its key was taken away from the LUN");
	} else if (!was && v->keys.known && v->phase == VOLUME_JOINING) {
		if (v->keys.err != 0) {
			(void)errbuf_set(&v->why, v->keys.err, "%s", v->keys.why);
			volume_fail(v, v->keys.err);
		} else {
			known(v);
		}
	}
	volume_work(v);
}

int keys_start(struct csv_volume *v)
{
	const struct reserve_cfg cfg = {
		.loop = v->d->cfg.loop,
		.fd = disk_fd(v->disk),
		.key = keys_of(v, v->d->members->self, v->run),
		.registered = v->registered,
		.door = v->d->cfg.pr_door,
		.door_arg = v->d->cfg.pr_arg,
		.changed = changed,
		.arg = v,
	};
	struct stat st;

	v->keys = (struct reserve_state){0};
	if (cfg.door == NULL && fstat(cfg.fd, &st) == 0 && S_ISREG(st.st_mode)) {
		v->keys.known = true;
		(void)snprintf(v->keys.why, sizeof(v->keys.why), "a file, no SCSI device");
		known(v);
		return 0;
	}
	return reserve_create(&cfg, &v->reserve, &v->why);
}

bool keys_leave(struct csv_volume *v)
{
	if (v->reserve == NULL || v->keys.left || v->keys.fenced) {
		return true;
	}
	if (!v->keys_leaving) {
		v->keys_leaving = true;
		reserve_leave(v->reserve);
	}
	return false;
}

int csv_volume_fence(struct csv_volume *v, uint32_t node, uint64_t run,
                     void (*fn)(void *arg, int err, bool aborted), void *arg, struct errbuf *eb)
{
	int err;

	if (node >= CSV_MSG_NODES || run == 0 || (node == v->d->members->self && run == v->run)) {
		return errbuf_set(eb, -EINVAL, "node %u run %" PRIu64 " cannot be fenced from here",
		                  node, run);
	}
	if (v->reserve == NULL) {
		err = v->keys.known ? -ENOTSUP : -EAGAIN;
	} else {
		err = reserve_preempt(v->reserve, keys_of(v, node, run), fn, arg);
	}
	switch (-err) {
	case 0:
		return 0;
	case ENOTSUP:
		return errbuf_set(eb, err, "no reservations: %s", v->keys.why);
	case EBUSY:
		return errbuf_set(eb, err, "another key is being taken away");
	default:
		return errbuf_set(eb, err, "this node has no key on the LUN now");
	}
}
