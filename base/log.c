/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

/*
 * The door to libqb's log: syslog and the blackbox are libqb's own targets; stderr, the journal
 * and the file are written by log_out(), a custom target of libqb.
 *
 * libqb is given ready lines with a call site on our stack instead of one from its table, so that
 * nothing is allocated, and levels are decided here. It is not thread-safe by itself: while one
 * thread is inside, lines of others are dropped without a word, and a call before its init leaves
 * it locked for good (docs/decisions/0002). So log_lock is held around it, and log_out(), which
 * sees every line, tells whether the line got through; if not, log_emit() tries again.
 *
 * A reader of stderr that stalls (a full pipe, a journal that hangs) must not stop a cluster node:
 * after LOG_STALL_MS lines are dropped and counted until it reads again.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <qb/qblog.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_int.h"

#define LOG_TEXT_MAX 1900  /* one message: an errbuf and its context fit twice */
#define LOG_PIECE_MAX 440  /* libqb cuts a line at 512, and the blackbox stores no longer */
#define LOG_STALL_MS 100   /* how long a line may wait for a reader of stderr */
#define LOG_TRIES_MAX 1000 /* until libqb is taken to be locked for good */
#define LOG_BLACKBOX_MIN (4u << 10)   /* libqb's minimum is 1 KiB; a page is */
#define LOG_BLACKBOX_MAX (256u << 20) /* of /dev/shm; more is a mistake in the configuration */

/* The one place in base/ with static mutable state (STYLE O4): a process has one log. */
static struct {
	pthread_mutex_t lock;                /* guards all that is not _Atomic, and libqb's log */
	_Atomic int threshold;               /* the least severe level that goes anywhere */
	_Atomic int shown;                   /* ... and to stderr, syslog and file */
	_Atomic(const char *) blackbox_path; /* borrowed forever; may be NULL */
	bool open;
	bool blackbox;
	bool to_stderr;
	bool to_syslog;
	bool journal;         /* stderr is connected to the systemd journal */
	bool stalled;         /* nobody read stderr last time */
	int file_fd;          /* owned; -1 = no file */
	int target;           /* libqb's number of log_out() */
	const char *name;     /* borrowed forever */
	uint32_t lost;        /* lines that did not get out since the last that did */
	bool delivered;       /* log_out() has seen the line */
	bool skip_stderr;     /* for the line in hand */
	enum log_level level; /* of the line in hand */
} log_state = {
	.lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP,
	.threshold = LOG_LEVEL_WARN,
	.shown = LOG_LEVEL_WARN,
	.to_stderr = true,
	.file_fd = -1,
	.name = "godwit",
};

static const struct {
	const char *word;
	uint8_t priority; /* of syslog and libqb */
} log_levels[] = {
	[LOG_LEVEL_ERR] = {"err", LOG_ERR},       [LOG_LEVEL_WARN] = {"warn", LOG_WARNING},
	[LOG_LEVEL_INFO] = {"info", LOG_INFO},    [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
	[LOG_LEVEL_TRACE] = {"trace", LOG_TRACE},
};

static void log_lock(void)
{
	/* Not CHECK(), which would come back here. */
	if (pthread_mutex_lock(&log_state.lock) != 0) {
		abort();
	}
}

static void log_unlock(void)
{
	if (pthread_mutex_unlock(&log_state.lock) != 0) {
		abort();
	}
}

/* ---- outputs ---- */

/* Write @len bytes as one piece. Returns whether they went out. */
static bool log_write_fd(int fd, const char *buf, size_t len, int wait_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (poll(&p, 1, wait_ms) != 1 || (p.revents & POLLOUT) == 0) {
		return false;
	}
	while (len != 0) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return false;
		}
		buf += n;
		len -= (size_t)n;
	}
	return true;
}

/* "2026-01-02T03:04:05.678Z godwitd[123] warn  " */
static int log_prefix(char *buf, size_t size)
{
	uint64_t now_ns = clock_wall_ns();
	time_t now_s = (time_t)(now_ns / NS_PER_S);
	struct tm tm;

	if (gmtime_r(&now_s, &tm) == NULL) {
		memset(&tm, 0, sizeof(tm));
	}
	return snprintf(buf, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ %s[%d] %-5s ",
	                tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
	                tm.tm_sec, (unsigned)(now_ns % NS_PER_S / NS_PER_MS), log_state.name,
	                (int)getpid(), log_levels[log_state.level].word);
}

