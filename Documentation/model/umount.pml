/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Finishing mounts without a grace period: every order of the steps
 *
 * Two mounts of one superblock are taken off, by a task each, while others hold
 * them, hand them on, walk through them, and close files. What the order of memory
 * accesses has to do with it is shown by Documentation/litmus-tests. Here
 * everybody sees each step at once, and what is looked for is an order of steps that
 * breaks one of these:
 *
 *   USED	who has a reference finds the mount alive, and a mount ends once;
 *   FREED	in the end both are gone;
 *   DOWN	the superblock is down when the last task has returned;
 *   FINAL	... and when umount(2) has taken A off without MNT_DETACH, and B is gone
 *		as well, whatever walkers there are;
 *   OTHERS	who waits for a grace period waits for what somebody else holds;
 *   WORKER	no worker shuts the superblock down;
 *
 * the last four in mode safe; and that somebody waits for ever, which spin finds by
 * itself as an invalid end state. A file system that does not answer has a mount
 * with the worker all the time, so who waits for that one never returns.
 *
 * Functions have the names of those they stand for, in the kernel or in module/. A
 * step is a statement, or what stands in atomic. What is done under a lock is one
 * step, up to where it meets what others do without: adding up a counter takes two.
 * README.rst tells what each of the switches breaks.
 */

#define A	0
#define B	1

#ifdef MODE_ALL
#define all		true
#else
#define all		false
#endif
/* Has A children that stayed connected? Then mntput() does what there is to do. */
#ifdef NOT_PLAIN
#define is_plain(m)	(m != A)
#else
#define is_plain(m)	true
#endif

/* struct mount. Each of two CPUs counts references by itself. */
typedef mount {
	bool in_ns;
	bool sync_umount;
	bool doomed;
	bool dead;
	short count[2];
}
mount mnt[2];
byte s_active = 2;

/* What is left to the worker, and not released yet. */
bool left[2];
#ifndef OUTLAST_NONE
#define is_left_of	(left[A] || left[B])
#else
#define is_left_of	false
#endif
/* Of another superblock there is one that is never released. */
#ifndef WAIT_FOR_ALL
#define outlasted	!is_left_of
#else
#define outlasted	false
#endif

/* mount_lock, and what a walker sees of its sequence number. */
bool locked, changed;
#define lock_mounts	!locked; locked = true; changed = true
#define unlock_mounts	locked = false

/* What the task that takes A off holds of it itself, by a file. */
mtype = { NOTHING, IN_TABLE, IN_TASK_WORK };
mtype own = NOTHING;
bool file_locked;

/* Tasks that have not returned to user space. */
byte tasks;

/* Those of them that take a mount off; and was it umount(2) of one that nobody held? */
byte umounters = 2;
bool is_final;

inline return_to_user()
{
	atomic {
		tasks--;
		assert(all || tasks > 0 || s_active == 0)	/* DOWN */
	}
}

/* RCU: the readers, as bits; and for each who waits, those that it waits for still. */
#define HOLDER		1
#define HEIR		2
#define THREAD		4
#define WALKER		8
#define UMOUNTER	16
byte readers, gp[4];

#define rcu_read_lock(me)	readers = readers | (me)
#define rcu_read_unlock(me)	readers = readers & ~(me); \
				gp[0] = gp[0] & readers; gp[1] = gp[1] & readers; \
				gp[2] = gp[2] & readers; gp[3] = gp[3] & readers

inline synchronize_rcu(n)
{
#ifndef NO_GP
	gp[n] = readers;
	gp[n] == 0
#else
	skip
#endif
}

inline cleanup_mnt(x)
{
	atomic {
		assert(!mnt[x].dead);				/* USED */
		mnt[x].dead = true;
		s_active--
	}
}

