/* cache.pml: the biased lock of a thread's cache, one bin of it: src/cache.h (cache_pop, cache_push,
 * the argument at its top), src/malloc.c (cache_leave on the slow paths), src/arenas.c (arena_alloc,
 * arena_free), src/cache.c (refill, keep, grow, flush, cache_shrink, open_bin), src/takeover.c
 * (cache_close, the barrier, cache_is_busy, the visit, cache_open). One owner and one visitor at a
 * time, both for ever.
 *
 * Claims: (1) while a visitor works on the stack the owner is not past the check of its bound, nor is
 * one of its stores into the stack still on its way; (2) every block is in one place: never handed
 * out twice, and none is missing when the owner or a visitor who has the cache to himself counts;
 * (3) the owner that finds a bin open finds the top that was left last, and the stack under it.
 *
 * Memory: memory.pml, for what the owner and the visitor share without the mutex. Loads there run in
 * order; where the source has an acquire load for that, a fault takes it away and has the next one run
 * early. The block that cache_pop reads may be overtaken by the later store of the new top.
 *   The mutex: taking it empties no buffer; letting go of it (release) waits for the buffer. What is
 * touched under it alone (limits, stacks, spans) is not buffered, lock.pml shows why. The owner's slow
 * path reads and writes nothing between taking and letting go that anybody else looks at without the
 * mutex but the bin and busy, and nobody does without a visit, so it is one step.
 *   membarrier: in one step the buffers of caller and owner are emptied, and the owner's loads that
 * were answered ahead of their turn are asked again: an interrupt lies between two instructions.
 *
 * Sizes: three blocks; a small stack of one slot (0) and the full one of two (2, 3); limits 0, 1, 2.
 */
#define BLOCKS 3
#define ALL 7       /* a set of all blocks; block b is bit b - 1 */
#define BIT(b) (1 << ((b) - 1))

/* Places in memory. */
#define BUSY 0
#define LOW 1
#define HIGH 2
#define TOP 3
#define SLOT 4      /* and 5 to 7 */
#define PLACES 8

#define SMALL 0     /* addresses of slots */
#define FULL 2
#define CLOSED_LOW 15
#define CLOSED_HIGH 0

#define OWNER 0
#define VISITOR 1

#define THREADS 2
#define CHECK_COMMIT(place, value) skip
#include "memory.pml"

/* Under the mutex. */
bit mutex;
byte stack;         /* where the stack begins */
byte limit;
byte spans = ALL;   /* blocks free in their spans */

byte held;          /* blocks that the program has, but for … */
byte hand;          /* … one that it is just freeing */

/* What is true, whoever knows it. */
byte true_top;
bit inside;         /* the owner is past its check */
bit working;        /* a visitor has the cache to himself */
bit asked_early;    /* the owner has loads answered ahead of their turn */

#define ON_ITS_WAY(t, i) (used[t] > (i) && place[(t) * ROOM + (i)] >= TOP)
#define ANY_ON_ITS_WAY(t) \
    (ON_ITS_WAY(t, 0) || ON_ITS_WAY(t, 1) || ON_ITS_WAY(t, 2) || ON_ITS_WAY(t, 3) || \
     ON_ITS_WAY(t, 4) || ON_ITS_WAY(t, 5))

/* ---- The owner ------------------------------------------------------------------------------- */

/* Under the mutex: every block is in one place. */
inline count_blocks()
{
    sum = spans + held + hand;
    k = stack;
    do
    :: k < memory[TOP] ->
        assert(memory[SLOT + k] != 0);
        sum = sum + BIT(memory[SLOT + k]);
        k++
    :: else -> break
    od;
    assert(sum == ALL);
    k = 0;
    sum = 0
}

/* The lowest block in its span. */
#define LOWEST ((spans & 1) -> 1 : ((spans & 2) -> 2 : 3))

/* open_bin by the owner, who may have just emptied its buffer. */
inline open_here()
{
    memory[LOW] = stack;
    memory[HIGH] = stack + limit
}

inline grow()
{
    if
    :: limit == 0 -> limit = 1; open_here()
    :: limit == 1 ->
        memory[SLOT + FULL] = memory[SLOT + SMALL];
        memory[TOP] = FULL + memory[TOP] - stack;
        stack = FULL;
        limit = 2;
        open_here()
    :: else -> skip
    fi
}

