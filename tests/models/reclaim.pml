/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One lock of a shared volume, two nodes that want it, coordinators that die with all they know, and
 * nodes that stand still at any time while what they sent to the device goes on. Which of these are
 * needed so that never both use it? docs/safety.md, "Coordinators".
 *
 *   RECLAIM   a new coordinator begins in grace: what is held is claimed again, nothing is granted
 *   WAIT      grace ends when everybody has claimed or is proven gone; else at any time
 *   PROOF     what a silent node holds is dropped after a proof that stops it; else when it is silent
 *   TERM      a grant of another term than that of the coordinator that a node knows is not believed
 */
#define NOBODY 2
#define TERMS 3

byte term = 1;        /* of the volume */
bool up = true;       /* its coordinator */
bool grace = false;
byte holder = NOBODY; /* as the coordinator knows it */
bool uses[2];         /* what is true */
byte knows[2];        /* the term of the coordinator that the node greeted */
bool claimed[2];      /* in this term */
bool still[2];
bool gone[2];         /* in the eyes of the cluster */
byte granted[2];      /* a grant on its way: its term */

#ifdef TERM
#define BELIEVED(i) (granted[i] == knows[i])
#else
#define BELIEVED(i) true
#endif
#ifdef WAIT
#define ALL_CLAIMED ((claimed[0] || gone[0]) && (claimed[1] || gone[1]))
#else
#define ALL_CLAIMED true
#endif

inline grant(i)
{
	if
	:: granted[i] == 0 && !uses[i] && !gone[i] && knows[i] == term && up && !grace &&
	   (holder == NOBODY || holder == i) -> holder = i; granted[i] = term
	:: !still[i] && granted[i] != 0 ->
		if
		:: BELIEVED(i) -> uses[i] = true
		:: else -> skip
		fi;
		granted[i] = 0
	:: granted[i] != 0 -> granted[i] = 0 /* lost */
	:: !still[i] && uses[i] && up && !grace && knows[i] == term && holder == i ->
		uses[i] = false; holder = NOBODY
	fi
}

inline greet(i)
{
	up && !still[i] && !gone[i] && knows[i] < term;
	if
	:: grace && uses[i] -> assert(holder == NOBODY || holder == i); holder = i
	:: else -> skip
	fi;
	knows[i] = term;
	claimed[i] = true
}

inline silence(i)
{
	still[i] && !gone[i];
	gone[i] = true;
#ifdef PROOF
	uses[i] = false;
	granted[i] = 0;
#endif
	if
	:: holder == i -> holder = NOBODY
	:: else -> skip
	fi
}

active proctype World()
{
	byte i;

	knows[0] = 1;
	knows[1] = 1;
	do
	:: atomic { if :: i = 0 :: i = 1 fi; if :: grant(i) :: else -> skip fi }
	:: atomic { up && knows[0] < term; if :: greet(0) :: else -> skip fi }
	:: atomic { up && knows[1] < term; if :: greet(1) :: else -> skip fi }
	:: atomic { !still[0] -> still[0] = true }
	:: atomic { !still[1] -> still[1] = true }
	:: atomic { still[0] && (!gone[0] || uses[0]) -> still[0] = false }
	:: atomic { still[1] && (!gone[1] || uses[1]) -> still[1] = false }
	:: atomic { silence(0) }
	:: atomic { silence(1) }
	:: atomic { up -> up = false }
	:: atomic { !up && term < TERMS -> term++; up = true; holder = NOBODY;
		claimed[0] = false; claimed[1] = false;
#ifdef RECLAIM
		grace = true
#endif
	   }
	:: atomic { up && grace && ALL_CLAIMED -> grace = false }
	:: !up && term == TERMS -> break
	od;
}

active proctype Watch()
{
	do
	:: atomic { uses[0] && uses[1] -> assert(false) }
	:: !up && term == TERMS -> break
	od
}
