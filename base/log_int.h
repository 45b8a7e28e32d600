/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOG_INT_H
#define BASE_LOG_INT_H

/*
 * log_check_failed() - the last act of a failed CHECK(), which has told stderr itself: one line to
 * the other outputs, the blackbox to its file. Waits a second at most for a thread that is
 * writing, and does not mind if that is the caller.
 */
void log_check_failed(const char *cond, const char *file, int line);

#endif
