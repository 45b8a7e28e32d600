/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A recorded source: what version N-1 said in a whole move is said again to the destination of
 * today. Recordings stay; a destination that does not understand one any more breaks upgrades.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "tests/lib/hexfile.h"
#include "tests/lib/move_pair.h"
#include "tests/lib/test.h"

static struct move_pair pair;
static struct move_guest guest; /* only for the state to compare with */
static struct move_guest place;

static const struct move_guest_cfg cfg = {.bytes = 2u << 20, .state_bytes = 20};

/* One recorded connection. */
struct replay {
	int fd;
	uint8_t *bytes;
	size_t len;
	size_t at;
	uint32_t sent;
	uint32_t received;
};

static void replay_load(struct replay *r, const char *name, int fd)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s.hex", GW_VECTORS, name);
	*r = (struct replay){.fd = fd};
	r->bytes = hexfile_load(path, &r->len);
}

/* Say the next frame of the recording, which must be a @type. */
static void say(struct replay *r, enum stream_type type)
{
	struct stream_frame f;

	assert_true(r->len - r->at >= STREAM_HEADER_BYTES);
	assert_int_equal(stream_frame_decode(r->bytes + r->at, r->sent++, &f, NULL), 0);
	assert_int_equal(f.type, type);

	size_t len = STREAM_HEADER_BYTES + f.payload_bytes + f.bulk_bytes;

	assert_int_equal(send(r->fd, r->bytes + r->at, len, MSG_NOSIGNAL), (ssize_t)len);
	r->at += len;
}

/* Wait for an answer of @type; its payload, at most 1 KiB. */
static uint32_t hear(struct replay *r, enum stream_type type, uint8_t *payload)
{
	uint8_t header[STREAM_HEADER_BYTES];
	struct stream_frame f;

	assert_int_equal(recv(r->fd, header, sizeof(header), MSG_WAITALL), sizeof(header));
	assert_int_equal(stream_frame_decode(header, r->received++, &f, NULL), 0);
	assert_true(f.payload_bytes <= 1024);
	assert_int_equal(recv(r->fd, payload, f.payload_bytes, MSG_WAITALL), f.payload_bytes);
	assert_int_equal(f.type, type);
	return f.payload_bytes;
}

static void begin(struct replay *control, struct replay *data)
{
	int from[2];
	int to[2];

	move_guest_create(&guest, &cfg);
	memcpy(guest.state, "state of the devices", 20);
	move_guest_place(&place, &guest);
	move_pair_init(&pair, &guest, &place);
	for (uint8_t i = 0; i < 32; i++) {
		pair.target_cfg.token[i] = (uint8_t)(0x40 + i);
		pair.target_cfg.vm.b[i % 16] = (uint8_t)(0x10 + i % 16);
		pair.target_cfg.move.b[i % 16] = (uint8_t)(0x20 + i % 16);
	}
	assert_int_equal(target_create(&pair.target_cfg, &pair.target, NULL), 0);
	move_pair_sockets(2, from, to);
	assert_int_equal(target_add(pair.target, to[0]), 0);
	assert_int_equal(target_add(pair.target, to[1]), 0);
	replay_load(control, "move-control-1", from[0]);
	replay_load(data, "move-data-1", from[1]);
}

/* No thread is left after this. */
static void finish(struct replay *control, struct replay *data)
{
	assert_int_equal(close(control->fd), 0);
	assert_int_equal(close(data->fd), 0);
	move_pair_wait(&pair, move_pair_target_ended);
	target_destroy(pair.target);
	free(control->bytes);
	free(data->bytes);
}

static void end(void)
{
	move_guest_destroy(&place);
	move_guest_destroy(&guest);
}

