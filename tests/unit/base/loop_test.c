/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "tests/lib/child.h"
#include "tests/lib/test.h"

/* A failing test must end: the loop stops by itself after this long, and the test sees it. */
#define DEADLINE_NS (20 * NS_PER_S)

struct fix {
	struct loop *loop;
	struct loop_timer *deadline;
	bool too_late;
	char order[64]; /* one letter per callback */
	size_t order_len;
};

static void deadline_passed(void *arg)
{
	struct fix *f = arg;

	f->too_late = true;
	loop_stop(f->loop);
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL || loop_create(&f->loop) != 0 ||
	       loop_timer_add(f->loop, DEADLINE_NS, deadline_passed, f, &f->deadline) != 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	loop_destroy(f->loop);
	free(f);
	return 0;
}

static void run(struct fix *f)
{
	loop_run(f->loop);
	assert_false(f->too_late);
}

static void note(struct fix *f, char letter)
{
	assert_in_range(f->order_len, 0, sizeof(f->order) - 2);
	f->order[f->order_len++] = letter;
}

static void stop_now(void *arg)
{
	struct fix *f = arg;

	loop_stop(f->loop);
}

/* ---- timers ---- */

struct tick {
	struct fix *f;
	struct loop_timer *timer;
	struct loop_timer *victim;
	char letter;
	int again;
	bool stop; /* the last time */
	uint64_t due_ns;
	uint64_t fired_ns;
};

static void tick_fired(void *arg)
{
	struct tick *t = arg;

	note(t->f, t->letter);
	t->fired_ns = clock_now_ns();
	if (t->victim != NULL) {
		loop_timer_del(t->victim);
		t->victim = NULL;
	}
	if (t->again-- > 0) {
		loop_timer_arm(t->timer, NS_PER_MS);
	} else {
		loop_timer_del(t->timer); /* from its own callback */
		if (t->stop) {
			loop_stop(t->f->loop);
		}
	}
}

static void add_tick(struct tick *t, uint64_t delay_ns)
{
	t->due_ns = clock_now_ns() + delay_ns;
	assert_int_equal(loop_timer_add(t->f->loop, delay_ns, tick_fired, t, &t->timer), 0);
}

static void arm_tick(struct tick *t, uint64_t delay_ns)
{
	t->due_ns = clock_now_ns() + delay_ns;
	loop_timer_arm(t->timer, delay_ns);
}

static void timers_fire_in_order_and_never_early(void **state)
{
	struct fix *f = *state;
	struct tick a = {.f = f, .letter = 'a'};
	struct tick b = {.f = f, .letter = 'b'};
	struct tick c = {.f = f, .letter = 'c', .stop = true};
	uint64_t began_ns;

	add_tick(&c, 8 * NS_PER_MS);
	add_tick(&b, 5 * NS_PER_MS);
	add_tick(&a, 0);
	/* Whoever is kept waiting between two of them gives them another order: once more then. */
	do {
		began_ns = clock_now_ns();
		arm_tick(&c, 8 * NS_PER_MS);
		arm_tick(&b, 5 * NS_PER_MS);
		arm_tick(&a, 0);
	} while (clock_now_ns() - began_ns >= 3 * NS_PER_MS);
	run(f);
	assert_string_equal(f->order, "abc");
	assert_true(a.fired_ns >= a.due_ns);
	assert_true(b.fired_ns >= b.due_ns);
	assert_true(c.fired_ns >= c.due_ns);
}

static void a_timer_can_be_armed_again_in_its_callback(void **state)
{
	struct fix *f = *state;
	struct tick t = {.f = f, .letter = 't', .again = 4, .stop = true};

	add_tick(&t, 0);
	run(f);
	assert_string_equal(f->order, "ttttt");
	assert_true(t.fired_ns >= t.due_ns + 4 * NS_PER_MS);
}

