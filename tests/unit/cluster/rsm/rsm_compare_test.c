/* SPDX-License-Identifier: Apache-2.0 */

/* Members whose logs are equal and whose states are not. A bus that delivers at once and to all. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/rsm/rsm.h"
#include "tests/lib/mem_store.h"
#include "tests/lib/test.h"

#define NODES 3u
#define SENT_MAX 256u

struct bus;

struct node {
	struct bus *bus;
	uint32_t id;
	struct mem_store *store;
	struct rsm *rsm;
	struct rsm_io io;
	struct rsm_machine machine;
	uint64_t value;
	uint64_t wrong; /* what its machine adds: 0 = it is sound */
};

struct sent {
	uint32_t from;
	uint32_t to; /* 0 = all */
	size_t len;
	uint8_t bytes[1024];
};

struct bus {
	struct node nodes[NODES];
	uint32_t count;
	struct sent *sent; /* owned [SENT_MAX] */
	uint32_t sent_count;
	uint64_t now_ns;
	uint32_t done;
};

static void send_to(struct node *n, uint32_t to, const void *buf, size_t len)
{
	struct sent *s = &n->bus->sent[n->bus->sent_count++];

	assert_true(n->bus->sent_count <= SENT_MAX && len <= sizeof(s->bytes));
	s->from = n->id;
	s->to = to;
	s->len = len;
	memcpy(s->bytes, buf, len);
}

static void io_multicast(void *arg, const void *buf, size_t len)
{
	send_to(arg, 0, buf, len);
}

static void io_unicast(void *arg, uint32_t nodeid, const void *buf, size_t len)
{
	send_to(arg, nodeid, buf, len);
}

static void io_changed(void *arg)
{
	(void)arg;
}

static int machine_apply(void *arg, const struct rsm_entry *entry, const struct rsm_sink *sink,
                         struct rsm_result *out)
{
	struct node *n = arg;

	n->value = n->value * 31 + entry->payload[0] + n->wrong;
	sink->put(sink->arg, "v", 1, &n->value, sizeof(n->value));
	*out = (struct rsm_result){.index = entry->index};
	return 0;
}

static void machine_newview(void *arg, uint64_t index, uint64_t epoch,
                            const struct rsm_newview_wire *members, uint32_t count)
{
	(void)arg;
	(void)index;
	(void)epoch;
	(void)members;
	(void)count;
}

static void machine_clear(void *arg)
{
	((struct node *)arg)->value = 0;
}

static int machine_load(void *arg, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
	struct node *n = arg;

	assert_int_equal(key_len, 1);
	assert_int_equal(*(const char *)key, 'v');
	assert_int_equal(value_len, sizeof(n->value));
	memcpy(&n->value, value, value_len);
	return 0;
}

static void machine_loaded(void *arg, uint64_t index)
{
	(void)arg;
	(void)index;
}

static struct guid uuid_of(uint32_t id)
{
	return (struct guid){{(uint8_t)id, 0xaa}};
}

static void start(struct bus *bus, uint32_t id)
{
	struct node *n = &bus->nodes[id - 1];
	struct rsm_mark mark = {.level = 1, .config = {.count = bus->count}};
	struct rsm_cfg cfg;

	for (uint32_t i = 1; i <= bus->count; i++) {
		mark.config.nodes[i - 1] =
			(struct view_node){.nodeid = i, .votes = 1, .uuid = uuid_of(i)};
	}
	n->bus = bus;
	n->id = id;
	n->store = mem_store_create(&mark);
	n->io = (struct rsm_io){
		.multicast = io_multicast, .unicast = io_unicast, .changed = io_changed, .arg = n};
	n->machine = (struct rsm_machine){.apply = machine_apply,
	                                  .newview = machine_newview,
	                                  .clear = machine_clear,
	                                  .load = machine_load,
	                                  .loaded = machine_loaded,
	                                  .arg = n};
	rsm_cfg_default(&cfg);
	cfg.nodeid = id;
	cfg.level_max = 1;
	cfg.uuid = uuid_of(id);
	cfg.incarnation.b[0] = (uint8_t)(0x10 + id);
	cfg.io = &n->io;
	cfg.machine = &n->machine;
	cfg.store = mem_store_rsm(n->store);
	assert_int_equal(rsm_create(&cfg, &n->rsm, NULL), 0);
}

static void deliver(struct bus *bus)
{
	const struct sent s = bus->sent[0];
	const struct view_peer from = {.nodeid = s.from, .pid = 7};

	bus->sent_count--;
	memmove(bus->sent, bus->sent + 1, bus->sent_count * sizeof(bus->sent[0]));
	for (uint32_t i = 0; i < bus->count; i++) {
		if (s.to == 0) {
			rsm_on_multicast(bus->nodes[i].rsm, &from, s.bytes, s.len);
		} else if (s.to == i + 1) {
			rsm_on_unicast(bus->nodes[i].rsm, s.from, s.bytes, s.len);
		}
	}
}

/* Disks and the bus, until nothing is under way. */
static void settle(struct bus *bus)
{
	for (bool busy = true; busy;) {
		busy = bus->sent_count != 0;
		if (busy) {
			deliver(bus);
		}
		for (uint32_t i = 0; i < bus->count; i++) {
			struct node *n = &bus->nodes[i];
			uint64_t token = mem_store_token(n->store);

			if (token != 0) {
				busy = true;
				mem_store_synced(n->store);
				rsm_on_synced(n->rsm, token, 0);
			}
		}
	}
}

