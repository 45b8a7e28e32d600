/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_HA_NOTE_H
#define BIN_GODWITD_HA_NOTE_H

/*
 * ha_note - what became of a move, written into the VM's document: said until the log has it, or it
 * is too old to matter. Without a view for a moment nobody would learn how long a VM stood still.
 *
 * Notes about one VM are written in their order. Thread: the loop's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/list.h"
#include "cluster/rsm/rsm.h"

struct db_cmd;

/* As member_propose(). */
typedef int (*ha_note_fn)(void *arg, const struct db_cmd *cmd, uint64_t timeout_ns, rsm_done_fn fn,
                          void *fn_arg);

/* Does the document of VM @name know of something later than @patch? */
typedef bool (*ha_note_late_fn)(void *arg, const char *name, const json_t *patch);

struct ha_notes {
	struct list list; /* of struct ha_note, owned */
	ha_note_fn propose;
	ha_note_late_fn late;
	void *arg;
};

void ha_notes_init(struct ha_notes *notes, ha_note_fn propose, ha_note_late_fn late, void *arg);

/* ha_notes_stop() - what is not in the log yet is forgotten. */
void ha_notes_stop(struct ha_notes *notes);

/* ha_note() - merge @patch (taken; NULL: no memory) into the document of VM @name. */
void ha_note(struct ha_notes *notes, const char *name, json_t *patch, uint64_t now_ns);

/* ha_notes_look() - say again what was refused or lost, unless another node has moved the VM
 * since. */
void ha_notes_look(struct ha_notes *notes, uint64_t now_ns);

#endif