static void a_due_timer_that_is_deleted_does_not_fire(void **state)
{
	struct fix *f = *state;
	struct tick killer = {.f = f, .letter = 'k'};
	struct tick victim = {.f = f, .letter = 'v'};
	struct loop_timer *end;

	add_tick(&killer, 0);
	add_tick(&victim, 1);
	killer.victim = victim.timer;
	assert_int_equal(loop_timer_add(f->loop, 2, stop_now, f, &end), 0);
	/* All three are due when the loop looks. */
	while (clock_now_ns() < victim.due_ns + NS_PER_MS) {
	}
	run(f);
	assert_string_equal(f->order, "k");
}

static void disarmed_timers_wait_until_armed_again(void **state)
{
	struct fix *f = *state;
	struct tick t = {.f = f, .letter = 't'};
	struct loop_timer *end;

	assert_int_equal(loop_timer_new(f->loop, tick_fired, &t, &t.timer), 0);
	loop_timer_disarm(t.timer); /* nothing to do */
	loop_timer_arm(t.timer, UINT64_MAX);
	loop_timer_arm(t.timer, 0);
	loop_timer_disarm(t.timer);
	assert_int_equal(loop_timer_add(f->loop, 5 * NS_PER_MS, stop_now, f, &end), 0);
	run(f);
	assert_string_equal(f->order, "");
	loop_timer_arm(t.timer, 0);
	loop_timer_arm(end, 5 * NS_PER_MS);
	run(f);
	assert_string_equal(f->order, "t");
}

#define MANY 500

struct many {
	struct fix *f;
	struct loop_timer *timer;
	uint64_t due_lo_ns; /* armed between: due_lo - delay and due_hi - delay */
	uint64_t due_hi_ns;
	int *left;
	uint64_t *last_hi_ns;
	bool fired;
	bool bad;
};

static void many_fired(void *arg)
{
	struct many *m = arg;

	m->bad = m->fired || clock_now_ns() < m->due_lo_ns || m->due_hi_ns < *m->last_hi_ns;
	m->fired = true;
	*m->last_hi_ns = m->due_lo_ns;
	if (--*m->left == 0) {
		loop_stop(m->f->loop);
	}
}

static void many_timers_fire_once_each_in_order_of_their_deadlines(void **state)
{
	struct fix *f = *state;
	static struct many all[MANY];
	uint64_t last_ns = 0;
	int left = MANY;
	uint32_t seed = 1;

	for (int i = 0; i < MANY; i++) {
		seed = seed * 1664525u + 1013904223u;

		uint64_t delay_ns = (uint64_t)(seed >> 8) % (20 * NS_PER_MS);

		all[i] = (struct many){.f = f, .left = &left, .last_hi_ns = &last_ns};
		all[i].due_lo_ns = clock_now_ns() + delay_ns;
		assert_int_equal(
			loop_timer_add(f->loop, delay_ns, many_fired, &all[i], &all[i].timer), 0);
		all[i].due_hi_ns = clock_now_ns() + delay_ns;
	}
	/* Every third goes, so that the heap is tested with holes too. */
	for (int i = 0; i < MANY; i += 3) {
		loop_timer_del(all[i].timer);
		all[i].timer = NULL;
		left--;
	}
	run(f);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(all[i].fired, i % 3 != 0);
		assert_false(all[i].bad);
	}
}

struct busy {
	struct fix *f;
	struct loop_timer *timer;
	struct loop_timer *other;
	uint64_t count;
	bool read;
	bool late;
	int fd;
};

static void busy_again(void *arg)
{
	struct busy *b = arg;

	b->count++;
	if (b->read && b->late) {
		loop_stop(b->f->loop);
	} else {
		loop_timer_arm(b->timer, 0);
	}
}

static void busy_read(int fd, uint32_t events, void *arg)
{
	struct busy *b = arg;
	char c = 0;

	(void)events;
	assert_int_equal(read(fd, &c, 1), 1);
	b->read = true;
}

static void busy_late(void *arg)
{
	struct busy *b = arg;

	b->late = true;
	assert_int_equal(write(b->fd, "x", 1), 1);
}

