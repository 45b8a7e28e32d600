/* SPDX-License-Identifier: Apache-2.0 */

/*
 * May the vote of a program on a third machine that keeps nothing (corosync-qnetd) let one of two
 * nodes go on alone? It gives its vote to one of two halves at a time; that the other has noticed
 * by then that it has none (VOTE of both) is taken for granted: a matter of its timeouts. Whoever
 * goes on alone acknowledges entries that only it has.
 *
 *   TAG    the third one remembers who went on alone, until both are together again
 *   FRESH  it does not, but a node uses the vote only if its connection is the one that it had when
 *          both were together, and the vote was never refused to it since
 *   NACK   who does not get the vote, and is connected, is told so before the other gets it
 *   KEEP   a new connection counts as the old one
 */

#define NOBODY 2
#define ENTRIES 3

bool up[2];
bool conn[2];
bool fresh[2];
bool vote[2];
bool link = true;
bool together = false;
byte log[2];
byte told = 0;
byte tag = NOBODY;

#ifdef FRESH
#define MAY(n) fresh[n]
#else
#define MAY(n) true
#endif

#ifdef TAG
#define MINE(n) (tag == NOBODY || tag == n)
#else
#define MINE(n) true
#endif

proctype Node(byte n)
{
	do
	:: atomic { up[n] -> up[n] = false; conn[n] = false; fresh[n] = false; vote[n] = false;
		together = false }
	:: atomic { !up[n] -> up[n] = true }
	/* The third one drops it; it learns of that later. */
	:: atomic { conn[n] -> conn[n] = false }
	:: atomic { up[n] && !conn[n] ->
		vote[n] = false;
#ifndef KEEP
		fresh[n] = false;
#endif
		conn[n] = true }
	:: atomic { together && conn[n] -> fresh[n] = true }
	:: atomic { up[n] && conn[n] && !together && !vote[0] && !vote[1] && MINE(n) ->
#ifdef NACK
		if
		:: conn[1 - n] -> fresh[1 - n] = false
		:: else
		fi;
#endif
		tag = n;
		vote[n] = MAY(n) }
	:: atomic { vote[n] && !together && told < ENTRIES ->
		assert(log[n] == told);
		log[n]++;
		told++ }
	od
}

active proctype World()
{
	up[0] = true;
	up[1] = true;
	run Node(0);
	run Node(1);
	do
	:: atomic { link -> link = false; together = false }
	:: atomic { !link -> link = true }
	:: atomic { link && up[0] && up[1] && !together ->
		if
		:: log[0] < log[1] -> log[0] = log[1]
		:: else -> log[1] = log[0]
		fi;
		assert(log[0] == told);
		vote[0] = false;
		vote[1] = false;
		tag = NOBODY;
		together = true }
	:: atomic { together && told < ENTRIES -> log[0]++; log[1]++; told++ }
	od
}
