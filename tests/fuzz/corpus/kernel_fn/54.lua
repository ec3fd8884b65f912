slope = 1 return s
