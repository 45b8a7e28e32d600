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
	peer_dialled_fn dialled; /* of a dial; NULL: it is a call */
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
	struct loop_fd *watch;
	struct list jobs;
	peer_known_fn known;
	void *known_arg;
	uint32_t count;
	pthread_mutex_t lock;
};

static void peer_job_free(struct peer_job *job)
{
	while (job->fd_count != 0) {
		(void)close(job->fds[--job->fd_count]);
	}
	api_result_fini(&job->result);
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

static void *peer_thread(void *arg)
{
	struct peer_job *job = arg;
	struct peers *peers = job->peers;
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
	const struct api_call call = {
		.method = job->method,
		.path = job->path,
		.body = job->body,
		.timeout_ms = job->timeout_ms,
	};
	struct api_client *client = NULL;

	job->err = api_client_create(&cfg, &client, &job->eb);
	if (job->err == 0) {
		job->err = api_client_call(client, &call, &job->result, &job->eb);
	}
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
		peers->count--;
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
		} else {
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
	if (peers->done_fd < 0) {
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
	if (peers == NULL) {
		return;
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
	peers->count++;
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

int peer_call(struct peers *peers, const struct peer_call *call, peer_done_fn fn, void *arg,
              struct errbuf *eb)
{
	char pins[PEER_PINS_MAX] = "";
	struct peer_job *job;
	int err = peer_room(peers, eb);

	if (err == 0 && peers->known != NULL) {
		err = peers->known(peers->known_arg, call->node, pins, eb);
	}
	if (err != 0) {
		return err;
	}
	job = peer_job_new(peers, call, fn, arg);
	if (job == NULL) {
		return errbuf_sys(eb, -ENOMEM, "cannot call node %s", call->node);
	}
	memcpy(job->pins, pins, sizeof(job->pins));
	return peer_begin(peers, job, peer_thread, call->node, eb);
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
