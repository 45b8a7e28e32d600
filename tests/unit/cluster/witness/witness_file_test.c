/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/witness/witness_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "tests/lib/test.h"

struct fixture {
	char dir[64];
	char disk[96];
	char file[256]; /* the folder's */
	struct witness_place folder;
	struct witness_place device;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char guid[GUID_TEXT_SIZE];

	assert_non_null(f);
	(void)snprintf(f->dir, sizeof(f->dir), "/var/tmp/godwit-witness-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->disk, sizeof(f->disk), "%s/disk", f->dir);
	f->folder = (struct witness_place){
		.path = f->dir, .folder = true, .head = {.cluster = {{1}}, .witness = {{2}}}};
	f->device = f->folder;
	f->device.path = f->disk;
	f->device.folder = false;
	(void)snprintf(f->file, sizeof(f->file), "%s/godwit-witness-%s", f->dir,
	               guid_format(&f->folder.head.witness, guid));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)unlink(f->disk);
	(void)unlink(f->file);
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

static int vote(const struct witness_place *place, uint32_t nodeid, uint64_t last_epoch)
{
	struct witness_claim c = {.nodeid = nodeid,
	                          .last_epoch = last_epoch,
	                          .epoch = last_epoch + 1,
	                          .synced = 1,
	                          .count = 1,
	                          .nodes = {nodeid}};

	guid_random(&c.id);
	return witness_file_vote(place, &c, 10 * NS_PER_S, NULL);
}

static void a_folder_has_a_witness(void **state)
{
	const struct fixture *f = *state;
	struct witness_place other = f->folder;
	struct witness_tag last;

	assert_int_equal(witness_file_check(&f->folder, NULL, NULL), -ENOENT);
	assert_int_equal(witness_file_create(&f->folder, NULL), 0);
	assert_int_equal(witness_file_check(&f->folder, &last, NULL), 0);
	assert_int_equal(last.seq, 0);
	assert_int_equal(vote(&f->folder, 1, 5), 0);
	assert_int_equal(vote(&f->folder, 2, 5), -ESTALE);
	assert_int_equal(vote(&f->folder, 2, 6), 0);
	assert_int_equal(vote(&f->folder, 1, 6), -ESTALE);
	assert_int_equal(witness_file_check(&f->folder, &last, NULL), 0);
	assert_int_equal(last.seq, 2);
	assert_int_equal(last.nodes[0], 2);
	other.head.cluster.b[0] = 9;
	assert_int_equal(witness_file_check(&other, NULL, NULL), -ESTALE);
	assert_int_equal(vote(&other, 1, 9), -ESTALE);
	assert_int_equal(witness_file_remove(&f->folder, NULL), 0);
	assert_int_equal(witness_file_check(&f->folder, NULL, NULL), -ENOENT);
	assert_int_equal(witness_file_remove(&f->folder, NULL), 0);
}

static void what_is_on_a_disk_is_not_overwritten(void **state)
{
	const struct fixture *f = *state;
	struct witness_place other = f->device;
	struct errbuf eb = {0};
	int fd;

	assert_int_equal(witness_file_create(&f->device, NULL), -ENOENT);
	fd = open(f->disk, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	assert_int_equal(pwrite(fd, "x", 1, 500000), 1);
	assert_int_equal(witness_file_create(&f->device, &eb), -EEXIST);
	assert_non_null(strstr(eb.text, "not empty"));
	assert_int_equal(pwrite(fd, "", 1, 500000), 1);
	assert_int_equal(witness_file_create(&f->device, NULL), 0);
	assert_int_equal(vote(&f->device, 1, 5), 0);
	/* A new one of the same cluster may take its place, one of another not. */
	other.head.cluster.b[0] = 9;
	assert_int_equal(witness_file_create(&other, NULL), -EEXIST);
	other = f->device;
	other.head.witness.b[0] = 3;
	assert_int_equal(witness_file_create(&other, NULL), 0);
	assert_int_equal(witness_file_check(&f->device, NULL, NULL), -ESTALE);
	assert_int_equal(vote(&other, 2, 1), 0);
	/* A damaged block: nobody can know what it said. */
	assert_int_equal(pwrite(fd, "x", 1, (off_t)WITNESS_BLOCK_BYTES * 100 + 40), 1);
	assert_int_equal(vote(&other, 2, 9), -EBADMSG);
	assert_int_equal(pwrite(fd, "", 1, (off_t)WITNESS_BLOCK_BYTES * 100 + 40), 1);
	assert_int_equal(witness_file_remove(&other, NULL), 0);
	assert_int_equal(witness_file_check(&other, NULL, NULL), -ESTALE);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_folder_has_a_witness, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_on_a_disk_is_not_overwritten, setup,
	                                        teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
