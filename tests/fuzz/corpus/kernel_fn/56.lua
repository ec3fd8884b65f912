T[1] = 2 return s
