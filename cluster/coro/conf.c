/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/coro/conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"

struct conf_text {
	char *buf;
	size_t len;
};

static void conf_add(struct conf_text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void conf_add(struct conf_text *t, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);

	int n = vsnprintf(t->buf + t->len, CORO_CONF_TEXT_MAX - t->len, fmt, args);

	va_end(args);
	/* 32 nodes with the longest names and addresses take half of it. */
	CHECK(n >= 0 && (size_t)n < CORO_CONF_TEXT_MAX - t->len);
	t->len += (size_t)n;
}

/* Also keeps line ends and braces out of the file. */
static bool conf_name_valid(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_' || c == '.')) {
			return false;
		}
	}
	return len != 0 && len <= CORO_CONF_NAME_MAX;
}

/* AF_INET, AF_INET6, or 0. */
static int conf_family(const char *addr)
{
	struct in6_addr a;

	if (inet_pton(AF_INET, addr, &a) == 1) {
		return AF_INET;
	}
	return inet_pton(AF_INET6, addr, &a) == 1 ? AF_INET6 : 0;
}

static int check_twice(const struct coro_conf *conf, uint32_t at, struct errbuf *eb)
{
	const struct coro_conf_node *n = &conf->nodes[at];

	for (uint32_t i = 0; i < at; i++) {
		const struct coro_conf_node *o = &conf->nodes[i];

		if (o->nodeid == n->nodeid || strcmp(o->name, n->name) == 0) {
			return errbuf_set(eb, -EINVAL, "nodes %s and %s: the same name or number",
			                  o->name, n->name);
		}
		for (uint32_t l = 0; l < CORO_CONF_LINKS_MAX && n->addr[l] != NULL; l++) {
			for (uint32_t k = 0; k < CORO_CONF_LINKS_MAX; k++) {
				if (o->addr[k] != NULL && strcmp(o->addr[k], n->addr[l]) == 0) {
					return errbuf_set(eb, -EINVAL,
					                  "nodes %s and %s: both have %s", o->name,
					                  n->name, n->addr[l]);
				}
			}
		}
	}
	return 0;
}

static int check_node(const struct coro_conf *conf, uint32_t at, struct errbuf *eb)
{
	const struct coro_conf_node *n = &conf->nodes[at];
	const struct coro_conf_node *first = &conf->nodes[0];

	if (n->nodeid == 0 || n->votes > 255 || !conf_name_valid(n->name)) {
		return errbuf_set(eb, -EINVAL, "node %u: bad name, number or votes", at + 1);
	}
	if (n->addr[0] == NULL || (n->addr[1] == NULL) != (first->addr[1] == NULL)) {
		return errbuf_set(eb, -EINVAL, "node %s: one address for each link", n->name);
	}
	for (uint32_t l = 0; l < CORO_CONF_LINKS_MAX && n->addr[l] != NULL; l++) {
		int family = conf_family(n->addr[l]);

		if (family == 0) {
			(void)errbuf_set(eb, -EINVAL, "node %s: '%s' is no numeric address",
			                 n->name, n->addr[l]);
			errbuf_hint(eb, "names would need a resolver when the network fails");
			return -EINVAL;
		}
		if (family != conf_family(first->addr[l])) {
			return errbuf_set(eb, -EINVAL, "node %s: link %u: IPv4 and IPv6 mixed",
			                  n->name, l);
		}
	}
	if (n->addr[1] != NULL && strcmp(n->addr[0], n->addr[1]) == 0) {
		return errbuf_set(eb, -EINVAL, "node %s: twice the same address", n->name);
	}
	return check_twice(conf, at, eb);
}

static int conf_check(const struct coro_conf *conf, struct errbuf *eb)
{
	if (!conf_name_valid(conf->cluster) || strpbrk(conf->keyfile, "\n{}") != NULL) {
		return errbuf_set(eb, -EINVAL, "cluster name or key file: characters not allowed");
	}
	if (conf->token_ms < CORO_CONF_TOKEN_MIN_MS || conf->token_ms > CORO_CONF_TOKEN_MAX_MS) {
		return errbuf_set(eb, -EINVAL, "token %u ms: not %u..%u", conf->token_ms,
		                  CORO_CONF_TOKEN_MIN_MS, CORO_CONF_TOKEN_MAX_MS);
	}
	if (conf->count == 0 || conf->count > CORO_CONF_NODES_MAX || conf->config_version == 0) {
		return errbuf_set(eb, -EINVAL, "%u nodes: not 1..%u, or no version", conf->count,
		                  CORO_CONF_NODES_MAX);
	}
	uint32_t votes = 0;

	for (uint32_t i = 0; i < conf->count; i++) {
		int err = check_node(conf, i, eb);

		if (err != 0) {
			return err;
		}
		votes += conf->nodes[i].votes;
	}
	return votes != 0 ? 0 : errbuf_set(eb, -EINVAL, "nobody has a vote");
}

