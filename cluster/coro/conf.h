/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_CORO_CONF_H
#define CLUSTER_CORO_CONF_H

/*
 * conf - the text of corosync.conf, a pure function of the cluster's nodes. The same text on every
 * node; who writes and reloads it is somebody else.
 *
 * Fixed: knet with encryption, token and consensus written out with token_coefficient 0 (so that
 * detection is 2.2 times the token with any number of nodes), link_mode active with two links
 * (losing one costs milliseconds and no membership), the times of links that go with the token,
 * votequorum without two_node (both halves would
 * be quorate).
 */

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct errbuf;

#define CORO_CONF_NODES_MAX 32u /* corosync's own practical limit */
#define CORO_CONF_LINKS_MAX 2u
#define CORO_CONF_NAME_MAX 63u
#define CORO_CONF_TEXT_MAX (16u << 10)
#define CORO_CONF_TOKEN_MIN_MS 300u /* below, a busy node loses the token by itself */
#define CORO_CONF_TOKEN_MAX_MS 60000u
/*
 * The token rests after so many rotations in which nobody said anything. Of corosync's own 30 a
 * cluster that says something 20 times a second never gets to rest: measured with three emulated
 * nodes, 50 rotations a second where 23 do.
 */
#define CORO_CONF_IDLE_ROTATIONS 3u
#define CORO_CONF_PING_MAX_MS 500u /* between two pings of a link */
#define CORO_CONF_TOKEN_MS 1000u   /* the default: no false alarm in hours under full load */

struct coro_conf_node {
	const char *name;
	const char *addr[CORO_CONF_LINKS_MAX]; /* numeric; [1] NULL = one link */
	uint32_t nodeid;                       /* 1 and up */
	uint32_t votes; /* 0: a member that does not count yet, or any more */
};

struct coro_conf {
	const char *cluster;
	const char *keyfile;     /* 1024 bytes for knet's encryption */
	uint64_t config_version; /* grows with each change */
	uint32_t token_ms;
	uint32_t count;
	const struct coro_conf_node *nodes; /* [count] */
	uint32_t witness;                   /* votes that coro_vote casts; 0 = no witness */
};

/*
 * coro_conf_text() - @buf[CORO_CONF_TEXT_MAX] = the text.
 * Returns the length; -EINVAL, with what is wrong: names, addresses, numbers out of range or
 * twice, nodes with different numbers of links, families mixed on a link.
 */
MUST_USE int coro_conf_text(const struct coro_conf *conf, char *buf, struct errbuf *eb);

/* coro_conf_consensus_ms() - that goes with a token: 1.2 times. */
uint32_t coro_conf_consensus_ms(uint32_t token_ms);

#endif
