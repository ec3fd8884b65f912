return s + (i & 3 | j ~ 1)