static void log_out_stderr(const char *line)
{
	char buf[LOG_PIECE_MAX + 256];
	int len;

	if (log_state.lost != 0 && !log_state.stalled) {
		len = snprintf(buf, sizeof(buf), "%slog: lines lost n=%u\n",
		               log_state.journal ? "<4>" : "", log_state.lost);
		if (log_write_fd(STDERR_FILENO, buf, (size_t)len, 0)) {
			log_state.lost = 0;
		}
	}
	if (log_state.journal) { /* it adds time, name and pid itself */
		len = snprintf(buf, sizeof(buf), "<%u>%s\n",
		               (unsigned)log_levels[log_state.level].priority & 7u, line);
	} else {
		len = log_prefix(buf, sizeof(buf));
		len += snprintf(buf + len, sizeof(buf) - (size_t)len, "%s\n", line);
	}

	bool out =
		log_write_fd(STDERR_FILENO, buf, (size_t)len, log_state.stalled ? 0 : LOG_STALL_MS);

	log_state.stalled = !out;
	log_state.lost += out ? 0 : 1;
}

static void log_out_file(const char *line)
{
	char buf[LOG_PIECE_MAX + 256];
	int len = log_prefix(buf, sizeof(buf));

	len += snprintf(buf + len, sizeof(buf) - (size_t)len, "%s\n", line);
	log_state.lost += log_write_fd(log_state.file_fd, buf, (size_t)len, 0) ? 0 : 1;
}

/* libqb's custom target; the caller of log_emit() holds the lock. */
static void log_out(int32_t target, struct qb_log_callsite *site, struct timespec *time,
                    const char *line)
{
	(void)target;
	(void)site;
	(void)time;
	log_state.delivered = true;
	if ((int)log_state.level > atomic_load(&log_state.shown)) {
		return;
	}
	if (log_state.to_stderr && !log_state.skip_stderr) {
		log_out_stderr(line);
	}
	if (log_state.file_fd >= 0) {
		log_out_file(line);
	}
}

static void log_out_close(int32_t target)
{
	(void)target; /* libqb frees its lock only around a close function */
}

/* Take libqb's lock away from whoever forgot it: disabling a target releases it. */
static void log_unstick(void)
{
	(void)qb_log_ctl(log_state.target, QB_LOG_CONF_ENABLED, QB_FALSE);
	(void)qb_log_ctl(log_state.target, QB_LOG_CONF_ENABLED, QB_TRUE);
}

/* One line to all outputs. Caller holds the lock. */
static void log_emit(enum log_level level, const char *function, const char *file, uint32_t line,
                     const char *text)
{
	bool shown = (int)level <= atomic_load(&log_state.shown);

	log_state.level = level;
	if (!log_state.open) {
		if (shown && !log_state.skip_stderr) {
			log_out_stderr(text);
		}
		return;
	}

	struct qb_log_callsite site = {
		.function = function,
		.filename = file,
		.format = "%s",
		.priority = log_levels[level].priority,
		.lineno = line,
		.targets = 1u << (unsigned)log_state.target,
	};

	if (shown && log_state.to_syslog) {
		site.targets |= 1u << QB_LOG_SYSLOG;
	}
	if (log_state.blackbox && level <= LOG_LEVEL_DEBUG) {
		site.targets |= 1u << QB_LOG_BLACKBOX;
	}
	log_state.delivered = false;
	for (int tries = 0; tries < 2 * LOG_TRIES_MAX; tries++) {
		qb_log_real_(&site, text);
		if (log_state.delivered) {
			return;
		}
		if (tries == LOG_TRIES_MAX) {
			log_unstick();
		}
		(void)sched_yield();
	}
	log_state.lost++;
}

/* ---- messages ---- */

/* A message must stay one line and must not drive a terminal, whatever a guest is called. */
static void log_clean(char *text)
{
	for (char *p = text; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			*p = '?';
		}
	}
}

static size_t log_piece(const char *text)
{
	size_t len = strnlen(text, LOG_PIECE_MAX + 1);

	if (len <= LOG_PIECE_MAX) {
		return len;
	}
	for (len = LOG_PIECE_MAX; len > LOG_PIECE_MAX / 2; len--) {
		if (text[len] == ' ') {
			return len;
		}
	}
	return LOG_PIECE_MAX;
}

/* Long messages become several lines, "..." where they were cut. Caller holds the lock. */
static void log_emit_long(enum log_level level, const char *tag, const char *function,
                          const char *file, uint32_t line, const char *text)
{
	bool first = true;

	do {
		char piece[LOG_PIECE_MAX + 64];
		size_t len = log_piece(text);

		(void)snprintf(piece, sizeof(piece), "%.32s: %s%.*s%s", tag, first ? "" : "...",
		               (int)len, text, text[len] != '\0' ? "..." : "");
		log_emit(level, function, file, line, piece);
		text += len;
		first = false;
	} while (*text != '\0');
}

