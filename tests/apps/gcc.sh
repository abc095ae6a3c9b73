#!/bin/bash
# gcc and g++ on the library write the same bytes as without, for generated sources, for the
# project's own, with link-time optimization, from make -j2; and what they build runs.
. "$(dirname "$0")/lib.sh"
need gcc g++ make as:binutils

source_directory=${EBB_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}

# One large C file: thousands of functions, tables, switches and structures.
write_large_c() {
    awk 'BEGIN {
        print "#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>"
        for (i = 0; i < 300; i++) {
            printf "struct s%d { int a[%d]; struct s%d *next; char name[%d]; };\n", i, 1 + i % 9, (i * 7) % 300, 1 + i % 40
            printf "static const char *const t%d[] = {", i
            for (k = 0; k < i % 20; k++) printf "\"text %d %d\", ", i, k
            print "0};"
            printf "int f%d(struct s%d *p, int n) {\n    int sum = 0;\n", i, i
            printf "    for (int k = 0; k < n; k++) switch ((k * %d) & 15) {\n", i + 3
            for (k = 0; k < 12; k++) printf "    case %d: sum += k * %d + p->a[%d]; break;\n", k, i * k + 1, k % (1 + i % 9)
            printf "    default: sum ^= (int)strlen(t%d[0] ? t%d[0] : \"none\");\n    }\n", i, i
            if (i) printf "    if (n > 3) { struct s%d q = {{n}, 0, \"q\"}; sum += f%d(&q, n / 2); }\n", i - 1, i - 1
            print "    return sum;\n}"
        }
        print "int large(int n) {\n    struct s299 p = {{n}, 0, \"p\"};\n    return f299(&p, n);\n}"
    }' >large.c
}

# Templates, containers, lambdas, exceptions: what makes a C++ compiler allocate.
write_large_cc() {
    cat >large.cc <<'SOURCE'
#include <algorithm>
#include <array>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Fold {
    template <class... T> static auto with(T... t) { return Fold<N - 1>::with(t..., N); }
};
template <> struct Fold<0> {
    template <class... T> static auto with(T... t) { return (t + ... + 0); }
};

template <std::size_t... I> auto tables(std::index_sequence<I...>) {
    return std::make_tuple(std::map<std::string, std::array<int, I + 1>>{{"k", {}}}...);
}

template <class T> std::string described(const T &t) {
    std::ostringstream out;
    std::apply([&](const auto &...m) { ((out << m.begin()->second.size() << ' '), ...); }, t);
    return out.str();
}

using Value = std::variant<int, double, std::string, std::vector<int>, std::shared_ptr<int>>;

static std::string visit_all(const std::vector<Value> &values) {
    std::string text;
    for (const auto &v : values)
        text += std::visit([](const auto &x) -> std::string { return std::to_string(sizeof x); }, v);
    return text;
}

extern "C" int large(int);

int main() {
    std::unordered_map<std::string, std::function<int(int)>> functions;
    for (int i = 0; i < 50; i++)
        functions["f" + std::to_string(i)] = [i](int x) { return x * i; };
    std::vector<int> sums;
    for (int i = 0; i < 50; i++)
        sums.push_back(functions["f" + std::to_string(i)](i));
    std::sort(sums.begin(), sums.end(), std::greater<>());
    try {
        throw std::runtime_error(described(tables(std::make_index_sequence<24>())));
    } catch (const std::exception &e) {
        std::cout << e.what() << '\n';
    }
    std::cout << Fold<60>::with() << ' ' << std::accumulate(sums.begin(), sums.end(), 0) << ' '
              << visit_all({1, 2.0, std::string("s"), std::vector<int>{1}, std::make_shared<int>(3)})
              << ' ' << std::regex_replace(std::string("a1b22"), std::regex("([0-9]+)"), "<$1>")
              << ' ' << large(20) << '\n';
}
SOURCE
}

write_makefile() {
    local i
    for i in {1..24}; do
        printf '#include <stdio.h>\n#include <math.h>\nint part%d(int n) {\n' "$i"
        printf '    double x[64]; int s = 0;\n    for (int k = 0; k < 64; k++) x[k] = sqrt(k * n + %d);\n' "$i"
        printf '    for (int k = 0; k < 64; k++) s += (int)(x[k] * x[63 - k]) %% %d;\n    return s;\n}\n' $((i + 2))
    done | awk '/^#include <stdio/ { n++ } { print > ("part" n ".c") }'
    {
        echo '#include <stdio.h>'
        printf 'int part%d(int);\n' {1..24}
        echo 'int main(void) {'
        printf '    printf("%%d\\n", part%d(7));\n' {1..24}
        echo '    return 0;'
        echo '}'
    } >parts.c
    {
        printf 'CFLAGS = -O3 -Wall -flto=2 -frandom-seed=1\nobjects = parts.o'
        printf ' part%d.o' {1..24}
        # shellcheck disable=SC2016
        printf '\nparts: $(objects)\n\t$(CC) $(CFLAGS) -o $@ $(objects) -lm\n'
    } >Makefile
}

compile() { run "$@" 2>>"$logs/compiler" || fail "$*: $(tail -n 1 "$logs/compiler")"; }

# A copy, since somebody may be at work on them. Some need what configure writes; a file that does
# not compile by itself has to fail with the same words.
copy_own_sources() {
    mkdir -p "$tmp/own/ebb"
    cp "$source_directory"/src/*.[ch] "$tmp/own"
    cp "$source_directory"/src/ebb/*.[ch] "$tmp/own/ebb" 2>/dev/null || true
}

compile_own_sources() {
    local file name
    mkdir "$results/own"
    for file in "$tmp"/own/*.c "$tmp"/own/ebb/*.c; do
        name=$(basename "$file" .c)
        run gcc -O2 -std=gnu11 -D_GNU_SOURCE -DEBB_VERSION='"0"' -I "$tmp/own" -c "$file" \
            -o "$results/own/$name.o" 2>"$results/own/$name.messages" ||
            grep -q 'error:' "$results/own/$name.messages" || fail "gcc broke on $name.c"
    done
    # One that has no need of others, so that it is never all of them that do not compile.
    [ -s "$results/own/buddy.o" ] || fail "$(cat "$results/own/buddy.messages")"
}

look_at_processes() {
    background gcc -O2 -g -Wall -Wextra -c large.c -o large.o 2>>"$logs/compiler"
    sleep 0.3
    record_maps "$background_pid"
    wait "$background_pid" || fail "gcc -O2 failed"
}

work() {
    write_large_c
    write_large_cc
    write_makefile
    look_at_processes
    compile gcc -O0 -save-temps -c large.c -o large-O0.o
    compile g++ -std=c++17 -O2 -c large.cc -o large-cc.o
    compile g++ -std=c++17 -O2 -o large large-cc.o large.o
    ./large >"$results/large-output"
    compile make -s -j2 CC=gcc parts
    ./parts >"$results/parts-output"
    cp ./*.o ./*.i ./*.s large parts "$results"
    compile_own_sources
}

# The driver runs cc1, as, collect2 and ld: each has to be on the library.
all_tools_use_the_library() {
    echo 'int main(void) { return 0; }' >"$tmp/small.c"
    calls_go_to_library gcc -O2 "$tmp/small.c" -o "$tmp/small"
    calls_go_to_library g++ -x c++ -O2 "$tmp/small.c" -o "$tmp/small"
}

copy_own_sources
all_tools_use_the_library
compare_runs work
