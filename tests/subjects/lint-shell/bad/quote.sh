echo "no end
