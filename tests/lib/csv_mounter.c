/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/csv_mounter.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/loop.h"
#include "base/uring.h"
#include "csv/local/csv_local.h"
#include "csv/mount/csv_mount.h"

struct mounter {
	struct loop *loop;
	struct uring *ring;
	struct csv_local *local;
	struct csv_mount *mount;
};

static void ask(void *arg, struct csv_mount_ask *a)
{
	const struct mounter *m = arg;

	csv_local_ask(m->local, a);
}

static void rights(void *arg, uint64_t ino, struct csv_data_rights *out)
{
	const struct mounter *m = arg;

	csv_local_rights(m->local, ino, out);
}

static void stopped(void *arg)
{
	const struct mounter *m = arg;

	loop_stop(m->loop);
}

static const struct csv_mount_ops ops = {.ask = ask, .rights = rights, .stopped = stopped};

static void completions(int fd, uint32_t events, void *arg)
{
	const struct mounter *m = arg;

	(void)fd;
	(void)events;
	(void)uring_dispatch(m->ring);
	CHECK(uring_submit(m->ring) >= 0);
}

static void terminated(int signo, void *arg)
{
	const struct mounter *m = arg;

	(void)signo;
	csv_mount_stop(m->mount);
}

static int serve(struct mounter *m, const struct csv_mounter_cfg *cfg, struct errbuf *eb)
{
	const struct csv_super *super = csv_local_super(m->local);
	const struct csv_mount_cfg mount = {
		.path = cfg->path,
		.name = super->label,
		.loop = m->loop,
		.ring = m->ring,
		.ops = &ops,
		.arg = m,
		.device_fd = csv_local_fd(m->local),
		.root_ino = csv_layout_root(&super->layout),
		.alone = cfg->alone,
	};
	struct loop_fd *watch;
	struct loop_signal *signals[2];
	int err = csv_mount_create(&mount, &m->mount, eb);

	if (err != 0) {
		return err;
	}
	CHECK(loop_fd_add(m->loop, uring_fd(m->ring), LOOP_READ, completions, m, &watch) == 0);
	CHECK(loop_signal_add(m->loop, SIGTERM, terminated, m, &signals[0]) == 0);
	CHECK(loop_signal_add(m->loop, SIGINT, terminated, m, &signals[1]) == 0);
	if (cfg->ready_fd >= 0) {
		CHECK(write(cfg->ready_fd, "mounted\n", 8) == 8);
	}
	loop_run(m->loop);
	csv_mount_destroy(m->mount);
	loop_fd_del(watch);
	loop_signal_del(signals[0]);
	loop_signal_del(signals[1]);
	return 0;
}

int csv_mounter_run(const struct csv_mounter_cfg *cfg)
{
	const struct uring_cfg ring = {.entries = 256, .in_loop = true};
	struct errbuf eb = {0};
	struct mounter m = {0};
	int err = loop_create(&m.loop);

	CHECK(err == 0);
	err = uring_create(&ring, &m.ring, &eb);
	if (err == 0) {
		const struct csv_local_cfg local = {.path = cfg->device, .ring = m.ring};

		err = csv_local_open(&local, &m.local, &eb);
	}
	if (err == 0) {
		int closed;

		err = serve(&m, cfg, &eb);
		closed = csv_local_close(m.local, err == 0 ? &eb : NULL);
		err = err != 0 ? err : closed;
	}
	if (err != 0) {
		(void)fprintf(stderr, "csv_mounter: %s\n", errbuf_text(&eb, err));
	}
	uring_destroy(m.ring);
	loop_destroy(m.loop);
	return err;
}
