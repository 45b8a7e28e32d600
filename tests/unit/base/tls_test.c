/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/loop.h"
#include "base/tls_cipher.h"
#include "base/tls_int.h"
#include "tests/lib/pki.h"
#include "tests/lib/test.h"

#define DAY_S INT64_C(86400)

struct pair {
	int fd[2];
	struct tls_conn *client;
	struct tls_conn *server;
	int client_err;
	int server_err;
	struct errbuf client_eb;
	struct errbuf server_eb;
};

static struct pki pki;
static struct pki_files n1;
static struct pki_files n2;
static struct pki_files alice;

static int setup(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	pki_create(&pki, "testers");
	pki_issue(&pki, TLS_KIND_NODE, "n1", pki_now_s(), &n1);
	pki_issue(&pki, TLS_KIND_NODE, "n2", pki_now_s(), &n2);
	pki_issue(&pki, TLS_KIND_USER, "alice", pki_now_s(), &alice);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pki_destroy(&pki);
	return 0;
}

static struct tls_ctx *context(const struct pki_files *files, tls_allow_fn allow, void *arg)
{
	const struct tls_cfg cfg = {.cert_file = files->cert,
	                            .key_file = files->key,
	                            .ca_file = files->ca,
	                            .allow = allow,
	                            .arg = arg};
	struct tls_ctx *ctx = NULL;
	struct errbuf eb = {0};

	if (tls_ctx_create(&cfg, &ctx, &eb) != 0) {
		fail_msg("%s", eb.text);
	}
	return ctx;
}

static void pair_open(struct pair *p, struct tls_ctx *client, struct tls_ctx *server,
                      const char *expect)
{
	const struct tls_conn_cfg as_client = {.role = TLS_CLIENT, .peer_name = expect};
	const struct tls_conn_cfg as_server = {.role = TLS_SERVER};

	memset(p, 0, sizeof(*p));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p->fd),
	                 0);
	assert_int_equal(tls_conn_create(client, p->fd[0], &as_client, &p->client, NULL), 0);
	assert_int_equal(tls_conn_create(server, p->fd[1], &as_server, &p->server, NULL), 0);
}

static void pair_close(struct pair *p)
{
	tls_conn_destroy(p->client);
	tls_conn_destroy(p->server);
	(void)close(p->fd[0]);
	(void)close(p->fd[1]);
}

/* Both ends in turn; neither may block, so 100 rounds are plenty. */
static void pair_shake(struct pair *p)
{
	p->client_err = -EAGAIN;
	p->server_err = -EAGAIN;
	for (int round = 0; round < 100; round++) {
		if (p->client_err == -EAGAIN) {
			p->client_err = tls_conn_handshake(p->client, &p->client_eb);
		}
		if (p->server_err == -EAGAIN) {
			p->server_err = tls_conn_handshake(p->server, &p->server_eb);
		}
	}
}

static void both_sides_learn_who_the_other_is(void **state)
{
	struct tls_ctx *client = context(&alice, NULL, NULL);
	struct tls_ctx *server = context(&n1, NULL, NULL);
	struct tls_info info;
	struct pair p;

	(void)state;
	pair_open(&p, client, server, "n1");
	pair_shake(&p);
	assert_int_equal(p.client_err, 0);
	assert_int_equal(p.server_err, 0);
	assert_int_equal(tls_conn_peer(p.server)->kind, TLS_KIND_USER);
	assert_string_equal(tls_conn_peer(p.server)->name, "alice");
	assert_int_equal(tls_conn_peer(p.client)->kind, TLS_KIND_NODE);
	assert_string_equal(tls_conn_peer(p.client)->name, "n1");
	assert_memory_equal(tls_conn_peer(p.client)->fingerprint, tls_ctx_self(server)->fingerprint,
	                    TLS_FINGERPRINT_BYTES);
	tls_conn_info(p.client, &info);
	assert_string_equal(info.version, "TLSv1.3");
	assert_string_not_equal(info.cipher, "");
	assert_true(strncmp(tls_cipher_list(tls_cipher_chacha_best()), info.cipher,
	                    strlen(info.cipher)) == 0);
	pair_close(&p);
	tls_ctx_destroy(client);
	tls_ctx_destroy(server);
}

