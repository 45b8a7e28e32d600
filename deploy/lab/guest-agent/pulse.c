/* SPDX-License-Identifier: Apache-2.0 */
#include "deploy/lab/guest-agent/pulse.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "deploy/lab/guest-agent/say.h"

#define PERIOD_NS (2ULL * 1000 * 1000)

struct pulse {
	_Atomic uint64_t longest_ns;
	_Atomic uint64_t tick_ns; /* 0: silent */
	bool beats;               /* of the loop that commands come from */
};

static void *beat(void *arg)
{
	struct pulse *p = arg;
	uint64_t last_ns = now_ns();
	uint64_t next_tick_ns = 0;

	for (uint64_t count = 0;;) {
		sleep_ns(PERIOD_NS);
		const uint64_t now = now_ns();
		const uint64_t gap_ns = now - last_ns;
		const uint64_t tick_ns = atomic_load(&p->tick_ns);

		last_ns = now;
		if (gap_ns > atomic_load(&p->longest_ns)) {
			atomic_store(&p->longest_ns, gap_ns);
		}
		if (tick_ns && now >= next_tick_ns) {
			next_tick_ns = now + tick_ns;
			say(STDOUT_FILENO, "tick %llu gap_us=%llu", (unsigned long long)++count,
			    (unsigned long long)(gap_ns / 1000));
		}
	}
	return NULL;
}

struct pulse *pulse_create(void)
{
	return calloc(1, sizeof(struct pulse));
}

/* Not before somebody asks: 500 wake-ups a second are a fifth of an emulated processor. */
static int begin(struct pulse *p)
{
	pthread_t thread;

	if (p->beats) {
		return 0;
	}
	const int err = pthread_create(&thread, NULL, beat, p);

	p->beats = err == 0;
	return -err;
}

int pulse_command(struct pulse *p, const struct args *a, int fd)
{
	uint64_t ms;
	int err = begin(p);

	if (err) {
		return err;
	}
	if (args_is(a, 0, "pulse")) {
		say(fd, "ok pulse longest_us=%llu",
		    (unsigned long long)(atomic_exchange(&p->longest_ns, 0) / 1000));
		return 0;
	}
	err = args_number(a, "ms", 1000, 3600000, &ms);

	if (err == 0) {
		atomic_store(&p->tick_ns, ms * 1000000);
		say(fd, "ok tick");
	}
	return err;
}
