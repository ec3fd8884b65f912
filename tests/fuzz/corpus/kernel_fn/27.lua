return not (j <= i and i > 3) and s or -s
