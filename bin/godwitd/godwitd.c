/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/godwitd.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/log.h"
#include "base/shared_direct.h"
#include "bin/common/service.h"
#include "bin/common/version.h"
#include "bin/godwitd/cert_api.h"
#include "bin/godwitd/cluster_api.h"
#include "bin/godwitd/ha_api.h"
#include "bin/godwitd/host_api.h"
#include "bin/godwitd/job_api.h"
#include "bin/godwitd/move_api.h"
#include "bin/godwitd/peer.h"
#include "bin/godwitd/vm_api.h"

#define TAG "godwitd"
#define SOCKET_PATH_MAX 4096

/*
 * Who may use the API of this host: root and the members of the group, whom the system's
 * administrator chooses. Without such a group only root (and whoever runs us).
 */
static int listen_local(struct api_server *server, const struct service_cfg *cfg,
                        const char *group_name, struct errbuf *eb)
{
	char path[SOCKET_PATH_MAX];
	struct api_listen_unix listen = {.path = path, .mode = 0600, .owner = (uid_t)-1};
	const struct group *group = getgrnam(group_name);
	gid_t gid = group != NULL ? group->gr_gid : (gid_t)-1;

	listen.group = gid;
	if (group != NULL) {
		listen.mode = 0660;
		listen.gids = &gid;
		listen.gid_count = 1;
	}
	(void)snprintf(path, sizeof(path), "%s/api.sock", cfg->run_dir);

	int err = api_server_listen_unix(server, &listen, eb);

	if (err == 0) {
		log_info(TAG, "listening socket=%s group=%s", path,
		         group != NULL ? group_name : "-");
	}
	return err;
}

/* Which worker program: as told, as built (beside us), as installed. */
static const char *worker_path(const struct cli_call *call, char *buf, size_t room)
{
	const char *told = cli_text(call, "worker");
	ssize_t len = readlink("/proc/self/exe", buf, room - sizeof("/godwit-vm"));
	char *slash;

	if (told != NULL) {
		return told;
	}
	if (len > 0) {
		buf[len] = '\0';
		slash = strrchr(buf, '/');
		if (slash != NULL) {
			memcpy(slash, "/godwit-vm", sizeof("/godwit-vm"));
			if (access(buf, X_OK) == 0) {
				return buf;
			}
		}
	}
	return GODWIT_LIBEXEC_DIR "/godwit-vm";
}

/* The parts of the service, in the order they are made. All owned; NULL = not there (yet). */
struct parts {
	struct api_server *server;
	struct host_api *host;
	struct cert_api *certs;
	struct vm_api *vms;
	struct job_api *jobs;
	struct peers *peers;
	struct move_api *moves;
	struct ha_api *ha;
	struct cluster_api *cluster;
	char direct[SOCKET_PATH_MAX]; /* the volumes' service; likewise */
	char worker[SOCKET_PATH_MAX]; /* the VMs' program; lives as long as they are served */
};

static int parts_vms(const struct cli_call *call, const struct service_cfg *cfg,
                     struct service *service, struct parts *p, struct errbuf *eb)
{
	bool direct = strcmp(cli_text(call, "volume-io"), "device") == 0;

	(void)snprintf(p->direct, sizeof(p->direct), "%s/" SHARED_DIRECT_SOCKET, cfg->run_dir);

	const struct vm_api_cfg vm_cfg = {
		.loop = service_loop(service),
		.server = p->server,
		.state_dir = cfg->state_dir,
		.run_dir = cfg->run_dir,
		.worker_path = worker_path(call, p->worker, sizeof(p->worker)),
		.worker_uid_base = (uint32_t)cli_number(call, "worker-uid-base", 0),
		.direct_socket = direct ? p->direct : NULL,
	};

	return vm_api_create(&vm_cfg, &p->vms, eb);
}

/* Told, or systemd's where systemd is. */
static enum corosync_by corosync_by(const struct cli_call *call)
{
	const char *told = cli_text(call, "corosync");

	if (strcmp(told, "systemd") == 0) {
		return COROSYNC_SYSTEMD;
	}
	if (strcmp(told, "none") == 0) {
		return COROSYNC_NONE;
	}
	return strcmp(told, "auto") == 0 && access("/run/systemd/system", F_OK) == 0
	               ? COROSYNC_SYSTEMD
	               : COROSYNC_DIRECT;
}

static int parts_cluster(const struct cli_call *call, const struct service_cfg *cfg,
                         struct service *service, struct parts *p, struct errbuf *eb)
{
	const struct cluster_api_cfg cluster_cfg = {
		.loop = service_loop(service),
		.server = p->server,
		.certs = p->certs,
		.peers = p->peers,
		.state_dir = cfg->state_dir,
		.listen_addr = cli_text(call, "listen"),
		.port = (uint16_t)cli_number(call, "port", 0),
		.join_port = (uint16_t)cli_number(call, "join-port", CLUSTER_JOIN_PORT),
		.corosync = corosync_by(call),
		.hooks = ha_api_hooks(p->ha),
	};