/* Removes the oldest block of the bin; it goes back to its span. */
inline flush_oldest()
{
    assert(!(spans & BIT(memory[SLOT + stack])));
    spans = spans | BIT(memory[SLOT + stack]);
    memory[SLOT + stack] = memory[SLOT + stack + 1]; /* of the small stack, which is empty then, too */
    memory[TOP] = memory[TOP] - 1
}

/* cache_enter, the bound, the top and what comes of them: inside or not. Comes after a store of busy
 * that is one step with the choice of what to do. */
#ifdef BOUND_BEFORE_ENTER
#define ENTER skip
#else
#define ENTER put(OWNER, BUSY, 1, RELAXED)
#endif

inline enter(where, passes)
{
#ifdef BOUND_BEFORE_ENTER
    d_step { get(OWNER, where, bound); asked_early = 1 };
    put(OWNER, BUSY, 1, RELAXED);
    asked_early = 0;
#elif defined(RELAXED_BOUND)
    d_step { get(OWNER, TOP, top); asked_early = 1 };
    d_step { get(OWNER, where, bound); early = asked_early; asked_early = 0 };
#else
    d_step { get(OWNER, where, bound) };
#endif
    d_step {
        if
        :: early -> early = 0
        :: else -> get(OWNER, TOP, top)
        fi;
        if
        :: passes ->
            inside = 1;
            assert(!working);                 /* claim 1 */
            assert(!ANY_ON_ITS_WAY(VISITOR)); /* claim 3 */
            assert(top == true_top)
        :: else -> top = 0
        fi;
        bound = 0
    }
}

#ifdef RELAXED_LEAVE
#define LEAVE RELAXED
#else
#define LEAVE RELEASE
#endif

inline leave()
{
    put(OWNER, BUSY, 0, LEAVE);
    inside = 0
}

inline hand_out()
{
    assert(block != 0);
    assert(!(held & BIT(block)) && !(spans & BIT(block))); /* claim 2 */
    held = held | BIT(block);
    block = 0
}

proctype owner()
{
    byte k, sum, bound, top, block;
    bit early; /* top was loaded before the bound */
again:
    if
    :: atomic { true -> ENTER } /* malloc */
        enter(LOW, top > bound);
        if /* a load and a store: either order */
        :: atomic {
            inside ->
            get(OWNER, SLOT + top - 1, block);
            put(OWNER, TOP, top - 1, RELAXED);
            true_top = top - 1;
            hand_out();
            top = 0;
            leave() }
        :: atomic { inside -> put(OWNER, TOP, top - 1, RELAXED); true_top = top - 1 };
            atomic {
                get(OWNER, SLOT + top - 1, block);
                hand_out();
                top = 0;
                leave()
            }
        :: atomic { !inside -> leave() }
            d_step {
                mutex == 0 -> /* arena_alloc */
                commit_all(OWNER);
                count_blocks();
                if
                :: memory[TOP] > stack ->
                    block = memory[SLOT + memory[TOP] - 1];
                    memory[TOP] = memory[TOP] - 1;
                    hand_out()
                :: else -> /* cache_refill: half the limit, or one, and one of them for the caller */
                    grow();
                    if
                    :: spans != 0 ->
                        block = LOWEST;
                        spans = spans - BIT(block);
                        hand_out()
                    :: else -> skip /* no memory */
                    fi;
                    if /* one more for the cache, so that one block is not all there ever is */
                    :: spans != 0 && limit == 2 ->
                        block = LOWEST;
                        spans = spans - BIT(block);
                        memory[SLOT + stack] = block;
                        memory[TOP] = stack + 1;
                        block = 0
                    :: else -> skip
                    fi
                fi;
                true_top = memory[TOP];
                count_blocks()
            }
        fi
    :: atomic {
            held != 0 -> /* free, of any block */
            if
            :: held & 1 -> block = 1
            :: held & 2 -> block = 2
            :: held & 4 -> block = 3
            fi;
            held = held - BIT(block);
            hand = BIT(block);
            ENTER }
        enter(HIGH, top < bound);
        if
        :: atomic {
                inside ->
                put(OWNER, TOP, top + 1, RELAXED);
                put(OWNER, SLOT + top, block, RELAXED);
                true_top = top + 1;
                top = 0;
                block = 0;
                hand = 0;
                leave() }
        :: atomic { !inside -> leave() }
            d_step {
                mutex == 0 -> /* arena_free, cache_keep */
                commit_all(OWNER);
                if
                :: memory[TOP] >= stack + limit -> grow()
                :: else -> skip
                fi;
                if
                :: memory[TOP] >= stack + limit -> flush_oldest()
                :: else -> skip
                fi;
                memory[SLOT + memory[TOP]] = block;
                memory[TOP] = memory[TOP] + 1;
                block = 0;
                hand = 0;
                true_top = memory[TOP];
                count_blocks()
            }
        fi
    fi;
    goto again
}

