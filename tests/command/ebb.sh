#!/bin/bash
# `ebb` starts commands on the library, and says clearly why where it cannot.
# shellcheck disable=SC2016 # the inner shells expand these
# shellcheck source=tests/command/lib.sh
. "$EBB_SRCDIR/tests/command/lib.sh"

ebb=$EBB_CMD
unset EBB_LIBRARY LD_PRELOAD

starts_the_command_on_the_library() {
    expect_run 0 "$ebb" run grep -c libebbmalloc.so /proc/self/maps
    expect "mappings of the library" "$out" '[1-9]*'
    expect "stderr" "$err" ''
    expect_run 0 "$ebb" run -- printenv LD_PRELOAD
    expect "LD_PRELOAD" "$out" "$(realpath "$EBB_LIB")"
}

passes_arguments_input_and_status_on() {
    expect_run 0 "$ebb" run printf '%s|' 'a b' '' --help --version -- '*'
    expect "arguments" "$out" 'a b||--help|--version|--|\*|'
    expect_run 0 "$ebb" run cat <<<"some input"
    expect "input" "$out" 'some input'
    expect_run 42 "$ebb" run sh -c 'exit 42'
    expect_run 143 sh -c '"$0" run sh -c "kill -TERM \$\$"; exit $?' "$ebb"
}

becomes_the_command() {
    expect_run 0 sh -c 'echo $$; exec "$0" run sh -c "echo \$\$"' "$ebb"
    expect "process id" "${out%$'\n'*}" "${out#*$'\n'}"
}

keeps_what_was_preloaded_behind_the_library() {
    local other
    other=$(ldd /bin/cat | sed -n 's/.*=> \(.*libc\.so[^ ]*\) .*/\1/p')
    LD_PRELOAD=$other expect_run 0 "$ebb" run printenv LD_PRELOAD
    expect "LD_PRELOAD" "$out" "$(realpath "$EBB_LIB"):$other"
}

does_not_preload_itself_twice() {
    expect_run 0 "$ebb" run "$ebb" run printenv LD_PRELOAD
    expect "LD_PRELOAD" "$out" "$(realpath "$EBB_LIB")"
    # A longer name that begins like the library's is another library.
    LD_PRELOAD=$EBB_LIB.old expect_run 0 "$ebb" run printenv LD_PRELOAD
    expect "LD_PRELOAD" "$out" "$(realpath "$EBB_LIB"):$EBB_LIB.old"
}

takes_the_library_that_is_named() {
    cp "$EBB_LIB" "$scratch/other.so"
    EBB_LIBRARY=$scratch/other.so expect_run 0 "$ebb" run printenv LD_PRELOAD
    expect "LD_PRELOAD" "$out" "$scratch/other.so"
    # The command may go elsewhere: a relative name must not be passed on.
    cd "$scratch"
    EBB_LIBRARY=other.so expect_run 0 "$ebb" run sh -c 'cd / && exec grep -c other.so /proc/self/maps'
    cd - >/dev/null
    EBB_LIBRARY='' expect_run 0 "$ebb" run printenv LD_PRELOAD
    expect "LD_PRELOAD" "$out" "$(realpath "$EBB_LIB")"
}

refuses_a_library_that_the_loader_would_ignore() {
    EBB_LIBRARY=$scratch/none.so expect_run 125 "$ebb" run echo ran
    expect_complaint "ebb: EBB_LIBRARY=$scratch/none.so: No such file*"
    echo "no library" >"$scratch/text.so"
    EBB_LIBRARY=$scratch/text.so expect_run 125 "$ebb" run echo ran
    expect_complaint "ebb: $scratch/text.so: not a shared library for this machine"
    expect "stdout" "$out" ''
    : >"$scratch/empty.so"
    EBB_LIBRARY=$scratch/empty.so expect_run 125 "$ebb" run echo ran
    # 32 bits: the fifth byte of the file says so.
    cp "$EBB_LIB" "$scratch/narrow.so"
    printf '\001' | dd of="$scratch/narrow.so" bs=1 seek=4 conv=notrunc status=none
    EBB_LIBRARY=$scratch/narrow.so expect_run 125 "$ebb" run echo ran
    mkdir "$scratch/with space"
    cp "$EBB_LIB" "$scratch/with space/"
    EBB_LIBRARY="$scratch/with space/libebbmalloc.so" expect_run 125 "$ebb" run echo ran
    expect_complaint "ebb: *with space*EBB_LIBRARY"
}

says_where_it_looked_for_a_library_that_is_not_installed() {
    cp "$ebb" "$scratch/ebb"
    "$scratch/ebb" run true 2>/dev/null && return 0 # one is installed on this machine
    expect_run 125 "$scratch/ebb" run true
    expect_complaint "ebb: /*/libebbmalloc.so: No such file or directory; *EBB_LIBRARY"
}

tells_missing_from_not_executable() {
    expect_run 127 "$ebb" run no-such-command-here
    expect_complaint "ebb: no-such-command-here: command not found"
    expect_run 127 "$ebb" run ./no/such/file
    expect_complaint "ebb: ./no/such/file: command not found"
    expect_run 127 "$ebb" run ''
    PATH='' expect_run 127 "$ebb" run true
    expect_run 126 "$ebb" run /
    expect_complaint "ebb: /: Is a directory"
    echo 'echo hello' >"$scratch/plain"
    expect_run 126 "$ebb" run "$scratch/plain"
    expect_complaint "ebb: $scratch/plain: Permission denied"
    PATH=$scratch:$PATH expect_run 126 "$ebb" run plain
    printf '#!/no/such/interpreter\n' >"$scratch/orphan"
    chmod +x "$scratch/orphan"
    expect_run 127 "$ebb" run "$scratch/orphan"
    expect_complaint "ebb: $scratch/orphan: the interpreter*"
}