static void a_timer_that_is_always_due_keeps_nobody_waiting(void **state)
{
	struct busy b = {.f = *state};
	struct loop *loop = b.f->loop;
	struct loop_fd *watch;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	b.fd = p[1];
	assert_int_equal(loop_fd_add(loop, p[0], LOOP_READ, busy_read, &b, &watch), 0);
	assert_int_equal(loop_timer_add(loop, 0, busy_again, &b, &b.timer), 0);
	assert_int_equal(loop_timer_add(loop, NS_PER_MS, busy_late, &b, &b.other), 0);
	run(b.f);
	assert_true(b.read && b.late && b.count > 1);
	loop_fd_del(watch);
	(void)close(p[0]);
	(void)close(p[1]);
}

/* What is ready when a timer with no delay is armed comes before it: who collects what is said in
 * one turn, to say it at once, relies on it. */
static void without_a_delay_means_after_what_is_ready(void **state)
{
	struct busy b = {.f = *state, .late = true};
	struct loop *loop = b.f->loop;
	struct loop_fd *watch;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(loop_fd_add(loop, p[0], LOOP_READ, busy_read, &b, &watch), 0);
	for (int i = 0; i < 8; i++) {
		b.read = false;
		b.count = 0;
		assert_int_equal(loop_timer_add(loop, 0, busy_again, &b, &b.timer), 0);
		assert_int_equal(write(p[1], "x", 1), 1);
		run(b.f);
		assert_int_equal(b.count, 1); /* it had been read */
		loop_timer_del(b.timer);
	}
	loop_fd_del(watch);
	(void)close(p[0]);
	(void)close(p[1]);
}

struct put_off {
	struct tick later;
	struct loop_timer *timer;
	int times;
};

static void put_it_off(void *arg)
{
	struct put_off *p = arg;

	if (p->later.fired_ns != 0) {
		return; /* a slow machine: it was not put off in time */
	}
	arm_tick(&p->later, 3 * NS_PER_MS);
	if (--p->times > 0) {
		loop_timer_arm(p->timer, NS_PER_MS);
	}
}

static void a_timer_that_is_put_off_fires_once_and_not_early(void **state)
{
	struct fix *f = *state;
	struct put_off p = {.later = {.f = f, .letter = 'l', .stop = true}, .times = 10};

	add_tick(&p.later, 3600 * NS_PER_S);
	assert_int_equal(loop_timer_add(f->loop, 0, put_it_off, &p, &p.timer), 0);
	run(f);
	assert_true(p.later.fired_ns >= p.later.due_ns);
	assert_string_equal(f->order, "l");
	loop_timer_del(p.timer);
}

/* ---- descriptors ---- */

struct watch {
	struct fix *f;
	struct loop_fd *handle;
	struct watch *victim;
	char letter;
	uint32_t events;
	int reopen[2];
};

static void read_and_stop(int fd, uint32_t events, void *arg)
{
	struct watch *w = arg;
	char c = 0;

	assert_int_equal(read(fd, &c, 1), 1);
	w->events = events;
	note(w->f, c);
	loop_fd_del(w->handle); /* from its own callback */
	loop_stop(w->f->loop);
}