/* @seconds of time, in which everybody ticks. */
static void pass(struct bus *bus, uint32_t seconds)
{
	for (uint32_t i = 0; i < seconds * 10; i++) {
		bus->now_ns += 100000000ull;
		for (uint32_t k = 0; k < bus->count; k++) {
			rsm_on_tick(bus->nodes[k].rsm, bus->now_ns, 0);
		}
		settle(bus);
	}
}

static void ring(struct bus *bus, uint64_t seq)
{
	const struct view_ring id = {.seq = seq, .nodeid = 1};
	struct view_peer peers[NODES];
	uint32_t members[NODES];

	for (uint32_t i = 0; i < bus->count; i++) {
		peers[i] = (struct view_peer){.nodeid = i + 1, .pid = 7};
		members[i] = i + 1;
	}
	for (uint32_t i = 0; i < bus->count; i++) {
		rsm_on_group(bus->nodes[i].rsm, peers, bus->count);
		rsm_on_ring(bus->nodes[i].rsm, &id, members, bus->count);
		rsm_on_quorum(bus->nodes[i].rsm, seq, true);
	}
	settle(bus);
	pass(bus, 1);
}

static void bus_init(struct bus *bus, uint32_t count)
{
	*bus = (struct bus){.count = count};
	bus->sent = calloc(SENT_MAX, sizeof(*bus->sent));
	assert_non_null(bus->sent);
	for (uint32_t i = 1; i <= count; i++) {
		start(bus, i);
	}
	ring(bus, 4);
}

static void bus_fini(struct bus *bus)
{
	for (uint32_t i = 0; i < bus->count; i++) {
		rsm_destroy(bus->nodes[i].rsm);
		mem_store_destroy(bus->nodes[i].store);
	}
	free(bus->sent);
}

static void on_done(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	(void)result;
	((struct bus *)arg)->done += outcome == RSM_DONE;
}

static void write_one(struct bus *bus, uint32_t node)
{
	const struct rsm_request q = {.type = RSM_COMMAND,
	                              .payload = "a",
	                              .len = 1,
	                              .deadline_ns = bus->now_ns + 1000000000ull,
	                              .fn = on_done,
	                              .arg = bus};
	uint32_t done = bus->done;

	assert_int_equal(rsm_propose(bus->nodes[node - 1].rsm, &q), 0);
	settle(bus);
	assert_int_equal(bus->done, done + 1);
}

static struct rsm_status status(const struct bus *bus, uint32_t node)
{
	struct rsm_status s;

	rsm_status(bus->nodes[node - 1].rsm, &s);
	return s;
}

static void members_that_do_the_same_go_on(void **state)
{
	struct bus bus;

	(void)state;
	bus_init(&bus, NODES);
	for (uint32_t i = 0; i < 10; i++) {
		write_one(&bus, 1 + i % NODES);
		pass(&bus, 1);
	}
	for (uint32_t i = 1; i <= NODES; i++) {
		assert_int_equal(status(&bus, i).state, RSM_ACTIVE);
		assert_int_equal(status(&bus, i).differs, 0);
		assert_int_equal(status(&bus, i).bad_frames, 0);
	}
	bus_fini(&bus);
}

/* Also the leader, which nobody contradicts with an acknowledgement. */
static void who_is_alone_with_its_state_stops(void **state)
{
	(void)state;
	for (uint32_t odd = 1; odd <= NODES; odd++) {
		struct bus bus;

		bus_init(&bus, NODES);
		write_one(&bus, 1);
		pass(&bus, 3);
		assert_int_equal(status(&bus, odd).state, RSM_ACTIVE);
		bus.nodes[odd - 1].wrong = 1;
		write_one(&bus, 2);
		bus.nodes[odd - 1].wrong = 0; /* once is enough */
		pass(&bus, 3);
		assert_int_equal(status(&bus, odd).state, RSM_HALTED);
		assert_non_null(strstr(status(&bus, odd).why, "than at the majority"));
		for (uint32_t i = 1; i <= NODES; i++) {
			if (i != odd) {
				assert_int_equal(status(&bus, i).state, RSM_ACTIVE);
				assert_int_equal(status(&bus, i).differs, odd);
			}
		}
		bus_fini(&bus);
	}
}

static void of_two_nobody_is_right(void **state)
{
	struct bus bus;

	(void)state;
	bus_init(&bus, 2);
	bus.nodes[1].wrong = 1;
	write_one(&bus, 1);
	pass(&bus, 3);
	assert_int_equal(status(&bus, 1).state, RSM_ACTIVE);
	assert_int_equal(status(&bus, 2).state, RSM_ACTIVE);
	assert_int_equal(status(&bus, 1).differs, 2);
	assert_int_equal(status(&bus, 2).differs, 1);
	/* The next epoch begins anew: nobody is accused of what it can not have done in it. */
	bus.nodes[1].wrong = 0;
	ring(&bus, 8);
	assert_int_equal(status(&bus, 1).differs, 0);
	bus_fini(&bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_that_do_the_same_go_on),
		cmocka_unit_test(who_is_alone_with_its_state_stops),
		cmocka_unit_test(of_two_nobody_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
