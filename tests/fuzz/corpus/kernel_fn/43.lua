return T + 1
