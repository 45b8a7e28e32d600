/* SPDX-License-Identifier: Apache-2.0 */

/*
 * replay_main - run a fuzz target once over each file of its corpus, without libFuzzer.
 * Keeps the targets building and the old findings fixed in every ordinary test run.
 */

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"

#define REPLAY_BYTES_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int replay_file(const char *path)
{
	static uint8_t buf[REPLAY_BYTES_MAX];
	FILE *f = fopen(path, "rbe");

	if (f == NULL) {
		(void)fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return 1;
	}

	size_t len = fread(buf, 1, sizeof(buf), f);
	/* An exact heap copy, so that AddressSanitizer sees a read past the end. */
	uint8_t *exact = malloc(len != 0 ? len : 1);
	int failed = exact == NULL || ferror(f) != 0;

	if (!failed) {
		memcpy(exact, buf, len);
		(void)LLVMFuzzerTestOneInput(exact, len);
	}
	free(exact);
	(void)fclose(f);
	return failed;
}

int main(int argc, char **argv)
{
	int files = 0;
	int failed = 0;

	(void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);

		if (dir == NULL) {
			(void)fprintf(stderr, "replay: %s: %s\n", argv[i], strerror(errno));
			return 1;
		}
		for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
			char path[4096];

			if (e->d_name[0] == '.') {
				continue;
			}
			(void)snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			failed |= replay_file(path);
			files++;
		}
		(void)closedir(dir);
	}
	(void)printf("replayed %d inputs\n", files);
	return failed;
}
