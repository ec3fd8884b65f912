return s + 0.5 * (j - i)
