/* SPDX-License-Identifier: Apache-2.0 */

/*
 * csv_pr_try DEVICE COMMAND... - persistent reservations on a real LUN, for tests and for people.
 * Keys are hexadecimal. Commands follow one another in one process:
 *
 *	register KEY  reserve  preempt KEY  check  leave  keys
 *	adopt KEY           we are the one that registered it before; preempts without abort
 *	abort               from now on with it
 *	write               one block of 4096 bytes, past the cache
 *
 * Prints a line for each: its name and "ok", or the number and text of what went wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "csv/pr/csv_pr_sg.h"

static _Alignas(4096) char page[4096];

static uint64_t number(const char *text)
{
	return text != NULL ? strtoull(text, NULL, 16) : 0;
}

static int show_keys(struct csv_pr *pr, struct errbuf *eb)
{
	struct csv_pr_reservation r;
	struct csv_pr_keys keys;
	int err = csv_pr_read(pr, &keys, &r, eb);

	if (err == 0) {
		(void)printf("type %u\n", r.type);
	}
	for (uint32_t i = 0; err == 0 && i < keys.count; i++) {
		(void)printf("key %llx\n", (unsigned long long)keys.keys[i]);
	}
	return err;
}

int main(int argc, char **argv)
{
	struct csv_pr_sg sg = {.timeout_ms = 10000};
	struct csv_pr pr;

	sg.fd = argc > 1 ? open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC) : -1;
	if (sg.fd < 0) {
		(void)fprintf(stderr, "no device\n");
		return 2;
	}
	csv_pr_init(&pr, &csv_pr_sg_door, &sg);
	for (int i = 2; i < argc; i++) {
		const char *what = argv[i];
		const char *arg = i + 1 < argc ? argv[i + 1] : NULL;
		struct errbuf eb = {0};
		int err = 0;

		if (strcmp(what, "register") == 0) {
			err = csv_pr_register(&pr, number(arg), 0, false, &eb);
			i++;
			if (err == 0) {
				(void)printf("level %s%s%s\n", csv_pr_level_name(pr.level),
				             pr.reason[0] != '\0' ? ": " : "", pr.reason);
			}
		} else if (strcmp(what, "adopt") == 0) {
			pr.key = number(arg);
			pr.level = CSV_PR_PREEMPT_ONLY;
			pr.type = CSV_PR_WRITE_EX_ALL;
			i++;
		} else if (strcmp(what, "abort") == 0) {
			pr.level = CSV_PR_ABORT;
		} else if (strcmp(what, "reserve") == 0) {
			err = csv_pr_reserve(&pr, &eb);
		} else if (strcmp(what, "preempt") == 0) {
			err = csv_pr_preempt(&pr, number(arg), &eb);
			i++;
		} else if (strcmp(what, "check") == 0) {
			err = csv_pr_check(&pr, &eb);
		} else if (strcmp(what, "leave") == 0) {
			err = csv_pr_leave(&pr, &eb);
		} else if (strcmp(what, "keys") == 0) {
			err = show_keys(&pr, &eb);
		} else {
			err = pwrite(sg.fd, page, sizeof(page), 0) == (ssize_t)sizeof(page)
			              ? 0
			              : -errno;
		}
		if (err == 0) {
			(void)printf("%s ok\n", what);
		} else {
			(void)printf("%s %d %s\n", what, err, errbuf_text(&eb, err));
		}
		(void)fflush(stdout);
	}
	(void)close(sg.fd);
	return 0;
}
