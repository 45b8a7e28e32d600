/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_API_SERVER_INT_H
#define BASE_API_SERVER_INT_H

/*
 * Inside of the API server.
 *
 *	listening socket --accept--> api_conn --MHD_add_connection--> libmicrohttpd
 *	TLS listener --accept--> api_relay --handshake--> api_conn on one end of a socket pair
 *
 * libmicrohttpd has one epoll descriptor, which our loop watches; api_server_pump() lets it work.
 * It calls back: api_req_access() when a request makes progress, api_req_completed() when a request
 * is over for it in whatever way, and the connection notices. Everything else here runs from the
 * loop, outside of it.
 *
 * Who holds a request: libmicrohttpd until api_req_completed() (req->mhd != NULL), and the handler
 * from dispatch until its answer (held && !answered). The later of the two frees it.
 *
 * A request that waits for its answer, and a stream that waits for events, are suspended: then
 * libmicrohttpd does not look at the socket at all. The server watches all sockets for a hang-up
 * itself (server->hup_fd) and resumes them, so that there is one way to end: api_req_completed().
 */

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/api/server.h"
#include "base/attr.h"
#include "base/list.h"
#include "base/log.h"

#define API_TAG "api"
#define API_PARAM_MAX 4u    /* {name} in one path */
#define API_SEGMENT_MAX 12u /* of a path */
#define API_URL_MAX 4096u   /* of a path with values that are file names */
#define API_POOL_BYTES \
	(32u << 10)        /* libmicrohttpd's memory per connection: request line, headers */
#define API_SPARE_CONN 16u /* beyond the limit, to say 503 instead of hanging up */
#define API_SWEEP_NS (500ull * 1000 * 1000)
#define API_HANDSHAKE_S 10u
#define API_HANDSHAKE_MAX 64u /* TLS connections not yet verified */

/* May this connection be served? */
enum api_admit {
	API_ADMITTED,
	API_DENIED, /* 403 to everything */
	API_CROWDED /* 503 to everything */
};

/* A connection as libmicrohttpd knows it. Owned by it: freed by its closing notice. */
struct api_conn {
	struct api_server *server; /* borrowed */
	struct list link;          /* in server->conns */
	int fd;                    /* libmicrohttpd's; valid as long as this struct */
	struct MHD_Connection *mhd;
	struct api_req *req; /* the current one; NULL between requests */
	struct api_peer peer;
	enum api_admit admit;
	bool suspended;
	bool hung_up;         /* the client has gone */
	bool finished;        /* the client has finished sending, and still wants its answers */
	bool dead;            /* answer nothing any more */
	uint64_t deadline_ns; /* the next request must be complete by then; 0 = being served */
};

/* Who may use a listening unix socket: a copy of struct api_listen_unix. */
struct api_listener {
	struct api_server *server; /* borrowed */
	struct list link;          /* in server->listeners */
	int fd;
	struct loop_fd *watch;
	char *path; /* owned; NULL for TCP */
	int lock_fd;
	dev_t dev; /* of the socket's file: remove no other one */
	ino_t ino;
	bool any_uid;
	uid_t *uids; /* owned */
	size_t uid_count;
	gid_t *gids; /* owned */
	size_t gid_count;
	struct tls_ctx *tls; /* borrowed; NULL for unix sockets */
	uint16_t port;
};

struct api_table {
	const struct api_route *routes; /* borrowed forever */
	size_t count;
	void *arg;
};

struct api_server {
	struct loop *loop;
	struct MHD_Daemon *mhd;
	struct loop_fd *mhd_watch;
	struct loop_timer *mhd_timer;
	struct loop_timer *sweep;
	int hup_fd; /* epoll set of all connections, for hang-ups only */
	struct loop_fd *hup_watch;
	struct list listeners;
	struct list conns;
	struct list relays;
	struct api_conn *adding; /* being handed to libmicrohttpd */
	struct api_table *tables;
	size_t table_count;
	struct api_server_cfg cfg; /* limits filled in */
	api_guard_fn guard;        /* NULL = nobody is refused */
	void *guard_arg;
	uint32_t conn_count;
	uint32_t handshake_count;
	uint32_t req_count;
	uint32_t stream_count;
	uint64_t body_bytes; /* being received */
	uint16_t tls_port;
	bool pumping;
	bool resumed; /* a connection was: libmicrohttpd must run */
	bool paused;  /* accept() ran out of descriptors: try again with the next sweep */
	bool closing; /* api_server_destroy() */
	struct log_limit limit;
};

