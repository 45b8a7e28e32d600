/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/role/role_cmd.h"

#include <errno.h>
#include <string.h>

#include "base/errbuf.h"
#include "tests/lib/test.h"

static const struct role_cmd start_cmd = {
	.verb = ROLE_CMD_START,
	.role = 0x11,
	.epoch = 0x1122334455667788,
	.now_ms = 0x99,
	.token = 5,
	.at = {.node = 2, .inc = 3},
};

static const uint8_t start_bytes[ROLE_CMD_BYTES] = {
	1,    0, 3, 0, 0x11, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
	0x99, 0, 0, 0, 0,    0, 0, 0, 5,    0,    0,    0,    0,    0,    0,    0,
	2,    0, 0, 0, 0,    0, 0, 0, 3,    0,    0,    0,    0,    0,    0,    0,
};

static const struct role_cmd fenced_cmd = {
	.verb = ROLE_CMD_FENCED,
	.epoch = 7,
	.now_ms = 8,
	.at = {.node = 64, .inc = UINT64_MAX},
	.arg = {ROLE_PROOF_STORAGE, 0xf0f0},
};

/* Field by field: what stands in the padding of a structure is the compiler's affair. */
static void assert_same_cmd(const struct role_cmd *got, const struct role_cmd *want)
{
	assert_int_equal(got->verb, want->verb);
	assert_int_equal(got->role, want->role);
	assert_int_equal(got->epoch, want->epoch);
	assert_int_equal(got->now_ms, want->now_ms);
	assert_int_equal(got->token, want->token);
	assert_int_equal(got->at.node, want->at.node);
	assert_int_equal(got->at.inc, want->at.inc);
	assert_memory_equal(got->arg, want->arg, sizeof(got->arg));
}

static void bytes_are_as_the_format_says(void **state)
{
	uint8_t buf[ROLE_CMD_BYTES];
	struct role_cmd back;

	(void)state;
	role_cmd_encode(&start_cmd, buf);
	assert_memory_equal(buf, start_bytes, sizeof(buf));
	assert_int_equal(role_cmd_decode(buf, sizeof(buf), &back, NULL), 0);
	assert_same_cmd(&back, &start_cmd);
	role_cmd_encode(&fenced_cmd, buf);
	assert_int_equal(buf[2], 36);
	assert_int_equal(role_cmd_decode(buf, sizeof(buf), &back, NULL), 0);
	assert_same_cmd(&back, &fenced_cmd);
}

static void every_length_but_one_is_refused(void **state)
{
	uint8_t buf[ROLE_CMD_BYTES + 1] = {0};
	struct role_cmd out = {.role = 42};

	(void)state;
	role_cmd_encode(&start_cmd, buf);
	for (size_t len = 0; len <= sizeof(buf); len++) {
		if (len != ROLE_CMD_BYTES) {
			assert_int_equal(role_cmd_decode(buf, len, &out, NULL), -EMSGSIZE);
			assert_int_equal(out.role, 42);
		}
	}
}

/* A flipped bit is refused or gives another command that is legal and encodes to those bytes. */
static void every_flipped_bit_is_refused_or_legal(void **state)
{
	const struct role_cmd *const cmds[] = {&start_cmd, &fenced_cmd};
	uint32_t refused = 0;

	(void)state;
	for (size_t c = 0; c < ARRAY_LEN(cmds); c++) {
		for (size_t bit = 0; bit < ROLE_CMD_BYTES * 8; bit++) {
			uint8_t buf[ROLE_CMD_BYTES];
			uint8_t again[ROLE_CMD_BYTES];
			struct role_cmd out = {.role = 42};

			role_cmd_encode(cmds[c], buf);
			buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
			if (role_cmd_decode(buf, sizeof(buf), &out, NULL) < 0) {
				assert_int_equal(out.role, 42);
				refused++;
				continue;
			}
			role_cmd_encode(&out, again);
			assert_memory_equal(again, buf, sizeof(buf));
		}
	}
	assert_true(refused > 500);
}

static void refuse(struct role_cmd cmd, const char *what)
{
	uint8_t buf[ROLE_CMD_BYTES];
	struct errbuf eb = {0};
	struct role_cmd out;

	role_cmd_encode(&cmd, buf);
	assert_int_equal(role_cmd_decode(buf, sizeof(buf), &out, &eb), -EPROTO);
	assert_non_null(strstr(eb.text, what));
}

static void values_out_of_range_are_refused(void **state)
{
	struct role_cmd cmd = start_cmd;

	(void)state;
	cmd.role = 0;
	refuse(cmd, "bad role");
	cmd.role = ROLE_COUNT_MAX + 1;
	refuse(cmd, "bad role");
	cmd = start_cmd;
	cmd.at.node = 65;
	refuse(cmd, "bad node");
	cmd.at.node = 0;
	refuse(cmd, "bad node");
	cmd = start_cmd;
	cmd.at.inc = 0;
	refuse(cmd, "bad node");
	cmd = start_cmd;
	cmd.arg[3] = 1;
	refuse(cmd, "bad argument");
	cmd = fenced_cmd;
	cmd.role = 1;
	refuse(cmd, "bad role");
	cmd = fenced_cmd;
	cmd.arg[0] = ROLE_PROOF_COUNT;
	refuse(cmd, "bad argument");
	cmd = (struct role_cmd){.verb = ROLE_CMD_ACK, .role = 1};
	refuse(cmd, "bad volume");
	cmd = (struct role_cmd){.verb = (enum role_verb)31, .role = 1};
	refuse(cmd, "unknown verb 31");
}

static void commands_read_well(void **state)
{
	char line[120];

	(void)state;
	role_cmd_text(&start_cmd, "web1", line, sizeof(line));
	assert_string_equal(line, "start web1 n2#3 token 5");
	role_cmd_text(&fenced_cmd, NULL, line, sizeof(line));
	assert_string_equal(line, "fenced n64#18446744073709551615 by storage");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_as_the_format_says),
		cmocka_unit_test(every_length_but_one_is_refused),
		cmocka_unit_test(every_flipped_bit_is_refused_or_legal),
		cmocka_unit_test(values_out_of_range_are_refused),
		cmocka_unit_test(commands_read_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
