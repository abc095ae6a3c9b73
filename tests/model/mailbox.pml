/* mailbox.pml: blocks on their way to an arena whose mutex is held: src/mailbox.c (mailbox_put,
 * mailbox_take), src/arena.c (deliver with may_wait, arena_drain), and who else holds the mutex: an
 * owner, who drains and then goes on, or a visitor who does not look into the mailbox at all.
 *
 * Claims: (1) no block is lost, none is taken twice; (2) a slot is empty when mail reaches it; (3) who
 * takes a block sees what its sender's program stored before: that must not land on top of what the
 * block's next user stores; (4) when all senders are done, mail is left only if somebody held the
 * mutex after the last of it had been put. More is not promised: that holder may have drained before,
 * and does not look again. Such mail waits for the next slow path of the arena's owner, for the next
 * sender, or for a sweep (ending.pml: the purger will be running). Mail that a holder passes on to
 * another arena, since the span has a new owner, is put in the same way, but has no second look.
 *
 * Memory: memory.pml, for the slots and the blocks. `reserved` is only changed by compare-and-swap,
 * which is one step and not a barrier: a release one waits until the own buffer is empty, others do
 * not. Loads run in order; those of `reserved` and of a slot behind it are not ordered in the source,
 * but a slot that was read early, under the mutex, holds the same or is still empty. `taken` is used
 * under the mutex alone, of which lock.pml tells. So is home.
 *
 * Sizes: three slots, room for two blocks in a take. Three senders with batches of one, two and one
 * blocks; the holder comes as often as he likes.
 */
#define SLOTS 3
#define NONE 15         /* no slot */
#define TAKE_ROOM 2
#define SENDERS 3
#define HOLDER SENDERS
#define ALL 15         /* a set of all blocks; block b is bit b - 1 */
#define BIT(b) (1 << ((b) - 1))

#define CONTENT(b) (SLOTS + (b) - 1) /* the place of what is in block b, after the slots */
#define PLACES 7
#define THREADS 4
#define CHECK_COMMIT(place, value) /* claim 2; and nothing is taken out of an empty slot */ \
    assert((place) >= SLOTS || ((value) == 0) != (memory[place] == 0))
#include "memory.pml"

bit mutex;
byte reserved;
byte taken;            /* under the mutex, as is … */
byte home;             /* … which blocks are back in their spans */
byte mail;             /* for the claims: blocks in the mailbox; … */
bit held_since;        /* … the mutex was held after the last of them had been put */

#ifdef RELAXED_SLOT
#define SLOT_STORE RELAXED
#else
#define SLOT_STORE RELEASE
#endif

#ifdef RELAXED_RESET
#define BUFFER_EMPTY(t) true
#else
#define BUFFER_EMPTY(t) (used[t] == 0)
#endif

inline acquire()
{
    atomic { mutex == 0 -> mutex = 1; held_since = 1 }
}

inline let_go(me)
{
    atomic { used[me] == 0 -> mutex = 0 }
}

inline bring_home(b)
{
    assert(!(home & BIT(b))); /* claim 1 */
    home = home | BIT(b)
}

/* arena_drain: mailbox_take, as long as there is something. `at` is taken, while the mutex is held. */
inline drain(me)
{
    do
    :: atomic { reserved == 0 -> break }
    :: atomic { reserved != 0 -> seen = reserved; at = taken; count = 0 }
        do
        :: count < TAKE_ROOM && at < seen ->
            atomic {
                get(me, at, block);
                if
                :: block != 0 ->
                    get(me, CONTENT(block), content);
                    assert(content == 1);      /* claim 3 */
                    assert(mail & BIT(block)); /* claim 1 */
                    mail = mail & ~BIT(block);
                    bring_home(block);
                    put(me, at, 0, RELAXED);
                    at++;
                    count++;
                    content = 0;
                    block = 0
                :: else ->
#ifdef PASS_EMPTY_SLOT
                    at++
#else
                    break
#endif
                fi
            }
        :: count == TAKE_ROOM || at == seen -> break
        od;
        if
        :: at != seen -> skip
        :: at == seen ->
#ifdef RESET_WITHOUT_CAS
            BUFFER_EMPTY(me);
            atomic { reserved = 0; at = 0 }
#else
            if
            :: atomic { reserved != seen -> skip }
            :: atomic { reserved == seen && BUFFER_EMPTY(me) -> reserved = 0; at = 0 }
            fi
#endif
        fi;
        taken = at;
        if
        :: count == 0 -> break
        :: count != 0 -> skip
        fi
    od;
    atomic { seen = 0; count = 0; at = 0 }
}