static void a_readable_descriptor_calls_its_function(void **state)
{
	struct fix *f = *state;
	struct watch w = {.f = f};
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(loop_fd_add(f->loop, p[0], LOOP_READ, read_and_stop, &w, &w.handle), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	run(f);
	assert_string_equal(f->order, "x");
	assert_int_equal(w.events, LOOP_READ);
	(void)close(p[0]);
	(void)close(p[1]);
}

static void bad_descriptors_are_refused(void **state)
{
	struct fix *f = *state;
	struct watch w = {.f = f};
	struct loop_fd *second = (struct loop_fd *)&w;
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(loop_fd_add(f->loop, p[0], LOOP_READ, read_and_stop, &w, &w.handle), 0);
	assert_int_equal(loop_fd_add(f->loop, p[0], LOOP_READ, read_and_stop, &w, &second),
	                 -EEXIST);
	assert_null(second);
	assert_int_equal(loop_fd_add(f->loop, file, LOOP_READ, read_and_stop, &w, &second), -EPERM);
	assert_int_equal(loop_fd_add(f->loop, 1 << 20, LOOP_READ, read_and_stop, &w, &second),
	                 -EBADF);
	/* The refused attempts left the first one alone. */
	assert_int_equal(write(p[1], "x", 1), 1);
	run(f);
	assert_string_equal(f->order, "x");
	loop_fd_del(NULL);
	(void)close(file);
	(void)close(p[0]);
	(void)close(p[1]);
}

/* Delete the other of two that are ready, and reuse its number for a new one. */
static void kill_other(int fd, uint32_t events, void *arg)
{
	struct watch *w = arg;
	struct watch *victim = w->victim;
	char c;

	(void)events;
	assert_int_equal(read(fd, &c, 1), 1);
	note(w->f, w->letter);
	if (victim == NULL || victim->handle == NULL) {
		loop_stop(w->f->loop);
		return;
	}
	loop_fd_del(victim->handle);
	victim->handle = NULL;
	(void)close(victim->reopen[0]);
	assert_int_equal(dup2(w->reopen[0], victim->reopen[0]), victim->reopen[0]);
	w->letter = 'n';
	w->victim = NULL;
	assert_int_equal(loop_fd_add(w->f->loop, victim->reopen[0], LOOP_READ, kill_other, w,
	                             &victim->handle),
	                 0);
	loop_fd_del(w->handle);
	w->handle = NULL;
	assert_int_equal(write(w->reopen[1], "y", 1), 1);
}

static void deleting_a_ready_descriptor_and_reusing_its_number_calls_only_the_new_one(void **state)
{
	struct fix *f = *state;
	struct watch a = {.f = f, .letter = 'a'};
	struct watch b = {.f = f, .letter = 'b', .victim = &a};

	a.victim = &b;
	assert_int_equal(pipe2(a.reopen, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b.reopen, O_CLOEXEC), 0);
	assert_int_equal(loop_fd_add(f->loop, a.reopen[0], LOOP_READ, kill_other, &a, &a.handle),
	                 0);
	assert_int_equal(loop_fd_add(f->loop, b.reopen[0], LOOP_READ, kill_other, &b, &b.handle),
	                 0);
	assert_int_equal(write(a.reopen[1], "x", 1), 1);
	assert_int_equal(write(b.reopen[1], "x", 1), 1);
	run(f);
	assert_true(f->order[0] == 'a' || f->order[0] == 'b');
	assert_string_equal(f->order + 1, "n"); /* not the deleted one, then the new one */
	loop_fd_del(a.handle);
	loop_fd_del(b.handle);
	for (int i = 0; i < 2; i++) {
		(void)close(a.reopen[i]);
		(void)close(b.reopen[i]);
	}
}

static void mute_and_stop(int fd, uint32_t events, void *arg)
{
	struct watch *w = arg;

	(void)fd;
	w->events = events;
	note(w->f, 'c');
	assert_int_equal(loop_fd_mod(w->handle, 0), 0);
	loop_stop(w->f->loop);
}

static void without_events_not_even_a_hang_up_is_reported(void **state)
{
	struct fix *f = *state;
	struct watch w = {.f = f};
	struct loop_timer *end;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(loop_fd_add(f->loop, p[0], 0, mute_and_stop, &w, &w.handle), 0);
	(void)close(p[1]);
	assert_int_equal(loop_timer_add(f->loop, 5 * NS_PER_MS, stop_now, f, &end), 0);
	run(f);
	assert_string_equal(f->order, "");
	assert_int_equal(loop_fd_mod(w.handle, LOOP_READ), 0);
	run(f);
	assert_string_equal(f->order, "c");
	assert_int_equal(w.events, LOOP_READ);
	loop_timer_arm(end, 5 * NS_PER_MS); /* silent again */
	run(f);
	assert_string_equal(f->order, "c");
	loop_fd_del(w.handle);
	(void)close(p[0]);
}

static void a_writer_learns_that_the_reader_is_gone(void **state)
{
	struct fix *f = *state;
	struct watch w = {.f = f};
	struct loop_timer *end;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(fcntl(p[1], F_SETFL, O_NONBLOCK), 0);
	while (write(p[1], f->order, sizeof(f->order)) > 0) { /* full: not writable */
	}
	assert_int_equal(loop_fd_add(f->loop, p[1], LOOP_WRITE, mute_and_stop, &w, &w.handle), 0);
	assert_int_equal(loop_timer_add(f->loop, 2 * NS_PER_MS, stop_now, f, &end), 0);
	run(f);
	assert_string_equal(f->order, "");
	(void)close(p[0]);
	run(f);
	assert_string_equal(f->order, "c");
	assert_int_equal(w.events, LOOP_WRITE);
	loop_fd_del(w.handle);
	(void)close(p[1]);
}

/* ---- posting and stopping ---- */

#define POSTERS 4
#define POSTS 2000

struct poster {
	struct fix *f;
	pthread_t thread;
	uint32_t next; /* loop's thread */
	bool bad;      /* loop's thread */
	int *left;     /* loop's thread */
	struct posted {
		struct poster *poster;
		uint32_t number;
	} posted[POSTS];
};

static void posted_fn(void *arg)
{
	const struct posted *p = arg;

	p->poster->bad |= p->number != p->poster->next++;
	if (--*p->poster->left == 0) {
		loop_stop(p->poster->f->loop);
	}
}

static void *poster_main(void *arg)
{
	struct poster *p = arg;

	for (uint32_t i = 0; i < POSTS; i++) {
		p->posted[i] = (struct posted){p, i};
		while (loop_post(p->f->loop, posted_fn, &p->posted[i]) != 0) {
		}
	}
	return NULL;
}

static void posts_of_many_threads_all_arrive_in_each_ones_order(void **state)
{
	struct fix *f = *state;
	static struct poster posters[POSTERS];
	int left = POSTERS * POSTS;

	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){.f = f, .left = &left};
		assert_int_equal(pthread_create(&posters[i].thread, NULL, poster_main, &posters[i]),
		                 0);
	}
	run(f);
	for (int i = 0; i < POSTERS; i++) {
		assert_int_equal(pthread_join(posters[i].thread, NULL), 0);
		assert_false(posters[i].bad);
		assert_int_equal(posters[i].next, POSTS);
	}
}