/* Puts a reference: quickly, or else under the lock, where it may be the last. */
inline mntput(x, cpu, me)
{
#ifdef DECREMENT_FIRST
	mnt[x].count[cpu]--;
#endif
	if
	:: atomic { mnt[x].in_ns -> rcu_read_lock(me) };
	   atomic {
		assert(!mnt[x].dead);				/* USED */
#ifndef DECREMENT_FIRST
		mnt[x].count[cpu]--;
#endif
		rcu_read_unlock(me)
	   }
	:: atomic {
		!mnt[x].in_ns && !locked ->
		lock_mounts;
		assert(!mnt[x].dead);				/* USED */
#ifndef DECREMENT_FIRST
		mnt[x].count[cpu]--;
#endif
		sum = mnt[x].count[0]
	   };
	   atomic {
		sum = sum + mnt[x].count[1];
		last = (sum == 0 && !mnt[x].doomed);
		mnt[x].doomed = mnt[x].doomed || last;
		sum = 0;
		unlock_mounts
	   };
	   if
	   :: last -> last = false; cleanup_mnt(x)
	   :: else
	   fi
	fi
}

/* Has A, gets another reference for the heir, perhaps, and changes over to another CPU. */
chan handed = [0] of { bool };

proctype holder()
{
	byte cpu = 0;
	short sum;
	bool last;

	if
	:: handed ! false
	:: atomic {
		mnt[A].count[0]++;
		if
		:: cpu = 1
		:: true
		fi
	   };
	   handed ! true
	fi;
	mntput(A, cpu, HOLDER);
	return_to_user()
}

/* Has B, perhaps, and puts what it is handed, before that or after. */
proctype heir(bool has_b)
{
	bool has_a, last;
	short sum;

	if
	:: has_b -> has_b = false; mntput(B, 1, HEIR)
	:: true
	fi;
	handed ? has_a;
	if
	:: has_a -> has_a = false; mntput(A, 1, HEIR)
	:: else
	fi;
	if
	:: has_b -> has_b = false; mntput(B, 1, HEIR)
	:: else
	fi;
	return_to_user()
}

/* Closes the file, if it is in the table still. */
inline close_file(on_cpu, task)
{
	if
	:: atomic { own == IN_TABLE && !file_locked -> own = NOTHING };
	   mntput(A, on_cpu, task)
	:: atomic { own != IN_TABLE -> skip }
	fi
}

/* Shares its table of files with the task that takes A off. */
proctype thread()
{
	short sum;
	bool last;

	close_file(0, THREAD);
	return_to_user()
}

/* Comes to A by the tree, or from the file in the table, which RCU lets it look at. */
proctype walker()
{
	short sum;
	bool last, sync;

	if
	:: atomic {
		!locked && (mnt[A].in_ns || own == IN_TABLE) ->
		rcu_read_lock(WALKER);
		changed = false
	   };
	   /* __legitimize_mnt() */
	   mnt[A].count[0]++;
	   if
	   :: atomic { !changed -> rcu_read_unlock(WALKER) };
	      mntput(A, 0, WALKER)
	   :: atomic {
		changed ->
		changed = false;
		/* Up to 6.14 without the lock. */
		sync = mnt[A].sync_umount
	      };
	      if
	      :: atomic { sync -> sync = false };
	         mnt[A].count[0]--
	      :: atomic {
		!sync && !locked ->
		if
		:: mnt[A].doomed ->
			mnt[A].count[0]--
		:: else ->
			last = true
		fi
	         }
	      fi;
	      rcu_read_unlock(WALKER);
	      if
	      :: last -> last = false; mntput(A, 0, WALKER)
	      :: else
	      fi
	   fi
	:: true
	fi;
	return_to_user()
}

#define other(m)		(1 - m)
#define is_last(m)		(!mnt[other(m)].in_ns)
#define needs_no_gp(m)		(!is_last(m) || !is_left_of)
#ifdef COUNT_TWO
#define is_alone(mine)		(sum <= 2 + mine)
#else
#define is_alone(mine)		(sum == 1 + mine)
#endif

