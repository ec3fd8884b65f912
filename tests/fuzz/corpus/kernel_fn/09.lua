return s^2 + 2^s