/* A connection is as slow as its slower end. */
static void chacha_is_taken_if_one_end_is_better_at_it(void **state)
{
	static const char chacha[] = "TLS_CHACHA20_POLY1305_SHA256";
	static const char aes[] = "TLS_AES_128_GCM_SHA256";

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct tls_ctx *client = context(&n1, NULL, NULL);
		struct tls_ctx *server = context(&n2, NULL, NULL);
		struct tls_info info;
		struct pair p;

		assert_int_equal(tls_ctx_prefer(client, tls_cipher_list((i & 1) != 0)), 0);
		assert_int_equal(tls_ctx_prefer(server, tls_cipher_list((i & 2) != 0)), 0);
		pair_open(&p, client, server, "n2");
		pair_shake(&p);
		assert_int_equal(p.client_err, 0);
		assert_int_equal(p.server_err, 0);
		tls_conn_info(p.client, &info);
		assert_string_equal(info.cipher, i == 0 ? aes : chacha);
		pair_close(&p);
		tls_ctx_destroy(client);
		tls_ctx_destroy(server);
	}
}

static void bytes_arrive_and_a_goodbye_is_an_orderly_end(void **state)
{
	struct tls_ctx *ctx = context(&n1, NULL, NULL);
	static char sent[300000];
	static char got[sizeof(sent)];
	size_t out = 0;
	size_t in = 0;
	bool was_full = false;
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof(sent); i++) {
		sent[i] = (char)(i * 7 + i / 256);
	}
	pair_open(&p, ctx, ctx, NULL);
	assert_int_equal(tls_conn_read(p.server, got, 1), -ECONNRESET); /* before the handshake */
	pair_shake(&p);
	while (in < sizeof(sent)) {
		ssize_t n = out < sizeof(sent)
		                    ? tls_conn_write(p.client, sent + out, sizeof(sent) - out)
		                    : 0;

		if (n > 0) {
			out += (size_t)n;
			continue;
		}
		if (out < sizeof(sent)) {
			assert_int_equal(n, -EAGAIN);
			assert_int_equal(tls_conn_events(p.client), LOOP_WRITE);
			was_full = true;
		}
		n = tls_conn_read(p.server, got + in, sizeof(got) - in);
		assert_true(n > 0);
		in += (size_t)n;
	}
	assert_true(was_full);
	assert_memory_equal(sent, got, sizeof(sent));
	assert_int_equal(tls_conn_read(p.server, got, 1), -EAGAIN);
	assert_int_equal(tls_conn_events(p.server), LOOP_READ);
	assert_int_equal(tls_conn_goodbye(p.client), 0);
	assert_int_equal(tls_conn_read(p.server, got, 1), 0);
	/* The other direction is still open. */
	assert_int_equal(tls_conn_write(p.server, "x", 1), 1);
	assert_int_equal(tls_conn_read(p.client, got, sizeof(got)), 1);
	pair_close(&p);
	tls_ctx_destroy(ctx);
}

static void a_cut_connection_is_not_an_orderly_end(void **state)
{
	struct tls_ctx *ctx = context(&n1, NULL, NULL);
	char byte = 0;
	struct pair p;

	(void)state;
	pair_open(&p, ctx, ctx, NULL);
	pair_shake(&p);
	assert_int_equal(shutdown(p.fd[0], SHUT_RDWR), 0);
	assert_int_equal(tls_conn_read(p.server, &byte, 1), -ECONNRESET);
	assert_int_equal(tls_conn_write(p.server, "x", 1), -ECONNRESET);
	pair_close(&p);
	tls_ctx_destroy(ctx);
}

static void a_client_insists_on_the_node_it_wants(void **state)
{
	struct tls_ctx *client = context(&alice, NULL, NULL);
	struct tls_ctx *server = context(&n1, NULL, NULL);
	struct pair p;

	(void)state;
	pair_open(&p, client, server, "n2");
	pair_shake(&p);
	assert_int_equal(p.client_err, -EKEYREJECTED);
	assert_non_null(strstr(p.client_eb.text, "another node"));
	assert_int_not_equal(p.server_err, 0);
	pair_close(&p);
	/* A user's certificate does not make a server, whatever its name. */
	pair_open(&p, server, client, NULL);
	pair_shake(&p);
	assert_int_equal(p.client_err, -EKEYREJECTED);
	pair_close(&p);
	tls_ctx_destroy(client);
	tls_ctx_destroy(server);
}

