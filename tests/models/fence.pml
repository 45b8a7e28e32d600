/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One VM moves from a dead-looking node (token 1) to another (token 2). Which of these are needed
 * so that no write of the old one follows one of the new one? docs/safety.md, "Tokens".
 *
 *   PREEMPT   the old node's key is taken away: its disk commands are not accepted any more
 *   ABORT     and what the disk has accepted from it is aborted
 *   RESET     the old node was reset by its watchdog, which was waited for
 *   INFLIGHT  and the disk was given the time to execute what it had accepted
 *   CHECK     a node that does I/O for another refuses tokens below the one it knows
 *   RAISE     that node knows the new token before the VM starts, not only afterwards
 */

byte written = 0;           /* the highest token that reached the disk */
bool registered = true;     /* the old node's key */
bool alive = true;          /* the old node; it never learns that it was replaced */
byte known = 1;             /* the current token, as the redirecting node knows it */
chan accepted = [2] of { byte }; /* by the disk from the old node, not executed yet */
chan redirected = [2] of { byte }; /* on its way from the old node through another */

inline execute(token)
{
	assert(token >= written);
	written = token
}

active proctype Old()
{
	do
	:: atomic { alive && registered && nfull(accepted) -> accepted!1 }
	:: atomic { alive && nfull(redirected) -> redirected!1 }
	:: !alive -> break
	od
}

active proctype Disk()
{
	byte token;
end:
	do
	:: atomic { accepted?token -> execute(token) }
	od
}

active proctype Redirecting()
{
	byte token;
end:
	do
	:: atomic { redirected?token ->
#ifdef CHECK
		if
		:: token >= known -> execute(token)
		:: else -> skip
		fi
#else
		execute(token)
#endif
	   }
	od
}

active proctype Cluster()
{
	byte token;
#ifdef RESET
	alive = false;
#endif
#ifdef PREEMPT
	registered = false;
#endif
#ifdef ABORT
	atomic { do :: accepted?token :: empty(accepted) -> break od }
#endif
#ifdef INFLIGHT
	empty(accepted);
#endif
#ifdef RAISE
	known = 2;
#endif
	atomic { execute(2) } /* the VM runs on its new node */
#ifndef RAISE
	known = 2
#endif
}
