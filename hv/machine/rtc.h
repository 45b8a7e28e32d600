/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_RTC_H
#define HV_MACHINE_RTC_H

/*
 * rtc - the CMOS clock: enough for a kernel to learn the date. UTC, always running, no alarm.
 *
 * The time itself is the host's, plus what the guest set. The owner holds its lock.
 * Source: Motorola MC146818 data sheet; ACPI 4.7.2.4 (century at 0x32).
 */

#include <stdint.h>

#include "base/attr.h"

struct load;
struct save;

#define RTC_CMOS_BYTES 128u

/* Embed; start from {0} or rtc_reset(). */
struct rtc {
	uint8_t index;    /* register selected through port 0x70 */
	uint8_t b;        /* status register B: 24 h, binary or BCD, SET */
	int64_t offset_s; /* guest clock - host clock */
	uint8_t set[10];  /* registers 0..9 while the guest holds SET */
	uint8_t cmos[RTC_CMOS_BYTES];
};

void rtc_reset(struct rtc *rtc);

/* rtc_select() - port 0x70: which register the next access means. */
void rtc_select(struct rtc *rtc, uint8_t index);

/* rtc_read(), rtc_write() - port 0x71. @wall_ns: host time of day [ns since 1970]. */
uint8_t rtc_read(const struct rtc *rtc, uint64_t wall_ns);
void rtc_write(struct rtc *rtc, uint8_t value, uint64_t wall_ns);

void rtc_save(const struct rtc *rtc, struct save *s);
MUST_USE int rtc_load(struct rtc *rtc, struct load *l);

#endif
