/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_BASE_API_THREAD_H
#define TESTS_UNIT_BASE_API_THREAD_H

/* thread - an API server on a thread of its own, for tests of the blocking client. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct tls_ctx;

struct api_thread {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char path[64];       /* of the unix socket */
	struct tls_ctx *tls; /* borrowed; NULL = no TLS */
	uint16_t port;
	bool ready;    /* lock */
	unsigned gone; /* lock: clients that vanished */
	struct loop *loop;
};

/* api_thread_start() - returns when it listens. */
void api_thread_start(struct api_thread *t, struct tls_ctx *tls);

/* api_thread_wait_gone() - until @count clients have vanished; false after 5 s. */
bool api_thread_wait_gone(struct api_thread *t, unsigned count);

void api_thread_stop(struct api_thread *t);

#endif
