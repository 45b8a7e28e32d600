/* SPDX-License-Identifier: Apache-2.0 */

/*
 * link_fuzz - what a worker that its guest has taken over says to the node service: messages,
 * separated by newlines, while requests with the ids 1 to 4 are under way.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/loop.h"
#include "hv/manager/link.h"

#define REQUESTS 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct fuzz {
	struct loop *loop;
	struct loop_timer *timer;
	struct link *link;
	int listen_fd;
	char path[108];
	uint32_t answers;
};

static void fuzz_event(void *arg, json_t *event)
{
	(void)arg;
	CHECK(event != NULL);
}

static void fuzz_closed(void *arg)
{
	struct fuzz *f = arg;

	link_close(f->link);
	f->link = NULL;
}

static void fuzz_answer(void *arg, int err, json_t *result, const struct errbuf *eb)
{
	struct fuzz *f = arg;

	(void)eb;
	CHECK(err <= 0 && (err == 0 || result == NULL));
	CHECK(++f->answers <= REQUESTS); /* each once */
}

static void fuzz_timer(void *arg)
{
	struct fuzz *f = arg;

	loop_stop(f->loop);
}

static char dir[] = "/tmp/godwit-link-XXXXXX";

static void fuzz_clean(void)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/s", dir);
	(void)unlink(path);
	(void)rmdir(dir);
}

static void fuzz_start(struct fuzz *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	log_set_level(LOG_LEVEL_ERR);
	CHECK(mkdtemp(dir) != NULL && atexit(fuzz_clean) == 0);
	(void)snprintf(f->path, sizeof(f->path), "%s/s", dir);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s", dir);
	f->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	CHECK(bind(f->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(listen(f->listen_fd, 4) == 0);
	CHECK(loop_create(&f->loop) == 0);
	CHECK(loop_timer_new(f->loop, fuzz_timer, f, &f->timer) == 0);
}

static void fuzz_turn(struct fuzz *f)
{
	loop_timer_arm(f->timer, 0);
	loop_run(f->loop);
}

/* Says it all, and goes. */
static void fuzz_say(struct fuzz *f, int fd, const uint8_t *data, size_t len)
{
	while (len != 0) {
		const uint8_t *end = memchr(data, '\n', len);
		size_t n = end != NULL ? (size_t)(end - data) : len;

		if (n != 0 && send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			break;
		}
		fuzz_turn(f);
		data += n + (end != NULL);
		len -= n + (end != NULL);
	}
	(void)close(fd);
	fuzz_turn(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct fuzz f;
	int fd;

	if (f.loop == NULL) {
		fuzz_start(&f);
	}

	const struct link_cfg cfg = {
		.loop = f.loop,
		.path = f.path,
		.event = fuzz_event,
		.closed = fuzz_closed,
		.arg = &f,
	};

	f.answers = 0;
	CHECK(link_open(&cfg, &f.link) == 0);
	fd = accept(f.listen_fd, NULL, NULL);
	CHECK(fd >= 0);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		CHECK(link_request(f.link, "status", NULL, -1, fuzz_answer, &f) == 0);
	}
	fuzz_say(&f, fd, data, len);
	link_close(f.link);
	f.link = NULL;
	return 0;
}
