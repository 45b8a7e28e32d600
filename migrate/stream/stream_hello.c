/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "base/wire.h"
#include "migrate/stream/stream.h"
#include "migrate/stream/stream_wire.h"

#define STREAM_ERRNO_MAX 4095u /* the kernel's own limit */

uint32_t stream_hello_encode(const struct stream_hello *h, uint8_t *out)
{
	struct stream_hello_wire w = {
		.version_min = le32_make(h->version_min),
		.version_max = le32_make(h->version_max),
		.offered = le64_make(h->offered),
		.required = le64_make(h->required),
		.vm = h->vm,
		.move = h->move,
		.epoch = le64_make(h->epoch),
		.connection = le32_make(h->connection),
		.connections = le32_make(h->connections),
		.page_bytes = le32_make(STREAM_PAGE_BYTES),
		.mode = le32_make(h->mode),
		.memory_bytes = le64_make(h->memory_bytes),
		.blackout_max_ns = le64_make(h->blackout_max_ns),
	};

	memcpy(w.token, h->token, sizeof(w.token));
	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

int stream_hello_decode(const void *buf, size_t len, struct stream_hello *out, struct errbuf *eb)
{
	struct stream_hello_wire w;

	if (len < sizeof(w) || len > STREAM_SMALL_MAX) {
		return errbuf_set(eb, -EBADMSG, "stream: HELLO of %zu bytes", len);
	}
	memcpy(&w, buf, sizeof(w));

	struct stream_hello h = {
		.version_min = le32_get(w.version_min),
		.version_max = le32_get(w.version_max),
		.offered = le64_get(w.offered),
		.required = le64_get(w.required),
		.vm = w.vm,
		.move = w.move,
		.epoch = le64_get(w.epoch),
		.connection = le32_get(w.connection),
		.connections = le32_get(w.connections),
		.memory_bytes = le64_get(w.memory_bytes),
		.blackout_max_ns = le64_get(w.blackout_max_ns),
	};
	uint32_t mode = le32_get(w.mode);

	if (h.version_min == 0 || h.version_min > h.version_max) {
		return errbuf_set(eb, -EBADMSG, "stream: HELLO: versions %u to %u", h.version_min,
		                  h.version_max);
	}
	if (le32_get(w.page_bytes) != STREAM_PAGE_BYTES) {
		return errbuf_set(eb, -EBADMSG, "stream: HELLO: pages of %u bytes",
		                  le32_get(w.page_bytes));
	}
	if (mode < STREAM_MODE_LIVE || mode > STREAM_MODE_CHECK) {
		return errbuf_set(eb, -EBADMSG, "stream: HELLO: unknown mode %u", mode);
	}
	if (h.connections == 0 || h.connections > STREAM_CONNECTIONS_MAX ||
	    h.connection > h.connections) {
		return errbuf_set(eb, -EBADMSG, "stream: HELLO: connection %u of %u", h.connection,
		                  h.connections);
	}
	if ((h.required & ~h.offered) != 0 || guid_is_nil(&h.vm) || guid_is_nil(&h.move) ||
	    h.memory_bytes > STREAM_GPA_MAX || h.memory_bytes % STREAM_PAGE_BYTES != 0) {
		return errbuf_set(eb, -EBADMSG, "stream: HELLO: fields out of range");
	}
	h.mode = mode;
	memcpy(h.token, w.token, sizeof(h.token));
	*out = h;
	return 0;
}

uint32_t stream_answer_encode(const struct stream_answer *a, uint8_t *out)
{
	struct stream_answer_wire w = {
		.version = le32_make(a->version),
		.capabilities = le64_make(a->capabilities),
		.move = a->move,
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

int stream_answer_decode(const void *buf, size_t len, struct stream_answer *out, struct errbuf *eb)
{
	struct stream_answer_wire w;

	if (len != sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "stream: ANSWER of %zu bytes", len);
	}
	memcpy(&w, buf, sizeof(w));
	if (le32_get(w.reserved) != 0 || le32_get(w.version) < STREAM_VERSION_MIN ||
	    le32_get(w.version) > STREAM_VERSION) {
		return errbuf_set(eb, -EBADMSG, "stream: ANSWER: version %u is none of ours",
		                  le32_get(w.version));
	}
	*out = (struct stream_answer){
		.version = le32_get(w.version),
		.capabilities = le64_get(w.capabilities),
		.move = w.move,
	};
	return 0;
}

int stream_agree(const struct stream_hello *h, uint64_t ours, uint32_t version_min,
                 uint32_t version_max, struct stream_answer *out, struct errbuf *eb)
{
	uint32_t version = h->version_max < version_max ? h->version_max : version_max;
	uint64_t missing = h->required & ~ours;

	if (version < h->version_min || version < version_min) {
		(void)errbuf_set(eb, -EPROTONOSUPPORT,
		                 "the source speaks versions %u to %u of the migration stream, the "
		                 "destination %u to %u",
		                 h->version_min, h->version_max, version_min, version_max);
		errbuf_hint(eb, "Update the older of the two hosts; neighbouring releases "
		                "understand each other.");
		return -EPROTONOSUPPORT;
	}
	if (missing != 0) {
		return errbuf_set(eb, -EPROTONOSUPPORT,
		                  "the source requires capabilities 0x%llx that the destination "
		                  "does not have",
		                  (unsigned long long)missing);
	}
	*out = (struct stream_answer){
		.version = version,
		.capabilities = h->offered & ours,
		.move = h->move,
	};
	return 0;
}

uint32_t stream_number_encode(uint64_t number, uint8_t *out)
{
	struct stream_epoch_wire w = {.epoch = le64_make(number)};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

int stream_number_decode(const void *buf, size_t len, uint64_t *out, struct errbuf *eb)
{
	struct stream_epoch_wire w;

	if (len != sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "stream: a frame of one number has %zu bytes", len);
	}
	memcpy(&w, buf, sizeof(w));
	*out = le64_get(w.epoch);
	return 0;
}

uint32_t stream_running_encode(const struct stream_running *r, uint8_t *out)
{
	struct stream_running_wire w = {
		.epoch = le64_make(r->epoch),
		.load_ns = le64_make(r->load_ns),
		.run_ns = le64_make(r->run_ns),
		.wall_ns = le64_make(r->wall_ns),
	};

	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

int stream_running_decode(const void *buf, size_t len, struct stream_running *out,
                          struct errbuf *eb)
{
	struct stream_running_wire w;

	if (len != sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "stream: RUNNING of %zu bytes", len);
	}
	memcpy(&w, buf, sizeof(w));
	*out = (struct stream_running){
		.epoch = le64_get(w.epoch),
		.load_ns = le64_get(w.load_ns),
		.run_ns = le64_get(w.run_ns),
		.wall_ns = le64_get(w.wall_ns),
	};
	return 0;
}

uint32_t stream_text_encode(int err, const struct errbuf *why, uint8_t *out)
{
	const char *text = errbuf_text(why, err);
	size_t text_bytes = strnlen(text, STREAM_TEXT_MAX);
	size_t hint_bytes = why != NULL ? strnlen(why->hint, STREAM_HINT_MAX) : 0;
	struct stream_text_wire w = {
		.code = le32_make((uint32_t)-err),
		.text_bytes = le16_make((uint16_t)text_bytes),
		.hint_bytes = le16_make((uint16_t)hint_bytes),
	};

	CHECK(err < 0);
	memcpy(out, &w, sizeof(w));
	memcpy(out + sizeof(w), text, text_bytes);
	if (hint_bytes != 0) {
		memcpy(out + sizeof(w) + text_bytes, why->hint, hint_bytes);
	}
	return (uint32_t)(sizeof(w) + text_bytes + hint_bytes);
}

/* The peer's words go to terminals and logs. */
static void stream_text_copy(char *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		bool control = from[i] < ' ' || from[i] == 0x7f;

		to[i] = (char)(control ? (uint8_t)'?' : from[i]);
	}
	to[len] = '\0';
}

int stream_text_decode(const void *buf, size_t len, int *err, struct errbuf *why, struct errbuf *eb)
{
	const uint8_t *in = buf;
	struct stream_text_wire w;

	if (len < sizeof(w)) {
		return errbuf_set(eb, -EBADMSG, "stream: an error of %zu bytes", len);
	}
	memcpy(&w, in, sizeof(w));

	uint32_t code = le32_get(w.code);
	size_t text = le16_get(w.text_bytes);
	size_t hint = le16_get(w.hint_bytes);

	if (code == 0 || code > STREAM_ERRNO_MAX || text > STREAM_TEXT_MAX ||
	    hint > STREAM_HINT_MAX || len != sizeof(w) + text + hint) {
		return errbuf_set(eb, -EBADMSG, "stream: an error whose fields do not fit");
	}
	*err = -(int)code;
	if (why != NULL) {
		stream_text_copy(why->text, in + sizeof(w), text);
		stream_text_copy(why->hint, in + sizeof(w) + text, hint);
	}
	return 0;
}

bool stream_tokens_equal(const uint8_t a[STREAM_TOKEN_BYTES], const uint8_t b[STREAM_TOKEN_BYTES])
{
	volatile uint8_t differ = 0;

	for (size_t i = 0; i < STREAM_TOKEN_BYTES; i++) {
		differ = (uint8_t)(differ | (a[i] ^ b[i]));
	}
	return differ == 0;
}
