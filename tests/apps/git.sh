#!/bin/bash
# git on the library makes the same commits, trees and packs of them as without: thousands of files,
# branches and merges, repacking with threads, fsck, clone over a pipe, diff, grep, blame, bundle.
. "$(dirname "$0")/lib.sh"
need git

# Nothing of the user's own settings, and always the same author at the same time.
export HOME=$tmp GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=Author GIT_AUTHOR_EMAIL=author@localhost
export GIT_COMMITTER_NAME=Committer GIT_COMMITTER_EMAIL=committer@localhost
unset "${!GIT_DIR@}" "${!GIT_WORK_TREE@}" "${!GIT_INDEX_FILE@}"

at() { export GIT_AUTHOR_DATE="$1 +0000" GIT_COMMITTER_DATE="$1 +0000"; }

git_() { run git -c pack.threads=4 -c index.threads=4 -c gc.auto=0 "$@" 2>>"$logs/git"; }

# write_files GENERATION  2,400 files in 60 directories; a later generation changes some lines of
# every fifth, and a few files are large.
write_files() {
    awk -v generation="$1" 'BEGIN {
        for (directory = 0; directory < 60; directory++) {
            for (file = 0; file < 40; file++) {
                name = sprintf("d%02d/f%02d.txt", directory, file)
                number = directory * 40 + file
                if (generation > 0 && (number + generation) % 5) continue
                lines = number % 500 ? 5 + number % 60 : 20000
                for (line = 0; line < lines; line++) {
                    stamp = (line + number) % 11 ? 0 : generation
                    printf "line %d of %s in generation %d %x\n", line, name, stamp,
                        (line * 7919 + number * 104729 + stamp) % 1000003 > name
                }
                close(name)
            }
        }
    }'
}

commit() { git_ add -A && git_ commit -q -m "$1"; }

# Run by git commit after its work: what has git mapped, and the shell that it started?
write_hook() {
    cat >.git/hooks/post-commit <<HOOK
#!/bin/sh
cat /proc/\$PPID/maps >"$maps/commit-\$PPID" && cat /proc/\$\$/maps >"$maps/hook-\$\$"
HOOK
    chmod 755 .git/hooks/post-commit
}

make_history() {
    local generation
    git_ init -q -b main repository
    cd repository
    mkdir -p .git/hooks
    write_hook
    mkdir d{00..59}
    for generation in {0..7}; do
        at $((1600000000 + generation * 1000))
        write_files "$generation"
        commit "generation $generation"
        git_ tag -a -m "tag $generation" "v$generation"
    done
    git_ checkout -q -b side v4
    at 1600020000
    git_ mv d10 moved
    echo "only here" >side.txt
    commit "a side branch that renames"
    git_ checkout -q main
    at 1600021000
    git_ merge -q --no-edit -m "merge side" side >>"$logs/git"
    cd ..
}

# What the history is, what can be read from it, and what has to be whole.
inspect() {
    echo "heads: $(git_ rev-parse main side 'v0^{tree}' main:moved)"
    echo "objects: $(git_ cat-file --batch-all-objects --batch-check | sha256sum)"
    echo "contents: $(git_ cat-file --batch-all-objects --batch | sha256sum)"
    echo "fsck: $(git_ fsck --full --strict --no-progress)"
    echo "log: $(git_ log -p -M --stat --all --topo-order | sha256sum)"
    echo "diff: $(git_ diff --histogram --word-diff v0 v7 | sha256sum)"
    echo "grep: $(git_ grep --threads=4 -nE 'generation [3-5] [0-9a-f]*7$' main | sha256sum)"
    echo "blame: $(git_ blame -C -M main -- moved/f01.txt | sha256sum)"
    echo "blame of a large file: $(git_ blame main -- d00/f00.txt | sha256sum)"
    echo "archive: $(git_ archive --format=tar main | sha256sum)"
    echo "short log: $(git_ shortlog -sn --all | sha256sum)"
    echo "status: $(git_ status --porcelain)"
}

# The deltas that threads find hang on which thread comes first: so the packs may differ in bytes,
# but not in what they hold.
repack() {
    git_ repack -a -d -q -f --window=20 --threads=4
    git_ gc -q --aggressive --prune=now
    git_ count-objects -v | grep -E '^(count|in-pack|packs|prune-packable|garbage):'
    git_ verify-pack .git/objects/pack/*.idx && echo "packs verified"
}

work() {
    make_history
    cd repository
    inspect >"$results/before-repacking"
    repack >"$results/repacking"
    inspect >"$results/after-repacking"
    git_ bundle create -q ../bundle --all
    cd ..
    git_ clone -q --no-local --no-hardlinks repository clone
    git_ clone -q -b main bundle from-bundle
    diff -r --exclude=.git repository clone && diff -r --exclude=.git clone from-bundle
    cd clone
    git_ rev-parse HEAD origin/side >"$results/clone"
    git_ fsck --full --no-progress >>"$results/clone"
}

small_history() {
    calls_go_to_library git init -q -b main "$tmp/small"
    echo text >"$tmp/small/file"
    calls_go_to_library git -C "$tmp/small" add file
    at 1600000000
    calls_go_to_library git -C "$tmp/small" commit -q -m text
    # Its processes: git itself, upload-pack, pack-objects, index-pack …
    calls_go_to_library git clone -q --no-local "$tmp/small" "$tmp/small-clone"
}

small_history
compare_runs work
