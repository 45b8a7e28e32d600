/* SPDX-License-Identifier: Apache-2.0 */

/*
 * When may a writer be told that its entry is in the database? Three nodes; the writer is node 0,
 * whose own messages are delivered to it at once. At any time it is cut off, or all lose power.
 * After that any two nodes that are left decide what is in the database.
 *
 *   MAJORITY  it is told when two of three have acknowledged; else on delivery to itself
 *   PERSIST   a node acknowledges what is on its disk; else what it has received
 */

bool received[3];
bool persisted[3];
byte acks = 0;
bool told = false;
bool cut = false;
bool outage = false;

#define HAS(n) (persisted[n] || (received[n] && !outage))

#ifdef PERSIST
#define READY(n) persisted[n]
#else
#define READY(n) received[n]
#endif

proctype Node(byte n)
{
	bool answered = false;

	do
	:: atomic { !outage && !received[n] && (n == 0 || (!cut && received[0])) ->
		received[n] = true }
	:: atomic { !outage && received[n] && !persisted[n] -> persisted[n] = true }
	:: atomic { !outage && !answered && READY(n) && (n == 0 || !cut) ->
		answered = true; acks++ }
#ifdef MAJORITY
	:: atomic { n == 0 && !outage && !told && acks >= 2 -> told = true }
#else
	:: atomic { n == 0 && !outage && !told && received[0] -> told = true }
#endif
	:: outage -> break
	od
}

active proctype World()
{
	run Node(0);
	run Node(1);
	run Node(2);
	if
	:: cut = true;
	   /* The majority goes on without the writer; what one of them has the other gets. */
	   assert(!told || HAS(1) || HAS(2))
	:: skip
	fi;
	outage = true;
	/* Any two of the three come back first. */
	assert(!told || HAS(0) || HAS(1));
	assert(!told || HAS(0) || HAS(2));
	assert(!told || HAS(1) || HAS(2))
}
