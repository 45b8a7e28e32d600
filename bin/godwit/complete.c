/* SPDX-License-Identifier: Apache-2.0 */
/* Names for completion, from the API; a service that does not answer soon has none. */
#include <stdlib.h>
#include <string.h>

#include "base/api/client.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"

#define COMPLETE_MS 2000 /* somebody waits with a finger on the key */

static const struct {
	const char *kind;
	const char *path;
	const char *list;  /* the member with the objects that have names */
	const char *front; /* what stands before a name */
} kinds[] = {
	{"vm", "/v1/vms", "vms", ""},
	{"switch", "/v1/switches", "switches", ""},
	{"nic", "/v1/switches", "switches", "switch="},
	{"uplink", "/v1/host", "nics", ""},
	{"node", "/v1/nodes", "nodes", ""},
	{"fence", "/v1/fences", "fences", ""},
};

static void complete_print(const json_t *list, const char *front, FILE *out)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name =
			json_string_value(json_object_get(json_array_get(list, i), "name"));

		if (name != NULL) {
			(void)fprintf(out, "%s%s\n", front, name);
		}
	}
}

void godwit_complete(const char *kind, FILE *out, void *arg)
{
	const char *url = getenv("GODWIT_HOST");
	const struct api_client_cfg cfg = {.url = url != NULL && url[0] != '\0' ? url : NULL};

	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const struct api_call request = {
			.method = API_GET, .path = kinds[i].path, .timeout_ms = COMPLETE_MS};
		struct api_client *client;
		struct api_result result = {0};

		if (strcmp(kinds[i].kind, kind) != 0 ||
		    api_client_create(&cfg, &client, NULL) != 0) {
			continue;
		}
		if (api_client_call(client, &request, &result, NULL) == 0) {
			complete_print(json_object_get(result.body, kinds[i].list), kinds[i].front,
			               out);
		}
		api_result_fini(&result);
		api_client_destroy(client);
	}
}
