/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fmt.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/attr.h"
#include "base/clock.h"

/* @value in units of @unit, with one decimal if it is below 100 and not whole. */
static void fmt_scaled(char buf[FMT_MAX], uint64_t value, uint64_t unit, const char *name)
{
	uint64_t whole = value / unit;
	/* Tenths without overflow: value % unit < 2^60. */
	unsigned tenths = (unsigned)(value % unit * 10 / unit);

	if (whole < 100 && tenths != 0) {
		(void)snprintf(buf, FMT_MAX, "%" PRIu64 ".%u%s", whole, tenths, name);
	} else {
		(void)snprintf(buf, FMT_MAX, "%" PRIu64 "%s", whole, name);
	}
}

const char *fmt_u64(uint64_t value, char buf[FMT_MAX])
{
	(void)snprintf(buf, FMT_MAX, "%" PRIu64, value);
	return buf;
}

static const char *fmt_bytes(uint64_t bytes, const char *const names[7], char buf[FMT_MAX])
{
	unsigned shift = 0;

	while (shift < 60 && bytes >> shift >= 1024) {
		shift += 10;
	}
	fmt_scaled(buf, bytes, 1ull << shift, names[shift / 10]);
	return buf;
}

const char *fmt_size(uint64_t bytes, char buf[FMT_MAX])
{
	static const char *const names[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};

	return fmt_bytes(bytes, names, buf);
}

const char *fmt_rate(uint64_t bytes_per_s, char buf[FMT_MAX])
{
	static const char *const names[] = {" B/s",   " KiB/s", " MiB/s", " GiB/s",
	                                    " TiB/s", " PiB/s", " EiB/s"};

	return fmt_bytes(bytes_per_s, names, buf);
}

const char *fmt_duration(uint64_t ns, char buf[FMT_MAX])
{
	const uint64_t minute_s = 60;
	const uint64_t hour_s = 60 * minute_s;
	const uint64_t day_s = 24 * hour_s;
	const struct {
		uint64_t unit_s;
		uint64_t next_s; /* the smaller unit beside it */
		char name;
		char next;
	} parts[] = {
		{day_s, hour_s, 'd', 'h'}, {hour_s, minute_s, 'h', 'm'}, {minute_s, 1, 'm', 's'}};
	uint64_t s = ns / NS_PER_S;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		uint64_t rest = s % parts[i].unit_s / parts[i].next_s;

		if (s < parts[i].unit_s) {
			continue;
		}
		if (rest != 0) {
			(void)snprintf(buf, FMT_MAX, "%" PRIu64 "%c %" PRIu64 "%c",
			               s / parts[i].unit_s, parts[i].name, rest, parts[i].next);
		} else {
			(void)snprintf(buf, FMT_MAX, "%" PRIu64 "%c", s / parts[i].unit_s,
			               parts[i].name);
		}
		return buf;
	}
	if (ns >= NS_PER_S || ns == 0) {
		fmt_scaled(buf, ns, NS_PER_S, "s");
	} else if (ns >= NS_PER_MS) {
		fmt_scaled(buf, ns, NS_PER_MS, "ms");
	} else if (ns >= NS_PER_US) {
		fmt_scaled(buf, ns, NS_PER_US, "us");
	} else {
		fmt_scaled(buf, ns, 1, "ns");
	}
	return buf;
}
