/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_API_SERVER_H
#define BASE_API_SERVER_H

/*
 * api_server - HTTP + JSON on the event loop: routes, requests, event streams, upgrades.
 *
 * libmicrohttpd parses HTTP (docs/decisions/0020), without threads: everything below runs on the
 * loop's thread and every callback comes from the loop. Clients are hostile: sizes, counts and
 * times are bounded, and what is malformed is answered with a 4xx or a closed connection.
 *
 * Life of a request: a handler gets it when headers and body have arrived and been checked, and
 * must end it with exactly one of api_reply*() and api_stream_begin(), now (API_ANSWERED) or
 * later from the loop (API_LATER). Until then the request stays valid, even if the client has
 * gone: then the reply goes nowhere, and api_req_on_gone() tells those who want to stop early.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/api/api.h"
#include "base/attr.h"

struct api_req;
struct api_server;
struct api_stream;
struct errbuf;
struct json_t;
struct loop;
struct tls_ctx;

#define API_PEER_NAME_MAX 64 /* of a certificate's name, with NUL */
#define API_PEER_ADDR_MAX 46 /* of a numeric address, with NUL */
#define API_PEER_PIN_MAX 53  /* of a public key as text (base/tls_pki.h), with NUL */

#define API_BODY_MAX (1u << 20)             /* a VM definition is some KiB */
#define API_BODY_TOTAL_MAX (32u << 20)      /* all bodies being received at once; then 503 */
#define API_CONN_MAX 256u                   /* connections of one server */
#define API_CONN_PER_PEER_MAX 64u           /* of one uid (not root) or one certificate name */
#define API_QUERY_MAX 16u                   /* ?a=b&... */
#define API_IDLE_S 60u                      /* keep-alive without a request; reader that stalls */
#define API_REQUEST_S 20u                   /* from a request's first byte to its last */
#define API_STREAM_QUEUE_BYTES (256u << 10) /* events a slow reader may lag behind */

/* Who is calling. */
struct api_peer {
	bool local; /* unix socket: uid, gid, pid at connect() are the kernel's word */
	uid_t uid;
	gid_t gid;
	pid_t pid;                    /* may be dead and reused by now: for the log only */
	bool node;                    /* TLS: a node's certificate, else a user's */
	char name[API_PEER_NAME_MAX]; /* TLS: the name in the certificate; local: "" */
	char addr[API_PEER_ADDR_MAX]; /* TLS: numeric, where it connected from; local: "" */
	char pin[API_PEER_PIN_MAX];   /* TLS: of the key in its certificate; local: "" */
};

/* What a handler did. */
enum api_then {
	API_ANSWERED, /* a reply function was called; the request is gone */
	API_LATER     /* the handler kept the request and replies from the loop */
};

/*
 * @req: owned by the callee until it replies. The body is a JSON object or absent.
 * The reply functions return API_ANSWERED, so that "return api_reply(...)" reads well.
 */
typedef enum api_then (*api_handler_fn)(struct api_req *req, void *arg);

/*
 * A path is literal segments and {name} segments: "/v1/vms/{name}/start". A literal segment wins
 * over a {name}. Values arrive percent-decoded, are valid UTF-8 without control characters and
 * not empty.
 */
struct api_route {
	enum api_method method;
	const char *path;
	api_handler_fn handler;
};

struct api_server_cfg {
	struct loop *loop; /* borrowed until api_server_destroy() */
	/* Zero means the limit above. */
	uint32_t body_bytes_max;
	uint32_t conn_max;
	uint32_t conn_per_peer_max;
	uint32_t idle_s;
	uint32_t request_s;
};

/* Who may use a unix socket, beside root and the server's own uid. */
struct api_listen_unix {
	const char *path;
	mode_t mode;  /* of the socket, e.g. 0660 */
	uid_t owner;  /* (uid_t)-1 = leave */
	gid_t group;  /* (gid_t)-1 = leave */
	bool any_uid; /* everybody who can connect; the mode decides */
	const uid_t *uids;
	size_t uid_count;
	const gid_t *gids; /* primary or supplementary group of the caller */
	size_t gid_count;
};

/* api_server_create() - a server without sockets and routes. Returns 0; -ENOMEM; -errno. */
MUST_USE int api_server_create(const struct api_server_cfg *cfg, struct api_server **out,
                               struct errbuf *eb);

/*
 * api_server_destroy() - close all sockets, tell streams and pending requests that their clients
 * are gone, free. CHECKs that no request is left unanswered and no stream open afterwards (their
 * owners answer or end them at the latest in the "gone" callback). NULL is fine.
 */
void api_server_destroy(struct api_server *server);

/*
 * api_server_routes() - add @routes[count]; the table and its strings are borrowed forever.
 * @arg goes to their handlers. CHECKs paths that are malformed or there twice.
 * Returns 0; -ENOMEM.
 */
MUST_USE int api_server_routes(struct api_server *server, const struct api_route *routes,
                               size_t count, void *arg);

/*
 * api_server_listen_unix() - listen on a unix socket. @cfg is copied. The socket appears under
 * its path with its final mode and owner in one step. A socket that nobody serves is replaced;
 * PATH.lock is held as long as the server lives.
 * Returns 0; -EADDRINUSE somebody serves it; -EEXIST the path is no socket; -ENAMETOOLONG; -errno.
 */
MUST_USE int api_server_listen_unix(struct api_server *server, const struct api_listen_unix *cfg,
                                    struct errbuf *eb);

