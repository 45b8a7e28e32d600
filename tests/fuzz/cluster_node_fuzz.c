/* SPDX-License-Identifier: Apache-2.0 */

/* cluster_node_fuzz - tokens, and what an admitted node is told: refused, or it makes sense. */

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "bin/godwitd/cluster_conf.h"
#include "bin/godwitd/cluster_token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fuzz_token(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);
	char again[CLUSTER_TOKEN_MAX];
	struct cluster_token token;

	CHECK(text != NULL);
	memcpy(text, data, len);
	text[len] = '\0';
	if (cluster_token_parse(text, &token, NULL) == 0) {
		CHECK(cluster_token_parse(cluster_token_text(&token, again), &token, NULL) == 0);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char text[CORO_CONF_TEXT_MAX];
	struct cluster_conf conf;
	json_t *json = NULL;

	if (len == 0) {
		return 0;
	}
	fuzz_token(data, len);
	if (json_parse(data, len, NULL, &json, NULL) == 0) {
		struct json_at at = json_root(json, "");

		if (cluster_conf_read(&at, &conf, NULL) == 0) {
			int ret = cluster_conf_text(&conf, "/d", text, NULL);

			CHECK(ret < (int)sizeof(text));
		}
	}
	json_decref(json);
	return 0;
}
