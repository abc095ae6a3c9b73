/* lock.pml: the futex mutex of src/lock.h: lock_try, lock_wait, lock_acquire, lock_release.
 *
 * Claims: (1) never two holders; (2) no wakeup is lost: no run ends with a thread asleep; (3) what
 * one holder stored the next one sees.
 *
 * Memory. The lock's word is changed by read-modify-writes alone, each one step here. What it
 * guards is a counter: a holder's store into it lies in his store buffer for as long as he likes,
 * until a release makes him empty it. Acquire: his load comes after. That is all the order there is,
 * on x86-64 there is more. The word itself is not buffered: nobody stores into it.
 *
 * The kernel: futex_wait compares and goes to sleep in one step; futex_wake wakes one of those who
 * sleep, any. It may end a sleep for no reason as well (a signal), but not in the run that looks for
 * lost wakeups, which that would hide: SPURIOUS is a run of its own.
 *
 * LOCK_LOOKS is one look or none: each look is like the first. Threads come back for ever.
 */
#define THREADS 4

#define FREE 0
#define HELD 1
#define AWAITED 2

byte word = FREE;
byte sleepers;        /* how many threads sleep */
bool asleep[THREADS];
byte holders;

byte counter;         /* in memory, counts modulo 4 */
byte truth;           /* what it must be */
bool stored[THREADS]; /* in the buffer of its thread: … */
byte store[THREADS];  /* … this value for counter */

/* The buffer empties itself whenever it likes. */
proctype buffer(byte me)
{
end:
    do
    :: d_step { stored[me] -> counter = store[me]; store[me] = 0; stored[me] = false }
    od
}

proctype thread(byte me)
{
    byte seen = 0, before = 0;
again:
    /* Every thread may stay away for good, so that no other one can rely on it. */
    if
    :: true
    :: goto end_away
    fi;
#ifdef RELAXED_ACQUIRE
    seen = counter;
#endif
    /* lock_try */
    if
    :: atomic { word == FREE -> word = HELD }
        goto held
    :: atomic { word != FREE -> skip }
    fi;
    /* lock_wait: a look */
    if
    :: atomic { word == FREE -> word = HELD }
        goto held
    :: true
    fi;
wait:
    atomic { before = word;
#ifdef SLEEPER_TAKES_HELD
             word = (word == FREE -> HELD : AWAITED)
#else
             word = AWAITED
#endif
    };
    if
    :: before == FREE -> before = 0; goto held
    :: before != FREE -> before = 0
    fi;
    /* futex_wait */
#ifdef SLEEP_WITHOUT_COMPARE
    d_step { asleep[me] = true; sleepers++ };
#else
    if
    :: d_step { word == AWAITED -> asleep[me] = true; sleepers++ }
    :: d_step { word != AWAITED -> skip }
        goto wait
    fi;
#endif
#ifdef SPURIOUS
    if
    :: d_step { !asleep[me] -> skip }
    :: d_step { asleep[me] -> asleep[me] = false; sleepers-- }
    fi;
#else
    !asleep[me];
#endif
    goto wait;

held:
    atomic { holders++; assert(holders == 1) };
#ifndef RELAXED_ACQUIRE
    seen = (stored[me] -> store[me] : counter);
#endif
    assert(seen == truth);
    d_step { truth = (truth + 1) % 4; store[me] = (seen + 1) % 4; stored[me] = true; seen = 0 };
    holders--;
    /* lock_release */
#ifndef RELAXED_RELEASE
    !stored[me];
#endif
    d_step { before = word; word = FREE };
    if
    :: before == AWAITED ->
#ifndef NO_WAKE
        if
        :: d_step { asleep[0] -> asleep[0] = false; sleepers-- }
        :: d_step { asleep[1] -> asleep[1] = false; sleepers-- }
        :: d_step { asleep[2] -> asleep[2] = false; sleepers-- }
        :: d_step { asleep[3] -> asleep[3] = false; sleepers-- }
        :: d_step { sleepers == 0 -> skip }
        fi
#else
        skip
#endif
    :: before != AWAITED -> skip
    fi;
    before = 0;
    goto again;
end_away:
    skip
}

init
{
    atomic {
        byte i;
        for (i : 0 .. THREADS - 1) {
            run thread(i);
            run buffer(i)
        }
    }
}
