/* SPDX-License-Identifier: Apache-2.0 */
#include "base/errbuf.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

int errbuf_set(struct errbuf *eb, int err, const char *fmt, ...)
{
	va_list ap;

	CHECK(err < 0);
	if (eb == NULL) {
		return err;
	}
	va_start(ap, fmt);
	(void)vsnprintf(eb->text, sizeof(eb->text), fmt, ap);
	va_end(ap);
	eb->hint[0] = '\0';
	return err;
}

int errbuf_sys(struct errbuf *eb, int err, const char *fmt, ...)
{
	va_list ap;

	CHECK(err < 0);
	if (eb == NULL) {
		return err;
	}
	va_start(ap, fmt);
	(void)vsnprintf(eb->text, sizeof(eb->text), fmt, ap);
	va_end(ap);
	eb->hint[0] = '\0';

	size_t used = strlen(eb->text);

	(void)snprintf(eb->text + used, sizeof(eb->text) - used, ": %s", strerrordesc_np(-err));
	return err;
}

void errbuf_prepend(struct errbuf *eb, const char *fmt, ...)
{
	char old[ERRBUF_TEXT_MAX];
	va_list ap;

	if (eb == NULL) {
		return;
	}
	memcpy(old, eb->text, sizeof(old));
	va_start(ap, fmt);
	(void)vsnprintf(eb->text, sizeof(eb->text), fmt, ap);
	va_end(ap);
	if (old[0] != '\0') {
		size_t used = strlen(eb->text);

		(void)snprintf(eb->text + used, sizeof(eb->text) - used, ": %s", old);
	}
}

void errbuf_hint(struct errbuf *eb, const char *fmt, ...)
{
	va_list ap;

	if (eb == NULL) {
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(eb->hint, sizeof(eb->hint), fmt, ap);
	va_end(ap);
}

const char *errbuf_text(const struct errbuf *eb, int err)
{
	if (eb != NULL && eb->text[0] != '\0') {
		return eb->text;
	}

	const char *text = strerrordesc_np(-err);

	return text != NULL ? text : "unknown error";
}
