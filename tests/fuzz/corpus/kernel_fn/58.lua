return math.exp(s, s)
