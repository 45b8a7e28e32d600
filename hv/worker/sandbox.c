/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/worker/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/errbuf.h"

/* What a running VM does: its rings, KVM, its threads, its memory, its descriptors. No open, no
 * exec, no new sockets. */
static const int sandbox_calls[] = {
	/* rings and descriptors */
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(fstatfs),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(fcntl),
	SCMP_SYS(ioctl),
	SCMP_SYS(close),
	SCMP_SYS(eventfd2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	/* the sockets it was given */
	SCMP_SYS(accept4),
	SCMP_SYS(accept),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(recvfrom),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(setsockopt),
	/* memory */
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(mprotect),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(memfd_create),
	SCMP_SYS(membarrier),
	/* threads, signals, time */
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(get_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(tgkill),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(prctl),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getrusage),
	SCMP_SYS(sysinfo),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(prlimit64),
};

static int sandbox_namespaces(int root_fd, struct errbuf *eb)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) != 0) {
		return errbuf_sys(eb, -errno, "sandbox: namespaces");
	}
	if (root_fd >= 0 && (fchdir(root_fd) != 0 || chroot(".") != 0 || chdir("/") != 0)) {
		return errbuf_sys(eb, -errno, "sandbox: root directory");
	}
	return 0;
}

static int sandbox_user(uint32_t uid, uint32_t gid, struct errbuf *eb)
{
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_apply(CAPNG_SELECT_BOUNDS) != 0) {
		return errbuf_set(eb, -EPERM, "sandbox: capability bounding set");
	}
	if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
	    setresuid(uid, uid, uid) != 0) {
		return errbuf_sys(eb, -errno, "sandbox: user %u", uid);
	}
	if (capng_apply(CAPNG_SELECT_CAPS) != 0) {
		return errbuf_set(eb, -EPERM, "sandbox: capabilities");
	}
	return 0;
}

int sandbox_enter(const struct sandbox_cfg *cfg, struct errbuf *eb)
{
	int err = 0;

	if (cfg->uid != 0) {
		err = sandbox_namespaces(cfg->root_fd, eb);
		if (err == 0) {
			err = sandbox_user(cfg->uid, cfg->gid, eb);
		}
	}
	if (err == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		err = errbuf_sys(eb, -errno, "sandbox: new privileges");
	}
	return err;
}

int sandbox_seal(struct errbuf *eb)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err = 0;

	if (ctx == NULL) {
		return errbuf_sys(eb, -ENOMEM, "sandbox: system call filter");
	}
	/* Refusals in the audit log; a kernel without that takes the filter anyway. */
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1);
	for (size_t i = 0; i < ARRAY_LEN(sandbox_calls) && err == 0; i++) {
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, sandbox_calls[i], 0);
	}
	if (err == 0) {
		err = seccomp_load(ctx);
	}
	seccomp_release(ctx);
	return err != 0 ? errbuf_sys(eb, err, "sandbox: system call filter") : 0;
}