void log_write(enum log_level level, const char *tag, const char *function, const char *file,
               uint32_t line, const char *fmt, ...)
{
	char text[LOG_TEXT_MAX];
	int saved = errno;
	va_list ap;

	if ((int)level > atomic_load(&log_state.threshold)) {
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_clean(text);
	log_lock();
	log_emit_long(level, tag, function, file, line, text);
	log_unlock();
	errno = saved;
}

/*
 * The window's start [ms] and the count in one word, so that one compare-and-swap decides and the
 * limit holds exactly whatever the number of threads.
 */
bool log_limit_pass(struct log_limit *limit, uint32_t *suppressed)
{
	uint64_t now_ms = clock_now_ns() / NS_PER_MS;
	uint64_t old = atomic_load(&limit->window);

	for (;;) {
		uint64_t start_ms = old >> LOG_LIMIT_COUNT_BITS;
		uint64_t count = old & ((1u << LOG_LIMIT_COUNT_BITS) - 1);

		if (count != 0 && now_ms - start_ms < LOG_LIMIT_WINDOW_NS / NS_PER_MS) {
			if (count >= LOG_LIMIT_PER_WINDOW) {
				atomic_fetch_add(&limit->suppressed, 1);
				*suppressed = 0;
				return false;
			}
			count++;
		} else {
			start_ms = now_ms;
			count = 1;
		}
		if (atomic_compare_exchange_weak(&limit->window, &old,
		                                 start_ms << LOG_LIMIT_COUNT_BITS | count)) {
			*suppressed = atomic_exchange(&limit->suppressed, 0);
			return true;
		}
	}
}

/* ---- opening and closing ---- */

static bool log_stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM"); /* "device:inode", set by systemd */
	struct stat st;
	char own[64];

	if (stream == NULL || fstat(STDERR_FILENO, &st) != 0) {
		return false;
	}
	(void)snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(own, stream) == 0;
}

/*
 * libqb keeps the ring in two files and leaves them behind when the process dies, so they are
 * made in a private directory and removed at once; the mappings live on.
 */
