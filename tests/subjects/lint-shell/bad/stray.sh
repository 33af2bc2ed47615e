echo
fi
