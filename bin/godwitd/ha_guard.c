/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/ha_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/watchdog.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "cluster/vmops.h"

#define TAG "guard"
#define GUARD_MAGIC 0x3144524155474447ull
#define WATCHDOG_OPEN 1u
#define WATCHDOG_SOFT 2u
#define WATCHDOG_WAIT_NS (2 * NS_PER_S)
#define GUARD_STALE_NS NS_PER_S        /* what was seen so long ago may not be so any more */
#define GUARD_NAMED_NS (60 * NS_PER_S) /* for a worker that is named and not there yet */
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

struct guard_entry {
	_Atomic uint32_t role; /* 0 = free; set last, cleared first */
	uint32_t reserved;
	_Atomic uint64_t token;
	struct guid id;
	char pid_path[GUARD_PATH_MAX];
};

/* The page. The writer of each field is said; what the guard acts on is atomic. */
struct guard_page {
	uint64_t magic; /* godwitd's, as all down to beat_ns */
	char boot_id[40];
	struct guid cluster;
	uint32_t nodeid;
	uint32_t watchdog_s;
	_Atomic uint64_t inc;
	_Atomic uint64_t since_ns;
	_Atomic uint64_t lease_ns;
	_Atomic uint64_t pause_ns;
	_Atomic uint64_t kill_ns;
	_Atomic uint64_t pet_until_ns;
	_Atomic uint64_t beat_ns;  /* the guard's: when it looked last */
	_Atomic uint32_t watchdog; /* the guard's: WATCHDOG_... */
	struct guard_entry vms[GUARD_VMS_MAX];
	/* At the end: a guard of an earlier version knows all that is above. */
	_Atomic uint32_t adds;    /* godwitd's: entries that were made */
	_Atomic uint32_t cfg;     /* godwitd's: changes of the next */
	_Atomic uint32_t leaving; /* the guard's: it does not look any more */
	char watchdog_path[GUARD_PATH_MAX];
};

struct guard {
	struct guard_page *page; /* owned mapping */
	int fd;                  /* owned: of the page */
	int lock_fd;             /* owned: locked by the process while it lives */
	char watchdog[GUARD_PATH_MAX];
	pid_t pid; /* of a process that we started; 0 = none */
	uint64_t spawned_ns;
};

/* ---- the process ---- */

/*
 * It is forked from a service with threads: nothing here may use memory management, the log, or
 * anything else that takes a lock.
 */
struct sentry {
	struct guard_page *page;
	int watchdog_fd;
	uint32_t cfg; /* the page's when it began */
	pid_t parent;
	struct {
		uint32_t role;
		uint64_t token;
		int pidfd; /* -1 = no worker seen yet */
		int told;  /* the last signal: SIGSTOP, SIGCONT; 0 = none yet */
	} vms[GUARD_VMS_MAX];
};

static long read_file(const char *path, char *buf, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, buf, room - 1) : -1;

	if (fd >= 0) {
		(void)close(fd);
	}
	buf[len > 0 ? len : 0] = '\0';
	return len;
}

/* The process of the pid file, if it lives. Returns a pidfd, or -1 with errno: EMFILE, ENFILE or
 * ENOMEM if one cannot know. */
static int process_of(const char *path)
{
	char buf[64];
	char *end;
	long pid;
	int fd;

	errno = 0;
	if (read_file(path, buf, sizeof(buf)) <= 0) {
		return -1;
	}
	pid = strtol(buf, &end, 10);
	if (pid <= 1) {
		errno = ESRCH;
		return -1;
	}

	uint64_t started = strtoull(end, NULL, 10);

	fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	/* Looked at after it was opened: it is that process, or it has ended. */
	if (fd >= 0 && (started == 0 || proc_start((int)pid) != started)) {
		int why = errno;

		(void)close(fd);
		errno = why;
		fd = -1;
	}
	return fd;
}

static int worker_of(const struct guard_entry *e)
{
	char path[GUARD_PATH_MAX];

	memcpy(path, e->pid_path, sizeof(path));
	path[sizeof(path) - 1] = '\0';
	return process_of(path);
}

static void tell(int pidfd, int signo)
{
	(void)syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0);
}