/* The client's handshake is over before the server has judged it: its first read tells. */
static int first_read(struct pair *p)
{
	char byte = 0;

	for (int round = 0; round < 100; round++) {
		ssize_t n = tls_conn_read(p->client, &byte, 1);

		if (n != -EAGAIN) {
			return (int)n;
		}
	}
	return -EAGAIN;
}

static void a_stranger_is_refused_and_told(void **state)
{
	struct pki other;
	struct pki_files evil;
	struct pki_files mixed;
	struct pair p;

	(void)state;
	pki_create(&other, "testers");
	pki_issue(&other, TLS_KIND_NODE, "n1", pki_now_s(), &evil);

	struct tls_ctx *server = context(&n1, NULL, NULL);
	struct tls_ctx *client = context(&evil, NULL, NULL);

	pair_open(&p, client, server, NULL);
	pair_shake(&p);
	assert_int_equal(p.client_err, -EKEYREJECTED); /* it trusts its own CA */
	pair_close(&p);
	pair_open(&p, server, client, NULL);
	pair_shake(&p);
	assert_int_equal(p.client_err, -EKEYREJECTED);
	pair_close(&p);
	tls_ctx_destroy(client);

	/* A context does not even start with a certificate of another CA. */
	mixed = evil;
	memcpy(mixed.ca, n1.ca, sizeof(mixed.ca));

	const struct tls_cfg cfg = {
		.cert_file = mixed.cert, .key_file = mixed.key, .ca_file = mixed.ca};

	assert_int_equal(tls_ctx_create(&cfg, &client, NULL), -EKEYREJECTED);
	tls_ctx_destroy(server);
	pki_destroy(&other);
}

static bool allow_nobody(const struct tls_peer *peer, void *arg)
{
	*(struct tls_peer *)arg = *peer;
	return false;
}

static void an_evicted_node_is_refused_and_told(void **state)
{
	struct tls_peer asked = {0};
	struct tls_ctx *client = context(&n2, NULL, NULL);
	struct tls_ctx *server = context(&n1, allow_nobody, &asked);
	struct pair p;

	(void)state;
	pair_open(&p, client, server, "n1");
	pair_shake(&p);
	assert_int_equal(p.server_err, -EKEYREJECTED);
	assert_string_equal(asked.name, "n2");
	assert_int_equal(p.client_err, 0);
	assert_int_equal(first_read(&p), -EKEYREJECTED);
	pair_close(&p);
	tls_ctx_destroy(client);
	tls_ctx_destroy(server);
}

static void nonsense_instead_of_tls_is_a_protocol_error(void **state)
{
	static const char *const lines[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff\xff",
	                                    "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", "\xff"};
	struct tls_ctx *ctx = context(&n1, NULL, NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct pair p;
		int err = -EAGAIN;

		pair_open(&p, ctx, ctx, NULL);
		assert_true(write(p.fd[0], lines[i], strlen(lines[i])) > 0);
		err = tls_conn_handshake(p.server, NULL);
		assert_true(err == -EAGAIN || err == -EPROTO);
		assert_int_equal(shutdown(p.fd[0], SHUT_WR), 0);
		if (err == -EAGAIN) {
			err = tls_conn_handshake(p.server, NULL);
		}
		assert_true(err == -EPROTO || err == -ECONNRESET);
		assert_int_equal(tls_conn_handshake(p.server, NULL), -ECONNRESET);
		pair_close(&p);
	}
	tls_ctx_destroy(ctx);
}

/* Those who have texts meet those who have files. */
static void an_identity_may_come_as_texts(void **state)
{
	struct tls_ctx *server = context(&n2, NULL, NULL);
	struct tls_ctx *client = NULL;
	struct errbuf eb = {0};
	char *cert = NULL;
	char *key = NULL;
	size_t len;
	struct pair p;

	(void)state;
	assert_int_equal(fs_read(n1.cert, TLS_PEM_MAX, &cert, &len, &eb), 0);
	assert_int_equal(fs_read(n1.key, TLS_PEM_MAX, &key, &len, &eb), 0);

	struct tls_pem pem = {.cert = cert, .key = key, .ca = pki.ca_cert};

	assert_int_equal(tls_ctx_from_pem(&pem, &client, &eb), 0);
	assert_string_equal(tls_ctx_self(client)->name, "n1");
	pair_open(&p, client, server, "n2");
	pair_shake(&p);
	assert_int_equal(p.client_err, 0);
	assert_int_equal(p.server_err, 0);
	assert_string_equal(tls_conn_peer(p.server)->name, "n1");
	pair_close(&p);
	tls_ctx_destroy(client);
	tls_ctx_destroy(server);
	pem.key = "no key";
	assert_int_equal(tls_ctx_from_pem(&pem, &client, &eb), -EBADMSG);
	assert_null(client);
	free(cert);
	free(key);
}

