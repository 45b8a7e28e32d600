/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_PEER_H
#define BIN_GODWITD_PEER_H

/*
 * peer - calls from this node to the API of another, over TLS with this node's certificate.
 *
 * The API's client blocks, so each call has a thread for as long as it lasts; the answer comes on
 * the loop. Calls to one node may overtake each other.
 *
 * Thread: the loop's.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/api/api.h"
#include "base/attr.h"
#include "base/json.h"

struct errbuf;
struct loop;
struct peers;

#define PEER_CALLS_MAX 32u

struct peers_cfg {
	struct loop *loop;    /* borrowed until peers_destroy() */
	const char *cert_dir; /* node.pem, node.key, ca.pem (bin/godwitd/cert.h); copied */
};

struct peer_call {
	const char *node; /* name in its certificate; copied, like the rest */
	const char *addr; /* numeric, or NULL or "": the name is looked up */
	uint16_t port;    /* 0 = API_TLS_PORT */
	enum api_method method;
	const char *path;
	const json_t *body;  /* copied; NULL = none */
	uint32_t timeout_ms; /* for the whole call */
};

/*
 * @answer: borrowed, NULL if err < 0 or the answer was empty. @err: 0 or as api_client_call(); what
 * matters to those who must know what happened there: -ECONNRESET, -ETIMEDOUT say that it is
 * unknown whether the call was carried out.
 */
typedef void (*peer_done_fn)(void *arg, int err, json_t *answer, const struct errbuf *eb);

/*
 * Whom we may call: @pins[PEER_PINS_MAX] = the keys that the node may have, parted by ';', "" any
 * with a certificate. Returns 0; -EACCES not that one, with the reason.
 */
typedef int (*peer_known_fn)(void *arg, const char *node, char *pins, struct errbuf *eb);

#define PEER_PINS_MAX 256u /* four keys */

/* peers_create() - Returns 0; -ENOMEM. */
MUST_USE int peers_create(const struct peers_cfg *cfg, struct peers **out, struct errbuf *eb);

/*
 * peers_destroy() - waits for the calls under way (at most their timeouts); they are not answered
 * any more. Relays end. NULL is fine.
 */
void peers_destroy(struct peers *peers);

/* peers_known() - @fn is asked before each call from now on. NULL: any certificate of the CA. */
void peers_known(struct peers *peers, peer_known_fn fn, void *arg);

/*
 * peer_call() - start a call; @fn comes once, from the loop, never from inside.
 * Returns 0; -EBUSY PEER_CALLS_MAX are under way; -EACCES not a node of our cluster; -ENOMEM;
 * -errno no thread. On failure @fn does not come.
 */
MUST_USE int peer_call(struct peers *peers, const struct peer_call *call, peer_done_fn fn,
                       void *arg, struct errbuf *eb);

/* @buf[len]: borrowed; what came, if err == 0. */
typedef void (*peer_bytes_fn)(void *arg, int err, const void *buf, size_t len,
                              const struct errbuf *eb);

#define PEER_BYTES_MAX (16u << 20)

/* peer_bytes() - a call whose answer is no JSON (a log). As peer_call(); -EMSGSIZE too long. */
MUST_USE int peer_bytes(struct peers *peers, const struct peer_call *call, peer_bytes_fn fn,
                        void *arg, struct errbuf *eb);

#define PEER_RELAYS_MAX 32u

/*
 * peer_relay() - a byte stream of another node (a console) for a client of ours: what comes on
 * @fd, a nonblocking stream socket, goes there, and back, until one of them closes. If the node
 * cannot be reached the client reads why. @protocol: static. Takes @fd, also on failure.
 * Returns 0; -EBUSY PEER_RELAYS_MAX of them; else as peer_call().
 */
MUST_USE int peer_relay(struct peers *peers, const struct peer_call *call, const char *protocol,
                        int fd, struct errbuf *eb);

#define PEER_SOCKETS_MAX 17u

struct peer_dial {
	const char *node; /* looked up if @addr is NULL or ""; copied, like the rest */
	const char *addr;
	uint16_t port;
	uint32_t count;      /* sockets, 1..PEER_SOCKETS_MAX */
	uint32_t timeout_ms; /* for all of them */
};

/* @fds[count]: connected stream sockets, borrowed: duplicate what is to stay. @err: 0; -errno. */
typedef void (*peer_dialled_fn)(void *arg, int err, const int *fds, uint32_t count,
                                const struct errbuf *eb);

/* peer_dial() - connect to a TCP port of another node. As peer_call(). */
MUST_USE int peer_dial(struct peers *peers, const struct peer_dial *dial, peer_dialled_fn fn,
                       void *arg, struct errbuf *eb);

#endif
