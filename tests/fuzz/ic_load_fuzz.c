/* SPDX-License-Identifier: Apache-2.0 */

/* ic_load_fuzz - byte 0 chooses the service, the rest is the payload of its saved section. */

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "hv/save/save.h"
#include "tests/lib/ic_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct {
	icg_create_fn create;
	const char *section;
	uint16_t major, minor;
} fuzz_services[] = {
	{ic_heartbeat_create, "heartbeat", 3, 0},
	{ic_shutdown_create, "shutdown", 3, 2},
	{ic_timesync_create, "timesync", 4, 0},
	{ic_kvp_create, "kvp", 4, 0},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct icg i;
	uint32_t index = len != 0 ? data[0] % 4u : 0;
	struct save out;
	struct load in;
	uint8_t *blob;
	size_t bytes;

	if (i.g == NULL) {
		log_set_level(LOG_LEVEL_ERR);
		icg_create(ic_heartbeat_create, &i);
		guest_unload(i.g);
		i.vsp->ops->destroy(i.vsp);
	}
	save_init(&out);
	save_begin(&out, fuzz_services[index].section, 1, true);
	if (len > 1) {
		save_bytes(&out, data + 1, len - 1);
	}
	save_end(&out);
	CHECK(save_finish(&out, &blob, &bytes) == 0);
	guest_bus_replace(i.g);
	i.create = fuzz_services[index].create;
	CHECK(icg_vsp_create(&i, &i.vsp) == 0);
	CHECK(load_init(&in, blob, bytes, NULL) == 0);
	if (i.vsp->ops->load(i.vsp, &in) == 0) {
		icg_resume(&i);
		CHECK(ic_state(i.vsp) == IC_CLOSED);
		guest_boot(i.g);
		icg_open(&i);
		icg_negotiate(&i, fuzz_services[index].major, fuzz_services[index].minor);
		icg_close(&i);
		guest_unload(i.g);
	}
	i.vsp->ops->destroy(i.vsp);
	guest_bus_replace(i.g);
	free(blob);
	return 0;
}
