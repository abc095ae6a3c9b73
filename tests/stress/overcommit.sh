# Starts tests/stress/overcommit on the library: a script, since make can give only those an order
# (local.mk). The shell itself stays on its own malloc.
set -eu
: "${EBB_LIB:?}" "${EBB_BUILDDIR:?}"
exec env "LD_PRELOAD=$EBB_LIB${LD_PRELOAD:+:$LD_PRELOAD}" "$EBB_BUILDDIR/tests/stress/overcommit" "$@"