static void note_a(void *arg)
{
	note(arg, 'a');
}

static void note_b_and_stop(void *arg)
{
	note(arg, 'b');
	loop_stop(((struct fix *)arg)->loop);
}

static void a_stop_leaves_the_rest_for_the_next_run(void **state)
{
	struct fix *f = *state;

	assert_int_equal(loop_post(f->loop, note_a, f), 0);
	assert_int_equal(loop_post(f->loop, note_b_and_stop, f), 0);
	assert_int_equal(loop_post(f->loop, note_a, f), 0);
	assert_int_equal(loop_post(f->loop, note_b_and_stop, f), 0);
	assert_int_equal(loop_post(f->loop, note_a, f), 0); /* dropped by loop_destroy() */
	run(f);
	assert_string_equal(f->order, "ab");
	run(f);
	assert_string_equal(f->order, "abab");
}

static void a_stop_before_the_run_ends_it_at_once(void **state)
{
	struct fix *f = *state;

	loop_stop(f->loop);
	assert_int_equal(loop_post(f->loop, note_a, f), 0);
	run(f);
	assert_string_equal(f->order, "");
}

static void *stopper_main(void *arg)
{
	loop_stop(arg);
	return NULL;
}

static void another_thread_stops_a_sleeping_loop(void **state)
{
	struct fix *f = *state;

	for (int i = 0; i < 50; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, stopper_main, f->loop), 0);
		run(f);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
}

/* ---- signals ---- */

static void signal_noted(int signo, void *arg)
{
	struct fix *f = arg;

	note(f, signo == SIGUSR1 ? '1' : '2');
	loop_stop(f->loop);
}

static void raise_usr1(void *arg)
{
	(void)arg;
	(void)raise(SIGUSR1);
}