looks_commands_up_like_a_shell() {
    mkdir -p "$scratch/first" "$scratch/second/tool"
    printf '#!/bin/sh\necho first\n' >"$scratch/first/tool"
    chmod +x "$scratch/first/tool"
    # A directory of that name, a missing folder and a file in the path are passed over.
    PATH=$scratch/second:$scratch/none:$scratch/first/tool:$scratch/first:$PATH \
        expect_run 0 "$ebb" run tool
    expect "stdout" "$out" first
    # An empty entry is the current directory; a script needs no first line.
    echo 'echo "$0 here $LD_PRELOAD"' >"$scratch/bare"
    chmod +x "$scratch/bare"
    cd "$scratch"
    PATH=:$PATH expect_run 0 "$ebb" run bare
    cd - >/dev/null
    expect "stdout" "$out" "*bare here $(realpath "$EBB_LIB")"
}

warns_where_the_library_cannot_get_in() {
    echo 'int main(void) { return 7; }' >"$scratch/seven.c"
    ${CC:-cc} -static -o "$scratch/seven" "$scratch/seven.c" 2>/dev/null ||
        { echo "no static libc: static programs not tested" && return; }
    expect_run 7 "$ebb" run "$scratch/seven"
    expect_complaint "ebb: warning: $scratch/seven is statically linked*"
    printf '\001' | dd of="$scratch/seven" bs=1 seek=4 conv=notrunc status=none
    "$ebb" run "$scratch/seven" 2>"$scratch/err" && fail "a 64-bit program marked as one of 32 bits ran"
    expect "stderr" "$(<"$scratch/err")" "ebb: warning: $scratch/seven is made for another kind*"
}

warns_of_programs_that_gain_rights() {
    if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
        echo "not root, or no setpriv: programs that gain rights not tested"
        return
    fi
    # Nobody must be able to reach the copies.
    chmod 755 "$scratch"
    cp /bin/true "$scratch/gains"
    cp "$ebb" "$scratch/ebb"
    cp "$EBB_LIB" "$scratch/copy.so"
    chmod 755 "$scratch/copy.so"
    local nobody=(env EBB_LIBRARY="$scratch/copy.so" setpriv --reuid=65534 --regid=65534 --clear-groups)
    expect_run 0 "${nobody[@]}" "$scratch/ebb" run "$scratch/gains"
    expect "stderr" "$err" ''
    chmod 4755 "$scratch/gains"
    expect_run 0 "${nobody[@]}" "$scratch/ebb" run "$scratch/gains"
    expect_complaint "ebb: warning: $scratch/gains gains rights*"
    chmod 2755 "$scratch/gains"
    expect_run 0 "${nobody[@]}" "$scratch/ebb" run "$scratch/gains"
    expect_complaint "ebb: warning: $scratch/gains gains rights*"
    # Its owner gains nothing by it.
    chmod 4755 "$scratch/gains"
    expect_run 0 "$ebb" run "$scratch/gains"
    expect "stderr" "$err" ''
}

explains_itself() {
    expect_run 0 "$ebb" --version
    expect "version" "$out" 'ebb (ebbmalloc) [0-9]*.[0-9]*.[0-9]*'
    local topic
    for topic in '' run stat map top trim record replay trace help options status; do
        # shellcheck disable=SC2086 # no topic is no argument
        expect_run 0 "$ebb" help $topic
        [ -n "$out" ] || fail "ebb help $topic says nothing"
        [ "$(wc -L <"$scratch/out")" -le 80 ] || fail "ebb help $topic is wider than 80 columns"
    done
    expect_run 0 "$ebb" --help
    expect "overview" "$out" '*run*help*'
    expect_run 0 "$ebb" run --help
    expect "help of run" "$out" 'Usage: ebb run *'
}

refuses_what_it_does_not_know() {
    expect_run 2 "$ebb"
    expect_complaint 'ebb: no subcommand given*--help'
    expect_run 2 "$ebb" fly
    expect_complaint 'ebb: fly: no such subcommand*--help*'
    expect_run 2 "$ebb" --fly
    expect_complaint 'ebb: --fly: no such option*'
    expect_run 2 "$ebb" run
    expect_complaint 'ebb: run: no command given*'
    expect_run 2 "$ebb" run --
    expect_complaint 'ebb: run: no command given*'
    expect_run 2 "$ebb" run -x true
    expect_complaint 'ebb: run: -x: no such option*'
    # Behind -- it is a command's name.
    expect_run 127 "$ebb" run -- -x true
    expect_complaint 'ebb: -x: command not found'
    expect_run 2 "$ebb" help flying
    expect_complaint 'ebb: help: flying: no such topic*'
    expect "stdout" "$out" ''
}

notices_that_its_output_is_lost() {
    expect_run 1 sh -c '"$0" --help >/dev/full' "$ebb"
    expect_complaint 'ebb: writing the output: No space left on device'
}

for test in $(compgen -A function | grep _); do
    case $test in expect_*) continue ;; esac
    printf '%s\n' "$test"
    "$test"
done
