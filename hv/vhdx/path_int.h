/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VHDX_PATH_INT_H
#define HV_VHDX_PATH_INT_H

/*
 * path - the ways a child names its parent. In the file separators are backslashes and paths are
 * relative to the child's folder; here they are slashes. Pure, but for vhdx_path_absolute().
 */

#include <stddef.h>

#include "base/attr.h"

/*
 * vhdx_path_resolve() - the path that @name (as in a locator) is, seen from the disk @from.
 * Returns 0; -ENAMETOOLONG.
 */
MUST_USE int vhdx_path_resolve(const char *from, const char *name, char *out, size_t size);

/*
 * vhdx_path_relative() - how the disk @from names @to in its locator; both absolute, without
 * "." and "..".
 * Returns 0; -ENAMETOOLONG; -EINVAL a backslash in a name: it would become a separator.
 */
MUST_USE int vhdx_path_relative(const char *from, const char *to, char *out, size_t size);

/*
 * vhdx_path_absolute() - @path absolute, its folder without links; the file itself need not exist.
 * Returns 0; -errno.
 */
MUST_USE int vhdx_path_absolute(const char *path, char *out, size_t size);

#endif
