/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/tiny_guest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hv/machine/boot_wire.h"

#define TINY_CODE_GPA 0x100000u

static const uint8_t tiny_code[] = {
	0xbe, 0x00, 0x10, 0x10, 0x00,       /* mov esi, TINY_COMMAND_GPA */
	0xf3, 0x90,                         /* wait: pause */
	0x8b, 0x06,                         /* mov eax, [esi]: op */
	0x85, 0xc0,                         /* test eax, eax */
	0x74, 0xf8,                         /* jz wait */
	0x8b, 0x7e, 0x04,                   /* mov edi, [esi + 4]: gpa */
	0x8b, 0x4e, 0x08,                   /* mov ecx, [esi + 8]: count */
	0x8b, 0x5e, 0x10,                   /* page: mov ebx, [esi + 16]: value */
	0x89, 0x1f,                         /* mov [edi], ebx */
	0x03, 0x7e, 0x0c,                   /* add edi, [esi + 12]: stride */
	0x49,                               /* dec ecx */
	0x75, 0xf5,                         /* jnz page */
	0x8a, 0x56, 0x14,                   /* mov dl, [esi + 20]: serial */
	0x84, 0xd2,                         /* test dl, dl */
	0x74, 0x08,                         /* jz quiet */
	0x66, 0xba, 0xf8, 0x03,             /* mov dx, 0x3f8 */
	0x8a, 0x46, 0x14,                   /* mov al, [esi + 20] */
	0xee,                               /* out dx, al */
	0x83, 0x3e, 0x02,                   /* quiet: cmp dword [esi], TINY_FOREVER */
	0x74, 0x08,                         /* je again */
	0xc7, 0x06, 0x00, 0x00, 0x00, 0x00, /* mov dword [esi], TINY_WAIT */
	0xeb, 0xcb,                         /* jmp wait */
	0xff, 0x46, 0x10,                   /* again: inc dword [esi + 16] */
	0xeb, 0xc6,                         /* jmp wait */
};

struct tiny_file {
	struct boot_elf_header elf;
	struct boot_elf_segment segs[2];
	struct boot_elf_note note;
	char note_name[4];
	le32 note_entry;
	uint8_t code[sizeof(tiny_code)];
};

int tiny_guest_kernel(void)
{
	struct tiny_file f = {
		.elf =
			{
				.ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
				.type = le16_make(2),
				.machine = le16_make(62),
				.version = le32_make(1),
				.phoff = le64_make(offsetof(struct tiny_file, segs)),
				.ehsize = le16_make(sizeof(struct boot_elf_header)),
				.phentsize = le16_make(sizeof(struct boot_elf_segment)),
				.phnum = le16_make(2),
			},
		.segs =
			{
				{
					.type = le32_make(1),
					.offset = le64_make(offsetof(struct tiny_file, code)),
					.paddr = le64_make(TINY_CODE_GPA),
					.filesz = le64_make(sizeof(tiny_code)),
					.memsz = le64_make(sizeof(tiny_code)),
				},
				{
					.type = le32_make(4),
					.offset = le64_make(offsetof(struct tiny_file, note)),
					.filesz = le64_make(20),
					.memsz = le64_make(20),
				},
			},
		.note =
			{
				.name_bytes = le32_make(4),
				.desc_bytes = le32_make(4),
				.type = le32_make(18),
			},
		.note_name = "Xen",
		.note_entry = le32_make(TINY_CODE_GPA),
	};
	int fd = memfd_create("tiny-guest", MFD_CLOEXEC);

	memcpy(f.code, tiny_code, sizeof(tiny_code));
	if (fd < 0 || write(fd, &f, sizeof(f)) != (ssize_t)sizeof(f)) {
		perror("tiny_guest_kernel");
		abort();
	}
	return fd;
}
