/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_API_CLIENT_H
#define BASE_API_CLIENT_H

/*
 * api_client - call the API and wait for the answer: what the command line uses.
 *
 * libcurl does HTTP (docs/decisions/0022). Calls block; a client belongs to one thread and makes
 * one call at a time. The server is not trusted: answers are bounded and checked.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/api/api.h"
#include "base/attr.h"

struct api_channel;
struct api_client;
struct errbuf;
struct json_t;

#define API_ANSWER_MAX (64u << 20)     /* 10,000 VMs of 4 KiB and some room */
#define API_ANSWER_VALUES_MAX 2000000u /* JSON values in it */
#define API_EVENT_MAX (1u << 20)       /* one line of an event stream */
#define API_CODE_MAX 48                /* an error's code word, with NUL */
#define API_CONNECT_TIMEOUT_MS 10000u  /* a host that is there answers in milliseconds */

struct api_client_cfg {
	/* "unix:///path" or "https://NODE[:port]"; NULL = unix://API_SOCKET_PATH. NODE must be the
	 * name in the server's certificate. */
	const char *url;
	const char *connect_addr; /* https: where NODE is, "10.0.0.1" or "[fd00::1]"; NULL = DNS */
	const char *cert_file;    /* https: PEM files; our certificate, */
	const char *key_file;     /* its key, */
	const char *ca_file;      /* and the cluster's CA */
	/* https: the server must have this public key (tls_cert_pin()), or one of several, parted
	 * by ';'. Beside the three files; or instead of them: then whoever has the key is the
	 * server, whatever its name, and we show no certificate. */
	const char *pin;
	uint32_t connect_timeout_ms; /* 0 = API_CONNECT_TIMEOUT_MS */
};

struct api_call {
	enum api_method method;
	const char *path;          /* from api_path(), with the query; starts with '/' */
	const struct json_t *body; /* borrowed; NULL = none */
	uint32_t timeout_ms;       /* for the whole call; 0 = none. Streams: the silence
	                            * allowed, looked at once a second */
};

struct api_result {
	unsigned status;         /* HTTP; 0 = no answer came */
	struct json_t *body;     /* owned; NULL = empty. Also of an error answer */
	char code[API_CODE_MAX]; /* of an error answer; "" = success, or not the API's error body */
};

/* api_client_create() - does not connect yet. Returns 0; -EINVAL url; -ENOMEM. */
MUST_USE int api_client_create(const struct api_client_cfg *cfg, struct api_client **out,
                               struct errbuf *eb);

/* api_client_destroy() - NULL is fine. */
void api_client_destroy(struct api_client *client);

/*
 * api_client_call() - one request, one answer. Free @out with api_result_fini(), also on failure.
 * Returns 0 for 2xx; else -errno of the server's error (api_error_errno(), text and hint in @eb);
 * -ECONNREFUSED, -ENOENT nobody serves there; -EACCES no right to connect; -EHOSTUNREACH;
 * -ETIMEDOUT; -ECONNRESET cut off, the outcome is unknown; -EKEYREJECTED a certificate was
 * refused; -EPROTO the answer makes no sense; -EMSGSIZE; -ENOMEM.
 */
MUST_USE int api_client_call(struct api_client *client, const struct api_call *call,
                             struct api_result *out, struct errbuf *eb);

void api_result_fini(struct api_result *result);

/* Return 0 to go on, else the stream is closed and the call returns that value. */
typedef int (*api_event_fn)(const struct json_t *event, void *arg);
typedef int (*api_bytes_fn)(const void *buf, size_t len, void *arg);

/*
 * api_client_events() - read a stream of events until it ends or @fn stops it.
 * Returns 0 the server ended it; what @fn returned; -errno as api_client_call().
 */
MUST_USE int api_client_events(struct api_client *client, const struct api_call *call,
                               api_event_fn fn, void *arg, struct errbuf *eb);

/* api_client_bytes() - the same for an answer of raw bytes (a log, a file). */
MUST_USE int api_client_bytes(struct api_client *client, const struct api_call *call,
                              api_bytes_fn fn, void *arg, struct errbuf *eb);

/*
 * api_client_upgrade() - turn a connection into a byte stream (a VM's console).
 * @protocol: as in api_reply_upgrade(). @out must be closed before the client is destroyed.
 * Returns 0; -errno as api_client_call().
 */
MUST_USE int api_client_upgrade(struct api_client *client, const struct api_call *call,
                                const char *protocol, struct api_channel **out, struct errbuf *eb);

/* api_channel_fd() - to poll for reading (or writing, after a short write); do not read it. */
int api_channel_fd(const struct api_channel *channel);

/* api_channel_read() - does not block. Returns bytes; 0 = end; -EAGAIN; -errno. Read until
 * -EAGAIN before polling: TLS may hold bytes back. */
MUST_USE ssize_t api_channel_read(struct api_channel *channel, void *buf, size_t len);

/* api_channel_write() - does not block. Returns bytes taken; -EAGAIN; -errno. */
MUST_USE ssize_t api_channel_write(struct api_channel *channel, const void *buf, size_t len);

void api_channel_close(struct api_channel *channel);

#endif
