/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_MOVE_CHECK_H
#define BIN_GODWITD_MOVE_CHECK_H

/*
 * move_check - could a VM of another node run here? All that speaks against it, not only the first
 * thing: its definition, name, memory, CPU model, and whether its files and switches are here.
 * Nothing is made or changed. Blocks as long as opening files does. Thread: the loop's.
 */

#include "base/json.h"

struct compat;
struct guid;
struct manager;
struct switch_api;

/* move_check() - @definition, @disks (move_disks.h): as the peer sent them, hostile. Adds to
 * @report. */
void move_check(struct manager *manager, const struct switch_api *switches,
                const json_t *definition, const struct guid *move, const json_t *disks,
                struct compat *report);

#endif
