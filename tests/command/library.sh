#!/bin/bash
# The library asks for libc alone, cannot be unloaded, and has one pointer of thread-local storage
# that is reached without a call. (What it exports: tests/api/exports.sh.)
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

command -v readelf >/dev/null || skip "no readelf (Debian: binutils)"

readelf -W -d "$EBB_LIB" >"$scratch/dynamic"
needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$scratch/dynamic")
# ld-linux is part of libc, and so are, before glibc 2.34, two more.
grep -qE '^libc\.(so|musl-)' <<<"$needed" || fail "does not need libc: $needed"
! grep -vE '^(libc\.so|libc\.musl-|ld-linux|libdl\.so\.2$|libpthread\.so\.0$)' <<<"$needed" ||
    fail "needs more than libc: $needed"
grep -q 'SONAME.*\[libebbmalloc\.so\]' "$scratch/dynamic" || fail "SONAME is not libebbmalloc.so"
grep -q 'FLAGS_1.*NODELETE' "$scratch/dynamic" || fail "can be unloaded"
! grep -q TEXTREL "$scratch/dynamic" || fail "has relocations in its code"

grep -q STATIC_TLS "$scratch/dynamic" || fail "thread-local storage is not initial-exec"
readelf -W -l "$EBB_LIB" | awk '$1 == "TLS" { print $6 }' >"$scratch/tls"
[ $(($(<"$scratch/tls"))) = 8 ] || fail "TLS is not one pointer but $(<"$scratch/tls") bytes"
! readelf -W --dyn-syms "$EBB_LIB" | grep __tls_get_addr || fail "calls __tls_get_addr"
