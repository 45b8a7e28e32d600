/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CSV_MOUNT_KERNEL_H
#define TESTS_UNIT_CSV_MOUNT_KERNEL_H

/*
 * kernel - the mount behind a socket pair instead of /dev/fuse: the test is the kernel, and, for
 * what a real volume does not do of itself, the volume. Functions fail the test if they cannot.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/uring.h"
#include "csv/local/csv_local.h"
#include "csv/mount/csv_mount.h"

struct loop;
struct loop_fd;

#define MESSAGE_MAX (1u << 17)

struct kernel {
	char device[64];
	struct loop *loop;
	struct uring *ring;
	struct loop_fd *watch;
	struct loop_fd *replies;
	struct csv_local *local;
	struct csv_mount *mount;
	int fd;
	uint64_t unique;
	uint64_t answered; /* the request that was waited for */
	int error;
	uint32_t len;
	uint8_t reply[MESSAGE_MAX];
	bool stopped;

	/* The volume's own will. */
	struct csv_mount_ask *held; /* not answered yet */
	bool hold_open;
	bool hold_convert;
	uint32_t busy_opens; /* to be refused */
	bool fail_convert;
	uint32_t closes;
	struct csv_mount_ask *failing;
	struct uring_op fail;
	uint32_t opens;
	uint32_t layouts;
	uint32_t returns;
	uint32_t converts;
};

extern const struct csv_mount_ops kernel_ops; /* of the volume; arg: struct kernel */

/* make_volume() - in a file, k->device. */
void make_volume(struct kernel *k);
/* start() - a new volume, mounted. stop() - unmount; all is gone. */
void start(struct kernel *k);
void stop(struct kernel *k);

/* Requests of the kernel; results: 0 or a positive errno, the rest of the answer in k->reply. */
void send_request(struct kernel *k, uint32_t opcode, uint64_t node, const void *body, size_t len);
int wait_for(struct kernel *k, uint64_t unique);
int request(struct kernel *k, uint32_t opcode, uint64_t node, const void *body, size_t len);
/* spin() - let happen what is under way. */
void spin(struct kernel *k, uint64_t ns);

uint64_t create(struct kernel *k, const char *name, uint64_t *fh);
int write_file(struct kernel *k, uint64_t node, uint64_t fh, uint64_t at, const char *text);
int read_file(struct kernel *k, uint64_t node, uint64_t fh, uint64_t at, uint32_t len);
int release(struct kernel *k, uint64_t node, uint64_t fh);
int open_file(struct kernel *k, uint64_t node, uint32_t flags, uint64_t *fh);
/* ask_file() - an ioctl without data. */
int ask_file(struct kernel *k, uint64_t node, uint64_t fh, unsigned int what);

#endif
