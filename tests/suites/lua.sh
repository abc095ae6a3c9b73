#!/bin/bash
# Tests of Lua modules in C (LPeg, Lua CJSON, LuaFileSystem) on lua5.4; Debian has not Lua's own
. "$(dirname "$0")/lib.sh"

at_least=1400
program=lua5.4
units=(lpeg cjson filesystem)

build() {
    need lua5.4
    need_file /usr/include/lua5.4/lua.h liblua5.4-dev
    copy_installed lua5.4 .
    source_of lua-lpeg "$work/lpeg"
    source_of lua-cjson "$work/cjson"
    source_of lua-filesystem "$work/filesystem"
    module lpeg.so lpeg/lp*.c
    module cjson.so cjson/{lua_cjson,fpconv,strbuf}.c
    module lfs.so filesystem/src/lfs.c
    # It lists /tmp, where others are at work.
    mkdir listed
    touch listed/{1..9}
    sed -i "s,^local tmp = \"/tmp\",local tmp = \"$work/listed\"," filesystem/tests/test.lua
    cp lpeg/re.lua .
    cp -r cjson/lua/cjson .
    (cd cjson/tests && perl genutf8.pl)
}

module() {
    local name=$1
    shift
    gcc -O2 -shared -fPIC -I /usr/include/lua5.4 -o "$name" "$@"
}

# Two of them are a long list of assertions; each of these counts as a test.
unit() {
    export LUA_PATH="$work/?.lua" LUA_CPATH="$work/?.so"
    # They are over in a moment: as watch() would say it.
    local noted='local maps = io.open "/proc/self/maps":read "a"
        local on = maps:find(os.getenv "library_name", 1, true)
        local note = io.open(os.getenv "tmp" .. (on and "/on" or "/off"), "a")
        local pid = "/proc/" .. io.open "/proc/self/stat":read "n" .. "\n"
        note:write(pid, not on and pid or "")
        note:close()'
    local counted='local check, count = assert, 0
        function assert(holds, ...)
            count = count + 1
            print(holds and "ok" or "not ok", count)
            return check(holds, ...)
        end'
    case $1 in
    lpeg) "$work/lua5.4" -e "$noted" -e "$counted" lpeg/test.lua ;;
    cjson) cd cjson/tests && "$work/lua5.4" -e "$noted" test.lua ;;
    filesystem) "$work/lua5.4" -e "$noted" -e "$counted" filesystem/tests/test.lua ;;
    esac
}

verdicts() {
    sed -E 's/^(ok|not ok)\t/\1 /; s/^==> Test \[([0-9]+)\] .*: PASS/ok \1/;
        s/^==> Test \[([0-9]+)\] .*: FAIL/not ok \1/' | tap_verdicts
}

build_once
compare_suite
