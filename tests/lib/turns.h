/* SPDX-License-Identifier: Apache-2.0 */

/*
 * turns - how much of a long search a test does in this build.
 *
 * A test that tries the same thing at hundreds of places or with hundreds of seeds does all of it
 * in builds without sanitizers, and a tenth in those with them: there it runs ten times slower, and
 * looks for what each of these turns would show (memory, undefined behaviour), not for the
 * one place among many where a disk's content is wrong. docs/decisions/0250.
 */
#ifndef TESTS_LIB_TURNS_H
#define TESTS_LIB_TURNS_H

#include <stdint.h>

/* Set by gw_test() in cmake/GodwitModule.cmake. */
#ifdef GW_SANITIZE
#define TURNS_SHARE 10u
#else
#define TURNS_SHARE 1u
#endif

/* turns() - how many of @all to do; at least one. */
static inline uint32_t turns(uint32_t all)
{
	return all < TURNS_SHARE ? 1 : all / TURNS_SHARE;
}

/* turns_stride() - every so many-th place, where the whole test takes every @stride-th. */
static inline uint32_t turns_stride(uint32_t stride)
{
	return stride * TURNS_SHARE;
}

#endif
