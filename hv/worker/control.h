/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_WORKER_CONTROL_H
#define HV_WORKER_CONTROL_H

/*
 * control - the socket through which the node service talks to a worker.
 *
 * SOCK_SEQPACKET: one JSON object per message, descriptors beside it. A request is {"id":7,
 * "cmd":"pause"}; its answer {"id":7,"result":{...}} or {"id":7,"error":{"message","hint"}}, now or
 * later; events ({"event":"state",...}) go to every client. The service may come and go: the
 * worker listens as long as it lives. docs/formats/worker-control.md lists the commands.
 *
 * Device thread only. A client that does not read its answers is dropped, never waited for.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct control;
struct control_client;
struct errbuf;
struct uring;

#define CONTROL_MESSAGE_BYTES_MAX 65536u
#define CONTROL_CLIENTS_MAX 8u
#define CONTROL_FDS_MAX 4u

/* A request; valid until it is answered. The client may be gone by then: answering is safe. */
struct control_request {
	struct control *control;
	uint32_t client;     /* slot */
	uint64_t generation; /* of the slot */
	int64_t id;
	json_t *json; /* borrowed during the handler call */
	const char *cmd;
	int fds[CONTROL_FDS_MAX]; /* taken by setting to -1; closed after the handler otherwise */
	uint32_t fd_count;
};

/* Handle @req: answer it with control_reply() or control_error(), now or later (copy the
 * struct). */
typedef void (*control_fn)(struct control_request *req, void *arg);

/*
 * control_create() - serve on @listen_fd (listening SOCK_SEQPACKET; owned from now on).
 * Returns 0; -ENOMEM; -EAGAIN.
 */
MUST_USE int control_create(struct uring *ring, int listen_fd, control_fn fn, void *arg,
                            struct control **out);

/* control_destroy() - close all; not from inside a completion. NULL is fine. */
void control_destroy(struct control *control);

/* control_reply() - answer with @result (takes the reference; NULL = {}). */
void control_reply(const struct control_request *req, json_t *result);
void control_error(const struct control_request *req, int err, const struct errbuf *eb);

/* control_event() - tell every client; takes the reference. */
void control_event(struct control *control, json_t *event);

#endif
