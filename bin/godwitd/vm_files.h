/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_VM_FILES_H
#define BIN_GODWITD_VM_FILES_H

/*
 * vm_files - the files that a definition names: what is missing is said when it is made, not when
 * the VM is started some night.
 */

#include "base/attr.h"

struct errbuf;
struct json_t;

/*
 * vm_files_check() - are the disks, the kernel and the initial RAM disk of @definition there?
 * @made: an array of requests for disk_api_make(), whose disks are to be made.
 * Returns 0; -ENOENT, -EISDIR, ... as patience_file(), with a text that names the file and a hint.
 */
MUST_USE int vm_files_check(const struct json_t *definition, const struct json_t *made,
                            struct errbuf *eb);

#endif
