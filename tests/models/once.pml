/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A change of metadata is asked for, and asked for again, until somebody answers; coordinators die at
 * any moment. Is it done exactly once? docs/formats/csv-protocol.md, "Numbers of requests".
 *
 *   MEMORY    the coordinator remembers what it answered
 *   RECORD    the journal remembers which requests were done
 *   SPLIT     in a transaction of its own, behind the one that does it
 *   FIRST     likewise, in front of it
 */
#define COORDINATORS 3

byte done = 0;        /* times it was done, durably */
bool record = false;  /* durable */
bool cache = false;   /* of the coordinator that is alive */
byte coordinators = 1;
byte asked = 0;       /* requests on their way, also late ones */
byte step = 0;        /* of the coordinator: 0 idle, 1 half of it is durable, 2 all */
bool answered = false;

#ifdef RECORD
#define KNOWN record
#else
#ifdef MEMORY
#define KNOWN cache
#else
#define KNOWN false
#endif
#endif

inline first_half()
{
#ifdef SPLIT
	done++; step = 1
#else
#ifdef FIRST
	record = true; step = 1
#else
	done++; record = true; step = 2
#endif
#endif
}

inline second_half()
{
#ifdef SPLIT
	record = true;
#else
	done++;
#endif
	step = 2
}

active proctype World()
{
	do
	:: atomic { !answered && asked < 2 -> asked++ }
	:: atomic { asked > 0 && step == 0 -> asked--;
		if
		:: KNOWN -> step = 2
		:: else -> first_half()
		fi }
	:: atomic { step == 1 -> second_half() }
	:: atomic { step == 2 -> step = 0; cache = true; answered = true; assert(done == 1) }
	:: atomic { step == 2 -> step = 0; cache = true } /* the answer is lost */
	:: atomic { coordinators < COORDINATORS -> coordinators++; step = 0; cache = false;
		if
		:: asked = 0 /* with the connection */
		:: skip
		fi }
	:: atomic { done > 1 -> assert(false) }
	:: answered && asked == 0 && step == 0 -> break
	od
}
