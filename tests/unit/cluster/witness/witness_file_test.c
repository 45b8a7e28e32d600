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
	uint64_t seen = 0;

	assert_int_equal(witness_file_check(&f->folder, NULL, NULL), -ENOENT);
	assert_int_equal(witness_file_create(&f->folder, NULL), 0);
	assert_int_equal(witness_file_check(&f->folder, &seen, NULL), 0);
	assert_int_equal(seen, 0);
	assert_int_equal(vote(&f->folder, 1, 5), 0);
	assert_int_equal(vote(&f->folder, 2, 5), -ESTALE);
	assert_int_equal(vote(&f->folder, 2, 6), 0);
	assert_int_equal(vote(&f->folder, 1, 6), -ESTALE);
	assert_int_equal(witness_file_check(&f->folder, &seen, NULL), 0);
	assert_int_equal(seen, 2);
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

/* The whole file, as a backup has it. */
static void *keep(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	char *all = malloc(2 << 20);

	assert_non_null(file);
	assert_non_null(all);
	*len = fread(all, 1, 2 << 20, file);
	assert_int_equal(fclose(file), 0);
	return all;
}

static void give_back(const char *path, const void *all, size_t len)
{
	FILE *file = fopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(all, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static int vote_seen(const struct witness_place *place, uint32_t nodeid, uint64_t *seen,
                     struct errbuf *eb)
{
	struct witness_claim c = {.id = {{0x77, (uint8_t)nodeid}},
	                          .nodeid = nodeid,
	                          .last_epoch = 5,
	                          .epoch = 6,
	                          .seen = *seen,
	                          .synced = 1,
	                          .count = 1,
	                          .nodes = {nodeid}};
	int err = witness_file_vote(place, &c, 10 * NS_PER_S, eb);

	*seen = c.seen;
	return err;
}

/* Without remembering, the copy would let node 2 in, which the tag that is gone had refused. */
static void an_older_copy_is_no_witness(void **state)
{
	const struct fixture *f = *state;
	struct errbuf eb = {0};
	uint64_t one = 0;
	uint64_t two = 0;
	size_t len;

	assert_int_equal(witness_file_create(&f->folder, NULL), 0);
	void *backup = keep(f->file, &len);

	assert_int_equal(vote_seen(&f->folder, 1, &one, NULL), 0);
	assert_int_equal(one, 1);
	assert_int_equal(vote_seen(&f->folder, 2, &two, NULL), -ESTALE);
	assert_int_equal(two, 1); /* it was told no, and remembers why */
	give_back(f->file, backup, len);
	assert_int_equal(witness_file_check(&f->folder, &two, &eb), -ESTALE);
	assert_non_null(strstr(eb.text, "older copy: its tag 0, but 1 was there"));
	assert_int_equal(two, 1);
	assert_int_equal(vote_seen(&f->folder, 2, &two, &eb), -ESTALE);
	assert_non_null(strstr(eb.text, "older copy"));
	assert_int_equal(vote_seen(&f->folder, 1, &one, NULL), -ESTALE); /* also not who had it */

	uint64_t none = 0;

	assert_int_equal(vote_seen(&f->folder, 2, &none, NULL),
	                 0); /* who saw nothing cannot tell */
	free(backup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_folder_has_a_witness, setup, teardown),
		cmocka_unit_test_setup_teardown(an_older_copy_is_no_witness, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_on_a_disk_is_not_overwritten, setup,
	                                        teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
