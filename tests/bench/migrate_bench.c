/* SPDX-License-Identifier: Apache-2.0 */

/*
 * migrate_bench - whole migrations of simulated guests over loopback, both ends in this process.
 *
 *	migrate_bench [-m MiB] [-r repeats] [-t case]
 *
 * -t: only cases whose name contains this. The guest's writer stands for vCPUs; its time
 * is in the processor figures.
 * Figures per case: rate (guest memory in total time), total, blackout, processor seconds per GiB
 * of both ends together. "cold": the destination's memory was never touched, as that of a new VM.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/tls.h"
#include "tests/bench/bench.h"
#include "tests/lib/move_pair.h"
#include "tests/lib/pki.h"

#define GIB 1073741824.0

struct bench_case {
	const char *name;
	uint32_t random_share; /* of 8 */
	uint32_t dirty_mb_s;
	uint32_t streams;
	uint32_t limit_ms;
	enum source_pack pack;
	bool warm;
	bool tls;
	bool crc;
	bool compressible;
};

static const struct bench_case table[] = {
	{.name = "noise_cold_4", .random_share = 8, .crc = true, .streams = 4, .limit_ms = 20},
	{.name = "half_zero_cold_4", .random_share = 4, .crc = true, .streams = 4, .limit_ms = 20},
	{.name = "noise_warm_1", .random_share = 8, .warm = true, .streams = 1, .limit_ms = 20},
	{.name = "noise_warm_2", .random_share = 8, .warm = true, .streams = 2, .limit_ms = 20},
	{.name = "noise_warm_4", .random_share = 8, .warm = true, .streams = 4, .limit_ms = 20},
	{.name = "noise_warm_4_crc",
         .random_share = 8,
         .warm = true,
         .crc = true,
         .streams = 4,
         .limit_ms = 20},
	{.name = "half_zero_warm_4", .random_share = 4, .warm = true, .streams = 4, .limit_ms = 20},
	{.name = "noise_warm_4_tls",
         .random_share = 8,
         .warm = true,
         .tls = true,
         .streams = 4,
         .limit_ms = 20},
	{.name = "dirty_100_warm_4",
         .random_share = 8,
         .dirty_mb_s = 100,
         .warm = true,
         .streams = 4,
         .limit_ms = 20},
	{.name = "dirty_300_warm_4",
         .random_share = 8,
         .dirty_mb_s = 300,
         .warm = true,
         .streams = 4,
         .limit_ms = 20},
	{.name = "dirty_600_warm_4",
         .random_share = 8,
         .dirty_mb_s = 600,
         .warm = true,
         .streams = 4,
         .limit_ms = 20},
	{.name = "dirty_300_warm_4_tls",
         .random_share = 8,
         .dirty_mb_s = 300,
         .warm = true,
         .tls = true,
         .streams = 4,
         .limit_ms = 20},
	{.name = "lz4_warm_4",
         .random_share = 8,
         .warm = true,
         .streams = 4,
         .limit_ms = 20,
         .pack = SOURCE_PACK_LZ4,
         .compressible = true},
};

static struct move_pair pair;
static struct move_guest guest;
static struct move_guest place;
static struct pki pki;
static struct tls_ctx *nodes[2];