static void a_context_refuses_what_does_not_fit(void **state)
{
	struct pki_files expired;
	struct errbuf eb = {0};
	struct tls_ctx *ctx = NULL;

	(void)state;
	pki_issue(&pki, TLS_KIND_NODE, "old", pki_now_s() - 5 * DAY_S, &expired);

	struct tls_cfg cfg = {.cert_file = n1.cert, .key_file = n2.key, .ca_file = n1.ca};

	assert_int_equal(tls_ctx_create(&cfg, &ctx, &eb), -EKEYREJECTED);
	assert_null(ctx);
	cfg = (struct tls_cfg){
		.cert_file = expired.cert, .key_file = expired.key, .ca_file = expired.ca};
	assert_int_equal(tls_ctx_create(&cfg, &ctx, &eb), -EKEYEXPIRED);
	assert_non_null(strstr(eb.text, expired.cert));
	cfg = (struct tls_cfg){.cert_file = "/nonexistent", .key_file = n1.key, .ca_file = n1.ca};
	assert_int_equal(tls_ctx_create(&cfg, &ctx, &eb), -ENOENT);
	cfg = (struct tls_cfg){.cert_file = n1.key, .key_file = n1.key, .ca_file = n1.ca};
	assert_int_equal(tls_ctx_create(&cfg, &ctx, &eb), -EBADMSG);
	assert_int_equal(chmod(n1.key, 0640), 0);
	cfg = (struct tls_cfg){.cert_file = n1.cert, .key_file = n1.key, .ca_file = n1.ca};
	assert_int_equal(tls_ctx_create(&cfg, &ctx, &eb), -EACCES);
	assert_non_null(strstr(eb.hint, "chmod 600"));
	assert_int_equal(chmod(n1.key, 0600), 0);
}

static void reloading_takes_the_new_certificate_or_keeps_the_old(void **state)
{
	struct pki_files files;
	struct tls_cert_info before;
	struct tls_ctx *ctx = NULL;
	struct pair p;

	(void)state;
	pki_issue(&pki, TLS_KIND_NODE, "n3", pki_now_s(), &files);
	ctx = context(&files, NULL, NULL);
	before = *tls_ctx_self(ctx);
	pair_open(&p, ctx, ctx, "n3"); /* with the old certificate */
	pki_issue(&pki, TLS_KIND_NODE, "n3", pki_now_s(), &files);
	assert_int_equal(tls_ctx_reload(ctx, NULL), 0);
	assert_memory_not_equal(before.fingerprint, tls_ctx_self(ctx)->fingerprint,
	                        TLS_FINGERPRINT_BYTES);
	pair_shake(&p);
	assert_int_equal(p.client_err, 0);
	assert_memory_equal(tls_conn_peer(p.client)->fingerprint, before.fingerprint,
	                    TLS_FINGERPRINT_BYTES);
	pair_close(&p);
	before = *tls_ctx_self(ctx);
	assert_int_equal(unlink(files.key), 0);
	assert_int_equal(tls_ctx_reload(ctx, NULL), -ENOENT);
	assert_memory_equal(before.fingerprint, tls_ctx_self(ctx)->fingerprint,
	                    TLS_FINGERPRINT_BYTES);
	pair_open(&p, ctx, ctx, "n3");
	pair_shake(&p);
	assert_int_equal(p.client_err, 0);
	pair_close(&p);
	tls_ctx_destroy(ctx);
}

/* TCP over loopback; both ends nonblocking. */
static void tcp_pair(int fd[2])
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd[0], (struct sockaddr *)&addr, len), 0);
	fd[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd[1] >= 0);
	assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	(void)close(listener);
}

