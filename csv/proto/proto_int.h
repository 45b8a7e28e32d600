/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CSV_PROTO_PROTO_INT_H
#define CSV_PROTO_PROTO_INT_H

/* msg.c: head, dispatch; body.c: each type; reply.c: parts of replies. */

#include "csv/proto/csv_proto.h"

struct errbuf;

/* What is still to be written, or read. */
struct csv_msg_out {
	uint8_t *at;
	size_t left;
	bool full;
};

struct csv_msg_in {
	const uint8_t *at;
	size_t left;
};

/* csv_msg_put() - append; notes that there was no room. */
void csv_msg_put(struct csv_msg_out *out, const void *buf, size_t len);

/* csv_msg_take() - the next @len bytes, or NULL. */
const void *csv_msg_take(struct csv_msg_in *in, size_t len);

void csv_msg_body_encode(const struct csv_msg *msg, struct csv_msg_out *out);
int csv_msg_body_decode(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb);
void csv_msg_reply_encode(const struct csv_msg *msg, struct csv_msg_out *out);
int csv_msg_reply_decode(struct csv_msg_in *in, struct csv_msg *msg, struct errbuf *eb);

#endif
