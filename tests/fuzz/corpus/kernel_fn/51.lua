return s, s