/* ---- The visitor ----------------------------------------------------------------------------- */

#ifdef RELAXED_OPEN
#define OPEN RELAXED
#else
#define OPEN RELEASE
#endif

/* cache_flush: from the top down. kept: the block taken last. */
inline flush()
{
    do
    :: top > stack ->
        atomic {
            d_step { get(VISITOR, SLOT + top - 1, kept) };
            assert(kept != 0);
            assert(!(spans & BIT(kept)) && !(held & BIT(kept))); /* claim 2 */
            spans = spans | BIT(kept);
            top--
        }
    :: top == stack -> break
    od;
    atomic { put(VISITOR, TOP, stack, RELAXED); true_top = stack }
}

/* What could not go to another arena without waiting stays. */
inline keep_one()
{
    spans = spans - BIT(kept);
    put(VISITOR, SLOT + stack, kept, RELAXED);
    atomic { put(VISITOR, TOP, stack + 1, RELAXED); true_top = stack + 1 }
}

/* cache_shrink of an empty bin; the memory of the full stack is given back, and reads as zero. */
inline shrink()
{
    if
    :: stack == FULL ->
        put(VISITOR, TOP, SMALL, RELAXED);
        put(VISITOR, SLOT + FULL, 0, RELAXED);
        put(VISITOR, SLOT + FULL + 1, 0, RELAXED)
    :: stack == SMALL -> skip
    fi;
    atomic { stack = SMALL; limit = 0; true_top = SMALL }
}

proctype visitor()
{
    byte k, sum, top, kept, seen;
again:
    atomic { mutex == 0 -> mutex = 1 };
#ifdef BARRIER_FIRST
    d_step { commit_all(OWNER); commit_all(VISITOR); asked_early = 0 };
#endif
    atomic { put(VISITOR, LOW, CLOSED_LOW, RELAXED); put(VISITOR, HIGH, CLOSED_HIGH, RELAXED) };
#ifdef NO_BARRIER
    d_step { commit_all(VISITOR) };
#elif !defined(BARRIER_FIRST)
    if
    :: d_step { true -> commit_all(OWNER); commit_all(VISITOR); asked_early = 0 }
    :: goto open /* the kernel refuses */
    fi;
#endif
look:
#ifdef RELAXED_LOOK
    atomic { get(VISITOR, TOP, top) };
#endif
    atomic {
#ifndef NO_LOOK
        seen = memory[BUSY]; /* it stores nothing there itself */
#endif
        if
        :: seen == 1 -> seen = 0; top = 0;
            if
            :: goto look /* again */
            :: goto open /* does without */
            fi
        :: seen == 0 -> skip
        fi;
        working = 1;
        assert(!inside && !ANY_ON_ITS_WAY(OWNER)); /* claim 1 */
        count_blocks()                             /* claim 2 */
    };
#ifndef RELAXED_LOOK
    d_step { get(VISITOR, TOP, top) };
#endif
    if
    :: true -> skip /* only looks: statistics */
    :: true ->
        flush();
        if
        :: kept != 0 -> keep_one()
        :: true -> shrink()
        fi
    fi;
    d_step { kept = 0; top = 0; working = 0 };
open:
    atomic { put(VISITOR, LOW, stack, OPEN); put(VISITOR, HIGH, stack + limit, OPEN) };
    atomic { used[VISITOR] == 0 -> mutex = 0 };
    goto again
}

init
{
    atomic { run owner(); run visitor(); run buffer(OWNER); run buffer(VISITOR) }
}
