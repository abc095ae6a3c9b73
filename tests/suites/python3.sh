#!/bin/bash
# CPython's regression tests that touch memory, threads, fork and ctypes
. "$(dirname "$0")/lib.sh"

at_least=300
python=$(readlink -f /usr/bin/python3)
program=${python##*/}

units=(test_atexit test_bytes test_ctypes test_fork1 test_gc test_memoryview test_mmap test_thread
    test_threadedtempfile test_threading_local test_threadsignals test_weakref)
if [ "$whole" = yes ]; then
    at_least=10000
    units+=(test_array test_asyncio test_bigmem test_buffer test_bufio test_bz2 test_cmd_line
        test_codecs test_compile test_concurrent_futures test_copy test_decimal test_deque
        test_dict test_embed test_faulthandler test_io test_json test_largefile test_list
        test_lzma test_memoryio test_multiprocessing_fork test_multiprocessing_forkserver
        test_multiprocessing_spawn test_os test_pickle test_posix test_pyexpat test_queue test_re
        test_resource test_sched test_set test_signal test_socket test_ssl test_struct
        test_subprocess test_sys test_threading test_tracemalloc test_unicode test_wait3
        test_wait4 test_xml_etree_c test_zlib)
fi

build() {
    need_file "/usr/lib/$program/test/test_fork1.py" "lib$program-testsuite"
    copy_installed "$python" .
}

junit=$(cd "$(dirname "$0")" && pwd)/junit.py
export program junit

# Each unit in a process of its own, so that a crash takes only its own with it. In a virtual
# machine, test_socket's VSOCK tests wait for themselves for ever: the host gets what they send.
unit() {
    rm -f "$1.xml"
    timeout -k 5 900 "$work/$program" -m test --ignore '*VSOCK*' --junit-xml "$work/$1.xml" "$1"
    env -u LD_PRELOAD python3 "$junit" "$1" "$1.xml"
}

verdicts() { grep -E '^(passed|failed) [^ ]+: '; }

build_once
compare_suite