/* One VM. Returns whether a worker of it lives. */
static bool sentry_vm(struct sentry *s, uint32_t i, uint64_t now_ns)
{
	const struct guard_entry *e = &s->page->vms[i];
	uint32_t role = atomic_load(&e->role);
	uint64_t token = atomic_load(&e->token);
	int say;

	if (s->vms[i].pidfd >= 0 &&
	    (role != s->vms[i].role || token != s->vms[i].token ||
	     syscall(SYS_pidfd_send_signal, s->vms[i].pidfd, 0, NULL, 0) != 0)) {
		(void)close(s->vms[i].pidfd);
		s->vms[i].pidfd = -1;
	}
	if (role == 0) {
		return false;
	}
	if (s->vms[i].pidfd < 0) {
		s->vms[i].role = role;
		s->vms[i].token = token;
		s->vms[i].told = 0; /* an earlier guard may have stopped it */
		s->vms[i].pidfd = worker_of(e);
		if (s->vms[i].pidfd < 0) {
			return false;
		}
	}
	if (now_ns >= atomic_load(&s->page->kill_ns)) {
		tell(s->vms[i].pidfd, SIGKILL);
		return true;
	}
	say = now_ns >= atomic_load(&s->page->pause_ns) ? SIGSTOP : SIGCONT;
	if (say != s->vms[i].told) {
		tell(s->vms[i].pidfd, say);
		s->vms[i].told = say;
	}
	return true;
}

static int watchdog_open(const char *path, uint32_t seconds)
{
	int timeout = (int)seconds;
	int fd = path[0] != '\0' ? open(path, O_WRONLY | O_CLOEXEC) : -1;

	if (fd >= 0 && (ioctl(fd, WDIOC_SETTIMEOUT, &timeout) != 0 || timeout != (int)seconds)) {
		(void)!write(fd, "V", 1); /* it would reset us at a time that nobody counts with */
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

static uint32_t watchdog_kind(int fd)
{
	struct watchdog_info info = {0};

	if (fd < 0) {
		return 0;
	}
	/* One that does not say what it is counts as the worst. */
	if (ioctl(fd, WDIOC_GETSUPPORT, &info) != 0 ||
	    strncmp((const char *)info.identity, "Software Watchdog", sizeof(info.identity)) == 0) {
		return WATCHDOG_OPEN | WATCHDOG_SOFT;
	}
	return WATCHDOG_OPEN;
}

bool guard_may_pet(uint64_t began_ns, uint64_t now_ns, bool any, uint64_t pet_until_ns)
{
	return now_ns - began_ns < GUARD_STALE_NS && (!any || now_ns < pet_until_ns);
}

/* Is there nothing left to guard, and somebody who will start another one if there is again? */
static bool sentry_unneeded(const struct sentry *s, bool any, uint64_t now_ns)
{
	uint64_t over_ns = atomic_load(&s->page->kill_ns);
	bool named = false;

	for (uint32_t i = 0; i < GUARD_VMS_MAX && !named; i++) {
		named = atomic_load(&s->page->vms[i].role) != 0;
	}
	if (any) {
		return false;
	}
	if (atomic_load(&s->page->cfg) != s->cfg && !named) {
		return true; /* the next one opens the other watchdog */
	}
	return getppid() != s->parent && now_ns >= over_ns + (named ? GUARD_NAMED_NS : 0);
}

/* Either who makes an entry sees that we leave, or we see the entry. */
static bool sentry_leave(struct sentry *s, uint32_t adds)
{
	atomic_store(&s->page->leaving, 1);
	if (atomic_load(&s->page->adds) == adds) {
		return true;
	}
	atomic_store(&s->page->leaving, 0);
	return false;
}

/* Ends when nothing is left to guard and the service that started it is gone. */
static void sentry_run(struct sentry *s)
{
	const struct timespec tick = {.tv_nsec = GUARD_TICK_MS * 1000000l};

	for (;;) {
		uint64_t now_ns = clock_boot_ns();
		uint32_t adds = atomic_load(&s->page->adds);
		bool any = false;

		atomic_store(&s->page->beat_ns, now_ns);
		for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
			any = sentry_vm(s, i, now_ns) || any;
		}
		if (s->watchdog_fd >= 0 && guard_may_pet(now_ns, clock_boot_ns(), any,
		                                         atomic_load(&s->page->pet_until_ns))) {
			(void)!write(s->watchdog_fd, "", 1);
		}
		if (sentry_unneeded(s, any, now_ns) && sentry_leave(s, adds)) {
			break;
		}
		(void)nanosleep(&tick, NULL);
	}
	if (s->watchdog_fd >= 0) {
		(void)!write(s->watchdog_fd, "V", 1);
	}
}

static void close_all_but(int a, int b)
{
	int low = a < b ? a : b;
	int high = a < b ? b : a;

	if (low > 3) {
		(void)syscall(SYS_close_range, 3u, (unsigned)low - 1, 0u);
	}
	if (high > low + 1) {
		(void)syscall(SYS_close_range, (unsigned)low + 1, (unsigned)high - 1, 0u);
	}
	(void)syscall(SYS_close_range, (unsigned)high + 1, ~0u, 0u);
}

/* One that leaves lets go of it soon. */
static bool sentry_lock(const struct guard *g)
{
	const struct timespec tick = {.tv_nsec = 5000000};

	for (uint32_t i = 0; i < 400; i++) {
		if (flock(g->lock_fd, LOCK_EX | LOCK_NB) == 0) {
			return true;
		}
		if (atomic_load(&g->page->leaving) == 0) {
			return false; /* another one lives */
		}
		(void)nanosleep(&tick, NULL);
	}
	return false;
}

static void sentry_main(struct sentry *s, const struct guard *g, pid_t parent)
{
	sigset_t all;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++) {
		(void)dup2(null, fd);
	}
	(void)setsid();
	(void)prctl(PR_SET_NAME, "godwit-guard");
	(void)sigfillset(&all); /* only SIGKILL ends it */
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	close_all_but(g->fd, g->lock_fd);
	if (!sentry_lock(g)) {
		_exit(0);
	}
	(void)mlock(g->page, sizeof(*g->page));
	s->page = g->page;
	s->parent = parent;
	s->cfg = atomic_load(&g->page->cfg);
	for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
		s->vms[i].pidfd = -1;
	}
	s->watchdog_fd = watchdog_open(g->watchdog, g->page->watchdog_s);
	atomic_store(&s->page->watchdog, watchdog_kind(s->watchdog_fd));
	atomic_store(&s->page->leaving, 0);
	sentry_run(s);
	_exit(0);
}

