/* late-calls.h: what late-calls shares with its C++ part and with the library it opens. */
#ifndef EBB_TESTS_STRESS_LATE_CALLS_H
#define EBB_TESTS_STRESS_LATE_CALLS_H

#ifdef __cplusplus
extern "C" {
#endif

/* late-calls-cxx.cc: gives this thread thread_local objects, whose destructors allocate and free.
 */
void cxx_touch(unsigned thread);

/* How many of those objects have been destroyed, in all threads; two per cxx_touch of a thread. */
unsigned long cxx_destroyed(void);

/* late-calls-library.c, opened with dlopen: hands out the oldest of the blocks that its constructor
 * made (a parcel, or NULL when none is left). Its destructor verifies and frees the others. */
typedef struct parcel *library_take(void);

/* Gives a block to the library, whose destructor verifies and frees it. */
typedef void library_keep(struct parcel *parcel);

/* late-calls.c, exported to the library: what it calls to make and to end its blocks. */
struct parcel *late_make(unsigned long size);
void late_end(struct parcel *parcel, const char *when);
void late_library_ended(void);

#ifdef __cplusplus
}
#endif

#endif
