/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/slots.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/fault.h"

static void slots_free(struct slots *s, uint32_t index)
{
	s->slot[index] = (struct slots_slot){.next = s->free_first, .state = SLOTS_FREE};
	s->free_first = index;
	s->free_count++;
}

int slots_init(struct slots *s, uint32_t count)
{
	CHECK(count >= 1 && count <= SLOTS_MAX);
	*s = (struct slots){.slot = gw_calloc(count, sizeof(*s->slot)), .free_first = SLOTS_NONE};
	if (s->slot == NULL) {
		return -ENOMEM;
	}
	s->count = count;
	while (s->free_count < count) {
		slots_free(s, count - 1 - s->free_count); /* the first is taken first */
	}
	return 0;
}

void slots_fini(struct slots *s)
{
	free(s->slot);
	*s = (struct slots){.free_first = SLOTS_NONE};
}

uint32_t slots_take(struct slots *s)
{
	uint32_t index = s->slot != NULL ? s->free_first : SLOTS_NONE;

	if (index != SLOTS_NONE) {
		s->free_first = s->slot[index].next;
		s->free_count--;
		s->slot[index] = (struct slots_slot){.next = SLOTS_NONE, .state = SLOTS_TAKEN};
	}
	return index;
}

void slots_put(struct slots *s, uint32_t index)
{
	CHECK(index < s->count && s->slot[index].state == SLOTS_TAKEN);
	slots_free(s, index);
}

void slots_give(struct slots *s, uint8_t owner, const uint32_t *index, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		CHECK(index[i] < s->count && s->slot[index[i]].state == SLOTS_TAKEN);
		s->slot[index[i]] = (struct slots_slot){
			.next = i + 1 < count ? index[i + 1] : SLOTS_NONE,
			.state = i == 0 ? SLOTS_HEAD : SLOTS_PART,
			.owner = owner,
		};
	}
}

int slots_return(struct slots *s, uint8_t owner, uint64_t head)
{
	int count = 0;

	if (head >= s->count || s->slot[head].state != SLOTS_HEAD || s->slot[head].owner != owner) {
		return -ENOENT;
	}
	for (uint32_t at = (uint32_t)head; at != SLOTS_NONE; count++) {
		uint32_t next = s->slot[at].next;

		slots_free(s, at);
		at = next;
	}
	return count;
}

int slots_claim(struct slots *s, uint64_t index)
{
	if (index >= s->count || s->slot[index].state != SLOTS_FREE) {
		return -EBADMSG;
	}
	s->slot[index] = (struct slots_slot){.next = SLOTS_NONE, .state = SLOTS_TAKEN};
	return 0;
}

void slots_claimed(struct slots *s)
{
	s->free_first = SLOTS_NONE;
	s->free_count = 0;
	for (uint32_t i = s->count; i-- != 0;) {
		if (s->slot[i].state == SLOTS_FREE) {
			slots_free(s, i);
		}
	}
}

void slots_return_all(struct slots *s, uint8_t owner)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->slot[i].state == SLOTS_HEAD && s->slot[i].owner == owner) {
			CHECK(slots_return(s, owner, i) > 0);
		}
	}
}
