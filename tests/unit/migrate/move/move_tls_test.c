/* SPDX-License-Identifier: Apache-2.0 */

/* Migrations inside TLS: both ends show certificates of one CA, or nothing moves. */

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/tls.h"
#include "tests/lib/move_pair.h"
#include "tests/lib/pki.h"
#include "tests/lib/test.h"

static struct move_pair pair;
static struct move_guest guest;
static struct move_guest place;
static struct pki ours;
static struct pki theirs;

static const struct move_guest_cfg busy = {
	.bytes = 8u << 20,
	.random_share = 4,
	.dirty_mb_s = 40,
	.working_bytes = 4u << 20,
	.state_bytes = 300000,
};

static struct tls_ctx *node(struct pki *pki, const char *name)
{
	struct pki_files files;
	struct tls_ctx *ctx;

	pki_issue(pki, TLS_KIND_NODE, name, pki_now_s(), &files);

	const struct tls_cfg cfg = {
		.cert_file = files.cert,
		.key_file = files.key,
		.ca_file = files.ca,
	};

	assert_int_equal(tls_ctx_create(&cfg, &ctx, NULL), 0);
	return ctx;
}

static void move(struct tls_ctx *source, struct tls_ctx *target, const char *peer)
{
	int from[4];
	int to[4];

	move_guest_create(&guest, &busy);
	move_guest_place(&place, &guest);
	move_pair_init(&pair, &guest, &place);
	pair.source_cfg.tls = source;
	pair.source_cfg.plain = source == NULL;
	pair.source_cfg.peer_name = peer;
	pair.source_cfg.silence_max_ns = 5 * NS_PER_S;
	pair.target_cfg.tls = target;
	pair.target_cfg.plain = target == NULL;
	pair.target_cfg.connect_max_ns = 300 * NS_PER_MS;
	if (source != NULL && target != NULL) {
		pair.target_cfg.connect_max_ns = 20 * NS_PER_S;
	}
	move_pair_sockets(4, from, to);
	assert_int_equal(move_pair_start(&pair, 4, from, to), 0);
}

static void end(void)
{
	move_guest_destroy(&place);
	move_guest_destroy(&guest);
}

static void a_busy_guest_arrives_whole_in_tls(void **state)
{
	struct tls_ctx *n1 = node(&ours, "n1");
	struct tls_ctx *n2 = node(&ours, "n2");

	(void)state;
	move(n1, n2, "n2");
	move_pair_finish(&pair);
	assert_string_equal(pair.at_source.result.why.text, "");
	assert_int_equal(pair.at_source.result.outcome, MOVE_DONE);
	assert_int_equal(pair.at_target.result.outcome, MOVE_DONE);
	assert_true(move_guest_equal(&guest, &place));
	assert_true(pair.at_source.result.encrypted);
	assert_string_not_equal(pair.at_source.result.cipher, "");
	end();
	tls_ctx_destroy(n1);
	tls_ctx_destroy(n2);
}

static void stayed(void)
{
	assert_int_equal(pair.at_source.result.outcome, MOVE_FAILED);
	assert_int_equal(pair.at_target.result.outcome, MOVE_FAILED);
	assert_true(move_guest_running(&guest));
	assert_int_equal(guest.pauses, 0);
	assert_int_equal(place.runs, 0);
	assert_int_equal(pair.at_source.result.data_pages, 0);
	end();
}

static void another_cluster_or_node_is_refused(void **state)
{
	struct tls_ctx *n1 = node(&ours, "n1");
	struct tls_ctx *n2 = node(&ours, "n2");
	struct tls_ctx *stranger = node(&theirs, "n2");

	(void)state;
	move(n1, stranger, "n2");
	move_pair_wait(&pair, move_pair_source_ended);
	assert_int_equal(target_abandon(pair.target, NULL), 0);
	move_pair_finish(&pair);
	assert_int_equal(pair.at_source.result.err, -EKEYREJECTED);
	pair.at_target.result.outcome = MOVE_FAILED;
	stayed();
	move(n1, n2, "n3");
	move_pair_wait(&pair, move_pair_source_ended);
	assert_int_equal(target_abandon(pair.target, NULL), 0);
	move_pair_finish(&pair);
	assert_int_equal(pair.at_source.result.err, -EKEYREJECTED);
	pair.at_target.result.outcome = MOVE_FAILED;
	stayed();
	tls_ctx_destroy(n1);
	tls_ctx_destroy(n2);
	tls_ctx_destroy(stranger);
}

static void plain_and_tls_do_not_mix(void **state)
{
	struct tls_ctx *n1 = node(&ours, "n1");

	(void)state;
	move(NULL, n1, NULL); /* the destination insists */
	move_pair_wait(&pair, move_pair_target_ended);
	move_pair_finish(&pair);
	stayed();
	move(n1, NULL, NULL); /* the source insists */
	move_pair_wait(&pair, move_pair_target_ended);
	move_pair_finish(&pair);
	stayed();
	tls_ctx_destroy(n1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_busy_guest_arrives_whole_in_tls),
		cmocka_unit_test(another_cluster_or_node_is_refused),
		cmocka_unit_test(plain_and_tls_do_not_mix),
	};
	int failed;

	(void)signal(SIGPIPE, SIG_IGN);
	pki_create(&ours, "ours");
	pki_create(&theirs, "theirs");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	pki_destroy(&theirs);
	pki_destroy(&ours);
	return failed;
}