/* Does anybody but the tree and the task itself hold it? */
#define held(m)			(mnt[m].count[0] + mnt[m].count[1] > \
				 1 + (m == A && own != NOTHING))

#ifdef KEEP_SYNC_UMOUNT
#define let_walkers_hold(m)	skip
#else
#define let_walkers_hold(m)	mnt[m].sync_umount = false
#endif
#ifdef CLEAR_AFTER_COUNT
#define before_count(m)		skip
#define after_count(m)		let_walkers_hold(m)
#else
#define before_count(m)		let_walkers_hold(m)
#define after_count(m)		skip
#endif

/*
 * Gets and puts that are counted as one: then a walker's plain decrement, on another CPU
 * than its increment, could be all that is counted of it. Of what umount(2) took off walkers
 * that were in between then keep a reference, and are waited for after the grace period.
 */
#ifdef ONE_COUNTER
#define any_undo(m, mine)	true
#else
#define any_undo(m, mine)	(mine || !is_plain(m))
#endif
#if defined(ONE_COUNTER) && !defined(NO_RECOUNT)
#define walkers_have_put(m)	(!mnt[m].sync_umount || mnt[m].count[0] + mnt[m].count[1] == 1)
#else
#define walkers_have_put(m)	true
#endif

/* Under the lock. Who finds the mount held puts the flag back. */
inline begin_count(m, mine)
{
	sync = mnt[m].sync_umount;
	if
	:: any_undo(m, mine) -> before_count(m)
	:: else
	fi;
	sum = mnt[m].count[0]
}

/* Under the lock. */
inline finish(m)
{
	if
	:: is_plain(m) ->
		mnt[m].count[m]--;
		mnt[m].doomed = true;
		fate = FINISH
	:: else ->
		after_count(m);
		fate = PUT
	fi
}

/* Takes a file of its own, that was on its way out, off its own task work. */
inline put_own(m, task)
{
	if
	:: atomic { m == A && own == IN_TASK_WORK -> own = NOTHING };
	   mntput(A, m, task)
	:: else
	fi
}

mtype = { AGAIN, FINISH, PUT, DROP, LEAVE, WAIT };

