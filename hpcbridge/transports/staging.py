"""The script that makes a session directory on another host, where no program of ours is."""

# $1: the directory. Standard input: a tar archive of its files.
#
# As open_to_others() of hpcbridge.files.helper does, it walks to the directory, also along
# symbolic links, and refuses where others could put theirs in its place: `ls -ldn` (ls(1p)) tells
# mode and owner. $a is where it is, $n the next name, $l what is left, $k the links that are left.
#
# It becomes one line: the login shell reads it first, and csh takes neither a newline nor an
# exclamation mark between quotes.
_LINES = """
set -f; umask 077; d=$1; mkdir -p -- "${d%/*}" || exit 1; u=$(id -u); a=; l=$d/; k=40;
see() { set -- $(ls -ldn -- "$1"); m=$1; o=$3; [ -n "$o" ] || exit 1; };
ours() { [ "$o" = 0 ] || [ "$o" = "$u" ]; };
no() { echo "others could replace what is in ${a:-/}" >&2; exit 1; };
while [ -n "$l" ]; do n=${l%%/*}; l=${l#*/};
case $n in "" | .) continue ;; ..) a=${a%/*}; continue ;; esac;
see "$a/"; ours || no; s=;
case $m in ?????w* | ????????w*) case $m in ?????????[tT]*) s=1 ;; *) no ;; esac ;; esac;
if [ -e "$a/$n" ] || [ -L "$a/$n" ]; then see "$a/$n"; [ -z "$s" ] || ours || no;
case $m in l*) k=$((k - 1)); [ "$k" -gt 0 ] || exit 1; t=$(readlink -- "$a/$n") || exit 1;
case $t in /*) a= ;; esac; l=$t/$l; continue ;; esac; fi;
a=$a/$n; done;
mkdir -- "$d" && exec tar -xf - -C "$d"
"""
STAGE_SCRIPT = " ".join(_LINES.split("\n")).strip()
