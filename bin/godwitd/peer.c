/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/peer.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/api/client.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"

#define TAG "peer"
#define PEER_PATH_MAX 4096u
#define PEER_URL_MAX 128u

/* One call. Its thread owns result, err and eb until it writes to peers.done_fd. */
struct peer_job {
	struct list link; /* in peers.jobs: the loop's */
	struct peers *peers;
	pthread_t thread;
	bool done; /* under peers.lock */
	char url[PEER_URL_MAX];
	char addr[64];
	char pins[PEER_PINS_MAX];
	char *path; /* owned */
	enum api_method method;
	json_t *body; /* owned: a copy of its own, reference counts are not shared by threads */
	uint32_t timeout_ms;
	peer_done_fn fn;         /* of a call */
	peer_dialled_fn dialled; /* of a dial */
	peer_bytes_fn bytes_fn;  /* of a call for bytes */
	char *bytes;             /* owned */
	size_t bytes_len;
	const char *relay; /* protocol, of a relay */
	int relay_fd;      /* owned by its thread */
	void *arg;
	struct api_result result;
	char host[PEER_URL_MAX]; /* of a dial */
	uint16_t port;
	int fds[PEER_SOCKETS_MAX]; /* owned */
	uint32_t fd_count, fd_want;
	struct errbuf eb;
	int err;
};

struct peers {
	struct loop *loop; /* borrowed */
	char cert[PEER_PATH_MAX];
	char key[PEER_PATH_MAX];
	char ca[PEER_PATH_MAX];
	int done_fd; /* eventfd */
	int stop_fd; /* eventfd: relays end */
	struct loop_fd *watch;
	struct list jobs;
	peer_known_fn known;
	void *known_arg;
	uint32_t count;
	uint32_t relays;
	pthread_mutex_t lock;
};

static void peer_job_free(struct peer_job *job)
{
	while (job->fd_count != 0) {
		(void)close(job->fds[--job->fd_count]);
	}
	api_result_fini(&job->result);
	free(job->bytes);
	json_decref(job->body);
	free(job->path);
	free(job);
}

static int peer_connect_one(const struct addrinfo *to, uint64_t deadline_ns)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = fd < 0 ? -errno : 0;
	socklen_t len = sizeof(err);

	if (err == 0 && connect(fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS) {
		err = -errno;
	}
	while (err == 0) {
		uint64_t now = clock_now_ns();
		int ready = now < deadline_ns
		                    ? poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1)
		                    : 0;

		if (ready == 0) {
			err = -ETIMEDOUT;
		} else if (ready > 0) {
			err = getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 ? -errno : -err;
			break;
		} else if (errno != EINTR) {
			err = -errno;
		}
	}
	if (err != 0 && fd >= 0) {
		(void)close(fd);
	}
	return err != 0 ? err : fd;
}

static int peer_dial_all(struct peer_job *job)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	uint64_t deadline_ns = clock_now_ns() + job->timeout_ms * NS_PER_MS;
	struct addrinfo *list = NULL;
	char port[8];
	int err;

	(void)snprintf(port, sizeof(port), "%u", (unsigned)job->port);
	err = getaddrinfo(job->host, port, &hints, &list);
	if (err != 0) {
		return errbuf_set(&job->eb, -EHOSTUNREACH, "%s: %s", job->host, gai_strerror(err));
	}
	err = -EHOSTUNREACH;
	for (const struct addrinfo *at = list; at != NULL && job->fd_count == 0; at = at->ai_next) {
		for (err = 0; err >= 0 && job->fd_count < job->fd_want;) {
			err = peer_connect_one(at, deadline_ns);
			if (err >= 0) {
				job->fds[job->fd_count++] = err;
			}
		}
	}
	freeaddrinfo(list);
	return job->fd_count == job->fd_want
	               ? 0
	               : errbuf_sys(&job->eb, err, "cannot connect to %s port %u", job->host,
	                            (unsigned)job->port);
}

static void peer_end(struct peer_job *job)
{
	struct peers *peers = job->peers;
	uint64_t one = 1;

	(void)pthread_mutex_lock(&peers->lock);
	job->done = true;
	(void)pthread_mutex_unlock(&peers->lock);
	if (write(peers->done_fd, &one, sizeof(one)) != sizeof(one)) {
		log_err(TAG, "end of a call not reported error=%s", strerrorname_np(errno));
	}
}

static void *peer_dial_thread(void *arg)
{
	struct peer_job *job = arg;

	job->err = peer_dial_all(job);
	peer_end(job);
	return NULL;
}

