/* memory.pml: memory whose stores come late and out of order, for models to include.
 *
 * A thread's store goes to the end of the thread's buffer, and from there to memory at any time, in
 * any order but this: stores to one place stay in order, and a release store waits for all that came
 * before it in its buffer. Then all others see it at once. Loads are answered by the own buffer first,
 * else by memory, and run where they are written: later ones never before earlier ones, which is more
 * order than relaxed loads have, and what acquire loads have. Where that hides something the model
 * says so and has the load run early itself.
 *   So all is allowed that x86-64 does (where buffers are emptied in order), and what AArch64 does
 * with its stores (where they reach all others at once, too).
 *
 * The includer defines THREADS, PLACES, and CHECK_COMMIT(place, value): what must hold when a store
 * reaches memory.
 */
#define ROOM 6 /* stores in a buffer; a full one stops its thread until one has gone */

#define RELAXED 0
#define RELEASE 1

byte memory[PLACES];

/* Entry i of thread t is at t * ROOM + i, the oldest at 0. */
byte place[THREADS * ROOM];
byte value[THREADS * ROOM];
bit release[THREADS * ROOM];
byte used[THREADS];

inline put(thread, where, what, how)
{
    atomic {
        used[thread] < ROOM ->
        d_step {
            place[thread * ROOM + used[thread]] = where;
            value[thread * ROOM + used[thread]] = what;
            release[thread * ROOM + used[thread]] = how;
            used[thread]++
        }
    }
}

/* Within d_step. */
inline get(thread, where, result)
{
    k = 0;
    result = memory[where];
    do
    :: k < used[thread] ->
        result = (place[thread * ROOM + k] == where -> value[thread * ROOM + k] : result);
        k++
    :: else -> break
    od;
    k = 0
}

/* Entry i goes to memory. Within d_step. */
inline commit(thread, i)
{
    CHECK_COMMIT(place[thread * ROOM + i], value[thread * ROOM + i]);
    memory[place[thread * ROOM + i]] = value[thread * ROOM + i];
    used[thread]--;
    k = i;
    do
    :: k < used[thread] ->
        place[thread * ROOM + k] = place[thread * ROOM + k + 1];
        value[thread * ROOM + k] = value[thread * ROOM + k + 1];
        release[thread * ROOM + k] = release[thread * ROOM + k + 1];
        k++
    :: else -> break
    od;
    place[thread * ROOM + k] = 0;
    value[thread * ROOM + k] = 0;
    release[thread * ROOM + k] = 0;
    k = 0
}

/* Within d_step. */
inline commit_all(thread)
{
    do
    :: used[thread] != 0 -> commit(thread, 0)
    :: else -> break
    od
}

#define SAME(t, i, j) (place[(t) * ROOM + (i)] == place[(t) * ROOM + (j)])
#define MAY(t, i) (used[t] > (i) && !release[(t) * ROOM + (i)])

/* The buffer of a thread, emptying itself. */
proctype buffer(byte t)
{
    byte k;
end:
    do
    :: d_step { used[t] > 0 -> commit(t, 0) }
    :: d_step { MAY(t, 1) && !SAME(t, 1, 0) -> commit(t, 1) }
    :: d_step { MAY(t, 2) && !SAME(t, 2, 0) && !SAME(t, 2, 1) -> commit(t, 2) }
    :: d_step { MAY(t, 3) && !SAME(t, 3, 0) && !SAME(t, 3, 1) && !SAME(t, 3, 2) -> commit(t, 3) }
    :: d_step { MAY(t, 4) && !SAME(t, 4, 0) && !SAME(t, 4, 1) && !SAME(t, 4, 2) &&
                !SAME(t, 4, 3) -> commit(t, 4) }
    :: d_step { MAY(t, 5) && !SAME(t, 5, 0) && !SAME(t, 5, 1) && !SAME(t, 5, 2) &&
                !SAME(t, 5, 3) && !SAME(t, 5, 4) -> commit(t, 5) }
    od
}
