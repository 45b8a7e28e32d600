/* SPDX-License-Identifier: Apache-2.0 */

/* storvsp_load_fuzz - the input is the payload of a saved section "storvsp.0"; if it loads, the
 * controller is used. */

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "hv/save/save.h"
#include "hv/vsp/vsp.h"
#include "tests/lib/stor_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct stor s;
	struct save out;
	struct load in;
	uint8_t *blob;
	size_t bytes;

	if (s.g == NULL) {
		log_set_level(LOG_LEVEL_ERR);
		stor_create(&(struct stor_cfg){.guest.ram_bytes = 4u << 20,
		                               .disk.size_bytes = 1u << 20,
		                               .dvd = true,
		                               .sub_channels_max = 2,
		                               .ring_pages = 3},
		            &s);
		s.vsp->ops->destroy(s.vsp);
		s.vsp = NULL;
	}
	save_init(&out);
	save_begin(&out, "storvsp.0", 1, true);
	save_bytes(&out, data, len);
	save_end(&out);
	CHECK(save_finish(&out, &blob, &bytes) == 0);
	/* Closed by the controller that had them. */
	fake_disk_destroy(s.disk);
	fake_disk_destroy(s.dvd);
	s.disk = fake_disk_create(&s.cfg.disk, guest_uring(s.g));
	s.dvd = fake_disk_create(&(struct fake_disk_cfg){.size_bytes = 1u << 20, .read_only = true},
	                         guest_uring(s.g));
	guest_bus_replace(s.g);
	CHECK(stor_vsp_create(&s, &s.vsp) == 0);
	CHECK(load_init(&in, blob, bytes, NULL) == 0);
	if (s.vsp->ops->load(s.vsp, &in) == 0) {
		stor_resume(&s);
		stor_boot(&s);
		(void)stor_run(&s, &(struct stor_cmd){STOR_READ10(0, 8), .len_bytes = 4096});
		stor_close(&s);
		guest_unload(s.g);
	}
	s.vsp->ops->destroy(s.vsp);
	guest_bus_replace(s.g);
	free(blob);
	return 0;
}
