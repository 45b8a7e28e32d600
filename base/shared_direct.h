/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_SHARED_DIRECT_H
#define BASE_SHARED_DIRECT_H

/*
 * shared_direct - who has a file of a shared volume open reads and writes on the volume's device
 * itself: what is said between it (the user, a VM's worker) and the volume's service.
 *
 * One connection (AF_UNIX, SOCK_SEQPACKET: one message is one packet) for one open file description
 * with the right to write. Only what is written already is done this way: the service names extents
 * that are, and that it has leased; everything else goes through the mounted file as ever.
 *
 *	user     HELLO (key of the description)          -- by who opened the file, as root
 *	service  WELCOME + 3 descriptors: the device, a page, a lock
 *	user     MAP at          service  EXTENTS (0 to 64), what was asked may not be among them
 *	service  REVOKE from to  user     REVOKED: it has forgotten that, nothing is in flight there
 *	user     RELEASE         service  RELEASED: the same, of all
 *
 * The user submits only what lies in an extent that it was told and not asked to forget, and only
 * while the clock is below page.until_ns, looked at right before. When the connection breaks it
 * submits nothing any more, lets what is in flight end, and closes the three descriptors.
 *
 * The service knows that nothing is in flight by REVOKED and RELEASE, or, when the connection broke
 * or the user died, by the device's descriptor: it is an open file description of its own, with a
 * lock on one byte, that the kernel lets go of when the last descriptor and the last request of it
 * are gone. The third descriptor holds a lock of a file (SHARED_DIRECT_LOCK): as long as anybody
 * has that, a service that came later does not begin. Record: docs/decisions/0260.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/shared_file.h"

struct errbuf;

#define SHARED_DIRECT_SOCKET "csvd-direct.sock" /* in the run directory */
#define SHARED_DIRECT_LOCK "csvd-direct.lock"
#define SHARED_DIRECT_BLOCK 4096u        /* all places and lengths are multiples of it */
#define SHARED_DIRECT_EXTENTS 64u        /* in one message */
#define SHARED_DIRECT_BYTES 1600u        /* the longest message: 32 + 64 * 24, rounded up */
#define SHARED_DIRECT_FDS 3u             /* of WELCOME */
#define SHARED_DIRECT_RANGE (1ull << 30) /* that one MAP asks for */
/* The service says again how long the user may go on every 100 ms; so when it stands still, or is
 * stopped with the node's lease, the user stops this much later. */
#define SHARED_DIRECT_AHEAD_NS 300000000ull

enum shared_direct_type {
	SHARED_DIRECT_HELLO = 1,
	SHARED_DIRECT_WELCOME,
	SHARED_DIRECT_MAP,
	SHARED_DIRECT_EXTENTS_ARE,
	SHARED_DIRECT_REVOKE,
	SHARED_DIRECT_REVOKED,
	SHARED_DIRECT_RELEASE,
	SHARED_DIRECT_RELEASED,
};

struct shared_direct_extent {
	uint64_t file_bytes;
	uint64_t device_bytes;
	uint64_t len_bytes;
};

/* Value type. What a type does not have is 0. */
struct shared_direct_msg {
	enum shared_direct_type type;
	uint32_t seq;                       /* of MAP, REVOKE, RELEASE; the answer has the same */
	uint8_t key[SHARED_FILE_KEY_BYTES]; /* HELLO */
	bool guarded;         /* HELLO: the user is ended with the lease of this node */
	uint32_t align_bytes; /* WELCOME: of memory, power of two, 1 to 4096 */
	uint64_t from_bytes;  /* MAP, REVOKE: [from, to) of the file */
	uint64_t to_bytes;
	uint32_t count; /* EXTENTS_ARE: ascending, disjoint */
	struct shared_direct_extent extents[SHARED_DIRECT_EXTENTS];
};

/* shared_direct_encode() - @buf[SHARED_DIRECT_BYTES]. Returns the length [bytes]. */
size_t shared_direct_encode(const struct shared_direct_msg *msg, void *buf);

/* shared_direct_decode() - Returns 0; -EPROTO: no message, @out is as it was. */
MUST_USE int shared_direct_decode(const void *buf, size_t len, struct shared_direct_msg *out);

/* What the service writes and the user reads, live; host endianness, one machine. */
struct shared_direct_page {
	_Atomic uint64_t until_ns; /* CLOCK_BOOTTIME: nothing is submitted from then on; 0 = now */
};

#define SHARED_DIRECT_PAGE_BYTES 4096u

/* shared_direct_send() - one message, with @count descriptors; does not block. Returns 0; -EAGAIN
 * no room; -errno. */
MUST_USE int shared_direct_send(int sock, const struct shared_direct_msg *msg, const int *fds,
                                uint32_t count);

/*
 * shared_direct_recv() - one message; does not block.
 * @fds[SHARED_DIRECT_FDS]: out, the caller's, -1 = none.
 * Returns 0; -EAGAIN there is none; -ENOTCONN the other side is gone; -EPROTO nonsense; -errno.
 */
MUST_USE int shared_direct_recv(int sock, struct shared_direct_msg *out,
                                int fds[SHARED_DIRECT_FDS]);

/*
 * shared_direct_connect() - a connection for an open file, HELLO said; for another process.
 * @fd: of the file. @path: of the service's socket.
 * Returns the descriptor; -ENOTTY the file is on no shared volume; -ENOENT, -ECONNREFUSED no
 * service; -errno. Blocks until the file's service has said the key.
 */
MUST_USE int shared_direct_connect(int fd, const char *path, bool guarded);

/*
 * shared_direct_held() - does somebody still have the lock @path, of a service that has ended or of
 * its users? Does not block. @path: RUN_DIR/SHARED_DIRECT_LOCK.
 */
bool shared_direct_held(const char *path);

#endif