/* ---- the service's side ---- */

static int guard_spawn(struct guard *g)
{
	static struct sentry sentry; /* used by the child alone */
	pid_t parent = getpid();
	pid_t pid;

	if (g->pid != 0 && waitpid(g->pid, NULL, WNOHANG) == g->pid) {
		g->pid = 0;
	}
	pid = fork();
	if (pid < 0) {
		return -errno;
	}
	if (pid == 0) {
		sentry_main(&sentry, g, parent);
	}
	g->pid = pid;
	g->spawned_ns = clock_boot_ns();
	log_info(TAG, "started pid=%d", pid);
	return 0;
}

/* Until the process has looked once: then it has tried to open the watchdog. */
static void wait_for_beat(const struct guard *g)
{
	const struct timespec tick = {.tv_nsec = 2000000};
	uint64_t begin_ns = clock_boot_ns();

	while ((atomic_load(&g->page->beat_ns) < begin_ns || atomic_load(&g->page->leaving) != 0) &&
	       clock_boot_ns() < begin_ns + WATCHDOG_WAIT_NS) {
		(void)nanosleep(&tick, NULL);
	}
}

/* The one there was has left. Returns whether there is another. */
static bool guard_replace(struct guard *g)
{
	if (guard_spawn(g) == 0) {
		wait_for_beat(g);
	}
	return atomic_load(&g->page->leaving) == 0;
}

bool guard_alive(struct guard *g)
{
	uint64_t now_ns = clock_boot_ns();
	uint64_t beat_ns = atomic_load(&g->page->beat_ns);

	if (atomic_load(&g->page->leaving) != 0) {
		return guard_replace(g);
	}
	if (beat_ns != 0 && now_ns - beat_ns < GUARD_SILENT_NS) {
		return true;
	}
	if (now_ns - g->spawned_ns > GUARD_SILENT_NS) {
		log_err(TAG, "the guard of the VMs does not look, another is started");
		(void)guard_spawn(g);
	}
	return false;
}

