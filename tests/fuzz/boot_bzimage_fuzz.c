/* SPDX-License-Identifier: Apache-2.0 */

/* boot_bzimage_fuzz - any bytes as a kernel: refused, or loaded into the guest's memory. */

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "hv/machine/boot.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct gmem *mem;
	static int fd = -1;
	const struct gmem_cfg ram = {.size_bytes = 8u << 20, .low_max_bytes = LAYOUT_LOW_RAM_MAX};
	struct boot_cfg cfg = {.initrd_fd = -1, .cmdline = "quiet"};
	struct boot_entry entry;

	if (mem == NULL) {
		CHECK(gmem_create(&ram, &mem, NULL) == 0);
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	}
	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, len, 0) == (ssize_t)len);
	/* The signatures are right, or nothing behind them is ever reached. */
	CHECK(pwrite(fd, "\x55\xaa", 2, 0x1fe) == 2 && pwrite(fd, "HdrS", 4, 0x202) == 4);
	cfg.kernel_fd = fd;
	cfg.initrd_fd = len % 2 != 0 ? fd : -1;
	(void)!boot_load(mem, &cfg, &entry, NULL);
	return 0;
}
