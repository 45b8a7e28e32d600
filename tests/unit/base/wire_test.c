/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wire.h"

#include <string.h>

#include "tests/lib/test.h"

/* One of each, at odd offsets: no alignment is needed and no padding added. */
struct sample {
	uint8_t first;
	le16 l16;
	le32 l32;
	le64 l64;
	be16 b16;
	be32 b32;
	be64 b64;
};

WIRE_SIZE(struct sample, 29);
WIRE_AT(struct sample, l16, 1);
WIRE_AT(struct sample, l32, 3);
WIRE_AT(struct sample, l64, 7);
WIRE_AT(struct sample, b16, 15);
WIRE_AT(struct sample, b32, 17);
WIRE_AT(struct sample, b64, 21);

static void integers_lie_as_named(void **state)
{
	static const uint8_t want[29] = {
		0xee,                                           /* first */
		0x02, 0x81,                                     /* le16 */
		0x04, 0x03, 0x02, 0x81,                         /* le32 */
		0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x81, /* le64 */
		0x81, 0x02,                                     /* be16 */
		0x81, 0x02, 0x03, 0x04,                         /* be32 */
		0x81, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, /* be64 */
	};
	const struct sample s = {
		.first = 0xee,
		.l16 = le16_make(0x8102),
		.l32 = le32_make(0x81020304),
		.l64 = le64_make(0x8102030405060708),
		.b16 = be16_make(0x8102),
		.b32 = be32_make(0x81020304),
		.b64 = be64_make(0x8102030405060708),
	};
	struct sample back;

	(void)state;
	assert_memory_equal(&s, want, sizeof(want));
	memcpy(&back, want, sizeof(want));
	assert_int_equal(le16_get(back.l16), 0x8102);
	assert_int_equal(le32_get(back.l32), 0x81020304);
	assert_true(le64_get(back.l64) == 0x8102030405060708);
	assert_int_equal(be16_get(back.b16), 0x8102);
	assert_int_equal(be32_get(back.b32), 0x81020304);
	assert_true(be64_get(back.b64) == 0x8102030405060708);
}

static void every_bit_goes_there_and_back(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t v = 1ull << bit;

		assert_true(le64_get(le64_make(v)) == v);
		assert_true(be64_get(be64_make(v)) == v);
		assert_int_equal(le32_get(le32_make((uint32_t)v)), (uint32_t)v);
		assert_int_equal(be32_get(be32_make((uint32_t)v)), (uint32_t)v);
		assert_int_equal(le16_get(le16_make((uint16_t)v)), (uint16_t)v);
		assert_int_equal(be16_get(be16_make((uint16_t)v)), (uint16_t)v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_lie_as_named),
		cmocka_unit_test(every_bit_goes_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
