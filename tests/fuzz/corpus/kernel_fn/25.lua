return s == j and 1 or 0.5
