/* SPDX-License-Identifier: Apache-2.0 */

/* control_fuzz - messages of a client of the worker's control socket, separated by newlines. */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/uring.h"
#include "hv/worker/control.h"

#define TURNS_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct fuzz {
	struct uring *ring;
	struct control *control;
	struct sockaddr_un addr;
	socklen_t addr_bytes;
	uint32_t handled;
};

/* Answers every other command with an error. */
static void fuzz_command(struct control_request *req, void *arg)
{
	struct fuzz *f = arg;
	struct errbuf eb = {0};

	CHECK(req->cmd != NULL && req->id >= 0 && req->fd_count <= CONTROL_FDS_MAX);
	if (f->handled++ % 2 == 0) {
		control_reply(req, NULL);
	} else {
		(void)errbuf_set(&eb, -EINVAL, "unknown command \"%s\"", req->cmd);
		control_error(req, -EINVAL, &eb);
	}
}

static void fuzz_start(struct fuzz *f)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	log_set_level(LOG_LEVEL_ERR);
	f->addr.sun_family = AF_UNIX;
	f->addr_bytes = sizeof(f->addr);
	CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)&f->addr, sizeof(sa_family_t)) == 0 &&
	      getsockname(fd, (struct sockaddr *)&f->addr, &f->addr_bytes) == 0 &&
	      listen(fd, 4) == 0);
	CHECK(uring_create(&(struct uring_cfg){.entries = 64}, &f->ring, NULL) == 0);
	CHECK(control_create(f->ring, fd, fuzz_command, f, &f->control) == 0);
}

/* Until the worker has dropped or read all: it answers, or closes. */
static void fuzz_turn(struct fuzz *f, int fd)
{
	static char buf[CONTROL_MESSAGE_BYTES_MAX];

	for (uint32_t i = 0; i < TURNS_MAX; i++) {
		int err = uring_wait(f->ring, 0);

		CHECK(err >= 0 || err == -EINTR || err == -ETIME);
		while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0) {
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct fuzz f;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (f.ring == NULL) {
		fuzz_start(&f);
	}
	CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)&f.addr, f.addr_bytes) == 0);
	while (len != 0) {
		const uint8_t *end = memchr(data, '\n', len);
		size_t n = end != NULL ? (size_t)(end - data) : len;

		/* Nobody there any more is an answer, too. */
		if (n != 0 && send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			break;
		}
		fuzz_turn(&f, fd);
		data += n + (end != NULL);
		len -= n + (end != NULL);
	}
	(void)close(fd);
	fuzz_turn(&f, -1);
	return 0;
}