/* A name and its decoded value; both in memory owned by the request. */
struct api_pair {
	const char *name;
	const char *value;
};

struct api_match {
	const struct api_route *route; /* NULL = no such path, or not with this method */
	void *arg;
	uint32_t allowed; /* bit per method that the path has */
	struct api_pair params[API_PARAM_MAX];
	size_t param_count;
	char text[API_URL_MAX + API_SEGMENT_MAX]; /* what params[].value points into */
};

struct api_req {
	struct api_server *server;
	struct api_conn *conn;      /* NULL: over for libmicrohttpd */
	struct MHD_Connection *mhd; /* likewise */
	enum api_method method;
	struct api_peer peer; /* a copy: the connection may be gone before the answer */
	struct api_match match;
	char *query_text; /* owned; what query[] points into */
	struct api_pair query[API_QUERY_MAX];
	size_t query_count;
	char *body; /* owned */
	size_t body_len;
	size_t body_size;
	bool body_refused; /* too much, or no memory: read on, keep nothing */
	struct json_t *json;
	bool settled;                  /* complete, and libmicrohttpd knows */
	bool held;                     /* a handler had it */
	bool answered;                 /* by the handler, or by us in its place */
	struct MHD_Response *response; /* owned; what to send when libmicrohttpd asks */
	unsigned status;
	void (*gone_fn)(void *arg);
	void *gone_arg;
	struct api_stream *stream; /* ref; the answer goes on */
	api_upgraded_fn upgraded;  /* waiting for the connection */
	void *upgraded_arg;
};

/* server.c */
void api_server_pump(struct api_server *server);
void api_conn_suspend(struct api_conn *conn);
void api_conn_resume(struct api_conn *conn);
/* Make libmicrohttpd look at the socket once more, if its client has finished sending. */
void api_conn_nudge(struct api_conn *conn);
/* Close it soon, whatever it does. */
void api_conn_kill(struct api_conn *conn);
/* Hand @fd over to libmicrohttpd. Takes @fd. Returns 0; -EMFILE; -ENOMEM. */
MUST_USE int api_conn_start(struct api_server *server, int fd, const struct api_peer *peer,
                            enum api_admit admit);

/* server_route.c: pure */
/* Returns 0 with @out; -EINVAL a segment is malformed (bad %xx, control character, not UTF-8, too
 * long). No route is no error. */
MUST_USE int api_route_find(const struct api_table *tables, size_t table_count,
                            enum api_method method, const char *path, struct api_match *out);
/* Decode %xx in place. Returns the length; -EINVAL. */
MUST_USE int api_percent_decode(char *text);
/* A value that a handler may use as a name: UTF-8 without control characters. */
bool api_text_valid(const char *text, size_t len);
void api_route_check(const struct api_table *tables, size_t table_count);
/* "GET, POST" for an Allow header. */
void api_route_allowed(uint32_t methods, char *out, size_t size);

/* server_req.c */
enum MHD_Result api_req_access(void *cls, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_len, void **req_cls);
void api_req_completed(void *cls, struct MHD_Connection *mhd, void **req_cls,
                       enum MHD_RequestTerminationCode how);
void api_req_destroy(struct api_req *req);

/* server_reply.c */
/* The request's owner is done with it: send @response (taken, NULL = hang up) now or when asked. */
void api_req_answer(struct api_req *req, unsigned status, struct MHD_Response *response);
/* A response with an error body; NULL = no memory at all. */
struct MHD_Response *api_response_error(const struct api_error *error);
void api_response_header(struct MHD_Response *response, const char *name, const char *value);

/* server_stream.c */
/* The connection is over for libmicrohttpd. */
void api_stream_gone(struct api_stream *stream);

/* server_listen.c */
/* NULL = no memory. */
struct api_listener *api_listener_create(struct api_server *server);
/* Watch its socket and put it in the server's list. Returns 0; -errno. */
MUST_USE int api_listener_watch(struct api_listener *listener);
void api_listener_destroy(struct api_listener *listener);
void api_listener_pause(struct api_listener *listener, bool pause);

/* server_tls.c */
void api_relay_sweep(struct api_server *server, uint64_t now_ns);
void api_relay_destroy_all(struct api_server *server);
/* A connection has arrived at a TLS listener. Takes @fd. */
void api_relay_start(struct api_listener *listener, int fd);

#endif
