/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/witness/witness_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"

#define FILE_BYTES ((size_t)WITNESS_BLOCK_BYTES * (WITNESS_SLOTS + 1))
#define PAUSE_MS_MAX 64u /* a round takes a few ms; chance parts those who try at once */

struct file {
	int fd;
	uint8_t *buf;                 /* owned, aligned [FILE_BYTES]: head and blocks */
	struct witness_block *blocks; /* owned [WITNESS_SLOTS] */
	char path[PATH_MAX];
};

static void file_path(const struct witness_place *place, char path[PATH_MAX])
{
	char guid[GUID_TEXT_SIZE];

	if (place->folder) {
		(void)snprintf(path, PATH_MAX, "%.4000s/godwit-witness-%s", place->path,
		               guid_format(&place->head.witness, guid));
	} else {
		(void)snprintf(path, PATH_MAX, "%.4000s", place->path);
	}
}

static void file_close(struct file *f)
{
	if (f->fd >= 0) {
		(void)close(f->fd);
	}
	free(f->buf);
	free(f->blocks);
}

static int file_open(struct file *f, const struct witness_place *place, int flags,
                     struct errbuf *eb)
{
	int sync = O_CLOEXEC | O_NOFOLLOW | O_DSYNC;

	*f = (struct file){.fd = -1};
	if (!place->folder) {
		sync &= ~O_NOFOLLOW; /* /dev/disk/by-id/... are links */
	}
	file_path(place, f->path);
	f->blocks = gw_calloc(WITNESS_SLOTS, sizeof(*f->blocks));
	if (f->blocks == NULL ||
	    posix_memalign((void **)&f->buf, WITNESS_BLOCK_BYTES, FILE_BYTES) != 0) {
		file_close(f);
		(void)errbuf_sys(eb, -ENOMEM, "witness");
		return -ENOMEM;
	}
	f->fd = open(f->path, O_RDWR | O_DIRECT | sync | flags, 0600);
	if (f->fd < 0 && errno == EINVAL) { /* a file system without: then it has one cache */
		f->fd = open(f->path, O_RDWR | sync | (flags & ~O_EXCL), 0600);
	}
	if (f->fd < 0) {
		int err = -errno;

		(void)errbuf_sys(eb, err, "witness %s", f->path);
		file_close(f);
		f->fd = -1;
		return err < 0 ? err : -EIO;
	}
	return 0;
}

static int file_read(struct file *f, struct errbuf *eb)
{
	size_t done = 0;

	while (done < FILE_BYTES) {
		ssize_t n = pread(f->fd, f->buf + done, FILE_BYTES - done, (off_t)done);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return errbuf_sys(eb, -errno, "witness %s", f->path);
		}
		if (n == 0) {
			return errbuf_set(eb, -ENOSPC, "witness %s: smaller than %zu bytes",
			                  f->path, FILE_BYTES);
		}
		done += (size_t)n;
	}
	return 0;
}

static int file_write(const struct file *f, size_t at, size_t len, struct errbuf *eb)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(f->fd, f->buf + at + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return errbuf_sys(eb, n < 0 ? -errno : -EIO, "witness %s", f->path);
		}
		done += (size_t)n;
	}
	return 0;
}

/* All of it, checked: the blocks are in f->blocks. */
static int file_load(struct file *f, const struct witness_place *place, struct errbuf *eb)
{
	struct witness_head head;
	int err = file_read(f, eb);

	if (err != 0) {
		return err;
	}
	if (witness_head_decode(f->buf, WITNESS_BLOCK_BYTES, &head) != 0 ||
	    !guid_equal(&head.cluster, &place->head.cluster) ||
	    !guid_equal(&head.witness, &place->head.witness)) {
		return errbuf_set(eb, -ESTALE, "%s is not this cluster's witness", f->path);
	}
	for (uint32_t i = 0; i < WITNESS_SLOTS; i++) {
		if (witness_block_decode(f->buf + (size_t)WITNESS_BLOCK_BYTES * (i + 1),
		                         WITNESS_BLOCK_BYTES, &place->head.witness,
		                         &f->blocks[i]) != 0) {
			(void)errbuf_set(eb, -EBADMSG, "witness %s: block %u is damaged", f->path,
			                 i + 1);
			errbuf_hint(eb, "godwit quorum set --witness makes it anew");
			return -EBADMSG;
		}
	}
	return 0;
}

/* Nothing on it, or a witness of this cluster. */
static int file_is_free(const struct file *f, const struct witness_place *place, struct errbuf *eb)
{
	struct witness_head head;
	bool ours = witness_head_decode(f->buf, WITNESS_BLOCK_BYTES, &head) == 0 &&
	            guid_equal(&head.cluster, &place->head.cluster);

	for (size_t i = 0; !ours && i < FILE_BYTES; i++) {
		if (f->buf[i] != 0) {
			(void)errbuf_set(eb, -EEXIST, "%s is not empty", f->path);
			errbuf_hint(eb,
			            "if nobody needs what is on it: wipefs --all %s, and zeros "
			            "over its first 2 MiB",
			            f->path);
			return -EEXIST;
		}
	}
	return 0;
}