static int peer_client(struct peer_job *job, struct api_client **out)
{
	const struct peers *peers = job->peers;
	const struct api_client_cfg cfg = {
		.url = job->url,
		.connect_addr = job->addr[0] != '\0' ? job->addr : NULL,
		.cert_file = peers->cert,
		.key_file = peers->key,
		.ca_file = peers->ca,
		.pin = job->pins[0] != '\0' ? job->pins : NULL,
		.connect_timeout_ms =
			job->timeout_ms < API_CONNECT_TIMEOUT_MS ? job->timeout_ms : 0,
	};

	return api_client_create(&cfg, out, &job->eb);
}

static int peer_more(const void *buf, size_t len, void *arg)
{
	struct peer_job *job = arg;
	char *bytes = job->bytes_len + len <= PEER_BYTES_MAX
	                      ? gw_realloc_array(job->bytes, job->bytes_len + len + 1, 1)
	                      : NULL;

	if (bytes == NULL) {
		return job->bytes_len + len <= PEER_BYTES_MAX ? -ENOMEM : -EMSGSIZE;
	}
	memcpy(bytes + job->bytes_len, buf, len);
	job->bytes = bytes;
	job->bytes_len += len;
	return 0;
}

static void *peer_thread(void *arg)
{
	struct peer_job *job = arg;
	const struct api_call call = {
		.method = job->method,
		.path = job->path,
		.body = job->body,
		.timeout_ms = job->timeout_ms,
	};
	struct api_client *client = NULL;

	job->err = peer_client(job, &client);
	if (job->err == 0 && job->bytes_fn != NULL) {
		job->err = api_client_bytes(client, &call, peer_more, job, &job->eb);
	} else if (job->err == 0) {
		job->err = api_client_call(client, &call, &job->result, &job->eb);
	}
	api_client_destroy(client);
	peer_end(job);
	return NULL;
}

/* ---- relays ---- */

/* Bytes on their way in one direction. */
struct peer_way {
	char buf[4096];
	size_t at, len;
	bool over; /* nothing more comes */
};

