/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the nearest word of a table. */
#include <string.h>

#include "base/attr.h"
#include "base/cli/cli_int.h"

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

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Optimal string alignment: three rows of the table are enough to see a swap. */
uint32_t cli_distance(const char *a, const char *b)
{
	uint32_t rows[3][CLI_WORD_MAX + 1];
	size_t a_len = strlen(a);
	size_t b_len = strlen(b);

	if (a_len > CLI_WORD_MAX || b_len > CLI_WORD_MAX) {
		return UINT32_MAX;
	}
	for (uint32_t j = 0; j <= b_len; j++) {
		rows[0][j] = j;
	}
	for (uint32_t i = 1; i <= a_len; i++) {
		uint32_t *row = rows[i % 3];
		const uint32_t *above = rows[(i + 2) % 3];
		const uint32_t *above2 = rows[(i + 1) % 3];

		row[0] = i;
		for (uint32_t j = 1; j <= b_len; j++) {
			uint32_t cost = a[i - 1] == b[j - 1] ? 0 : 1;

			row[j] = min_u32(above[j - 1] + cost, min_u32(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				row[j] = min_u32(row[j], above2[j - 2] + 1);
			}
		}
	}
	return rows[a_len % 3][b_len];
}

void cli_nearest_offer(struct cli_nearest *near, const char *candidate)
{
	size_t typed_len = strlen(near->typed);
	size_t len = strlen(candidate);
	uint32_t distance = cli_distance(near->typed, candidate);
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
