/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/text.h"

#define PARSE_SHOWN_MAX 48 /* of the text, in error texts */

struct parse_unit {
	const char *name;
	uint64_t factor;
};

/* What differs between the kinds of numbers. */
struct parse_kind {
	const char *expected;           /* "... is not %s" */
	const char *hint;               /* or NULL */
	const struct parse_unit *units; /* ends with a NULL name */
	const char *suffix;             /* may follow any unit; or NULL */
	const char *(*show)(uint64_t value, char buf[FMT_MAX]);
};

static const struct parse_unit parse_no_units[] = {{"", 1}, {NULL, 0}};

#define PARSE_SIZE_UNIT(upper, lower, shift)                \
	{upper, 1ull << (shift)}, {lower, 1ull << (shift)}, \
	{                                                   \
		upper "iB", 1ull << (shift)                 \
	}

#define PARSE_SIZE_UNITS                                                                 \
	{"", 1}, {"B", 1}, PARSE_SIZE_UNIT("K", "k", 10), PARSE_SIZE_UNIT("M", "m", 20), \
		PARSE_SIZE_UNIT("G", "g", 30), PARSE_SIZE_UNIT("T", "t", 40),            \
		PARSE_SIZE_UNIT("P", "p", 50)

static const struct parse_unit parse_size_units[] = {PARSE_SIZE_UNITS, {NULL, 0}};

static const struct parse_unit parse_bandwidth_units[] = {
	PARSE_SIZE_UNITS,    {"Kbit", 125},          {"Mbit", 125000},
	{"Gbit", 125000000}, {"Tbit", 125000000000}, {NULL, 0},
};

static const struct parse_unit parse_duration_units[] = {
	{"ns", 1},
	{"us", 1000},
	{"ms", 1000000},
	{"s", 1000000000},
	{"m", 60ull * 1000000000},
	{"h", 3600ull * 1000000000},
	{"d", 86400ull * 1000000000},
	{NULL, 0},
};

static const struct parse_kind parse_kind_u64 = {
	.expected = "a whole number",
	.units = parse_no_units,
	.show = fmt_u64,
};

static const struct parse_kind parse_kind_size = {
	.expected = "a size",
	.hint = "write bytes, or 512M, 8G, 1.5T: K, M, G, T and P are powers of 1024",
	.units = parse_size_units,
	.show = fmt_size,
};

static const struct parse_kind parse_kind_duration = {
	.expected = "a duration",
	.hint = "write a number and its unit: ns, us, ms, s, m, h or d, as in 50ms or 10m",
	.units = parse_duration_units,
	.show = fmt_duration,
};

static const struct parse_kind parse_kind_bandwidth = {
	.expected = "a bandwidth",
	.hint = "write bytes per second as in 100M or 1G/s, or bits as in 10Gbit",
	.units = parse_bandwidth_units,
	.suffix = "/s",
	.show = fmt_rate,
};

/* The text as it may be shown: from a stranger, and of any length. */
static const char *parse_shown(const char *text, char buf[PARSE_SHOWN_MAX])
{
	struct text t;

	text_init(&t, buf, PARSE_SHOWN_MAX);
	text_add_clean(&t, text, strlen(text));
	return buf;
}

static int parse_wrong(const char *text, const char *expected, const char *hint, struct errbuf *eb)
{
	char shown[PARSE_SHOWN_MAX];

	(void)errbuf_set(eb, -EINVAL, "\"%s\" is not %s", parse_shown(text, shown), expected);
	if (hint != NULL) {
		errbuf_hint(eb, "%s", hint);
	}
	return -EINVAL;
}

/* Digits into *value. Returns how many there are; *fits = false if they are too many. */
static size_t parse_digits(const char *text, uint64_t *value, bool *fits)
{
	size_t n = 0;

	*value = 0;
	for (; text[n] >= '0' && text[n] <= '9'; n++) {
		if (__builtin_mul_overflow(*value, 10u, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(text[n] - '0'), value)) {
			*fits = false;
		}
	}
	return n;
}

static const struct parse_unit *parse_find_unit(const struct parse_kind *kind, const char *name)
{
	for (const struct parse_unit *u = kind->units; u->name != NULL; u++) {
		size_t len = strlen(u->name);

		if (strncmp(name, u->name, len) == 0 &&
		    (name[len] == '\0' ||
		     (kind->suffix != NULL && strcmp(name + len, kind->suffix) == 0))) {
			return u;
		}
	}
	return NULL;
}

