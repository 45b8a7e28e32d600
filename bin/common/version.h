/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_COMMON_VERSION_H
#define BIN_COMMON_VERSION_H

/* The version of this build, from CMakeLists.txt: "0.1.0". */
extern const char godwit_version[];

/* The version of the API and of what --json prints; it grows when something old goes away. */
#define GODWIT_API_VERSION 1

#endif