static double cpu_s(void)
{
	struct rusage r;

	CHECK(getrusage(RUSAGE_SELF, &r) == 0);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void figure(const struct bench_case *c, const char *what, double value, const char *unit)
{
	char name[96];

	(void)snprintf(name, sizeof(name), "%s.%s", c->name, what);
	bench_figure(name, value, unit);
}

static void report(const struct bench_case *c, double cpu)
{
	const struct move_result *r = &pair.at_source.result;

	if (r->outcome != MOVE_DONE) {
		printf("# %s: %s: %s\n", c->name, move_outcome_name(r->outcome), r->why.text);
		return;
	}
	CHECK(move_guest_equal(&guest, &place));
	figure(c, "rate", (double)r->memory_bytes / ((double)r->total_ns / 1e9) / 1e6, "MB/s");
	figure(c, "total", (double)r->total_ns / 1e9, "s");
	figure(c, "blackout", (double)r->blackout_ns / 1e6, "ms");
	figure(c, "rounds", r->rounds, "");
	figure(c, "throttle", r->throttle_percent, "%");
	figure(c, "cpu", cpu / ((double)r->memory_bytes / GIB), "s/GiB");
}

static void run_case(const struct bench_case *c, uint64_t bytes)
{
	const struct move_guest_cfg cfg = {
		.bytes = bytes,
		.random_share = c->random_share,
		.dirty_mb_s = c->dirty_mb_s,
		.working_bytes = bytes / 4,
		.state_bytes = 100000,
		.incompressible = !c->compressible,
	};
	int from[1 + STREAM_CONNECTIONS_MAX];
	int to[1 + STREAM_CONNECTIONS_MAX];

	move_guest_create(&guest, &cfg);
	move_guest_place(&place, &guest);
	if (c->warm) {
		memset(place.ranges[0].host, 1, place.ranges[0].len_bytes);
		memset(place.ranges[0].host, 0, place.ranges[0].len_bytes);
		memset(place.ranges[1].host, 1, place.ranges[1].len_bytes);
		memset(place.ranges[1].host, 0, place.ranges[1].len_bytes);
	}
	move_pair_init(&pair, &guest, &place);
	pair.source_cfg.policy.blackout_max_ns = c->limit_ms * NS_PER_MS;
	pair.source_cfg.policy.overhead_ns = 2 * NS_PER_MS;
	pair.source_cfg.no_bulk_crc = !c->crc;
	pair.source_cfg.pack = c->pack;
	if (c->tls) {
		pair.source_cfg.tls = nodes[0];
		pair.source_cfg.plain = false;
		pair.target_cfg.tls = nodes[1];
		pair.target_cfg.plain = false;
	}
	move_pair_sockets(1 + c->streams, from, to);

	double before = cpu_s();

	CHECK(move_pair_start(&pair, 1 + c->streams, from, to) == 0);
	move_pair_finish(&pair);
	report(c, cpu_s() - before);
	move_guest_destroy(&place);
	move_guest_destroy(&guest);
}

static struct tls_ctx *node(const char *name)
{
	struct pki_files files;
	struct tls_ctx *ctx;

	pki_issue(&pki, TLS_KIND_NODE, name, pki_now_s(), &files);

	const struct tls_cfg cfg = {
		.cert_file = files.cert,
		.key_file = files.key,
		.ca_file = files.ca,
	};

	CHECK(tls_ctx_create(&cfg, &ctx, NULL) == 0);
	return ctx;
}

int main(int argc, char **argv)
{
	uint64_t mib = 2048;
	unsigned repeats = 1;
	const char *only = "";
	int c;

	while ((c = getopt(argc, argv, "m:r:t:")) != -1) {
		if (c == 'm') {
			mib = strtoull(optarg, NULL, 10);
		} else if (c == 'r') {
			repeats = (unsigned)strtoul(optarg, NULL, 10);
		} else if (c == 't') {
			only = optarg;
		} else {
			(void)fprintf(stderr,
			              "usage: migrate_bench [-m MiB] [-r repeats] [-t case]\n");
			return 2;
		}
	}
	if (mib < 8) {
		(void)fprintf(stderr, "migrate_bench: at least 8 MiB\n");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	pki_create(&pki, "bench");
	nodes[0] = node("n1");
	nodes[1] = node("n2");
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		for (unsigned n = 0; n < repeats && strstr(table[i].name, only) != NULL; n++) {
			run_case(&table[i], mib << 20);
		}
	}
	tls_ctx_destroy(nodes[0]);
	tls_ctx_destroy(nodes[1]);
	pki_destroy(&pki);
	return 0;
}
