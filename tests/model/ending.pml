/* ending.pml: the purger's thread ends when nothing is left, and is there whenever something is:
 * src/purger.c (sweep, anything_left, may_end, purge, start_thread, purger_tick), src/takeover.c
 * (takeover_any_unswept), src/arena.c (deliver, for mail), src/huge.c (huge_free).
 *
 * Claim: when all threads of the program are quiet and the purger's thread has ended, no work is left;
 * and it does end. So no work is ever left to nobody.
 *
 * Not claimed, since the source does not do it: anything while the kernel refuses a thread, after a
 * change of user ids (either waits for the next slow path), in a small process, or without a thread
 * by option.
 *
 * Work is of three kinds: what is done to an arena under its mutex (2 when fresh: one sweep sees that
 * the arena is quiet, the next one flushes it), mail, which comes without it, and kept huge blocks
 * under their list's lock. Each thread of the program does two things of any kind, each followed by
 * a tick; a visitor (statistics) holds the arena's mutex now and then and never ticks.
 *
 * Memory. Changes of thread_state and of the locks are read-modify-writes or sequentially consistent
 * stores, and are seen by all at once. The tick's load of thread_state is relaxed: it is answered at
 * any time after the last acquire load of its thread, so perhaps before the work that was done under
 * the lock is seen by others, and before that lock is let go of. On x86-64 it comes last (X86).
 * What is loaded and stored under one lock is ordered by it, and by nothing else: that the purger
 * passes the lock of each kind of work when it looks once more is the argument (KEPT_WITHOUT_LOCK:
 * reading huge_kept_bytes without the lock of its list is right on x86-64 alone, or with a fence
 * before the tick's load and one after the store of THREAD_ENDING).
 *   Mail is the exception, it comes without a lock. The failed second lock_try, as compiled, is an
 * acquire load on AArch64 (LDAXR or CASA), and comes after the release store of the slot (STLR) and
 * so after `reserved` was written; the tick's load comes after it. C11 does not promise that of a
 * compare-and-swap whose order on failure is relaxed; FAILED_TRY_IS_RELAXED shows that the argument
 * needs it. It also needs THREAD_ENDING to be seen before the purger looks: RELAXED_ENDING.
 *
 * With LIVE: that the thread ends, if every thread that can go on does so at some time.
 */
#define WORKERS 2
#ifndef THINGS
#define THINGS 2       /* that each of them does */
#endif
#define VISITS 2

mtype = { NONE, RUNNING, ENDING };
mtype state = NONE;
bit started;           /* the purger's thread is to run */
bit gone = 1;          /* the kernel has ended it: os_thread.running is 0 */

bit arena_mutex, huge_lock;
byte work;             /* under the arena's mutex */
bit mail;              /* mailbox.reserved is not 0 */
bit kept;              /* huge blocks, under their lock */
byte done;             /* threads of the program that are quiet for good */

inline acquire(lock) { atomic { lock == 0 -> lock = 1 } }

/* ---- Threads of the program ------------------------------------------------------------------ */

/* The tick's load of thread_state is answered here, or later. */
inline perhaps_look()
{
#ifndef X86
    if
    :: atomic { !looked -> seen = state; looked = 1 }
    :: skip
    fi
#else
    skip
#endif
}

inline tick()
{
    if
    :: atomic { !looked -> seen = state }
    :: looked -> looked = 0
    fi;
    if
    :: seen == RUNNING -> skip
    :: seen != RUNNING -> /* start_thread */
        if
#ifdef START_FORGETS_ENDING
        :: atomic { state == ENDING -> skip }
#else
        :: atomic { state == ENDING -> state = RUNNING }
#endif
        :: atomic { state != ENDING -> skip }
            if
            :: atomic { state == NONE -> state = RUNNING }
#ifndef START_WITHOUT_WAITING
                gone == 1; /* os_thread_start */
#endif
                atomic { assert(gone && !started); gone = 0; started = 1 }
            :: atomic { state != NONE -> skip }
            fi
        fi
    fi;
    seen = 0
}