static void a_recorded_source_of_version_1_is_understood(void **state)
{
	struct replay control;
	struct replay data;
	struct stream_answer answer;
	struct stream_running running;
	uint8_t payload[1024];
	uint64_t epoch;
	uint32_t len;

	(void)state;
	begin(&control, &data);
	say(&control, STREAM_HELLO);
	len = hear(&control, STREAM_ANSWER, payload);
	assert_int_equal(stream_answer_decode(payload, len, &answer, NULL), 0);
	assert_int_equal(answer.version, 1);
	assert_int_equal(answer.capabilities, STREAM_CAP_BULK_CRC);
	say(&control, STREAM_DEFINITION);
	len = hear(&control, STREAM_REPORT, payload);
	assert_int_equal(len, strlen("{\"blockers\":0,\"dropped\":0,\"items\":[]}"));
	say(&data, STREAM_HELLO);
	(void)hear(&data, STREAM_ANSWER, payload);
	say(&data, STREAM_MEMORY);
	say(&data, STREAM_ROUND_END);
	(void)hear(&data, STREAM_ROUND_ACK, payload);
	say(&control, STREAM_STATE);
	say(&control, STREAM_FINAL);
	len = hear(&control, STREAM_READY, payload);
	assert_int_equal(stream_number_decode(payload, len, &epoch, NULL), 0);
	assert_int_equal(epoch, 7);
	assert_false(move_guest_running(&place));
	say(&control, STREAM_COMMIT);
	len = hear(&control, STREAM_RUNNING, payload);
	assert_int_equal(stream_running_decode(payload, len, &running, NULL), 0);
	assert_int_equal(running.epoch, 8);
	assert_true(move_guest_running(&place));
	finish(&control, &data);
	assert_int_equal(pair.at_target.result.outcome, MOVE_DONE);
	assert_int_equal(place.ranges[0].host[0x3000], 3);
	assert_int_equal(place.ranges[0].host[0x3fff], (4095 * 7 + 3) & 255);
	assert_int_equal(place.ranges[0].host[0x4000], 0);
	assert_int_equal(place.ranges[1].host[4095], 0x55);
	end();
}

/* Frames in an order that no source has. Returns what the destination made of it. */
static enum move_outcome out_of_order(void (*talk)(struct replay *control, struct replay *data))
{
	struct replay control;
	struct replay data;

	begin(&control, &data);
	talk(&control, &data);
	finish(&control, &data);
	assert_int_equal(place.runs, 0);
	end();
	return pair.at_target.result.outcome;
}

static void pages_before_the_definition(struct replay *control, struct replay *data)
{
	uint8_t payload[1024];

	say(data, STREAM_HELLO);
	(void)hear(data, STREAM_ANSWER, payload);
	say(data, STREAM_MEMORY); /* there is no memory yet */
	(void)hear(data, STREAM_FAILED, payload);
	(void)control;
}

static void introduce(struct replay *control, struct replay *data)
{
	uint8_t payload[1024];

	say(control, STREAM_HELLO);
	(void)hear(control, STREAM_ANSWER, payload);
	say(control, STREAM_DEFINITION);
	(void)hear(control, STREAM_REPORT, payload);
	say(data, STREAM_HELLO);
	(void)hear(data, STREAM_ANSWER, payload);
}

static void the_end_without_a_data_connection(struct replay *control, struct replay *data)
{
	uint8_t payload[1024];

	(void)data;
	say(control, STREAM_HELLO);
	(void)hear(control, STREAM_ANSWER, payload);
	say(control, STREAM_DEFINITION);
	(void)hear(control, STREAM_REPORT, payload);
	say(control, STREAM_STATE);
	say(control, STREAM_FINAL);
	(void)hear(control, STREAM_FAILED, payload);
}

static void a_commit_without_ready(struct replay *control, struct replay *data)
{
	struct stream_frame f;
	uint8_t payload[1024];

	introduce(control, data);
	/* The recording's COMMIT under the next number. */
	assert_int_equal(stream_frame_decode(control->bytes + control->len - 40, 4, &f, NULL), 0);
	f.sequence = control->sent;
	stream_frame_encode(&f, control->bytes + control->len - 40);
	assert_int_equal(send(control->fd, control->bytes + control->len - 40, 40, MSG_NOSIGNAL),
	                 40);
	(void)hear(control, STREAM_FAILED, payload);
}

static void what_comes_out_of_turn_ends_the_move(void **state)
{
	(void)state;
	assert_int_equal(out_of_order(pages_before_the_definition), MOVE_FAILED);
	assert_int_equal(out_of_order(the_end_without_a_data_connection), MOVE_FAILED);
	assert_int_equal(out_of_order(a_commit_without_ready), MOVE_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_recorded_source_of_version_1_is_understood),
		cmocka_unit_test(what_comes_out_of_turn_ends_the_move),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
