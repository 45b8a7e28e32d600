/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the nearest word of a table. */
#include <string.h>

#include "base/attr.h"
#include "base/cli/cli_int.h"
#include "base/text.h"

/* Words of other tools for ours: what a hand types before the head has changed. */
static const struct {
	const char *other;
	const char *ours;
} synonyms[] = {
	{"delete", "remove"},       {"rm", "remove"},      {"del", "remove"},
	{"destroy", "remove"},      {"ls", "list"},        {"ps", "list"},
	{"info", "show"},           {"get", "show"},       {"describe", "show"},
	{"status", "show"},         {"new", "create"},     {"add", "create"},
	{"make", "create"},         {"migrate", "move"},   {"mv", "move"},
	{"shutdown", "stop"},       {"poweroff", "stop"},  {"kill", "stop"},
	{"boot", "start"},          {"run", "start"},      {"reboot", "restart"},
	{"reset", "restart"},       {"suspend", "pause"},  {"unpause", "resume"},
	{"continue", "resume"},     {"update", "set"},     {"edit", "set"},
	{"modify", "set"},          {"test", "check"},     {"verify", "check"},
	{"validate", "check"},      {"evacuate", "drain"}, {"maintenance", "drain"},
	{"follow", "watch"},        {"tail", "log"},       {"logs", "log"},
	{"why", "explain"},         {"guest", "vm"},       {"machine", "vm"},
	{"volume", "csv"},          {"image", "disk"},     {"bridge", "switch"},
	{"snapshot", "checkpoint"}, {"task", "job"},       {"hypervisor", "host"},
	{"member", "node"},         {"vote", "quorum"},    {"witness", "quorum"},
};

void cli_nearest_offer(struct cli_nearest *near, const char *candidate)
{
	size_t typed_len = strlen(near->typed);
	size_t len = strlen(candidate);
	uint32_t distance = text_distance(near->typed, candidate);
	/* One slip in a short word, one more for every four letters. */
	uint32_t limit = 1 + (uint32_t)((typed_len > len ? typed_len : len) / 4);

	if (distance >= typed_len || distance >= len) { /* nothing in common */
		distance = UINT32_MAX;
	}
	if (typed_len > 0 && typed_len < len && strncmp(near->typed, candidate, typed_len) == 0) {
		distance = 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(synonyms); i++) {
		if (strcmp(near->typed, synonyms[i].other) == 0 &&
		    strcmp(candidate, synonyms[i].ours) == 0) {
			distance = 1;
		}
	}
	if (distance <= limit && (near->best == NULL || distance < near->distance)) {
		near->best = candidate;
		near->distance = distance;
	}
}
