/* lone.pml: the lone thread of a process and the purger beside it: src/lone.h (lone_enter,
 * lone_leave), src/lone.c (lone_wait, come, leave). Both for ever; the thread's slow paths may nest,
 * as when a signal handler allocates, wherever it is.
 *
 * Claims: (1) while the purger visits, the thread is not inside a slow path; (2) each sees what the
 * other has done there; (3) no wakeup is lost: the thread never sleeps for good.
 *
 * Memory: memory.pml, for `inside`, for the thread's and the purger's work, and for the purger's store
 * into `visitor`, which is also changed by read-modify-writes: these wait for the own buffer when they
 * are release, and are one step on memory. membarrier empties both buffers in one step. Loads run in
 * order: they are acquire in the source.
 */
#define INSIDE 0
#define CAME 1         /* lone.visitor */
#define DATA 2         /* what slow paths and visits work on, counts modulo 4 */
#define PLACES 3
#define THREADS 2
#define CHECK_COMMIT(place, value) skip
#include "memory.pml"

#define THREAD 0
#define PURGER 1
#define FREE 0
#define HELD 1
#define AWAITED 2

byte depth;            /* of the thread in slow paths, past their doors */
bit visits;
byte truth;            /* what DATA must be */
bit asleep;

/* Somebody works. */
inline work(me)
{
    d_step { get(me, DATA, seen); assert(seen == truth) }; /* claim 2 */
    atomic { put(me, DATA, (seen + 1) % 4, RELAXED); truth = (truth + 1) % 4; seen = 0 }
}

#ifdef RELAXED_LEAVE
#define LEAVE RELAXED
#else
#define LEAVE RELEASE
#endif

/* lone_enter; lone_wait when there is a visitor. */
inline enter(level)
{
#ifdef LOOK_BEFORE_ENTERING
    d_step { get(THREAD, CAME, state) };
    put(THREAD, INSIDE, level, RELAXED);
#else
    put(THREAD, INSIDE, level, RELAXED);
    d_step { get(THREAD, CAME, state) };
#endif
    if
    :: state == FREE -> skip
    :: state != FREE ->
        do
        :: d_step { memory[CAME] == FREE -> state = FREE }
            break
        :: d_step { memory[CAME] == HELD -> memory[CAME] = AWAITED }
        :: d_step { memory[CAME] == AWAITED -> asleep = 1 } /* futex_wait */
            !asleep
        od
    fi;
    atomic { depth++; assert(!visits) } /* claim 1 */
}

inline leave(level)
{
    depth--;
    put(THREAD, INSIDE, level, LEAVE)
}

proctype thread()
{
    byte k, seen, state;
again:
    if
    :: true
    :: goto end_away
    fi;
    enter(1);
    work(THREAD);
    if
    :: enter(2);
        work(THREAD);
        leave(1)
    :: skip
    fi;
    leave(0);
    goto again;
end_away:
    skip
}

proctype purger()
{
    byte k, seen, state;
again:
    if
    :: true
    :: goto end_away
    fi;
    put(PURGER, CAME, HELD, RELAXED);
#ifdef NO_BARRIER
    d_step { commit_all(PURGER) };
#else
    d_step { commit_all(THREAD); commit_all(PURGER) };
#endif
    if
    :: memory[INSIDE] == 0 ->
        atomic { visits = 1; assert(depth == 0) }; /* claim 1 */
        work(PURGER);
        visits = 0
    :: memory[INSIDE] != 0 -> skip
    fi;
    /* leave */
#ifndef RELAXED_GO
    used[PURGER] == 0;
#endif
    d_step { state = memory[CAME]; memory[CAME] = FREE };
#ifndef NO_WAKE
    if
    :: d_step { state == AWAITED -> asleep = 0 }
    :: d_step { state != AWAITED -> skip }
    fi;
#endif
    state = 0;
    goto again;
end_away:
    skip
}

init
{
    atomic { run thread(); run purger(); run buffer(THREAD); run buffer(PURGER) }
}
