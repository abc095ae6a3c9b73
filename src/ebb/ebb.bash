# shellcheck shell=bash disable=SC2207 # what is offered are words
# Completion of ebb(1) for bash. Installed where bash-completion looks for it.

_ebb_processes() {
    COMPREPLY=($(compgen -W "$(ebb top 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { print $1 }')" -- "$1"))
}

_ebb() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "run stat map top trim record replay trace help --help --version" -- "$word"))
        return
    fi
    case ${COMP_WORDS[1]} in
    run)
        # What follows is a command with its own completion.
        if declare -F _command_offset >/dev/null; then
            _command_offset 2
        else
            COMPREPLY=($(compgen -c -- "$word"))
        fi
        ;;
    stat)
        case $word in
        -*) COMPREPLY=($(compgen -W "--json --prometheus --why" -- "$word")) ;;
        *) _ebb_processes "$word" ;;
        esac
        ;;
    map)
        case $before in
        -o) COMPREPLY=($(compgen -f -- "$word")) ;;
        --every | --for) ;;
        *)
            case $word in
            -*) COMPREPLY=($(compgen -W "-o --every --for" -- "$word")) ;;
            *) _ebb_processes "$word" ;;
            esac
            ;;
        esac
        ;;
    top)
        case $before in
        --sort)
            COMPREPLY=($(compgen -W "resident live returnable given rate threads pid" -- "$word"))
            ;;
        -d | -n) ;;
        *) COMPREPLY=($(compgen -W "-d -n --sort" -- "$word")) ;;
        esac
        ;;
    trim)
        case $word in
        -*) COMPREPLY=($(compgen -W "--wait" -- "$word")) ;;
        *) [ "$before" = --wait ] || _ebb_processes "$word" ;;
        esac
        ;;
    record)
        case $word in
        -*) COMPREPLY=($(compgen -W "-o --malloc" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -c -- "$word")) ;;
        esac
        ;;
    replay)
        case $word in
        -*) COMPREPLY=($(compgen -W "--verify --time --vs -n -o" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -- "$word")) ;;
        esac
        ;;
    trace)
        case $word in
        -*) COMPREPLY=($(compgen -W "-o" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -- "$word")) ;;
        esac
        ;;
    help) COMPREPLY=($(compgen -W "run stat map top trim record replay trace help options status" -- "$word")) ;;
    esac
}

complete -F _ebb ebb
