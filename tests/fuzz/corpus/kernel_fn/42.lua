return s & 1
