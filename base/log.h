/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

/*
 * log - what the programs tell the operator, and the blackbox that remembers the rest.
 *
 * libqb sits behind this header (docs/decisions/0002). Lines are a verb phrase and key=value
 * pairs: log_info("vmbus", "channel opened vm=%s chan=%u", ...). Levels: ERR an operator must act;
 * WARN degraded, we go on; INFO one line per change of state a human would tell; DEBUG support;
 * TRACE off unless asked. Lines that a guest or a peer can cause go through log_limited().
 *
 * A message can be 1.8 KiB; beyond 440 bytes it is continued on the next line. Control characters
 * are replaced by '?'. Writing blocks on disk and syslog as they do, on a reader of stderr for
 * 0.1 s at most: then lines are dropped and counted ("lines lost n=") until it reads again.
 *
 * Threads: every function may be called from any thread, also before log_open() (then lines of
 * WARN and above go to stderr), except log_open() and log_close(), which are the main thread's.
 * Never from a signal handler, nor between fork() and exec().
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_TRACE };

struct log_cfg {
	const char *name;        /* program name in every line, e.g. "godwitd"; borrowed forever */
	enum log_level level;    /* shown on the outputs below */
	bool to_stderr;          /* terminal and systemd journal (with <N> priority prefix there) */
	bool to_syslog;          /* syslog, facility daemon */
	const char *file;        /* append here too; NULL = no */
	uint32_t blackbox_bytes; /* ring, holds down to DEBUG; 0 = none, or 4 KiB..256 MiB */
};

/*
 * log_open() - start logging; replaces an earlier log_open(). If there is no memory for the
 * blackbox, it goes without and says so in the log.
 * Returns 0; -EINVAL (cfg); -errno of opening the file: then the log is as it was.
 */
MUST_USE int log_open(const struct log_cfg *cfg);

/* log_close() - stop. WARN and above go to stderr again. */
void log_close(void);

/* log_set_level() - change what is shown while running. */
void log_set_level(enum log_level level);

/* log_level_parse() - "err" "warn" "info" "debug" "trace". Returns 0; -EINVAL. */
MUST_USE int log_level_parse(const char *word, enum log_level *out);

/*
 * log_blackbox_dump() - write the memory ring to @path, replacing an older file, in libqb's format
 * (read it with qb-blackbox of the package libqb-tools). A failed CHECK() does it too. libqb
 * prints the ring's size and pointers to stdout while at it.
 * Returns the number of bytes; -ENODATA no blackbox; -ENAMETOOLONG; -errno.
 */
MUST_USE int log_blackbox_dump(const char *path);

/* log_blackbox_path() - where a failed CHECK() dumps to; @path is borrowed forever. */
void log_blackbox_path(const char *path);

/* State of one rate-limited call site; static in the macro or one per peer. Zero-initialised. */
struct log_limit {
	_Atomic uint64_t
		window; /* start of the window [ms] << LOG_LIMIT_COUNT_BITS | lines in it */
	_Atomic uint32_t suppressed;
};

#define LOG_LIMIT_COUNT_BITS 8

#define LOG_LIMIT_PER_WINDOW 5
#define LOG_LIMIT_WINDOW_NS (5ull * 1000 * 1000 * 1000)

/*
 * log_limit_pass() - may this site write now? At most LOG_LIMIT_PER_WINDOW lines per window.
 * @suppressed: how many were swallowed since the last line that passed.
 */
bool log_limit_pass(struct log_limit *limit, uint32_t *suppressed);

/* The macros' target; use those. */
void log_write(enum log_level level, const char *tag, const char *function, const char *file,
               uint32_t line, const char *fmt, ...) PRINTF_LIKE(6, 7);

#define log_at(level, tag, ...) \
	log_write((level), (tag), __func__, __FILE__, (uint32_t)__LINE__, __VA_ARGS__)
#define log_err(tag, ...) log_at(LOG_LEVEL_ERR, tag, __VA_ARGS__)
#define log_warn(tag, ...) log_at(LOG_LEVEL_WARN, tag, __VA_ARGS__)
#define log_info(tag, ...) log_at(LOG_LEVEL_INFO, tag, __VA_ARGS__)
#define log_debug(tag, ...) log_at(LOG_LEVEL_DEBUG, tag, __VA_ARGS__)
#define log_trace(tag, ...) log_at(LOG_LEVEL_TRACE, tag, __VA_ARGS__)

/* For anything a guest, a peer or a client can trigger. @limit: struct log_limit *. */
#define log_limited(limit, level, tag, ...)                                             \
	do {                                                                            \
		uint32_t log_suppressed_;                                               \
		if (log_limit_pass((limit), &log_suppressed_)) {                        \
			if (log_suppressed_ != 0) {                                     \
				log_at((level), (tag), "suppressed similar lines n=%u", \
				       log_suppressed_);                                \
			}                                                               \
			log_at((level), (tag), __VA_ARGS__);                            \
		}                                                                       \
	} while (0)

#endif