/* A device, or a file that is made large enough. */
static int file_size(const struct file *f, struct errbuf *eb)
{
	struct stat st;
	bool small;

	if (fstat(f->fd, &st) != 0) {
		return errbuf_sys(eb, -errno, "witness %s", f->path);
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		return errbuf_set(eb, -EINVAL, "witness %s: neither a file nor a block device",
		                  f->path);
	}
	small = S_ISREG(st.st_mode) && st.st_size < (off_t)FILE_BYTES;
	return small && ftruncate(f->fd, (off_t)FILE_BYTES) != 0
	               ? errbuf_sys(eb, -errno, "witness %s", f->path)
	               : 0;
}

int witness_file_create(const struct witness_place *place, struct errbuf *eb)
{
	struct file f;
	int err = file_open(&f, place, place->folder ? O_CREAT : 0, eb);

	if (err != 0) {
		return err;
	}
	err = file_size(&f, eb);
	if (err == 0) {
		err = file_read(&f, eb);
	}
	if (err == 0) {
		err = file_is_free(&f, place, eb);
	}
	if (err == 0) { /* the head last: without it, it is nothing */
		memset(f.buf, 0, FILE_BYTES);
		err = file_write(&f, 0, FILE_BYTES, eb);
	}
	if (err == 0) {
		witness_head_encode(&place->head, f.buf);
		err = file_write(&f, 0, WITNESS_BLOCK_BYTES, eb);
	}
	if (err == 0 && fsync(f.fd) != 0) {
		err = errbuf_sys(eb, -errno, "witness %s", f.path);
	}
	file_close(&f);
	return err;
}

static int old_copy(const struct file *f, uint64_t found, uint64_t seen, struct errbuf *eb)
{
	(void)errbuf_set(eb, -ESTALE,
	                 "witness %s is an older copy: its tag %llu, but %llu was there", f->path,
	                 (unsigned long long)found, (unsigned long long)seen);
	errbuf_hint(eb,
	            "with a majority of the nodes: godwit quorum set --witness none, then anew");
	return -ESTALE;
}

int witness_file_check(const struct witness_place *place, uint64_t *seen, struct errbuf *eb)
{
	struct witness_tag last;
	struct file f;
	int err = file_open(&f, place, 0, eb);

	if (err != 0) {
		return err;
	}
	err = file_load(&f, place, eb);
	if (err == 0 && seen != NULL) {
		witness_last(f.blocks, &last);
		if (last.seq < *seen) {
			err = old_copy(&f, last.seq, *seen, eb);
		} else {
			*seen = last.seq;
		}
	}
	file_close(&f);
	return err;
}

static void file_pause(void)
{
	uint8_t chance = 0;

	(void)getrandom(&chance, sizeof(chance), GRND_NONBLOCK); /* else no pause */
	const struct timespec pause = {.tv_nsec = (long)(chance % PAUSE_MS_MAX) * 1000000};

	(void)nanosleep(&pause, NULL);
}

static int vote_run(struct file *f, const struct witness_place *place, struct witness_try *t,
                    uint64_t end_ns, struct errbuf *eb)
{
	size_t at = (size_t)WITNESS_BLOCK_BYTES * (witness_slot(t->claim.nodeid) + 1);

	for (;;) {
		struct witness_block block;
		int err = file_load(f, place, eb);

		if (err != 0) {
			return err;
		}
		switch (witness_next(t, f->blocks, &block)) {
		case WITNESS_WRITE:
			witness_block_encode(&block, &place->head.witness, f->buf + at);
			err = file_write(f, at, WITNESS_BLOCK_BYTES, eb);
			if (err != 0) {
				return err;
			}
			break;
		case WITNESS_WAIT:
			file_pause();
			break;
		case WITNESS_WON:
			return 0;
		case WITNESS_LOST:
			(void)errbuf_set(
				eb, -ESTALE,
				"other nodes had the witness since, in epoch %llu; ours is %llu",
				(unsigned long long)t->last.epoch,
				(unsigned long long)t->claim.last_epoch);
			errbuf_hint(eb, "start one of those nodes: they may know what we do not");
			return -ESTALE;
		case WITNESS_OLD:
			return old_copy(f, t->last.seq, t->claim.seen, eb);
		}
		if (clock_now_ns() > end_ns) {
			return errbuf_set(eb, -ETIMEDOUT, "witness %s: others are faster", f->path);
		}
	}
}

int witness_file_vote(const struct witness_place *place, struct witness_claim *claim,
                      uint64_t timeout_ns, struct errbuf *eb)
{
	uint64_t end_ns = clock_now_ns() + timeout_ns;
	struct witness_try t;
	struct file f;
	int err = file_open(&f, place, 0, eb);

	if (err == 0) {
		witness_begin(&t, claim);
		err = vote_run(&f, place, &t, end_ns, eb);
		claim->seen = t.claim.seen;
		file_close(&f);
	}
	return err;
}

int witness_file_remove(const struct witness_place *place, struct errbuf *eb)
{
	struct file f;
	int err = file_open(&f, place, 0, eb);

	if (err != 0) {
		return err == -ENOENT ? 0 : err;
	}
	err = file_load(&f, place, eb);
	if (err == 0 && place->folder) {
		err = unlink(f.path) == 0 ? 0 : errbuf_sys(eb, -errno, "witness %s", f.path);
	} else if (err == 0) {
		memset(f.buf, 0, FILE_BYTES);
		err = file_write(&f, 0, FILE_BYTES, eb);
	}
	file_close(&f);
	return err;
}
