zz = 1 return s
