/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "csv/format/csv_format.h"

int csv_name_check(const char *name, size_t len)
{
	if (len > CSV_NAME_MAX) {
		return -ENAMETOOLONG;
	}
	if (len == 0 || memchr(name, '\0', len) != NULL || memchr(name, '/', len) != NULL) {
		return -EINVAL;
	}
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'))) {
		return -EINVAL;
	}
	return 0;
}

static uint64_t rotate(uint64_t v, unsigned bits)
{
	return v << bits | v >> (64 - bits);
}

static void rounds(uint64_t v[4], unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		v[0] += v[1];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[0] = rotate(v[0], 32);
		v[2] += v[3];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[2] = rotate(v[2], 32);
	}
}

static uint64_t load(const uint8_t *p)
{
	le64 w;

	memcpy(&w, p, sizeof(w));
	return le64_get(w);
}

uint64_t csv_siphash(const uint8_t key[16], const void *buf, size_t len)
{
	const uint64_t k0 = load(key);
	const uint64_t k1 = load(key + 8);
	const uint8_t *p = buf;
	uint64_t v[4] = {
		k0 ^ 0x736f6d6570736575u,
		k1 ^ 0x646f72616e646f6du,
		k0 ^ 0x6c7967656e657261u,
		k1 ^ 0x7465646279746573u,
	};
	uint8_t last[8] = {0};
	size_t whole = len & ~(size_t)7;

	for (size_t i = 0; i < whole; i += 8) {
		uint64_t word = load(p + i);

		v[3] ^= word;
		rounds(v, 2);
		v[0] ^= word;
	}
	memcpy(last, p + whole, len - whole);
	last[7] = (uint8_t)len;

	uint64_t word = load(last);

	v[3] ^= word;
	rounds(v, 2);
	v[0] ^= word;
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t csv_name_key(const uint8_t key[16], const char *name, size_t len)
{
	return csv_siphash(key, name, len) & ~0xffull;
}
