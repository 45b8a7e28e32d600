/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_MOVE_INT_H
#define BIN_GODWITD_MOVE_INT_H

/* Private to move_api.c, move_out.c, move_in.c. */

#include <stdbool.h>

#include "base/api/server.h"
#include "base/json.h"
#include "base/list.h"
#include "bin/godwitd/move_api.h"
#include "hv/config/vm_config.h"
#include "hv/manager/vm_move.h"

struct job;
struct loop_fd;
struct loop_timer;

struct move_api {
	struct move_api_cfg cfg;
	struct list out;         /* struct move_out, in the order of their jobs */
	struct list in;          /* struct move_in */
	struct loop_timer *tick; /* what waits for the other side tries again */
	bool stopped;
};

/* PLACE (of a cluster's VM) -> QUEUED -> ASK -> DIAL -> COPY -> GIVE; back to QUEUED if the
 * destination has too many. */
enum move_out_phase {
	MOVE_PLACE, /* the cluster has to agree */
	MOVE_QUEUED,
	MOVE_ASK,  /* the destination prepares */
	MOVE_DIAL, /* connecting */
	MOVE_COPY, /* the workers are at it */
	MOVE_GIVE, /* the word is given; the destination has to write it down */
};

struct move_out {
	struct list link;
	struct move_api *api; /* back pointer */
	struct job *job;      /* NULL: nobody waits */
	enum move_out_phase phase;
	char vm_id[GUID_TEXT_SIZE];
	char vm_name[VM_NAME_MAX + 1];
	struct guid move;
	struct vm_move_peer peer;
	uint64_t epoch_next;
	uint32_t streams;
	bool plain;
	bool check;
	bool cluster;   /* the log decides: struct move_cluster */
	bool held;      /* its worker waits for the log */
	bool asked;     /* the destination knows of it */
	bool marked;    /* beside its disks are marks, see move_disks.h */
	bool calling;   /* a call is under way, and comes back here */
	bool cancelled; /* as soon as the call is back */
	char token[VM_MOVE_TOKEN_HEX];
	uint64_t place_by_ns; /* PLACE: given up then */
	char waiting[240];
	json_t *options; /* owned: for the worker */
	json_t *tls;     /* owned: our credentials */
	json_t *result;  /* owned: of the copying */
};

struct move_in {
	struct list link;
	struct move_api *api; /* back pointer */
	char vm_id[GUID_TEXT_SIZE];
	struct guid move;
	struct vm_move_peer peer;
	uint64_t epoch; /* the source's */
	int listen_fd;  /* -1 = no more connections */
	struct loop_fd *watch;
	uint32_t accepted;
	bool asking;  /* a call is under way, and comes back here */
	bool cluster; /* the log decides */
	bool decided; /* taken: only the record is left */
	bool wants_word;
};

/* move_is_node() - is the caller another node? Else it has been answered. */
bool move_is_node(struct api_req *req);

struct move_out *move_out_new(struct move_api *api, const struct vm *vm);
void move_out_give(struct move_out *mv);
void move_out_tick(struct move_api *api);
void move_out_resume(struct move_api *api, struct vm *vm, const struct vm_move_info *info);
void move_out_stop(struct move_api *api);
void move_out_look(struct move_api *api);
enum api_then move_out_request(struct api_req *req, void *arg);
enum api_then move_out_word(struct api_req *req, void *arg);
extern const struct vm_move_events move_out_events;

void move_in_tick(struct move_api *api);
void move_in_resume(struct move_api *api, struct vm *vm, const struct vm_move_info *info);
void move_in_stop(struct move_api *api);
void move_in_look(struct move_api *api);
enum api_then move_in_request(struct api_req *req, void *arg);
enum api_then move_in_commit(struct api_req *req, void *arg);
enum api_then move_in_drop(struct api_req *req, void *arg);

#endif
