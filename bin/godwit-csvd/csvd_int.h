/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWIT_CSVD_CSVD_INT_H
#define BIN_GODWIT_CSVD_CSVD_INT_H

/* The parts of csvd_api: csvd_api.c members, life; volumes.c looking; alone.c without a
 * cluster; files.c names in the root directory. */

#include <stdbool.h>

#include "base/api/server.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/tls.h"
#include "bin/godwit-csvd/csvd_api.h"
#include "csv/daemon/csv_daemon.h"

#define CSVD_PATH_MAX 4096

struct csvd_move {
	struct csvd_api *api; /* back pointer */
	struct api_req *req;  /* NULL = free */
};

#define CSVD_MOVES_MAX 8u

/* A volume that this host uses alone. */
struct csvd_alone {
	char name[CSV_DAEMON_NAME_MAX];
	char device[CSV_DAEMON_PATH_MAX];
	struct guid id;
};

struct csvd_api {
	struct loop *loop;
	struct api_server *server; /* owned */
	struct csv_daemon *daemon; /* owned */
	struct tls_ctx *tls;       /* owned; NULL = no certificate (yet) */
	char *state_dir;           /* owned */
	char *file;                /* owned: STATE/csvd.json */
	char *mount_dir;           /* owned: STATE/csv */
	char *listen_addr;         /* owned */
	uint16_t port;
	uint64_t started; /* proc_start() of this process */
	bool listening;
	struct csv_daemon_members *members; /* owned: what was said last */
	char *lock_path;                    /* owned: RUN/csvd-direct.lock */
	bool clear;                         /* nobody is left of a service before this one */
	bool was_held;
	struct loop_timer *retry; /* owned: alone, until it is clear */
	struct csvd_move moves[CSVD_MOVES_MAX];
	/* Of the file. */
	struct guid node_id;
	bool cluster;
	uint64_t run; /* alone */
	struct csvd_alone alone[CSV_DAEMON_VOLUMES_MAX];
	uint32_t alone_count;
};

/* csvd_api.c: which process and which run this is. */
void csvd_add_self(struct json_build *b, const struct csvd_api *api);
/* csvd_api.c */
/* csvd_clear() - may volumes be opened? Users of a service before this one may still write:
 * -EBUSY. */
MUST_USE int csvd_clear(struct csvd_api *api, struct errbuf *eb);

/* alone.c */
int alone_load(struct csvd_api *api, struct errbuf *eb);
int alone_save(const struct csvd_api *api, struct errbuf *eb);
int alone_apply(struct csvd_api *api, struct errbuf *eb);
int alone_routes(struct csvd_api *api);

/* volumes.c */
int volumes_routes(struct csvd_api *api);

/* fence.c */
int fence_routes(struct csvd_api *api);

/* files.c */
int files_routes(struct csvd_api *api);
struct csv_volume *volumes_named(const struct csvd_api *api, const struct api_req *req,
                                 struct errbuf *eb);

/* members.c */
int members_parse(const json_t *json, struct csv_daemon_members *out, struct errbuf *eb);

#endif
