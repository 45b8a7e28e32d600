/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_COMMON_SERVICE_H
#define BIN_COMMON_SERVICE_H

/*
 * service - what all our daemons do alike: directories, log and blackbox, one instance, signals,
 * systemd.
 *
 * Signals: SIGTERM and SIGINT stop the loop, SIGUSR1 writes the blackbox to the state directory,
 * SIGHUP is ignored, SIGPIPE too. One service per process.
 */

#include <stdbool.h>

#include "base/attr.h"
#include "base/cli/cli.h"

struct errbuf;
struct loop;
struct service;

#define SERVICE_STATE_DIR "/var/lib/godwit"
#define SERVICE_RUN_DIR "/run/godwit"

/* The options of every service, for its table: SERVICE_OPTS, ... {0}. */
#define SERVICE_OPTS                                                                               \
	{.name = "state-dir",                                                                      \
	 .kind = CLI_TEXT,                                                                         \
	 .value = "DIR",                                                                           \
	 .preset = SERVICE_STATE_DIR,                                                              \
	 .source = "dir",                                                                          \
	 .summary = "What must survive a reboot."},                                                \
		{.name = "run-dir",                                                                \
	         .kind = CLI_TEXT,                                                                 \
	         .value = "DIR",                                                                   \
	         .preset = SERVICE_RUN_DIR,                                                        \
	         .source = "dir",                                                                  \
	         .summary = "Sockets and locks; empty after a reboot."},                           \
		{.name = "log-level",                                                              \
	         .kind = CLI_CHOICE,                                                               \
	         .value = "err|warn|info|debug|trace",                                             \
	         .preset = "info",                                                                 \
	         .summary = "How much to log."},                                                   \
	{                                                                                          \
		.name = "foreground", .kind = CLI_FLAG,                                            \
		.summary = "Log to the standard error output, for a terminal. Without it the log " \
			   "goes to the journal or to syslog. The program never puts itself "      \
			   "into the background."                                                  \
	}

struct service_cfg {
	const char *name;      /* "godwitd"; borrowed forever */
	const char *state_dir; /* borrowed until service_destroy(), like the rest */
	const char *run_dir;
	const char *log_level; /* a word of log_level_parse() */
	bool foreground;
};

/* service_cfg_from() - from the options above. */
void service_cfg_from(const struct cli_call *call, const char *name, struct service_cfg *out);

/*
 * service_create() - directories, log, locks (run directory and state directory), loop, signals.
 * Returns 0; -EBUSY another instance runs; -EINVAL; -errno.
 */
MUST_USE int service_create(const struct service_cfg *cfg, struct service **out, struct errbuf *eb);

/* service_destroy() - tell systemd, free, close the log. NULL is fine. */
void service_destroy(struct service *service);

/* service_loop() - borrowed until service_destroy(). */
struct loop *service_loop(const struct service *service);

/* service_run() - tell systemd that we are ready, and dispatch until a signal says stop. */
void service_run(struct service *service, const char *status);

#endif
