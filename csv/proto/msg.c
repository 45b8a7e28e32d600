/* SPDX-License-Identifier: Apache-2.0 */

/* msg - heads of messages: length, checksum, number of the request, status. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/errbuf.h"
#include "csv/proto/proto_int.h"

/* Numbers of errors as they are sent. A number keeps its meaning. */
static const struct {
	uint32_t number;
	int err;
} errors[] = {
	{1, EIO},        {2, ENOENT},       {3, EEXIST},   {4, ENOTDIR},      {5, EISDIR},
	{6, ENOTEMPTY},  {7, ENOSPC},       {8, EINVAL},   {9, ENAMETOOLONG}, {10, ESTALE},
	{11, EMFILE},    {12, EROFS},       {13, EUCLEAN}, {14, EBUSY},       {15, EAGAIN},
	{16, EDEADLK},   {17, EDQUOT},      {18, EUSERS},  {19, EALREADY},    {20, ECANCELED},
	{21, ENXIO},     {22, EACCES},      {23, EBADF},   {24, ENOTCONN},    {25, EPROTONOSUPPORT},
	{26, ESHUTDOWN}, {27, ETIMEDOUT},   {28, EXDEV},   {29, EFBIG},       {30, EPERM},
	{31, EPROTO},    {32, EKEYEXPIRED},
};

void csv_msg_put(struct csv_msg_out *out, const void *buf, size_t len)
{
	if (len > out->left) {
		out->full = true;
		return;
	}
	if (len != 0) {
		memcpy(out->at, buf, len);
		out->at += len;
		out->left -= len;
	}
}

const void *csv_msg_take(struct csv_msg_in *in, size_t len)
{
	const void *at = in->at;

	if (len > in->left) {
		return NULL;
	}
	in->at += len;
	in->left -= len;
	return at;
}

static uint32_t status_make(int err)
{
	for (uint32_t i = 0; err != 0 && i < ARRAY_LEN(errors); i++) {
		if (errors[i].err == -err) {
			return errors[i].number;
		}
	}
	return err == 0 ? 0 : 1;
}

static int status_get(uint32_t number, int *out)
{
	*out = 0;
	for (uint32_t i = 0; number != 0 && i < ARRAY_LEN(errors); i++) {
		if (errors[i].number == number) {
			*out = -errors[i].err;
		}
	}
	return number != 0 && *out == 0 ? -EPROTO : 0;
}

static uint32_t crc_of(const uint8_t *buf, size_t len)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c_update(0, buf, offsetof(struct csv_msg_head_wire, crc));
	size_t behind = offsetof(struct csv_msg_head_wire, length);

	crc = crc32c_update(crc, zero, sizeof(zero));
	return crc32c_update(crc, buf + behind, len - behind);
}

int csv_msg_encode(const struct csv_msg *msg, void *buf, size_t len)
{
	struct csv_msg_out out = {.at = buf, .left = len};
	struct csv_msg_head_wire head = {
		.magic = le32_make(CSV_MSG_MAGIC),
		.type = le16_make((uint16_t)msg->type),
		.version = le16_make(CSV_MSG_VERSION),
		.term = le64_make(msg->term),
		.request = le64_make(msg->request),
		.status = le32_make(status_make(msg->status)),
	};

	csv_msg_put(&out, &head, sizeof(head));
	if (msg->status == 0 || msg->type == CSV_MSG_REPLY) {
		csv_msg_body_encode(msg, &out);
	}
	if (out.full) {
		return -EMSGSIZE;
	}

	size_t length = (size_t)(out.at - (uint8_t *)buf);

	CHECK(length <= CSV_MSG_MAX);
	head.length = le32_make((uint32_t)length);
	memcpy(buf, &head, sizeof(head));
	head.crc = le32_make(crc_of(buf, length));
	memcpy(buf, &head, sizeof(head));
	return (int)length;
}

int csv_msg_length(const void *buf, size_t len, struct errbuf *eb)
{
	const struct csv_msg_head_wire *head = buf;

	if (len < sizeof(*head)) {
		return -EAGAIN;
	}
	if (le32_get(head->magic) != CSV_MSG_MAGIC) {
		return errbuf_set(eb, -EPROTO, "message: no message starts here");
	}

	uint32_t length = le32_get(head->length);

	if (length < sizeof(*head) || length > CSV_MSG_MAX) {
		return errbuf_set(eb, -EPROTO, "message of %u bytes: not between %zu and %u",
		                  length, sizeof(*head), CSV_MSG_MAX);
	}
	return (int)length;
}

static bool numbered(enum csv_msg_type type)
{
	return type != CSV_MSG_HELLO && type != CSV_MSG_WELCOME && type != CSV_MSG_NOTICE &&
	       type != CSV_MSG_REVOKE && type != CSV_MSG_MOVED;
}

/* What the head alone can say. */
static int head_decode(const struct csv_msg_head_wire *head, struct csv_msg *out, struct errbuf *eb)
{
	uint32_t type = le16_get(head->type);

	if (le16_get(head->version) != CSV_MSG_VERSION) {
		return errbuf_set(eb, -EPROTONOSUPPORT, "message of version %u: this is version %u",
		                  (unsigned)le16_get(head->version), CSV_MSG_VERSION);
	}
	if (type < CSV_MSG_HELLO || type > CSV_MSG_PING || le32_get(head->zero) != 0 ||
	    status_get(le32_get(head->status), &out->status) != 0) {
		return errbuf_set(eb, -EPROTO, "message of type %u: its head is wrong", type);
	}
	out->type = (enum csv_msg_type)type;
	out->term = le64_get(head->term);
	out->request = le64_get(head->request);
	if ((out->request != 0) != numbered(out->type) ||
	    (out->status != 0 && type != CSV_MSG_REPLY && type != CSV_MSG_WELCOME)) {
		return errbuf_set(eb, -EPROTO, "%s: number or status where none belongs",
		                  csv_msg_type_name(out->type));
	}
	return 0;
}

int csv_msg_decode(const void *buf, size_t len, struct csv_msg *out, struct errbuf *eb)
{
	const struct csv_msg_head_wire *head = buf;
	struct csv_msg_in in = {.at = buf, .left = len};
	struct csv_msg msg;
	int length = csv_msg_length(buf, len, eb);

	memset(&msg, 0, sizeof(msg));
	if (length < 0 || (size_t)length != len) {
		return length == -EPROTO ? length : errbuf_set(eb, -EPROTO, "message: cut short");
	}
	if (le32_get(head->crc) != crc_of(buf, len)) {
		return errbuf_set(eb, -EBADMSG, "message: its checksum is wrong");
	}
	(void)csv_msg_take(&in, sizeof(*head));

	int err = head_decode(head, &msg, eb);

	if (err == 0 && (msg.status == 0 || msg.type == CSV_MSG_REPLY)) {
		err = csv_msg_body_decode(&in, &msg, eb);
	}
	if (err == 0 && in.left != 0) {
		err = errbuf_set(eb, -EPROTO, "%s: %zu bytes too many", csv_msg_type_name(msg.type),
		                 in.left);
	}
	if (err == 0) {
		*out = msg;
	}
	return err;
}

const char *csv_msg_type_name(enum csv_msg_type type)
{
	static const char *const names[] = {
		"none",   "hello",  "welcome", "op",     "open",      "close", "layout",
		"return", "lock",   "unlock",  "cancel", "reclaimed", "bye",   "reply",
		"notice", "revoke", "moved",   "read",   "write",     "flush", "ping",
	};

	return type >= CSV_MSG_HELLO && type <= CSV_MSG_PING ? names[type] : "?";
}
