/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/service.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "bin/common/instance.h"
#include "bin/common/notify.h"
#include "bin/common/version.h"

#define TAG "service"
#define STATE_MODE 0750 /* disks and keys are below it */
#define RUN_MODE 0755   /* the socket in it decides who may talk to us */
#define SERVICE_UMASK 0022
#define BLACKBOX_BYTES (4u << 20) /* some 20,000 lines */
#define STATUS_MAX 200

struct service {
	struct service_cfg cfg; /* texts borrowed */
	struct loop *loop;      /* owned */
	struct loop_signal *signals[4];
	struct loop_timer *watchdog; /* owned; NULL = systemd does not ask */
	uint64_t watchdog_ns;
	char *blackbox; /* owned: where the blackbox is written to */
	int run_lock;   /* -1 = not held */
	int state_lock;
};

void service_cfg_from(const struct cli_call *call, const char *name, struct service_cfg *out)
{
	*out = (struct service_cfg){
		.name = name,
		.state_dir = cli_text(call, "state-dir"),
		.run_dir = cli_text(call, "run-dir"),
		.log_level = cli_text(call, "log-level"),
		.foreground = cli_flag(call, "foreground", false),
	};
}

static void tell_systemd(const char *text)
{
	int err = notify_send(text);

	if (err < 0) {
		log_warn(TAG, "cannot notify systemd error=%s", strerrorname_np(-err));
	}
}

static void on_stop(int signo, void *arg)
{
	const struct service *service = arg;

	log_info(TAG, "stopping signal=%s", sigabbrev_np(signo));
	loop_stop(service->loop);
}

static void on_dump(int signo, void *arg)
{
	const struct service *service = arg;
	int n = log_blackbox_dump(service->blackbox);

	(void)signo;
	if (n < 0) {
		log_err(TAG, "cannot write blackbox file=%s error=%s", service->blackbox,
		        strerrorname_np(-n));
	} else {
		log_info(TAG, "wrote blackbox file=%s bytes=%d", service->blackbox, n);
	}
}

static void on_nothing(int signo, void *arg)
{
	(void)arg;
	log_info(TAG, "ignored signal=%s", sigabbrev_np(signo));
}

static void on_watchdog(void *arg)
{
	struct service *service = arg;

	tell_systemd("WATCHDOG=1");
	loop_timer_arm(service->watchdog, service->watchdog_ns);
}

static int start_log(struct service *service, struct errbuf *eb)
{
	const struct service_cfg *cfg = &service->cfg;
	bool journal = getenv("JOURNAL_STREAM") != NULL;
	struct log_cfg log = {
		.name = cfg->name,
		.to_stderr = cfg->foreground || journal,
		.to_syslog = !cfg->foreground && !journal,
		.blackbox_bytes = BLACKBOX_BYTES,
	};
	int err = log_level_parse(cfg->log_level, &log.level);

	if (err < 0) {
		return errbuf_set(eb, err, "'%s' is no log level", cfg->log_level);
	}
	service->blackbox = gw_asprintf("%s/%s.blackbox", cfg->state_dir, cfg->name);
	if (service->blackbox == NULL) {
		return errbuf_set(eb, -ENOMEM, "out of memory");
	}
	err = log_open(&log);
	if (err < 0) {
		return errbuf_sys(eb, err, "open the log");
	}
	log_blackbox_path(service->blackbox);
	return 0;
}

static int start_loop(struct service *service, struct errbuf *eb)
{
	static const struct {
		int signo;
		loop_signal_fn fn;
	} signals[] = {
		{SIGTERM, on_stop},
		{SIGINT, on_stop},
		{SIGUSR1, on_dump},
		{SIGHUP, on_nothing},
	};
	int err = loop_create(&service->loop);

	for (size_t i = 0; err == 0 && i < ARRAY_LEN(signals); i++) {
		err = loop_signal_add(service->loop, signals[i].signo, signals[i].fn, service,
		                      &service->signals[i]);
	}
	if (err == 0 && signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
		err = -errno;
	}
	/* Twice as often as asked for, so that one late timer is no restart. */
	service->watchdog_ns = notify_watchdog_ns() / 2;
	if (err == 0 && service->watchdog_ns > 0) {
		err = loop_timer_add(service->loop, service->watchdog_ns, on_watchdog, service,
		                     &service->watchdog);
	}
	return err < 0 ? errbuf_sys(eb, err, "event loop") : 0;
}

static int start(struct service *service, struct errbuf *eb)
{
	const struct service_cfg *cfg = &service->cfg;
	int err;

	if (cfg->run_dir[0] != '/' || cfg->state_dir[0] != '/') {
		return errbuf_set(eb, -EINVAL, "--run-dir and --state-dir must be absolute paths");
	}
	(void)umask(SERVICE_UMASK);
	err = fs_mkdirs(cfg->run_dir, RUN_MODE, eb);
	if (err == 0) {
		err = fs_mkdirs(cfg->state_dir, STATE_MODE, eb);
	}
	if (err == 0) {
		err = instance_lock(cfg->run_dir, cfg->name, &service->run_lock, eb);
	}
	/* The same directory for both is allowed; then one lock is enough. */
	if (err == 0 && strcmp(cfg->run_dir, cfg->state_dir) != 0) {
		err = instance_lock(cfg->state_dir, cfg->name, &service->state_lock, eb);
	}
	if (err == 0) {
		err = start_log(service, eb);
	}
	return err == 0 ? start_loop(service, eb) : err;
}

int service_create(const struct service_cfg *cfg, struct service **out, struct errbuf *eb)
{
	struct service *service = gw_calloc(1, sizeof(*service));

	*out = NULL;
	if (service == NULL) {
		return errbuf_set(eb, -ENOMEM, "out of memory");
	}
	service->cfg = *cfg;
	service->run_lock = -1;
	service->state_lock = -1;

	int err = start(service, eb);

	if (err < 0) {
		service_destroy(service);
		return err;
	}
	*out = service;
	return 0;
}

void service_destroy(struct service *service)
{
	if (service == NULL) {
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(service->signals); i++) {
		loop_signal_del(service->signals[i]);
	}
	loop_timer_del(service->watchdog);
	loop_destroy(service->loop);
	log_blackbox_path(NULL);
	log_close();
	free(service->blackbox);
	if (service->state_lock >= 0) {
		(void)close(service->state_lock);
	}
	if (service->run_lock >= 0) {
		(void)close(service->run_lock);
	}
	free(service);
}

struct loop *service_loop(const struct service *service)
{
	return service->loop;
}

void service_run(struct service *service, const char *status)
{
	char text[STATUS_MAX];

	(void)snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
	tell_systemd(text);
	log_info(TAG, "ready version=%s state-dir=%s run-dir=%s", godwit_version,
	         service->cfg.state_dir, service->cfg.run_dir);
	loop_run(service->loop);
	tell_systemd("STOPPING=1");
}