/* Drained, put into spans. */
inline bring_back()
{
    perhaps_look();
    atomic { mail = 0; work = 2 };
    perhaps_look();
    arena_mutex = 0
}

proctype worker()
{
    mtype seen;
    bit looked;
    byte things;
    do
    :: things < THINGS ->
        things++;
        if
        :: acquire(arena_mutex); /* arena_alloc, arena_free */
            perhaps_look();
            work = 2;
            perhaps_look();
            arena_mutex = 0
        :: true -> /* deliver */
            if
            :: atomic { arena_mutex == 0 -> arena_mutex = 1 }
                bring_back()
            :: atomic { arena_mutex == 1 -> skip }
#ifdef FAILED_TRY_IS_RELAXED
                perhaps_look();
#endif
                mail = 1;
                if
                :: atomic { arena_mutex == 0 -> arena_mutex = 1 }
                    bring_back()
                :: atomic { arena_mutex == 1 -> skip }
                fi
            fi
        :: acquire(huge_lock); /* huge_free */
            perhaps_look();
            kept = 1;
            perhaps_look();
            huge_lock = 0
        fi;
        tick()
    :: things == THINGS -> break
    od;
    done++
}

proctype visitor()
{
    byte visits;
    do
    :: visits < VISITS -> visits++; acquire(arena_mutex); arena_mutex = 0
    :: visits == VISITS -> break
    od
}

/* ---- The purger ------------------------------------------------------------------------------ */

inline anything_left()
{
    acquire(arena_mutex);
    left = (work != 0 || mail);
#ifdef RELAXED_ENDING
    if
    :: ending -> atomic { state = ENDING; ending = 0 }
    :: !ending -> skip
    fi;
#endif
    arena_mutex = 0;
    if
    :: left -> skip
    :: !left ->
#ifdef KEPT_WITHOUT_LOCK
        left = kept
#else
        acquire(huge_lock);
        left = kept;
        huge_lock = 0
#endif
    fi
}

proctype purger()
{
    bit left;
#ifdef RELAXED_ENDING
    bit ending; /* its store is on its way */
#endif
end_not_running:
    atomic { started -> started = 0 };
sweep:
    if /* takeover_flush */
    :: atomic { arena_mutex == 0 -> arena_mutex = 1 }
        if
        :: atomic { work == 2 -> work = 1 } /* not quiet */
        :: atomic { work != 2 -> work = 0; mail = 0 }
        fi;
        arena_mutex = 0
    :: atomic { arena_mutex == 1 -> skip }
    fi;
#ifndef NEVER_SWEPT
    acquire(huge_lock);
    kept = 0;
    huge_lock = 0;
#endif
    anything_left();
    if
    :: left -> goto sweep
    :: !left -> skip
    fi;
    /* may_end */
#ifdef LOOK_BEFORE_ENDING
    anything_left();
#endif
#ifdef RELAXED_ENDING
    ending = 1;
#else
    state = ENDING;
#endif
#if !defined(LOOK_BEFORE_ENDING) && !defined(NO_LAST_LOOK)
    anything_left();
#endif
    if
#ifdef END_WITHOUT_COMPARING
    :: atomic { !left -> state = NONE }
#else
    :: atomic { !left && state == ENDING -> state = NONE }
#endif
        gone = 1;
        goto end_not_running
#ifndef END_WITHOUT_COMPARING
    :: atomic { !left && state != ENDING -> skip }
#endif
    :: left -> skip
    fi;
    left = 0;
    state = RUNNING;
    goto sweep
}

#define QUIET (done == WORKERS && state == NONE && gone && !started)

#ifdef LIVE
ltl ends { <> [] QUIET }
#endif

init
{
    byte i;
    atomic {
        run purger();
        run visitor();
        for (i : 1 .. WORKERS) {
            run worker()
        }
    };
    timeout;
    assert(QUIET);
    assert(work == 0 && !mail && !kept)
}
