/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/ha_note.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "cluster/db/db.h"
#include "cluster/db/db_cmd.h"
#include "hv/config/vm_config.h"

#define TAG "ha"
#define NOTE_NS (5 * NS_PER_S)       /* for one attempt */
#define NOTE_KEEP_NS (60 * NS_PER_S) /* then nobody waits for it any more */

struct ha_note {
	struct list link;
	struct ha_notes *notes; /* back pointer; NULL = forgotten while it is asked */
	char name[VM_NAME_MAX + 1];
	json_t *patch; /* owned */
	uint64_t until_ns;
	bool asked; /* a proposal is under way, and comes back here */
};

void ha_notes_init(struct ha_notes *notes, ha_note_fn propose, ha_note_late_fn late, void *arg)
{
	list_init(&notes->list);
	notes->propose = propose;
	notes->late = late;
	notes->arg = arg;
}

static void note_free(struct ha_note *n)
{
	json_decref(n->patch);
	free(n);
}

/* Frees it, at once or when the answer is there. */
static void forget(struct ha_note *n)
{
	list_del(&n->link);
	n->notes = NULL;
	if (!n->asked) {
		note_free(n);
	}
}

void ha_notes_stop(struct ha_notes *notes)
{
	list_for_each_safe(at, &notes->list)
	{
		forget(list_entry(at, struct ha_note, link));
	}
}

static void say(struct ha_notes *notes);

static void on_answer(void *arg, enum rsm_outcome outcome, const struct rsm_result *result)
{
	struct ha_note *n = arg;
	struct ha_notes *notes = n->notes;

	(void)result; /* a VM that is gone meanwhile needs none */
	n->asked = false;
	if (notes == NULL) {
		note_free(n);
	} else if (outcome == RSM_DONE) {
		forget(n);
		say(notes); /* the next one about this VM */
	}
}

static void propose(struct ha_notes *notes, struct ha_note *n)
{
	struct db_cmd cmd;

	db_cmd_init(&cmd);
	db_cmd_merge(&cmd, DB_VM, n->name, n->patch);
	n->asked = db_cmd_end(&cmd) == 0 &&
	           notes->propose(notes->arg, &cmd, NOTE_NS, on_answer, n) == 0;
	db_cmd_fini(&cmd);
}

/* Is one that came before it, about the same VM, still there? */
static bool waits(const struct ha_notes *notes, const struct ha_note *n)
{
	list_for_each(at, &notes->list)
	{
		const struct ha_note *before = list_entry(at, struct ha_note, link);

		if (before == n) {
			return false;
		}
		if (strcmp(before->name, n->name) == 0) {
			return true;
		}
	}
	return false;
}

static void drop_old(struct ha_notes *notes, uint64_t now_ns)
{
	list_for_each_safe(at, &notes->list)
	{
		struct ha_note *n = list_entry(at, struct ha_note, link);

		if (!n->asked &&
		    (now_ns >= n->until_ns || notes->late(notes->arg, n->name, n->patch))) {
			log_info(TAG, "what became of a move is not noted vm=%s", n->name);
			forget(n);
		}
	}
}

static void say(struct ha_notes *notes)
{
	list_for_each(at, &notes->list)
	{
		struct ha_note *n = list_entry(at, struct ha_note, link);

		if (!n->asked && !waits(notes, n)) {
			propose(notes, n);
		}
	}
}

void ha_notes_look(struct ha_notes *notes, uint64_t now_ns)
{
	drop_old(notes, now_ns);
	say(notes);
}

void ha_note(struct ha_notes *notes, const char *name, json_t *patch, uint64_t now_ns)
{
	struct ha_note *n = patch != NULL ? gw_calloc(1, sizeof(*n)) : NULL;

	if (n == NULL) {
		log_info(TAG, "no memory to note what became of a move vm=%s", name);
		json_decref(patch);
		return;
	}
	n->notes = notes;
	n->patch = patch;
	n->until_ns = now_ns + NOTE_KEEP_NS;
	(void)snprintf(n->name, sizeof(n->name), "%s", name);
	list_add_tail(&notes->list, &n->link);
	say(notes);
}
