/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MANAGER_LINK_H
#define HV_MANAGER_LINK_H

/*
 * link - the node service's end of a worker's control socket: requests, answers, events.
 * Thread: the loop's. What a worker says is hostile: it may have been taken over by its guest.
 */

#include <stdint.h>

#include "base/attr.h"
#include "base/json.h"

struct errbuf;
struct link;
struct loop;

#define LINK_REQUESTS_MAX 16u

/* @result: borrowed, NULL if err != 0 (-EPIPE: the worker is gone). */
typedef void (*link_answer_fn)(void *arg, int err, json_t *result, const struct errbuf *eb);

struct link_cfg {
	struct loop *loop;                       /* borrowed until link_close() */
	const char *path;                        /* of the socket; borrowed for the call */
	void (*event)(void *arg, json_t *event); /* borrowed */
	/* The worker closed; requests under way were answered with -EPIPE before. link_close()
	 * it. */
	void (*closed)(void *arg);
	void *arg;
};

/* link_open() - connect. Returns 0; -ECONNREFUSED, -ENOENT nobody listens; -errno. */
MUST_USE int link_open(const struct link_cfg *cfg, struct link **out);

/* link_close() - requests under way are answered with -EPIPE from inside. NULL is fine. */
void link_close(struct link *link);

/*
 * link_request() - send {"cmd": @cmd} with the members of @more (taken; NULL = none) and, unless
 * -1, the descriptor @fd (borrowed). @fn comes later, from the loop.
 * Returns 0; -EBUSY LINK_REQUESTS_MAX are under way; -EPIPE; -ENOMEM.
 */
MUST_USE int link_request(struct link *link, const char *cmd, json_t *more, int fd,
                          link_answer_fn fn, void *arg);

#endif
