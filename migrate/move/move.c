/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/move/move.h"

const char *move_phase_name(enum move_phase phase)
{
	switch (phase) {
	case MOVE_CONNECT:
		return "connect";
	case MOVE_CHECK:
		return "check";
	case MOVE_COPY:
		return "copy";
	case MOVE_STOP:
		return "stop";
	case MOVE_LOAD:
		return "load";
	case MOVE_HANDOFF:
		return "handoff";
	case MOVE_COMMITTED:
		return "committed";
	case MOVE_ENDED:
		return "ended";
	}
	return "?";
}

const char *move_outcome_name(enum move_outcome outcome)
{
	switch (outcome) {
	case MOVE_DONE:
		return "done";
	case MOVE_FAILED:
		return "failed";
	case MOVE_REFUSED:
		return "refused";
	case MOVE_CANCELED:
		return "canceled";
	case MOVE_UNKNOWN:
		return "unknown";
	}
	return "?";
}
