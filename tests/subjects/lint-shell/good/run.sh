#!/usr/bin/env bash
set -euo pipefail
for file in *.txt; do
    [[ -f $file ]] && cat "$file" <<<"x"
done
case ${1:-} in
    a | b) echo "$(( 1 + 2 ))" ;;
    *) exit 1 ;;
esac