bool guard_watchdog(const struct guard *g, bool *soft)
{
	uint32_t watchdog = atomic_load(&g->page->watchdog);

	*soft = (watchdog & WATCHDOG_SOFT) != 0;
	return (watchdog & WATCHDOG_OPEN) != 0;
}

/* Is the page of this boot, this cluster and this node? Else it begins empty. */
static void page_check(struct guard *g, const struct guard_cfg *cfg)
{
	struct guard_page *p = g->page;
	char boot_id[sizeof(p->boot_id)];

	(void)read_file(BOOT_ID_PATH, boot_id, sizeof(boot_id));
	if (p->magic == GUARD_MAGIC && strncmp(p->boot_id, boot_id, sizeof(boot_id)) == 0 &&
	    guid_equal(&p->cluster, &cfg->cluster) && p->nodeid == cfg->nodeid) {
		p->watchdog_s = cfg->watchdog_s;
		return;
	}
	/* Workers of another cluster's time: without a lease they are killed before we join. */
	atomic_store(&p->inc, 0);
	atomic_store(&p->since_ns, 0);
	atomic_store(&p->pause_ns, 0);
	atomic_store(&p->kill_ns, 0);
	atomic_store(&p->pet_until_ns, 0);
	if (p->magic != GUARD_MAGIC || strncmp(p->boot_id, boot_id, sizeof(boot_id)) != 0) {
		for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
			atomic_store(&p->vms[i].role, 0);
		}
		atomic_store(&p->beat_ns, 0);
	}
	memcpy(p->boot_id, boot_id, sizeof(boot_id));
	p->cluster = cfg->cluster;
	p->nodeid = cfg->nodeid;
	p->watchdog_s = cfg->watchdog_s;
	p->magic = GUARD_MAGIC;
}

/* One that lives with another watchdog leaves as soon as no VM needs it. */
static void page_watchdog(struct guard *g)
{
	if (strncmp(g->page->watchdog_path, g->watchdog, sizeof(g->watchdog)) != 0) {
		memcpy(g->page->watchdog_path, g->watchdog, sizeof(g->watchdog));
		(void)atomic_fetch_add(&g->page->cfg, 1);
	}
}

static int page_map(struct guard *g, const struct guard_cfg *cfg)
{
	char path[GUARD_PATH_MAX];
	void *map;

	(void)snprintf(path, sizeof(path), "%.480s/ha-guard", cfg->run_dir);
	g->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (g->fd < 0) {
		return -errno;
	}
	(void)snprintf(path, sizeof(path), "%.480s/ha-guard.lock", cfg->run_dir);
	g->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (g->lock_fd < 0 || ftruncate(g->fd, sizeof(struct guard_page)) != 0) {
		return -errno;
	}
	map = mmap(NULL, sizeof(struct guard_page), PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);
	if (map == MAP_FAILED) {
		return -errno;
	}
	g->page = map;
	return 0;
}

int guard_open(const struct guard_cfg *cfg, struct guard **out, struct errbuf *eb)
{
	struct guard *g = gw_calloc(1, sizeof(*g));
	int err = -ENOMEM;

	*out = NULL;
	if (g != NULL) {
		g->fd = g->lock_fd = -1;
		(void)snprintf(g->watchdog, sizeof(g->watchdog), "%s",
		               cfg->watchdog != NULL ? cfg->watchdog : "");
		err = page_map(g, cfg);
	}
	if (err == 0) {
		page_check(g, cfg);
		page_watchdog(g);
		err = guard_spawn(g); /* ends by itself if one lives */
	}
	if (err == 0 && g->watchdog[0] != '\0') {
		wait_for_beat(g);
	}
	if (err != 0) {
		guard_close(g);
		return errbuf_sys(eb, err, "guard of highly available VMs");
	}
	*out = g;
	return 0;
}

void guard_close(struct guard *g)
{
	if (g == NULL) {
		return;
	}
	if (g->page != NULL) {
		(void)munmap(g->page, sizeof(*g->page));
	}
	if (g->fd >= 0) {
		(void)close(g->fd);
	}
	if (g->lock_fd >= 0) {
		(void)close(g->lock_fd);
	}
	free(g);
}

