/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

int tcp_address(const char *text, uint16_t port, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		memcpy(out, &v4, sizeof(v4));
		*len = sizeof(v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
		memcpy(out, &v6, sizeof(v6));
		*len = sizeof(v6);
		return 0;
	}
	return -EINVAL;
}

uint16_t tcp_port(int fd)
{
	struct sockaddr_storage addr = {0};
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
		return 0;
	}
	memcpy(&v4, &addr, sizeof(v4));
	memcpy(&v6, &addr, sizeof(v6));
	return ntohs(addr.ss_family == AF_INET ? v4.sin_port : v6.sin6_port);
}

int tcp_listen(const struct sockaddr_storage *where, socklen_t len, int backlog)
{
	int one = 1;
	int zero = 0;
	int fd = socket(where->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return -errno;
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (where->ss_family == AF_INET6) { /* "::" means IPv4 too */
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	}
	if (bind(fd, (const struct sockaddr *)where, len) != 0 || listen(fd, backlog) != 0) {
		int err = -errno;

		(void)close(fd);
		return err;
	}
	return fd;
}