/* deliver, of a batch of blocks from `first` on. */
proctype sender(byte me; byte first; byte batch)
{
    byte k, seen, at, count, block, slot = NONE;
    bit content, locked;
    /* What the program did with them. */
    atomic {
        put(me, CONTENT(first), 1, RELAXED);
        if
        :: batch == 2 -> put(me, CONTENT(first + 1), 1, RELAXED)
        :: batch == 1 -> skip
        fi
    };
    if /* lock_try */
    :: atomic { mutex == 0 -> mutex = 1; held_since = 1; locked = 1 }
    :: atomic { mutex == 1 -> skip }
        /* mailbox_put */
        slot = reserved;
        do
        :: atomic { slot + batch > SLOTS -> slot = NONE; break }
        :: atomic {
            slot + batch <= SLOTS ->
#ifdef RESERVE_WITHOUT_CAS
            skip }
            atomic { reserved = slot + batch; break }
#else
            if
            :: reserved == slot -> reserved = slot + batch; break
            :: reserved != slot -> slot = reserved
            fi }
#endif
        od;
        if
        :: slot == NONE -> skip
        :: slot != NONE ->
            atomic { mail = mail | BIT(first); put(me, slot, first, SLOT_STORE) };
            if
            :: atomic {
                batch == 2 ->
                mail = mail | BIT(first + 1);
                put(me, slot + 1, first + 1, SLOT_STORE) }
            :: batch == 1 -> skip
            fi;
            held_since = mutex;
#ifndef NO_SECOND_LOOK
            if /* lock_try */
            :: atomic { mutex == 0 -> mutex = 1; held_since = 1; locked = 1 }
            :: atomic { mutex == 1 -> skip }
            fi
#endif
        fi;
        if
        :: slot == NONE -> acquire(); locked = 1
        :: slot != NONE -> skip
        fi
    fi;
    if
    :: locked ->
        d_step {
            if
            :: slot == NONE ->
                bring_home(first);
                if
                :: batch == 2 -> bring_home(first + 1)
                :: else -> skip
                fi
            :: else -> skip
            fi;
            slot = NONE
        };
        drain(me);
        let_go(me)
    :: !locked -> slot = NONE
    fi
}

proctype holder()
{
    byte k, seen, at, count, block;
    bit content;
    do
    :: acquire();
        if
        :: drain(HOLDER)
        :: skip
        fi;
        let_go(HOLDER)
    :: break
    od
}

init
{
    byte k;
    atomic {
        run sender(0, 1, 1);
        run sender(1, 2, 2);
        run sender(2, 4, 1);
        run holder();
        for (k : 0 .. THREADS - 1) {
            run buffer(k)
        }
    };
    timeout; /* all are done, and the buffers are empty */
    d_step {
        assert(mutex == 0 && (home | mail) == ALL && !(home & mail)); /* claim 1 */
        k = taken;
        do
        :: k < reserved ->
            assert(mail & BIT(memory[k]));
            mail = mail & ~BIT(memory[k]);
            home = home | BIT(memory[k]);
            k++
        :: else -> break
        od;
        assert(home == ALL && mail == 0);
        assert(reserved == 0 || held_since) /* claim 4 */
    }
}
