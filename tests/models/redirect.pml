/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A node without a path to the device writes through another one, gets no answer, and writes the same
 * through a third; then it writes something newer to the same place. May the first one's copy come
 * late? docs/formats/csv-protocol.md, "Redirected I/O".
 *
 *   SETTLE    before it goes another way, the first way is settled: it says what became of the write,
 *             or there is a fence proof about it
 *   ABORT     and the proof also ends what the device had accepted from it
 */

byte device = 0;     /* the version that is there */
byte queue = 0;      /* in the first node: 0 nothing, else a version */
byte accepted = 0;   /* by the device from the first node, not executed */
byte acked = 0;      /* what the guest was told is written */
bool reachable = true;
bool settled = false;

inline execute(version)
{
	device = version;
	assert(device >= acked)
}

active proctype First()
{
end:
	do
	:: atomic { queue != 0 && accepted == 0 -> accepted = queue; queue = 0 }
	:: atomic { accepted != 0 -> execute(accepted); accepted = 0 }
	od
}

active proctype Node()
{
	queue = 1;
	if
	:: atomic { queue == 0 && accepted == 0 -> acked = 1 } /* answered */
	:: reachable = false /* or not, for whatever reason */
	fi;
	if
	:: acked == 1 -> goto newer
	:: else -> skip
	fi;
#ifdef SETTLE
	if
	:: queue == 0 && accepted == 0 -> settled = true /* its word */
	:: atomic { queue = 0; /* a proof */
#ifdef ABORT
		accepted = 0;
#endif
		settled = true }
	fi;
#endif
	atomic { execute(1); acked = 1 }
newer:
	atomic { execute(2); acked = 2 }
}
