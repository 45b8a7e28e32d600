/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as a saved placement: what loads is decided without harm, and saves as it was. */

#include <stdlib.h>

#include "base/check.h"
#include "cluster/place/place_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void decide(const struct place_in *in)
{
	void *work = malloc(place_work_bytes(in->vm_count));
	struct place_choice *out = malloc((in->vm_count + 1) * sizeof(*out));
	struct place_summary sum;
	char line[300];

	CHECK(work != NULL && out != NULL);
	place_run(in, work, out, &sum);
	place_drain(in, 1, work, out, &sum);
	place_failover(in, 0x5, work, out, &sum);
	for (uint32_t v = 0; v < in->vm_count && v < 20; v++) {
		place_explain(in, out, v, line, sizeof(line));
	}
	free(out);
	free(work);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct place_saved *saved;
	json_t *json;
	json_t *again;

	if (json_parse(data, len, NULL, &json, NULL) < 0) {
		return 0;
	}
	if (place_load(json, &saved, NULL) == 0) {
		decide(&saved->in);
		CHECK(place_save(&saved->in, &again) == 0);
		json_decref(again);
		place_saved_free(saved);
	}
	json_decref(json);
	return 0;
}