uint64_t guard_run(const struct guard *g, struct vmops_lease *lease)
{
	*lease = (struct vmops_lease){
		.since_ns = atomic_load(&g->page->since_ns),
		.lease_ns = atomic_load(&g->page->lease_ns),
		.pause_ns = atomic_load(&g->page->pause_ns),
		.kill_ns = atomic_load(&g->page->kill_ns),
		.pet_until_ns = atomic_load(&g->page->pet_until_ns),
	};
	return atomic_load(&g->page->inc);
}

void guard_lease(struct guard *g, const struct vmops_lease *lease)
{
	struct guard_page *p = g->page;

	/* Each alone is right: a lease that was renewed is longer in all of them. */
	atomic_store(&p->lease_ns, lease->lease_ns);
	atomic_store(&p->since_ns, lease->since_ns);
	atomic_store(&p->pet_until_ns, lease->pet_until_ns);
	atomic_store(&p->kill_ns, lease->kill_ns);
	atomic_store(&p->pause_ns, lease->pause_ns);
}

void guard_begin(struct guard *g, uint64_t inc)
{
	const struct vmops_lease none = {0};

	guard_lease(g, &none);
	for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
		atomic_store(&g->page->vms[i].role, 0);
	}
	atomic_store(&g->page->inc, inc);
}

int guard_add(struct guard *g, const struct guard_vm *vm)
{
	struct guard_entry *e = NULL;
	int at = 0;

	guard_del(g, vm->role);
	for (; at < (int)GUARD_VMS_MAX && e == NULL; at++) {
		e = atomic_load(&g->page->vms[at].role) == 0 ? &g->page->vms[at] : NULL;
	}
	if (e == NULL) {
		return -ENOSPC;
	}
	e->id = vm->id;
	memcpy(e->pid_path, vm->pid_path, sizeof(e->pid_path));
	atomic_store(&e->token, vm->token);
	atomic_store(&e->role, vm->role);
	(void)atomic_fetch_add(&g->page->adds, 1);
	if (atomic_load(&g->page->leaving) != 0 && !guard_replace(g)) {
		atomic_store(&e->role, 0);
		return -EAGAIN;
	}
	return at - 1;
}

int guard_pid_write(const char *path, int pid, struct errbuf *eb)
{
	uint64_t started = proc_start(pid);
	char text[64];
	int len = snprintf(text, sizeof(text), "%d %" PRIu64 "\n", pid, started);

	if (started == 0) {
		return errbuf_sys(eb, -ESRCH, "process %d", pid);
	}
	return fs_write(path, text, (size_t)len, 0600, eb);
}

bool guard_pid_names(const char *path, int pid, uint64_t started)
{
	char buf[64];
	char *end;

	return read_file(path, buf, sizeof(buf)) > 0 && strtol(buf, &end, 10) == pid &&
	       strtoull(end, NULL, 10) == started;
}

bool guard_pid_lives(const char *path)
{
	int fd = process_of(path);

	if (fd < 0) {
		/* Who cannot look does not know that it has ended. */
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM;
	}
	(void)close(fd);
	return true;
}

void guard_pid_kill(const char *path)
{
	int fd = process_of(path);

	if (fd >= 0) {
		tell(fd, SIGKILL);
		(void)close(fd);
	}
}

void guard_del(struct guard *g, uint32_t role)
{
	for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
		if (atomic_load(&g->page->vms[i].role) == role) {
			atomic_store(&g->page->vms[i].role, 0);
		}
	}
}

bool guard_at(const struct guard *g, uint32_t place, struct guard_vm *out)
{
	const struct guard_entry *e = &g->page->vms[place];

	out->role = atomic_load(&e->role);
	if (out->role == 0) {
		return false;
	}
	out->token = atomic_load(&e->token);
	out->id = e->id;
	memcpy(out->pid_path, e->pid_path, sizeof(out->pid_path));
	return true;
}

bool guard_find(const struct guard *g, uint32_t role, struct guard_vm *out)
{
	for (uint32_t i = 0; i < GUARD_VMS_MAX; i++) {
		if (atomic_load(&g->page->vms[i].role) == role) {
			return guard_at(g, i, out);
		}
	}
	return false;
}
