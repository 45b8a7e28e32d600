/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_NETVSP_SLOTS_H
#define HV_VSP_NETVSP_SLOTS_H

/*
 * slots - who has which part of the receive buffer.
 *
 * The buffer is an array of equal slots. The adapter takes a slot, fills it, and gives one or
 * several of them to the guest in one transaction, named by the first of them; the guest returns
 * the transaction. A transaction that the guest does not have is refused, so nothing a guest
 * returns twice can be lent twice. Pure.
 *
 *   FREE --take--> TAKEN --give--> HEAD, PART (guest) --return--> FREE
 *                  TAKEN --put--> FREE
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define SLOTS_NONE UINT32_MAX
#define SLOTS_MAX 16384u /* 32 MiB of slots for 1500 byte frames */

enum slots_state { SLOTS_FREE, SLOTS_TAKEN, SLOTS_HEAD, SLOTS_PART };

struct slots_slot {
	uint32_t next; /* in the free list or in the transaction; SLOTS_NONE = last */
	uint8_t state; /* enum slots_state */
	uint8_t owner; /* HEAD: which channel's guest side has it */
};

struct slots {
	struct slots_slot *slot; /* owned: [count]; NULL = no buffer */
	uint32_t count;
	uint32_t free_first;
	uint32_t free_count;
};

/* slots_init() - @count (1..SLOTS_MAX) free slots. Returns 0; -ENOMEM. */
MUST_USE int slots_init(struct slots *s, uint32_t count);
/* slots_fini() - forget the buffer; zeroed memory is fine, too. */
void slots_fini(struct slots *s);

/* slots_take() - a free slot; SLOTS_NONE. slots_put() - it was not needed. */
uint32_t slots_take(struct slots *s);
void slots_put(struct slots *s, uint32_t index);

/* slots_give() - @index[count] (taken) go to the guest as one transaction named index[0]. */
void slots_give(struct slots *s, uint8_t owner, const uint32_t *index, uint32_t count);

/* slots_return() - the guest returns transaction @head (hostile) on channel @owner.
 * Returns how many slots became free; -ENOENT the guest does not have it. */
MUST_USE int slots_return(struct slots *s, uint8_t owner, uint64_t head);

/* slots_claim() - when loading: take this one (hostile). Returns 0; -EBADMSG it is none, or taken.
 * slots_claimed() - after the last of them; nothing else works in between. */
MUST_USE int slots_claim(struct slots *s, uint64_t index);
void slots_claimed(struct slots *s);

/* slots_return_all() - channel @owner is gone: all it had is free. */
void slots_return_all(struct slots *s, uint8_t owner);

#endif
