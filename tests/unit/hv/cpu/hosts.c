/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hv/cpu/hosts.h"

#include <stddef.h>

#include "base/attr.h"
#include "base/check.h"

static void host_fill(struct cpuid_table *out, const struct cpuid_leaf *leaves, size_t count)
{
	out->count = 0;
	for (size_t i = 0; i < count; i++) {
		CHECK(cpuid_set(out, &leaves[i]) == 0);
	}
}

/* function, has_index, index, eax, ebx, ecx, edx */
#define ROW(f, a, b, c, d)                                                      \
	{                                                                       \
		.function = (f), .eax = (a), .ebx = (b), .ecx = (c), .edx = (d) \
	}
#define ROW_AT(f, i, a, b, c, d)                                                          \
	{                                                                                 \
		.function = (f), .has_index = true, .index = (i), .eax = (a), .ebx = (b), \
		.ecx = (c), .edx = (d)                                                    \
	}

void host_intel(struct cpuid_table *out)
{
	static const struct cpuid_leaf leaves[] = {
		ROW(0, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69),
		/* APIC id 0x2a, 64 threads; VMX, MONITOR, PDCM and OSXSAVE too. */
		ROW(1, 0x000806f8, 0x2a400800, 0x7ffefbff, 0xbfebfbff),
		ROW(2, 0x00feff01, 0xf0, 0, 0),
		ROW_AT(4, 0, 0xfc004121, 0x02c0003f, 0x3f, 0),
		ROW_AT(4, 3, 0xfc1fc163, 0x0380003f, 0x1bfff, 4),
		ROW_AT(4, 4, 0, 0, 0, 0),
		ROW(5, 0x40, 0x40, 3, 0x2020),
		ROW(6, 0xdf8ff7, 2, 9, 0),
		/* SGX, HLE, RTM, MPX; LA57, WAITPKG; AMX. Two more sub-leaves. */
		ROW_AT(7, 0, 2, 0xf3bfbffb, 0xfb417ffe, 0xffdd4432),
		ROW_AT(7, 1, 0x00001c30, 1, 2, 0x00000020),
		ROW_AT(7, 2, 0, 0, 0, 0x17),
		ROW(0xa, 0x07300805, 0, 7, 0x8603),
		ROW_AT(0xb, 0, 1, 2, 0x100, 0x2a),
		ROW_AT(0xb, 1, 7, 0x40, 0x201, 0x2a),
		/* x87, SSE, AVX, MPX, AVX-512, PKRU, AMX. */
		ROW_AT(0xd, 0, 0x000602ff, 0x2b00, 0x2b00, 0),
		ROW_AT(0xd, 1, 0x1f, 0x2900, 0x1900, 0),
		ROW_AT(0xd, 2, 0x100, 0x240, 0, 0),
		ROW_AT(0xd, 3, 0x40, 0x3c0, 0, 0),
		ROW_AT(0xd, 4, 0x40, 0x400, 0, 0),
		ROW_AT(0xd, 5, 0x40, 0x440, 0, 0),
		ROW_AT(0xd, 6, 0x200, 0x480, 0, 0),
		ROW_AT(0xd, 7, 0x400, 0x680, 0, 0),
		ROW_AT(0xd, 9, 8, 0xa80, 0, 0),
		ROW_AT(0xd, 17, 0x40, 0xac0, 2, 0),
		ROW_AT(0xd, 18, 0x2000, 0xb00, 6, 0),
		ROW_AT(0x12, 0, 0x63, 1, 0, 0x241f),
		ROW_AT(0x14, 0, 1, 0x5f, 7, 0),
		ROW(0x80000000u, 0x80000008u, 0, 0, 0),
		ROW(0x80000001u, 0, 0, 0x121, 0x2c100800),
		ROW(0x80000006u, 0, 0, 0x08007040, 0),
		ROW(0x80000007u, 0, 0, 0, 0x100),
		ROW(0x80000008u, 0x00303934, 0x0100d200, 0x3f, 0),
	};

	host_fill(out, leaves, ARRAY_LEN(leaves));
}

void host_amd(struct cpuid_table *out)
{
	static const struct cpuid_leaf leaves[] = {
		ROW(0, 0xd, 0x68747541, 0x444d4163, 0x69746e65),
		ROW(1, 0x00830f10, 0x01010800, 0xfef83203, 0x178bfbff),
		ROW(6, 4, 0, 1, 0),
		ROW_AT(7, 0, 0, 0x219c91a9, 0x00400004, 0),
		ROW_AT(0xd, 0, 7, 0x340, 0x340, 0),
		ROW_AT(0xd, 1, 0xf, 0x340, 0, 0),
		ROW_AT(0xd, 2, 0x100, 0x240, 0, 0),
		ROW(0x80000000u, 0x8000001fu, 0x68747541, 0x444d4163, 0x69746e65),
		/* SVM, IBS, TopoExt too. */
		ROW(0x80000001u, 0x00830f10, 0x20000000, 0x75c237ff, 0x2fd3fbff),
		ROW(0x80000007u, 0, 0x3b, 0, 0x6799),
		ROW(0x80000008u, 0x00003028, 0x010eb757, 0x7001, 0x10007),
		ROW(0x8000000au, 1, 0x8000, 0, 0x0013bcff),
		ROW(0x8000001eu, 1, 0x100, 0, 0),
	};

	host_fill(out, leaves, ARRAY_LEN(leaves));
}

void host_kvm_hyperv(struct cpuid_table *out)
{
	static const struct cpuid_leaf leaves[] = {
		ROW(0x40000000u, 0x40000082u, 0x756e694c, 0x564b2078, 0x7648204d),
		ROW(0x40000001u, 0x31237648, 0, 0, 0),
		ROW(0x40000003u, 0xaff, 0x200030, 0, 0x88d9c),
		ROW(0x40000004u, 0x4e2c, 0xfff, 0, 0),
		ROW(0x40000005u, 0x400, 0, 0, 0),
	};

	host_fill(out, leaves, ARRAY_LEN(leaves));
}
