return s + i / 2
