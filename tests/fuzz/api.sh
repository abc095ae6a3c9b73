#!/bin/bash
# A minute of fuzzing of the API: api.c. EBB_FUZZ_SECONDS=3600 for longer; EBB_FUZZ_CORPUS=DIRECTORY
# keeps what is found on the way.
# shellcheck source=tests/fuzz/lib.sh
. "$(dirname "$0")/lib.sh"

build api -fsanitize=fuzzer -fno-omit-frame-pointer -DEBB_PREFIXED '-DEBB_VERSION="test"' \
    "$source"/src/*.c "$source/tests/fuzz/api.c"
fuzz api "${EBB_FUZZ_SECONDS:-60}" -max_len=1200 -timeout=60 -rss_limit_mb=2048 -detect_leaks=0