static void wait_fd(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	assert_int_equal(poll(&p, 1, 5000), 1);
}

static void over_tcp_the_kernel_encrypts_if_it_can(void **state)
{
	const struct tls_conn_cfg as_client = {.role = TLS_CLIENT};
	const struct tls_conn_cfg as_server = {.role = TLS_SERVER};
	struct tls_ctx *ctx = context(&n1, NULL, NULL);
	struct tls_info info;
	struct pair p = {0};
	char byte = 0;

	(void)state;
	tcp_pair(p.fd);

	/* The same question that OpenSSL asks the kernel, on a socket of its own. */
	int probe[2];

	tcp_pair(probe);

	bool can = !tls_cipher_chacha_best() && /* else it is not asked for */
	           setsockopt(probe[0], SOL_TCP, TCP_ULP, "tls", sizeof("tls")) == 0;

	(void)close(probe[0]);
	(void)close(probe[1]);
	assert_int_equal(tls_conn_create(ctx, p.fd[0], &as_client, &p.client, NULL), 0);
	assert_int_equal(tls_conn_create(ctx, p.fd[1], &as_server, &p.server, NULL), 0);
	assert_int_equal(tls_conn_handshake(p.client, NULL), -EAGAIN);
	wait_fd(p.fd[1], POLLIN);
	assert_int_equal(tls_conn_handshake(p.server, NULL), -EAGAIN);
	wait_fd(p.fd[0], POLLIN);
	assert_int_equal(tls_conn_handshake(p.client, NULL), 0);
	wait_fd(p.fd[1], POLLIN);
	assert_int_equal(tls_conn_handshake(p.server, NULL), 0);
	tls_conn_info(p.server, &info);
	assert_int_equal(info.ktls_send, can);
	print_message("kernel TLS: send %d receive %d\n", info.ktls_send, info.ktls_recv);
	assert_int_equal(tls_conn_write(p.server, "x", 1), 1);
	wait_fd(p.fd[0], POLLIN);
	assert_int_equal(tls_conn_read(p.client, &byte, 1), 1);
	assert_int_equal(byte, 'x');
	pair_close(&p);
	tls_ctx_destroy(ctx);
}

static int everything(void)
{
	const struct tls_cfg cfg = {.cert_file = n1.cert, .key_file = n1.key, .ca_file = n1.ca};
	const struct tls_conn_cfg as_client = {.role = TLS_CLIENT, .peer_name = "n1"};
	struct tls_ctx *ctx = NULL;
	struct tls_conn *conn = NULL;
	int fd[2];
	int err = tls_ctx_create(&cfg, &ctx, NULL);

	if (err != 0) {
		assert_null(ctx);
		return err;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	err = tls_conn_create(ctx, fd[0], &as_client, &conn, NULL);
	tls_conn_destroy(conn);
	tls_ctx_destroy(ctx);
	(void)close(fd[0]);
	(void)close(fd[1]);
	return err;
}

static void every_allocation_failure_is_survived(void **state)
{
	uint32_t k = 1;

	(void)state;
	for (; fault_arm(FAULT_ALLOC, k), everything() == -ENOMEM; k++) {
	}
	assert_false(fault_hit(FAULT_ALLOC));
	fault_arm(FAULT_ALLOC, 0);
	assert_true(k > 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides_learn_who_the_other_is),
		cmocka_unit_test(chacha_is_taken_if_one_end_is_better_at_it),
		cmocka_unit_test(bytes_arrive_and_a_goodbye_is_an_orderly_end),
		cmocka_unit_test(a_cut_connection_is_not_an_orderly_end),
		cmocka_unit_test(a_client_insists_on_the_node_it_wants),
		cmocka_unit_test(a_stranger_is_refused_and_told),
		cmocka_unit_test(an_evicted_node_is_refused_and_told),
		cmocka_unit_test(nonsense_instead_of_tls_is_a_protocol_error),
		cmocka_unit_test(an_identity_may_come_as_texts),
		cmocka_unit_test(a_context_refuses_what_does_not_fit),
		cmocka_unit_test(reloading_takes_the_new_certificate_or_keeps_the_old),
		cmocka_unit_test(over_tcp_the_kernel_encrypts_if_it_can),
		cmocka_unit_test(every_allocation_failure_is_survived),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