proctype umounter(byte m)
{
	bool path, mine, alone, was_held, last, sync;
	mtype fate = AGAIN;
	short sum;

	/* The end of the namespace, or of A by umount(2), which has looked up the path. */
	atomic {
		if
		:: m == A -> path = true; mnt[m].count[m]++
		:: true
		fi
	}
	/* umount_tree(), by umount(2) with MNT_DETACH unless nobody else holds it. */
	atomic {
		!locked;
		changed = true;
		mnt[m].in_ns = false;
		mnt[m].sync_umount = (path && mnt[m].count[0] + mnt[m].count[1] == 2);
		is_final = is_final || mnt[m].sync_umount
	}
	if
	:: path -> path = false; mntput(m, m, UMOUNTER << m)
	:: else
	fi;

	/* Task work. A file of its own may come before, or between the looks. */
	if
	:: put_own(m, UMOUNTER << m)
	:: true
	fi;

	/* first_look() */
	atomic {
		lock_mounts;
		begin_count(m, false)
	}
	atomic {
		sum = sum + mnt[m].count[1];
		alone = is_alone(0) && needs_no_gp(m);
		sum = 0;
#ifdef TWO_HOLDS
		unlock_mounts
	}
	atomic {
		lock_mounts;
#endif
		if
		:: alone -> finish(m)
		:: else -> mnt[m].sync_umount = sync
		fi;
		alone = false;
		sync = false;
		unlock_mounts
	}
#ifndef NO_SECOND_LOOK
	put_own(m, UMOUNTER << m);
#endif

	if
	:: fate == AGAIN ->
		/* second_look() */
		atomic {
			!file_locked;
			file_locked = true;
			mine = (m == A && own == IN_TABLE);
#ifdef NO_OWN_LOCK
			file_locked = false
		}
		atomic {
#endif
			lock_mounts;
			was_held = held(m);
			begin_count(m, mine)
		}
		atomic {
			sum = sum + mnt[m].count[1];
			alone = is_alone(mine) && needs_no_gp(m);
			if
			:: alone && !mine ->
				finish(m)
			:: alone && mine ->
				after_count(m);
				mnt[m].count[m]--;
				fate = DROP
#ifndef LEAVE_SYNC_UMOUNT
			:: !alone && is_plain(m) && !sync && (all || !is_last(m)) ->
#else
			:: !alone && is_plain(m) && (all || !is_last(m)) ->
				let_walkers_hold(m);
#endif
#ifndef LEAVE_LATE
				left[m] = true;
#endif
				fate = LEAVE
			:: else ->
				assert(all || was_held || held(m) || left[other(m)]);	/* OTHERS */
				mnt[m].sync_umount = sync;
				fate = WAIT
			fi;
			alone = false;
			sync = false;
			sum = 0;
			mine = false;
			was_held = false;
			file_locked = false;
			unlock_mounts
		}
	:: else
	fi;
	if
	:: fate == FINISH ->
		cleanup_mnt(m)
	:: fate == PUT ->
		mntput(m, m, UMOUNTER << m)
	:: fate == WAIT ->
		synchronize_rcu(m);
		!is_last(m) || outlasted;
		walkers_have_put(m);
		mntput(m, m, UMOUNTER << m)
	:: else
#ifdef LEAVE_LATE
		-> left[m] = (fate == LEAVE)
#endif
	fi;
	fate = AGAIN;
	atomic {
		umounters--;
		/* Of one with children umount(2) says that it is busy. */
#if defined(NO_HOLDERS) && !defined(NOT_PLAIN)
		assert(all || umounters > 0 || !is_final || s_active == 0)	/* FINAL */
#endif
	}

#ifdef NO_SECOND_LOOK
	put_own(m, UMOUNTER << m);
#endif
	/* In user space it closes its file, at some time. */
	if
	:: m == A -> close_file(m, UMOUNTER << m)
	:: else
	fi;
	return_to_user()
}

/* A slot of the engine: release_mount(). */
proctype slot(byte m)
{
	short sum;
	bool last;

end:	left[m];
	synchronize_rcu(2 + m);
	atomic {
		lock_mounts;
		sum = mnt[m].count[0]
	}
	atomic {
		sum = sum + mnt[m].count[1];
		last = (sum == 1);
		mnt[m].doomed = last;
		mnt[m].count[m]--;
		sum = 0;
		unlock_mounts
	}
	if
	:: last ->
		assert(all || s_active > 1);			/* WORKER */
		cleanup_mnt(m)
	:: else
	fi;
	left[m] = false
}

init
{
	atomic {
		/* Each is held by its tree. */
		mnt[A].in_ns = true;
		mnt[A].count[0] = 1;
		mnt[B].in_ns = true;
		mnt[B].count[0] = 1;
		tasks = 2;
		run umounter(A);
		run umounter(B);
		run slot(A);
		run slot(B);
#ifndef NO_HOLDERS
		tasks = tasks + 2;
		mnt[A].count[0]++;
		run holder();
		if
		:: run heir(false)
		:: mnt[B].count[1]++; run heir(true)
		fi;
#endif
#ifndef NO_WALKER
		tasks++;
		run walker();
#endif
#ifndef NO_FILE
		tasks++;
		run thread();
		if
		:: true
		:: own = IN_TABLE; mnt[A].count[0]++
		:: own = IN_TASK_WORK; mnt[A].count[0]++
		fi
#endif
	}
	tasks == 0 && !left[A] && !left[B];
	assert(mnt[A].dead && mnt[B].dead)			/* FREED */
}
