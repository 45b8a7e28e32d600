/* SPDX-License-Identifier: Apache-2.0 */

/* mover_json - the words of the control socket. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/tls.h"
#include "migrate/mover/mover_int.h"

#define TOKEN_DIGITS (2 * (size_t)STREAM_TOKEN_BYTES)
#define MOVER_PEM_BYTES_MAX 16384u
#define MOVER_REPORT_BYTES_MAX 40000u /* a message of the control socket takes 64 KiB */

static int mover_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int mover_token_read(const struct json_at *at, uint8_t token[STREAM_TOKEN_BYTES],
                            struct errbuf *eb)
{
	const char *text = NULL;
	int err = json_get_str(at, "token", TOKEN_DIGITS, &text, eb);

	if (err != 0) {
		return err;
	}
	if (strlen(text) != TOKEN_DIGITS) {
		return json_error(at, eb, -EINVAL, "token: %zu hexadecimal digits are needed",
		                  TOKEN_DIGITS);
	}
	for (size_t i = 0; i < STREAM_TOKEN_BYTES; i++) {
		int high = mover_digit(text[2 * i]);
		int low = mover_digit(text[2 * i + 1]);

		if (high < 0 || low < 0) {
			return json_error(at, eb, -EINVAL, "token: not hexadecimal");
		}
		token[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static int mover_tls_read(struct mover *m, const struct json_at *at, struct errbuf *eb)
{
	struct tls_pem pem = {0};
	struct json_at tls;
	int err = json_get_object(at, "tls", &tls, eb);

	if (err == 0) {
		err = json_get_str(&tls, "ca", MOVER_PEM_BYTES_MAX, &pem.ca, eb);
	}
	if (err == 0) {
		err = json_get_str(&tls, "cert", MOVER_PEM_BYTES_MAX, &pem.cert, eb);
	}
	if (err == 0) {
		err = json_get_str(&tls, "key", MOVER_PEM_BYTES_MAX, &pem.key, eb);
	}
	return err == 0 ? tls_ctx_from_pem(&pem, &m->tls, eb) : err;
}

int mover_common_read(struct mover *m, const struct json_at *at, struct mover_common *out,
                      struct errbuf *eb)
{
	const char *move = NULL;
	int err = json_get_str(at, "move", GUID_TEXT_SIZE, &move, eb);

	*out = (struct mover_common){0};
	if (err == 0 && guid_parse(move, &m->move) != 0) {
		err = json_error(at, eb, -EINVAL, "move: not a GUID");
	}
	if (err == 0) {
		err = json_get_u64(at, "epoch", 0, INT64_MAX, &out->epoch, eb);
	}
	if (err == 0) {
		err = mover_token_read(at, out->token, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "silence_max_ns", 0, INT64_MAX, &out->silence_max_ns, eb);
	}
	if (err == 0) {
		err = json_opt_bool(at, "plain", &out->plain, eb);
	}
	return err == 0 && !out->plain ? mover_tls_read(m, at, eb) : err;
}

/* Of the round, for a bar; later rounds are short. */
static uint64_t mover_percent(const struct move_progress *p)
{
	uint64_t percent;

	if (p->phase > MOVE_COPY) {
		return 100;
	}
	if (p->round_bytes == 0) {
		return 0;
	}
	percent = (uint64_t)((double)p->round_moved_bytes * 100 / (double)p->round_bytes);
	return percent < 100 ? percent : 99;
}

void mover_progress_json(struct json_build *b, const struct move_progress *p)
{
	json_add_str(b, "phase", move_phase_name(p->phase));
	json_add_u64(b, "round", p->round);
	json_add_u64(b, "percent", mover_percent(p));
	json_add_u64(b, "elapsed_ns", p->elapsed_ns);
	json_add_u64(b, "memory_bytes", p->memory_bytes);
	json_add_u64(b, "moved_bytes", p->moved_bytes);
	json_add_u64(b, "wire_bytes", p->wire_bytes);
	json_add_u64(b, "filled_bytes", p->filled_bytes);
	json_add_u64(b, "round_bytes", p->round_bytes);
	json_add_u64(b, "round_moved_bytes", p->round_moved_bytes);
	json_add_u64(b, "bandwidth_bytes_s", p->bandwidth_bytes_s);
	json_add_u64(b, "dirty_bytes_s", p->dirty_bytes_s);
	json_add_u64(b, "throttle_percent", p->throttle_percent);
	json_add_u64(b, "forecast_blackout_ns", p->forecast_blackout_ns);
	if (p->forecast_finish_ns != UINT64_MAX) { /* else: does not converge like this */
		json_add_u64(b, "forecast_finish_ns", p->forecast_finish_ns);
	}
	json_add_str(b, "reason", p->reason);
}

static void mover_report_json(struct json_build *b, const struct compat *report)
{
	json_t *json = NULL;
	char *text = NULL;
	size_t len = 0;

	if (compat_encode(report, &text, &len) == 0 && len <= MOVER_REPORT_BYTES_MAX &&
	    json_parse(text, len, NULL, &json, NULL) == 0) {
		json_add(b, "report", json);
	}
	free(text);
}

void mover_result_json(struct json_build *b, const struct move_result *r)
{
	struct json_build result;
	const struct {
		const char *key;
		uint64_t value;
	} figures[] = {
		{"epoch", r->epoch},
		{"rounds", r->rounds},
		{"stops", r->stops},
		{"throttle_percent", r->throttle_percent},
		{"memory_bytes", r->memory_bytes},
		{"moved_bytes", r->moved_bytes},
		{"wire_bytes", r->wire_bytes},
		{"data_pages", r->data_pages},
		{"zero_pages", r->zero_pages},
		{"state_bytes", r->state_bytes},
		{"total_ns", r->total_ns},
		{"blackout_ns", r->blackout_ns},
		{"pause_ns", r->pause_ns},
		{"copy_ns", r->copy_ns},
		{"save_ns", r->save_ns},
		{"load_ns", r->load_ns},
		{"commit_ns", r->commit_ns},
		{"run_ns", r->run_ns},
		{"lost_ns", r->lost_ns},
		{"running_wall_ns", r->running_wall_ns},
	};

	json_add_str(b, "outcome", move_outcome_name(r->outcome));
	json_add_str(b, "error", r->err != 0 ? errbuf_text(&r->why, r->err) : "");
	json_add_str(b, "hint", r->why.hint);
	json_build_object(&result);
	json_add_str(&result, "phase", move_phase_name(r->phase));
	json_add_u64(&result, "errno", (uint64_t)-r->err);
	for (size_t i = 0; i < ARRAY_LEN(figures); i++) {
		json_add_u64(&result, figures[i].key, figures[i].value);
	}
	json_add_i64(&result, "clock_ns", r->clock_ns);
	json_add_bool(&result, "encrypted", r->encrypted);
	json_add_bool(&result, "ktls", r->ktls);
	json_add_str(&result, "cipher", r->cipher);
	json_add_build(b, "result", &result);
	mover_report_json(b, &r->report);
}
