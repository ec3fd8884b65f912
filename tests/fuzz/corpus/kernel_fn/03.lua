return s + (j - i)
