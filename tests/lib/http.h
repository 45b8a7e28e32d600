/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_HTTP_H
#define TESTS_LIB_HTTP_H

/*
 * http - a raw HTTP client for tests of the API server, on the same loop and thread. It sends
 * whatever bytes the test likes. Waiting runs the loop, with a deadline; failures are the test's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct api_server;
struct json_t;
struct loop;

#define HTTP_BUF_BYTES (1u << 20)

struct http {
	struct loop *loop;
	int fd;
	struct loop_fd *watch;
	struct loop_timer *timer;
	char *buf; /* what came, NUL-terminated; owned */
	size_t len;
	bool eof;
	bool late;
};

/* http_open() - one end of a socket pair goes to api_server_adopt(). Returns 0; its error. */
int http_open(struct http *h, struct loop *loop, struct api_server *server);

/* http_open_fd() - use a connected socket; takes it. */
void http_open_fd(struct http *h, struct loop *loop, int fd);

/* http_connect_unix() - Returns 0; -errno of connect(). */
int http_connect_unix(struct http *h, struct loop *loop, const char *path);

void http_close(struct http *h);

/* http_send() - all of it, running the loop when the socket is full. Returns 0; -errno. */
int http_send(struct http *h, const void *bytes, size_t len);
int http_say(struct http *h, const char *text);

/* http_wait_for() - until @text has come. Returns false after 5 s or at the end of the stream. */
bool http_wait_for(struct http *h, const char *text);

/* http_wait_eof() - until the server closes. Returns false after @timeout_ms. */
bool http_wait_eof(struct http *h, uint32_t timeout_ms);

/*
 * http_answer() - wait for one complete answer, remove it from the buffer. Returns its status,
 * 0 = none came. *json: its body, if that is JSON, a new reference; NULL allowed.
 */
unsigned http_answer(struct http *h, struct json_t **json);

/* http_ask() - http_say() a request without a body, and http_answer(). */
unsigned http_ask(struct http *h, const char *method, const char *path, struct json_t **json);

/* http_post() - the same with a JSON body. */
unsigned http_post(struct http *h, const char *method, const char *path, const char *body,
                   struct json_t **json);

/* http_error() - the string @field of an error body; "" if it is none. */
const char *http_error(const struct json_t *json, const char *field);

/* http_spin() - run the loop for @ms. Only for "nothing happens", never to wait for something. */
void http_spin(struct loop *loop, uint32_t ms);

#endif
