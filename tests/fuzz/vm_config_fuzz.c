/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vm_config_fuzz - a definition of a VM as JSON: what a user wrote is completed, and what is
 * complete and accepted is accepted again as it was kept.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/errbuf.h"
#include "hv/config/vm_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Decode, keep as text, decode again. */
static void fuzz_decode(json_t *json)
{
	struct vm_config config;
	struct vm_config again;
	struct errbuf eb = {0};
	json_t *copy;
	char *text;

	if (vm_config_decode(json, &config, &eb) != 0) {
		CHECK(eb.text[0] != '\0');
		return;
	}
	CHECK(config.cpus >= 1 && config.cpus <= VM_CPUS_MAX);
	CHECK(config.disk_count <= VM_DISKS_MAX && config.nic_count <= VM_NICS_MAX);
	text = json_text(config.json, 0);
	CHECK(text != NULL && json_parse(text, strlen(text), NULL, &copy, NULL) == 0);
	CHECK(vm_config_decode(copy, &again, NULL) == 0);
	CHECK(again.memory_bytes == config.memory_bytes && strcmp(again.name, config.name) == 0);
	vm_config_fini(&again);
	json_decref(copy);
	free(text);
	vm_config_fini(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	json_t *json;

	if (json_parse(data, len, NULL, &json, NULL) != 0) {
		return 0;
	}
	fuzz_decode(json);
	if (vm_config_complete(json, NULL) == 0) {
		fuzz_decode(json);
	}
	json_decref(json);
	return 0;
}
