/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_TCP_H
#define BASE_TCP_H

/*
 * tcp - numeric addresses, and sockets that listen on them. No names: a resolver would be needed
 * when the network fails. Any thread.
 */

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/attr.h"

/* tcp_address() - @text is IPv4 or IPv6, numeric. Returns 0; -EINVAL it is neither. */
MUST_USE int tcp_address(const char *text, uint16_t port, struct sockaddr_storage *out,
                         socklen_t *len);

/* tcp_listen() - a socket that does not block; "::" means IPv4 too. Returns it; -errno. */
MUST_USE int tcp_listen(const struct sockaddr_storage *where, socklen_t len, int backlog);

/* tcp_port() - the port that @fd is bound to; 0 = none. */
uint16_t tcp_port(int fd);

#endif
