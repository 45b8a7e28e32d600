/* SPDX-License-Identifier: Apache-2.0 */
/* The running machine: what no file says. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <unistd.h>

#include "hv/host/host_int.h"

/* A request for no entries is refused by a kernel that has io_uring and lets us use it. */
static int probe_io_uring(void)
{
	long rc = syscall(__NR_io_uring_setup, 0, NULL);

	if (rc >= 0) { /* cannot be: there was nowhere to write to */
		(void)close((int)rc);
		return 0;
	}
	return errno == EFAULT || errno == EINVAL ? 0 : -errno;
}

static void probe_clock(struct host_probe *out)
{
	struct timex tx = {.modes = 0};
	int state = adjtimex(&tx);

	out->clock_synced = state >= 0 && state != TIME_ERROR && (tx.status & STA_UNSYNC) == 0;
	out->clock_error_us = tx.maxerror;
}

static void probe_space(struct host_probe *out)
{
	char path[4096];
	struct statvfs st;
	int n = snprintf(path, sizeof(path), "%s", out->state_dir);

	if (n <= 0 || (size_t)n >= sizeof(path) || path[0] != '/') {
		out->space_err = -EINVAL;
		return;
	}
	while (statvfs(path, &st) < 0) {
		char *slash = strrchr(path, '/');

		if (errno != ENOENT || strcmp(path, "/") == 0) {
			out->space_err = -errno;
			return;
		}
		slash[slash == path ? 1 : 0] = '\0';
	}
	out->space_free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	out->space_total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
}

void host_probe_run(const char *state_dir, struct host_probe *out)
{
	memset(out, 0, sizeof(*out));
	out->state_dir = state_dir;
	kvm_probe_run(KVM_PROBE_DEVICE, &out->kvm);
	out->io_uring_err = probe_io_uring();
	probe_clock(out);
	probe_space(out);
}
