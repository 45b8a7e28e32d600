/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the API. */
#include <errno.h>
#include <stdlib.h>

#include "base/api/client.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/godwit.h"

const char *godwit_host(const struct cli_call *call)
{
	const char *url = cli_text(call, "host");

	if (url == NULL) {
		url = getenv("GODWIT_HOST");
	}
	return url != NULL && url[0] != '\0' ? url : NULL;
}

/* Rounded up, so that a very short time is not "no limit". */
static uint32_t timeout_ms(const struct cli_call *call)
{
	uint64_t ns = cli_number(call, "timeout", 0);
	uint64_t ms = ns / NS_PER_MS + (ns % NS_PER_MS != 0);

	return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

/* The client for the host that the user named. */
static int client_create(const struct cli_call *call, struct api_client **out, struct errbuf *eb)
{
	const struct api_client_cfg cfg = {.url = godwit_host(call)};

	return api_client_create(&cfg, out, eb);
}

int godwit_call(const struct cli_call *call, enum api_method method, const char *path,
                const json_t *body, json_t **out, struct errbuf *eb)
{
	const struct api_call request = {
		.method = method,
		.path = path,
		.body = body,
		.timeout_ms = method == API_GET ? timeout_ms(call) : 0,
	};
	struct api_client *client;
	struct api_result result = {0};
	int err = client_create(call, &client, eb);

	*out = NULL;
	if (err < 0) {
		return err;
	}
	err = api_client_call(client, &request, &result, eb);
	if (err == 0) {
		*out = result.body != NULL ? json_incref(result.body) : json_object();
	}
	api_result_fini(&result);
	api_client_destroy(client);
	return err;
}

int godwit_bytes(const struct cli_call *call, const char *path, api_bytes_fn fn, void *arg,
                 struct errbuf *eb)
{
	const struct api_call request = {.method = API_GET, .path = path};
	struct api_client *client;
	int err = client_create(call, &client, eb);

	if (err < 0) {
		return err;
	}
	err = api_client_bytes(client, &request, fn, arg, eb);
	api_client_destroy(client);
	return err;
}

int godwit_events(const struct cli_call *call, const char *path, api_event_fn fn, void *arg,
                  struct errbuf *eb)
{
	const struct api_call request = {.method = API_GET, .path = path};
	struct api_client *client;
	int err = client_create(call, &client, eb);

	if (err < 0) {
		return err;
	}
	err = api_client_events(client, &request, fn, arg, eb);
	api_client_destroy(client);
	return err;
}

int godwit_channel(const struct cli_call *call, const char *path, const char *protocol,
                   struct api_client **client, struct api_channel **out, struct errbuf *eb)
{
	const struct api_call request = {.method = API_GET, .path = path};
	int err = client_create(call, client, eb);

	if (err < 0) {
		return err;
	}
	err = api_client_upgrade(*client, &request, protocol, out, eb);
	if (err < 0) {
		api_client_destroy(*client);
	}
	return err;
}

int godwit_get(const struct cli_call *call, const char *path, json_t **out, struct errbuf *eb)
{
	const struct api_client_cfg cfg = {.url = godwit_host(call)};
	const struct api_call request = {
		.method = API_GET, .path = path, .timeout_ms = timeout_ms(call)};
	struct api_client *client;
	struct api_result result = {0};
	int err = api_client_create(&cfg, &client, eb);

	*out = NULL;
	if (err < 0) {
		return err;
	}
	err = api_client_call(client, &request, &result, eb);
	if (err == 0 && result.body == NULL) {
		err = errbuf_set(eb, -EPROTO, "the answer is empty");
	}
	if (err == 0) {
		*out = json_incref(result.body);
	}
	api_result_fini(&result);
	api_client_destroy(client);
	return err;
}
