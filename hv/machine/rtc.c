/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/machine/rtc.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/clock.h"
#include "hv/save/save.h"

#define RTC_A 0x0au
#define RTC_B 0x0bu
#define RTC_C 0x0cu
#define RTC_D 0x0du
#define RTC_CENTURY 0x32u
#define RTC_A_DIVIDER 0x26u /* 32 768 Hz; update never in progress: reads are atomic here */
#define RTC_B_24H 0x02u
#define RTC_B_BINARY 0x04u
#define RTC_B_SET 0x80u
#define RTC_D_VALID 0x80u
#define RTC_OFFSET_MAX_S 3155760000 /* a century of seconds: what two digits of a year can say */

void rtc_reset(struct rtc *rtc)
{
	*rtc = (struct rtc){.b = RTC_B_24H};
}

static uint8_t rtc_encode(const struct rtc *rtc, int value)
{
	if ((rtc->b & RTC_B_BINARY) != 0) {
		return (uint8_t)value;
	}
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static int rtc_decode(const struct rtc *rtc, uint8_t value)
{
	return (rtc->b & RTC_B_BINARY) != 0 ? value : (value >> 4) * 10 + (value & 0xf);
}

static void rtc_now(const struct rtc *rtc, uint64_t wall_ns, struct tm *out)
{
	time_t now = (time_t)(wall_ns / NS_PER_S) + (time_t)rtc->offset_s;

	if (gmtime_r(&now, out) == NULL) {
		*out = (struct tm){.tm_mday = 1, .tm_year = 70};
	}
}

static uint8_t rtc_hours(const struct rtc *rtc, int hour)
{
	if ((rtc->b & RTC_B_24H) != 0) {
		return rtc_encode(rtc, hour);
	}
	return rtc_encode(rtc, hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? 0x80 : 0);
}

/* The alarm never rings; its registers are memory. */
static bool rtc_is_alarm(uint8_t index)
{
	return index == 1 || index == 3 || index == 5;
}

static uint8_t rtc_register(const struct rtc *rtc, uint8_t index, uint64_t wall_ns)
{
	struct tm tm;

	if ((rtc->b & RTC_B_SET) != 0 && index < sizeof(rtc->set) && !rtc_is_alarm(index)) {
		return rtc->set[index];
	}
	rtc_now(rtc, wall_ns, &tm);
	switch (index) {
	case 0:
		return rtc_encode(rtc, tm.tm_sec);
	case 2:
		return rtc_encode(rtc, tm.tm_min);
	case 4:
		return rtc_hours(rtc, tm.tm_hour);
	case 6:
		return rtc_encode(rtc, tm.tm_wday + 1);
	case 7:
		return rtc_encode(rtc, tm.tm_mday);
	case 8:
		return rtc_encode(rtc, tm.tm_mon + 1);
	case 9:
		return rtc_encode(rtc, tm.tm_year % 100);
	case RTC_CENTURY:
		return rtc_encode(rtc, (tm.tm_year + 1900) / 100);
	case RTC_A:
		return RTC_A_DIVIDER;
	case RTC_B:
		return rtc->b;
	case RTC_C:
		return 0;
	case RTC_D:
		return RTC_D_VALID;
	default: /* a register number: the rest is plain memory */
		return rtc->cmos[index];
	}
}

uint8_t rtc_read(const struct rtc *rtc, uint64_t wall_ns)
{
	return rtc_register(rtc, rtc->index, wall_ns);
}

void rtc_select(struct rtc *rtc, uint8_t index)
{
	rtc->index = index & (RTC_CMOS_BYTES - 1);
}

/* The guest let go of SET: what it wrote is the time from now on. */
static void rtc_take_time(struct rtc *rtc, uint64_t wall_ns)
{
	int hour = rtc_decode(rtc, rtc->set[4] & 0x7fu);

	if ((rtc->b & RTC_B_24H) == 0) {
		hour = hour % 12 + ((rtc->set[4] & 0x80u) != 0 ? 12 : 0);
	}

	struct tm tm = {
		.tm_sec = rtc_decode(rtc, rtc->set[0]),
		.tm_min = rtc_decode(rtc, rtc->set[2]),
		.tm_hour = hour,
		.tm_mday = rtc_decode(rtc, rtc->set[7]),
		.tm_mon = rtc_decode(rtc, rtc->set[8]) - 1,
		.tm_year = 100 + rtc_decode(rtc, rtc->set[9]), /* 2000..2099 */
	};
	int64_t offset = (int64_t)timegm(&tm) - (int64_t)(wall_ns / NS_PER_S);

	/* Digits beyond 9 can mean any year: a time that rtc_load() would refuse is not taken. */
	if (offset <= RTC_OFFSET_MAX_S && offset >= -RTC_OFFSET_MAX_S) {
		rtc->offset_s = offset;
	}
}

void rtc_write(struct rtc *rtc, uint8_t value, uint64_t wall_ns)
{
	switch (rtc->index) {
	case RTC_A:
	case RTC_C:
	case RTC_D:
	case RTC_CENTURY:
		return;
	case RTC_B:
		if ((value & RTC_B_SET) != 0 && (rtc->b & RTC_B_SET) == 0) {
			for (size_t i = 0; i < sizeof(rtc->set); i++) {
				rtc->set[i] = rtc_register(rtc, (uint8_t)i, wall_ns);
			}
		}
		if ((value & RTC_B_SET) == 0 && (rtc->b & RTC_B_SET) != 0) {
			rtc_take_time(rtc, wall_ns);
		}
		rtc->b = value & (RTC_B_SET | RTC_B_BINARY | RTC_B_24H);
		return;
	default: /* a register number */
		if (rtc->index < sizeof(rtc->set) && !rtc_is_alarm(rtc->index)) {
			rtc->set[rtc->index] = value;
		} else {
			rtc->cmos[rtc->index] = value;
		}
	}
}

void rtc_save(const struct rtc *rtc, struct save *s)
{
	save_u8(s, rtc->index);
	save_u8(s, rtc->b);
	save_u64(s, (uint64_t)rtc->offset_s);
	save_bytes(s, rtc->set, sizeof(rtc->set));
	save_bytes(s, rtc->cmos, sizeof(rtc->cmos));
}

int rtc_load(struct rtc *rtc, struct load *l)
{
	rtc_reset(rtc);
	rtc->index = load_u8(l) & (RTC_CMOS_BYTES - 1);
	rtc->b = load_u8(l) & (RTC_B_SET | RTC_B_BINARY | RTC_B_24H);
	rtc->offset_s = (int64_t)load_u64(l);
	load_bytes(l, rtc->set, sizeof(rtc->set));
	load_bytes(l, rtc->cmos, sizeof(rtc->cmos));
	/* A clock more than a century off is a damaged blob, not a guest's wish. */
	if (rtc->offset_s > RTC_OFFSET_MAX_S || rtc->offset_s < -RTC_OFFSET_MAX_S) {
		(void)load_fail(l, -EBADMSG, "rtc: clock offset out of range");
	}
	if (load_error(l) != 0) {
		rtc_reset(rtc);
	}
	return load_error(l);
}
