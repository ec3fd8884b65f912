return math.max(s, 0, i)