/* From our client. */
static void peer_from_fd(struct peer_way *w, int fd)
{
	ssize_t n = read(fd, w->buf, sizeof(w->buf));

	w->at = 0;
	w->len = n > 0 ? (size_t)n : 0;
	w->over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void peer_to_channel(struct peer_way *w, struct api_channel *channel)
{
	ssize_t n = api_channel_write(channel, w->buf + w->at, w->len - w->at);

	if (n >= 0) {
		w->at += (size_t)n;
	} else if (n != -EAGAIN) {
		w->over = true;
	}
}

/* TLS may hold bytes back: as long as there are some they are taken before anybody polls. */
static void peer_from_channel(struct peer_way *w, struct api_channel *channel)
{
	ssize_t n = api_channel_read(channel, w->buf, sizeof(w->buf));

	w->at = 0;
	w->len = n > 0 ? (size_t)n : 0;
	w->over = n == 0 || (n < 0 && n != -EAGAIN);
}

static void peer_to_fd(struct peer_way *w, int fd)
{
	ssize_t n = send(fd, w->buf + w->at, w->len - w->at, MSG_NOSIGNAL);

	if (n >= 0) {
		w->at += (size_t)n;
	} else if (errno != EAGAIN && errno != EINTR) {
		w->over = true;
	}
}

static void peer_relay_run(const struct peer_job *job, struct api_channel *channel)
{
	struct peer_way there = {.at = 0};
	struct peer_way back = {.at = 0};

	while (!there.over && !back.over) {
		bool out = there.at < there.len;
		bool in = back.at < back.len;

		if (!in) {
			peer_from_channel(&back, channel);
			in = back.at < back.len;
		}
		struct pollfd fds[3] = {
			{.fd = job->peers->stop_fd, .events = POLLIN},
			{.fd = api_channel_fd(channel),
		         .events = (short)((in ? 0 : POLLIN) | (out ? POLLOUT : 0))},
			{.fd = job->relay_fd,
		         .events = (short)((out ? 0 : POLLIN) | (in ? POLLOUT : 0))},
		};

		if (back.over || (poll(fds, 3, -1) < 0 && errno != EINTR) || fds[0].revents != 0) {
			return;
		}
		if (out && fds[1].revents != 0) {
			peer_to_channel(&there, channel);
		} else if (!out && fds[2].revents != 0) {
			peer_from_fd(&there, job->relay_fd);
		}
		if (in && fds[2].revents != 0) {
			peer_to_fd(&back, job->relay_fd);
		}
	}
}

static void *peer_relay_thread(void *arg)
{
	struct peer_job *job = arg;
	const struct api_call call = {
		.method = job->method, .path = job->path, .timeout_ms = job->timeout_ms};
	struct api_client *client = NULL;
	struct api_channel *channel = NULL;

	job->err = peer_client(job, &client);
	if (job->err == 0) {
		job->err = api_client_upgrade(client, &call, job->relay, &channel, &job->eb);
	}
	if (job->err == 0) {
		peer_relay_run(job, channel);
		api_channel_close(channel);
	} else {
		char text[600];
		int len = snprintf(text, sizeof(text), "%s\r\n", errbuf_text(&job->eb, job->err));

		if (len > 0) {
			(void)!send(job->relay_fd, text, strlen(text), MSG_NOSIGNAL);
		}
	}
	(void)close(job->relay_fd);
	api_client_destroy(client);
	peer_end(job);
	return NULL;
}

/* The next call that has ended, off the list; NULL = none. */
static struct peer_job *peers_take(struct peers *peers)
{
	struct peer_job *found = NULL;

	(void)pthread_mutex_lock(&peers->lock);
	list_for_each(at, &peers->jobs)
	{
		struct peer_job *job = list_entry(at, struct peer_job, link);

		if (job->done) {
			found = job;
			break;
		}
	}
	(void)pthread_mutex_unlock(&peers->lock);
	if (found != NULL) {
		list_del(&found->link);
		*(found->relay != NULL ? &peers->relays : &peers->count) -= 1;
		(void)pthread_join(found->thread, NULL);
	}
	return found;
}

static void peers_on_done(int fd, uint32_t events, void *arg)
{
	struct peers *peers = arg;
	struct peer_job *job;
	uint64_t count;

	(void)events;
	if (read(fd, &count, sizeof(count)) != sizeof(count)) {
		return;
	}
	while ((job = peers_take(peers)) != NULL) {
		if (job->dialled != NULL) {
			job->dialled(job->arg, job->err, job->fds,
			             job->err == 0 ? job->fd_count : 0, &job->eb);
		} else if (job->bytes_fn != NULL) {
			job->bytes_fn(job->arg, job->err, job->bytes, job->bytes_len, &job->eb);
		} else if (job->relay == NULL) {
			job->fn(job->arg, job->err, job->err == 0 ? job->result.body : NULL,
			        &job->eb);
		}
		peer_job_free(job);
	}
}

int peers_create(const struct peers_cfg *cfg, struct peers **out, struct errbuf *eb)
{
	struct peers *peers = gw_calloc(1, sizeof(*peers));
	int err = -ENOMEM;

	*out = NULL;
	if (peers == NULL) {
		return errbuf_sys(eb, err, "cannot call other nodes");
	}
	peers->loop = cfg->loop;
	list_init(&peers->jobs);
	(void)pthread_mutex_init(&peers->lock, NULL);
	(void)snprintf(peers->cert, sizeof(peers->cert), "%.4000s/node.pem", cfg->cert_dir);
	(void)snprintf(peers->key, sizeof(peers->key), "%.4000s/node.key", cfg->cert_dir);
	(void)snprintf(peers->ca, sizeof(peers->ca), "%.4000s/ca.pem", cfg->cert_dir);
	peers->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	peers->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (peers->done_fd < 0 || peers->stop_fd < 0) {
		err = -errno;
	} else {
		err = loop_fd_add(peers->loop, peers->done_fd, LOOP_READ, peers_on_done, peers,
		                  &peers->watch);
	}
	if (err != 0) {
		peers_destroy(peers);
		return errbuf_sys(eb, err, "cannot call other nodes");
	}
	*out = peers;
	return 0;
}

void peers_destroy(struct peers *peers)
{
	uint64_t one = 1;

	if (peers == NULL) {
		return;
	}
	if (peers->stop_fd >= 0 && write(peers->stop_fd, &one, sizeof(one)) != sizeof(one)) {
		log_err(TAG, "relays are not told to end error=%s", strerrorname_np(errno));
	}
	list_for_each_safe(at, &peers->jobs)
	{
		struct peer_job *job = list_entry(at, struct peer_job, link);

		(void)pthread_join(job->thread, NULL);
		peer_job_free(job);
	}
	loop_fd_del(peers->watch);
	if (peers->done_fd >= 0) {
		(void)close(peers->done_fd);
	}
	if (peers->stop_fd >= 0) {
		(void)close(peers->stop_fd);
	}
	(void)pthread_mutex_destroy(&peers->lock);
	free(peers);
}

static struct peer_job *peer_job_new(struct peers *peers, const struct peer_call *call,
                                     peer_done_fn fn, void *arg)
{
	struct peer_job *job = gw_calloc(1, sizeof(*job));

	if (job == NULL) {
		return NULL;
	}
	job->peers = peers;
	job->method = call->method;
	job->timeout_ms = call->timeout_ms;
	job->fn = fn;
	job->arg = arg;
	job->path = gw_strdup(call->path);
	job->body = call->body != NULL ? json_deep_copy(call->body) : NULL;
	(void)snprintf(job->url, sizeof(job->url), "https://%.80s:%u", call->node,
	               (unsigned)(call->port != 0 ? call->port : API_TLS_PORT));
	(void)snprintf(job->addr, sizeof(job->addr), "%s", call->addr != NULL ? call->addr : "");
	if (job->path == NULL || (job->body == NULL && call->body != NULL)) {
		peer_job_free(job);
		return NULL;
	}
	return job;
}

/* Start @job's thread. Frees it on failure. */
static int peer_begin(struct peers *peers, struct peer_job *job, void *(*thread)(void *arg),
                      const char *node, struct errbuf *eb)
{
	int err;

	/* On the list before the thread can end; only the loop looks at the list. */
	list_add_tail(&peers->jobs, &job->link);
	err = -pthread_create(&job->thread, NULL, thread, job);
	if (err != 0) {
		list_del(&job->link);
		peer_job_free(job);
		return errbuf_sys(eb, err, "cannot call node %s", node);
	}
	*(job->relay != NULL ? &peers->relays : &peers->count) += 1;
	return 0;
}

void peers_known(struct peers *peers, peer_known_fn fn, void *arg)
{
	peers->known = fn;
	peers->known_arg = arg;
}

static int peer_room(const struct peers *peers, struct errbuf *eb)
{
	return peers->count < PEER_CALLS_MAX
	               ? 0
	               : errbuf_set(eb, -EBUSY, "%u calls to other nodes are under way already",
	                            PEER_CALLS_MAX);
}

/* A call that may be made. Returns 0; as peer_call(). */
static int peer_new(struct peers *peers, const struct peer_call *call, struct peer_job **out,
                    struct errbuf *eb)
{
	char pins[PEER_PINS_MAX] = "";
	int err = 0;

	*out = NULL;
	if (peers->known != NULL) {
		err = peers->known(peers->known_arg, call->node, pins, eb);
	}
	if (err != 0) {
		return err;
	}
	*out = peer_job_new(peers, call, NULL, NULL);
	if (*out == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot call node %s", call->node);
	}
	memcpy((*out)->pins, pins, sizeof((*out)->pins));
	return 0;
}

/* One of the functions is told how it ended. */
static int peer_start(struct peers *peers, const struct peer_call *call, peer_done_fn fn,
                      peer_bytes_fn bytes_fn, void *arg, struct errbuf *eb)
{
	struct peer_job *job = NULL;
	int err = peer_room(peers, eb);

	if (err == 0) {
		err = peer_new(peers, call, &job, eb);
	}
	if (err != 0) {
		return err;
	}
	job->fn = fn;
	job->bytes_fn = bytes_fn;
	job->arg = arg;
	return peer_begin(peers, job, peer_thread, call->node, eb);
}

int peer_call(struct peers *peers, const struct peer_call *call, peer_done_fn fn, void *arg,
              struct errbuf *eb)
{
	return peer_start(peers, call, fn, NULL, arg, eb);
}

int peer_bytes(struct peers *peers, const struct peer_call *call, peer_bytes_fn fn, void *arg,
               struct errbuf *eb)
{
	return peer_start(peers, call, NULL, fn, arg, eb);
}

int peer_relay(struct peers *peers, const struct peer_call *call, const char *protocol, int fd,
               struct errbuf *eb)
{
	struct peer_job *job = NULL;
	int err = peers->relays < PEER_RELAYS_MAX
	                  ? peer_new(peers, call, &job, eb)
	                  : errbuf_set(eb, -EBUSY, "%u streams of other nodes are open already",
	                               PEER_RELAYS_MAX);

	if (err == 0 && job != NULL) {
		job->relay = protocol;
		job->relay_fd = fd;
		err = peer_begin(peers, job, peer_relay_thread, call->node, eb);
	}
	if (err != 0) {
		(void)close(fd);
	}
	return err;
}

int peer_dial(struct peers *peers, const struct peer_dial *dial, peer_dialled_fn fn, void *arg,
              struct errbuf *eb)
{
	struct peer_job *job;
	int err = peer_room(peers, eb);

	if (err != 0) {
		return err;
	}
	job = gw_calloc(1, sizeof(*job));
	if (job == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot call node %s", dial->node);
	}
	job->peers = peers;
	job->dialled = fn;
	job->arg = arg;
	job->port = dial->port;
	job->fd_want = dial->count <= PEER_SOCKETS_MAX ? dial->count : PEER_SOCKETS_MAX;
	job->timeout_ms = dial->timeout_ms;
	(void)snprintf(job->host, sizeof(job->host), "%.100s",
	               dial->addr != NULL && dial->addr[0] != '\0' ? dial->addr : dial->node);
	return peer_begin(peers, job, peer_dial_thread, dial->node, eb);
}
