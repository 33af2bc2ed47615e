#!/usr/bin/env bash
select word in one two; do
  echo "$word"
  break
done
kind=$(case "$1" in
  a) echo first ;;
  *) echo other ;;
esac)
function is_set() [[ -n ${1:-} ]]
is_set "$kind" && echo "${kind^^}"