	return cluster_api_create(&cluster_cfg, &p->cluster, eb);
}

static int parts_ha(const struct cli_call *call, const struct service_cfg *cfg,
                    struct service *service, struct parts *p, struct errbuf *eb)
{
	const struct ha_api_cfg ha_cfg = {
		.loop = service_loop(service),
		.manager = vm_api_manager(p->vms),
		.vms = p->vms,
		.server = p->server,
		.jobs = p->jobs,
		.peers = p->peers,
		.run_dir = cfg->run_dir,
		.state_dir = cfg->state_dir,
		.watchdog = cli_text(call, "watchdog"),
		.agents_dir = cli_text(call, "fence-agents"),
	};

	return ha_api_create(&ha_cfg, &p->ha, eb);
}

static int parts_create(const struct cli_call *call, const struct service_cfg *cfg,
                        struct service *service, struct parts *p, struct errbuf *eb)
{
	const struct api_server_cfg api_cfg = {.loop = service_loop(service)};
	int err = api_server_create(&api_cfg, &p->server, eb);

	if (err == 0) {
		err = host_api_create(service_loop(service), p->server, cfg->state_dir, &p->host,
		                      eb);
	}
	if (err == 0) {
		err = parts_vms(call, cfg, service, p, eb);
	}
	if (err == 0) {
		err = job_api_create(p->server, vm_api_store(p->vms), &p->jobs, eb);
	}
	if (err == 0) {
		const struct cert_api_cfg cert_cfg = {
			.server = p->server,
			.state_dir = cfg->state_dir,
			.listen_addr = cli_text(call, "listen"),
			.listen_port = (uint16_t)cli_number(call, "port", 0),
		};

		err = cert_api_create(&cert_cfg, &p->certs, eb);
	}
	if (err == 0) {
		const struct peers_cfg peers_cfg = {.loop = service_loop(service),
		                                    .cert_dir = cert_api_dir(p->certs)};

		err = peers_create(&peers_cfg, &p->peers, eb);
	}
	if (err == 0) {
		err = parts_ha(call, cfg, service, p, eb);
	}
	if (err == 0) {
		const struct move_api_cfg move_cfg = {
			.loop = service_loop(service),
			.server = p->server,
			.manager = vm_api_manager(p->vms),
			.switches = vm_api_switches(p->vms),
			.jobs = p->jobs,
			.certs = p->certs,
			.peers = p->peers,
			.cluster = ha_api_moves(p->ha),
			.port = (uint16_t)cli_number(call, "port", 0),
		};

		err = move_api_create(&move_cfg, &p->moves, eb);
		ha_api_set_moves(p->ha, p->moves);
	}
	return err != 0 ? err : parts_cluster(call, cfg, service, p, eb);
}

static void parts_destroy(struct parts *p)
{
	move_api_stop(p->moves);
	ha_api_stop(p->ha);
	cluster_api_stop(p->cluster);
	peers_destroy(p->peers);
	host_api_stop(p->host);
	vm_api_stop(p->vms);
	ha_api_destroy(p->ha); /* whose VMs waited for something were told just now */
	job_api_stop(p->jobs);
	api_server_destroy(p->server);
	cluster_api_destroy(p->cluster);
	move_api_destroy(p->moves);
	cert_api_destroy(p->certs);
	job_api_destroy(p->jobs);
	vm_api_destroy(p->vms);
	host_api_destroy(p->host);
}

static int serve(const struct cli_call *call, const struct service_cfg *cfg,
                 struct service *service, struct errbuf *eb)
{
	struct parts parts = {0};
	int err = parts_create(call, cfg, service, &parts, eb);

	if (err == 0) {
		err = listen_local(parts.server, cfg, cli_text(call, "group"), eb);
	}
	if (err == 0) {
		service_run(service, "serving the API");
	}
	parts_destroy(&parts);
	return err;
}

static int run(const struct cli_call *call, void *arg)
{
	struct service_cfg cfg;
	struct service *service;
	struct errbuf eb = {0};

	(void)arg;
	service_cfg_from(call, "godwitd", &cfg);

	int err = service_create(&cfg, &service, &eb);

	if (err < 0) {
		return cli_fail(call, err, &eb);
	}
	err = serve(call, &cfg, service, &eb);
	if (err < 0) {
		log_err(TAG, "cannot start text=\"%s\" hint=\"%s\"", errbuf_text(&eb, err),
		        eb.hint);
	}
	service_destroy(service);
	return err < 0 ? cli_fail(call, err, &eb) : CLI_DONE;
}

