/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A lease in discrete time: the holder renews, the observer starts the VM elsewhere when the lease
 * is over for certain. Any message may be late or lost, and the holder's user space may stand
 * still at any time while its vCPUs run on. docs/safety.md, "Leases".
 *
 *   REPLY     the holder counts from the reply instead of from before it sent
 *   PETLATE   the watchdog is petted as long as the lease lasts, not only until L - W
 *   EARLY     the observer does not wait for the margin: a lease that ends now is over
 *   NODOG     there is no watchdog
 */
#define LEASE 7
#define DOG 3
#define END 18

#ifdef REPLY
#define BASE now
#else
#define BASE sent
#endif
#ifdef PETLATE
#define PETTABLE (now < until)
#else
#define PETTABLE (now + DOG < until)
#endif
#ifdef EARLY
#define OVER (now + 2 >= seen + LEASE)
#else
#define OVER (now > seen + LEASE)
#endif

byte now = 0;
byte sent = 0;  /* when the renewal under way was sent */
byte until = LEASE; /* the holder's right, as it believes */
byte seen = 0;  /* when the observer learned of the last renewal */
byte pet = 0;
byte way = 0;   /* the renewal: 0 none, 1 sent, 2 it counted */
bool still = false; /* the holder's user space */
bool runs = true;
bool elsewhere = false;

inline tick()
{
	now++;
	if
	:: !still && now >= until -> runs = false
	:: else -> skip
	fi;
	if
	:: !still && PETTABLE -> pet = now
	:: else -> skip
	fi;
#ifndef NODOG
	if
	:: now >= pet + DOG -> runs = false; still = true
	:: else -> skip
	fi;
#endif
	assert(!(runs && elsewhere))
}

active proctype World()
{
	do
	:: now < END -> atomic {
		if
		:: tick()
		:: !still && runs && way == 0 -> sent = now; way = 1
		:: way == 1 -> way = 2; seen = now
		:: !still && way == 2 -> until = (BASE + LEASE > until -> BASE + LEASE : until); way = 0
		:: way != 0 -> way = 0 /* lost, or its reply */
		:: !still -> still = true
		:: still && runs -> still = false
		:: OVER -> elsewhere = true; assert(!runs)
		fi
	   }
	:: now == END -> break
	od
}
