/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_HEXFILE_H
#define TESTS_LIB_HEXFILE_H

/*
 * hexfile - large, mostly empty files as small texts in tests/vectors/.
 *
 *	size a00000              length of the file, first
 *	10000 68656164           bytes at an offset
 *	800000 5a*10000          a byte so many times
 *
 * All numbers hexadecimal, # starts a comment line, what is not there is zero.
 */

#include <stddef.h>
#include <stdint.h>

/* hexfile_load() - the file that the text at @path describes. The test fails if it cannot be read.
 * Returns memory for free(). */
uint8_t *hexfile_load(const char *path, size_t *len_bytes);

#endif