static void signals_arrive_as_calls_even_if_they_were_blocked(void **state)
{
	struct fix *f = *state;
	struct loop_signal *s;
	struct loop_timer *t;
	struct loop *other;
	sigset_t set;
	struct sigaction now;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	assert_int_equal(loop_create(&other), 0);
	assert_int_equal(loop_signal_add(f->loop, SIGUSR1, signal_noted, f, &s), 0);
	loop_destroy(other); /* another loop coming and going changes nothing */
	assert_int_equal(loop_timer_add(f->loop, NS_PER_MS, raise_usr1, NULL, &t), 0);
	run(f);
	assert_string_equal(f->order, "1");
	loop_signal_del(s);
	loop_signal_del(NULL);
	assert_int_equal(sigaction(SIGUSR1, NULL, &now), 0);
	assert_true(now.sa_handler == SIG_DFL);
}

static void one_loop_of_a_process_takes_signals(void **state)
{
	struct fix *f = *state;
	struct loop_signal *s;
	struct loop_signal *t;
	struct loop *other;

	assert_int_equal(loop_create(&other), 0);
	assert_int_equal(loop_signal_add(f->loop, SIGKILL, signal_noted, f, &s), -EINVAL);
	assert_int_equal(loop_signal_add(f->loop, SIGSEGV, signal_noted, f, &s), -EINVAL);
	assert_int_equal(loop_signal_add(f->loop, 0, signal_noted, f, &s), -EINVAL);
	assert_int_equal(loop_signal_add(f->loop, 65, signal_noted, f, &s), -EINVAL);
	/* The refusals did not claim the signals for that loop. */
	assert_int_equal(loop_signal_add(other, SIGUSR2, signal_noted, f, &s), 0);
	assert_int_equal(loop_signal_add(other, SIGUSR2, signal_noted, f, &t), -EEXIST);
	assert_int_equal(loop_signal_add(f->loop, SIGUSR1, signal_noted, f, &t), -EBUSY);
	assert_null(t);
	loop_destroy(other);
	assert_int_equal(loop_signal_add(f->loop, SIGUSR2, signal_noted, f, &s), 0);
	(void)raise(SIGUSR2);
	run(f);
	assert_string_equal(f->order, "2");
}

/* ---- the environment ---- */

/* A timer of 1 ms, 100 times, on each of several loops at once; none waits for another event. */
struct loner {
	struct fix f;
	pthread_t thread;
	struct loop_timer *timer;
	int left;
};

static void loner_tick(void *arg)
{
	struct loner *l = arg;

	if (--l->left == 0) {
		loop_stop(l->f.loop);
	} else {
		loop_timer_arm(l->timer, NS_PER_MS);
	}
}

static void *loner_main(void *arg)
{
	loop_run(((struct loner *)arg)->f.loop);
	return NULL;
}

static void loops_on_several_threads_do_not_disturb_each_other(void **state)
{
	struct loner all[4] = {0};

	(void)state;
	for (int i = 0; i < 4; i++) {
		all[i].left = 100;
		assert_int_equal(loop_create(&all[i].f.loop), 0);
		assert_int_equal(loop_timer_add(all[i].f.loop, DEADLINE_NS, deadline_passed,
		                                &all[i].f, &all[i].f.deadline),
		                 0);
		assert_int_equal(
			loop_timer_add(all[i].f.loop, 0, loner_tick, &all[i], &all[i].timer), 0);
		assert_int_equal(pthread_create(&all[i].thread, NULL, loner_main, &all[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(all[i].thread, NULL), 0);
		assert_false(all[i].f.too_late);
		loop_destroy(all[i].f.loop);
	}
}

static int create_without_descriptors(void *arg)
{
	struct loop *loop = NULL;

	(void)arg;
	for (rlim_t n = 3; n < 64; n++) {
		const struct rlimit lim = {n, 64};

		if (setrlimit(RLIMIT_NOFILE, &lim) != 0) {
			return 10;
		}

		int err = loop_create(&loop);

		if (err == 0) {
			loop_destroy(loop); /* gives back what it had: it works again */
			err = n == 3 ? 11 : loop_create(&loop);
			loop_destroy(loop);
			return err;
		}
		if (err != -EMFILE || loop != NULL) {
			return 12;
		}
	}
	return 13;
}

static void running_out_of_descriptors_is_an_error_code(void **state)
{
	struct child c;

	(void)state;
	assert_int_equal(child_run(create_without_descriptors, NULL, &c), 0);
	assert_int_equal(c.exit_status, 0);
}

static void *add_from_outside(void *arg)
{
	struct loop_timer *t;

	return loop_timer_new(arg, stop_now, NULL, &t) == 0 ? t : NULL;
}

static void spawn_add_from_outside(void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, add_from_outside, arg) == 0) {
		(void)pthread_join(thread, NULL);
	}
	_exit(0);
}