static const struct cli_opt opts[] = {
	SERVICE_OPTS,
	{.name = "group",
         .kind = CLI_TEXT,
         .value = "NAME",
         .preset = "godwit",
         .summary = "Members of this group may use the API of this host, if there is such a group. "
                    "They can do everything root can."},
	{.name = "listen",
         .kind = CLI_TEXT,
         .value = "ADDR",
         .preset = "::",
         .summary = "Numeric address for other nodes, once this one has a certificate "
                    "(godwit cert)."},
	{.name = "port",
         .kind = CLI_UINT,
         .value = "PORT",
         .preset = "7443",
         .summary = "TCP port for other nodes."},
	{.name = "join-port",
         .kind = CLI_UINT,
         .value = "PORT",
         .preset = "7444",
         .summary = "TCP port where nodes with a token ask for admission; open while there are "
                    "tokens."},
	{.name = "corosync",
         .kind = CLI_CHOICE,
         .value = "auto|systemd|direct|none",
         .preset = "auto",
         .summary = "Who starts corosync on a node of a cluster: systemd by its unit, godwitd "
                    "itself, or somebody else; auto: systemd where it runs."},
	{.name = "fence-agents",
         .kind = CLI_TEXT,
         .value = "DIR",
         .preset = "/usr/sbin",
         .source = "file",
         .summary = "Where the programs are that switch nodes off (godwit fence)."},
	{.name = "watchdog",
         .kind = CLI_TEXT,
         .value = "FILE|none|assume",
         .preset = "none",
         .source = "file",
         .summary =
                 "The watchdog that resets this node when its lease ends with VMs of the cluster "
                 "still here; with it the others may start them without fencing the node. none: "
                 "they need another proof. assume: they may without it; for labs and tests "
                 "only."},
	{.name = "worker",
         .kind = CLI_TEXT,
         .value = "FILE",
         .source = "file",
         .summary = "Program that runs one VM; else the godwit-vm beside this program, else the "
                    "installed one."},
	{.name = "worker-uid-base",
         .kind = CLI_UINT,
         .value = "UID",
         .preset = "1879048192",
         .summary = "The VMs of this host run as the users from here on, each as its own; 0: as "
                    "the user of the service."},
	{.name = "volume-io",
         .kind = CLI_CHOICE,
         .value = "mount|device",
         .preset = "mount",
         .summary = "How VMs reach disks on shared volumes: by the mounted files; or what is "
                    "written already on the volume's device itself, which is faster. Then the "
                    "process of a VM has the device open: a guest that takes it over reaches "
                    "the whole volume."},
	{0},
};

static const struct cli_cmd cmd = {
	.summary = "Run the service of this host",
	.examples = "godwitd --foreground --log-level debug\n"
		    "godwitd --foreground --state-dir /tmp/g/state --run-dir /tmp/g/run",
	.opts = opts,
	.run = run,
};

static const struct cli_section sections[] = {
	{.title = "SIGNALS",
         .items = (const struct cli_item[]){{"SIGTERM, SIGINT", "Stop. Running VMs stay as they "
                                                                "are."},
                                            {"SIGUSR1", "Write the flight recorder to "
                                                        "godwitd.blackbox in the state directory; "
                                                        "qb-blackbox(8) reads it."},
                                            {0}}},
	{.title = "FILES",
         .items = (const struct cli_item[]){{"/run/godwit/api.sock", "The API."},
                                            {"/run/godwit/godwitd.lock", "Held while it runs; our "
                                                                         "pid."},
                                            {"/var/lib/godwit", "What must survive a reboot."},
                                            {"/var/lib/godwit/cert", "This node's key and "
                                                                     "certificate, and whom it "
                                                                     "trusts."},
                                            {"/var/lib/godwit/cluster", "The cluster that this "
                                                                        "node is in, and its "
                                                                        "copy of the database."},
                                            {"/etc/corosync/corosync.conf",
                                             "Written by godwitd on a node of a cluster."},
                                            {0}}},
	{.title = "ENVIRONMENT",
         .items = (const struct cli_item[]){{"NOTIFY_SOCKET, WATCHDOG_USEC",
                                             "Set by systemd(1), which is told when the service is "
                                             "ready and that it is alive."},
                                            {"JOURNAL_STREAM", "Set by systemd(1): the log goes "
                                                               "to the journal."},
                                            {0}}},
	{0},
};

const struct cli_app godwitd_app = {
	.name = "godwitd",
	.version = godwit_version,
	.summary = "Service of a Godwit host",
	.details =
		"godwitd serves the API of this host, which godwit(1) uses. One runs per host; a "
		"second one with the same directories refuses to start.\n\nIt stays in the "
		"foreground; systemd(1) starts it as godwitd.service.",
	.man_section = 8,
	.root = &cmd,
	.sections = sections,
	.see_also = "godwit(1), godwit-vm(8), godwit-csvd(8)",
};
