return s + j // W
