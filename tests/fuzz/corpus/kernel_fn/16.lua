return s * T[1] + T[2]
