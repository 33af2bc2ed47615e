#!/bin/sh
for file in *.txt; do
    echo "$file"
fi