static int misuse(void *arg)
{
	struct loop *loop;

	(void)arg;
	if (loop_create(&loop) != 0 || loop_post(loop, spawn_add_from_outside, loop) != 0) {
		return 1;
	}
	loop_run(loop);
	return 0;
}

static void a_call_from_the_wrong_thread_is_caught(void **state)
{
	struct child c;

	(void)state;
	assert_int_equal(child_run(misuse, NULL, &c), 0);
	assert_int_equal(c.signo, SIGABRT);
	assert_non_null(strstr(c.text, "CHECK("));
}

static void ignore_fd(int fd, uint32_t events, void *arg)
{
	(void)fd;
	(void)events;
	(void)arg;
}

static int use_everything(int fd)
{
	struct loop *loop;
	struct loop_fd *h;
	struct loop_timer *t;
	struct loop_signal *s;
	int err = loop_create(&loop);

	if (err != 0) {
		assert_null(loop);
		return err;
	}
	err = loop_fd_add(loop, fd, LOOP_READ, ignore_fd, NULL, &h);
	for (int i = 0; err == 0 && i < 20; i++) { /* the heap grows once */
		err = loop_timer_add(loop, 0, note_a, NULL, &t);
	}
	if (err == 0) {
		err = loop_signal_add(loop, SIGUSR1, signal_noted, NULL, &s);
	}
	if (err == 0) {
		err = loop_post(loop, note_a, NULL);
	}
	loop_destroy(loop);
	return err;
}

static void every_allocation_may_fail(void **state)
{
	uint32_t k = 0;
	int p[2];
	int err;

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	do {
		fault_arm(FAULT_ALLOC, ++k);
		err = use_everything(p[0]);
		assert_int_equal(err, fault_hit(FAULT_ALLOC) ? -ENOMEM : 0);
	} while (err != 0);
	fault_arm(FAULT_ALLOC, 0);
	assert_in_range(k, 25, 60); /* 3 descriptors, 20 timers...: it did count */
	(void)close(p[0]);
	(void)close(p[1]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(timers_fire_in_order_and_never_early),
		TEST(a_timer_can_be_armed_again_in_its_callback),
		TEST(a_due_timer_that_is_deleted_does_not_fire),
		TEST(disarmed_timers_wait_until_armed_again),
		TEST(many_timers_fire_once_each_in_order_of_their_deadlines),
		TEST(a_timer_that_is_always_due_keeps_nobody_waiting),
		TEST(without_a_delay_means_after_what_is_ready),
		TEST(a_timer_that_is_put_off_fires_once_and_not_early),
		TEST(a_readable_descriptor_calls_its_function),
		TEST(bad_descriptors_are_refused),
		TEST(deleting_a_ready_descriptor_and_reusing_its_number_calls_only_the_new_one),
		TEST(without_events_not_even_a_hang_up_is_reported),
		TEST(a_writer_learns_that_the_reader_is_gone),
		TEST(posts_of_many_threads_all_arrive_in_each_ones_order),
		TEST(a_stop_leaves_the_rest_for_the_next_run),
		TEST(a_stop_before_the_run_ends_it_at_once),
		TEST(another_thread_stops_a_sleeping_loop),
		TEST(signals_arrive_as_calls_even_if_they_were_blocked),
		TEST(one_loop_of_a_process_takes_signals),
		cmocka_unit_test(loops_on_several_threads_do_not_disturb_each_other),
		cmocka_unit_test(running_out_of_descriptors_is_an_error_code),
		cmocka_unit_test(a_call_from_the_wrong_thread_is_caught),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
