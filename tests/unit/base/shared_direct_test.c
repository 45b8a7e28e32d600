/* SPDX-License-Identifier: Apache-2.0 */
#include "base/shared_direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test.h"

/* One of each type. */
static uint32_t samples(struct shared_direct_msg out[8])
{
	memset(out, 0, 8 * sizeof(out[0]));
	for (uint32_t i = 0; i < 8; i++) {
		out[i].type = (enum shared_direct_type)(i + 1);
		out[i].seq = 0x01020304u + i;
	}
	for (uint32_t i = 0; i < SHARED_FILE_KEY_BYTES; i++) {
		out[0].key[i] = (uint8_t)(i * 5);
	}
	out[0].guarded = true;
	out[1].align_bytes = 512;
	out[2].from_bytes = 8192;
	out[2].to_bytes = 1ull << 30;
	out[3].count = 2;
	out[3].extents[0] = (struct shared_direct_extent){4096, 1ull << 40, 1 << 20};
	out[3].extents[1] = (struct shared_direct_extent){2 << 20, 4096, 4096};
	out[4].from_bytes = 0;
	out[4].to_bytes = (uint64_t)INT64_MAX - 4095;
	return 8;
}

static void messages_are_what_they_were(void **state)
{
	struct shared_direct_msg all[8];
	uint32_t count = samples(all);

	(void)state;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t buf[SHARED_DIRECT_BYTES];
		uint8_t again[SHARED_DIRECT_BYTES];
		struct shared_direct_msg out;
		size_t len = shared_direct_encode(&all[i], buf);

		assert_int_equal(shared_direct_decode(buf, len, &out), 0);
		assert_int_equal(out.type, all[i].type);
		assert_int_equal(out.seq, all[i].seq);
		assert_int_equal(shared_direct_encode(&out, again), len);
		assert_memory_equal(again, buf, len);
	}
}

/* docs/formats/csvd-direct.md */
static void bytes_are_those_of_the_document(void **state)
{
	static const uint8_t golden[] = {
		'G', 'W', 'D', '1', 4, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, /* head */
		0,   16,  0,   0,   0, 0, 0, 0,                         /* file */
		0,   0,   16,  0,   0, 0, 0, 0,                         /* device */
		0,   32,  0,   0,   0, 0, 0, 0,                         /* length */
	};
	struct shared_direct_msg msg = {.type = SHARED_DIRECT_EXTENTS_ARE, .seq = 7, .count = 1};
	uint8_t buf[SHARED_DIRECT_BYTES];

	(void)state;
	msg.extents[0] = (struct shared_direct_extent){4096, 1 << 20, 8192};
	assert_int_equal(shared_direct_encode(&msg, buf), sizeof(golden));
	assert_memory_equal(buf, golden, sizeof(golden));
}

static bool sound(const struct shared_direct_msg *m)
{
	uint64_t end = 0;

	if (m->type == SHARED_DIRECT_MAP || m->type == SHARED_DIRECT_REVOKE) {
		return m->from_bytes < m->to_bytes && m->to_bytes <= INT64_MAX;
	}
	for (uint32_t i = 0; i < m->count; i++) {
		const struct shared_direct_extent *e = &m->extents[i];

		if (e->file_bytes < end || e->len_bytes == 0 || e->len_bytes > INT64_MAX ||
		    (e->file_bytes | e->device_bytes | e->len_bytes) % 4096 != 0) {
			return false;
		}
		end = e->file_bytes + e->len_bytes;
	}
	return m->count <= SHARED_DIRECT_EXTENTS;
}

static void every_truncation_and_bit_flip_is_refused_or_sound(void **state)
{
	struct shared_direct_msg all[8];
	uint32_t count = samples(all);

	(void)state;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t buf[SHARED_DIRECT_BYTES + 1] = {0};
		struct shared_direct_msg out = {0};
		size_t len = shared_direct_encode(&all[i], buf);

		for (size_t cut = 0; cut < len; cut++) {
			assert_int_equal(shared_direct_decode(buf, cut, &out), -EPROTO);
		}
		assert_int_equal(shared_direct_decode(buf, len + 1, &out), -EPROTO);
		assert_int_equal(out.type, 0); /* untouched */
		for (size_t bit = 0; bit < 8 * len; bit++) {
			buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
			memset(&out, 0, sizeof(out));
			if (shared_direct_decode(buf, len, &out) == 0) {
				assert_true(sound(&out));
			} else {
				assert_int_equal(out.type, 0);
			}
			buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
	}
}

static void descriptors_go_along_and_the_end_is_heard(void **state)
{
	const struct shared_direct_msg msg = {.type = SHARED_DIRECT_WELCOME, .align_bytes = 4096};
	struct shared_direct_msg out;
	int give[SHARED_DIRECT_FDS];
	int fds[SHARED_DIRECT_FDS];
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(shared_direct_recv(pair[0], &out, fds), -EAGAIN);
	for (uint32_t i = 0; i < SHARED_DIRECT_FDS; i++) {
		give[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_true(give[i] >= 0);
	}
	assert_int_equal(shared_direct_send(pair[1], &msg, give, SHARED_DIRECT_FDS), 0);
	assert_int_equal(shared_direct_recv(pair[0], &out, fds), 0);
	assert_int_equal(out.align_bytes, 4096);
	for (uint32_t i = 0; i < SHARED_DIRECT_FDS; i++) {
		assert_true(fds[i] >= 0);
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		assert_int_equal(close(fds[i]), 0);
		assert_int_equal(close(give[i]), 0);
	}
	assert_int_equal(send(pair[1], "nonsense", 8, 0), 8);
	assert_int_equal(shared_direct_recv(pair[0], &out, fds), -EPROTO);
	assert_int_equal(close(pair[1]), 0);
	assert_int_equal(shared_direct_recv(pair[0], &out, fds), -ENOTCONN);
	assert_int_equal(close(pair[0]), 0);
}

static void a_lock_is_held_as_long_as_anybody_has_it(void **state)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	char dir[] = "/tmp/gw-direct-XXXXXX";
	char path[64];
	int fd;
	int second;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/" SHARED_DIRECT_LOCK, dir);
	assert_false(shared_direct_held(path)); /* nobody was ever let in */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_false(shared_direct_held(path));
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	second = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	assert_true(shared_direct_held(path));
	assert_int_equal(close(fd), 0);
	assert_true(shared_direct_held(path));
	assert_int_equal(close(second), 0);
	assert_false(shared_direct_held(path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("elsewhere", path), 0);
	assert_true(shared_direct_held(path)); /* what cannot be looked at */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void files_that_are_on_no_shared_volume_have_none(void **state)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(shared_direct_connect(fd, "/nonexistent", true), -ENOTTY);
	assert_int_equal(close(fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_what_they_were),
		cmocka_unit_test(bytes_are_those_of_the_document),
		cmocka_unit_test(every_truncation_and_bit_flip_is_refused_or_sound),
		cmocka_unit_test(descriptors_go_along_and_the_end_is_heard),
		cmocka_unit_test(a_lock_is_held_as_long_as_anybody_has_it),
		cmocka_unit_test(files_that_are_on_no_shared_volume_have_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
