return T[9] + 1