static int log_blackbox_open_in(const char *parent, uint32_t bytes)
{
	char dir[64];
	char ident[96];
	char path[160];
	int err = -EIO;

	(void)snprintf(dir, sizeof(dir), "%s/godwit-XXXXXX", parent);
	if (mkdtemp(dir) == NULL) {
		return -errno;
	}
	(void)snprintf(ident, sizeof(ident), "%s/ring", dir);
	if (qb_log_ctl2(QB_LOG_BLACKBOX, QB_LOG_CONF_IDENT, QB_LOG_CTL2_S(ident)) == 0 &&
	    qb_log_ctl(QB_LOG_BLACKBOX, QB_LOG_CONF_SIZE, (int32_t)bytes) == 0) {
		err = qb_log_ctl(QB_LOG_BLACKBOX, QB_LOG_CONF_ENABLED, QB_TRUE);
	}

	static const char *const parts[] = {"header", "data"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s-%d-blackbox-%s", ident, (int)getpid(),
		               parts[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
	return err;
}

static int log_blackbox_open(uint32_t bytes)
{
	int err = log_blackbox_open_in("/dev/shm", bytes);

	return err == 0 ? 0 : log_blackbox_open_in("/tmp", bytes);
}

static void log_threshold_set(void)
{
	int shown = atomic_load(&log_state.shown);

	atomic_store(&log_state.threshold,
	             log_state.blackbox && shown < LOG_LEVEL_DEBUG ? LOG_LEVEL_DEBUG : shown);
}

static void log_close_locked(void)
{
	if (log_state.open) {
		qb_log_fini();
	}
	if (log_state.file_fd >= 0) {
		(void)close(log_state.file_fd);
	}
	log_state.file_fd = -1;
	log_state.open = false;
	log_state.blackbox = false;
	log_state.to_stderr = true;
	log_state.to_syslog = false;
	log_state.journal = false;
	atomic_store(&log_state.shown, LOG_LEVEL_WARN);
	log_threshold_set();
}

/* Start libqb's log. Returns 0; -errno: log_out() has no place there; *blackbox_err apart. */
static int log_open_locked(const struct log_cfg *cfg, int *blackbox_err)
{
	*blackbox_err = 0;
	/* Its own messages go nowhere: what it cannot do comes back as an error code. */
	qb_log_init(cfg->name, LOG_DAEMON, LOG_EMERG);
	if (!cfg->to_syslog) {
		(void)qb_log_ctl(QB_LOG_SYSLOG, QB_LOG_CONF_ENABLED, QB_FALSE);
	}
	qb_log_format_set(QB_LOG_SYSLOG, "%b");
	log_state.target = qb_log_custom_open(log_out, log_out_close, NULL, NULL);
	if (log_state.target < 0) {
		qb_log_fini();
		return log_state.target;
	}
	log_state.open = true;
	log_unstick();
	if (cfg->blackbox_bytes != 0) {
		*blackbox_err = log_blackbox_open(cfg->blackbox_bytes);
		log_state.blackbox = *blackbox_err == 0;
	}
	log_state.name = cfg->name;
	log_state.to_stderr = cfg->to_stderr;
	log_state.to_syslog = cfg->to_syslog;
	log_state.journal = cfg->to_stderr && log_stderr_is_journal();
	atomic_store(&log_state.shown, cfg->level);
	log_threshold_set();
	return 0;
}

int log_open(const struct log_cfg *cfg)
{
	int file_fd = -1;
	int blackbox_err;

	if (cfg->name == NULL || cfg->name[0] == '\0' || (int)cfg->level < LOG_LEVEL_ERR ||
	    cfg->level > LOG_LEVEL_TRACE || cfg->blackbox_bytes > LOG_BLACKBOX_MAX ||
	    (cfg->blackbox_bytes != 0 && cfg->blackbox_bytes < LOG_BLACKBOX_MIN)) {
		return -EINVAL;
	}
	if (cfg->file != NULL) {
		file_fd =
			open(cfg->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
		if (file_fd < 0) {
			return -errno;
		}
	}
	log_lock();
	log_close_locked();

	int err = log_open_locked(cfg, &blackbox_err);

	if (err == 0) {
		log_state.file_fd = file_fd;
	} else if (file_fd >= 0) {
		(void)close(file_fd);
	}
	log_unlock();
	if (err == 0 && blackbox_err != 0) {
		log_warn("log", "no blackbox bytes=%u error=%s", cfg->blackbox_bytes,
		         strerrordesc_np(-blackbox_err));
	}
	return err;
}

void log_close(void)
{
	log_lock();
	log_close_locked();
	log_unlock();
}

void log_set_level(enum log_level level)
{
	log_lock();
	atomic_store(&log_state.shown, level);
	log_threshold_set();
	log_unlock();
}

int log_level_parse(const char *word, enum log_level *out)
{
	for (size_t i = 0; i < sizeof(log_levels) / sizeof(log_levels[0]); i++) {
		if (strcmp(word, log_levels[i].word) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* ---- blackbox ---- */

/* Beside it and renamed: libqb follows links and does not cut an older, longer dump. */
static int log_blackbox_dump_locked(const char *path)
{
	char tmp[PATH_MAX];

	if (!log_state.blackbox) {
		return -ENODATA;
	}
	if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp)) {
		return -ENAMETOOLONG;
	}
	(void)unlink(tmp);

	ssize_t bytes = qb_log_blackbox_write_to_file(tmp);

	if (bytes < 0 || chmod(tmp, 0600) != 0 || rename(tmp, path) != 0) {
		int err = bytes < 0 ? (int)bytes : -errno;

		(void)unlink(tmp);
		return err;
	}
	return (int)bytes;
}

int log_blackbox_dump(const char *path)
{
	log_lock();

	int bytes = log_blackbox_dump_locked(path);

	log_unlock();
	return bytes;
}

void log_blackbox_path(const char *path)
{
	atomic_store(&log_state.blackbox_path, path);
}

void log_check_failed(const char *cond, const char *file, int line)
{
	struct timespec until = {.tv_sec = (time_t)(clock_wall_ns() / NS_PER_S) + 1};
	const char *path = atomic_load(&log_state.blackbox_path);
	char text[LOG_PIECE_MAX];

	/* EDEADLK: this thread was writing a line. ETIMEDOUT: another one is, and hangs. */
	if (pthread_mutex_timedlock(&log_state.lock, &until) == 0) {
		(void)snprintf(text, sizeof(text), "check: failed cond=\"%s\" file=%s line=%d",
		               cond, file, line);
		log_clean(text);
		log_state.skip_stderr = true;
		log_emit(LOG_LEVEL_ERR, __func__, file, (uint32_t)line, text);
	}
	if (path != NULL) {
		(void)log_blackbox_dump_locked(path);
	}
}
