/* SPDX-License-Identifier: Apache-2.0 */

/* worker_nics - network adapters: made from the definition and taps, announced, counted. */

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/log.h"
#include "hv/vsp/vsp.h"
#include "hv/worker/worker_int.h"

#define TAG "worker"
#define ANNOUNCE_COUNT 5u /* the first and the last are 1.5 s apart */
#define ANNOUNCE_STEP_NS (150ull * NS_PER_MS)

static int worker_nic_create(struct worker *w, const struct vsp_env *env, uint32_t nic,
                             struct errbuf *eb)
{
	const struct vm_nic *def = &w->vm.nics[nic];
	struct worker_tap *tap = &w->fds.taps[nic];
	struct netvsp_cfg cfg = {
		.index = nic,
		.instance_id = def->id,
		.mtu = tap->mtu_bytes,
		/* Tags are the bridge's business, whatever the guest does to this process. */
		.vlan = 0,
		.link_up = tap->link,
		.name = "Network Adapter",
		.tap_fds = tap->fds,
		.tap_count = tap->count,
	};
	struct vsp *vsp;
	int err;

	memcpy(cfg.mac, def->mac, sizeof(cfg.mac));
	err = netvsp_create(env, &cfg, &vsp, eb);
	if (err != 0) {
		errbuf_prepend(eb, "adapter %u", nic);
		return err;
	}
	tap->count = 0; /* taken */
	err = partition_vsp_add(w->partition, vsp);
	if (err != 0) {
		vsp->ops->destroy(vsp);
		return errbuf_sys(eb, err, "too many devices");
	}
	w->nics[nic] = vsp;
	return 0;
}

int worker_nics_create(struct worker *w, const struct vsp_env *env, struct errbuf *eb)
{
	int err = 0;

	for (uint32_t i = 0; i < w->vm.nic_count && err == 0; i++) {
		if (w->fds.taps[i].count != 0) {
			err = worker_nic_create(w, env, i, eb);
		}
	}
	return err;
}

/* ---- where we are ---- */

static void worker_announce_arm(struct worker *w);

static void worker_announce_due(struct uring_op *op, int32_t res, bool more)
{
	struct worker *w = op->arg;

	(void)more;
	w->announce.armed = false;
	if (res == -ETIME) {
		worker_announce_arm(w);
	}
}

/* One round, and the next one later: 150 ms after the first, then 300 ms... */
static void worker_announce_arm(struct worker *w)
{
	struct worker_announce *a = &w->announce;
	uint64_t delay_ns = ANNOUNCE_STEP_NS * (ANNOUNCE_COUNT - a->left + 1);

	if (a->left == 0 || w->stopping) {
		return;
	}
	a->left--;
	for (uint32_t i = 0; i < w->vm.nic_count; i++) {
		if (w->nics[i] != NULL) {
			netvsp_announce(w->nics[i]);
		}
	}
	if (a->left != 0 && uring_prep_timeout(w->ring, &a->timer, delay_ns) == 0) {
		a->armed = true;
	}
}

void worker_nics_announce(struct worker *w)
{
	w->announce.left = ANNOUNCE_COUNT;
	if (!w->announce.armed) {
		w->announce.timer = (struct uring_op){.fn = worker_announce_due, .arg = w};
		worker_announce_arm(w);
	}
}

void worker_nics_fini(struct worker *w)
{
	w->announce.left = 0;
	while (w->announce.armed && uring_cancel(w->ring, &w->announce.timer) != 0) {
		CHECK(uring_wait(w->ring, UINT64_MAX) >= 0);
	}
	while (w->announce.armed) {
		CHECK(uring_wait(w->ring, UINT64_MAX) >= 0);
	}
}

/* ---- status ---- */

void worker_nics_status(const struct worker *w, struct json_build *b)
{
	struct json_build list;
	char mac[18];

	json_build_array(&list);
	for (uint32_t i = 0; i < w->vm.nic_count; i++) {
		struct netvsp_stats stats = {0};
		struct json_build nic;
		uint8_t now[6];

		if (w->nics[i] == NULL) {
			continue;
		}
		netvsp_stats(w->nics[i], &stats);
		netvsp_mac(w->nics[i], now);
		json_build_object(&nic);
		json_add_u64(&nic, "index", i);
		json_add_str(&nic, "mac", vm_mac_format(now, mac));
		json_add_u64(&nic, "rx_frames", stats.rx_frames);
		json_add_u64(&nic, "rx_bytes", stats.rx_bytes);
		json_add_u64(&nic, "rx_dropped", stats.rx_dropped + stats.rx_filtered);
		json_add_u64(&nic, "tx_frames", stats.tx_frames);
		json_add_u64(&nic, "tx_bytes", stats.tx_bytes);
		json_add_u64(&nic, "tx_dropped",
		             stats.tx_dropped + stats.tx_invalid + stats.tx_spoofed);
		json_add_build(&list, NULL, &nic);
	}
	json_add_build(b, "nics", &list);
}
