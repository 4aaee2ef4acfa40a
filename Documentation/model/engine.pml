/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The engine: every order of the steps
 *
 * Two tasks queue objects and flush; a third one queues an object whose release
 * never ends. What is looked for is an order of steps that breaks one of these:
 *
 *   READERS	an object is released after a grace period that began when it was queued;
 *   FLUSHED	when a flush returns, all that was queued before it is released;
 *   SORTED	what is tracked stands there oldest first;
 *
 * and that an object is never released, or a flush never returns, which spin finds by
 * itself as an invalid end state. A flush may have to be killed if what never ends
 * came to its batch, or to one before.
 *
 * Functions have the names of those in module/nsproxy_defer.c. What they do under the
 * engine's lock is one step. README.rst tells what each of the switches breaks.
 */

/* Objects, as bits; what never ends, and the batch that it came to. */
#define HANGS		8
byte queued, released, hangs_in;

/* The batch that collects, the one in gp, and the one that is being handed out. */
byte arrivals, gp_members, ready_members;
byte next_batch = 1;
bool gp_under_way, gp_over;
/* What was queued when the grace period began, and before others that are over. */
byte gp_covers, covered;

/* Two slots, and the object that each has. */
byte member[2];

/* The list of what is tracked, and the batch of each: the slots, and these. */
#define GP		2
#define READY		3
#define NOBODY		4
byte tracked[4], nr_tracked, batch[4];

/* Flushes in their order, the batch that each waits for, and if it is over. */
byte waiter[2], nr_waiters, waits_for[2];
bool woken[2];

byte i, j;

/* In front of an entry, or at the end. */
inline track(entry, number, before)
{
	batch[entry] = number;
	i = 0;
	do
	:: i < nr_tracked && tracked[i] != before -> i++
	:: else -> break
	od;
#ifdef TRACK_AT_END
	i = nr_tracked;
#endif
	j = nr_tracked;
	do
	:: j > i -> tracked[j] = tracked[j - 1]; j--
	:: else -> break
	od;
	tracked[i] = entry;
	nr_tracked++;
	assert(i == 0 || batch[tracked[i - 1]] <= number);	/* SORTED */
	assert(i == nr_tracked - 1 || number <= batch[tracked[i + 1]]);	/* SORTED */
	i = 0;
	j = 0
}

inline untrack(entry)
{
	i = 0;
	do
	:: tracked[i] != entry -> i++
	:: else -> break
	od;
	nr_tracked--;
	do
	:: i < nr_tracked -> tracked[i] = tracked[i + 1]; i++
	:: else -> break
	od;
	tracked[nr_tracked] = 0;
	batch[entry] = 0;
	i = 0
}

#ifdef INHERIT
#define all_gone(number)	(nr_tracked == 0 && arrivals == 0)
#else
#define all_gone(number)	(nr_tracked == 0 -> next_batch > number : \
				 batch[tracked[0]] > number)
#endif

inline wake_waiters()
{
	j = 0;
	do
	:: j < nr_waiters && (woken[waiter[j]] || all_gone(waits_for[waiter[j]])) ->
		woken[waiter[j]] = true;
		j++
	:: else ->
		break
	od;
	j = 0
}

/* That of the lowest bit. */
inline give_member(slot)
{
	member[slot] = ready_members & -ready_members;
	ready_members = ready_members & ~member[slot];
	track(slot, batch[READY], READY);
	if
	:: ready_members == 0 -> untrack(READY)
	:: else
	fi
}

inline advance()
{
	if
	:: gp_over && ready_members == 0 ->
		ready_members = gp_members;
		gp_members = 0;
		track(READY, batch[GP], GP);
		untrack(GP);
		gp_over = false
	:: else
	fi;
	if
	:: ready_members != 0 && member[0] == 0 -> give_member(0)
	:: else
	fi;
	if
	:: ready_members != 0 && member[1] == 0 -> give_member(1)
	:: else
	fi;
	if
	:: gp_members == 0 && arrivals != 0 ->
		gp_members = arrivals;
		arrivals = 0;
		track(GP, next_batch, NOBODY);
		next_batch++;
		gp_covers = queued;
		gp_under_way = true
	:: else
	fi
}

proctype grace_periods()
{
end:	do
	:: atomic {
		gp_under_way ->
		/* gp_callback() */
		gp_under_way = false;
		covered = covered | gp_covers;
#ifdef JOIN_GP
		gp_members = gp_members | arrivals;
		arrivals = 0;
#endif
		gp_over = true;
		advance()
	   }
	od
}

proctype slot_work(byte slot)
{
end:	do
	:: member[slot] != 0 ->
		assert(member[slot] & covered);			/* READERS */
end_hang:	member[slot] != HANGS;
		atomic {
			released = released | member[slot];
			/* next_member() */
			untrack(slot);
			member[slot] = 0;
			if
			:: ready_members != 0 -> give_member(slot)
			:: else
			fi;
			advance();
			wake_waiters()
		}
	od
}

/* llist_add(); then the first of a batch has to see that it gets going. */
inline queue(object)
{
	atomic {
		first = (arrivals == 0);
		arrivals = arrivals | object;
		queued = queued | object;
		if
		:: object == HANGS -> hangs_in = next_batch
		:: else
		fi
	}
#ifndef LOST
	if
	:: first -> atomic { advance(); first = false }
	:: else
	fi
#endif
}

inline flush(who)
{
	atomic {
		before = queued;
#ifdef FORGET_ARRIVALS
		waits_for[who] = next_batch - 1;
#else
		/* newest_batch() */
		waits_for[who] = (arrivals == 0 -> next_batch - 1 : next_batch);
#endif
		if
		:: all_gone(waits_for[who]) ->
			woken[who] = true
		:: else ->
			waiter[nr_waiters] = who;
			nr_waiters++
		fi
	}
	if
	:: woken[who] ->
		assert((before & ~released) == 0)		/* FLUSHED */
#ifdef STRICT
	:: before & HANGS
#else
	:: hangs_in != 0 && hangs_in <= waits_for[who]
#endif
	fi
}

proctype task(byte who, first_object, second_object)
{
	byte before;
	bool first;

	queue(first_object);
	if
	:: second_object != 0 -> queue(second_object)
	:: else
	fi;
	flush(who)
}

proctype other_task()
{
	bool first;

	queue(HANGS)
}

init
{
	atomic {
		run grace_periods();
		run slot_work(0);
		run slot_work(1);
		run task(0, 1, 4);
		run task(1, 2, 0);
		run other_task()
	}
	(released & 7) == 7
}
