return s + (i << 2) + (j >> 1)