/*
 * api_server_listen_tls() - listen on TCP for clients with a certificate of @tls's CA.
 * @addr: numeric IPv4 or IPv6, "::" = all. @port: 0 = any, see api_server_tls_port().
 * @tls: a server context (base/tls.h), borrowed until the server is destroyed.
 * Returns 0; -EINVAL addr; -EADDRINUSE; -errno.
 */
MUST_USE int api_server_listen_tls(struct api_server *server, const char *addr, uint16_t port,
                                   struct tls_ctx *tls, struct errbuf *eb);

/* Has this verified TLS client still a right to be here? */
typedef bool (*api_guard_fn)(const struct api_peer *peer, void *arg);

/*
 * api_server_guard() - from now on @fn is asked for each request that comes over TLS; one that it
 * does not let through is answered with 403. NULL: every certificate will do.
 */
void api_server_guard(struct api_server *server, api_guard_fn fn, void *arg);

/* api_server_expel() - close the connections of those whom the guard would not let through now,
 * streams as well. From the loop, not from a handler. */
void api_server_expel(struct api_server *server);

/* api_server_tls_port() - the TCP port of the last listen_tls, 0 = none. */
uint16_t api_server_tls_port(const struct api_server *server);

/*
 * api_server_adopt() - serve a connected unix stream socket as if it had been accepted and
 * allowed. Takes @fd, also on failure. Returns 0; -EMFILE too many connections; -errno.
 */
MUST_USE int api_server_adopt(struct api_server *server, int fd);

/* ---- the request ---- */

enum api_method api_req_method(const struct api_req *req);

/* api_req_param() - value of the path's {name}. CHECKs that the route has it. */
const char *api_req_param(const struct api_req *req, const char *name);

/* api_req_query() - value of ?name=value; "" for ?name; NULL = not given. */
const char *api_req_query(const struct api_req *req, const char *name);

/* api_req_body() - the JSON object that came with it, borrowed; NULL = no body. */
const struct json_t *api_req_body(const struct api_req *req);

const struct api_peer *api_req_peer(const struct api_req *req);

/*
 * api_req_on_gone() - call @fn once, from the loop, if the client disconnects before the reply.
 * The request must still be answered (the answer is thrown away). @fn may do that itself.
 */
void api_req_on_gone(struct api_req *req, void (*fn)(void *arg), void *arg);

/* ---- the reply: each takes @req ---- */

/*
 * api_reply() - answer with @body, which is taken. NULL: with status 204 no body; with any other
 * status it means that memory ran out while it was built, and a 503 goes out.
 */
enum api_then api_reply(struct api_req *req, unsigned status, struct json_t *body);

/* api_reply_errno() - the error answer for -errno @err; @eb may be NULL. See api_error_from(). */
enum api_then api_reply_errno(struct api_req *req, int err, const struct errbuf *eb);

/* api_reply_error() - an error answer in the handler's own words. */
enum api_then api_reply_error(struct api_req *req, const struct api_error *error);

/* api_reply_bytes() - 200 with a body that is not JSON; copied. @type: "text/plain", ... */
enum api_then api_reply_bytes(struct api_req *req, const char *type, const void *buf, size_t len);

/*
 * Takes @fd (a nonblocking stream socket to the client, -1 = the client has gone before it could be
 * upgraded). @early[len]: what the client sent ahead, borrowed for the call.
 */
typedef void (*api_upgraded_fn)(int fd, const void *early, size_t len, void *arg);

/*
 * api_reply_upgrade() - 101, and hand the connection over as a byte stream.
 * @protocol: the word both sides put in the Upgrade header, e.g. "godwit-console". A request
 * that does not ask for it gets 426, and @fn is called with fd -1.
 * @fn: called exactly once, from the loop or from inside this call.
 */
enum api_then api_reply_upgrade(struct api_req *req, const char *protocol, api_upgraded_fn fn,
                                void *arg);

/* ---- streams: an answer that goes on ---- */

struct api_stream_cfg {
	const char *type;         /* NULL = "application/x-ndjson" */
	uint32_t queue_bytes_max; /* 0 = API_STREAM_QUEUE_BYTES */
	/* Client gone, or dropped because it did not read. Called once at most, from the loop,
	 * never after api_stream_end() and never from inside a call of these functions. */
	void (*gone)(void *arg);
	void *arg;
};

/*
 * api_stream_begin() - answer 200 and keep the answer open. Takes @req, also on failure.
 * The stream belongs to the caller until api_stream_end(), also after gone().
 * Returns 0; -EPIPE the client has gone; -ENOMEM (a 503 was sent).
 */
MUST_USE int api_stream_begin(struct api_req *req, const struct api_stream_cfg *cfg,
                              struct api_stream **out);

/*
 * api_stream_send() - queue one event, one line of JSON. @event is borrowed.
 * Returns 0; -ENOBUFS the reader is too slow: it is dropped, gone() follows; -EPIPE client gone;
 * -ENOMEM (the stream goes on without this event).
 */
MUST_USE int api_stream_send(struct api_stream *stream, const struct json_t *event);

/* api_stream_write() - the same for raw bytes. */
MUST_USE int api_stream_write(struct api_stream *stream, const void *buf, size_t len);

/* api_stream_end() - what is queued still goes out, then the answer is complete. Frees. NULL ok. */
void api_stream_end(struct api_stream *stream);

#endif