/* Digits, perhaps a fraction, a unit. -EINVAL, or -ERANGE if it exceeds 64 bits. */
static int parse_scaled(const char *text, const struct parse_kind *kind, uint64_t *out)
{
	bool fits = true;
	uint64_t whole;
	uint64_t part = 0;
	uint64_t scale = 1; /* part / scale is the fraction */
	size_t n = parse_digits(text, &whole, &fits);

	if (n == 0) {
		return -EINVAL;
	}
	text += n;
	if (*text == '.') {
		n = parse_digits(text + 1, &part, &fits);
		if (n == 0 || n > 9) {
			return -EINVAL;
		}
		text += n + 1;
		for (; n != 0; n--) {
			scale *= 10;
		}
		while (scale > 1 && part % 10 == 0) {
			part /= 10;
			scale /= 10;
		}
	}

	const struct parse_unit *unit = parse_find_unit(kind, text);

	if (unit == NULL) {
		return -EINVAL;
	}
	if (!fits || __builtin_mul_overflow(whole, unit->factor, &whole)) {
		return -ERANGE;
	}
	/* Not exact: no such number of bytes or nanoseconds. */
	if (__builtin_mul_overflow(part, unit->factor, &part) || part % scale != 0) {
		return -EINVAL;
	}
	return __builtin_add_overflow(whole, part / scale, out) ? -ERANGE : 0;
}

static int parse_in_range(const char *text, const struct parse_kind *kind, uint64_t min,
                          uint64_t max, uint64_t *out, struct errbuf *eb)
{
	uint64_t value = UINT64_MAX;
	char shown[PARSE_SHOWN_MAX];
	char limit[FMT_MAX];
	int err = parse_scaled(text, kind, &value);

	if (err == -EINVAL) {
		return parse_wrong(text, kind->expected, kind->hint, eb);
	}
	if (err == -ERANGE || value > max) {
		return errbuf_set(eb, -ERANGE, "\"%s\" is too large, at most %s",
		                  parse_shown(text, shown), kind->show(max, limit));
	}
	if (value < min) {
		return errbuf_set(eb, -ERANGE, "\"%s\" is too small, at least %s",
		                  parse_shown(text, shown), kind->show(min, limit));
	}
	*out = value;
	return 0;
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct errbuf *eb)
{
	return parse_in_range(text, &parse_kind_u64, min, max, out, eb);
}

int parse_size(const char *text, uint64_t min_bytes, uint64_t max_bytes, uint64_t *bytes,
               struct errbuf *eb)
{
	return parse_in_range(text, &parse_kind_size, min_bytes, max_bytes, bytes, eb);
}

int parse_duration(const char *text, uint64_t min_ns, uint64_t max_ns, uint64_t *ns,
                   struct errbuf *eb)
{
	return parse_in_range(text, &parse_kind_duration, min_ns, max_ns, ns, eb);
}

int parse_bandwidth(const char *text, uint64_t min_bytes_s, uint64_t max_bytes_s, uint64_t *bytes_s,
                    struct errbuf *eb)
{
	return parse_in_range(text, &parse_kind_bandwidth, min_bytes_s, max_bytes_s, bytes_s, eb);
}

int parse_i64(const char *text, int64_t min, int64_t max, int64_t *out, struct errbuf *eb)
{
	bool negative = text[0] == '-';
	bool fits = true;
	char shown[PARSE_SHOWN_MAX];
	uint64_t digits;
	int64_t value;
	size_t n = parse_digits(text + negative, &digits, &fits);

	if (n == 0 || text[negative + n] != '\0') {
		return parse_wrong(text, "a whole number", NULL, eb);
	}
	fits = fits && (negative ? !__builtin_sub_overflow(0, digits, &value)
	                         : !__builtin_add_overflow(0, digits, &value));
	if (!fits ? !negative : value > max) {
		return errbuf_set(eb, -ERANGE, "\"%s\" is too large, at most %jd",
		                  parse_shown(text, shown), (intmax_t)max);
	}
	if (!fits || value < min) {
		return errbuf_set(eb, -ERANGE, "\"%s\" is too small, at least %jd",
		                  parse_shown(text, shown), (intmax_t)min);
	}
	*out = value;
	return 0;
}