uint32_t coro_conf_consensus_ms(uint32_t token_ms)
{
	return token_ms + token_ms / 5;
}

int coro_conf_text(const struct coro_conf *conf, char *buf, struct errbuf *eb)
{
	struct conf_text t;
	int err = conf_check(conf, eb);

	if (err != 0) {
		errbuf_prepend(eb, "corosync.conf");
		return err;
	}
	t.buf = buf;
	t.len = 0;
	conf_add(&t, "# Written by godwitd from the cluster database; changes here are lost.\n"
	             "totem {\n"
	             "\tversion: 2\n");
	conf_add(&t, "\tcluster_name: %s\n", conf->cluster);
	conf_add(&t, "\tconfig_version: %llu\n", (unsigned long long)conf->config_version);
	conf_add(&t, "\ttransport: knet\n");
	conf_add(&t, "\tlink_mode: %s\n", conf->nodes[0].addr[1] != NULL ? "active" : "passive");
	conf_add(&t, "\ttoken: %u\n\ttoken_coefficient: 0\n", conf->token_ms);
	conf_add(&t, "\tconsensus: %u\n", coro_conf_consensus_ms(conf->token_ms));
	conf_add(&t, "\tseqno_unchanged_const: %u\n", CORO_CONF_IDLE_ROTATIONS);
	conf_add(&t,
	         "\tcrypto_model: openssl\n\tcrypto_cipher: aes256\n\tcrypto_hash: sha256\n"
	         "\tkeyfile: %s\n",
	         conf->keyfile);
	/* As corosync would derive them from the token, but that it does only when it starts: links
	 * of one that was told of another token would come up slower, or sooner, than those of one
	 * that was started since, and for as long only one of the two hears the other. A link is
	 * up after two answers: with a long token nodes that join need not wait longer. */
	const uint32_t quarter_ms = conf->token_ms / 4;
	const uint32_t ping_ms =
		quarter_ms < CORO_CONF_PING_MAX_MS ? quarter_ms : CORO_CONF_PING_MAX_MS;

	for (uint32_t l = 0; l < CORO_CONF_LINKS_MAX && conf->nodes[0].addr[l] != NULL; l++) {
		conf_add(&t,
		         "\tinterface {\n\t\tlinknumber: %u\n\t\tknet_ping_interval: %u\n"
		         "\t\tknet_ping_timeout: %u\n\t}\n",
		         l, ping_ms, conf->token_ms / 2);
	}
	conf_add(&t, "}\n");
	conf_add(&t, "quorum {\n\tprovider: corosync_votequorum\n");
	if (conf->witness != 0) {
		conf_add(&t,
		         "\tdevice {\n\t\tmodel: godwit\n\t\tvotes: %u\n\t\ttimeout: 10000\n"
		         "\t\tsync_timeout: %u\n\t}\n",
		         conf->witness, 2 * conf->token_ms);
	}
	conf_add(&t, "}\nnodelist {\n");
	for (uint32_t i = 0; i < conf->count; i++) {
		const struct coro_conf_node *n = &conf->nodes[i];

		conf_add(&t, "\tnode {\n\t\tnodeid: %u\n\t\tname: %s\n\t\tquorum_votes: %u\n",
		         n->nodeid, n->name, n->votes);
		for (uint32_t l = 0; l < CORO_CONF_LINKS_MAX && n->addr[l] != NULL; l++) {
			conf_add(&t, "\t\tring%u_addr: %s\n", l, n->addr[l]);
		}
		conf_add(&t, "\t}\n");
	}
	conf_add(&t, "}\nlogging {\n\tto_stderr: no\n\tto_syslog: yes\n\ttimestamp: hires\n}\n");
	return (int)t.len;
}
