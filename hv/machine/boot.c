/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/boot.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/wire.h"
#include "hv/machine/boot_int.h"
#include "hv/machine/layout.h"
#include "hv/mem/gmem.h"

#define GDT_CODE_64 0x00af9b000000ffffull
#define GDT_CODE_32 0x00cf9b000000ffffull
#define GDT_DATA 0x00cf93000000ffffull
#define PAGE_BYTES 4096ull

int boot_file_open(int fd, struct boot_file *out)
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		return -EINVAL;
	}
	if (st.st_size < 0 || (uint64_t)st.st_size > BOOT_FILE_BYTES_MAX) {
		return -EFBIG;
	}
	*out = (struct boot_file){.fd = fd, .len_bytes = (uint64_t)st.st_size};
	return 0;
}

int boot_file_read(const struct boot_file *f, uint64_t offset, void *buf, size_t len_bytes)
{
	uint8_t *to = buf;

	while (len_bytes != 0) {
		ssize_t n = pread(f->fd, to, len_bytes, (off_t)offset);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			return -ENODATA;
		}
		to += n;
		offset += (uint64_t)n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

int boot_file_copy(const struct boot_file *f, uint64_t offset, struct gmem *mem, uint64_t gpa,
                   uint64_t len_bytes)
{
	if (len_bytes == 0) {
		return 0;
	}

	void *to = gmem_range(mem, gpa, len_bytes);

	if (to == NULL) {
		return -EFAULT;
	}
	/* No copy of our own: nothing in these bytes is looked at, the guest may as well own
	 * them. */
	int err = boot_file_read(f, offset, to, len_bytes);

	gmem_dirty(mem, gpa, len_bytes);
	return err;
}

uint32_t boot_map_make(const struct gmem *mem, struct boot_map map[BOOT_MAP_MAX])
{
	struct gmem_slot slot;
	uint32_t n = 0;

	gmem_slot(mem, 0, &slot);
	map[n++] = (struct boot_map){0, LAYOUT_EBDA_GPA, BOOT_MAP_RAM};
	map[n++] = (struct boot_map){LAYOUT_EBDA_GPA, LAYOUT_ACPI_GPA - LAYOUT_EBDA_GPA,
	                             BOOT_MAP_RESERVED};
	map[n++] = (struct boot_map){LAYOUT_ACPI_GPA, LAYOUT_ACPI_INFO_GPA - LAYOUT_ACPI_GPA,
	                             BOOT_MAP_ACPI};
	map[n++] = (struct boot_map){LAYOUT_ACPI_INFO_GPA, LAYOUT_KERNEL_GPA - LAYOUT_ACPI_INFO_GPA,
	                             BOOT_MAP_RESERVED};
	map[n++] = (struct boot_map){LAYOUT_KERNEL_GPA, slot.len_bytes - LAYOUT_KERNEL_GPA,
	                             BOOT_MAP_RAM};
	for (uint32_t i = 1; i < gmem_slots(mem) && n < BOOT_MAP_MAX; i++) {
		gmem_slot(mem, i, &slot);
		map[n++] = (struct boot_map){slot.gpa, slot.len_bytes, BOOT_MAP_RAM};
	}
	return n;
}

int boot_initrd_load(struct gmem *mem, const struct boot_file *f, uint64_t floor_gpa,
                     uint64_t max_gpa, uint64_t *gpa, struct errbuf *eb)
{
	struct gmem_slot low;
	uint64_t end;
	int err;

	gmem_slot(mem, 0, &low);
	end = low.len_bytes < max_gpa ? low.len_bytes : max_gpa;
	if (floor_gpa > end || f->len_bytes + PAGE_BYTES > end - floor_gpa) {
		err = errbuf_set(eb, -ENOMEM, "the initrd of %llu MiB does not fit into the guest",
		                 (unsigned long long)(f->len_bytes >> 20));
		errbuf_hint(eb, "give the VM more memory");
		return err;
	}
	*gpa = (end - f->len_bytes) & ~(PAGE_BYTES - 1);
	err = boot_file_copy(f, 0, mem, *gpa, f->len_bytes);
	return err != 0 ? errbuf_sys(eb, err, "cannot read the initrd") : 0;
}

static int boot_gdt_write(struct gmem *mem, bool long_mode)
{
	const le64 gdt[4] = {
		le64_make(0),
		le64_make(0),
		le64_make(long_mode ? GDT_CODE_64 : GDT_CODE_32),
		le64_make(GDT_DATA),
	};

	return gmem_write(mem, BOOT_GDT_GPA, gdt, sizeof(gdt));
}

int boot_load(struct gmem *mem, const struct boot_cfg *cfg, struct boot_entry *out,
              struct errbuf *eb)
{
	struct boot_file kernel = {.fd = -1};
	uint8_t magic[4];
	int err;

	if (strlen(cfg->cmdline) >= LAYOUT_CMDLINE_MAX) {
		return errbuf_set(eb, -EINVAL,
		                  "the kernel command line is longer than %u characters",
		                  LAYOUT_CMDLINE_MAX - 1);
	}
	if (gmem_size_bytes(mem) < 2 * LAYOUT_KERNEL_GPA) {
		return errbuf_set(eb, -ENOMEM, "the guest's memory is too small to boot a kernel");
	}
	err = boot_file_open(cfg->kernel_fd, &kernel);
	if (err == 0) {
		err = boot_file_read(&kernel, 0, magic, sizeof(magic));
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot read the kernel");
	}
	if (memcmp(magic, "\177ELF", 4) == 0) {
		err = boot_pvh_load(mem, cfg, &kernel, out, eb);
	} else {
		err = boot_bzimage_load(mem, cfg, &kernel, out, eb);
	}
	if (err == 0) {
		err = gmem_write(mem, LAYOUT_CMDLINE_GPA, cfg->cmdline, strlen(cfg->cmdline) + 1);
	}
	if (err == 0) {
		err = boot_gdt_write(mem, out->long_mode);
	}
	out->gdt_gpa = BOOT_GDT_GPA;
	out->gdt_limit = BOOT_GDT_LIMIT;
	return err;
}
