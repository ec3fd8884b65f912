return T[i]
